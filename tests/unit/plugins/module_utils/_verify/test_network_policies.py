# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkPolicies, judged as Kubernetes documents them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._verify.network_policies import (
    EGRESS,
    INGRESS,
    OUTSIDE,
    NetworkPolicies,
)

NAMESPACES = [
    {"metadata": {"name": "istio-system", "labels": {"kubernetes.io/metadata.name": "istio-system"}}},
    {"metadata": {"name": "shop", "labels": {"team": "a"}}},
]
GATEWAY = {
    "metadata": {"name": "gateway-1", "namespace": "istio-system", "labels": {"istio": "eastwestgateway"}},
    "spec": {"containers": [{"ports": [{"name": "tls", "containerPort": 15443}]}]},
    "status": {"podIP": "192.168.0.7"},
}
WEB = {
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web", "tier": "front"}},
    "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
    "status": {"podIP": "192.168.0.8"},
}
ANYWHERE = {"ipBlock": {"cidr": "0.0.0.0/0"}}
NOT_HERE = {"ipBlock": {"cidr": "192.168.0.0/16"}}
OUR_PODS = {"podSelector": {}}
OF_ISTIO = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}}}


def policy(namespace: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {"podSelector": {}, **spec}}


def port(number: int | str, **more: Any) -> dict[str, Any]:
    return {"port": number, **more}


@pytest.mark.parametrize(
    ("spec", "open_"),
    [
        ({}, False),  # without rules, ingress is closed
        ({"policyTypes": ["Egress"]}, True),  # says nothing of ingress
        ({"policyTypes": ["Ingress"], "ingress": [{}]}, True),
        ({"ingress": [{"ports": [port(15443)]}]}, True),
        ({"ingress": [{"ports": [port(15443, protocol="UDP")]}]}, False),
        ({"ingress": [{"ports": [port(15021)]}]}, False),
        ({"ingress": [{"ports": [port(15000, endPort=15999)]}]}, True),
        ({"ingress": [{"ports": [port("tls")]}]}, True),
        ({"ingress": [{"ports": [port("http")]}]}, False),
        ({"ingress": [{"ports": [{"protocol": "TCP"}]}]}, True),
        ({"ingress": [{"from": [ANYWHERE]}]}, True),
        ({"ingress": [{"from": [OUR_PODS]}]}, False),  # who comes from outside is no pod
        ({"ingress": [{"from": [OUR_PODS], "ports": [port(15443)]}, {"from": [ANYWHERE]}]}, True),
        ({"podSelector": {"matchLabels": {"istio": "ingressgateway"}}}, True),  # selects other pods
        ({"podSelector": {"matchExpressions": [{"key": "istio", "operator": "Exists"}]}}, False),
        ({"podSelector": {"matchExpressions": [{"key": "istio", "operator": "DoesNotExist"}]}}, True),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "istio", "operator": "NotIn", "values": ["eastwestgateway"]}]
                }
            },
            True,
        ),
    ],
)
def test_connections_from_outside(spec: dict[str, Any], open_: bool) -> None:
    policies = NetworkPolicies([policy("istio-system", **spec)], NAMESPACES)
    assert (not policies.refusing(GATEWAY, INGRESS, OUTSIDE, 15443)) is open_


@pytest.mark.parametrize(
    ("ends", "open_"),
    [
        ([OUR_PODS], False),  # a pod of another namespace
        ([{"namespaceSelector": {}}], True),
        ([OF_ISTIO], True),
        ([{**OF_ISTIO, "podSelector": {"matchLabels": {"istio": "eastwestgateway"}}}], True),
        ([{**OF_ISTIO, "podSelector": {"matchLabels": {"app": "istiod"}}}], False),  # both must select it
        ([OF_ISTIO, {"podSelector": {"matchLabels": {"app": "istiod"}}}], True),  # or one of two ends
        ([{"ipBlock": {"cidr": "192.168.0.0/16"}}], True),
        ([{"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.0.0/24"]}}], False),
    ],
)
def test_connections_from_a_pod_of_another_namespace(ends: list[dict[str, Any]], open_: bool) -> None:
    policies = NetworkPolicies([policy("shop", ingress=[{"from": ends}])], NAMESPACES)
    assert (not policies.refusing(WEB, INGRESS, GATEWAY, 8080)) is open_


@pytest.mark.parametrize(
    ("spec", "open_"),
    [
        ({"policyTypes": ["Egress"]}, False),
        ({"policyTypes": ["Ingress"]}, True),
        ({"egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]}, True),
        ({"egress": [{"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}]}, False),
        (
            {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.9/32"]}}]}]},
            False,
        ),
        ({"egress": [{"to": [{"namespaceSelector": {}}]}]}, False),  # an address outside is no pod
        ({"egress": [{"ports": [port("tls")]}]}, False),  # an address names no ports
        ({"egress": [{"ports": [port(15443)]}]}, True),
    ],
)
def test_connections_to_an_address(spec: dict[str, Any], open_: bool) -> None:
    policies = NetworkPolicies([policy("shop", **spec)], NAMESPACES)
    assert (not policies.refusing(WEB, EGRESS, "203.0.113.9", 15443)) is open_


def test_policies_add_up() -> None:
    closed, other = policy("shop"), policy("shop", ingress=[{"from": [OF_ISTIO]}])
    assert NetworkPolicies([closed], NAMESPACES).refusing(WEB, INGRESS, GATEWAY, 80) == [closed]
    assert not NetworkPolicies([closed, other], NAMESPACES).refusing(WEB, INGRESS, GATEWAY, 80)
    assert not NetworkPolicies([policy("other")], NAMESPACES).refusing(WEB, INGRESS, GATEWAY, 80)


def test_a_host_name_cannot_be_compared_with_a_block() -> None:
    policies = NetworkPolicies([policy("shop", egress=[{"to": [NOT_HERE]}])], NAMESPACES)
    assert not policies.refusing(WEB, EGRESS, "gateway.example", 15443)
