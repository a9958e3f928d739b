# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a mesh: the remote secrets, and the addresses that somebody gave to Services."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._verify.observe import remote_secret
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import (
    Access,
    RemoteSecret,
)
from running_mesh import RunningMesh

REMOTE: dict[str, Any] = {
    "clusters": [
        {"name": name, "cluster": {"server": f"https://{name}", "certificate-authority-data": "Q0E="}}
        for name in "ab"
    ],
    "users": [{"name": name, "user": {"token": f"t-{name}"}} for name in "ab"],
    "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in "ab"],
}


@pytest.mark.parametrize(
    ("kubeconfig", "read"),
    [
        (REMOTE | {"current-context": "a"}, Access("https://a", "CA", "t-a")),
        (REMOTE | {"current-context": "b"}, Access("https://b", "CA", "t-b")),
        (REMOTE | {"current-context": "c"}, None),
        (REMOTE, None),
        (REMOTE | {"current-context": "a", "users": []}, None),
        ({"clusters": [], "users": []}, None),
        ("text", None),
    ],
)
def test_remote_secrets_are_read(kubeconfig: object, read: Access | None) -> None:
    content = base64.b64encode(yaml.safe_dump(kubeconfig).encode()).decode()
    metadata = {"name": "istio-remote-secret-fra", "annotations": {"networking.istio.io/cluster": "fra"}}
    secret = remote_secret({"metadata": metadata, "data": {"fra": content}})
    assert secret == RemoteSecret("istio-remote-secret-fra", ("fra",), "fra", read)
    assert "'t-" not in repr(secret)


SLICES = "/apis/discovery.k8s.io/v1"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """Both clusters have a Service of the same name."""
    mesh = RunningMesh(tmp_path)
    for cluster in mesh.clusters.values():
        spec = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}
        cluster.put("Service", "web", namespace="shop", spec=spec)
    yield mesh
    mesh.close()


@pytest.mark.parametrize(
    ("image", "label", "version"),
    [
        ("docker.io/istio/pilot:1.31.1-distroless", "1.30.0", "1.31.1-distroless"),
        ("localhost:5000/pilot@sha256:12", "1.31.1", "1.31.1"),
        ("localhost:5000/pilot@sha256:12", "unknown", None),
    ],
)
def test_the_version_of_an_image_with_a_digest_is_in_a_label(
    mesh: RunningMesh, image: str, label: str, version: str | None
) -> None:
    pod = mesh["fra"].api.objects["/api/v1/namespaces/istio-system/pods/istiod-1"]
    pod["metadata"]["labels"]["app.kubernetes.io/version"] = label
    pod["spec"]["containers"][0]["image"] = image
    clusters = mesh.run("mesh_verify", read_only=True)["verification"]["clusters"]
    assert [cluster["istio_version"] for cluster in clusters if cluster["name"] == "fra"] == [version]


def found(mesh: RunningMesh) -> dict[str, list[str]]:
    result = mesh.run("mesh_verify", read_only=True)
    return {finding["code"]: finding["evidence"] for finding in result["findings"]}


def test_addresses_that_somebody_gave_are_read_only_where_a_service_has_no_selector(
    mesh: RunningMesh,
) -> None:
    assert found(mesh) == {}
    assert not any("endpointslices" in request for request in mesh["fra"].api.requests)
    mesh["fra"].api.objects["/api/v1/namespaces/shop/services/web"]["spec"].pop("selector")
    for by, endpoints in (
        ("endpointslice-controller.k8s.io", [{}]),
        ("me", []),
    ):
        give(mesh, by, endpoints)
        assert found(mesh) == {}
    give(mesh, "me", [{"addresses": ["192.0.2.7"]}])
    assert set(found(mesh)) == {"service-shape-differs"}
    assert any("endpointslices" in request for request in mesh["fra"].api.requests)


def give(mesh: RunningMesh, by: str, endpoints: list[dict[str, Any]]) -> None:
    labels = {"endpointslice.kubernetes.io/managed-by": by, "kubernetes.io/service-name": "web"}
    metadata = {"name": "web-1", "namespace": "shop", "labels": labels}
    path = f"{SLICES}/namespaces/shop/endpointslices/web-1"
    mesh["fra"].api.put(path, {"kind": "EndpointSlice", "metadata": metadata, "endpoints": endpoints})


@pytest.mark.parametrize(
    ("plural", "kind", "spec", "code"),
    [
        (
            "virtualservices",
            "VirtualService",
            {"hosts": ["web"], "http": [{"timeout": "1s"}]},
            "routes-differ",
        ),
        (
            "serviceentries",
            "ServiceEntry",
            {
                "hosts": ["api.example"],
                "location": "MESH_INTERNAL",
                "workloadSelector": {"labels": {"app": "web"}},
            },
            "host-not-exposed",
        ),
    ],
)
def test_rules_are_read(mesh: RunningMesh, plural: str, kind: str, spec: dict[str, Any], code: str) -> None:
    path = f"/apis/networking.istio.io/v1/namespaces/shop/{plural}/web"
    metadata = {"name": "web", "namespace": "shop"}
    mesh["fra"].api.put(path, {"kind": kind, "metadata": metadata, "spec": spec})
    assert set(found(mesh)) == {code}


def refuse(mesh: RunningMesh, path: str) -> dict[str, tuple[str, list[str]]]:
    """Let the kubeconfig of one cluster not list something, and return what is found, without the place."""
    refused = (403, {"kind": "Status", "reason": "Forbidden", "message": f"you may not list {path}"})
    mesh["fra"].api.failures["GET", path] = [refused] * 9
    result = mesh.run("mesh_verify", read_only=True)
    return {entry["code"]: (entry["severity"], entry["evidence"]) for entry in result["findings"]}


@pytest.mark.parametrize(
    ("path", "severity"),
    [
        ("/apis/networking.istio.io/v1/virtualservices", "unknown"),
        ("/apis/networking.istio.io/v1/serviceentries", "unknown"),
        ("/apis/security.istio.io/v1/authorizationpolicies", "warning"),
        ("/apis/apps/v1/namespaces/istio-system/deployments", "warning"),
        ("/apis/discovery.k8s.io/v1/endpointslices", "warning"),
        ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "warning"),
        ("/api/v1/namespaces/kube-system/configmaps/cilium-config", "warning"),
    ],
)
def test_what_may_not_be_listed_leaves_only_that_untold(mesh: RunningMesh, path: str, severity: str) -> None:
    mesh["fra"].api.objects["/api/v1/namespaces/shop/services/web"]["spec"].pop("selector")
    if "networking.istio.io" in path:  # what may not be listed in fra is not taken for missing there
        at = path.replace("/v1/", "/v1/namespaces/shop/") + "/web"
        spec = {
            "hosts": ["api.mesh.local"],
            "location": "MESH_INTERNAL",
            "workloadSelector": {"labels": {"app": "web"}},
        }
        mesh["vie"].api.put(at, {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
    found = refuse(mesh, path)
    assert set(found) == {"not-told"}
    assert found["not-told"][0] == severity
    assert path in found["not-told"][1][0]
