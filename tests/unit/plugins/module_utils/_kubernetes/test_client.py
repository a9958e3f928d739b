# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes client, and applying objects, against a small API of real HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import wait_until_met
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import api as api_requests
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ApiError, ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.objects import (
    ObjectChange,
    apply_patiently,
    compare_all,
    flatten,
    render_diff,
    summarise,
)
from kubernetes_api import ApiServer, Object, status

CONFIG_MAP = "/api/v1/namespaces/demo/configmaps/page"


def compare(client: KubernetesClient, obj: Object, field_manager: str) -> ObjectChange:
    (change,) = compare_all(client, [obj], field_manager)
    return change


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


def test_wait_gives_what_was_missing_at_last() -> None:
    answers = iter(["first", "second"])
    assert wait_until_met(lambda: next(answers, "last"), timeout=0.05, interval=0.01) == "last"
    assert wait_until_met(lambda: None, timeout=0) is None


def test_an_answer_without_end_does_not_fill_the_memory(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_requests, "LARGEST_ANSWER", 1000)
    api.failures["GET", "/version"] = [(200, {"gitVersion": "v" * 2000})]
    client = KubernetesClient(str(api.kubeconfig))
    with pytest.raises(ApiError, match="more than"):
        client.version()
    assert client.version() == "v1.36.3"
