# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make text of clusters and APIs safe to show (private to the collection).

Names, messages and answers of a cluster are data. But a terminal obeys some characters: it overwrites what is
there, sets the clipboard, or shows ``exe.txt`` for ``txt.exe``. Such characters are shown as Python writes
them, as in ``\\x1b[2J``, so that nothing is hidden from the reader.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

# Characters: more than any message that people read, and than the last output of a failed istioctl.
LONGEST = 10_000
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/%-]*)?")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
LEFT_OUT = " ... (a part is left out here) ... "


def printable(text: str, longest: int | None = LONGEST) -> str:
    """Return the text without characters that a terminal obeys. Lines stay lines.

    A text that is too long is cut in its middle. A second call with the result returns it unchanged.

    :param longest: characters at most; None for data, which must not be cut.
    """
    text = _cut(text.replace("\r\n", "\n"), longest)
    if all(line.isprintable() for line in text.split("\n")):  # nearly always, and quick
        return text
    escaped = (character if _is_plain(character) else _escaped(character) for character in text)
    return _cut("".join(escaped), longest)


def printable_line(text: str, longest: int = LONGEST) -> str:
    """Return a printable text in one line, for places where a second line would look like ours."""
    return _cut(printable(text, longest).replace("\n", "\\n").replace("\t", "\\t"), longest)


def is_plain_url(text: Any, schemes: Collection[str] = ("https",)) -> bool:
    """Return whether a text is a URL that every parser reads alike, with a host and without a user."""
    try:
        if not (isinstance(text, str) and _URL.fullmatch(text)):
            return False
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_token(text: Any) -> bool:
    """Return whether a text can be a bearer token, and cannot add anything else to its header."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def new_mark() -> str:
    """Return a mark that only we know. It tells our text from other text in the same stream."""
    return f"exomesh-{secrets.token_hex(16)}"


def printable_data(data: Any, longest: int | None = LONGEST) -> Any:
    """Return data with every text in its lists and mappings made printable."""
    if isinstance(data, str):
        return printable(data, longest)
    if isinstance(data, dict):
        return {printable_data(name): printable_data(value, longest) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [printable_data(value, longest) for value in data]
    return data


def _is_plain(character: str) -> bool:
    # Zs are spaces, as the one between a French word and its colon. isprintable() refuses them.
    return character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    kept = max(0, longest - len(LEFT_OUT))
    end = kept // 4  # the cause often comes last
    return text[: kept - end] + LEFT_OUT + text[len(text) - end :]
