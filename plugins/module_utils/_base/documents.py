# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read YAML and JSON that others wrote, within limits (private to the collection).

Without limits, 400 bytes in a Secret or a config map of a cluster could fill our memory: aliases of aliases
can stand for any amount of text. Brackets within brackets could end the program in the parser. Kubernetes
accepts only what JSON can express, so only that is read here.
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

with suppress(ImportError):  # require("PyYAML") reports it
    import yaml

LARGEST_YAML = 4 * 1024 * 1024
"""Characters that a YAML text may have; the content of a Secret or a config map has 1 MiB at most."""

LARGEST_JSON = 128 * 1024 * 1024
"""Characters that a JSON text may have, such as the list of all pods of a large cluster."""

DEEPEST = 100
"""Levels of nested collections; the deepest schemas of custom resources have about 50."""

MOST_REPEATED = 100_000
"""Characters that all aliases of a text together may stand for."""

MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
"""Exceptions that code raises when it reads a document of another form than expected, or no document."""

_LONGEST_NUMBER = 100
_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = {f"{_TAG}{name}" for name in ("bool", "float", "int", "map", "null", "seq", "str")}


class DocumentError(ExomeshError, ValueError):
    """A text is no document, or is beyond the limits. The message quotes nothing of the text.

    It is also a ValueError, like the errors of other parsers, for callers that go on without the document.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what} cannot be read: {why}",
            "document_unreadable",
            next_step="Look at who wrote it, and correct or remove it",
        )
        self.why = why


def load_yaml(text: str | bytes, what: str) -> Any:
    """Return the one document of a text; None when the text is empty.

    :param what: name of the text in errors.
    :raises DocumentError: the text is no document, is too large or too deep, or its aliases stand for too
        much.
    """
    documents = load_all_yaml(text, what)
    if len(documents) > 1:
        raise DocumentError(what, "more than one document is in it")
    return documents[0] if documents else None


def load_all_yaml(text: str | bytes, what: str) -> list[Any]:
    """Return all documents of a text; see :func:`load_yaml`."""
    _check_text(text, what, LARGEST_YAML)
    loader = _loader()
    try:
        _check(yaml.parse(text, Loader=loader), what)
        return list(yaml.load_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        # The parser's own message quotes the line, which may be a key.
        where = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DocumentError(what, f"no valid YAML{where}") from None
    except (yaml.YAMLError, ValueError, LookupError, OverflowError):
        raise DocumentError(what, "no valid YAML") from None


def load_json(text: str | bytes, what: str) -> Any:
    """Return the value of a JSON text.

    :raises DocumentError: the text is not JSON, or is too large or too deep.
    """
    _check_text(text, what, LARGEST_JSON)
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if (b"\\ud" if isinstance(text, bytes) else "\\ud") in text.lower():  # type: ignore[operator]
            # Half a character (a lone surrogate) fails here: no file and no terminal accepts it.
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
    """Return a number that JSON can express; refuse others, which cause surprises where they are used."""
    if not math.isfinite(number := float(text)):
        raise ValueError("not a number of JSON")
    return number


@dataclass
class _Open:
    """A collection whose end has not been read yet."""

    anchor: str | None
    size: int = 1


@dataclass
class _Sizes:
    """Numbers of characters: what each anchored node stands for, and what all aliases stand for together."""

    anchored: dict[str, int] = field(default_factory=dict)
    repeated: int = 0


def _check(events: Iterator[Any], what: str) -> None:
    """Check the events of a text before any value is built, so that a refused text costs nothing."""
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
    """Return a loader class as safe as yaml.safe_load's; in C if there is one, which is 20 times faster."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _loader() -> Any:
    """Return a safe loader class that reads only what JSON can express."""

    class Loader(yaml_loader()):  # type: ignore[misc]  # which of the two is known only here
        pass

    # Kubernetes reads a date as text. All other parsers read "=" as text.
    others = (f"{_TAG}timestamp", f"{_TAG}value")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in others]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }

    def number(construct: Any) -> Any:
        def constructed(loader: Any, node: Any) -> Any:
            # For such numbers, as 1:1:1:1, Python needs time with the square of their length.
            too_long = len(loader.construct_scalar(node)) > _LONGEST_NUMBER
            value = None if too_long else construct(loader, node)
            if value is None or not math.isfinite(value):
                raise yaml.constructor.ConstructorError(None, None, "not a number of JSON", node.start_mark)
            return value

        return constructed

    for kind in ("int", "float"):
        Loader.add_constructor(f"{_TAG}{kind}", number(getattr(Loader, f"construct_yaml_{kind}")))
    return Loader
