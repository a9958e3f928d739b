# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which route takes a request, and what it does with it, in the forms of real config dumps."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.routes import (
    Request,
    Route,
    VirtualHost,
    virtual_host,
)

REQUEST = Request("cart.shop.svc.cluster.local", 80)
CART = "outbound|80||cart.shop.svc.cluster.local"
OWNER = {
    "filter_metadata": {
        "istio": {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/cart"}
    }
}
EVERY = {"match": {"prefix": "/"}, "route": {"cluster": CART, "timeout": "0s"}, "metadata": OWNER}
HUNDRED = {"numerator": 1_000_000, "denominator": "MILLION"}
Told = dict[str, Any]


def chosen(*routes: Told, path: str = "/") -> Route | None:
    return VirtualHost({"routes": list(routes)}).choose(Request(REQUEST.host, REQUEST.port, path))


def route(told: Told) -> Route:
    found = chosen({**EVERY, **told})
    assert found
    return found


def fault(**told: Any) -> Told:
    return {"typed_per_filter_config": {"envoy.filters.http.fault": told}}


# Matching


@pytest.mark.parametrize(
    ("match", "path", "fits"),
    [
        ({"prefix": "/api"}, "/api/x", True),
        ({"prefix": "/api"}, "/", False),
        ({"prefix": "/API", "case_sensitive": False}, "/api", True),
        ({"path": "/"}, "/", True),
        ({"path": "/"}, "/x", False),
        ({"path_separated_prefix": "/api"}, "/api", True),
        ({"path_separated_prefix": "/api"}, "/apix", False),
        ({"safe_regex": {"regex": "/.*"}}, "/x", True),
        ({"safe_regex": {"regex": r"/\pN("}}, "/1", False),
        ({}, "/", False),
        ({"prefix": "/", "grpc": {}}, "/", False),
        ({"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"exact": "1"}}]}, "/", False),
    ],
)
def test_a_route_takes_its_paths(match: Told, path: str, fits: bool) -> None:
    assert (chosen({**EVERY, "match": match}, path=path) is not None) == fits


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        ({"name": ":method", "string_match": {"exact": "GET"}}, True),
        ({"name": ":method", "string_match": {"exact": "POST"}}, False),
        ({"name": ":authority", "string_match": {"prefix": "cart."}}, True),
        ({"name": ":authority", "string_match": {"suffix": ".local"}}, True),
        ({"name": ":authority", "string_match": {"contains": "SHOP", "ignore_case": True}}, True),
        ({"name": ":path", "string_match": {"safe_regex": {"regex": "/.*"}}}, True),
        ({"name": "x-user", "string_match": {"exact": "jason"}}, False),
        ({"name": "x-user", "string_match": {"exact": "jason"}, "invert_match": True}, False),
        (
            {
                "name": "x-user",
                "string_match": {"exact": "jason"},
                "invert_match": True,
                "treat_missing_header_as_empty": True,
            },
            True,
        ),
        ({"name": "x-user", "present_match": True}, False),
        ({"name": "x-user", "present_match": True, "invert_match": True}, True),
        ({"name": "x-user", "present_match": False}, True),
    ],
)
def test_a_request_without_headers_fits_only_what_envoy_lets_fit(header: Told, fits: bool) -> None:
    assert (chosen({**EVERY, "match": {"prefix": "/", "headers": [header]}}) is not None) == fits


def test_routes_that_need_headers_are_passed_over_and_named() -> None:
    needs = {"match": {"prefix": "/", "headers": [{"name": "x-user", "string_match": {"exact": "jason"}}]}}
    found = chosen({**EVERY, **needs}, {**EVERY, "match": {"path": "/other"}}, EVERY)
    assert found
    assert found.passed_over == (f"not taken, as it needs header x-user: to {CART} (100 %)",)


@pytest.mark.parametrize(
    ("domains", "name", "catches_all"),
    [
        (["*", "*.svc.cluster.local", "*.shop.svc.cluster.local", "cart.shop.svc.cluster.local"], "3", False),
        (["*", "*.svc.cluster.local", "*.shop.svc.cluster.local"], "2", False),
        (["*", "other"], "allow_any", True),
        (["other"], None, False),
    ],
)
def test_the_nearest_host_has_the_routes(domains: list[str], name: str | None, catches_all: bool) -> None:
    hosts = [
        {"name": "allow_any" if domain == "*" else str(number), "domains": [domain]}
        for number, domain in enumerate(domains)
    ]
    found = virtual_host({"virtual_hosts": hosts}, REQUEST)
    assert (found.told["name"] if found else None) == name
    assert bool(found and found.catches_all) == catches_all


# What a route does


def test_each_target_has_its_share() -> None:
    weighted = [{"name": CART, "weight": 90}, {"name": "outbound|80|v2|x", "weight": 30}, {"name": "none"}]
    assert route({"route": {"weighted_clusters": {"clusters": weighted}}}).shares == {
        CART: 75.0,
        "outbound|80|v2|x": 25.0,
    }


def test_an_abort_has_its_share_and_status() -> None:
    found = route(fault(abort={"http_status": 503, "percentage": HUNDRED}))
    assert (found.aborted, found.abort) == (100.0, "503")
    found = route(fault(abort={"grpc_status": 14, "percentage": {"numerator": 5}}))
    assert (found.aborted, found.abort) == (5.0, "gRPC status 14")
    assert route(fault(abort={"http_status": 503, "percentage": {}})).aborted == 0
    assert route({}).aborted == 0


def test_what_else_a_route_does_is_noted() -> None:
    action = {
        "cluster": CART,
        "timeout": "3s",
        "retry_policy": {"num_retries": 3, "retry_on": "5xx", "per_try_timeout": "1s"},
        "request_mirror_policies": [
            {"cluster": "outbound|80||copy.shop", "runtime_fraction": {"default_value": {"numerator": 50}}}
        ],
        "prefix_rewrite": "/new",
    }
    delay = {"fixed_delay": "2s", "percentage": {"numerator": 10}}
    assert list(route({"route": action, **fault(delay=delay)}).notes) == [
        "10 % of the requests wait 2s (fault.delay)",
        "an answer must come within 3s",
        "up to 3 retries on 5xx, each within 1s",
        "a copy of 50 % goes to outbound|80||copy.shop, whose answers do not matter",
        "it is rewritten to /new",
    ]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"path_redirect": "/new"}, "301 to http://cart.shop.svc.cluster.local:80/new"),
        ({"host_redirect": "pay.shop:8080", "response_code": "FOUND"}, "302 to http://pay.shop:8080/"),
        ({"host_redirect": "pay.shop"}, "301 to http://pay.shop:80/"),
        ({"https_redirect": True}, "301 to https://cart.shop.svc.cluster.local:443/"),
        (
            {"port_redirect": 8443, "scheme_redirect": "https"},
            "301 to https://cart.shop.svc.cluster.local:8443/",
        ),
    ],
)
def test_a_redirect_has_an_address(told: Told, said: str) -> None:
    assert str(route({"redirect": told}).redirect) == said


def test_a_direct_answer_has_a_status_and_a_rule_its_name() -> None:
    found = route({"direct_response": {"status": 418}})
    assert (found.answer, found.rule) == (418, "shop/cart")
    assert VirtualHost({"routes": [EVERY, EVERY]}).rules == ["shop/cart"]
