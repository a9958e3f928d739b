# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps Deployments and pods from being ready."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.readiness import (
    deployment_unmet,
    explain_deployment,
    explain_pod,
    pod_unmet,
    wait_ready,
)
from kubernetes_api import ApiServer, Object


@pytest.mark.parametrize(
    ("state", "missing"),
    [
        ({"observedGeneration": 1}, "not yet taken up"),
        ({"observedGeneration": 2}, "0 of 2 replicas are of the newest form"),
        ({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3}, "1 replicas of the old form"),
        (
            {"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 1},
            "1 of 2 replicas are available",
        ),
    ],
)
def test_deployment_that_is_not_ready(state: Object, missing: str) -> None:
    found = deployment_unmet({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": state})
    assert missing in str(found)


def test_deployment_that_is_ready() -> None:
    state = {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}
    assert deployment_unmet({"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": state}) is None
    assert deployment_unmet(None) == "it does not exist"


def test_pod_says_which_container_waits_also_among_init_containers() -> None:
    waiting = {
        "name": "istio-proxy",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}},
    }
    pod: Object = {"status": {"phase": "Pending", "initContainerStatuses": [waiting]}}
    assert pod_unmet(pod) == "container istio-proxy waits: ImagePullBackOff: no such tag"
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "no nodes",
    }
    assert pod_unmet({"status": {"conditions": [unscheduled]}}) == (
        "condition PodScheduled is False: Unschedulable: no nodes"
    )
    assert pod_unmet({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}) is None


QUOTA = 'pods "web-2" is forbidden: exceeded quota: team, requested: pods=1, used: pods=1, limited: pods=1'
DEPLOYMENT: Object = {
    "metadata": {"name": "web", "namespace": "shop", "generation": 2},
    "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}},
    "status": {
        "observedGeneration": 2,
        "updatedReplicas": 0,
        "replicas": 1,
        "availableReplicas": 1,
        "conditions": [{"type": "ReplicaFailure", "status": "True", "message": QUOTA}],
    },
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, "fra")
    yield server
    server.close()


def put_pod(api: ApiServer, container: Object) -> None:
    metadata = {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}}
    status = {"phase": "Running", "containerStatuses": [{"name": "web", "ready": False, **container}]}
    api.put("/api/v1/namespaces/shop/pods/web-1", {"metadata": metadata, "status": status})


@pytest.mark.usefixtures("impatient")
def test_a_rollout_that_the_cluster_refuses_is_told_at_once_though_the_old_pod_lives(api: ApiServer) -> None:
    api.put("/apis/apps/v1/namespaces/shop/deployments/web", DEPLOYMENT)
    started = time.monotonic()
    with pytest.raises(ExomeshError) as caught:
        wait_ready(
            KubernetesClient(str(api.kubeconfig)), [ObjectRef("apps/v1", "Deployment", "web", "shop")], 60
        )
    assert time.monotonic() - started < 20
    assert "0 of 1 replicas are of the newest form" in str(caught.value.cause)
    assert "kubectl -n shop describe resourcequota team" in str(caught.value.next_step)


def test_a_container_that_ends_again_and_again_is_explained_by_its_last_complaint(api: ApiServer) -> None:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    put_pod(api, {"state": {"waiting": waiting}, "restartCount": 3})
    api.put("/apis/apps/v1/namespaces/shop/deployments/web", {**DEPLOYMENT, "status": {}})
    client = KubernetesClient(str(api.kubeconfig))
    asked: list[bool] = []

    def logs(_namespace: str, _pod: str, _container: str, _tail: int, previous: bool) -> str:
        asked.append(previous)
        return "info\n2026-01-01T00:00:00Z\terror\tcannot open /etc/key\n"

    client.logs = logs  # type: ignore[method-assign,assignment]
    unready = explain_deployment(client, "shop", "web")
    assert asked == [True]
    assert "CrashLoopBackOff" in unready.told
    assert unready.cause
    assert "cannot open /etc/key" in unready.cause.told
    assert str(unready.next_step).startswith("kubectl -n shop logs web-1 -c web --previous; ")


def put_pods(api: ApiServer, number: int, phase: str) -> None:
    for each in range(number):
        metadata = {"name": f"web-{each}", "namespace": "shop", "labels": {"app": "web"}}
        api.put(
            f"/api/v1/namespaces/shop/pods/web-{each}", {"metadata": metadata, "status": {"phase": phase}}
        )


def explained(api: ApiServer, monkeypatch: pytest.MonkeyPatch, **selector: object) -> list[str]:
    """The pods of which Events are read to explain a Deployment with this selector."""
    spec = {"replicas": 1, "selector": selector or {"matchLabels": {"app": "web"}}}
    api.put("/apis/apps/v1/namespaces/shop/deployments/web", {**DEPLOYMENT, "spec": spec, "status": {}})
    client = KubernetesClient(str(api.kubeconfig))
    asked: list[str] = []

    def events(kind: str, _namespace: str, name: str, *_more: object) -> list[str]:
        asked.extend([name] if kind == "Pod" else [])
        return []

    monkeypatch.setattr(client, "events", events)
    assert "Deployment shop/web: " in explain_deployment(client, "shop", "web").told
    return asked


def test_only_a_few_pods_are_asked_why_a_deployment_is_not_ready(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_pods(api, 9, "Pending")
    assert len(explained(api, monkeypatch)) == 3


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_pods_that_ended_are_not_asked(api: ApiServer, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    put_pods(api, 9, phase)
    assert explained(api, monkeypatch) == []


@pytest.mark.parametrize(("values", "number"), [(["web", "shop"], 1), (["other"], 0)])
def test_a_deployment_may_select_by_expressions_only(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, values: list[str], number: int
) -> None:
    put_pods(api, 1, "Pending")
    expression = {"key": "app", "operator": "In", "values": values}
    assert len(explained(api, monkeypatch, matchExpressions=[expression])) == number


def test_an_istiod_that_cannot_list_a_kind_is_told_as_that(api: ApiServer) -> None:
    put_pod(api, {"state": {"running": {}}, "restartCount": 0})
    client = KubernetesClient(str(api.kubeconfig))
    said = (
        "error\tklog\tfailed to list *v1.Gateway: the server could not find the requested resource (get "
        "gateways.gateway.networking.k8s.io)"
    )
    client.logs = lambda *_arguments: f"2026-01-01T00:00:00Z\t{said}\n"  # type: ignore[method-assign]
    pod = client.get(ObjectRef("v1", "Pod", "web-1", "shop"))
    assert pod
    cause = explain_pod(client, pod).cause
    assert cause
    assert "Its API serves no version" in cause.told
    assert "kubectl get crd" in cause.command
