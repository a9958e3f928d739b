# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes in both forms, and their weights; that proxies follow them is tested on the lab."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.route import (
    GATEWAY_API,
    ISTIO,
    Ejection,
    Ingress,
    Mirror,
    Route,
    Rule,
    render,
    split_of,
    starting_weights,
    with_percent,
)

INGRESS = Ingress("istio-ingress", "istio-ingressgateway", {"istio": "ingressgateway"})
RULES = [Rule("v2", {"X-Beta": "yes"}), Rule("v2", {}, ("group", "b.1"))]
FORMS = pytest.mark.parametrize("form", [ISTIO, GATEWAY_API])


def a_route(rules: list[Rule] | None = None, mirror: Mirror | None = None) -> Route:
    return Route(
        "shop", "cart", 80, ["*"], ["v1", "v2", "v3"], rules or [], mirror, Ejection(5, 5, 30), INGRESS
    )


def rendered(form: str, route: Route, weights: dict[str, int]) -> dict[str, Any]:
    """The objects by kind and name."""
    objects = render(form, route, weights)
    return {f"{obj['kind']} {obj['metadata']['name']}": obj for obj in objects}


def weighted(form: str, weights: dict[str, int]) -> Any:
    kind = "VirtualService" if form == ISTIO else "HTTPRoute"
    return rendered(form, a_route(RULES), weights)[f"{kind} cart"]


def test_rules_come_before_the_split() -> None:
    rules = weighted(ISTIO, {"v1": 90, "v2": 10})["spec"]["http"]
    assert [rule["name"] for rule in rules] == ["v2-by-choice-1", "v2-by-choice-2", "weighted"]
    assert rules[0]["match"] == [{"headers": {"x-beta": {"exact": "yes"}}}]
    assert [(entry["destination"]["subset"], entry["weight"]) for entry in rules[2]["route"]] == [
        ("v1", 90),
        ("v2", 10),
    ]


def test_every_version_has_a_service_in_the_gateway_api() -> None:
    objects = rendered(GATEWAY_API, a_route(RULES), {"v1": 90, "v2": 10, "v3": 0})
    assert {"Service cart-v1", "Service cart-v2", "Service cart-v3"} <= objects.keys()
    rules = objects["HTTPRoute cart"]["spec"]["rules"]
    assert rules[-1]["backendRefs"][0] == {"name": "cart-v1", "port": 80, "weight": 90}
    assert "hostnames" not in objects["HTTPRoute cart"]["spec"]
    gateway = objects["Gateway cart"]
    # Istio lets a Gateway use a Service of its own namespace only.
    assert gateway["metadata"]["namespace"] == "istio-ingress"
    assert objects["HTTPRoute cart"]["spec"]["parentRefs"][0]["namespace"] == "istio-ingress"
    assert gateway["spec"]["addresses"] == [
        {"type": "Hostname", "value": "istio-ingressgateway.istio-ingress.svc.cluster.local"}
    ]


@pytest.mark.parametrize(
    ("cookies", "chosen"),
    [
        ("group=b.1", True),
        ("a=1; group=b.1", True),
        ("group=b.1; z=9", True),
        ("a=1;group=b.1;z=9", True),
        ("mygroup=b.1", False),
        ("group=b.12", False),
        ("group=bx1", False),
        ("a=group=b.1", False),
    ],
)
def test_a_cookie_is_found_among_others(cookies: str, chosen: bool) -> None:
    pattern = weighted(ISTIO, {"v1": 100})["spec"]["http"][1]["match"][0]["headers"]["cookie"]["regex"]
    assert bool(re.fullmatch(pattern, cookies)) is chosen
    headers = weighted(GATEWAY_API, {"v1": 100})["spec"]["rules"][1]["matches"][0]["headers"]
    assert headers == [{"name": "cookie", "type": "RegularExpression", "value": pattern}]


@pytest.mark.parametrize(("percent", "told"), [(100, None), (10, 10)])
def test_a_mirror_is_at_the_split(percent: int, told: int | None) -> None:
    route = a_route(mirror=Mirror("v3", percent))
    istio = rendered(ISTIO, route, {"v1": 100})["VirtualService cart"]["spec"]["http"][-1]["mirrors"]
    assert istio[0]["destination"]["subset"] == "v3"
    assert istio[0]["percentage"] == {"value": percent}
    rule = rendered(GATEWAY_API, route, {"v1": 100})["HTTPRoute cart"]["spec"]["rules"][-1]
    mirror = rule["filters"][0]["requestMirror"]
    assert (mirror["backendRef"]["name"], mirror.get("percent")) == ("cart-v3", told)


@FORMS
def test_failover_needs_outlier_detection(form: str) -> None:
    objects = rendered(form, a_route(), {"v1": 100})
    rules = [obj["spec"] for name, obj in objects.items() if name.startswith("DestinationRule")]
    assert rules
    for rule in rules:
        assert rule["trafficPolicy"]["outlierDetection"]["consecutive5xxErrors"] == 5
        assert rule["trafficPolicy"]["loadBalancer"]["localityLbSetting"] == {"enabled": True}


@FORMS
def test_a_route_keeps_the_weights_that_it_has(form: str) -> None:
    versions = ["v1", "v2", "v3"]
    assert starting_weights(versions, {}, None) == {"v1": 100, "v2": 0, "v3": 0}
    live = weighted(form, {"v1": 40, "v2": 60, "v3": 0})
    assert starting_weights(versions, {}, live) == {"v1": 40, "v2": 60, "v3": 0}
    assert starting_weights(["v2", "v4"], {}, live) == {"v2": 100, "v4": 0}  # v1's part goes to the first
    assert starting_weights(versions, {"v1": 20, "v3": 80}, live) == {"v1": 20, "v2": 0, "v3": 80}


@pytest.mark.parametrize("wanted", [{"v1": 90}, {"v1": 110, "v2": -10}, {"v1": 100, "v9": 0}, {"v1": "all"}])
def test_weights_that_make_no_sense_are_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ExomeshError, match="make 100"):
        starting_weights(["v1", "v2"], wanted, None)


def test_a_rule_for_an_unknown_version_is_refused() -> None:
    with pytest.raises(ExomeshError, match="names v9"):
        a_route([Rule("v9", {"x": "y"})])


@FORMS
def test_only_two_versions_change_places(form: str) -> None:
    route = weighted(form, {"v1": 60, "v2": 0, "v3": 40})
    changed = with_percent(route, "v1", "v2", 50)
    assert (split_of(changed, "v1", "v2").stable, split_of(changed, "v1", "v2").canary) == (30, 30)
    assert split_of(changed, "v1", "v3").canary == 40
    assert split_of(changed, "v1", "v2").percent == 50
    assert split_of(route, "v1", "v2").percent == 0  # the route that was given is as it was


def test_a_rule_without_both_versions_is_told() -> None:
    route = weighted(ISTIO, {"v1": 100, "v2": 0})
    with pytest.raises(ExomeshError, match="has 0 rules with both v1 and v9") as caught:
        split_of(route, "v1", "v9")
    assert caught.value.cause == "its destinations are v1, v2"
    with pytest.raises(ExomeshError, match="0 rules v2-by-choice-1"):
        split_of(route, "v1", "v2", "v2-by-choice-1")
