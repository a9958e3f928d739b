# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of what is to be given to others (private to the collection).

First by structure: what has the name of a secret, in a field of its own or beside its value, goes with all
that is below. Texts that are JSON or YAML are objects, too. Then by the forms that secrets have in free text.
What was found once is looked for everywhere. Rather too much than too little: what only looks like a secret
goes, too. Certificates, public keys and references to Secrets stay.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

from . import located_yaml
from .secret_names import Secrecy, is_count, looks_drawn, secrecy

with suppress(ImportError):  # without it there are no keys in the collection either
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

PRIVATE_KEY = "private key"
TOKEN = "token"  # noqa: S105 - what is counted
CREDENTIALS_IN_URL = "credentials in a URL"
NAMED = "value with the name of a secret"
SECRET_DATA = "data of a Secret"  # noqa: S105
ENCODED = "secret in base64"
URL_ENCODED = "secret encoded for a URL"
REPEATED = "secret found elsewhere"

_NESTED = 4
"""So many times a text in a text is looked into: JSON, YAML, base64, what is encoded for a URL."""
_DEEPEST = 80
_MAX_UNPACKED = 2**20
_MAX_KNOWN = 2000
_MAX_CLEAN = 200
_PLAIN = re.compile(r"[A-Za-z0-9_./-]{0,15}")
"""A text that is too short for any secret that has no name."""

# Structure

_NAMING = (
    "name",
    "key",
    "k",
    "id",
    "header",
    "headerName",
    "header_name",
    "headerKey",
    "field",
    "option",
    "param",
)
"""Fields that name what is beside them; :data:`_VALUE` are the fields that hold it then."""
_VALUE = re.compile(
    r"(?:^|[a-z_])(?:[vV]alues?|^v|^val|[mM]atch|exact|prefix|suffix|regex|contains|default|data|bytes|string)$"
)
_REFERENCE = {
    "name": r"[\w.:/ -]{1,253}",
    "namespace": r"[\w.-]{1,63}",
    "kind": r"[A-Za-z]{1,63}",
    "group": r"[a-z.\d-]{0,253}",
    "type": r"[A-Za-z./_-]{1,80}",
    "@type": r"[\w./]+",
    "apiVersion": r"[a-z\d./]{1,253}",
    "secretName": r"[\w.-]{1,253}",
    "credentialName": r"[\w./:-]{1,253}",
    "filename": r"[\w./ -]+",
    "path": r"[\w./ -]+",
    "mountPath": r"[\w./ -]+",
    "audience": r"[\w./:-]+",
    "ttl": r"[\d.a-z]{1,12}",
    "operator": r"[A-Za-z]{1,20}",
    "title": r"[\w ]{1,60}",
}
"""What stays below a secret's name, as it says where the secret is: a field, and the form it must have."""
_REFERENCE_NUMBERS = {"expirationSeconds", "defaultMode", "mode", "optional"}
_ORDINARY_BELOW = re.compile(r"(?:sds_?|path_)config(?:_source)?$", re.IGNORECASE)
_PRIVATE_OF_JWK = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_KEY_FILE = re.compile(
    r"\.(?:p12|pfx|jks|keystore|kdbx|ppk)$|^id_(?:rsa|dsa|ecdsa|ed25519)$|htpasswd$|\.pgpass$"
)
_HARMLESS = re.compile(
    r"""\\*["']?(?:true|false|yes|no|on|off|enabled|disabled|required|optional|null|nil|none|<nil>|<none>|~||"""
    r"""[|>][-+]?|\{\{[^{}]*(?:\}\})?|\$[({][\w.]+[)}]?|\$[A-Z_]+|%[A-Z_]+(?:\([^()]*\))?%|\*{3,}|"""
    r"""/(?:[\w.-]{1,64}/)+[\w-]{1,64}\.(?:pem|key|crt|json|ya?ml|conf|txt|p12|jks)|"""
    r"""<?redacted>?|\[REDACTED.*|bearer ?|basic ?|token ?|inline|host)""",
    re.IGNORECASE | re.DOTALL,
)
_PUBLIC = re.compile(r"\s*(?:-----BEGIN (CERTIFICATE|PUBLIC KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----\s*)+")
_LONGEST_COMMAND = 300
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
_HEADER = re.compile(r"[a-z]+(?:-[a-z]+)*|[A-Z][a-z]+(?:-[A-Z][a-z]+)*")
_USER_AND_PASSWORD = re.compile(r"([^\s:/\"']+):(?!//)([^\s\"']+)")

