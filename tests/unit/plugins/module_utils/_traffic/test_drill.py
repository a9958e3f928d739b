# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill takes away and gives back; that requests move is tested on the lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.drill import (
    REPLICAS_ANNOTATION,
    Drill,
    Figures,
    Limits,
    Service,
    drain,
    left_behind,
    restore,
    targets,
)
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.requests import Answer, MeshClient
from ansible_collections.exomesh.istio.plugins.modules.failover_drill import check_confirmed
from kubernetes_api import ApiServer, Object

DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments/{}"
CART = Service("shop", "cart", 80)
GATEWAY = "istio-system/istio-eastwestgateway"


def a_deployment(namespace: str, name: str, replicas: int, labels: dict[str, str] | None = None) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"app": name.partition("-")[0]}}}},
        "status": {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas},
    }


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    api = ApiServer(tmp_path, "vie")
    ours = {"app.kubernetes.io/managed-by": "exomesh.istio"}
    for namespace, name, replicas, labels in (
        ("shop", "cart-v1", 3, ours),
        ("shop", "cart-v2", 0, ours),
        ("shop", "till-v1", 1, ours),
        ("istio-system", "istio-eastwestgateway", 2, {}),
    ):
        api.put(DEPLOYMENTS.format(namespace, name), a_deployment(namespace, name, replicas, labels))
    service = {"metadata": {"name": "cart"}, "spec": {"selector": {"app": "cart"}}}
    api.put("/api/v1/namespaces/shop/services/cart", service)
    yield api
    api.close()


def client_of(api: ApiServer) -> KubernetesClient:
    return KubernetesClient(str(api.kubeconfig), name=api.name)


def replicas(api: ApiServer) -> dict[str, int]:
    return {
        path.rsplit("/", 1)[1]: obj["spec"]["replicas"]
        for path, obj in api.objects.items()
        if "deploy" in path
    }


def test_what_is_behind_the_service_is_drained_and_given_back(api: ApiServer) -> None:
    client, before = client_of(api), replicas(api)
    refs = [ObjectRef.of(obj) for obj in targets(client, CART, [GATEWAY])]
    assert [ref.name for ref in refs] == ["cart-v1", "istio-eastwestgateway"]
    drain(client, refs)
    assert replicas(api) == {"cart-v1": 0, "cart-v2": 0, "till-v1": 1, "istio-eastwestgateway": 0}
    drain(client, refs)  # as after a kill: what was remembered stays
    assert sorted(ref.name for ref in left_behind(client)) == ["cart-v1", "istio-eastwestgateway"]
    assert len(restore(client, 5)) == 2
    assert replicas(api) == before
    assert left_behind(client) == []


def test_replicas_that_somebody_else_gave_back_stay(api: ApiServer) -> None:
    client, path = client_of(api), DEPLOYMENTS.format("shop", "cart-v1")
    drain(client, [ObjectRef("apps/v1", "Deployment", "cart-v1", "shop")])
    live = api.objects[path]
    live["spec"]["replicas"] = live["status"]["availableReplicas"] = 1
    live["status"] |= {"replicas": 1, "updatedReplicas": 1}
    restore(client, 5)
    assert api.objects[path]["spec"]["replicas"] == 1
    assert REPLICAS_ANNOTATION not in api.objects[path]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("service", "gateways", "said"),
    [
        (Service("shop", "none", 80), [], "No Deployment with pods is behind service shop/none"),
        (CART, ["istio-system/other"], "There is no gateway istio-system/other"),
    ],
)
def test_nothing_to_drain_is_told(api: ApiServer, service: Service, gateways: list[str], said: str) -> None:
    with pytest.raises(ExomeshError, match=said):
        targets(client_of(api), service, gateways)


def test_only_the_demos_own_workload_needs_no_confirmation(api: ApiServer) -> None:
    own, all_of_it = targets(client_of(api), CART, []), targets(client_of(api), CART, [GATEWAY])
    check_confirmed("vie", None, own)
    check_confirmed("vie", "vie", all_of_it)
    with pytest.raises(
        ExomeshError, match=r"istio-eastwestgateway to 0 for a while.*failover_drill_confirm=vie"
    ):
        check_confirmed("vie", "fra", all_of_it)


def test_figures_are_told_in_a_line() -> None:
    moved = Figures("vie", ["vie"], ["fra"], 100, 2, ["2 x status 503"], 0.51, 1.2, 4.0)
    assert moved.line() == (
        "asked from vie: answered by vie, drained by fra; 100 requests, 2 failed (2 x status 503); "
        "first answer from elsewhere after 0.5 s, stable after 1.2 s, back after 4.0 s"
    )
    lost = Figures("vie", ["vie"], [], 100, 100, ["100 x status 503"])
    assert "drained by nobody" in lost.line()
    assert "stable after never" in lost.line()
    assert Figures("fra", ["fra"], ["fra"], 90).line().endswith("90 requests, 0 failed")


def a_drill(api: ApiServer) -> Drill:
    limits = Limits(within=1, hold=1, ready=0.2, per_second=10)
    refs = [ObjectRef("apps/v1", "Deployment", "cart-v1", "shop")]
    return Drill({"vie": client_of(api)}, "vie", refs, CART, "curl:1", limits)


def test_a_drill_that_drained_nothing_reports_nothing_drained(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    drill = a_drill(api)
    monkeypatch.setattr(MeshClient, "start", lambda *_: None)
    monkeypatch.setattr(MeshClient, "ask", lambda *_: iter([Answer(503, "", 0.1)]))
    with pytest.raises(ExomeshError, match="Nothing was drained"):
        drill.run()
    assert drill.report() == []
    assert replicas(api)["cart-v1"] == 3
    drill.drained = True
    assert drill.report() == ["drained in vie: Deployment shop/cart-v1"]


def test_a_policy_that_refuses_the_requests_is_named_as_such(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MeshClient, "start", lambda *_: None)
    monkeypatch.setattr(MeshClient, "ask", lambda *_: iter([Answer(403, "RBAC: access denied", 0.1)] * 10))
    with pytest.raises(ExomeshError, match="RBAC: access denied") as caught:
        a_drill(api).run()
    assert "AuthorizationPolicy" in str(caught.value.cause)
    assert "kubectl get authorizationpolicies -A" in str(caught.value.next_step)
