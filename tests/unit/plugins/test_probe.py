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
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._probe import (
    Answer,
    Target,
    curl_config,
    probe,
)
from kubernetes_api import ApiServer

API = Target("fra", "https://fra.example:6443/version", b"the CA", "the-token")
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


def test_nothing_is_left_and_the_token_is_in_a_secret_only(cluster: ApiServer) -> None:
    seen: dict[str, str] = {}
    put = cluster.put

    def remember(path: str, obj: dict[str, object]) -> dict[str, object]:
        seen[str(obj["kind"])] = json.dumps(obj)
        return put(path, obj)

    cluster.put = remember  # type: ignore[method-assign]
    cluster.pod_log = "exomesh-answer 0 200 0.012 0 \n"
    ask(cluster, API)
    assert cluster.objects == {}
    assert "the-token" in base64.b64decode(json.loads(seen["Secret"])["data"]["curl.conf"]).decode()
    assert "the-token" not in seen["Pod"]
    assert "fra.example" not in seen["Pod"]


def test_a_pod_that_does_not_run_is_an_error_with_the_reason(cluster: ApiServer) -> None:
    cluster.pod_log = "curl: not found"
    with pytest.raises(ExomeshError, match=r"cluster vie: .*curl: not found.* image curl:1") as caught:
        ask(cluster, API)
    assert caught.value.code == "probe_failed"
    assert cluster.objects == {}


def test_what_a_killed_run_left_is_removed_by_a_later_one(cluster: ApiServer) -> None:
    cluster.pod_log = "exomesh-answer 0 200 0.012 0 \n"
    for name, hours in (("old", "2026-01-01T00:00:00Z"), ("now", None)):
        metadata = {"name": name, "namespace": "default", "labels": {"exomesh.istio/probe": "true"}}
        cluster.put(
            f"/api/v1/namespaces/default/secrets/{name}",
            {"metadata": metadata | ({"creationTimestamp": hours} if hours else {})},
        )
    ask(cluster, API)
    assert list(cluster.objects) == ["/api/v1/namespaces/default/secrets/now"]


def test_curl_is_told_what_to_trust_and_what_to_send() -> None:
    plain, named = Target("muc", "https://muc:15443/"), Target("sof", "https://10.0.0.1/x", None, None, "k8s")
    first, second, third = curl_config([API, plain, named], "mark").split("next\n")
    assert 'cacert = "/etc/exomesh-probe/ca-0.pem"' in first
    assert 'header = "Authorization: Bearer the-token"' in first
    assert "insecure" not in first
    assert "insecure\n" in second
    assert 'url = "https://k8s:443/x"' in third
    assert 'connect-to = "k8s:443:10.0.0.1:443"' in third


def test_quotes_cannot_break_out_of_an_option() -> None:
    config = curl_config([Target("x", "https://x/", None, 'a"\nurl = "https://evil/')], "mark")
    assert [line for line in config.splitlines() if line.startswith("url")] == ['url = "https://x/"']
