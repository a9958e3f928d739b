# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which PeerAuthentication holds for a port of a pod (private to the collection)."""

from __future__ import annotations

from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .._kubernetes.selectors import selects
from .state import ClusterState, name_of

STRICT, DISABLE, PERMISSIVE = "STRICT", "DISABLE", "PERMISSIVE"
_UNSET = (None, "", "UNSET")


def mtls_mode(state: ClusterState, pod: Object, port: int) -> tuple[str, str]:
    """Return the mode of mutual TLS at a port of a pod, and the policy that sets it; "" if none does.

    A policy for the workload takes precedence over that of its namespace, and this over that of the mesh. Of
    several policies of one level, the oldest holds.
    """
    namespace = pod["metadata"]["namespace"]
    named = [policy for policy in state.peer_authentications if _is_for(policy, pod)]
    named.sort(key=lambda policy: str(policy["metadata"].get("creationTimestamp", "")))
    of_workload = [one for one in named if _selector(one) and one["metadata"]["namespace"] == namespace]
    of_namespace = [one for one in named if not _selector(one) and one["metadata"]["namespace"] == namespace]
    of_mesh = [one for one in named if not _selector(one) and one["metadata"]["namespace"] == ISTIO_NAMESPACE]
    for policy in of_workload[:1]:
        ports = (policy.get("spec") or {}).get("portLevelMtls") or {}
        mode = (ports.get(str(port)) or ports.get(port) or {}).get("mode")
        if mode not in _UNSET:
            return str(mode), name_of(policy)
    for policy in (*of_workload[:1], *of_namespace[:1], *of_mesh[:1]):
        mode = ((policy.get("spec") or {}).get("mtls") or {}).get("mode")
        if mode not in _UNSET:
            return str(mode), name_of(policy)
    return PERMISSIVE, ""


def _selector(policy: Object) -> dict[str, str]:
    return dict(((policy.get("spec") or {}).get("selector") or {}).get("matchLabels") or {})


def _is_for(policy: Object, pod: Object) -> bool:
    here = policy["metadata"]["namespace"] in (pod["metadata"]["namespace"], ISTIO_NAMESPACE)
    return here and selects({"matchLabels": _selector(policy)}, labels_of(pod))
