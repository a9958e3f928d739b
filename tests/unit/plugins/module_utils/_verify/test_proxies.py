# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What running proxies tell of themselves is looked at, and who does not answer is not taken for well."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._istio import envoy
from ansible_collections.exomesh.istio.plugins.module_utils._trust import x509 as rules
from kubeconfigs import NOW
from kubernetes_api import Object, status
from running_mesh import GATEWAY, RunningMesh, text_of

OTHER = rules.new_root(
    rules.new_key(rules.KeyKind("ecdsa-p256")), "Former", timedelta(days=3650), NOW - timedelta(days=1)
)
REASON = "filter chain '' has the same matching rules defined as ''"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = RunningMesh(tmp_path)
    yield mesh
    mesh.close()


def look(mesh: RunningMesh) -> tuple[str, dict[str, Object]]:
    """The state of the mesh, and the findings by their code."""
    result = mesh.run("mesh_verify", read_only=True)
    return result["state"], {finding["code"]: finding for finding in result["findings"]}


def serve(mesh: RunningMesh, pod: str, pages: dict[str, Any]) -> None:
    """Have a proxy of cluster vie answer with other pages than those of a healthy one."""
    mesh["vie"].api.listen(pod, envoy.ADMIN_PORT, {**mesh["vie"].proxy_pages(), **pages})


def refusing(name: str | None) -> Object:
    named = {"name": name} if name else {}
    return {"configs": [{**named, "error_state": {"details": REASON}}]}


def test_a_proxy_that_rejects_a_listener(mesh: RunningMesh) -> None:
    counted = {envoy.UPDATES_REJECTED: "listener_manager.lds.update_rejected: 3\n"}
    clusters = {path: {} for path in envoy.REJECTED_CLUSTERS}
    serve(mesh, "web-1", {**counted, **clusters, envoy.REJECTED_LISTENERS: refusing("0.0.0.0_80")})
    state, found = look(mesh)
    assert (state, set(found)) == ("unhealthy", {"proxy-config-rejected"})
    assert found["proxy-config-rejected"]["cluster"] == "vie"
    assert found["proxy-config-rejected"]["evidence"] == [f"shop/web-1: 0.0.0.0_80: {REASON}"]


def test_what_was_rejected_and_then_accepted_is_well(mesh: RunningMesh) -> None:
    counted = {envoy.UPDATES_REJECTED: "cluster_manager.cds.update_rejected: 1\n"}
    clusters = {path: {} for path in envoy.REJECTED_CLUSTERS}
    serve(mesh, "web-1", {**counted, **clusters, envoy.REJECTED_LISTENERS: {"configs": [{"name": "x"}]}})
    assert look(mesh) == ("healthy", {})


def test_routes_are_not_counted_by_istio_and_are_looked_at(mesh: RunningMesh) -> None:
    serve(mesh, "web-1", {envoy.REJECTED_ROUTES: refusing(None)})
    state, found = look(mesh)
    assert (state, set(found)) == ("unhealthy", {"proxy-config-rejected"})
    assert found["proxy-config-rejected"]["evidence"] == [f"shop/web-1: {REASON}"]


def test_the_gateway_that_rejects_names_the_gateways_that_overlap(mesh: RunningMesh) -> None:
    path = "/apis/networking.istio.io/v1/namespaces/shop/gateways/shop"
    servers = [{"port": {"number": 15443}, "hosts": ["*/*.shop.svc.cluster.local"]}]
    metadata = {"name": "shop", "namespace": "shop"}
    mesh["vie"].api.put(path, {"kind": "Gateway", "metadata": metadata, "spec": {"servers": servers}})
    counted = {envoy.UPDATES_REJECTED: "listener_manager.lds.update_rejected: 1\n"}
    clusters = {path: {} for path in envoy.REJECTED_CLUSTERS}
    serve(mesh, GATEWAY, {**counted, **clusters, envoy.REJECTED_LISTENERS: refusing("0.0.0.0_15443")})
    state, found = look(mesh)
    assert (state, set(found)) == ("unhealthy", {"gateway-config-rejected"})
    told = found["gateway-config-rejected"]["evidence"]
    assert told[0] == f"istio-system/{GATEWAY}: 0.0.0.0_15443: {REASON}"
    assert "Gateway shop/shop: hosts *.shop.svc.cluster.local on port 15443" in told


