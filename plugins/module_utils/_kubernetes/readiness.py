# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what keeps Deployments and pods from being ready, and why (private to the collection)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .._base.errors import ExomeshError
from .._base.waiting import concurrently, told_in_time, wait_until_met
from .api import Object, ObjectRef
from .client import KubernetesClient


def deployment_unmet(deployment: Object | None) -> str | None:
    """Return what keeps a Deployment from being ready; None when it is ready."""
    if deployment is None:
        return "it does not exist"
    status = deployment.get("status", {})
    wanted = deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "its newest form was not yet taken up by the deployment controller"
    updated = status.get("updatedReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} replicas are of the newest form"
    if status.get("replicas", 0) > updated:
        return f"{status['replicas'] - updated} replicas of the old form wait for new ones to be ready"
    if status.get("availableReplicas", 0) < wanted:
        return f"{status.get('availableReplicas', 0)} of {wanted} replicas are available"
    return None


def pod_unmet(pod: Object | None) -> str | None:
    """Return what keeps a Pod from being ready, by its containers and conditions; None when it is ready."""
    if pod is None:
        return "it does not exist"
    status = pod.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
            return f"container {container['name']} waits: {_reason(waiting)}"
    for condition in ("PodScheduled", "Initialized", "ContainersReady"):
        if conditions.get(condition, {}).get("status") == "False":
            return f"condition {condition} is False: {_reason(conditions[condition])}"
    return f"its phase is {status.get('phase', 'unknown')}"


def _reason(state: Mapping[str, Any]) -> str:
    return ": ".join(str(state[key]) for key in ("reason", "message") if state.get(key)) or "no reason given"


def explain_deployment(client: KubernetesClient, namespace: str, name: str) -> str:
    """Return why a Deployment is not ready; for error messages.

    The text has its state, the state of its pods, and the newest Events of both.
    """
    otherwise = f"Deployment {namespace}/{name}: the API does not tell in time what keeps it"
    return told_in_time(lambda: _explanation(client, namespace, name), otherwise)


def _explanation(client: KubernetesClient, namespace: str, name: str) -> str:
    deployment = client.get(ObjectRef("apps/v1", "Deployment", name, namespace))
    parts = [f"Deployment {namespace}/{name}: {deployment_unmet(deployment) or 'it is ready by now'}"]
    if deployment is None:
        return parts[0]
    parts += [f"event: {line}" for line in client.events("Deployment", namespace, name, 2, True)]
    selector = ",".join(
        f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items()
    )
    pods = client.list_objects("v1", "Pod", namespace, labels=selector)
    for pod in pods:
        missing = pod_unmet(pod)
        if missing:
            parts.append(f"Pod {pod['metadata']['name']}: {missing}")
            parts += [
                f"event: {line}" for line in client.events("Pod", namespace, pod["metadata"]["name"], 3, True)
            ]
    if not pods:
        for replica_set in client.list_objects("apps/v1", "ReplicaSet", namespace, labels=selector):
            lines = client.events("ReplicaSet", namespace, replica_set["metadata"]["name"], 2, True)
            parts += [f"event: {line}" for line in lines]
    return "; ".join(parts)


def wait_ready(client: KubernetesClient, deployments: list[ObjectRef], timeout: float) -> dict[str, str]:
    """Wait until every Deployment is ready.

    :returns: readiness by Deployment.
    :raises ExomeshError: ``not_ready``, with the condition that is not met, the pods and the Events.
    """
    started = time.monotonic()
    deadline = started + timeout

    def unmet(ref: ObjectRef) -> str | None:
        return wait_until_met(
            lambda: deployment_unmet(client.get(ref)), max(0.0, deadline - time.monotonic())
        )

    missing = concurrently(unmet, deployments)
    unready = [ref for ref, condition in zip(deployments, missing, strict=True) if condition]
    if unready:
        explained = [explain_deployment(client, ref.namespace or "", ref.name) for ref in unready]
        raise ExomeshError(
            f"Not ready after {time.monotonic() - started:.0f} s: "
            + ", ".join(f"{ref.namespace}/{ref.name}" for ref in unready),
            "not_ready",
            cause=". ".join(explained),
            next_step="Cure what the Events say, then run this again; it goes on where it stopped",
        )
    return {f"{ref.namespace}/{ref.name}": "ready" for ref in deployments}


def readiness(client: KubernetesClient, deployments: list[ObjectRef]) -> dict[str, str]:
    """Return the present readiness by Deployment: ``ready``, or what is missing."""
    found = concurrently(lambda ref: deployment_unmet(client.get(ref)) or "ready", deployments)
    return {f"{ref.namespace}/{ref.name}": state for ref, state in zip(deployments, found, strict=True)}
