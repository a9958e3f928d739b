# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of load balancers, against a small API of real HTTP: waited for, or explained."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.load_balancer import (
    likely_cause,
    service_addresses,
    wait_for_addresses,
)
from kubernetes_api import ApiServer, Object

SERVICE = "/api/v1/namespaces/istio-system/services/gateway"


def service(*ingress: dict[str, Any], kind: str = "LoadBalancer") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "gateway", "namespace": "istio-system"},
        "spec": {"type": kind},
        "status": {"loadBalancer": {"ingress": list(ingress)}},
    }


def test_addresses_are_waited_for(client: KubernetesClient, api: ApiServer) -> None:
    api.put(SERVICE, service())
    threading.Timer(
        0.7, lambda: api.put(SERVICE, service({"hostname": "lb.example"}, {"ip": "192.0.2.7"}))
    ).start()
    assert wait_for_addresses(client, "istio-system", "gateway", 10) == ["192.0.2.7", "lb.example"]


def test_missing_address_is_explained_by_events(client: KubernetesClient, api: ApiServer) -> None:
    api.put(SERVICE, service())
    message = "multiple Instance Pools detected across cluster Nodes, an Instance Pool ID must be specified"
    api.put(
        "/api/v1/namespaces/istio-system/events/e",
        {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Service", "name": "gateway"},
            "reason": "SyncLoadBalancerFailed",
            "message": message,
            "lastTimestamp": "1",
        },
    )
    with pytest.raises(
        ExomeshError, match=r"after 0 s: no address yet.*one node pool.*gateway_nlb.node_pool"
    ) as caught:
        wait_for_addresses(client, "istio-system", "gateway", 0)
    assert caught.value.failure()["details"]["events"] == [f"SyncLoadBalancerFailed: {message}"]


def test_service_of_another_type_is_told(client: KubernetesClient, api: ApiServer) -> None:
    api.put(SERVICE, service(kind="NodePort"))
    with pytest.raises(ExomeshError, match="its type is NodePort, not LoadBalancer"):
        wait_for_addresses(client, "istio-system", "gateway", 0)


def test_likely_causes() -> None:
    assert "no Events" in likely_cause([])[0]
    for said, cause in (
        ("couldn't infer any Instance Pool from cluster Nodes", "one node pool"),
        ("SKS cluster with name vienna not found", "no node pool of the name"),
        ("SKS node pool name specified without SKS cluster name", "no node pool of the name"),
        ("NLB instance marked as external in Service annotations, cannot create", "there already is not"),
        (
            'NLB instance is marked external by name "x", but no matching NLB was found',
            "there already is not",
        ),
        ("a Network Load Balancer has at most 10 services, 11 ports given", "at most 10 ports"),
        ("quota exceeded: no address is left", "a quota of the account"),
        ("Forbidden: Forbidden by role policy for compute", "may not manage load balancers"),
        ("Forbidden: Invalid request signature", "may not manage load balancers"),
        ('time: missing unit in duration "10"', "refuses a setting"),
        ("GET https://api giving up after 5 attempt(s)", "does not reach the Exoscale API"),
    ):
        assert cause in likely_cause([f"SyncLoadBalancerFailed: {said}"])[0]
    assert likely_cause(["SyncFailed: something new"])[0] == "the last Event says: SyncFailed: something new"
    assert service_addresses(None) == []
