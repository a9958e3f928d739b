# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module that reads of a cluster, with clusters that say what means no good."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.text import new_mark
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.requests import Tally, parse_answers
from ansible_collections.exomesh.istio.plugins.module_utils._verify.report import junit, lines
from ansible_collections.exomesh.istio.plugins.module_utils._verify.workload import (
    Marks,
    parse_answer,
    parse_endpoints,
    parse_transfers,
)
from ansible_collections.exomesh.istio.plugins.plugin_utils.page import html
from corpus import DOCUMENTS, JSONS, PROOF, SHAPES, TEXTS, assert_safe
from kubeconfigs import run_module
from kubernetes_api import ApiServer, Object
from patience import ends_within, work
from running_mesh import GATEWAY, ISTIOD, RunningMesh, text_of

SECONDS = 20  # beside the work
CART = {"source": "vie", "service": "cart.shop:80", "destination": "fra"}


def info_of(mesh: RunningMesh, module: str, **options: Any) -> Object:
    return run_module(module, kubeconfig=str(mesh["vie"].api.kubeconfig), timeout=1, **options)


def leaving(mesh: RunningMesh) -> Object:
    known = {"name": "fra", "kubeconfig": str(mesh["fra"].api.kubeconfig), "drain": 0, "timeout": 1}
    return mesh.run("mesh_leave", check=True, **known)


def service(mesh: RunningMesh) -> Object:
    return info_of(mesh, "load_balancer_info", network="network-vie")


MODULES: dict[str, Callable[[RunningMesh], Object]] = {
    "mesh_verify": lambda mesh: mesh.run("mesh_verify", read_only=True, timeout=0),
    "mesh_certificates_info": lambda mesh: mesh.run("mesh_certificates_info"),
    "mesh_diagnose": lambda mesh: mesh.run("mesh_diagnose", **CART),
    "peering_info": lambda mesh: mesh.run("peering_info", prune=True),
    "mesh_leave": leaving,
    "mesh_teardown": lambda mesh: info_of(mesh, "mesh_teardown", name="vie", mesh_id="mesh1", check=True),
    "load_balancer_info": service,
    "istiod_ca_reload": lambda mesh: info_of(mesh, "istiod_ca_reload", name="vie", check=True),
    "traffic_route": lambda mesh: info_of(
        mesh, "traffic_route", namespace="shop", service="cart", port=80, versions=["v1"], check=True
    ),
}


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningMesh]:
    monkeypatch.chdir(tmp_path)
    running = RunningMesh(tmp_path)
    yield running
    running.close()


def look(mesh: RunningMesh, module: str) -> Object:
    """Run a module: it ends in time, runs nothing, writes nothing, and what it fails with is told safely."""
    files, worked = set(os.listdir(".")), work()
    with ends_within(SECONDS):
        result = MODULES[module](mesh)
    assert work() - worked < SECONDS
    assert set(os.listdir(".")) == files
    assert not Path(f"/tmp/{PROOF}").exists()
    assert_safe(result)
    assert "fault of exomesh" not in str(result.get("msg"))
    return result


def test_all_of_them_work_where_nobody_means_ill(mesh: RunningMesh) -> None:
    results = {module: look(mesh, module) for module in MODULES}
    assert results["mesh_verify"]["healthy"]
    assert not [module for module, result in results.items() if result.get("failed")] or results


class Liar:
    """Changes texts in what an API answers, others with each seed, but not what Kubernetes itself checks."""

    CHECKED = ("apiVersion", "kind", "name", "namespace", "creationTimestamp", "resourceVersion", "uid")

    def __init__(self, api: ApiServer, seed: int) -> None:
        self._random = random.Random(seed)
        self._answer = api.answer
        api.answer = self.answer  # type: ignore[method-assign]

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        code, answer = self._answer(method, url, body)
        if method != "GET" or not isinstance(answer, dict) or "Review" in str(answer.get("kind")):
            return code, answer
        answer = copy.deepcopy(answer)
        places = list(self._places(answer))
        for container, key in self._random.sample(places, min(len(places), 3)):
            container[key] = self._random.choice(list(TEXTS.values()))
        return code, answer

    def _places(self, value: Any) -> Iterator[tuple[Any, Any]]:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in entries:
            if isinstance(item, (dict, list)) and key != "preferredVersion":
                yield from self._places(item)
            elif isinstance(item, str) and key not in self.CHECKED:
                yield value, key


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("seed", range(6))
def test_texts_of_a_cluster_do_no_harm(mesh: RunningMesh, module: str, seed: int) -> None:
    for number, cluster in enumerate(mesh.clusters.values()):
        Liar(cluster.api, seed * 2 + number)
    look(mesh, module)


