# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the pods that lack the sidecar that they should have (private)."""

from __future__ import annotations

from collections.abc import Iterator

from .._istio.names import VERIFY_NAMESPACE
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from . import findings
from .checks_proxies import Found
from .injection import IGNORED, asked_by, asked_by_pod, is_injected, would_inject
from .services import Pods
from .state import ClusterState, MeshState, is_running, name_of, sidecar_of


def sidecars(cluster: ClusterState, _mesh: MeshState) -> Found:
    """Report the pods that lack a sidecar. Those behind Services are told with the Services."""
    bare = [pod for pod in cluster.pods if is_running(pod) and not sidecar_of(pod) and not _is_test(pod)]
    serving = _serving(cluster)
    without = [name_of(pod) for pod in bare if name_of(pod) not in serving and would_inject(cluster, pod)]
    if without:
        yield findings.SIDECAR_MISSING, without
    if unanswered := [*_unanswered_namespaces(cluster), *_unanswered_pods(cluster, bare)]:
        yield findings.INJECTOR_MISSING, unanswered


def _unanswered_namespaces(cluster: ClusterState) -> Iterator[str]:
    for namespace in cluster.namespaces:
        name, asked = namespace["metadata"]["name"], asked_by(labels_of(namespace))
        if asked and name not in (*IGNORED, VERIFY_NAMESPACE) and not is_injected(cluster, name):
            yield f"namespace {name} has the label {asked}"


def _unanswered_pods(cluster: ClusterState, bare: list[Object]) -> Iterator[str]:
    for pod in bare:
        asked = asked_by_pod(labels_of(pod))
        if asked and not is_injected(cluster, pod["metadata"]["namespace"], labels_of(pod)):
            yield f"pod {name_of(pod)} has the label {asked}"


def _serving(cluster: ClusterState) -> set[str]:
    """Return the names of the pods that are behind Services."""
    pods = Pods.of(cluster)
    return {
        name_of(pod)
        for service in cluster.services
        for pod in pods.behind(service["metadata"]["namespace"], service["spec"].get("selector"))
    }


def _is_test(pod: Object) -> bool:
    """Return whether the pod is of the test workload, which has findings of its own."""
    return bool(pod["metadata"]["namespace"] == VERIFY_NAMESPACE)
