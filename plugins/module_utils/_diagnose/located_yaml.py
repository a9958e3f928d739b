# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read YAML with the position of each text, to replace single texts and keep the rest (private).

Nobody can trust a text from a cluster. So the reader builds only mappings, lists and texts, follows no alias,
and limits the depth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from .._base.documents import yaml_loader

with suppress(ImportError):  # without it there is no kubeconfig either
    import yaml

_DEEPEST = 60
_LONGEST = 2**19
_YAML = re.compile(r"""\s*(?:---|\#|-[ ]|["']?[\w./-]+["']?:(?:[ \t\r]|\n|$))""")
_FLOW = re.compile(r"\s*[{\[]")


class Text(str):
    """A text of YAML, with the position at which it is written."""

    start: int
    end: int
    style: str | None
    __slots__ = ("end", "start", "style")


class _NotPlainError(Exception):
    """The YAML has something that is not supported here: an alias, a key twice, or a key that is no text."""


def read(text: str) -> Any:
    """Return all documents of a text as mappings, lists and texts; None if the text is not such YAML."""
    is_flow = bool(_FLOW.match(text))
    if len(text) > _LONGEST or not (is_flow or ("\n" in text.strip() and _YAML.match(text))):
        return None
    try:
        events = iter(yaml.parse(text, Loader=yaml_loader()))
        found = list(_documents(events))
    except (yaml.YAMLError, _NotPlainError, ValueError):
        return None
    return found if any(isinstance(document, dict | list) for document in found) else None


def replaced(text: str, before: Any, after: Any) -> str:
    """Return the text, with each value replaced that differs between ``before`` and ``after``.

    :param before: the documents that :func:`read` returned.
    """
    pieces, done = [], 0
    for old, new in sorted(_differing(before, after), key=lambda pair: pair[0].start):
        pieces += [text[done : old.start], _written(text, old, new)]
        done = old.end
    return "".join(pieces) + text[done:]


def _documents(events: Iterator[Any]) -> Iterator[Any]:
    for event in events:
        if isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent | yaml.DocumentEndEvent):
            continue
        if isinstance(event, yaml.StreamEndEvent):
            return
        yield _node(event, events, 0)


def _node(event: Any, events: Iterator[Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise _NotPlainError
    if isinstance(event, yaml.ScalarEvent):
        found = Text(event.value)
        start: Any = event.start_mark
        end: Any = event.end_mark
        found.start, found.end, found.style = start.index, end.index, event.style
        return found
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_node(event, events, depth + 1))
        return items
    if not isinstance(event, yaml.MappingStartEvent):
        raise _NotPlainError
    mapping: dict[Text, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, depth + 1)
        if not isinstance(key, Text) or key in mapping:
            raise _NotPlainError
        mapping[key] = _node(next(events), events, depth + 1)
    return mapping


def _differing(before: Any, after: Any) -> Iterator[tuple[Text, str]]:
    if isinstance(before, Text):
        if before != after:
            yield before, str(after)
    elif isinstance(before, dict) and isinstance(after, dict):
        for pair, other in zip(before.items(), after.items(), strict=True):
            yield from _differing(pair[0], other[0])
            yield from _differing(pair[1], other[1])
    elif isinstance(before, list) and isinstance(after, list):
        for item, other in zip(before, after, strict=True):
            yield from _differing(item, other)


def _written(text: str, old: Text, new: str) -> str:
    if old.style in ("|", ">"):
        lines = text[old.start : old.end].split("\n")[1:]
        space = next((re.match(r"[ \t]*", line)[0] for line in lines if line.strip()), "  ")  # type: ignore[index]
        end = "\n" if text[old.start : old.end].endswith("\n") else ""
        return "|\n" + "\n".join(space + line for line in new.rstrip("\n").split("\n")) + end
    # There may be nothing in front of the text, not even a space, as in "a:".
    return json.dumps(new) if old.style or "\n" in new else new
