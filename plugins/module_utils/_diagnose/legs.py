# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clusters to which a request goes, as the sidecar sends it now (private to the collection)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._istio.names import GATEWAY_PORT
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .._verify.network_policies import port_of
from .._verify.state import ClusterState, is_selected
from .envoy import PASSES_ON, Endpoint
from .leaving import subset_labels
from .way import Target, Way, service_in

_FOUND_BY_CLIENT = "ORIGINAL_DST"
"""The type of an Envoy cluster whose requests go to the address that the client chose."""


@dataclass(frozen=True)
class Leg:
    """A part of the requests, which goes to one cluster.

    :param where: name of that cluster; empty if it is outside of the mesh.
    :param state: the cluster as it was seen; None if it is outside of the mesh, or did not answer.
    """

    target: Target
    where: str
    state: ClusterState | None

    @property
    def name(self) -> str:
        subset = f" ({self.target.subset})" if self.target.subset else ""
        return f"{self.target.share:.0f} % to {self.target.host}{subset}, {self.where or 'out of the mesh'}"


def legs_of(way: Way, targets: Sequence[Target]) -> list[Leg]:
    """Return where the requests really go, and where they should go but do not."""
    legs = [
        Leg(target, name, way.states.get(name))
        for target in targets
        for name in _in_use(way, target) or [_owner(way, target)]
    ]
    if not any(leg.state is way.destination for leg in legs):
        wanted = [target for target in targets if _is_wanted(way, target, way.destination)]
        legs[:0] = [Leg(target, way.destination.name, way.destination) for target in wanted[:1]]
    return legs


def _in_use(way: Way, target: Target) -> list[str]:
    """Return the names of the clusters to which the sidecar sends requests for a target now."""
    if target.name == PASSES_ON or chosen_by_client(way, target):
        return [way.source.name]
    usable = [one for one in way.proxy.endpoints_of(target.name) if not one.problem]
    first = min((one.priority for one in usable), default=0)
    return list(dict.fromkeys(place(way, one) for one in usable if one.priority == first))


def chosen_by_client(way: Way, target: Target) -> bool:
    here = service_in(way.source, *target.service) is not None
    return here and (way.proxy.cluster(target.name) or {}).get("type") == _FOUND_BY_CLIENT


def place(way: Way, endpoint: Endpoint) -> str:
    """Return the name of the cluster of an endpoint; empty if it is outside of the mesh."""
    if endpoint.cluster:
        return endpoint.cluster
    for state in way.states.values():
        if endpoint.address in (f"{address}:{GATEWAY_PORT}" for address in state.gateway_addresses):
            return state.name
    return ""


def _owner(way: Way, target: Target) -> str:
    """Return the name of the cluster that should answer for a target that has no endpoint in use."""
    if not target.is_service:
        return ""
    having = [
        state for state in (way.destination, *way.states.values()) if service_in(state, *target.service)
    ]
    with_pods = [state for state in having if pods_of(way, target, state)]
    others = [] if way.asked and target.host == way.service.host else having
    return next(iter([*with_pods, *others]), way.destination).name


def _is_wanted(way: Way, target: Target, state: ClusterState) -> bool:
    """Return whether requests for a target should also be answered in a cluster."""
    if target.name == PASSES_ON or service_in(state, *target.service) is None:
        return False
    return bool(pods_of(way, target, state)) or (way.asked and not target.subset)


def pods_of(way: Way, target: Target, state: ClusterState) -> list[Object]:
    """Return the pods of a target in a cluster that are not being deleted."""
    service = service_in(state, *target.service) or {"spec": {}}
    subset = (subset_labels(way, target) or {}) if target.subset else {}
    return [
        pod
        for pod in state.pods
        if pod["metadata"]["namespace"] == target.service[0]
        and is_selected(pod, service["spec"].get("selector") or {})
        and subset.items() <= labels_of(pod).items()
        and "deletionTimestamp" not in pod["metadata"]
    ]


def listening_port(way: Way, leg: Leg) -> int:
    """Return the port at which the pods of a leg listen."""
    state, target = leg.state, leg.target
    service = service_in(state, *target.service) if state else None
    for entry in (service or {"spec": {}})["spec"].get("ports") or []:
        if entry["port"] == target.port and state:
            wanted = entry.get("targetPort") or entry["port"]
            found = (port_of(pod, wanted) for pod in pods_of(way, target, state))
            return next(filter(None, found), target.port)
    return target.port
