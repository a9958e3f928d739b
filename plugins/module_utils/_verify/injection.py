# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which pods get a sidecar when they are created, as the webhooks of their cluster decide (private)."""

from __future__ import annotations

from collections.abc import Mapping

from .._istio.names import INJECTION_LABEL, REVISION_LABEL
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .._kubernetes.selectors import selects
from .state import ClusterState, annotations_of, sidecar_of

_INJECT = "sidecar.istio.io/inject"
"""Label of a pod, and in older charts an annotation."""
IGNORED = ("kube-node-lease", "kube-public", "kube-system", "local-path-storage")
"""Namespaces that the injector leaves alone, whatever their labels are."""


def is_of_mesh(cluster: ClusterState, namespace: str, pods: list[Object]) -> bool:
    """Return whether a Service belongs to the mesh: a pod of it has a sidecar, or a new one would get one."""
    return any(map(sidecar_of, pods)) or is_injected(cluster, namespace)


def may_have_sidecar(pod: Object) -> bool:
    """Return whether the injector gives such a pod a sidecar at all: none on the network of its node."""
    return not pod["spec"].get("hostNetwork")


def would_inject(cluster: ClusterState, pod: Object) -> bool:
    """Return whether the pod would get a sidecar if it was created now."""
    return (
        may_have_sidecar(pod)
        and (labels_of(pod).get(_INJECT) or annotations_of(pod).get(_INJECT)) != "false"
        and is_injected(cluster, pod["metadata"]["namespace"], labels_of(pod))
    )


def asked_by(labels: Mapping[str, str]) -> str | None:
    """Return the label with which a namespace asks for sidecars. A revision is the weaker one."""
    if INJECTION_LABEL in labels:
        return f"{INJECTION_LABEL}=enabled" if labels[INJECTION_LABEL] == "enabled" else None
    return f"{REVISION_LABEL}={labels[REVISION_LABEL]}" if REVISION_LABEL in labels else None


def asked_by_pod(labels: Mapping[str, str]) -> str | None:
    """Return the label with which a pod asks for a sidecar."""
    if labels.get(_INJECT) == "true":
        return f"{_INJECT}=true"
    revision = labels.get(REVISION_LABEL)
    return f"{REVISION_LABEL}={revision}" if revision and labels.get(_INJECT) != "false" else None


def is_injected(cluster: ClusterState, namespace: str, labels: Mapping[str, str] | None = None) -> bool:
    """Return whether a webhook of the cluster selects a pod with these labels."""
    labels = labels or {}
    held = next((labels_of(each) for each in cluster.namespaces if each["metadata"]["name"] == namespace), {})
    # Older Kubernetes does not have this label in every namespace.
    there = {**held, "kubernetes.io/metadata.name": namespace}
    if cluster.injectors is None:
        return bool(asked_by(held) or asked_by_pod(labels))
    return namespace not in IGNORED and any(
        selects(webhook.get("namespaceSelector"), there) and selects(webhook.get("objectSelector"), labels)
        for webhook in cluster.injectors
    )