@pytest.mark.parametrize("shape", [*SHAPES, *JSONS.values()], ids=lambda shape: repr(shape)[:30])
def test_pages_of_istiod_and_proxies_of_another_form(mesh: RunningMesh, shape: Any) -> None:
    cluster = mesh["vie"]
    content = shape.encode() if shape in JSONS.values() else shape
    pages = ("clusterz", "networkz", "syncz", "endpointShardz", "configz")
    cluster.api.listen(ISTIOD, 15014, {f"/debug/{page}": content for page in pages})
    for pod in (GATEWAY, "web-1"):
        cluster.api.listen(pod, 15000, dict.fromkeys(cluster.proxy_pages(), content))
    for module in ("mesh_verify", "mesh_certificates_info", "mesh_diagnose", "mesh_leave"):
        look(mesh, module)


@pytest.mark.parametrize(
    "document", [*DOCUMENTS.values(), *(json.dumps(shape) for shape in SHAPES)], ids=lambda d: repr(d)[:30]
)
def test_secrets_and_config_maps_of_another_form(mesh: RunningMesh, document: str | bytes) -> None:
    text = document if isinstance(document, str) else document.decode(errors="replace")
    for name, peer in (("vie", "fra"), ("fra", "vie")):
        objects = mesh[name].api.objects
        secret = objects[f"/api/v1/namespaces/istio-system/secrets/istio-remote-secret-{peer}"]
        secret["data"][peer] = text_of(document)
        objects["/api/v1/namespaces/istio-system/configmaps/istio"]["data"]["mesh"] = text
    for module in ("mesh_verify", "peering_info", "mesh_teardown"):
        look(mesh, module)


ADDRESSES = (
    "file:///etc/passwd",
    "-o/tmp/" + PROOF,
    "--config=/etc/passwd",
    "https://user@evil.example/",
    77777,
    ["a"],
)


@pytest.mark.parametrize("server", [*ADDRESSES, *TEXTS.values()], ids=lambda server: repr(server)[:30])
def test_what_a_remote_secret_names_gets_into_no_request(mesh: RunningMesh, server: Any) -> None:
    asked: list[str] = []
    works = mesh["vie"].api.run_command

    def remember(pod: str, command: list[str]) -> tuple[Any, int]:
        asked.extend(command)
        return works(pod, command)

    mesh["vie"].api.run_command = remember
    document = {
        "clusters": [{"name": "fra", "cluster": {"server": server, "certificate-authority-data": "YQ=="}}],
        "contexts": [{"name": "fra", "context": {"cluster": "fra", "user": "fra"}}],
        "current-context": "fra",
        "users": [{"name": "fra", "user": {"token": "a"}}],
    }
    path = "/api/v1/namespaces/istio-system/secrets/istio-remote-secret-fra"
    mesh["vie"].api.objects[path]["data"]["fra"] = text_of(json.dumps(document))
    result = mesh.run("mesh_verify", timeout=5)
    assert_safe(result["verification"])
    assert asked
    told = f"//{server}/" if isinstance(server, int) else str(server)[:40]
    assert not [word for word in asked if told in word]


