# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether nodes have room for new pods, as the scheduler counts (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from .._base.errors import ExomeshError
from .._kubernetes.api import Object

_UNITS = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", 1)},
}


def quantity(text: str | float) -> Decimal:
    """Return a Kubernetes quantity, as in ``500m``, ``2Gi`` or ``1e3``, as a number. Raises ExomeshError."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(text))
    if not match or match[2] not in _UNITS:
        raise ExomeshError(
            f"{text!r} is not a quantity of Kubernetes",
            "invalid_quantity",
            next_step="Give one as in 500m or 2Gi",
        )
    return Decimal(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class Amount:
    """An amount of CPU (cores) and memory (bytes)."""

    cpu: Decimal = Decimal(0)
    memory: Decimal = Decimal(0)

    @classmethod
    def of(cls, resources: dict[str, Any] | None) -> Amount:
        """Read ``cpu`` and ``memory`` in the form of Kubernetes."""
        resources = resources or {}
        return cls(quantity(resources.get("cpu", 0)), quantity(resources.get("memory", 0)))

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpu + other.cpu, self.memory + other.memory)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.cpu - other.cpu, self.memory - other.memory)

    def at_least(self, other: Amount) -> Amount:
        """Return the larger of both values for each resource."""
        return Amount(max(self.cpu, other.cpu), max(self.memory, other.memory))

    def has(self, other: Amount) -> bool:
        """Return whether the other amount fits into this one."""
        return self.cpu >= other.cpu and self.memory >= other.memory

    def __str__(self) -> str:
        return f"{self.cpu * 1000:.0f}m CPU and {self.memory / 2**20:.0f} Mi memory"


@dataclass(frozen=True)
class Node:
    """A node that accepts pods, with what is free on it.

    :param pods: number of further pods that the node accepts.
    :param taints: taints that keep away pods without a toleration.
    """

    name: str
    free: Amount
    pods: int
    taints: Sequence[Mapping[str, Any]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def with_pod(self, request: Amount) -> Node:
        return replace(self, free=self.free - request, pods=self.pods - 1)


@dataclass(frozen=True)
class Pod:
    """A pod to come.

    :param tolerations: taints of nodes that do not keep it away, in the form of Kubernetes.
    :param node_selector: labels that its node must have.
    """

    name: str
    request: Amount
    tolerations: Sequence[Mapping[str, Any]] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)

    def may_be_on(self, node: Node) -> bool:
        """Return whether the scheduler would accept the node, apart from the room on it."""
        selected = all(node.labels.get(key) == str(value) for key, value in self.node_selector.items())
        return selected and all(any(_tolerates(t, taint) for t in self.tolerations) for taint in node.taints)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    key = toleration.get("key")
    if toleration.get("operator", "Equal") == "Exists":
        return not key or bool(key == taint["key"])
    return bool(key == taint["key"] and str(toleration.get("value") or "") == (taint.get("value") or ""))


def usable_nodes(nodes: Iterable[Object], pods: Sequence[Object]) -> list[Node]:
    """Return the nodes on which pods may be started, with what their pods leave free."""
    found = []
    for node in nodes:
        name = node["metadata"]["name"]
        if not _takes_pods(node):
            continue
        there = [pod for pod in pods if pod["spec"].get("nodeName") == name and not has_ended(pod)]
        allocatable = node["status"].get("allocatable") or {}
        free = Amount.of(allocatable)
        for pod in there:
            free -= request_of(pod)
        left = int(quantity(allocatable.get("pods", 110))) - len(there)
        taints = [
            taint
            for taint in node["spec"].get("taints") or []
            if taint["effect"] in ("NoSchedule", "NoExecute")
        ]
        found.append(Node(name, free, left, taints, node["metadata"].get("labels") or {}))
    return found


def has_ended(pod: Object) -> bool:
    """Return whether a pod no longer uses its node."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def request_of(pod: Object) -> Amount:
    """Return what a pod requests: the sum of its containers, or more if an init container needs more."""
    spec = pod["spec"]
    sidecars = peak = Amount()
    for container in spec.get("initContainers") or []:
        request = _requests(container)
        if container.get("restartPolicy") == "Always":  # it keeps running beside the containers
            sidecars += request
            peak = peak.at_least(sidecars)
        else:
            peak = peak.at_least(sidecars + request)
    total = sidecars
    for container in spec.get("containers") or []:
        total += _requests(container)
    return total.at_least(peak) + Amount.of(spec.get("overhead"))


def unplaced(nodes: Sequence[Node], pods: Iterable[Pod]) -> list[str]:
    """Return the names of the new pods that fit on no node, largest first."""
    left = list(nodes)
    without = []
    for pod in sorted(pods, key=lambda pod: (pod.request.memory, pod.request.cpu), reverse=True):
        for index, node in enumerate(left):
            if node.pods > 0 and node.free.has(pod.request) and pod.may_be_on(node):
                left[index] = node.with_pod(pod.request)
                break
        else:
            without.append(pod.name)
    return without


def _takes_pods(node: Object) -> bool:
    if node["spec"].get("unschedulable"):
        return False
    conditions = node.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _requests(container: Object) -> Amount:
    return Amount.of((container.get("resources") or {}).get("requests"))
