# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merging a user's overlay over settings of this collection (private to the collection)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from .._base.errors import ExomeshError

_KEYS = (("kind", "name"), ("port",), ("path",), ("name",), ("topologyKey",))
"""Fields that tell the entries of a list apart, as for patches of Kubernetes. The first that fits counts."""


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return ``base`` with ``overlay`` over it. Mappings are merged, and lists whose entries have names.

    Everything else is replaced. But a list of texts must have all texts of the list below.

    :param path: where the two are, for errors.
    :raises ExomeshError: ``overlay_loses``: entries of ``base`` would be lost without a word.
    """
    merged = copy.deepcopy(dict(base))
    for key, value in overlay.items():
        below, here = merged.get(key), f"{path}.{key}" if path else str(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value, here)
        elif isinstance(below, list) and isinstance(value, list):
            merged[key] = _merged_lists(below, value, here)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _merged_lists(below: list[Any], above: list[Any], path: str) -> list[Any]:
    if below and above and all(isinstance(entry, str) for entry in [*below, *above]):
        if lost := [entry for entry in below if entry not in above]:
            raise _loses(f"{path} leaves out {', '.join(lost)}", "Add that to the list of the overlay")
        return list(above)
    fields = _fields_of(below)
    if not fields or not above:
        return copy.deepcopy(above)
    if not _have(above, fields):
        names = " and ".join(fields)
        raise _loses(
            f"{path} has an entry without {names}, so that it is not known which one it changes",
            f"Give each entry its {names}",
        )
    merged = {tuple(entry[field] for field in fields): entry for entry in below}
    for entry in above:
        key = tuple(entry[field] for field in fields)
        told = f"{path}[{', '.join(map(str, key))}]"
        merged[key] = merge(merged.get(key, {}), entry, told)
    entries = list(merged.values())
    if fields == ("port",):
        _refuse_equal_names(entries, path)
    return entries


def _fields_of(entries: Sequence[Any]) -> tuple[str, ...]:
    """Return the fields that tell the entries apart; empty if there are none."""
    return next((fields for fields in _KEYS if _have(entries, fields)), ())


def _have(entries: Sequence[Any], fields: Sequence[str]) -> bool:
    return bool(entries) and all(
        isinstance(entry, Mapping) and all(isinstance(entry.get(field), str | int) for field in fields)
        for entry in entries
    )


def _refuse_equal_names(ports: Sequence[Mapping[str, Any]], path: str) -> None:
    first: dict[str, Any] = {}
    for port in ports:
        name = port.get("name")
        if name and first.setdefault(name, port["port"]) != port["port"]:
            raise _loses(
                f"{path} gives port {port['port']} the name {name}, which port {first[name]} has already",
                f"Give the port another name, or change port {first[name]}",
            )


def _loses(message: str, next_step: str) -> ExomeshError:
    return ExomeshError(
        f"An overlay does not fit what this collection sets: {message}", "overlay_loses", next_step=next_step
    )