@pytest.mark.parametrize("name", ["../../../secrets/a", "a/b", "..", *list(TEXTS.values())[:12]])
def test_a_pod_of_such_a_name_is_told(mesh: RunningMesh, name: str) -> None:
    pods = "/api/v1/namespaces/istio-system/pods"
    mesh["vie"].api.objects[f"{pods}/bad"] = {
        "metadata": {"name": name, "namespace": "istio-system", "labels": {"app": "istiod"}},
        "spec": {"containers": []},
    }
    result = look(mesh, "mesh_certificates_info")
    assert "no object of Kubernetes" in str(result)
    assert not [request for request in mesh["vie"].api.requests if "secrets/a" in request]


# What is made of it


class Tags(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[tuple[str, str]] = set()
        self.values: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {(tag, name) for name, _value in attrs} | {(tag, "")}
        self.values += [str(value) for name, value in attrs if name in ("href", "src")]


@pytest.fixture(scope="module")
def verification(tmp_path_factory: pytest.TempPathFactory) -> Object:
    """One with findings."""
    running = RunningMesh(tmp_path_factory.mktemp("mesh"))
    objects = running["vie"].api.objects
    del objects["/api/v1/namespaces/istio-system/services/istio-eastwestgateway"]
    told: Object = running.run("mesh_verify", read_only=True, timeout=0)["verification"]
    running.close()
    assert told["findings"]
    return told


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_report_page_and_junit_of_such_texts(verification: Object, text: str) -> None:
    plain = Tags(html(verification))
    told = copy.deepcopy(verification)
    for cluster in told["clusters"]:
        for key in ("zone", "network", "kubernetes_version", "istio_version", "trust_domain"):
            cluster[key] = text
        for entry in (*cluster["istiods"], *cluster["gateways"]):
            entry["name"] = text
        for certificate in cluster["certificates"]:
            certificate |= {"subject": text, "where": text}
    for finding in told["findings"]:
        finding |= {"message": text, "evidence": [text], "cause": text, "next_step": text}
    page = html(told)
    assert_safe([page, junit(told)])
    assert Tags(page).seen <= plain.seen
    assert set(Tags(page).values) <= set(plain.values)
    assert ElementTree.fromstring(junit(told)).tag == "testsuites"
    shown = lines(told)
    assert not [line for line in shown if line.startswith("[")]


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_metrics_of_such_texts(mesh: RunningMesh, text: str) -> None:
    from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
    from ansible_collections.exomesh.istio.plugins.module_utils._trust import inventory as certificates

    found = certificates.look_at_cluster(KubernetesClient(str(mesh["vie"].api.kubeconfig), name="vie"))
    found.seen = [certificates.Seen(text, seen.role, text, seen.certificate) for seen in found.seen]
    found.name = text
    metrics = certificates.prometheus([found])
    assert_safe(metrics)
    value = r'[a-z]+="([^"\\]|\\.)*"'
    for line in metrics.splitlines():
        assert re.fullmatch(rf"#.*|exomesh_\w+(\{{{value}(,{value})*\}})? \d+", line), line[:200]
    assert_safe(certificates.table([found], [30, 7, 1], found.seen[0].certificate.not_valid_before_utc))


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_pages_are_not_taken_for_what_curl_says(text: str) -> None:
    mark = f"@@{new_mark()} "
    output = f"{text}\n{mark}200 \n{text}\n{mark}503 {text.splitlines()[0]}\n"
    first, second = parse_answers(iter(output.split("\n")), mark)
    assert (first.status, second.status) == (200, 503)
    tally = Tally(re.compile(r"(?s)^(.*)$"))
    for answer in (first, second):
        tally.add(answer)
    assert_safe(list(tally.versions))
    marks = Marks()
    told = ("0", "200", text, text, text, text, text, text, "")
    answer = parse_answer(text + marks.told(*told), marks)
    assert (answer.status, answer.source_identity) == (200, text.strip() if text != "-" else "")
    assert parse_transfers(marks.told("0", *told) + marks.told("1", "200"), marks) == {
        0: [list(told)],
        1: [["200"]],
    }


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_endpoints_of_another_form(shape: Any) -> None:
    from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError

    with suppress(ExomeshError):
        assert isinstance(parse_endpoints(json.dumps(shape)), dict)
