# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what is wrong with the running proxies of a cluster, and with the ways that they need (private)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from .._base.certificates import fingerprint
from .._istio.envoy import minor_of
from .._istio.names import GATEWAY_PORT, ISTIO_NAMESPACE
from .._kubernetes.api import Object
from .._trust.inventory import ROOT
from .._trust.proxies import is_below
from .._trust.rotation import told_phase, wanted_roots
from .._trust.rotation_proof import lag_of
from . import findings
from .checks_mesh import told_roots
from .findings import Kind
from .network_policies import EGRESS, INGRESS, OUTSIDE, NetworkPolicies, port_of
from .proxies import sample
from .state import ClusterState, MeshState, Proxy, exposed_by, hosts_of, is_running, is_selected, name_of

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509

Found = Iterator[tuple[Kind, list[str]]]

_LONGEST = 400
"""Characters of a reason that are shown."""
_XDS_PORT = 15012
"""The port at which istiod gives proxies their configuration and certificates."""


def proxies(cluster: ClusterState, _mesh: MeshState) -> Found:
    """Report the proxies that are not what istiod would make now."""
    strangers = [told for proxy in cluster.proxies if (told := _stranger(proxy, cluster))]
    if strangers:
        yield findings.PROXY_ROOT_DIFFERS, strangers
    strange_versions = [told for proxy in cluster.proxies if (told := _strange_version(proxy, cluster))]
    if strange_versions:
        yield findings.PROXY_VERSION_UNSUPPORTED, strange_versions
    for kind, of_gateway in (
        (findings.GATEWAY_CONFIG_REJECTED, True),
        (findings.PROXY_CONFIG_REJECTED, False),
    ):
        refused = [
            told for proxy in cluster.proxies if proxy.is_gateway is of_gateway for told in _rejections(proxy)
        ]
        if refused:
            # Most often, two Gateways have the same hosts.
            servers = [_told_servers(gateway) for gateway in cluster.gateways if exposed_by(gateway)]
            yield kind, [*refused[:3], *(servers if of_gateway and len(servers) > 1 else []), *refused[3:]]


def _rejections(proxy: Proxy) -> list[str]:
    """Return why a proxy rejected resources: a line for each reason, with the first resource."""
    by_reason: dict[str, list[str]] = {}
    for resource, reason in proxy.rejected.items():
        by_reason.setdefault(reason, []).append(resource)
    lines = []
    for reason, resources in by_reason.items():
        named = f"{resources[0]}: " if resources[0] != reason else ""
        more = f"(and {len(resources) - 1} more) " if len(resources) > 1 else ""
        lines.append(f"{proxy.pod}: {named}{more}{' '.join(reason.split())[:_LONGEST]}")
    return lines


def _stranger(proxy: Proxy, cluster: ClusterState) -> str | None:
    """Return what is wrong with the root of a proxy; None if its root is that of its cluster."""
    roots = cluster.running_roots
    if roots and proxy.roots and not _needed(cluster) <= set(proxy.roots):
        return f"{proxy.pod} trusts {told_roots(proxy.roots)}, and istiod gives out {told_roots(roots)}"
    if roots and proxy.chain and not any(is_below(proxy.chain, root) for root in roots):
        issuer = proxy.chain[-1].issuer.rfc4514_string()
        return f"the certificate of {proxy.pod} is of {issuer}, and istiod gives out {told_roots(roots)}"
    return None


def _strange_version(proxy: Proxy, cluster: ClusterState) -> str | None:
    """Return what is wrong with the version of a proxy. Istio supports its istiod's, and the minor before."""
    known = [istiod.version for istiod in cluster.istiods if istiod.version]
    minor = minor_of(proxy.version)
    ahead = [theirs - minor for each in known if minor and (theirs := minor_of(each))]
    if not ahead or any(number in (0, 1) for number in ahead):
        return None
    return f"{proxy.pod} is of Istio {proxy.version}, istiod of {', '.join(sorted(set(known)))}"


def _needed(cluster: ClusterState) -> set[x509.Certificate]:
    """Return the roots that a proxy must trust: all, or in a rotation the one by which its cluster signs."""
    if cluster.rotation is None:
        return set(cluster.running_roots)
    rotation, phase = cluster.rotation
    _roots, signer = wanted_roots(phase, rotation)
    return {root for root in cluster.running_roots if fingerprint(root) == signer}


def rotation(cluster: ClusterState, _mesh: MeshState) -> Found:
    """Report a rotation of the root that has not ended, and the proxies that have not taken its phase."""
    if cluster.rotation is None:
        return
    under_way, phase = cluster.rotation
    known = {fingerprint(root): root for seen in (cluster.running_roots, _roots_of(cluster)) for root in seen}
    lags = [
        (proxy.pod, lag_of(proxy.chain, proxy.roots, phase, under_way, known)) for proxy in cluster.proxies
    ]
    yield (
        findings.ROOT_ROTATION,
        [told_phase(cluster.name, phase), *(f"{pod} {lag}" for pod, lag in lags if lag)],
    )


