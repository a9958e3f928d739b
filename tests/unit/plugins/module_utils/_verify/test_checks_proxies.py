# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections of a mesh NetworkPolicies refuse, on a mesh that is well without them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_api import Object
from running_mesh import RunningMesh

SYSTEM = "istio-system"
DNS: Object = {"ports": [{"port": 53, "protocol": "UDP"}]}
TO_ISTIO: Object = {
    "to": [{"namespaceSelector": {"matchLabels": {"topology.istio.io/network": "network-vie"}}}]
}
FROM_ISTIO: Object = {"from": TO_ISTIO["to"]}
TO_PEERS: Object = {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 15443}]}
OWN: Object = {"from": [{"podSelector": {}}]}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = RunningMesh(tmp_path)
    for cluster in mesh.clusters.values():
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        cluster.put("Service", "web", namespace="shop", spec={"selector": {"app": "web"}, "ports": ports})
    yield mesh
    mesh.close()


def put(mesh: RunningMesh, namespace: str, name: str = "p", **spec: Any) -> None:
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}"
    metadata = {"name": name, "namespace": namespace}
    mesh["vie"].api.put(
        path, {"kind": "NetworkPolicy", "metadata": metadata, "spec": {"podSelector": {}, **spec}}
    )


def found(mesh: RunningMesh) -> dict[str, list[str]]:
    """The evidence of each finding, by its code. All of it is about the cluster with the policies."""
    result = mesh.run("mesh_verify", read_only=True)
    assert {finding.get("cluster") for finding in result["findings"]} <= {"vie"}
    return {finding["code"]: finding["evidence"] for finding in result["findings"]}


def test_without_policies_all_is_open(mesh: RunningMesh) -> None:
    assert found(mesh) == {}


def test_policies_of_a_zero_trust_baseline_that_think_of_the_mesh(mesh: RunningMesh) -> None:
    put(mesh, "shop", policyTypes=["Ingress", "Egress"])
    put(mesh, "shop", "mesh", ingress=[OWN, FROM_ISTIO], egress=[DNS, TO_ISTIO, TO_PEERS])
    put(mesh, SYSTEM, ingress=[{"ports": [{"port": 15443}, {"port": 15012}, {"port": 15017}]}])
    assert found(mesh) == {}


def test_a_baseline_that_forgot_istiod_and_the_peers(mesh: RunningMesh) -> None:
    put(mesh, "shop", policyTypes=["Egress"], egress=[DNS])
    told = found(mesh)
    assert set(told) == {"istiod-blocked", "peers-blocked"}
    assert told["istiod-blocked"] == ["shop/web-1 to istiod, port 15012: NetworkPolicy shop/p"]
    assert told["peers-blocked"] == ["shop/web-1 to the gateway of fra: NetworkPolicy shop/p"]


def test_a_workload_that_only_its_own_namespace_may_call(mesh: RunningMesh) -> None:
    put(mesh, "shop", ingress=[OWN])
    told = found(mesh)
    assert set(told) == {"endpoint-blocked"}
    assert told["endpoint-blocked"] == ["Service shop/web, port 8080 of shop/web-1: NetworkPolicy shop/p"]


def test_istiod_that_nobody_may_call(mesh: RunningMesh) -> None:
    put(mesh, SYSTEM, podSelector={"matchLabels": {"app": "istiod"}}, ingress=[])
    told = found(mesh)
    assert set(told) == {"istiod-blocked"}
    assert all("NetworkPolicy istio-system/p" in line for line in told["istiod-blocked"])


def test_a_gateway_that_nobody_may_call(mesh: RunningMesh) -> None:
    put(mesh, SYSTEM, podSelector={"matchLabels": {"istio": "eastwestgateway"}}, ingress=[])
    assert set(found(mesh)) == {"gateway-blocked"}


def test_kinds_that_are_not_judged_are_told(mesh: RunningMesh) -> None:
    path = "/apis/cilium.io/v2/namespaces/shop/ciliumnetworkpolicies/p"
    mesh["vie"].api.put(path, {"kind": "CiliumNetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}})
    assert found(mesh) == {"policies-not-judged": ["1 CiliumNetworkPolicy.cilium.io"]}
