# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests from inside a cluster: what the pod is given, what its log says, what is left of it.

That a real pod does what is wanted is shown on the lab.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._istio.probe import (
    Answer,
    Target,
    curl_config,
    probe,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubernetes_api import ApiServer, status

GOOD = "exomesh-answer 0 200 0.012 0 \n"
API = Target("fra", "https://fra.example:6443/version", b"the CA")
IMAGE = "curl:1"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, "vie")
    yield server
    server.close()


def ask(cluster: ApiServer, *targets: Target) -> list[Answer]:
    return probe(KubernetesClient(str(cluster.kubeconfig), name="vie"), targets, IMAGE, 0)


def test_answers_are_those_of_each_target(cluster: ApiServer) -> None:
    cluster.pod_log = (
        "exomesh-answer 1 000 0.003 60 SSL: no alternative certificate subject name\n"
        "exomesh-answer 0 401 0.012 0 \n"
    )
    assert ask(cluster, API, Target("muc", "https://muc/"), Target("sof", "https://sof/")) == [
        Answer("fra", 401, None, 0.012),
        Answer("muc", None, "SSL: no alternative certificate subject name", 0.003),
        Answer("sof", None, "curl gave no answer in time", 0.0),
    ]


def test_nothing_is_left_and_addresses_are_in_no_argument(cluster: ApiServer) -> None:
    seen: dict[str, str] = {}
    put = cluster.put

    def remember(path: str, obj: dict[str, object]) -> dict[str, object]:
        seen[str(obj["kind"])] = json.dumps(obj)
        return put(path, obj)

    cluster.put = remember  # type: ignore[method-assign]
    cluster.pod_log = GOOD
    ask(cluster, API)
    assert cluster.objects == {}
    assert "fra.example" in base64.b64decode(json.loads(seen["Secret"])["data"]["curl.conf"]).decode()
    assert "fra.example" not in seen["Pod"]


def test_a_pod_that_does_not_run_is_an_error_with_the_reason(cluster: ApiServer) -> None:
    cluster.pod_log = "curl: not found"
    with pytest.raises(ExomeshError, match=r"cluster vie: .*curl: not found.* image curl:1") as caught:
        ask(cluster, API)
    assert caught.value.code == "probe_failed"
    assert cluster.objects == {}


@pytest.mark.parametrize(
    "pod_log", ["exomesh-answer 0 200 0.012 0 \n", "curl: not found"], ids=["good", "bad"]
)
@pytest.mark.parametrize("kinds", [("Pod",), ("Secret",), ("Pod", "Secret")])
def test_each_is_deleted_and_what_cannot_be_is_told_with_the_command(
    cluster: ApiServer, kinds: tuple[str, ...], pod_log: str
) -> None:
    cluster.pod_log = pod_log
    answer = cluster.answer
    cluster.answer = lambda method, url, body: (  # type: ignore[method-assign]
        status(403, "Forbidden")
        if method == "DELETE" and url.split("/")[5] in [f"{kind.lower()}s" for kind in kinds]
        else answer(method, url, body)
    )
    with pytest.raises(ExomeshError) as caught:
        ask(cluster, API)
    assert sorted(str(obj["kind"]) for obj in cluster.objects.values()) == sorted(kinds)
    for path in cluster.objects:
        kind, name = path.split("/")[-2:]
        assert f"kubectl -n default delete {kind[:-1]} {name}" in str(caught.value)
    assert caught.value.code == ("left_behind" if "answer" in pod_log else "probe_failed")


def left(cluster: ApiServer, kind: str, namespace: str, name: str, age: float, **fields: Any) -> str:
    """What another run made so many seconds ago."""
    path = f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{name}"
    made = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    labels = {"exomesh.istio/probe": "true", "app.kubernetes.io/managed-by": "exomesh.istio"}
    metadata = {"name": name, "namespace": namespace, "labels": labels, "creationTimestamp": made}
    cluster.put(path, {"kind": kind, "metadata": metadata, **fields})
    return path


