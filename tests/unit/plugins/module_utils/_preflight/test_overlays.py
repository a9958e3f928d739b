# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What overlays say of the pods to come, in every place where they may say it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.capacity import Amount
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.overlays import gateway_of, istiod_of
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.wanted import Workload

REQUEST = {"cpu": "500m", "memory": "2Gi"}
ANY = [{"operator": "Exists"}]
PLACED = {"tolerations": ANY, "nodeSelector": {"pool": "mesh"}, "resources": {"requests": {"cpu": "1"}}}
WANTED = Workload("it", 1, Amount.of({"cpu": "1", "memory": "2Gi"}), ANY, {"pool": "mesh"})


@pytest.mark.parametrize(
    "overlay",
    [
        {"values": {"pilot": PLACED}},
        {"components": {"pilot": {"k8s": PLACED}}},
        {
            "values": {
                "global": {
                    "defaultTolerations": ANY,
                    "defaultNodeSelector": {"pool": "mesh"},
                    "defaultResources": {"requests": {"cpu": "1"}},
                }
            }
        },
    ],
)
def test_istiod(overlay: dict[str, Any]) -> None:
    assert istiod_of("it", 1, REQUEST, {}, overlay) == WANTED


def test_the_overlay_goes_before_the_variable() -> None:
    overlay = {"values": {"pilot": {"resources": {"requests": {"cpu": "1"}}, "autoscaleMin": 3}}}
    resources = {"requests": {"cpu": "200m", "memory": "1Gi"}}
    wanted = Workload("it", 3, Amount.of({"cpu": "1", "memory": "1Gi"}))
    assert istiod_of("it", 2, REQUEST, resources, overlay) == wanted


@pytest.mark.parametrize(
    ("overlay", "parameters"),
    [
        ({"components": {"ingressGateways": [{"name": "istio-eastwestgateway", "k8s": PLACED}]}}, {}),
        ({"values": {"gateways": {"istio-ingressgateway": PLACED}}}, {}),
        (
            {},
            {
                "deployment": {
                    "spec": {
                        "template": {
                            "spec": {
                                "tolerations": ANY,
                                "nodeSelector": {"pool": "mesh"},
                                "containers": [
                                    {"name": "istio-proxy", "resources": {"requests": {"cpu": "1"}}},
                                ],
                            }
                        }
                    }
                }
            },
        ),
    ],
)
def test_the_gateway_in_both_forms(overlay: dict[str, Any], parameters: dict[str, Any]) -> None:
    assert gateway_of("it", 1, REQUEST, overlay, parameters) == WANTED


def test_what_is_no_settings_changes_nothing() -> None:
    overlay = {"values": "small", "components": {"ingressGateways": [{"name": "other", "k8s": PLACED}, "x"]}}
    assert gateway_of("it", 1, REQUEST, overlay, {}) == Workload("it", 1, Amount.of(REQUEST))
