# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what a value is: a key, a reference, or something public (private to the collection)."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from contextlib import suppress
from typing import Any

from . import secret_forms as form
from .secret_names import Secrecy, looks_drawn, secrecy

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

from contextlib import suppress


def value_at(text: str, at: int, starts_line: bool) -> tuple[int, int]:
    """Return where a value begins and ends, without the quotes around it."""
    if quoted := form.QUOTED.match(text, at):
        return quoted.span("value")
    if text[at] in "[{(" and not text.startswith(("[REDACTED", "{{"), at):
        return at, _after_brackets(text, at)
    bare = (form.TO_END_OF_LINE if starts_line else form.UNQUOTED).match(text, at)
    if not bare:
        return at, at
    if starts_line:
        return at, at + len(bare[0].rstrip())
    return at, at + (len(bare[0].rstrip(",;)]}>")) or len(bare[0]))


def _after_brackets(text: str, at: int) -> int:
    """Return where the bracket that opens here is closed; the end of the line if it is not closed."""
    depth = 0
    for bracket in form.BRACKET.finditer(text, at, at + form.LONGEST_BRACKETS):
        depth += 1 if bracket[0] in "[{(" else -1
        if depth == 0:
            return bracket.end()
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def short_option(command: str) -> str | None:
    """Return the password at the end of a command if it follows a one-letter option for one."""
    match = form.SHORT_OPTION.search(command)
    return match[2] if match and match.end() == len(command) and not is_port(match[2]) else None


def is_port(value: str) -> bool:
    return bool(re.fullmatch(r"[\d:/.]+(?:/tcp|/udp)?", value))


def secrecy_of(mapping: dict[str, Any], key: str) -> Secrecy:
    """Return how much of a field is a secret, by the field's name and by the object that contains it."""
    kind = mapping.get("kind")
    if (kind == "Secret" and key in ("data", "stringData")) or (
        "kty" in mapping and key in form.PRIVATE_OF_JWK
    ):
        return Secrecy.ALL
    return Secrecy.ALL if form.KEY_FILE.search(key) else secrecy(key)


def is_reference(mapping: dict[str, Any], key: str, value: Any) -> bool:
    """Return whether a field below a secret's name only says where the secret is, or how to get it."""
    if not isinstance(value, str):
        return key in form.REFERENCE_NUMBERS and isinstance(value, int)
    if looks_drawn(value):
        return False
    if key == "key":
        return "name" in mapping or "path" in mapping
    return key in form.REFERENCE and bool(re.fullmatch(form.REFERENCE[key], value))


def is_public(text: str) -> bool:
    """Return whether a text has only certificates or public keys, as PEM or as base64 of PEM."""
    if "-----" in text:
        return bool(form.PUBLIC.fullmatch(text))
    content = decoded_base64(text) if text.startswith("LS0t") else None
    return content is not None and bool(form.PUBLIC.fullmatch(content.decode(errors="replace")))


def is_login(text: str) -> bool:
    """Return whether a text is ``user:password`` in base64, as in the header Authorization."""
    content = (
        decoded_base64(text) if 8 <= len(text) <= 400 and re.fullmatch(r"[\w+/-]+={0,2}", text) else None
    )
    return content is not None and bool(re.fullmatch(rb"[\w.@+-]{1,64}:[\x21-\x7e]{3,}", content))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a mapping.

    :raises ValueError: a name occurs twice, so that one value would hide the other.
    """
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError
    return mapping


DECODER = json.JSONDecoder(object_pairs_hook=unique)


def decoded_base64(text: str) -> bytes | None:
    """Return the content of base64 in either alphabet, also over several lines; None if it is no base64."""
    bare = re.sub(r"\s|\\n", "", text).rstrip("=").replace("-", "+").replace("_", "/")
    with suppress(binascii.Error, ValueError):
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    return None


def as_text(content: bytes) -> str | None:
    """Return the text of decoded bytes; None if they are no text. Gzip is unpacked, up to a size limit."""
    if content[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            content = zlib.decompressobj(31).decompress(content, _MAX_UNPACKED)
    with suppress(UnicodeDecodeError):
        return content.decode()
    return None


def is_key(content: bytes) -> bool:
    """Return whether the bytes are a private key in DER form."""
    if content[:1] != b"\x30":
        return False
    try:
        load_der_private_key(content, password=None)
    except TypeError:  # encrypted
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


PRIVATE_KEY = "private key"

TOKEN = "token"  # noqa: S105 - what is counted

CREDENTIALS_IN_URL = "credentials in a URL"

NAMED = "value with the name of a secret"

SECRET_DATA = "data of a Secret"  # noqa: S105 - the same

ENCODED = "secret in base64"

URL_ENCODED = "secret encoded for a URL"

REPEATED = "secret found elsewhere"

_MAX_UNPACKED = 2**20


def mark(kind: str) -> str:
    """Return the text that replaces a secret."""
    return f"[REDACTED {kind}]"


def kind_of_name(key: str) -> str:
    return PRIVATE_KEY if re.search(r"private[-_]?key", key, re.IGNORECASE) else NAMED
