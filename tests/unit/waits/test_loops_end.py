# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes that others undo, names that nobody resolves, silent servers: none holds a task."""

from __future__ import annotations

import copy
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import (
    TimeUpError,
    time_limit,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ClusterUnreachableError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.objects import remove_surplus
from ansible_collections.exomesh.istio.plugins.module_utils._peering.remote_secrets import (
    Access,
    write_secret,
)
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.requests import ask_urls
from kubernetes_api import ApiServer, Object, status
from patience import ends_within
from silent_api import Servers

SERVICE = "/api/v1/namespaces/istio-system/services/istiod"
REMOTE = "/api/v1/namespaces/istio-system/secrets/istio-remote-secret-fra"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    api = ApiServer(tmp_path, "vie")
    yield api
    api.close()


def client_of(api: ApiServer) -> KubernetesClient:
    return KubernetesClient(str(api.kubeconfig), name=api.name)


def a_service(*ports: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istiod", "namespace": "istio-system"},
        "spec": {"ports": [{"name": f"port-{port}", "port": port} for port in ports]},
    }


def puts(api: ApiServer) -> int:
    return sum(request.startswith("PUT") for request in api.requests)


@pytest.mark.parametrize("by", ["a policy", "a controller"])
def test_what_is_put_back_for_ever_is_told(api: ApiServer, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    api.put(SERVICE, a_service(15010, 9999))
    replace = api._replace

    def put_back(path: str, live: Object, body: Object, dry_run: bool) -> tuple[int, Any]:
        code, answer = replace(path, live, copy.deepcopy(body), dry_run)
        stored = copy.deepcopy(answer)
        stored["spec"]["ports"].append({"name": "port-9999", "port": 9999})
        api.put(path, stored)
        return code, answer if by == "a controller" else api.objects[path]

    monkeypatch.setattr(api, "_replace", put_back)
    with time_limit(10), pytest.raises(ExomeshError) as caught:
        remove_surplus(client_of(api), a_service(15010))
    assert caught.value.code == "put_back"
    told = str(caught.value)
    assert "cluster vie: Service istio-system/istiod keeps" in told
    assert "spec.ports[port-9999]" in told
    assert "A mutating policy or controller puts it back" in told
    assert puts(api) <= 5


def test_what_is_removed_once_stays_away_quickly(api: ApiServer) -> None:
    api.put(SERVICE, a_service(15010, 9999))
    with ends_within(5):
        remove_surplus(client_of(api), a_service(15010))
    assert api.objects[SERVICE]["spec"]["ports"] == [{"name": "port-15010", "port": 15010}]
    assert puts(api) == 1


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_secret_that_others_always_write_is_told(api: ApiServer, method: str) -> None:
    path = REMOTE if method == "PUT" else REMOTE.rpartition("/")[0]
    if method == "PUT":
        api.put(REMOTE, {"kind": "Secret", "metadata": {"name": "istio-remote-secret-fra"}, "data": {}})
    api.failures[method, path] = [status(409, "Conflict")] * 1000
    access = Access("fra", "https://fra.example", None, "Y2E=", "token")
    with time_limit(10), pytest.raises(ExomeshError) as caught:
        write_secret(client_of(api), access)
    assert caught.value.code == "always_changed"
    assert "cluster vie: Secret istio-system/istio-remote-secret-fra could not be written" in str(
        caught.value
    )
    assert caught.value.next_step
    assert sum(request.startswith(method) for request in api.requests) <= 10


# Names, and servers of others


def test_a_name_server_that_says_nothing_is_told(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()

    def look_up(*_arguments: Any, **_options: Any) -> Any:
        ends.wait(60)
        raise socket.gaierror

    client = client_of(api)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    raised = pytest.raises((TimeUpError, ClusterUnreachableError))
    with ends_within(10), time_limit(2), raised as caught:
        client.version()
    ends.set()
    assert caught.value.cluster == "vie"
    assert caught.value.cause
    assert caught.value.next_step


@pytest.mark.parametrize("way", ["says nothing", "head byte by byte", "body byte by byte"])
def test_requests_to_a_silent_page_end(way: str) -> None:
    servers = Servers()
    silent = servers.start(way, tls=False)
    url = silent.url.replace("https", "http")
    with ends_within(10), time_limit(2), pytest.raises(TimeUpError):
        list(ask_urls([url], {}, 100, 1))
    time.sleep(2.5)
    heard = silent.last_heard
    time.sleep(1.5)
    assert silent.last_heard == heard
    servers.close()
