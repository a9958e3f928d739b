# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which pods get a sidecar when they are created, as the webhooks of their cluster decide (private)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .._istio.names import INJECTION_LABEL, REVISION_LABEL, VERIFY_NAMESPACE
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .._kubernetes.selectors import selects
from . import findings
from .checks_proxies import Found
from .state import ClusterState, MeshState, annotations_of, is_running, is_selected, name_of, sidecar_of

_INJECT = "sidecar.istio.io/inject"
"""Label of a pod, and in older charts an annotation."""
_NO_LABELS: Mapping[str, str] = {}
_IGNORED = ("kube-node-lease", "kube-public", "kube-system", "local-path-storage")
"""Namespaces that the injector leaves alone, whatever their labels are."""


def is_of_mesh(cluster: ClusterState, namespace: str, pods: list[Object]) -> bool:
    """Return whether a Service belongs to the mesh: a pod of it has a sidecar, or a new one would get one."""
    return any(map(sidecar_of, pods)) or is_injected(cluster, namespace)


def would_inject(cluster: ClusterState, pod: Object) -> bool:
    """Return whether the pod would get a sidecar if it was created now."""
    return (
        not pod["spec"].get("hostNetwork")
        and (labels_of(pod).get(_INJECT) or annotations_of(pod).get(_INJECT)) != "false"
        and is_injected(cluster, pod["metadata"]["namespace"], labels_of(pod))
    )


def sidecars(cluster: ClusterState, _mesh: MeshState) -> Found:
    """Report the pods that lack a sidecar. Those behind Services are told with the Services."""
    bare = [pod for pod in cluster.pods if is_running(pod) and not sidecar_of(pod) and not _is_test(pod)]
    without = [
        name_of(pod) for pod in bare if would_inject(cluster, pod) and not _serves(cluster.services, pod)
    ]
    if without:
        yield findings.SIDECAR_MISSING, without
    if unanswered := [*_unanswered_namespaces(cluster), *_unanswered_pods(cluster, bare)]:
        yield findings.INJECTOR_MISSING, unanswered


def _unanswered_namespaces(cluster: ClusterState) -> Iterator[str]:
    for namespace in cluster.namespaces:
        name, asked = namespace["metadata"]["name"], asked_by(labels_of(namespace))
        if asked and name not in (*_IGNORED, VERIFY_NAMESPACE) and not is_injected(cluster, name):
            yield f"namespace {name} has the label {asked}"


def _unanswered_pods(cluster: ClusterState, bare: list[Object]) -> Iterator[str]:
    for pod in bare:
        asked = _asked_by_pod(labels_of(pod))
        if asked and not is_injected(cluster, pod["metadata"]["namespace"], labels_of(pod)):
            yield f"pod {name_of(pod)} has the label {asked}"


def asked_by(labels: Mapping[str, str]) -> str | None:
    """Return the label with which a namespace asks for sidecars. A revision is the weaker one."""
    if INJECTION_LABEL in labels:
        return f"{INJECTION_LABEL}=enabled" if labels[INJECTION_LABEL] == "enabled" else None
    return f"{REVISION_LABEL}={labels[REVISION_LABEL]}" if REVISION_LABEL in labels else None


def _asked_by_pod(labels: Mapping[str, str]) -> str | None:
    return f"{_INJECT}=true" if labels.get(_INJECT) == "true" else None


def is_injected(cluster: ClusterState, namespace: str, labels: Mapping[str, str] = _NO_LABELS) -> bool:
    """Return whether a webhook of the cluster selects a pod with these labels."""
    held = next((labels_of(each) for each in cluster.namespaces if each["metadata"]["name"] == namespace), {})
    # Older Kubernetes does not have this label in every namespace.
    there = {**held, "kubernetes.io/metadata.name": namespace}
    if cluster.injectors is None:
        return bool(asked_by(held) or _asked_by_pod(labels))
    return namespace not in _IGNORED and any(
        selects(webhook.get("namespaceSelector"), there) and selects(webhook.get("objectSelector"), labels)
        for webhook in cluster.injectors
    )


def _serves(services: list[Object], pod: Object) -> bool:
    return any(
        service["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and is_selected(pod, service["spec"].get("selector") or {})
        for service in services
    )


def _is_test(pod: Object) -> bool:
    """Return whether the pod is of the test workload, which has findings of its own."""
    return bool(pod["metadata"]["namespace"] == VERIFY_NAMESPACE)
