# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AuthorizationPolicies, in the form that istiod gives to proxies."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.rbac import Caller, Refusal, refusal
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.routes import Request

CALLER = Caller(
    Request("cart.shop.svc.cluster.local", 80), 8080, "spiffe://cluster.local/ns/shop/sa/web", "outbound_.80"
)
ANY: list[Any] = [{"any": True}]
Told = dict[str, Any]


def listener(*filters: Told, **match: Any) -> list[Told]:
    chain = {"filter_chain_match": match or {"destination_port": 8080}, "filters": list(filters)}
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 15006}}
    return [{"active_state": {"listener": {"address": address, "filter_chains": [chain]}}}]


def http(action: str, policies: Told) -> Told:
    rules = {"action": action, "policies": policies} if action else {"policies": policies}
    rbac = {"name": "envoy.filters.http.rbac", "typed_config": {"rules": rules}}
    manager = {"@type": "type.googleapis.com/x.HttpConnectionManager", "http_filters": [rbac]}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def policy(permissions: list[Any] = ANY, principals: list[Any] = ANY, name: str = "it") -> Told:
    return {f"ns[shop]-policy[{name}]-rule[0]": {"permissions": permissions, "principals": principals}}


def judged(action: str, policies: Told) -> Refusal | None:
    return refusal(listener(http(action, policies)), 15006, CALLER)


def principal(regex: str) -> Told:
    matcher = {"safe_regex": {"regex": regex}}
    return {"and_ids": {"ids": [{"or_ids": {"ids": [{"authenticated": {"principal_name": matcher}}]}}]}}


def peer_state(exact: str) -> Told:
    return {"filter_state": {"key": "io.istio.peer_principal", "string_match": {"exact": exact}}}


@pytest.mark.parametrize(
    ("permission", "principal_", "fits"),
    [
        ({"any": True}, {"any": True}, True),
        ({"any": True}, principal(".*/ns/shop/.*"), True),
        ({"any": True}, principal(".*/ns/other/.*"), False),
        ({"any": True}, {"not_id": principal(".*/ns/other/.*")}, True),
        ({"any": True}, peer_state("spiffe://cluster.local/ns/shop/sa/web"), True),
        ({"any": True}, {"metadata": {"filter": "istio_authn"}}, False),
        ({"any": True}, {"metadata": {"filter": "envoy.filters.a.b"}}, None),
        ({"any": True}, {"authenticated": {}}, True),
        ({"any": True}, {"header": {"name": "x-token", "string_match": {"exact": "1"}}}, False),
        ({"any": True}, {"direct_remote_ip": {"address_prefix": "10.0.0.0"}}, None),
        ({"destination_port": 8080}, {"any": True}, True),
        ({"destination_port": 80}, {"any": True}, False),
        ({"not_rule": {"destination_port": 80}}, {"any": True}, True),
        ({"url_path": {"path": {"prefix": "/api"}}}, {"any": True}, False),
        ({"header": {"name": ":method", "string_match": {"exact": "GET"}}}, {"any": True}, True),
        ({"header": {"name": ":method", "exact_match": "POST"}}, {"any": True}, False),
        ({"requested_server_name": {"exact": "outbound_.80"}}, {"any": True}, True),
        ({"and_rules": {"rules": [{"any": True}, {"destination_port": 80}]}}, {"any": True}, False),
        ({"or_rules": {"rules": [{"destination_port": 80}, {"destination_ip": {}}]}}, {"any": True}, None),
    ],
)
def test_a_rule_fits_does_not_fit_or_cannot_be_told(
    permission: Told, principal_: Told, fits: bool | None
) -> None:
    policies = policy([permission], [principal_])
    denied, allowed = judged("DENY", policies), judged("", policies)
    assert (denied is not None and denied.certain) == (fits is True)
    assert (allowed is None) == (fits is True)
    if fits is None:
        assert denied
        assert not denied.certain
        assert allowed
        assert not allowed.certain
    if fits is False:
        assert denied is None
        assert allowed
        assert allowed.certain


def test_a_refusal_names_its_policies() -> None:
    assert str(judged("DENY", policy(name="closed"))) == "AuthorizationPolicy shop/closed denies it"
    never = policy([{"not_rule": {"any": True}}], [{"not_id": {"any": True}}], name="nothing")
    assert "no AuthorizationPolicy allows it" in str(judged("ALLOW", never))
    assert "shop/nothing" in str(judged("ALLOW", never))
    assert judged("ALLOW", never | policy(name="open")) is None
    assert judged("ALLOW", {}) == Refusal((), True)


def test_rules_that_only_log_or_are_tried_out_refuse_nothing() -> None:
    assert judged("LOG", policy()) is None
    tried = {"name": "envoy.filters.http.rbac", "typed_config": {"shadow_rules": {"action": "DENY"}}}
    manager = {"@type": "x.HttpConnectionManager", "http_filters": [tried]}
    assert refusal(listener({"typed_config": manager}), 15006, CALLER) is None


def test_only_the_chain_of_the_port_or_the_name_counts() -> None:
    refusing = http("DENY", policy())
    assert refusal(listener(refusing, destination_port=9090), 15006, CALLER) is None
    assert refusal(listener(refusing), 15443, CALLER) is None
    tcp = {"name": "envoy.filters.network.rbac", "typed_config": {"rules": {"policies": {}}}}
    assert refusal(listener(tcp, server_names=["outbound_.80"]), 15006, CALLER) is not None