def _roots_of(cluster: ClusterState) -> list[x509.Certificate]:
    return [seen.certificate for seen in cluster.certificates if seen.role == ROOT]


def _told_servers(gateway: Object) -> str:
    return f"Gateway {name_of(gateway)}: hosts {', '.join(hosts_of(gateway))} on port {GATEWAY_PORT}"


def network_policies(cluster: ClusterState, mesh: MeshState) -> Found:
    """Report connections of the mesh that NetworkPolicies refuse."""
    if cluster.foreign_policies:
        told = [f"{number} {kind}" for kind, number in cluster.foreign_policies.items()]
        yield findings.POLICIES_NOT_JUDGED, told
    if not cluster.network_policies:
        return
    policies = NetworkPolicies(cluster.network_policies, cluster.namespaces)
    gateways = [pod for pod in cluster.pods_of_gateways if is_running(pod)]
    sampled = sample(cluster)
    workloads = [pod for pod in sampled if not _is_istio(pod)]
    for kind, refused in (
        (findings.GATEWAY_BLOCKED, _to_gateways(policies, gateways)),
        (findings.ISTIOD_BLOCKED, _to_istiod(policies, cluster, sampled)),
        (findings.PEERS_BLOCKED, _to_peers(policies, cluster, mesh, workloads)),
        (findings.ENDPOINT_BLOCKED, _from_gateways(policies, cluster, gateways, workloads)),
    ):
        if refused:
            yield kind, list(dict.fromkeys(refused))


def _to_gateways(policies: NetworkPolicies, gateways: list[Object]) -> list[str]:
    refused = ((pod, policies.refusing(pod, INGRESS, OUTSIDE, GATEWAY_PORT)) for pod in gateways)
    return [f"{name_of(pod)}: {_told(by)}" for pod, by in refused if by]


def _to_istiod(policies: NetworkPolicies, cluster: ClusterState, proxied: list[Object]) -> list[str]:
    istiods = [pod for pod in cluster.istiod_pods if is_running(pod)]
    refused = []
    for pod in proxied:
        ways = [_refusing(policies, pod, istiod, _XDS_PORT) for istiod in istiods]
        if ways and all(ways):
            refused.append(f"{name_of(pod)} to istiod, port {_XDS_PORT}: {_told(ways[0])}")
    return refused


def _to_peers(
    policies: NetworkPolicies, cluster: ClusterState, mesh: MeshState, workloads: list[Object]
) -> list[str]:
    """Report the workloads that may not connect to the gateway of a peer."""
    refused = []
    for peer in cluster.member.peers:
        addresses = mesh.clusters[peer].gateway_addresses if peer in mesh.clusters else []
        for pod in workloads:
            ways = [policies.refusing(pod, EGRESS, address, GATEWAY_PORT) for address in addresses]
            if ways and all(ways):
                refused.append(f"{name_of(pod)} to the gateway of {peer}: {_told(ways[0])}")
    return refused


def _from_gateways(
    policies: NetworkPolicies, cluster: ClusterState, gateways: list[Object], workloads: list[Object]
) -> list[str]:
    """Report the workloads that the gateway may not connect to, so that no peer reaches them."""
    refused = []
    for service in cluster.services:
        selector = service["spec"].get("selector") or {}
        for pod in workloads:
            there = pod["metadata"]["namespace"] == service["metadata"]["namespace"]
            if not (there and is_selected(pod, selector) and gateways):
                continue
            for entry in service["spec"].get("ports") or []:
                port = port_of(pod, entry.get("targetPort") or entry["port"])
                by = _refusing(policies, gateways[0], pod, port) if port and _is_tcp(entry) else []
                if by:
                    refused.append(f"Service {name_of(service)}, port {port} of {name_of(pod)}: {_told(by)}")
    return refused


def _is_tcp(entry: Object) -> bool:
    return bool(entry.get("protocol", "TCP") == "TCP")


def _refusing(policies: NetworkPolicies, source: Object, target: Object, port: int) -> list[Object]:
    """Return the policies that refuse a connection from pod to pod, at either of its ends."""
    return policies.refusing(source, EGRESS, target, port) or policies.refusing(target, INGRESS, source, port)


def _is_istio(pod: Object) -> bool:
    """Return whether the pod is Istio's own. Only workloads of users call peers, or are called by them."""
    return bool(pod["metadata"]["namespace"] == ISTIO_NAMESPACE)


def _told(by: list[Object]) -> str:
    return "NetworkPolicy " + ", ".join(name_of(policy) for policy in by)