# Free text

# Colours of a terminal, the CR of line ends, and letters that take no place: they would split a name.
_INVISIBLE = re.compile(
    "\x1b\\[[0-9;:]*m|\r(?=\n)|[\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_KEY_LABEL = r"(?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
# What a cut left of a key counts, too: its end without the beginning, its beginning without the end.
_PEM = re.compile(
    rf"-----BEGIN {_KEY_LABEL}.*?(?:-----END {_KEY_LABEL}|\Z)"
    rf"|(?:^[ \t]*[A-Za-z0-9+/=]+[ \t]*\r?\n){{0,200}}^[ \t]*[A-Za-z0-9+/=]*-----END {_KEY_LABEL}",
    re.DOTALL | re.MULTILINE,
)
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}")
# Forms that issuers of tokens gave them, and hashes of passwords.
_ISSUED = re.compile(
    r"(?<![\w-])(?:gh[a-z]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|A[KS]IA[A-Z0-9]{16}|"
    r"[srp]k_(?:live|test)_\w{10,}|sk-[\w-]{20,}|AIza[\w-]{30,}|hv[sbr]\.[\w-]{20,}|npm_\w{30,}|dckr_pat_[\w-]{20,}|"
    r"SG\.[\w-]{16,}\.[\w-]{16,}|EXO[a-f0-9]{20,}|AGE-SECRET-KEY-1\w{20,})"
    r"|\$(?:apr1|1|2[abxy]|5|6|y|argon2\w{1,2}|pbkdf2[\w-]{0,10})\$[\w./$=,+]{20,}|\{S?SHA\d{0,3}\}[\w+/=]{16,}"
)
_SCHEME = re.compile(
    r"""\b(bearer|basic)((?:[ \t]|%20|\+)+)((?!(?:realm|error|scope)=)(?![\[<{(])[^\s"'\\,;&\])}>]{6,})""",
    re.IGNORECASE,
)
_USER_IN_URL = re.compile(r"""(://)[^\s/@"'\\<>]+@""")
_NAME = r"-{0,2}\w[\w.\-]*+"
_ASSIGNED = re.compile(
    rf"""(?P<line>(?m:^)[ \t]*(?:-[ ]+|export[ ]+)?["']?)?(?<![\w.\-])(?P<name>{_NAME})"""
    r"""(?:\\*["']?\]?[ \t]*(?::=|=>|[:=])[ \t]*)"""
)
_OPTION_GIVEN = re.compile(r"(?<![\w\-])(?P<name>--?[A-Za-z][\w.\-]*+)[ \t]+(?!-)")
_NAMED_PAIR = re.compile(
    rf"""(?i)\b(?:name|key|header)\\*["']?[:=][ \t]*\\*["']?(?P<name>{_NAME})\\*["']?[,;]?\s+"""
    r"""[{]?\\*["']?(?:raw_?)?(?:value|string|exact|prefix|regex)\w*\\*["']?[:=][ \t]*"""
)
_QUOTED = re.compile(
    r"""(?P<quote>\\*["'`])(?P<value>(?:(?!(?P=quote))[^\n\\]|\\(?!["'])[^\n]|(?!(?P=quote))\\.)*)"""
)
_UNQUOTED = re.compile(r"""[^\s"'\\]+(?:\\(?!["'\\nrt])[^\s"'\\]*)*""")
_PARAMETER = re.compile(r"""[^\s"'\\&]+""")
_TO_END_OF_LINE = re.compile(r"[^\n]+")
_BRACKET = re.compile(r"[\[\](){}]")
_LONGEST_BRACKETS = 20_000
_REFERENCE_IN_TEXT = re.compile(
    r"""[\[{\s]*(?:["']?(?:name|namespace|secretName|credentialName|path|filename|defaultMode|optional)["']?"""
    r"""\s*[:=]\s*["']?[\w./-]+["']?[\s,]*)+[\s\]}]*"""
)
_MARK = re.compile(r"\[REDACTED [a-zA-Z ]+\]")
_SENTENCE_GOES_ON = re.compile(r"""[ \t]+["'(A-Za-z]""")
_ERROR = re.compile(r"(?:un|in)[a-z]+|[A-Z][a-z]+|forbidden|missing|expired|denied|refused|timeout|EOF")
# The value of these goes on after a space.
_LONG_HEADER = re.compile(
    r"""(?i)(?P<before>\b(?:(?:proxy-)?authorization|(?:set-)?cookie)(?:\\*["'])?[ \t]*[:=][ \t]*)"""
    r"""(?P<value>(?:digest|aws4-hmac-sha256|oauth|hawk|signature|token|negotiate|apikey)[ \t]+[^\n]+"""
    r"""|[A-Za-z][\w-]*[ \t]+[^\s"'\\;]+|[^\s"'\\\[;]+(?:;[ ]?[^\s"'\\;]+)*)"""
)
_USER_OPTION = re.compile(
    r"""(?<![\w-])((?:-u|-U|--user|--proxy-user)[ =]*["']?[^\s:"'/]+:)(?!//)([^\s"']+)"""
)
# Programs that take a password by one letter.
_SHORT_OPTION = re.compile(
    r"""((?:\bredis-cli\b[^\n|;&]{0,200}?\s-a|\bsshpass\s+-p|\b(?:mysql|mariadb)\w*\b[^\n|;&]{0,200}?\s-p(?=\S)"""
    r"""|\s-u[ =]?[^\n|;&]{1,100}?\s-p\s)\s*["']?)([^\s"']+)"""
)
_USER_AT = re.compile(
    r"""(?<![\w/.:-])((?!mailto:|sips?:|acct:)[\w.-]{1,64}:)([^\s@:/"'\\]{3,})@(?!sha\d)(?=[\w(\[])"""
)
_QUOTED_PAIR = re.compile(
    rf"""(?P<quote>\\*["'])(?P<name>{_NAME})(?P=quote)"""
    r"""(?P<between>[ \t]*(?:,|\][ \t]*=|=>)\s*)(?P<other>\\*["'])"""
    r"""(?P<value>(?:(?!(?P=other))[^\n])*)"""
)
_ELEMENT = re.compile(r"<([\w:.-]{1,80})(?:[ ][^<>]{0,200})?>([^<>]+)(?=</)")
_PRINTED_VARIABLE = re.compile(r"(?<=[{\[(])([A-Z]\w*_\w+) ([^\s{}]+)")
_LOGIN = re.compile(r"(\blogin\s+\S{1,100}\s+password\s+)(\S+)")
_SENTENCE = re.compile(
    r"""(?i)(?<![\w.\-])((?=[\w.\-]*(?:pass|pwd|secret|token|key|cred|cookie|auth))\w[\w.\-]*+)"""
    r"""(["'`]?\s+(?:for\s+\S{1,60}\s+)?(?:(?:is|was|of|by|=|->)\s+)?)(["'`]?)([^\s"'`]{6,})"""
)
_IDENTIFIED = re.compile(r"(?i)(\bidentified\s+by\s+['\"])([^'\"\n]+)")
_SECRET_NAMED = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+$")
"""istiod names the Secret that it read: ``secret=NAMESPACE/NAME``."""
_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/_-]{40,}+(?:\r?\n[ \t]*|\\n))+[A-Za-z0-9+/_-]{2,}+={0,2}"
    r"|(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}+={0,2}"
)
_URL_ENCODED = re.compile(
    r"""(?<![^\s"'<>&])(?:[^\s"'<>&%]|%(?![0-9A-Fa-f]{2}))*+%[0-9A-Fa-f]{2}[^\s"'<>&]*+"""
)
_OBJECT = re.compile(r'[{\[](?=[ \t]*["{\[])')
_OBJECT_OF_LINES = re.compile(r'[{\[](?=[ \t]*\r?\n\s*["{\[])')
_MAX_FAILURES = 50
_SECRET_OBJECT = re.compile(r"""\bkind["']?[ \t]*:[ \t]*["']?Secret\b""")
_BLOCK = re.compile(r"""([ \t]*)(-[ ]+)?["']?([\w.\-]+)["']?[ \t]*[:=][ \t]*([\[{]|[|>][-+\d]*)?[ \t\r]*$""")
_BELOW = re.compile(
    r"""([ \t]*(?:-[ ]+)*)(?:(["']?)([\w.\-]+)\2[ \t]*[:=][ \t]*(?=\S|$))?(.*?)([,\]}\s]*)$""", re.DOTALL
)