def of_another_root(mesh: RunningMesh, part: str) -> dict[str, Any]:
    """The secrets of a proxy that has kept its former root, or a certificate of that root."""
    (secrets,) = (
        page["configs"] for path, page in mesh["vie"].proxy_pages().items() if path == envoy.SECRETS
    )
    held = {"inline_bytes": text_of(rules.chain_pem([OTHER]))}
    place, key = {
        "ROOTCA": ("validation_context", "trusted_ca"),
        "default": ("tls_certificate", "certificate_chain"),
    }[part]
    kept = [entry for entry in secrets if entry["name"] != part]
    return {envoy.SECRETS: {"configs": [*kept, {"name": part, "secret": {place: {key: held}}}]}}


@pytest.mark.parametrize("part", ["ROOTCA", "default"])
def test_a_proxy_that_kept_its_former_root(mesh: RunningMesh, part: str) -> None:
    serve(mesh, "web-1", of_another_root(mesh, part))
    state, found = look(mesh)
    assert (state, set(found)) == ("unhealthy", {"proxy-root-differs"})
    assert "shop/web-1" in found["proxy-root-differs"]["evidence"][0]


def test_a_proxy_that_does_not_answer_is_not_well(mesh: RunningMesh) -> None:
    mesh["vie"].api.listen("web-1", envoy.ADMIN_PORT, {})
    state, found = look(mesh)
    assert (state, set(found)) == ("unknown", {"not-told"})
    assert found["not-told"]["severity"] == "unknown"
    assert found["not-told"]["evidence"][0].startswith("the proxy of pod shop/web-1: ")


@pytest.mark.parametrize("now", [None, "NotReady"])
def test_a_pod_that_starts_or_ends_cannot_be_asked_and_that_is_normal(
    mesh: RunningMesh, now: str | None
) -> None:
    api = mesh["vie"].api
    path = "/api/v1/namespaces/shop/pods/web-1"
    api.listen("web-1", envoy.ADMIN_PORT, {})
    if now is None:
        api.failures["GET", path] = [status(404, "NotFound", "gone")]
    else:
        api.objects[path]["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert look(mesh)[0] == "healthy"


def test_each_workload_is_asked_once_and_the_gateway_always(mesh: RunningMesh) -> None:
    owner = {"kind": "ReplicaSet", "name": "web-5f", "controller": True}
    for number in (2, 3):
        pod = mesh["vie"].put("Pod", f"web-{number}", {"app": "web"}, "shop", spec={"containers": []})
        mesh["vie"].api.objects[f"/api/v1/namespaces/shop/pods/web-{number}"]["metadata"] |= {
            **pod["metadata"],
            "ownerReferences": [owner],
            "creationTimestamp": f"2026-01-0{number}T00:00:00Z",
        }
        mesh["vie"].api.listen(f"web-{number}", envoy.ADMIN_PORT, {})
    state, found = look(mesh)
    assert state == "unknown"
    assert [line.partition(": ")[0] for line in found["not-told"]["evidence"]] == [
        "the proxy of pod shop/web-2"
    ]


@pytest.mark.parametrize(
    ("version", "found"),
    [("1.29.2", {"proxy-version-unsupported"}), ("1.30.2", set()), ("master-alpha", set())],
)
def test_a_proxy_of_another_version(mesh: RunningMesh, version: str, found: set[str]) -> None:
    serve(mesh, "web-1", {envoy.SERVER_INFO: {"node": {"metadata": {"ISTIO_VERSION": version}}}})
    assert set(look(mesh)[1]) == found


def test_injectors_that_may_not_be_read_are_told(mesh: RunningMesh) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    mesh["vie"].api.failures["GET", path] = [status(403, "Forbidden", "you may not")]
    state, found = look(mesh)
    # They decide of warnings only.
    assert (state, set(found), found["not-told"]["severity"]) == ("healthy", {"not-told"}, "warning")
    assert "you may not" in found["not-told"]["evidence"][0]


def test_cilium_that_leads_past_sidecars(mesh: RunningMesh) -> None:
    mesh["vie"].put("ConfigMap", "cilium-config", namespace="kube-system", data={"bpf-lb-sock": "true"})
    state, found = look(mesh)
    assert (state, set(found)) == ("healthy", {"sidecars-bypassed"})
    assert "socketLB.hostNamespaceOnly=true" in found["sidecars-bypassed"]["next_step"]
