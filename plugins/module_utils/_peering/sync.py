# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What istiod reports about its peers (private to the collection)."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .._base.members import Member
from .._base.waiting import concurrently
from .._istio import istiod
from .._istio.names import ISTIO_NAMESPACE, NETWORK_LABEL
from .._istio.probe import Target, api_hash
from .._kubernetes.client import KubernetesClient
from .._kubernetes.load_balancer import service_addresses
from .remote_secrets import Access


def unsynced(
    states: Mapping[str, Mapping[str, str]],
    known: Mapping[str, Mapping[str, set[str]]],
    peers: Iterable[str],
    gateways: Mapping[str, set[str]],
) -> dict[str, list[str]]:
    """Return what replicas of istiod lack of each peer, in words; empty if nothing is missing.

    :param states: for each replica, the state of each peer.
    :param known: for each replica, the addresses of each peer's gateways.
    :param gateways: the addresses that the replicas should know, for those peers of which they are known.
    """
    missing: dict[str, list[str]] = {}
    for peer in peers:
        lines = [
            f"{replica} says {seen.get(peer, 'that it does not know it')}"
            for replica, seen in states.items()
            if seen.get(peer) != istiod.SYNCED
        ]
        wanted = gateways.get(peer)
        if wanted and not lines:
            lines = [
                f"{replica} has {', '.join(sorted(seen.get(peer, ()))) or 'no address'} as its gateway, not "
                + ", ".join(sorted(wanted))
                for replica, seen in known.items()
                if seen.get(peer) != wanted
            ]
        if lines:
            missing[peer] = lines
    return missing


def look(
    reader: KubernetesClient, peers: Sequence[str], gateways: Mapping[str, set[str]]
) -> dict[str, list[str]]:
    """Return what the istiod of a reader lacks of each peer now, in words; empty if nothing is missing."""
    ready, lacking = istiod.replicas(reader)
    if not ready:
        return {peer: ["no replica of istiod is ready", *lacking] for peer in peers}
    states = dict(zip(ready, concurrently(lambda name: istiod.sync_states(reader, name), ready), strict=True))
    known = {name: istiod.known_gateways(reader, name) for name in ready} if any(gateways.values()) else {}
    return unsynced(states, known, peers, gateways)


def gateway_addresses(way: Way) -> set[str]:
    """Return the addresses of a peer's gateway; empty if it has none yet, or has a host name.

    istiod resolves a host name, so its addresses cannot be compared.
    """
    label = f"{NETWORK_LABEL}={way.peer.network}"
    services = way.client.list_objects("v1", "Service", ISTIO_NAMESPACE, labels=label)
    found = {address for service in services for address in service_addresses(service)}
    return found if all(re.fullmatch(r"[0-9.]+|.*:.*", address) for address in found) else set()


@dataclass(frozen=True)
class Way:
    """The way from a reader to one peer. ``access`` is what the reader's secret for the peer is to hold."""

    peer: Member
    client: KubernetesClient
    access: Access

    @property
    def url(self) -> str:
        return self.access.server + _PATH

    def target(self) -> Target:
        ca = base64.b64decode(self.access.ca or "")
        return Target(self.peer.name, self.url, ca, self.access.tls_server_name)

    def is_among(self, reached: Collection[str]) -> bool:
        ca = base64.b64decode(self.access.ca or "")
        return api_hash(self.access.server, ca, self.access.tls_server_name) in reached


_PATH = "/version"
