# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what keeps Deployments and pods from being ready, and why (private to the collection)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._base.errors import ExomeshError
from .._base.waiting import concurrently, told_in_time
from .api import Object, ObjectRef
from .causes import Cause, cause_in, last_complaint, wait_unless_it_lasts
from .client import KubernetesClient, labels_of
from .selectors import selects

_EXPLAINED = 3
"""Pods of a Deployment that are explained."""

_LOG_LINES = 200
"""Lines of a log in which a complaint is looked for."""


@dataclass(frozen=True)
class Unready:
    """What keeps a Deployment or a pod from being ready.

    :param told: its state, that of its pods, the newest Events, and the last complaint of a container.
    :param cause: the cause, if the cluster names one that is known.
    """

    told: str
    cause: Cause | None = None

    @property
    def next_step(self) -> str | None:
        return self.cause.next_step() if self.cause else None


def deployment_unmet(deployment: Object | None) -> str | None:
    """Return what keeps a Deployment from being ready; None when it is ready.

    If the cluster refuses its pods, the refusal is part of the text.
    """
    if deployment is None:
        return "it does not exist"
    unmet = _replicas_unmet(deployment)
    refusal = pods_refused(deployment)
    return f"{unmet}: {refusal}" if unmet and refusal else unmet


def _replicas_unmet(deployment: Object) -> str | None:
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


def pods_refused(deployment: Object) -> str | None:
    """Return why the cluster does not create pods of a Deployment; None if it does."""
    for condition in deployment.get("status", {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message") or condition.get("reason"))
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


def explain_deployment(client: KubernetesClient, namespace: str, name: str) -> Unready:
    """Return why a Deployment is not ready; for error messages."""
    otherwise = Unready(f"Deployment {namespace}/{name}: the API does not tell in time what keeps it")
    return told_in_time(lambda: _explanation(client, namespace, name), otherwise)


def _explanation(client: KubernetesClient, namespace: str, name: str) -> Unready:
    deployment = client.get(ObjectRef("apps/v1", "Deployment", name, namespace))
    parts = [f"Deployment {namespace}/{name}: {deployment_unmet(deployment) or 'it is ready by now'}"]
    if deployment is None:
        return Unready(parts[0])
    parts += [f"event: {line}" for line in client.events("Deployment", namespace, name, 2, True)]
    # What is left of pods that ended tells nothing of those that should run.
    pods = [pod for pod in _selected(client, deployment, "v1", "Pod") if not _has_ended(pod)]
    unready = [explain_pod(client, pod) for pod in [pod for pod in pods if pod_unmet(pod)][:_EXPLAINED]]
    if not pods:
        found = _selected(client, deployment, "apps/v1", "ReplicaSet")
        for replica_set in [each for each in found if each["spec"].get("replicas", 1)][:_EXPLAINED]:
            lines = client.events("ReplicaSet", namespace, replica_set["metadata"]["name"], 2, True)
            parts += [f"event: {line}" for line in lines]
    told = "; ".join([*parts, *(pod.told for pod in unready)])
    causes = [cause_in(part, namespace) for part in parts] + [pod.cause for pod in unready]
    return Unready(told, next(filter(None, causes), None))


def _selected(client: KubernetesClient, deployment: Object, api_version: str, kind: str) -> list[Object]:
    """Return the objects of a kind that a Deployment selects."""
    selector = deployment["spec"]["selector"]
    wanted = ",".join(f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items())
    found = client.list_objects(api_version, kind, deployment["metadata"]["namespace"], labels=wanted or None)
    return [obj for obj in found if selects(selector, labels_of(obj))]


def _has_ended(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def explain_pod(client: KubernetesClient, pod: Object) -> Unready:
    """Return why a pod is not ready: its state, its newest Events, and a container's last complaint."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    parts = [f"Pod {name}: {pod_unmet(pod) or 'it is ready by now'}"]
    parts += [f"event: {line}" for line in client.events("Pod", namespace, name, 3, True)]
    complaint = _complaint(client, pod)
    parts += [complaint.told] if complaint else []
    causes = [cause_in(part, namespace) for part in reversed(parts)]
    return Unready("; ".join(parts), next(filter(None, causes), complaint))


def _complaint(client: KubernetesClient, pod: Object) -> Cause | None:
    """Return the last error that an unready container reports, now or before its last restart."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    status = pod.get("status", {})
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        state, ends = container.get("state", {}), container.get("restartCount", 0) > 0
        if container.get("ready") or not (ends or "running" in state):
            continue
        previous = ends and "running" not in state
        told = told_in_time(
            lambda of=container["name"], previous=previous: last_complaint(  # type: ignore[misc]
                client.logs(namespace, name, of, _LOG_LINES, previous)
            ),
            None,
        )
        if told:
            of_which = f"-c {container['name']}{' --previous' if previous else ''}"
            return Cause(
                f"container {container['name']} says: {told}",
                f"kubectl -n {namespace} logs {name} {of_which}",
                "fix what it complains about",
            )
    return None


def wait_ready(client: KubernetesClient, deployments: list[ObjectRef], timeout: float) -> dict[str, str]:
    """Wait until every Deployment is ready, or it is clear that waiting does not help.

    :returns: readiness by Deployment.
    :raises ExomeshError: ``not_ready``, with the condition that is not met, the pods and the Events.
    """
    started = time.monotonic()
    deadline = started + timeout

    def unmet(ref: ObjectRef) -> str | None:
        return wait_unless_it_lasts(
            lambda: deployment_unmet(client.get(ref)), max(0.0, deadline - time.monotonic())
        )

    missing = concurrently(unmet, deployments)
    unready = [ref for ref, condition in zip(deployments, missing, strict=True) if condition]
    if unready:
        explained = [explain_deployment(client, ref.namespace or "", ref.name) for ref in unready]
        steps = ". ".join(dict.fromkeys(each.next_step for each in explained if each.next_step))
        raise ExomeshError(
            f"Not ready after {time.monotonic() - started:.0f} s: "
            + ", ".join(f"{ref.namespace}/{ref.name}" for ref in unready),
            "not_ready",
            cause=". ".join(each.told for each in explained),
            next_step=f"{steps or 'Cure what the Events say'}. Then run this again; it goes on where it "
            "stopped",
        )
    return {f"{ref.namespace}/{ref.name}": "ready" for ref in deployments}


def readiness(client: KubernetesClient, deployments: list[ObjectRef]) -> dict[str, str]:
    """Return the present readiness by Deployment: ``ready``, or what is missing."""
    found = concurrently(lambda ref: deployment_unmet(client.get(ref)) or "ready", deployments)
    return {f"{ref.namespace}/{ref.name}": state for ref, state in zip(deployments, found, strict=True)}
