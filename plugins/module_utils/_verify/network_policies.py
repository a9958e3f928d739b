# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge NetworkPolicies as Kubernetes does (private to the collection).

A pod that no policy selects for a direction may connect in that direction. Any other pod may do what at least
one rule of one of these policies allows: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .._kubernetes.selectors import selects

INGRESS, EGRESS = "Ingress", "Egress"
OUTSIDE = ""
"""An address outside of the cluster that is not known, as that of a peer's pods behind its router."""

_RULES = {INGRESS: ("ingress", "from"), EGRESS: ("egress", "to")}


class NetworkPolicies:
    """The NetworkPolicies of a cluster.

    :param policies: all of them.
    :param namespaces: all namespaces, whose labels selectors name.
    """

    def __init__(self, policies: Iterable[Object], namespaces: Iterable[Object]) -> None:
        self._policies: dict[str, list[Object]] = {}
        for policy in policies:
            self._policies.setdefault(policy["metadata"]["namespace"], []).append(policy)
        self._namespaces = {ns["metadata"]["name"]: labels_of(ns) for ns in namespaces}

    def refusing(self, pod: Object, direction: str, peer: Object | str, port: int) -> list[Object]:
        """Return the policies that together refuse a TCP connection; none if it may be made.

        :param pod: the pod whose policies are asked.
        :param direction: whether the pod gets the connection (``INGRESS``) or makes it (``EGRESS``).
        :param peer: the pod at the other end, or its IP address, or :data:`OUTSIDE`.
        :param port: the port that is connected to.
        """
        selecting = [
            policy
            for policy in self._policies.get(pod["metadata"]["namespace"], [])
            if direction in _directions(policy) and selects(policy["spec"].get("podSelector"), labels_of(pod))
        ]
        rules, ends = _RULES[direction]
        target = pod if direction == INGRESS else peer
        allowed = any(
            _has_port(rule.get("ports"), target, port) and self._has_peer(rule.get(ends), policy, peer)
            for policy in selecting
            for rule in policy["spec"].get(rules) or []
        )
        return [] if allowed else selecting

    def _has_peer(self, ends: list[Object] | None, policy: Object, peer: Object | str) -> bool:
        return not ends or any(
            _holds(end["ipBlock"], peer) if end.get("ipBlock") else self._is_selected(end, policy, peer)
            for end in ends
        )

    def _is_selected(self, end: Object, policy: Object, peer: Object | str) -> bool:
        if isinstance(peer, str):
            return False  # selectors only mean pods
        namespace = peer["metadata"]["namespace"]
        wanted = end.get("namespaceSelector")
        there = (
            namespace == policy["metadata"]["namespace"]
            if wanted is None
            else selects(wanted, self._namespaces.get(namespace, {}))
        )
        return there and selects(end.get("podSelector"), labels_of(peer))


def _directions(policy: Object) -> set[str]:
    spec = policy.get("spec") or {}
    return set(spec.get("policyTypes") or [INGRESS, *([EGRESS] if spec.get("egress") else [])])


def _has_port(ports: list[Object] | None, target: Object | str, port: int) -> bool:
    return not ports or any(
        entry.get("protocol", "TCP") == "TCP" and _is_port(entry, target, port) for entry in ports
    )


def _is_port(entry: Object, target: Object | str, port: int) -> bool:
    named = entry.get("port")
    if named is None:
        return True
    if isinstance(named, int):
        return named <= port <= int(entry.get("endPort", named))
    return not isinstance(target, str) and port_of(target, named) == port


def port_of(pod: Object, port: int | str) -> int | None:
    """Return the number of a pod's port, which may be named; None if the pod does not name it so."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    named = (told for container in containers for told in container.get("ports") or [])
    return next((told["containerPort"] for told in named if told.get("name") == port), None)


def _holds(block: Object, peer: Object | str) -> bool:
    """Return whether a block of addresses holds a peer. A peer without a known address is taken for held.

    Whoever wrote a block of addresses meant such peers.
    """
    told = peer if isinstance(peer, str) else str((peer.get("status") or {}).get("podIP") or "")
    try:
        address = ipaddress.ip_address(told)
    except ValueError:
        return isinstance(peer, str)
    return address in ipaddress.ip_network(block["cidr"], strict=False) and not any(
        address in ipaddress.ip_network(part, strict=False) for part in block.get("except") or []
    )
