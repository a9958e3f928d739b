# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Service of a network's gateway is found by its label."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.exomesh.istio.plugins.module_utils._istio.gateway_service import gateway_service
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubernetes_api import ApiServer


def test_it_is_found_by_the_label_of_the_network(tmp_path: Path) -> None:
    api = ApiServer(tmp_path, "vie")
    for name, network in (("theirs", "n2"), ("eastwest", "n1")):
        metadata = {
            "name": name,
            "namespace": "istio-system",
            "labels": {"topology.istio.io/network": network},
        }
        service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
        api.put(f"/api/v1/namespaces/istio-system/services/{name}", service)
    client = KubernetesClient(str(api.kubeconfig))
    assert gateway_service(client, "istio-system", "n1") == "eastwest"
    assert gateway_service(client, "istio-system", "n3") is None
    api.close()
