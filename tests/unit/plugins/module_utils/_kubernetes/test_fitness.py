# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of version and clock that the modules kubeconfig_info and istio_preflight share."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.fitness import (
    Window,
    check_clock,
    check_version,
)

OF_ISTIO = Window("1.32", "1.36", "1.31.1")


@pytest.mark.parametrize(
    ("version", "window", "outcome", "said"),
    [
        ("v1.36.3", OF_ISTIO, "ok", "Istio 1.31.1 supports 1.32 to 1.36"),
        ("1.31.9", OF_ISTIO, "error", "1.31.9 is older than 1.32, the oldest that Istio 1.31.1 supports"),
        ("v1.100.0", OF_ISTIO, "warning", "newer than 1.36, the newest known to work with Istio 1.31.1"),
        ("1.31.9", Window(oldest="1.32"), "error", "older than 1.32, the oldest that is accepted"),
        ("1.38.0-alpha.1", Window(newest="1.36"), "warning", "newer than 1.36, the newest known to work"),
        ("1.33.0+k3s1", Window(oldest="1.32"), "ok", "accepted are 1.32 to any"),
        ("1.20.0", Window(istio="1.99.0"), "ok", "not known"),
    ],
)
def test_a_version_is_within_the_window_or_not(version: str, window: Window, outcome: str, said: str) -> None:
    check = check_version(version, window)
    assert (check.code, check.outcome) == ("kubernetes-version", outcome)
    assert said in str(check)


@pytest.mark.parametrize("text", ["", "new", "1"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ExomeshError, match="not a version of Kubernetes"):
        check_version(text, OF_ISTIO)
    with pytest.raises(ExomeshError, match="not a version of Kubernetes"):
        Window(oldest=text or "none")


@pytest.mark.parametrize(
    ("skew", "largest", "outcome"),
    [
        (None, 30.0, "note"),
        (-30.0, 30.0, "ok"),
        (30.5, 30.0, "warning"),
        (-300.0, 30.0, "warning"),
        (9e9, 0.0, "ok"),
    ],
)
def test_clocks_agree_or_not(skew: float | None, largest: float, outcome: str) -> None:
    check = check_clock(skew, largest)
    assert (check.code, check.outcome) == ("clock", outcome)
