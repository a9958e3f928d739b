# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a cluster why istiod or its gateway is not ready, and judge rollouts that stand still (private)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import Object
from .._kubernetes.client import KubernetesClient, labels_of
from .._kubernetes.readiness import deployment_unmet, explain_deployment, pods_refused
from . import findings
from .findings import Kind
from .state import ClusterState, MeshState, name_of

_OF_ISTIOD = (findings.ISTIOD_MISSING, findings.ISTIOD_DEGRADED)
_OF_GATEWAY = (findings.GATEWAY_NOT_READY, findings.GATEWAY_DEGRADED)


def ask_why_unready(state: ClusterState, client: KubernetesClient) -> None:
    """Fill in the causes that the cluster names, if istiod or the gateway is not ready. Else ask nothing."""
    selectors = [service["spec"].get("selector") or {} for service in state.gateway_services]
    gateways = [
        deployment
        for deployment in state.deployments or []
        if any(selector and selector.items() <= _pod_labels(deployment).items() for selector in selectors)
    ]
    istiods = [
        deployment for deployment in state.deployments or [] if labels_of(deployment).get("app") == "istiod"
    ]
    _ask(state, client, istiods, _OF_ISTIOD)
    _ask(state, client, gateways, _OF_GATEWAY)


def _ask(
    state: ClusterState, client: KubernetesClient, deployments: Sequence[Object], kinds: Sequence[Kind]
) -> None:
    for deployment in deployments:
        if not deployment_unmet(deployment):
            continue
        cause = explain_deployment(client, ISTIO_NAMESPACE, deployment["metadata"]["name"]).cause
        if cause:
            of_rollout = [findings.ROLLOUT_STUCK] if _is_stuck(deployment) else []
            state.causes |= {kind.code: cause for kind in (*kinds, *of_rollout)}


def rollouts(cluster: ClusterState, _mesh: MeshState) -> Iterator[tuple[Kind, list[str]]]:
    """Report Deployments whose new pods the cluster refuses, while older ones serve."""
    stuck = [
        f"Deployment {name_of(deployment)}: {deployment_unmet(deployment)}"
        for deployment in cluster.deployments or []
        if _is_stuck(deployment)
    ]
    if stuck:
        yield findings.ROLLOUT_STUCK, stuck


def _is_stuck(deployment: Object) -> bool:
    serves = deployment.get("status", {}).get("availableReplicas", 0) > 0
    return bool(serves and deployment_unmet(deployment) and pods_refused(deployment))


def _pod_labels(deployment: Object) -> dict[str, str]:
    labels: dict[str, str] = (deployment["spec"]["template"].get("metadata") or {}).get("labels") or {}
    return labels
