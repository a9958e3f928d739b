# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps deleted objects, and that nobody waits for what cannot go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import Object, ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.removal import wait_until_gone
from kubernetes_api import ApiServer

NAMESPACE = ObjectRef("v1", "Namespace", "shop")
DEAD_API = (
    "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
    "metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1"
)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, "fra")
    yield server
    server.close()


def namespace(message: str, status: str = "True") -> Object:
    condition = {"type": "NamespaceDeletionDiscoveryFailure", "status": status, "message": message}
    return {"metadata": {"name": "shop"}, "status": {"phase": "Terminating", "conditions": [condition]}}


def kept(api: ApiServer, timeout: float) -> ExomeshError:
    with pytest.raises(ExomeshError) as caught:
        wait_until_gone(KubernetesClient(str(api.kubeconfig)), [NAMESPACE], timeout)
    return caught.value


@pytest.mark.usefixtures("impatient")
def test_a_namespace_that_cannot_go_is_not_waited_for(api: ApiServer) -> None:
    api.put("/api/v1/namespaces/shop", namespace(DEAD_API))
    started = time.monotonic()
    error = kept(api, 60)
    assert time.monotonic() - started < 20
    assert "metrics.k8s.io/v1beta1" in str(error.cause)
    assert "kubectl get apiservices" in str(error.next_step)
    assert "finalizer" not in str(error)


def test_what_goes_by_itself_is_waited_for(api: ApiServer) -> None:
    api.put("/api/v1/namespaces/shop", namespace("All resources successfully discovered", "False"))
    error = kept(api, 0)
    assert error.code == "not_deleted"
    assert "pods have not ended" in str(error.cause)
    del api.objects["/api/v1/namespaces/shop"]
    wait_until_gone(KubernetesClient(str(api.kubeconfig)), [NAMESPACE], 5)


def test_a_finalizer_is_named(api: ApiServer) -> None:
    metadata = {"name": "shop", "finalizers": ["example.com/keep"]}
    api.put("/api/v1/namespaces/shop", {"metadata": metadata})
    error = kept(api, 0)
    assert "example.com/keep" in str(error.cause)
    assert "kubectl get namespace shop -o yaml" in str(error.next_step)
