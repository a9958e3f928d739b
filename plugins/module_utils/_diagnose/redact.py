# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove secrets from data that is to be given to others (private to the collection).

First, the structure is searched. A value is removed with everything below it if it has the name of a secret,
either as its field's name or in a field beside it. Texts that are JSON or YAML are searched as objects, too.
Then, free text is searched for the forms that secrets have. A secret that was found once is searched for
everywhere. It is better to remove too much than too little, so texts that only look like a secret are
removed as well. Certificates, public keys and references to Secrets stay.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from . import located_yaml
from . import secret_forms as form
from .secret_names import Secrecy, is_count, looks_drawn, secrecy
from .secret_values import (
    CREDENTIALS_IN_URL,
    DECODER,
    ENCODED,
    NAMED,
    PRIVATE_KEY,
    REPEATED,
    SECRET_DATA,
    TOKEN,
    URL_ENCODED,
    as_text,
    decoded_base64,
    is_key,
    is_login,
    is_port,
    is_public,
    is_reference,
    kind_of_name,
    mark,
    secrecy_of,
    short_option,
    unique,
    value_at,
)

_NESTED = 4
"""The number of levels on which a text within a text is searched: JSON, YAML, base64, or URL encoding."""
_DEEPEST = 80
_MAX_KNOWN = 2000
_MAX_CLEAN = 200


def printable(text: str) -> str:
    """Return a text of a cluster for a terminal, without control sequences.

    Characters that hide letters or change their direction are removed, too.
    """
    return form.CONTROL.sub(
        lambda match: match[0].encode("unicode_escape").decode(), form.INVISIBLE.sub("", text)
    )


