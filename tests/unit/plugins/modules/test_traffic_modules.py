# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of traffic and of the demo's page, from their options to their result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeconfigs import run_module
from kubernetes_api import Object
from running_mesh import GATEWAY, RunningMesh

ISTIO = "/apis/networking.istio.io/v1/namespaces/shop"
ROUTE = f"{ISTIO}/virtualservices/cart"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = RunningMesh(tmp_path)
    yield mesh
    mesh.close()


def weights_in(mesh: RunningMesh, cluster: str) -> dict[str, int]:
    (*_rules, weighted) = mesh[cluster].api.objects[ROUTE]["spec"]["http"]
    return {entry["destination"]["subset"]: entry["weight"] for entry in weighted["route"]}


# Routes


def route(mesh: RunningMesh, cluster: str = "vie", **options: Any) -> Object:
    known = {"namespace": "shop", "service": "cart", "port": 80, "versions": ["v1", "v2"], "timeout": 2}
    kubeconfig = str(mesh[cluster].api.kubeconfig)
    return run_module("traffic_route", **{"kubeconfig": kubeconfig, **known, **options})


def test_a_route_is_made_kept_and_deleted(mesh: RunningMesh) -> None:
    foretold = route(mesh, check=True)
    assert ROUTE not in mesh["vie"].api.objects
    done = route(mesh)
    assert done["objects"] == foretold["objects"]
    assert done["weights"] == weights_in(mesh, "vie") == {"v1": 100, "v2": 0}
    assert not route(mesh)["changed"]
    assert route(mesh, state="absent", check=True)["changed"]
    assert route(mesh, state="absent")["changed"]
    assert not [path for path in mesh["vie"].api.objects if path.startswith(ISTIO)]
    assert not route(mesh, state="absent")["changed"]


def test_rules_mirror_and_weights_reach_the_route_and_weights_stay(mesh: RunningMesh) -> None:
    rules = [
        {"version": "v2", "headers": {"x-beta": "yes"}},
        {"version": "v2", "cookie": {"name": "group", "value": "b"}},
    ]
    route(mesh, weights={"v1": 80, "v2": 20}, rules=rules, mirror={"version": "v2", "percent": 5})
    assert weights_in(mesh, "vie") == {"v1": 80, "v2": 20}
    spec = mesh["vie"].api.objects[ROUTE]["spec"]
    assert len(spec["http"]) == 3
    assert spec["http"][-1]["mirrors"][0]["percentage"] == {"value": 5}
    assert route(mesh)["weights"] == {"v1": 80, "v2": 20}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"weights": {"v1": 120}}, "weights_invalid"),
        ({"form": "gateway-api"}, "no_gateway_api"),
        ({"kubeconfig": "/nonexistent"}, "kubeconfig_missing"),
    ],
)
def test_a_route_that_cannot_be_is_refused(mesh: RunningMesh, options: Object, code: str) -> None:
    assert route(mesh, **options)["failure"]["code"] == code
    assert ROUTE not in mesh["vie"].api.objects


def test_a_route_of_somebody_else_is_left(mesh: RunningMesh) -> None:
    theirs = {
        "kind": "VirtualService",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"http": []},
    }
    mesh["vie"].api.put(ROUTE, theirs)
    assert route(mesh)["failure"]["code"] == "foreign_object"
    assert mesh["vie"].api.objects[ROUTE]["spec"] == {"http": []}


def test_a_route_for_a_cluster_that_is_still_to_come(mesh: RunningMesh) -> None:
    assert route(mesh, kubeconfig="/nonexistent", check=True)["changed"]
    assert not route(mesh, kubeconfig="/nonexistent", state="absent", check=True)["changed"]


# Shifts


@pytest.fixture
def shop(mesh: RunningMesh) -> RunningMesh:
    for cluster in mesh.clusters:
        route(mesh, cluster)
    return mesh


def shift(mesh: RunningMesh, **options: Any) -> Object:
    known = {"namespace": "shop", "name": "cart", "stable": "v1", "canary": "v2", "steps": [100]}
    return mesh.run("traffic_shift", **{**known, "requests": 10, "seconds": 1, "settle": 1, **options})


