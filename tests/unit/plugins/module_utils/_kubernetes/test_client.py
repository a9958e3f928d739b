# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes client, applying objects, and waits, against a small API of real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import wait_until_met
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import api as api_requests
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ApiError, ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.load_balancer import (
    likely_cause,
    service_addresses,
    wait_for_addresses,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.objects import (
    ObjectChange,
    apply_patiently,
    compare_all,
    flatten,
    render_diff,
    summarise,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.readiness import (
    deployment_unmet,
    pod_unmet,
)
from kubernetes_api import ApiServer, Object, status

CONFIG_MAP = "/api/v1/namespaces/demo/configmaps/page"
SERVICE = "/api/v1/namespaces/istio-system/services/gateway"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, "vie")
    yield server
    server.close()


def compare(client: KubernetesClient, obj: Object, field_manager: str) -> ObjectChange:
    (change,) = compare_all(client, [obj], field_manager)
    return change


@pytest.fixture
def client(api: ApiServer) -> KubernetesClient:
    return KubernetesClient(str(api.kubeconfig))


def config_map(**data: str) -> Object:
    metadata = {"name": "page", "namespace": "demo"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def test_new_object_is_predicted_without_a_dry_run(client: KubernetesClient, api: ApiServer) -> None:
    change = compare(client, config_map(a="1"), "me")
    assert (change.action, str(change.ref)) == ("create", "ConfigMap demo/page")
    assert not [request for request in api.requests if request.startswith("PATCH")]


def test_object_of_an_unknown_kind_is_predicted_too(client: KubernetesClient) -> None:
    telemetry = {
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "g", "namespace": "n"},
    }
    api_error = "has no kind Telemetry of telemetry.istio.io/v1"
    assert compare(client, telemetry, "me").action == "create"
    with pytest.raises(ApiError, match=api_error):
        client.apply(telemetry)


def test_only_fields_that_differ_are_told(client: KubernetesClient, api: ApiServer) -> None:
    api.put(CONFIG_MAP, {**config_map(a="1", b="2"), "status": {"any": "thing"}})
    change = compare(client, config_map(a="1", b="3"), "me")
    assert (change.action, change.before, change.after) == ("change", {"data.b": "2"}, {"data.b": "3"})
    assert compare(client, config_map(a="1"), "me").action == "unchanged"
    assert api.objects[CONFIG_MAP]["data"]["b"] == "2"


def test_secrets_are_shown_as_hashes(client: KubernetesClient, api: ApiServer) -> None:
    path = "/api/v1/namespaces/demo/secrets/s"
    secret: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "demo"},
        "data": {"key": "b2xk"},
    }
    api.put(path, secret)
    change = compare(client, {**secret, "data": {"key": "bmV3"}}, "me")
    assert change.action == "change"
    assert str(change.before["data.key"]).startswith("sha256:")
    assert "b2xk" not in str(render_diff([change]))
    assert "bmV3" not in str(render_diff([change]))


def test_apply_waits_for_a_webhook_that_starts(client: KubernetesClient, api: ApiServer) -> None:
    starting = status(500, "InternalError", 'failed calling webhook "v": connection refused')
    api.failures[("PATCH", CONFIG_MAP)] = [starting, starting]
    apply_patiently(client, config_map(a="1"), "me", timeout=10)
    assert CONFIG_MAP in api.objects


def test_apply_does_not_wait_for_what_will_not_change(client: KubernetesClient, api: ApiServer) -> None:
    api.failures[("PATCH", CONFIG_MAP)] = [status(403, "Forbidden", "not allowed")]
    with pytest.raises(ApiError, match=r"PATCH .* failed: not allowed.*system:masters") as caught:
        apply_patiently(client, config_map(a="1"), "me", timeout=10)
    assert caught.value.failure()["details"] == {"status": 403, "reason": "Forbidden"}


def test_unreachable_api_is_named(client: KubernetesClient, api: ApiServer) -> None:
    api.close()
    with pytest.raises(
        ExomeshError, match=r"cluster vie: The API server http://127.0.0.1:\d+ does not answer"
    ) as caught:
        client.get(ObjectRef("v1", "ConfigMap", "page", "demo"))
    assert caught.value.code == "cluster_unreachable"


def test_answer_that_is_not_kubernetes_is_told(client: KubernetesClient, api: ApiServer) -> None:
    api.failures[("GET", "/version")] = [(200, "<html>a portal</html>")]
    with pytest.raises(ApiError, match="not Kubernetes: <html>a portal"):
        client.version()


def test_ambient_kubeconfig_is_not_used(
    tmp_path: Path, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    with pytest.raises(ExomeshError, match="cannot be read") as caught:
        KubernetesClient(str(tmp_path / "none"))
    assert caught.value.code == "kubeconfig_missing"
    (tmp_path / "bad").write_text("- no\n- kubeconfig\n")
    with pytest.raises(ExomeshError) as caught:
        KubernetesClient(str(tmp_path / "bad"))
    assert caught.value.code == "kubeconfig_invalid"


def test_list_items_are_called_by_their_names() -> None:
    tree = {"c": [{"name": "x", "v": 1}, {"name": "y", "v": 2}], "p": [1, 2], "e": [], "a.b": {"l/m": 1}}
    assert flatten(tree) == {
        "c[x].name": "x",
        "c[x].v": 1,
        "c[y].name": "y",
        "c[y].v": 2,
        "p[0]": 1,
        "p[1]": 2,
        "e": [],
        "['a.b'].l/m": 1,
    }


def test_diff_names_what_comes_and_goes() -> None:
    created, deleted = ObjectRef("v1", "Service", "new", "n"), ObjectRef("v1", "Namespace", "old")
    changes = [ObjectChange(created, "create", {}, {}), ObjectChange(deleted, "delete", {}, {})]
    assert render_diff(changes) == {"before": "Namespace old: deleted\n", "after": "Service n/new: created\n"}
    assert summarise(changes) == {
        "create": ["Service n/new"],
        "change": [],
        "delete": ["Namespace old"],
        "unchanged": [],
    }


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


def test_wait_gives_what_was_missing_at_last() -> None:
    answers = iter(["first", "second"])
    assert wait_until_met(lambda: next(answers, "last"), timeout=0.05, interval=0.01) == "last"
    assert wait_until_met(lambda: None, timeout=0) is None


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


def test_an_answer_without_end_does_not_fill_the_memory(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_requests, "LARGEST_ANSWER", 1000)
    api.failures["GET", "/version"] = [(200, {"gitVersion": "v" * 2000})]
    client = KubernetesClient(str(api.kubeconfig))
    with pytest.raises(ApiError, match="more than"):
        client.version()
    assert client.version() == "v1.36.3"
