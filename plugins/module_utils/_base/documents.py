# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML and JSON that others wrote, read within bounds (private to the collection).

Who may write a Secret or a config map of a cluster could have us fill our memory with 400 bytes: aliases of
aliases stand for as much as one likes, and a parser that meets brackets within brackets ends the program.
What Kubernetes takes is what JSON can say, so that is what is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .errors import ExomeshError

with suppress(ImportError):  # require("PyYAML") tells
    import yaml

LARGEST_YAML = 4 * 1024 * 1024
"""Characters of one text; what is in a Secret or a config map has 1 MiB at most."""

LARGEST_JSON = 128 * 1024 * 1024
"""The same for an answer, as the list of all pods of a large cluster."""

DEEPEST = 100
"""Collections within collections; the deepest schemas of custom resources have about 50."""

MOST_REPEATED = 100_000
"""Characters that all aliases of a text may stand for."""

MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
"""What reading a document leads to that has another form than it should, or is none."""

_LONGEST_NUMBER = 100
_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = {f"{_TAG}{name}" for name in ("bool", "float", "int", "map", "null", "seq", "str")}


class DocumentError(ExomeshError, ValueError):
    """A text is no document, or none that may be read. Its message quotes nothing of the text.

    It is a ValueError, too, as of any parser, for who does without the document.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what} cannot be read: {why}",
            "document_unreadable",
            next_step="Look at who wrote it, and correct or remove it",
        )
        self.why = why


def load_yaml(text: str | bytes, what: str) -> Any:
    """The one document of a text; None where it is empty.

    :param what: what to call it in an error.
    :raises DocumentError: it is none, is too large or too deep, or stands for too much.
    """
    documents = load_all_yaml(text, what)
    if len(documents) > 1:
        raise DocumentError(what, "more than one document is in it")
    return documents[0] if documents else None


def load_all_yaml(text: str | bytes, what: str) -> list[Any]:
    """All documents of a text; see :func:`load_yaml`."""
    _check_text(text, what, LARGEST_YAML)
    loader = _loader()
    try:
        _check(yaml.parse(text, Loader=loader), what)
        return list(yaml.load_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        # The parser's own text quotes the line, which may be a key.
        where = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DocumentError(what, f"no valid YAML{where}") from None
    except (yaml.YAMLError, ValueError, LookupError, OverflowError):
        raise DocumentError(what, "no valid YAML") from None


def load_json(text: str | bytes, what: str) -> Any:
    """The value that a JSON text is.

    :raises DocumentError: it is none, or is too large or too deep.
    """
    _check_text(text, what, LARGEST_JSON)
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if (b"\\ud" if isinstance(text, bytes) else "\\ud") in text.lower():  # type: ignore[operator]
            # Half a character, which no file and no terminal takes, fails here.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise DocumentError(what, f"it is more than {DEEPEST} levels deep") from None
    except ValueError:
        raise DocumentError(what, "no valid JSON") from None
    level = [value]
    for _depth in range(DEEPEST):
        items = (item for collection in level for item in _items(collection))
        level = [item for item in items if isinstance(item, (dict, list))]
        if not level:
            return value
    raise DocumentError(what, f"it is more than {DEEPEST} levels deep")


def _check_text(text: Any, what: str, largest: int) -> None:
    if not isinstance(text, (str, bytes)):
        raise DocumentError(what, "it is no text")
    if len(text) > largest:
        raise DocumentError(what, f"it has more than {largest} characters")


def _items(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _finite(text: str) -> float:
    """A number that JSON can write; others become a surprise where they are used."""
    if not math.isfinite(number := float(text)):
        raise ValueError("not a number of JSON")
    return number


@dataclass
class _Open:
    """A collection that has not ended."""

    anchor: str | None
    size: int = 1


@dataclass
class _Sizes:
    """How many characters nodes stand for, and all aliases together."""

    anchored: dict[str, int] = field(default_factory=dict)
    repeated: int = 0


def _check(events: Iterator[Any], what: str) -> None:
    """Follow the text without building anything of it, so that what is refused costs nothing."""
    sizes = _Sizes()
    open_collections: list[_Open] = []
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            sizes.anchored.clear()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes.anchored:
                raise DocumentError(what, "an alias in it stands for nothing, or for what it is in")
            sizes.repeated += sizes.anchored[event.anchor]
            if sizes.repeated > MOST_REPEATED:
                raise DocumentError(what, f"its aliases stand for more than {MOST_REPEATED} characters")
            _add(sizes.anchored[event.anchor], open_collections)
        elif isinstance(event, yaml.ScalarEvent):
            _check_tag(event, what)
            _end(_Open(event.anchor, len(event.value) + 1), sizes, open_collections)
        elif isinstance(event, yaml.CollectionStartEvent):
            _check_tag(event, what)
            if event.anchor:
                sizes.anchored.pop(event.anchor, None)
            open_collections.append(_Open(event.anchor))
            if len(open_collections) > DEEPEST:
                raise DocumentError(what, f"it is more than {DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            _end(open_collections.pop(), sizes, open_collections)


def _end(node: _Open, sizes: _Sizes, open_collections: list[_Open]) -> None:
    if node.anchor:
        sizes.anchored[node.anchor] = node.size
    _add(node.size, open_collections)


def _add(size: int, open_collections: list[_Open]) -> None:
    if open_collections:
        open_collections[-1].size += size


def _check_tag(event: Any, what: str) -> None:
    if event.tag and event.tag != "!" and event.tag not in _KNOWN_TAGS:
        raise DocumentError(what, "it has a tag for something that JSON has not")


def yaml_loader() -> Any:
    """A loader as safe as yaml.safe_load's, in C where there is that: in a twentieth of the time."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _loader() -> Any:
    """The same for what JSON has, and nothing else."""

    class Loader(yaml_loader()):  # type: ignore[misc]  # which of the two is known only here
        pass

    # A date is a text to Kubernetes. "=" is one to everybody else.
    others = (f"{_TAG}timestamp", f"{_TAG}value")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in others]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }

    def number(construct: Any) -> Any:
        def constructed(loader: Any, node: Any) -> Any:
            # What Python takes a square of its length to read, as 1:1:1:1.
            too_long = len(loader.construct_scalar(node)) > _LONGEST_NUMBER
            value = None if too_long else construct(loader, node)
            if value is None or not math.isfinite(value):
                raise yaml.constructor.ConstructorError(None, None, "not a number of JSON", node.start_mark)
            return value

        return constructed

    for kind in ("int", "float"):
        Loader.add_constructor(f"{_TAG}{kind}", number(getattr(Loader, f"construct_yaml_{kind}")))
    return Loader
