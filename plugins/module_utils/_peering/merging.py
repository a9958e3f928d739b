# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Search for Services that become one when clusters become peers (private to the collection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .._base.documents import MALFORMED
from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.waiting import concurrently
from .._istio.names import ISTIO_NAMESPACE
from .._istio.record import read_record
from .._istio.services import host_of, is_cluster_local, may_merge, mesh_config_in
from .._kubernetes.api import Object
from .._kubernetes.client import KubernetesClient
from .remote_secrets import secret_ref

_NAMED = 6
"""The number of Services that are named. The others are only counted."""


@dataclass
class Merging:
    """The Services that become one.

    :param services: by host, the clusters that have them.
    :param untold: clusters that could not be asked, with the reason.
    """

    services: dict[str, list[str]] = field(default_factory=dict)
    untold: dict[str, str] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """Return what to tell the user."""
        by_clusters: dict[str, list[str]] = {}
        for host, clusters in self.services.items():
            by_clusters.setdefault(", ".join(clusters), []).append(host)
        told = [_warning(clusters, hosts) for clusters, hosts in by_clusters.items()]
        return told + [
            f"{name}: Whether its Services become one with those of peers could not be told: {reason}"
            for name, reason in self.untold.items()
        ]


def _warning(clusters: str, hosts: Sequence[str]) -> str:
    names = ["/".join(reversed(host.split(".")[:2])) for host in hosts]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"{clusters}: Each of these clusters has the Services {', '.join(names[:_NAMED])}{more}. When the "
        "clusters are peers, callers with a sidecar reach the pods of all of them. To keep a Service apart, "
        "add this to istio_overlay of these clusters, and run role istio before role peering: meshConfig: "
        f"{{serviceSettings: [{{settings: {{clusterLocal: true}}, hosts: [{hosts[0]}]}}]}}"
    )


def find_merging(clusters: Mapping[str, KubernetesClient], members: Sequence[Member]) -> Merging:
    """Find the Services of the same name in clusters that are not peers yet.

    :param clusters: the clusters that answer.
    """
    new = [
        (member.name, peer)
        for member in members
        for peer in member.peers
        if {member.name, peer} <= clusters.keys() and not _are_peers(clusters, member, peer)
    ]
    found = Merging()

    def hosts(name: str) -> dict[str, bool]:
        try:
            return _hosts(clusters[name])
        except (ExomeshError, *MALFORMED) as error:
            found.untold[name] = str(error)
            return {}

    names = sorted({name for pair in new for name in pair})
    known = dict(zip(names, concurrently(hosts, names), strict=True))
    for source, destination in new:
        for host in sorted(known[source].keys() & known[destination].keys()):
            if known[source][host] and known[destination][host]:
                continue
            there = found.services.setdefault(host, [])
            there += [name for name in (source, destination) if name not in there]
    return found


def _are_peers(clusters: Mapping[str, KubernetesClient], member: Member, peer: str) -> bool:
    """Return whether two clusters became peers in an earlier run.

    Peering writes the record last, but only if it knows the mesh. The secret is there before.
    """
    if not member.mesh:
        return clusters[member.name].get(secret_ref(peer)) is not None
    ends = ((member.name, peer), (peer, member.name))
    records = [(read_record(clusters[here]), there) for here, there in ends]
    return any(record is not None and there in record.members for record, there in records)


def _hosts(client: KubernetesClient) -> dict[str, bool]:
    """Return the hosts of the Services of a cluster, and whether its callers keep to its own pods."""
    maps = client.list_objects("v1", "ConfigMap", ISTIO_NAMESPACE)
    config = mesh_config_in({entry["metadata"]["name"]: entry.get("data") or {} for entry in maps})
    services = filter(may_merge, client.list_objects("v1", "Service"))
    return {
        (host := host_of(service)): _is_apart(service) or is_cluster_local(config, host)
        for service in services
    }


def _is_apart(service: Object) -> bool:
    """Return whether callers of a Service only get what their own cluster has."""
    spec = service["spec"]
    return bool(spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName")