class Redactor:
    """The redactor of one file. Its ``found`` counts what it removed, by kind.

    :param known: a set that remembers secrets that look random, so that :meth:`repeated` finds them.
    """

    def __init__(self, known: set[str] | None = None) -> None:
        self.found: Counter[str] = Counter()
        self.known = set() if known is None else known
        self._clean: set[tuple[str, int]] = set()
        """Short texts without secrets. They are remembered, as objects repeat the same texts many times."""

    def value(self, value: Any, nested: int = _NESTED, depth: int = 0, least: Secrecy = Secrecy.NO) -> Any:
        """Return a JSON object without its secrets, with all its texts redacted.

        :param least: how much of everything below is at least a secret, by the name above it.
        """
        if depth > _DEEPEST:
            return "[left out: too deep]"
        if isinstance(value, dict):
            return self._mapping(value, nested, depth + 1, least)
        if isinstance(value, list):
            return self._list(value, nested, depth + 1, least)
        return self.text(value, nested) if isinstance(value, str) else value

    def text(self, text: str, nested: int = _NESTED) -> str:
        """Return a text of any form without its secrets."""
        if form.PLAIN.fullmatch(text) or (text, nested) in self._clean:
            return text
        new = self._text(text, nested)
        if new == text and len(text) < _MAX_CLEAN and len(self._clean) < _MAX_KNOWN:
            self._clean.add((text, nested))
        return new

    def _text(self, text: str, nested: int) -> str:
        text = printable(text)
        if nested:
            whole = self._json(text, nested - 1)
            if whole is not None:
                return whole
            text = self._yaml(text, nested - 1)
            text = self._objects(text, nested - 1)
        if "PRIVATE KEY" in text:
            text = self._replace(form.PEM, PRIVATE_KEY, text)
        text = self._blocks(text)
        text = self._replace(form.JWT, TOKEN, text)
        text = self._replace(form.ISSUED, TOKEN, text)
        text = form.USER_IN_URL.sub(self._user_in_url, text)
        text = self._by_name(text)
        if nested:
            text = form.URL_ENCODED.sub(lambda match: self._url_encoded(match[0], nested - 1), text)
            text = form.BASE64.sub(lambda match: self._base64(match[0], nested - 1), text)
        return text

    def repeated(self, text: str) -> str:
        """Return a text without the secrets that were found elsewhere."""
        for secret in sorted(self.known, key=len, reverse=True):
            for written in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
                if written in text:
                    self.found[REPEATED] += text.count(written)
                    text = text.replace(written, mark(REPEATED))
        return form.BASE64.sub(self._repeated_in_base64, text) if self.known else text

    # By structure

    def _mapping(self, mapping: dict[str, Any], nested: int, depth: int, least: Secrecy) -> dict[str, Any]:
        named = max(
            (secrecy(mapping[key]) for key in form.NAMING if isinstance(mapping.get(key), str)),
            default=Secrecy.NO,
        )
        redacted: dict[str, Any] = {}
        for key, value in mapping.items():
            level = max(secrecy_of(mapping, printable(key)), least)
            if named >= Secrecy.MAYBE and form.VALUE.search(key):
                level = max(level, Secrecy.ALL if named >= Secrecy.TEXT else named)
            kind = SECRET_DATA if mapping.get("kind") == "Secret" and "ata" in key else kind_of_name(key)
            if level is Secrecy.ALL:
                new = self._below(value, kind, key, nested, depth)
            elif level is Secrecy.NO:
                new = self.value(value, nested, depth)
            else:
                new = self._texts(value, level, kind, key, nested, depth)
            redacted[self._key(key, redacted)] = new
        return redacted

    def _key(self, key: str, others: dict[str, Any]) -> str:
        """Return a key of a mapping, redacted, as it may be a secret itself. Redacted keys stay different."""
        new = self.text(key, 0)
        while new != key and new in others:
            new += "'"
        return new

    def _list(self, items: list[Any], nested: int, depth: int, least: Secrecy) -> list[Any]:
        redacted = []
        before = words = ""
        is_pair = len(items) == 2
        for item in items:
            if isinstance(item, str) and before and self._is_value_of(before, item, is_pair):
                redacted.append(self._take(item, NAMED))
            elif isinstance(item, str) and (secret := short_option(f"{words} {item}")):
                redacted.append(item.removesuffix(secret) + self._take(secret, NAMED))
            elif before in ("-u", "--user", "--proxy-user") and (
                pair := form.USER_AND_PASSWORD.fullmatch(str(item))
            ):
                redacted.append(f"{pair[1]}:{self._take(pair[2], NAMED)}")
            else:
                redacted.append(self._texts(item, least, NAMED, "", nested, depth))
            before = item if isinstance(item, str) else ""
            words = f"{words} {before}"[-form.LONGEST_COMMAND :]
        return redacted

    @staticmethod
    def _is_value_of(before: str, item: str, is_pair: bool) -> bool:
        """Return whether an item is the value of the option or header that the item before it names."""
        level = secrecy(before)
        if level is Secrecy.MAYBE:
            return bool(form.OPTION.fullmatch(before)) and looks_drawn(item)
        if level is Secrecy.NO or form.HARMLESS.fullmatch(item):
            return False
        if form.OPTION.fullmatch(before):
            return not item.startswith("--")
        return is_pair and bool(form.HEADER.fullmatch(before)) and not form.HEADER.fullmatch(item)

    def _texts(self, value: Any, level: Secrecy, kind: str, key: str, nested: int, depth: int) -> Any:
        """Redact a value that may be a secret if it is a text or a list of texts."""
        if level is Secrecy.NO:
            return self.value(value, nested, depth)
        if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            return [self._texts(item, level, kind, key, nested, depth) for item in value]
        if isinstance(value, str) and (level is Secrecy.TEXT or looks_drawn(value) or is_login(value)):
            return self._leaf(value, kind, key)
        if level is Secrecy.TEXT and isinstance(value, int) and value > 999:  # no count and no mode
            return self._leaf(value, kind, key)
        return self.value(value, nested, depth, min(level, Secrecy.MAYBE))

    def _below(self, value: Any, kind: str, key: str, nested: int, depth: int) -> Any:
        """Redact everything below a secret's name. Only references stay."""
        if depth > _DEEPEST:
            return mark(kind)
        if isinstance(value, dict):
            redacted: dict[str, Any] = {}
            for inner, item in value.items():
                new_key = mark(kind) if looks_drawn(inner) else self._key(inner, redacted)
                while new_key in redacted:
                    new_key += "'"
                if is_reference(value, inner, item):
                    redacted[new_key] = item
                elif form.ORDINARY_BELOW.search(inner):
                    redacted[new_key] = self.value(item, nested, depth + 1)
                else:
                    inner_kind = kind_of_name(inner) if secrecy(inner) is Secrecy.ALL else kind
                    redacted[new_key] = self._below(item, inner_kind, key, nested, depth + 1)
            return redacted
        if isinstance(value, list):
            return [self._below(item, kind, key, nested, depth + 1) for item in value]
        return self._leaf(value, kind, key)

    def _leaf(self, value: Any, kind: str, key: str) -> Any:
        if value is None or isinstance(value, bool) or is_count(key, str(value)):
            return value
        if isinstance(value, str) and (form.HARMLESS.fullmatch(value) or is_public(value)):
            return value
        return self._take(str(value), kind)

    def _take(self, value: str, kind: str) -> str:
        self.found[kind] += 1
        for secret in (value, *re.split(r"[\s,;=:]+", value)[:50]):
            # The name has shown that this is a secret. But a plain word must not be removed from every log.
            if (
                looks_drawn(secret, one_in=7)
                and len(self.known) < _MAX_KNOWN
                and not secret.startswith("[REDACTED")
            ):
                self.known.add(secret)
        return mark(kind)

    # Texts that are objects

    def _json(self, text: str, nested: int) -> str | None:
        """Redact a text that is JSON, as kubectl keeps in annotations; return None if it is not JSON."""
        if text.lstrip()[:1] not in ("{", "["):
            return None
        try:
            before = json.loads(text, object_pairs_hook=unique)
        except (ValueError, RecursionError):
            return None
        after = self.value(before, nested)
        return text if after == before else json.dumps(after)

    def _yaml(self, text: str, nested: int) -> str:
        before = located_yaml.read(text)
        return text if before is None else located_yaml.replaced(text, before, self.value(before, nested))

    def _objects(self, text: str, nested: int) -> str:
        """Redact JSON within a text: over several lines, and in each line of a log."""
        text = self._decode(form.OBJECT_OF_LINES, text, nested)
        if not form.OBJECT.search(text):
            return text
        return "\n".join(self._decode(form.OBJECT, line, nested) for line in text.split("\n"))

    def _decode(self, begins: re.Pattern[str], text: str, nested: int) -> str:
        pieces, done, failures = [], 0, 0
        for match in begins.finditer(text):
            begin = match.start()
            if begin < done:
                continue
            try:
                before, end = DECODER.raw_decode(text, begin)
            except (ValueError, RecursionError):
                failures += 1  # each attempt may read to the end of the text
                if failures > form.MAX_FAILURES:
                    break
                continue
            after = self.value(before, nested)
            pieces += [text[done:begin], text[begin:end] if after == before else json.dumps(after)]
            done = end
        return "".join(pieces) + text[done:]

    def _blocks(self, text: str) -> str:
        """Redact lines that are indented below a secret's name, in a text that is not all YAML or JSON."""
        if "\n" not in text:
            return text
        lines = text.split("\n")
        inside: int | None = None
        is_secret = form.SECRET_OBJECT.search(text)  # in which ``data`` and ``stringData`` are secrets
        for number, line in enumerate(lines):
            space = len(line) - len(line.lstrip(" \t"))
            if inside is not None:
                if not line.strip():
                    continue
                if space > inside or (space == inside and line.lstrip().startswith("- ")):
                    lines[number] = self._line_below(line)
                    continue
                inside = None
            found = line.rstrip().endswith((":", "[", "{", "|", ">", "-", "+")) and form.BLOCK.match(line)
            if found and (secrecy(found[3]) is Secrecy.ALL or (is_secret and found[3].endswith("ata"))):
                inside = space + len(found[2] or "")
        return "\n".join(lines)

    def _line_below(self, line: str) -> str:
        match = form.BELOW.match(line)
        if not match:
            return line
        _space, _quote, name, value, end = match.groups()
        bare = value.strip("\"'")
        if (
            not bare
            or bare in "[{|>"
            or form.HARMLESS.fullmatch(bare)
            or bare.startswith(("-----", "[REDACTED"))
        ):
            return line
        if name and name in form.REFERENCE and re.fullmatch(form.REFERENCE[name], bare):
            return line
        return line[: match.start(4)] + self._take(bare, NAMED) + end

    # By the forms of free text

    def _by_name(self, text: str) -> str:
        text = form.LONG_HEADER.sub(self._long_header, text)
        text = form.SCHEME.sub(self._scheme, text)
        text = form.USER_OPTION.sub(self._user_option, text)
        text = form.SHORT_OPTION.sub(self._user_option, text)
        text = form.USER_AT.sub(lambda match: f"{match[1]}{self._take(match[2], CREDENTIALS_IN_URL)}@", text)
        text = self._assigned(form.NAMED_PAIR, text)
        text = form.QUOTED_PAIR.sub(self._quoted_pair, text)
        text = self._assigned(form.ASSIGNED, text)
        text = self._assigned(form.OPTION_GIVEN, text)
        text = form.ELEMENT.sub(self._element, text)
        text = form.PRINTED_VARIABLE.sub(self._printed, text)
        text = form.LOGIN.sub(lambda match: match[1] + self._take(match[2], NAMED), text)
        text = form.IDENTIFIED.sub(lambda match: match[1] + self._take(match[2], NAMED), text)
        return form.SENTENCE.sub(self._sentence, text)

    def _assigned(self, pattern: re.Pattern[str], text: str) -> str:
        """Redact values that follow their names. A value ends with its quotes, its brackets or its line."""
        pieces, done, at = [], 0, 0
        while match := pattern.search(text, at):
            at = match.end()
            level = secrecy(match["name"].lstrip("-"))
            if level is Secrecy.NO or at >= len(text):
                continue
            starts_line = pattern is form.ASSIGNED and match["line"] is not None
            if match.start("name") and text[match.start("name") - 1] in "?&":
                bare = form.PARAMETER.match(text, at)
                begin, end = bare.span() if bare else (at, at)
            else:
                begin, end = value_at(text, at, starts_line)
            value = text[begin:end]
            if not value or not self._is_secret(match["name"], level, text, begin, end, starts_line):
                continue
            pieces += [text[done:begin], self._take(value, NAMED)]
            done = at = end
        return "".join(pieces) + text[done:]

    @staticmethod
    def _is_secret(name: str, level: Secrecy, text: str, begin: int, end: int, starts_line: bool) -> bool:
        value = text[begin:end]
        if form.HARMLESS.fullmatch(value.strip()) or is_count(name, value) or is_public(value):
            return False
        if level is Secrecy.MAYBE:
            return looks_drawn(value) or is_login(value)
        if value[0] in "[{(":
            left = form.MARK.sub("", value)
            known = not re.search(r"\w", left) or form.REFERENCE_IN_TEXT.fullmatch(value)
            return not known and (level is Secrecy.ALL or value[0] == "[")
        if name.lower().endswith("secret") and form.SECRET_NAMED.match(value):
            return False
        # "cannot get token: connection refused" contains no token.
        is_word = not starts_line and value.isalpha() and text[begin - 1] == " " and text[begin - 2] == ":"
        return not (is_word and (form.SENTENCE_GOES_ON.match(text, end) or form.ERROR.fullmatch(value)))

    def _long_header(self, match: re.Match[str]) -> str:
        value = match["value"]
        if form.HARMLESS.fullmatch(value) or (
            match["before"].endswith(("=",)) and form.HEADER.fullmatch(value)
        ):
            return match[0]
        return match["before"] + self._take(value, TOKEN)

    def _scheme(self, match: re.Match[str]) -> str:
        """Redact what follows Basic or Bearer, unless it is a word of a sentence."""
        value = match[3]
        if re.fullmatch(r"[A-Za-z]?[a-z]+[.:]?|[A-Za-z]+(?:-[a-z]+)+", value) or form.HARMLESS.fullmatch(
            value
        ):
            return match[0]
        return match[1] + match[2] + self._take(value, TOKEN)

    def _user_option(self, match: re.Match[str]) -> str:
        return (
            match[0]
            if is_port(match[2]) or match[2].startswith("[REDACTED")
            else match[1] + self._take(match[2], NAMED)
        )

    def _quoted_pair(self, match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        level = secrecy(name)
        if level is Secrecy.NO or form.HARMLESS.fullmatch(value):
            return match[0]
        if level is Secrecy.MAYBE and not looks_drawn(value):
            return match[0]
        if (
            "," in match["between"]
            and match.string[match.start() - 1 : match.start()] != "("  # not arguments of a call
            and not name.startswith("-")
            and form.HEADER.fullmatch(value)
            and not looks_drawn(value)
        ):
            return match[0]  # a list of names
        return match[0][: match.start("value") - match.start()] + self._take(value, NAMED)

    def _element(self, match: re.Match[str]) -> str:
        if secrecy(match[1]) < Secrecy.TEXT or form.HARMLESS.fullmatch(match[2].strip()):
            return match[0]
        return match[0][: match.start(2) - match.start()] + self._take(match[2], NAMED)

    def _printed(self, match: re.Match[str]) -> str:
        if secrecy(match[1]) < Secrecy.TEXT or form.HARMLESS.fullmatch(match[2]):
            return match[0]
        return f"{match[1]} {self._take(match[2], NAMED)}"

    def _sentence(self, match: re.Match[str]) -> str:
        name, value = match[1].lower(), match[4].rstrip(".,;:)]}")
        if secrecy(name) is Secrecy.NO:
            return match[0]
        told = match[3] and name.startswith("pass") and not form.HARMLESS.fullmatch(value)
        if not (told or looks_drawn(value)) or re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)+", value):
            return match[0]
        rest = match[4][len(value) :]
        return f"{match[1]}{match[2]}{match[3]}{self._take(value, NAMED)}{rest}"

    def _user_in_url(self, match: re.Match[str]) -> str:
        self._take(match[0][3:-1], CREDENTIALS_IN_URL)
        return f"{match[1]}{mark(CREDENTIALS_IN_URL)}@"

    def _replace(
        self,
        pattern: re.Pattern[str],
        kind: str,
        text: str,
        kept: Callable[[re.Match[str]], str] | None = None,
    ) -> str:
        def replaced(match: re.Match[str]) -> str:
            return (kept(match) if kept else "") + self._take(match[0], kind)

        return pattern.sub(replaced, text)

    # What is encoded

    def _url_encoded(self, text: str, nested: int) -> str:
        decoded = unquote(text, errors="replace")
        if decoded == text or "[REDACTED" in text or not self._has_secrets(decoded, nested):
            return text
        self.found[URL_ENCODED] += 1
        return mark(URL_ENCODED)

    def _base64(self, text: str, nested: int) -> str:
        content = decoded_base64(text)
        if content is None:
            return text
        if is_key(content):
            self.found[PRIVATE_KEY] += 1
            return mark(PRIVATE_KEY)
        decoded = as_text(content)
        if decoded is None:
            hides = self._has_secrets_in_bytes(content, nested)
        else:
            hides = self._has_secrets(decoded, nested) or is_login(text)
        if not hides:
            return text
        self.found[ENCODED] += 1
        return mark(ENCODED)

    def _has_secrets(self, text: str, nested: int) -> bool:
        inner = Redactor(self.known)
        inner.text(text, nested)
        return bool(inner.found)

    def _has_secrets_in_bytes(self, content: bytes, nested: int) -> bool:
        """Return whether protobuf has secrets. In it, a few bytes separate a name from its value."""
        texts = [text.decode() for text in re.findall(rb"[\x20-\x7e]{4,}", content)]
        return any(
            secrecy(text) >= Secrecy.TEXT and form.HEADER.fullmatch(text) for text in texts[:-1]
        ) or any(self._has_secrets(text, nested) for text in texts if len(text) >= 20)

    def _repeated_in_base64(self, match: re.Match[str]) -> str:
        content = decoded_base64(match[0])
        text = None if content is None else as_text(content)
        if text is None or not any(secret in text for secret in self.known):
            return match[0]
        self.found[REPEATED] += 1
        return mark(REPEATED)
