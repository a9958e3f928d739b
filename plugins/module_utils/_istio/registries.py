# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries that Istio gives up (private to the collection)."""

from __future__ import annotations

RETIRED_REGISTRIES = (
    "registry.istio.io",
    "gcr.io/istio-release",
    "istio-release.storage.googleapis.com",
)
"""Gone for good in December 2026, after the last of the days on which they are switched off for a try
(https://istio.io/latest/blog/2026/retirement-of-gcp/): images and, the last one, charts."""

REPLACEMENT_HUB = "docker.io/istio"
"""Where Istio's images are, of all releases."""


def retired(image_or_hub: str) -> bool:
    """Whether an image, a hub or a chart's URL is of a registry that goes away."""
    place = image_or_hub.partition("://")[2] or image_or_hub
    return any(
        place == registry or place.startswith((f"{registry}/", f"{registry}:"))
        for registry in RETIRED_REGISTRIES
    )