def mark(kind: str) -> str:
    """What stands in place of a secret."""
    return f"[REDACTED {kind}]"


def printable(text: str) -> str:
    """A text of a cluster for a terminal: no control sequence in it, nor what hides or turns letters."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), _INVISIBLE.sub("", text))


class Redactor:
    """Redacts; ``found`` counts what it took out, by kind. One for each file.

    :param known: where secrets that are long enough are remembered, so that :meth:`repeated` finds them.
    """

    def __init__(self, known: set[str] | None = None) -> None:
        self.found: Counter[str] = Counter()
        self.known = set() if known is None else known
        self._clean: set[tuple[str, int]] = set()
        """Short texts in which there was nothing, as objects have the same ones many times."""

    def value(self, value: Any, nested: int = _NESTED, depth: int = 0, least: Secrecy = Secrecy.NO) -> Any:
        """An object of JSON without its secrets, all the texts in it redacted.

        :param least: what the name above tells of all that is below.
        """
        if depth > _DEEPEST:
            return "[left out: too deep]"
        if isinstance(value, dict):
            return self._mapping(value, nested, depth + 1, least)
        if isinstance(value, list):
            return self._list(value, nested, depth + 1, least)
        return self.text(value, nested) if isinstance(value, str) else value

    def text(self, text: str, nested: int = _NESTED) -> str:
        """A text of any form without its secrets."""
        if _PLAIN.fullmatch(text) or (text, nested) in self._clean:
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
            text = self._replace(_PEM, PRIVATE_KEY, text)
        text = self._blocks(text)
        text = self._replace(_JWT, TOKEN, text)
        text = self._replace(_ISSUED, TOKEN, text)
        text = _USER_IN_URL.sub(self._user_in_url, text)
        text = self._by_name(text)
        if nested:
            text = _URL_ENCODED.sub(lambda match: self._url_encoded(match[0], nested - 1), text)
            text = _BASE64.sub(lambda match: self._base64(match[0], nested - 1), text)
        return text

    def repeated(self, text: str) -> str:
        """A text without the secrets that are known from elsewhere."""
        for secret in sorted(self.known, key=len, reverse=True):
            for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
                if form in text:
                    self.found[REPEATED] += text.count(form)
                    text = text.replace(form, mark(REPEATED))
        return _BASE64.sub(self._repeated_in_base64, text) if self.known else text

    # By structure

    def _mapping(self, mapping: dict[str, Any], nested: int, depth: int, least: Secrecy) -> dict[str, Any]:
        named = max(
            (secrecy(mapping[key]) for key in _NAMING if isinstance(mapping.get(key), str)),
            default=Secrecy.NO,
        )
        redacted: dict[str, Any] = {}
        for key, value in mapping.items():
            level = max(_level(mapping, printable(key)), least)
            if named >= Secrecy.MAYBE and _VALUE.search(key):
                level = max(level, Secrecy.ALL if named >= Secrecy.TEXT else named)
            kind = SECRET_DATA if mapping.get("kind") == "Secret" and "ata" in key else _kind(key)
            if level is Secrecy.ALL:
                new = self._below(value, kind, key, nested, depth)
            elif level is Secrecy.NO:
                new = self.value(value, nested, depth)
            else:
                new = self._texts(value, level, kind, key, nested, depth)
            redacted[self._key(key, redacted)] = new
        return redacted

    def _key(self, key: str, others: dict[str, Any]) -> str:
        """A key may be a secret itself; two that were must not become one."""
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
            elif isinstance(item, str) and (secret := _short_option(f"{words} {item}")):
                redacted.append(item.removesuffix(secret) + self._take(secret, NAMED))
            elif before in ("-u", "--user", "--proxy-user") and (
                pair := _USER_AND_PASSWORD.fullmatch(str(item))
            ):
                redacted.append(f"{pair[1]}:{self._take(pair[2], NAMED)}")
            else:
                redacted.append(self._texts(item, least, NAMED, "", nested, depth))
            before = item if isinstance(item, str) else ""
            words = f"{words} {before}"[-_LONGEST_COMMAND:]
        return redacted

    @staticmethod
    def _is_value_of(before: str, item: str, is_pair: bool) -> bool:
        """Whether an item is the value of the one before: of an option, or of a header's name."""
        level = secrecy(before)
        if level is Secrecy.MAYBE:
            return bool(_OPTION.fullmatch(before)) and looks_drawn(item)
        if level is Secrecy.NO or _HARMLESS.fullmatch(item):
            return False
        if _OPTION.fullmatch(before):
            return not item.startswith("--")
        return is_pair and bool(_HEADER.fullmatch(before)) and not _HEADER.fullmatch(item)

    def _texts(self, value: Any, level: Secrecy, kind: str, key: str, nested: int, depth: int) -> Any:
        """What may be a secret where it is a text or a list of such."""
        if level is Secrecy.NO:
            return self.value(value, nested, depth)
        if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            return [self._texts(item, level, kind, key, nested, depth) for item in value]
        if isinstance(value, str) and (level is Secrecy.TEXT or looks_drawn(value) or _is_login(value)):
            return self._leaf(value, kind, key)
        if level is Secrecy.TEXT and isinstance(value, int) and value > 999:  # no count, no mode
            return self._leaf(value, kind, key)
        return self.value(value, nested, depth, min(level, Secrecy.MAYBE))

    def _below(self, value: Any, kind: str, key: str, nested: int, depth: int) -> Any:
        """What is below a secret's name, of which only references stay."""
        if depth > _DEEPEST:
            return mark(kind)
        if isinstance(value, dict):
            redacted: dict[str, Any] = {}
            for inner, item in value.items():
                new_key = mark(kind) if looks_drawn(inner) else self._key(inner, redacted)
                while new_key in redacted:
                    new_key += "'"
                if _is_reference(value, inner, item):
                    redacted[new_key] = item
                elif _ORDINARY_BELOW.search(inner):
                    redacted[new_key] = self.value(item, nested, depth + 1)
                else:
                    inner_kind = _kind(inner) if secrecy(inner) is Secrecy.ALL else kind
                    redacted[new_key] = self._below(item, inner_kind, key, nested, depth + 1)
            return redacted
        if isinstance(value, list):
            return [self._below(item, kind, key, nested, depth + 1) for item in value]
        return self._leaf(value, kind, key)

    def _leaf(self, value: Any, kind: str, key: str) -> Any:
        if value is None or isinstance(value, bool) or is_count(key, str(value)):
            return value
        if isinstance(value, str) and (_HARMLESS.fullmatch(value) or _is_public(value)):
            return value
        return self._take(str(value), kind)

    def _take(self, value: str, kind: str) -> str:
        self.found[kind] += 1
        for secret in (value, *re.split(r"[\s,;=:]+", value)[:50]):
            # Its name has told that it is one; a word is not to be blacked out in every log.
            if (
                looks_drawn(secret, one_in=7)
                and len(self.known) < _MAX_KNOWN
                and not secret.startswith("[REDACTED")
            ):
                self.known.add(secret)
        return mark(kind)

    # Texts that are objects

    def _json(self, text: str, nested: int) -> str | None:
        """A text that is JSON, as kubectl keeps in annotations."""
        if text.lstrip()[:1] not in ("{", "["):
            return None
        try:
            before = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            return None
        after = self.value(before, nested)
        return text if after == before else json.dumps(after)

    def _yaml(self, text: str, nested: int) -> str:
        before = located_yaml.read(text)
        return text if before is None else located_yaml.replaced(text, before, self.value(before, nested))

    def _objects(self, text: str, nested: int) -> str:
        """JSON within a text: over several lines, and in each line of a log."""
        text = self._decode(_OBJECT_OF_LINES, text, nested)
        if not _OBJECT.search(text):
            return text
        return "\n".join(self._decode(_OBJECT, line, nested) for line in text.split("\n"))

    def _decode(self, begins: re.Pattern[str], text: str, nested: int) -> str:
        pieces, done, failures = [], 0, 0
        for match in begins.finditer(text):
            begin = match.start()
            if begin < done:
                continue
            try:
                before, end = _DECODER.raw_decode(text, begin)
            except (ValueError, RecursionError):
                failures += 1  # each may have read up to the end
                if failures > _MAX_FAILURES:
                    break
                continue
            after = self.value(before, nested)
            pieces += [text[done:begin], text[begin:end] if after == before else json.dumps(after)]
            done = end
        return "".join(pieces) + text[done:]

    def _blocks(self, text: str) -> str:
        """Lines that are indented below a secret's name, in what is no whole YAML or JSON."""
        if "\n" not in text:
            return text
        lines = text.split("\n")
        inside: int | None = None
        is_secret = _SECRET_OBJECT.search(text)  # in which ``data`` and ``stringData`` are secrets
        for number, line in enumerate(lines):
            space = len(line) - len(line.lstrip(" \t"))
            if inside is not None:
                if not line.strip():
                    continue
                if space > inside or (space == inside and line.lstrip().startswith("- ")):
                    lines[number] = self._line_below(line)
                    continue
                inside = None
            found = line.rstrip().endswith((":", "[", "{", "|", ">", "-", "+")) and _BLOCK.match(line)
            if found and (secrecy(found[3]) is Secrecy.ALL or (is_secret and found[3].endswith("ata"))):
                inside = space + len(found[2] or "")
        return "\n".join(lines)

    def _line_below(self, line: str) -> str:
        match = _BELOW.match(line)
        if not match:
            return line
        _space, _quote, name, value, end = match.groups()
        bare = value.strip("\"'")
        if not bare or bare in "[{|>" or _HARMLESS.fullmatch(bare) or bare.startswith(("-----", "[REDACTED")):
            return line
        if name and name in _REFERENCE and re.fullmatch(_REFERENCE[name], bare):
            return line
        return line[: match.start(4)] + self._take(bare, NAMED) + end

    # By the forms of free text

    def _by_name(self, text: str) -> str:
        text = _LONG_HEADER.sub(self._long_header, text)
        text = _SCHEME.sub(self._scheme, text)
        text = _USER_OPTION.sub(self._user_option, text)
        text = _SHORT_OPTION.sub(self._user_option, text)
        text = _USER_AT.sub(lambda match: f"{match[1]}{self._take(match[2], CREDENTIALS_IN_URL)}@", text)
        text = self._assigned(_NAMED_PAIR, text)
        text = _QUOTED_PAIR.sub(self._quoted_pair, text)
        text = self._assigned(_ASSIGNED, text)
        text = self._assigned(_OPTION_GIVEN, text)
        text = _ELEMENT.sub(self._element, text)
        text = _PRINTED_VARIABLE.sub(self._printed, text)
        text = _LOGIN.sub(lambda match: match[1] + self._take(match[2], NAMED), text)
        text = _IDENTIFIED.sub(lambda match: match[1] + self._take(match[2], NAMED), text)
        return _SENTENCE.sub(self._sentence, text)

    def _assigned(self, pattern: re.Pattern[str], text: str) -> str:
        """Take out values that follow their names, each as long as its quotes, brackets or line."""
        pieces, done, at = [], 0, 0
        while match := pattern.search(text, at):
            at = match.end()
            level = secrecy(match["name"].lstrip("-"))
            if level is Secrecy.NO or at >= len(text):
                continue
            starts_line = pattern is _ASSIGNED and match["line"] is not None
            if match.start("name") and text[match.start("name") - 1] in "?&":
                bare = _PARAMETER.match(text, at)
                begin, end = bare.span() if bare else (at, at)
            else:
                begin, end = _value_at(text, at, starts_line)
            value = text[begin:end]
            if not value or not self._is_secret(match["name"], level, text, begin, end, starts_line):
                continue
            pieces += [text[done:begin], self._take(value, NAMED)]
            done = at = end
        return "".join(pieces) + text[done:]

    @staticmethod
    def _is_secret(name: str, level: Secrecy, text: str, begin: int, end: int, starts_line: bool) -> bool:
        value = text[begin:end]
        if _HARMLESS.fullmatch(value.strip()) or is_count(name, value) or _is_public(value):
            return False
        if level is Secrecy.MAYBE:
            return looks_drawn(value) or _is_login(value)
        if value[0] in "[{(":
            left = _MARK.sub("", value)
            known = not re.search(r"\w", left) or _REFERENCE_IN_TEXT.fullmatch(value)
            return not known and (level is Secrecy.ALL or value[0] == "[")
        if name.lower().endswith("secret") and _SECRET_NAMED.match(value):
            return False
        # "cannot get token: connection refused" tells of no token.
        is_word = not starts_line and value.isalpha() and text[begin - 1] == " " and text[begin - 2] == ":"
        return not (is_word and (_SENTENCE_GOES_ON.match(text, end) or _ERROR.fullmatch(value)))

    def _long_header(self, match: re.Match[str]) -> str:
        value = match["value"]
        if _HARMLESS.fullmatch(value) or (match["before"].endswith(("=",)) and _HEADER.fullmatch(value)):
            return match[0]
        return match["before"] + self._take(value, TOKEN)

    def _scheme(self, match: re.Match[str]) -> str:
        """What follows Basic or Bearer, where it is no word of a sentence."""
        value = match[3]
        if re.fullmatch(r"[A-Za-z]?[a-z]+[.:]?|[A-Za-z]+(?:-[a-z]+)+", value) or _HARMLESS.fullmatch(value):
            return match[0]
        return match[1] + match[2] + self._take(value, TOKEN)

    def _user_option(self, match: re.Match[str]) -> str:
        return (
            match[0]
            if _is_port(match[2]) or match[2].startswith("[REDACTED")
            else match[1] + self._take(match[2], NAMED)
        )

    def _quoted_pair(self, match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        level = secrecy(name)
        if level is Secrecy.NO or _HARMLESS.fullmatch(value):
            return match[0]
        if level is Secrecy.MAYBE and not looks_drawn(value):
            return match[0]
        if (
            "," in match["between"]
            and match.string[match.start() - 1 : match.start()] != "("  # what a script calls with both
            and not name.startswith("-")
            and _HEADER.fullmatch(value)
            and not looks_drawn(value)
        ):
            return match[0]  # a list of names
        return match[0][: match.start("value") - match.start()] + self._take(value, NAMED)

    def _element(self, match: re.Match[str]) -> str:
        if secrecy(match[1]) < Secrecy.TEXT or _HARMLESS.fullmatch(match[2].strip()):
            return match[0]
        return match[0][: match.start(2) - match.start()] + self._take(match[2], NAMED)

    def _printed(self, match: re.Match[str]) -> str:
        if secrecy(match[1]) < Secrecy.TEXT or _HARMLESS.fullmatch(match[2]):
            return match[0]
        return f"{match[1]} {self._take(match[2], NAMED)}"

    def _sentence(self, match: re.Match[str]) -> str:
        name, value = match[1].lower(), match[4].rstrip(".,;:)]}")
        if secrecy(name) is Secrecy.NO:
            return match[0]
        told = match[3] and name.startswith("pass") and not _HARMLESS.fullmatch(value)
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
        content = _decoded(text)
        if content is None:
            return text
        if _is_key(content):
            self.found[PRIVATE_KEY] += 1
            return mark(PRIVATE_KEY)
        decoded = _as_text(content)
        if decoded is None:
            hides = self._has_secrets_in_bytes(content, nested)
        else:
            hides = self._has_secrets(decoded, nested) or _is_login(text)
        if not hides:
            return text
        self.found[ENCODED] += 1
        return mark(ENCODED)

    def _has_secrets(self, text: str, nested: int) -> bool:
        inner = Redactor(self.known)
        inner.text(text, nested)
        return bool(inner.found)

    def _has_secrets_in_bytes(self, content: bytes, nested: int) -> bool:
        """The same of protobuf, where a value follows its name with a few bytes between."""
        texts = [text.decode() for text in re.findall(rb"[\x20-\x7e]{4,}", content)]
        return any(secrecy(text) >= Secrecy.TEXT and _HEADER.fullmatch(text) for text in texts[:-1]) or any(
            self._has_secrets(text, nested) for text in texts if len(text) >= 20
        )

    def _repeated_in_base64(self, match: re.Match[str]) -> str:
        content = _decoded(match[0])
        text = None if content is None else _as_text(content)
        if text is None or not any(secret in text for secret in self.known):
            return match[0]
        self.found[REPEATED] += 1
        return mark(REPEATED)


def _value_at(text: str, at: int, starts_line: bool) -> tuple[int, int]:
    """Where a value begins and ends, without the quotes around it."""
    if quoted := _QUOTED.match(text, at):
        return quoted.span("value")
    if text[at] in "[{(" and not text.startswith(("[REDACTED", "{{"), at):
        return at, _after_brackets(text, at)
    bare = (_TO_END_OF_LINE if starts_line else _UNQUOTED).match(text, at)
    if not bare:
        return at, at
    if starts_line:
        return at, at + len(bare[0].rstrip())
    return at, at + (len(bare[0].rstrip(",;)]}>")) or len(bare[0]))


def _after_brackets(text: str, at: int) -> int:
    """Where the brackets that open here are closed; the end of the line where they are not."""
    depth = 0
    for bracket in _BRACKET.finditer(text, at, at + _LONGEST_BRACKETS):
        depth += 1 if bracket[0] in "[{(" else -1
        if depth == 0:
            return bracket.end()
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _short_option(command: str) -> str | None:
    """The password at the end of a command, where one letter says that it is one."""
    match = _SHORT_OPTION.search(command)
    return match[2] if match and match.end() == len(command) and not _is_port(match[2]) else None


def _is_port(value: str) -> bool:
    return bool(re.fullmatch(r"[\d:/.]+(?:/tcp|/udp)?", value))


def _level(mapping: dict[str, Any], key: str) -> Secrecy:
    """How much of a field is a secret, by its name and by what kind of object it is in."""
    kind = mapping.get("kind")
    if (kind == "Secret" and key in ("data", "stringData")) or ("kty" in mapping and key in _PRIVATE_OF_JWK):
        return Secrecy.ALL
    return Secrecy.ALL if _KEY_FILE.search(key) else secrecy(key)


def _kind(key: str) -> str:
    return PRIVATE_KEY if re.search(r"private[-_]?key", key, re.IGNORECASE) else NAMED


def _is_reference(mapping: dict[str, Any], key: str, value: Any) -> bool:
    """Whether a field below a secret's name says where the secret is, or how it is to be had."""
    if not isinstance(value, str):
        return key in _REFERENCE_NUMBERS and isinstance(value, int)
    if looks_drawn(value):
        return False
    if key == "key":
        return "name" in mapping or "path" in mapping
    return key in _REFERENCE and bool(re.fullmatch(_REFERENCE[key], value))


def _is_public(text: str) -> bool:
    """Whether it is nothing but certificates or public keys, as PEM or that in base64."""
    if "-----" in text:
        return bool(_PUBLIC.fullmatch(text))
    content = _decoded(text) if text.startswith("LS0t") else None
    return content is not None and bool(_PUBLIC.fullmatch(content.decode(errors="replace")))


def _is_login(text: str) -> bool:
    """Whether it is ``user:password`` in base64, as in the header Authorization."""
    content = _decoded(text) if 8 <= len(text) <= 400 and re.fullmatch(r"[\w+/-]+={0,2}", text) else None
    return content is not None and bool(re.fullmatch(rb"[\w.@+-]{1,64}:[\x21-\x7e]{3,}", content))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping, which must not hide a value behind another of the same name."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError
    return mapping


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _decoded(text: str) -> bytes | None:
    """What is in base64 of either alphabet, also over lines."""
    bare = re.sub(r"\s|\\n", "", text).rstrip("=").replace("-", "+").replace("_", "/")
    with suppress(binascii.Error, ValueError):
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    return None


def _as_text(content: bytes) -> str | None:
    """The text of decoded bytes, also of packed ones, up to a size."""
    if content[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            content = zlib.decompressobj(31).decompress(content, _MAX_UNPACKED)
    with suppress(UnicodeDecodeError):
        return content.decode()
    return None


def _is_key(content: bytes) -> bool:
    """Whether it is a private key as DER."""
    if content[:1] != b"\x30":
        return False
    try:
        load_der_private_key(content, password=None)
    except TypeError:  # encrypted
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True
