# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of clusters and APIs, made safe to show (private to the collection).

Names, messages and answers of a cluster are data. A terminal takes part of it as orders: to write over what
is there, to set the clipboard, to show ``exe.txt`` for ``txt.exe``. Such characters are shown as Python
writes them, as in ``\\x1b[2J``, so that nothing is hidden from who reads.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

# Longer than any message that people read, and than the end of what istioctl prints when it fails.
LONGEST = 10_000
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/%-]*)?")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
LEFT_OUT = " ... (a part is left out here) ... "


def printable(text: str, longest: int | None = LONGEST) -> str:
    """The text without what a terminal obeys, cut in its middle where it is too long; lines stay lines.

    What it returns, it returns unchanged when it is asked again.

    :param longest: so many characters at most; None for data, which nobody can cut.
    """
    text = _cut(text.replace("\r\n", "\n"), longest)
    if all(line.isprintable() for line in text.split("\n")):  # nearly always, and quick
        return text
    escaped = (character if _is_plain(character) else _escaped(character) for character in text)
    return _cut("".join(escaped), longest)


def printable_line(text: str, longest: int = LONGEST) -> str:
    """The same in one line, for a place where another line would be taken for ours, as in a report."""
    return _cut(printable(text, longest).replace("\n", "\\n").replace("\t", "\\t"), longest)


def is_plain_url(text: Any, schemes: Collection[str] = ("https",)) -> bool:
    """Whether it is an address that every parser reads alike, with a host and without a user."""
    try:
        if not (isinstance(text, str) and _URL.fullmatch(text)):
            return False
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_token(text: Any) -> bool:
    """Whether it can be a bearer token, and no more than that in the header that it is sent in."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def new_mark() -> str:
    """What only we know, to tell our words from others' where both come on one way."""
    return f"exomesh-{secrets.token_hex(16)}"


def printable_data(data: Any, longest: int | None = LONGEST) -> Any:
    """Lists and mappings with every text in them made printable."""
    if isinstance(data, str):
        return printable(data, longest)
    if isinstance(data, dict):
        return {printable_data(name): printable_data(value, longest) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [printable_data(value, longest) for value in data]
    return data


def _is_plain(character: str) -> bool:
    # Zs are spaces, as the one between a French word and its colon, which isprintable() does not take.
    return character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    kept = max(0, longest - len(LEFT_OUT))
    end = kept // 4  # the cause is often said last
    return text[: kept - end] + LEFT_OUT + text[len(text) - end :]
