# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of what is to be given to others (private to the collection).

Rather too much than too little: what only looks like a secret goes, too. Certificates and public keys stay.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

with suppress(ImportError):  # without it there are no keys in the collection either
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

PRIVATE_KEY = "private key"
TOKEN = "token"  # noqa: S105 - what is counted
CREDENTIALS_IN_URL = "credentials in a URL"
NAMED = "value with the name of a secret"
SECRET_DATA = "data of a Secret"  # noqa: S105
ENCODED = "secret in base64"

_NESTED = 3
"""So many times base64 is looked into."""

_KEY_LABEL = r"(?:[A-Z0-9]+ )*PRIVATE KEY-----"
# What a cut left of a key counts, too: its end without the beginning, its beginning without the end.
_PEM = re.compile(
    rf"-----BEGIN {_KEY_LABEL}.*?(?:-----END {_KEY_LABEL}|\Z)"
    rf"|(?:^[ \t]*[A-Za-z0-9+/=]+[ \t]*\r?\n){{0,200}}^[ \t]*[A-Za-z0-9+/=]*-----END {_KEY_LABEL}",
    re.DOTALL | re.MULTILINE,
)
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")
_AUTHORIZATION = re.compile(
    r"""(authorization\\*["']?[ \t]*[:=][ \t]*\\*["']?(?:(?:bearer|basic|token)[ \t]+)?|\bbearer[ \t]+)"""
    r"""([^\s"'\\,;\[]{8,})""",
    re.IGNORECASE,
)
_USER_IN_URL = re.compile(r"""(://)[^\s/@"'\\]+@""")

# A field whose name ends like this has a secret for its value.
_SECRET_FIELD = (
    r"(?:token|password|passwd|passphrase|secret|credentials?|(?:private|api|access)[-_]?key|"  # noqa: S105
    r"client[-_]?key(?:[-_]data)?|token[-_]data)"
)
_FIELD = re.compile(rf"{_SECRET_FIELD}$", re.IGNORECASE)
# An environment variable or an entry of a ConfigMap, wherever the word is in its name.
_VARIABLE = re.compile(r"token|password|passwd|secret|key|credential", re.IGNORECASE)
_VARIABLE_WORD = r"(?:TOKEN|PASSWORD|PASSWD|SECRET|KEY|CREDENTIAL)[A-Z0-9_]{0,80}"

_VALUE = r"""(?:(\\+")(?:(?!\\+").)*|(")(?:[^"\\\n]|\\.)*|(')[^'\n]*|[^\s"'\\]+)"""
_NAMED = (
    # YAML's block of lines, first as it is the longest
    re.compile(
        rf"(?im)^(([ \t]*)[\w.-]{{0,80}}{_SECRET_FIELD}:[ \t]*[|>][-+0-9]*)[ \t]*\n(?:\2[ \t]+.*(?:\n|\Z))+"
    ),
    # a line of YAML, whose value goes to its end
    re.compile(rf"(?im)^([ \t-]*[\w.-]{{0,80}}{_SECRET_FIELD}:[ \t]+)[^\s\"'][^\n]*"),
    re.compile(rf"(?i)({_SECRET_FIELD}\\*[\"']?[ \t]*[:=][ \t]*){_VALUE}"),
    re.compile(rf"({_VARIABLE_WORD}\\*[\"']?[ \t]*[:=][ \t]*){_VALUE}"),
    re.compile(
        rf"(\bname:[ \t]*[\"']?[A-Z0-9_]{{0,80}}{_VARIABLE_WORD}[\"']?[ \t]*\n[ \t]*value:[ \t]*){_VALUE}"
    ),
)
_HARMLESS = re.compile(
    r"""\\*["']?(?:true|false|null|none|~||[|>][-+]?|\{\{.*|\$[({][\w.]+[)}]?|\[REDACTED.*)""", re.IGNORECASE
)
# istiod names the Secret that it read: secret=NAMESPACE/NAME.
_SECRET_NAMED = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+$")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")

_ENVOY_SOURCES = ("private_key", "password", "session_ticket_keys", "generic_secret", "pkcs12")


def mark(kind: str) -> str:
    """What stands in place of a secret."""
    return f"[REDACTED {kind}]"


