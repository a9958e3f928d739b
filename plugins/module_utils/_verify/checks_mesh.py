# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the faults of a mesh that show only when its clusters are compared (private)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from .._base.certificates import fingerprint
from . import findings
from .checks_services import services_of_mesh
from .findings import Finding, Kind, some
from .state import ClusterState, MeshState

if TYPE_CHECKING:
    from cryptography import x509

MAX_SKEW_SECONDS = 60.0
"""The largest clock skew that is not reported: half of the two minutes that Istio backdates certificates."""


def about_mesh(mesh: MeshState) -> Iterator[Finding]:
    """Report the faults that show only when clusters are compared."""
    yield from clocks(mesh)
    yield from roots(mesh)
    yield from odd_ones(
        mesh.reached,
        lambda cluster: cluster.trust_domain if cluster.mesh_config else None,
        findings.TRUST_DOMAIN_DIFFERS,
        "trust domain",
    )
    yield from versions(mesh)
    yield from service_clashes(mesh)
    yield from services_of_mesh(mesh)
    yield from strangers(mesh)


def strangers(mesh: MeshState) -> Iterator[Finding]:
    """Report the clusters that are members according to the records, but are not in the inventory."""
    names = {*mesh.clusters, *mesh.left_out}
    recorded = {
        cluster.name: set(cluster.record.members) - names for cluster in mesh.reached if cluster.record
    }
    for name in sorted(set().union(*recorded.values())):
        holders = [holder for holder, those in recorded.items() if name in those]
        yield Finding(
            findings.MEMBER_NOT_IN_INVENTORY,
            cluster=name,
            evidence=[f"the record of {', '.join(holders)} has it as a member"],
        )


def clocks(mesh: MeshState) -> Iterator[Finding]:
    skews = {cluster.name: cluster.clock_skew for cluster in mesh.reached if cluster.clock_skew is not None}
    if not skews:
        return
    # This machine's clock counts as well, so that there is a majority even with only two clusters.
    middle = median([*skews.values(), 0.0])
    for name, skew in skews.items():
        if abs(skew - middle) > MAX_SKEW_SECONDS:
            ahead = "ahead of" if skew > middle else "behind"
            yield Finding(
                findings.CLOCK_SKEW,
                cluster=name,
                evidence=[f"its API's clock is {abs(skew - middle):.0f} s {ahead} the others"],
            )


def roots(mesh: MeshState) -> Iterator[Finding]:
    """Report the clusters whose root differs from the mesh's root, which is the one of most clusters."""
    running = {cluster.name: frozenset(cluster.running_roots) for cluster in mesh.reached}
    counted = Counter(held for held in running.values() if held)
    if not counted:
        return
    common = counted.most_common(1)[0][0]
    for name, held in running.items():
        if held and not held & common:
            yield Finding(
                findings.ROOT_DIFFERS,
                cluster=name,
                evidence=[
                    f"istio-ca-root-cert of {name}: {told_roots(held)}",
                    f"of most others: {told_roots(common)}",
                ],
            )


def odd_ones(
    clusters: Sequence[ClusterState], value_of: Callable[[ClusterState], str | None], kind: Kind, what: str
) -> Iterator[Finding]:
    """Report the clusters whose value differs from that of most clusters."""
    values = {cluster.name: value for cluster in clusters if (value := value_of(cluster))}
    if not values:
        return
    common = Counter(values.values()).most_common(1)[0][0]
    for name, value in values.items():
        if value != common:
            yield Finding(kind, cluster=name, evidence=[f"{what} {value}, elsewhere {common}"])


def versions(mesh: MeshState) -> Iterator[Finding]:
    minors = {
        cluster.name: int(cluster.istio_version.split(".")[1])
        for cluster in mesh.reached
        if cluster.istio_version
    }
    if not minors:
        return
    common = Counter(minors.values()).most_common(1)[0][0]
    for name, minor in minors.items():
        if abs(minor - common) > 1:
            told = [f"{other}: Istio {mesh.clusters[other].istio_version}" for other in minors]
            yield Finding(findings.ISTIO_VERSIONS_DIFFER, cluster=name, evidence=told)


def service_clashes(mesh: MeshState) -> Iterator[Finding]:
    """Report different Services with the same address and port, in two clusters that are peers."""
    capturing = {cluster.name: cluster for cluster in mesh.reached if cluster.dns_capture}
    addresses = {name: _addresses(cluster) for name, cluster in capturing.items()}
    for pair in mesh.pairs:
        # Compare every two clusters only once.
        if pair.source > pair.destination or not {pair.source, pair.destination} <= capturing.keys():
            continue
        ours, theirs = addresses[pair.source], addresses[pair.destination]
        own_names = set(ours.values())
        other_names = set(theirs.values())
        evidence = [
            f"{address}:{port} is {ours[address, port]} in {pair.source}, {name} in {pair.destination}"
            for (address, port), name in theirs.items()
            if ours.get((address, port), name) != name
            # If both clusters have both Services, each cluster calls its own.
            and not (name in own_names and ours[address, port] in other_names)
        ]
        if evidence:
            yield Finding(
                findings.SERVICE_ADDRESS_CONFLICT,
                source=pair.source,
                destination=pair.destination,
                evidence=some(evidence),
            )


def _addresses(cluster: ClusterState) -> dict[tuple[str, int], str]:
    return {
        (address, port["port"]): f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        for service in cluster.services
        if (address := service["spec"].get("clusterIP")) not in (None, "", "None")
        for port in service["spec"].get("ports", [])
    }


def told_roots(held: Iterable[x509.Certificate]) -> str:
    return ", ".join(sorted(f"SHA-256 {fingerprint(root)[:23]}..." for root in held))