@pytest.mark.parametrize("namespace", ["default", "istio-system"])
def test_what_other_runs_left_is_removed_soon_and_what_they_use_is_not(
    cluster: ApiServer, namespace: str
) -> None:
    cluster.pod_log = GOOD
    running: dict[str, Any] = {"spec": {"activeDeadlineSeconds": 300}, "status": {"phase": "Running"}}
    ended: dict[str, Any] = {"spec": {"activeDeadlineSeconds": 300}, "status": {"phase": "Failed"}}
    kept = {
        left(cluster, "Secret", namespace, "just-made", 20),
        left(cluster, "Secret", namespace, "used", 200),
        left(cluster, "Pod", namespace, "used", 200, **running),
        left(cluster, "Pod", namespace, "just-ended", 20, **ended),
        left(cluster, "Secret", namespace, "just-ended", 20),
    }
    left(cluster, "Secret", namespace, "alone", 90)
    left(cluster, "Secret", namespace, "over", 90)
    left(cluster, "Pod", namespace, "over", 90, **ended)
    left(cluster, "Secret", namespace, "lost", 400)
    left(cluster, "Pod", namespace, "lost", 400, **running)
    ask(cluster, API)
    assert set(cluster.objects) == kept


def test_what_cannot_be_swept_does_not_stand_in_the_way(cluster: ApiServer) -> None:
    cluster.pod_log = GOOD
    path = left(cluster, "Secret", "default", "alone", 90)
    cluster.failures[("DELETE", path)] = [status(403, "Forbidden")]
    assert ask(cluster, API)[0].status == 200


def test_the_pod_ends_by_itself(cluster: ApiServer) -> None:
    pods: list[dict[str, Any]] = []
    cluster.run_pod = lambda pod: pods.append(pod) or pod.update({"status": {"phase": "Succeeded"}})  # type: ignore[func-returns-value]
    cluster.pod_log = GOOD
    probe(KubernetesClient(str(cluster.kubeconfig), name="vie"), [API], IMAGE, 12.5)
    assert pods[0]["spec"]["activeDeadlineSeconds"] == 13
    assert pods[0]["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize(
    "image",
    [
        "",
        " curl",
        "curl:",
        "Curl:1",
        "curl@sha256:abc",
        f"curl@md5:{'0a' * 16}",
        f"curl@sha256:{'0A' * 32}",
        f"curl@sha256:{'0a' * 32}0",
        "https://registry.example/curl",
        "curl:1 --privileged",
        "curl:1\n",
        "a//b",
        f"curl:{'x' * 129}",
    ],
)
def test_what_is_no_image_is_refused_before_anything_is_made(cluster: ApiServer, image: str) -> None:
    with pytest.raises(ExomeshError) as caught:
        probe(KubernetesClient(str(cluster.kubeconfig), name="vie"), [API], image, 0)
    assert caught.value.code == "image_invalid"
    assert not [request for request in cluster.requests if request.startswith("POST")]


def test_curl_is_told_what_to_trust_and_what_to_send() -> None:
    plain, named = Target("muc", "https://muc:15443/"), Target("sof", "https://10.0.0.1/x", None, "k8s")
    first, second, third = curl_config([API, plain, named], "mark").split("next\n")
    assert 'cacert = "/etc/exomesh-probe/ca-0.pem"' in first
    assert "header" not in first
    assert "insecure" not in first
    assert "insecure\n" in second
    assert 'url = "https://k8s:443/x"' in third
    assert 'connect-to = "k8s:443:10.0.0.1:443"' in third


def test_quotes_cannot_break_out_of_an_option() -> None:
    config = curl_config([Target("x", 'https://x/a"\nurl = "https://evil/')], "mark")
    assert len([line for line in config.splitlines() if line.startswith("url")]) == 1
