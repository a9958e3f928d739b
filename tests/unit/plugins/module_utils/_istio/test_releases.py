# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases of Istio serve, and why not."""

from __future__ import annotations

from datetime import date

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._istio.releases import (
    Release,
    kubernetes_window,
    unsafe,
    unsupported,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.fitness import Window


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("1.31.1", Release(1, 31, 1)),
        ("v1.30.5", Release(1, 30, 5)),
        ("1.31.1-alpha.eed52ebb66ad", Release(1, 31, 1)),
        ("1.31.1-distroless", Release(1, 31, 1)),
        ("1.31.10", Release(1, 31, 10)),
    ],
)
def test_versions_are_read(text: str, release: Release) -> None:
    assert Release.parse(text) == release


@pytest.mark.parametrize("text", ["1.31", "latest", "", "1.31.x", "unknown"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ExomeshError, match="is not a version of Istio"):
        Release.parse(text)


@pytest.mark.parametrize(
    "text", ["1.30.5", "1.30.7", "1.31.1", "1.31.1-alpha.eed52ebb66ad", "1.32.0", "1.31.10"]
)
def test_releases_that_serve(text: str) -> None:
    assert unsafe(Release.parse(text)) == []


@pytest.mark.parametrize(
    ("text", "number", "said"),
    [
        ("1.30.0", 2, "60920"),
        ("1.30.3", 2, "61043"),
        ("1.30.4", 1, "crafted remote secret"),
        ("1.31.0", 1, "1.31.1"),
        ("1.29.9", 1, "crafted remote secret"),
    ],
)
def test_releases_that_do_not_serve_are_known_with_the_reason(text: str, number: int, said: str) -> None:
    reasons = unsafe(Release.parse(text))
    assert len(reasons) == number
    assert said in " ".join(reasons)


def test_support_ends() -> None:
    assert "ended on 2026-10-15" in (unsupported(Release(1, 29, 9), date(2026, 11, 23)) or "")
    assert unsupported(Release(1, 29, 9), date(2026, 10, 1)) is None
    assert "has ended" in (unsupported(Release(1, 20, 0), date(2026, 10, 1)) or "")
    assert unsupported(Release(1, 31, 1), date(2026, 11, 23)) is None
    assert unsupported(Release(1, 40, 0), date(2026, 11, 23)) is None


def test_the_kubernetes_of_a_release() -> None:
    assert kubernetes_window(Release(1, 31, 7)) == Window("1.32", "1.36", "1.31.7")
    assert kubernetes_window(Release(1, 99, 0)) == Window(istio="1.99.0")
