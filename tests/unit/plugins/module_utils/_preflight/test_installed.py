# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an Istio that is there says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.installed import (
    identity_of,
    images_of,
    is_of_deployment,
    version_of,
)
from kubernetes_api import ApiServer

MAPS = "/api/v1/namespaces/istio-system/configmaps"


def istiod(image: str = "istio/pilot:1.31.1", **labels: str) -> dict[str, Any]:
    metadata = {"name": "istiod-canary", "namespace": "istio-system", "labels": labels}
    return {"metadata": metadata, "spec": {"template": {"spec": {"containers": [{"image": image}]}}}}


def config_map(name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "istio-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.mark.parametrize(
    ("values", "mesh", "found"),
    [
        (
            '{"global": {"meshID": "m1", "network": "n1", "multiCluster": {"clusterName": "vie"}}}',
            "trustDomain: example.org\n",
            {"mesh-id": "m1", "cluster-name": "vie", "network": "n1", "trust-domain": "example.org"},
        ),
        ("{}", "", {}),
        ("no JSON", "[no mapping]", {}),
        ('{"global": {"meshID": "m1"}}', "a: [", {"mesh-id": "m1"}),
    ],
)
def test_it_is_read_of_its_revision(tmp_path: Path, values: str, mesh: str, found: dict[str, str]) -> None:
    api = ApiServer(tmp_path, "vie")
    api.put(f"{MAPS}/istio-canary", config_map("istio-canary", mesh=mesh))
    injector = "istio-sidecar-injector-canary"
    api.put(f"{MAPS}/{injector}", config_map(injector, values=values))
    assert identity_of(KubernetesClient(str(api.kubeconfig)), istiod()) == found
    api.close()


def test_the_version_is_that_of_the_label_or_of_the_image() -> None:
    assert version_of(istiod(**{"operator.istio.io/version": "1.30.2"})) == "1.30.2"
    assert version_of(istiod("registry.example:5000/pilot:1.31.1@sha256:0a")) == "1.31.1"


def test_pods_are_known_by_their_replica_set() -> None:
    pod: dict[str, Any] = {"metadata": {"ownerReferences": [{"kind": "ReplicaSet", "name": "istiod-5d4f"}]}}
    assert is_of_deployment(pod, "istiod")
    assert not is_of_deployment(pod, "istio")
    assert not is_of_deployment({"metadata": {}}, "istiod")


def test_images_are_those_of_all_containers() -> None:
    pod = {"spec": {"initContainers": [{"image": "a"}], "containers": [{"image": "b"}, {}]}}
    assert images_of(pod) == {"a", "b", ""}
