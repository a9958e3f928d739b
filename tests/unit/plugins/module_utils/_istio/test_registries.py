# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which registries go away."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._istio.registries import REPLACEMENT_HUB, retired


@pytest.mark.parametrize(
    "place",
    [
        "registry.istio.io/release",
        "registry.istio.io/release/pilot:1.30.4",
        "registry.istio.io/release/proxyv2@sha256:" + "0" * 64,
        "registry.istio.io",
        "registry.istio.io:443/release",
        "gcr.io/istio-release",
        "gcr.io/istio-release/pilot:1.29.0-distroless",
        "oci://gcr.io/istio-release/charts",
        "https://istio-release.storage.googleapis.com/charts",
    ],
)
def test_what_goes_away_is_known(place: str) -> None:
    assert retired(place)


@pytest.mark.parametrize(
    "place",
    [
        REPLACEMENT_HUB,
        "docker.io/istio/pilot:1.31.1",
        "istio/proxyv2",
        "gcr.io/istio-releases/pilot",
        "gcr.io/my-project/istio-release",
        "mirror.example/registry.istio.io/release/pilot",
        "https://blob.istio.io/istio-release/charts",
        "ghcr.io/istio/release/charts",
        "auto",
        "",
    ],
)
def test_what_stays_is_left_alone(place: str) -> None:
    assert not retired(place)