class Redactor:
    """Redacts; ``found`` counts what it took out, by kind. One for each file."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def text(self, text: str, nested: int = _NESTED) -> str:
        """A text of any form without its secrets."""
        if "PRIVATE KEY-----" in text:
            text = self._replace(_PEM, PRIVATE_KEY, text)
        text = self._replace(_JWT, TOKEN, text)
        text = self._replace(_AUTHORIZATION, TOKEN, text, lambda match: match[1])
        text = self._replace(_USER_IN_URL, CREDENTIALS_IN_URL, text, lambda match: match[1], "@")
        for pattern in _NAMED:
            text = pattern.sub(self._named, text)
        if nested:
            text = _BASE64.sub(lambda match: self._encoded(match[0], nested), text)
        return text

    def value(self, value: Any) -> Any:
        """An object of JSON without its secrets, all the texts in it redacted."""
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, str):
            return self._string(value)
        return value

    def _mapping(self, mapping: dict[str, Any]) -> dict[str, Any]:
        is_variable = _VARIABLE.search(str(mapping.get("name", "")))
        redacted = {}
        for key, value in mapping.items():
            if key in ("data", "stringData") and mapping.get("kind") == "Secret":
                redacted[key] = self._leaves(value, SECRET_DATA)
            elif key in ("data", "binaryData") and mapping.get("kind") == "ConfigMap":
                redacted[key] = self._entries(value)
            elif key in _ENVOY_SOURCES and not isinstance(value, str):
                redacted[key] = self._source(value)
            elif isinstance(value, str) and (_FIELD.search(key) or (key == "value" and is_variable)):
                redacted[key] = self._leaves(value, NAMED)
            else:
                redacted[self.text(key)] = self.value(value)
        return redacted

    def _entries(self, entries: dict[str, Any] | None) -> dict[str, Any]:
        return {
            key: self._leaves(value, NAMED) if _VARIABLE.search(key) else self.value(value)
            for key, value in (entries or {}).items()
        }

    def _source(self, value: Any) -> Any:
        """Where Envoy has a secret from: the name of a file may stay, what is given in place may not."""
        if isinstance(value, dict):
            return {key: item if key == "filename" else self._source(item) for key, item in value.items()}
        return self._leaves(value, PRIVATE_KEY)

    def _leaves(self, value: Any, kind: str) -> Any:
        if isinstance(value, dict):
            return {key: self._leaves(item, kind) for key, item in value.items()}
        if isinstance(value, list):
            return [self._leaves(item, kind) for item in value]
        if isinstance(value, str) and not _HARMLESS.fullmatch(value):
            self.found[kind] += 1
            return mark(kind)
        return value

    def _string(self, text: str) -> str:
        """A text that may be JSON, as kubectl keeps in annotations."""
        if text.lstrip()[:1] in ("{", "["):
            with suppress(ValueError):
                before = json.loads(text)
                after = self.value(before)
                return text if after == before else json.dumps(after)
        return self.text(text)

    def _replace(
        self,
        pattern: re.Pattern[str],
        kind: str,
        text: str,
        kept: Callable[[re.Match[str]], str] = lambda _match: "",
        end: str = "",
    ) -> str:
        def replaced(match: re.Match[str]) -> str:
            self.found[kind] += 1
            return kept(match) + mark(kind) + end

        return pattern.sub(replaced, text)

    def _named(self, match: re.Match[str]) -> str:
        before = match[1]
        value = match[0][len(before) :]
        if _HARMLESS.fullmatch(value):
            return match[0]
        if before.lower().endswith("secret=") and _SECRET_NAMED.match(value):
            return match[0]
        self.found[NAMED] += 1
        if "\n" in value:
            return f"{before}\n{match[2]}  {mark(NAMED)}\n"
        quote = re.match(r"""\\*["']""", value)
        return f"{before}{quote[0] if quote else ''}{mark(NAMED)}"

    def _encoded(self, text: str, nested: int) -> str:
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return text
        if _is_key(content):
            self.found[PRIVATE_KEY] += 1
            return mark(PRIVATE_KEY)
        try:
            decoded = content.decode()
        except UnicodeDecodeError:
            return text
        inner = Redactor()
        if inner.text(decoded, nested - 1) == decoded:
            return text
        self.found[ENCODED] += 1
        return mark(ENCODED)


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
