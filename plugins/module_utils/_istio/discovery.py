# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which namespaces an istiod with discovery selectors ignores (private to the collection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._kubernetes.selectors import selects

NAME_LABEL = "kubernetes.io/metadata.name"


def selectors_of(mesh_config: object) -> list[Any]:
    """Return the discovery selectors of a mesh configuration. Without any, istiod sees every namespace."""
    found = mesh_config.get("discoverySelectors") if isinstance(mesh_config, Mapping) else None
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []


def hidden(selectors: Sequence[Any], namespaces: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the namespaces that no selector selects.

    :param namespaces: labels by the name of the namespace.
    """
    return [
        name
        for name, labels in namespaces.items()
        if selectors
        and not any(
            isinstance(selector, Mapping) and selects(selector, {**labels, NAME_LABEL: name})
            for selector in selectors
        )
    ]
