# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of settings in the IstioOperator. What Istio makes of it is tested on the lab."""

from __future__ import annotations

from ansible_collections.exomesh.istio.plugins.module_utils._istio.operator import (
    OperatorSettings,
    istio_operator,
)

PROXY = {"ISTIO_META_DNS_CAPTURE": "true"}


def spec(version: str = "1.31.1", **settings: object) -> dict[str, object]:
    document: dict[str, object] = istio_operator(OperatorSettings(**settings), version)["spec"]  # type: ignore[arg-type]
    return document


def test_what_is_not_given_is_left_to_istio() -> None:
    assert spec() == {}
    assert spec(revision="", resources={}, revision_tags=[]) == {}


def test_settings_of_istiod() -> None:
    assert spec(
        profile="minimal",
        hub="mirror.example.com/istio",
        image_pull_secrets=["mirror"],
        revision="1-31-1",
        revision_tags=["default", "prod"],
        mesh_id="mesh1",
        cluster_name="vienna",
        network="network-vienna",
        trust_domain="example.com",
        dns_capture=True,
        remote_credentials=False,
        unready_endpoints=False,
        resources={"limits": {"memory": "4Gi"}},
        autoscale_min=2,
        autoscale_max=4,
    ) == {
        "profile": "minimal",
        "hub": "mirror.example.com/istio",
        "revision": "1-31-1",
        "meshConfig": {"trustDomain": "example.com", "defaultConfig": {"proxyMetadata": PROXY}},
        "values": {
            "revisionTags": ["prod"],
            "global": {
                "meshID": "mesh1",
                "multiCluster": {"clusterName": "vienna"},
                "network": "network-vienna",
                "imagePullSecrets": ["mirror"],
            },
            "pilot": {
                "resources": {"limits": {"memory": "4Gi"}},
                "autoscaleMin": 2,
                "autoscaleMax": 4,
                "env": {
                    "PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER": "false",
                    "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS": "false",
                },
            },
        },
    }


def test_workloads_may_trust_several_roots() -> None:
    assert spec(multi_root=True, dns_capture=True) == {
        "meshConfig": {"defaultConfig": {"proxyMetadata": {**PROXY, "PROXY_CONFIG_XDS_AGENT": "true"}}},
        "values": {"pilot": {"env": {"ISTIO_MULTIROOT_MESH": "true"}}},
    }


def test_old_istio_needs_to_be_told_to_allocate_addresses() -> None:
    def metadata(version: str) -> object:
        content: dict[str, dict[str, dict[str, object]]] = spec(version, dns_capture=True)  # type: ignore[assignment]
        return content["meshConfig"]["defaultConfig"]["proxyMetadata"]

    assert metadata("1.24.6") == {**PROXY, "ISTIO_META_DNS_AUTO_ALLOCATE": "true"}
    assert metadata("1.25.0-rc.0") == metadata("1.31.1-alpha.eed52ebb66ad") == PROXY


def test_pods_that_are_not_ready_are_a_matter_of_newer_istio_and_of_the_user() -> None:
    unready = "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS"
    assert spec("1.30.7", unready_endpoints=False) == {}
    overlay = {"values": {"pilot": {"env": {unready: "true"}}}}
    assert spec("1.31.0-alpha.x", unready_endpoints=False, spec=overlay) == overlay


def test_everything_wins_over_the_preset_and_spec_over_everything() -> None:
    values: dict[str, dict[str, object]] = spec(  # type: ignore[assignment]
        ha=True,
        autoscale_min=3,
        resources={"requests": {"cpu": "1"}},
        spec={"values": {"pilot": {"autoscaleMin": 4, "topologySpreadConstraints": []}}},
    )["values"]
    assert values["pilot"] == {
        "autoscaleMin": 4,
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}},
        "topologySpreadConstraints": [],
    }
