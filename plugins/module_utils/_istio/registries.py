# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries that the Istio project gives up (private to the collection)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from .._base.errors import ExomeshError
from .._kubernetes.api import Object

RETIRED_REGISTRIES = (
    "registry.istio.io",
    "gcr.io/istio-release",
    "istio-release.storage.googleapis.com",
)
"""They are switched off for good in December 2026, after trial days on which they are switched off for a time
(https://istio.io/latest/blog/2026/retirement-of-gcp/). They hold images; the last one holds charts."""

REPLACEMENT_HUB = "docker.io/istio"
"""Hub with Istio's images of all releases."""


def retired(image_or_hub: str) -> bool:
    """Return whether an image, a hub or a chart's URL is on a registry that goes away."""
    place = image_or_hub.partition("://")[2] or image_or_hub
    return any(
        place == registry or place.startswith((f"{registry}/", f"{registry}:"))
        for registry in RETIRED_REGISTRIES
    )


def refuse_retired_registries(operator: Object, rendered: list[Object]) -> None:
    images = sorted({image for source in (operator, *rendered) for image in _images_in(source)})
    doomed = [image for image in images if retired(image)]
    if doomed:
        raise ExomeshError(
            f"The registry of {', '.join(doomed)} goes away in December 2026",
            "retired_registry",
            cause="Pods whose image cannot be pulled do not start again",
            next_step=f"Set istio_hub and gateway_hub to {REPLACEMENT_HUB} or a mirror, and look for hub and "
            "image in istio_overlay and gateway_overlay",
        )


def _images_in(tree: Any) -> Iterator[str]:
    """Find images and hubs anywhere in an object, also in JSON texts inside a ConfigMap."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key in ("hub", "image") and isinstance(value, str):
                yield value
            yield from _images_in(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from _images_in(item)
    elif isinstance(tree, str) and tree.lstrip().startswith("{"):
        with suppress(ValueError):
            yield from _images_in(json.loads(tree))