def served(mesh: RunningMesh) -> str:
    """The version that the route names now, as its page says it."""
    weights = weights_in(mesh, "vie")
    return f"VERSION: {max(weights, key=lambda version: weights[version])}"


class Pages(dict[str, bytes]):
    """What the shop shows at every moment."""

    def __init__(self, mesh: RunningMesh) -> None:
        super().__init__({"/": b""})
        self._mesh = mesh

    def __getitem__(self, path: str) -> bytes:
        return served(self._mesh).encode()


def test_all_requests_go_to_the_canary_in_every_cluster(shop: RunningMesh) -> None:
    result = shift(shop, urls=[f"{shop['vie'].api.serve(Pages(shop))}/"])
    assert result.get("changed"), result
    assert weights_in(shop, "vie") == weights_in(shop, "fra") == {"v1": 0, "v2": 100}
    assert result["checks"][-1]["versions"] == {"v2": 10}
    again = shift(shop, urls=["http://127.0.0.1:9/"])
    assert not again["changed"]
    assert "nothing is left to do" in again["report"][0]


def test_check_mode_tells_the_steps_and_moves_nothing(shop: RunningMesh) -> None:
    result = shift(shop, check=True, steps=[10, 50])
    assert (result["changed"], result["steps"], result["checks"]) == (True, [10, 50], [])
    assert weights_in(shop, "vie") == {"v1": 100, "v2": 0}


def test_requests_that_fail_give_the_weights_back(shop: RunningMesh) -> None:
    result = shift(shop, urls=["http://127.0.0.1:9/"])
    assert result["failed"]
    assert result["report"]
    assert weights_in(shop, "vie") == {"v1": 100, "v2": 0}


def test_a_pod_of_the_mesh_may_ask(shop: RunningMesh) -> None:
    answer = "{}\n@@exomesh 200 \n"
    shop["vie"].api.run_command = lambda _pod, _command: ([answer.format(served(shop))] * 10, 0)
    result = shift(shop, client_cluster="vie", urls=["http://cart/"])
    assert result.get("checks"), result
    assert result["checks"][-1]["sent"] == 10
    assert "/api/v1/namespaces/shop/pods/exomesh-shift-client" not in shop["vie"].api.objects


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": [50, 10]}, "steps must rise"),
        ({"requests": 0}, "requests and seconds must be 1 or more"),
        ({"client_cluster": "vie"}, "client_cluster needs urls"),
        ({"client_cluster": "gva", "urls": ["http://cart/"]}, "client_cluster names gva"),
        ({"pattern": "("}, "pattern is no regular expression"),
        ({"urls": []}, "No member has an ingress gateway istio-ingress/istio-ingressgateway"),
        ({"name": "till", "urls": ["http://127.0.0.1:9/"]}, "till"),
    ],
)
def test_a_shift_that_cannot_be_is_refused(shop: RunningMesh, options: Object, said: str) -> None:
    result = shift(shop, **options)
    assert result["failed"]
    assert said in result["msg"]
    assert weights_in(shop, "vie") == {"v1": 100, "v2": 0}


# The demo's page


def page(mesh: RunningMesh, **options: Any) -> Object:
    known = {"namespace": "shop", "labels": "app=web", "url": "http://web/", "timeout": 1}
    return run_module("page_info", kubeconfig=str(mesh["vie"].api.kubeconfig), **{**known, **options})


def test_the_page_comes_line_by_line(mesh: RunningMesh) -> None:
    mesh["vie"].api.run_command = lambda _pod, command: ([f"asked {command[-1]}\n", "bye\n"], 0)
    assert page(mesh) == {
        **page(mesh),
        "changed": False,
        "pod": "web-1",
        "page": ["asked http://web/", "bye"],
    }
    assert "page" not in page(mesh, check=True)


