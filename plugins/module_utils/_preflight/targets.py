# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of peers that pods of a cluster must reach (private to the collection)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .._base.check import ERROR, NOTE, WARNING, Check
from .._base.errors import ExomeshError
from .._base.members import Member
from .._istio.names import GATEWAY_PORT, ISTIO_NAMESPACE, NETWORK_LABEL
from .._istio.probe import Target, api_hash
from .._kubernetes.client import KubernetesClient
from .._kubernetes.kubeconfig_merge import source_entry
from .._kubernetes.load_balancer import service_addresses


@dataclass(frozen=True)
class PeerTarget(Target):
    """A target in a peer, and what it means if the target does not answer."""

    code: str = ""
    what: str = ""
    api: str = ""
    severity: str = ERROR
    cause: str = ""
    next_step: str = ""


def targets_of(peer: Member) -> tuple[list[PeerTarget], list[Check]]:
    """Return the targets in a peer, or a check that says why they are not known."""
    try:
        entry = source_entry(Path(peer.kubeconfig), None, None)
        addresses = _gateway_addresses(peer)
    except ExomeshError as error:
        unknown = f"Whether pods of this cluster reach the peer {peer.name} is not known"
        return [], [Check("peer-api", NOTE, unknown, [error.message], error.cause or "")]
    server = peer.server or entry.server
    api = PeerTarget(
        name=f"{peer.name}-api",
        url=f"{server.rstrip('/')}/version",
        ca=entry.certificate_authority,
        tls_server_name=entry.tls_server_name,
        code="peer-api",
        what=f"the API server of {peer.name}",
        api=api_hash(server, entry.certificate_authority or b"", entry.tls_server_name),
        cause="A firewall or a proxy stands between, or the address is for this machine only",
        next_step=(
            f"Let the nodes of this cluster connect to {server}, or set peering_server of {peer.name} to an "
            f"address that they reach"
        ),
    )
    gateways = [
        PeerTarget(
            name=f"{peer.name}-gateway-{number}",
            url=f"https://{address}:{GATEWAY_PORT}/",
            ca=None,
            tls_server_name=None,
            code="peer-gateway",
            what=f"the east-west gateway of {peer.name}",
            severity=WARNING,
            cause="A firewall stands between, or the gateway has no ready pod",
            next_step=(
                f"Let the nodes of this cluster connect to {address} port {GATEWAY_PORT}; see the security "
                f"groups and gateway_source_ranges of {peer.name}"
            ),
        )
        for number, address in enumerate(addresses)
    ]
    return [api, *gateways], []


def unconnected(error: str) -> bool:
    """Return whether curl could not even connect.

    A gateway refuses requests that name no service of its cluster, so other errors prove that it answers.
    """
    return re.search(r"(?i)failed to connect|could ?n.t connect|resolv|time(d )?out", error) is not None


def _gateway_addresses(peer: Member) -> list[str]:
    """Return the addresses of the peer's gateways that exist already."""
    client = KubernetesClient(peer.kubeconfig, name=peer.name)
    label = f"{NETWORK_LABEL}={peer.network}"
    services = client.list_objects("v1", "Service", ISTIO_NAMESPACE, labels=label)
    return [address for service in services for address in service_addresses(service)]