@pytest.mark.usefixtures("impatient")
def test_a_policy_that_refuses_the_page_is_not_waited_for(mesh: RunningMesh) -> None:
    mesh["vie"].api.run_command = lambda _pod, _command: (["RBAC: access denied"], 22)
    failure = page(mesh, timeout=60)["failure"]
    assert "An AuthorizationPolicy refuses the request" in failure["cause"]
    assert "kubectl get authorizationpolicies -A" in failure["next_step"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "curl ended with 7"),
        ({"labels": "app=none"}, "no pod with app=none in namespace shop is ready"),
    ],
)
def test_without_a_page_it_says_why(mesh: RunningMesh, options: Object, said: str) -> None:
    mesh["vie"].api.run_command = lambda _pod, _command: ([], 7)
    failure = page(mesh, **options)["failure"]
    assert (failure["code"], failure["cluster"]) == ("no_page", "vie")
    assert said in failure["cause"]


# Diagnosis


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "gva", "service": "cart.shop"}, "source names gva"),
        ({"source": "", "service": "cart.shop"}, "source names nothing"),
        ({"source": "vie", "destination": "gva", "service": "cart.shop"}, "destination names gva"),
        ({"source": "vie", "service": "cart.shop"}, "cart"),
    ],
)
def test_a_way_that_there_is_not_cannot_be_walked(mesh: RunningMesh, options: Object, said: str) -> None:
    result = mesh.run("mesh_diagnose", **options)
    assert result["failed"]
    assert said in result["msg"]


def test_a_way_stops_where_the_proxy_was_told_nothing(mesh: RunningMesh) -> None:
    dumps = (
        "listeners",
        "route_configs",
        "active_clusters",
        "endpoint_configs&include_eds",
        "active_secrets",
    )
    pages = {f"/config_dump?resource=dynamic_{dump}": {"configs": []} for dump in dumps}
    pages["/clusters?format=json"] = {"cluster_statuses": []}
    for cluster in mesh.clusters.values():
        cluster.put("Service", "cart", {}, "shop", spec={"ports": [{"port": 80}], "selector": {"app": "web"}})
        for pod in ("web-1", GATEWAY):
            cluster.api.listen(pod, 15000, pages)
    result = mesh.run("mesh_diagnose", source="vie", service="cart.shop:80", destination="fra")
    assert (result["pod"], result["destination"]) == ("shop/web-1", "fra")
    assert result["stops_at"]
    states = {step["name"]: step["state"] for step in result["steps"]}
    assert states[result["stops_at"]] == "stop"
    assert any(result["stops_at"] in line for line in result["report"])
    mesh["vie"].api.listen("web-1", 15000, dict.fromkeys(pages, b"no JSON"))
    silent = mesh.run("mesh_diagnose", source="vie", service="cart.shop:80", destination="fra")
    assert silent["failure"]["code"] == "proxy_silent"


def test_a_real_request_is_only_sent_where_it_may(mesh: RunningMesh) -> None:
    dumps = (
        "listeners",
        "route_configs",
        "active_clusters",
        "endpoint_configs&include_eds",
        "active_secrets",
    )
    pages = {f"/config_dump?resource=dynamic_{dump}": {"configs": []} for dump in dumps}
    pages["/clusters?format=json"] = {"cluster_statuses": []}
    commands: list[list[str]] = []

    def answers(_pod: str, command: list[str]) -> tuple[list[str], int]:
        commands.append(command)
        return ["HTTP/1.1 503 Service Unavailable\r\n\r\nno healthy upstream"], 0

    for cluster in mesh.clusters.values():
        cluster.put("Service", "cart", {}, "shop", spec={"ports": [{"port": 80}], "selector": {"app": "web"}})
        cluster.api.run_command = answers
        for pod in ("web-1", GATEWAY):
            cluster.api.listen(pod, 15000, pages)
    way = {"source": "vie", "service": "cart.shop:80", "destination": "fra"}
    told = mesh.run("mesh_diagnose", **way, check=True)["request"]
    assert told == {"made": False, "why_not": "check mode", "status": 0, "text": "", "agrees": None}
    told = mesh.run("mesh_diagnose", **way, request=False)["request"]
    assert told["why_not"] == "it was switched off"
    assert not commands
    told = mesh.run("mesh_diagnose", **way)["request"]
    assert told["status"] == 503
    assert told["text"] == "no healthy upstream"
    assert told["agrees"]
    (command,) = commands
    assert command[-1] == "http://cart.shop.svc.cluster.local:80/"
