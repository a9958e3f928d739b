# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what is wrong with one cluster of a mesh (private)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from .._base.certificates import time_text
from .._istio.discovery import hidden, selectors_of
from .._istio.names import (
    GATEWAY_PORT,
    INJECTION_LABEL,
    ISTIO_NAMESPACE,
    NETWORK_LABEL,
    VERIFY_NAMESPACE,
)
from .._istio.registries import retired
from .._istio.services import covers, full_host
from .._kubernetes.api import Object
from .._kubernetes.cilium import bypassing
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, labels_of
from .._kubernetes.readiness import pod_unmet
from .._peering.remote_secrets import secret_ref
from .._trust.inventory import INTERMEDIATE, ISTIOD, ROOT, WORKLOAD
from .._trust.x509 import issued_by
from . import findings
from .checks_mesh import told_roots
from .checks_proxies import Found, network_policies, proxies, rotation
from .checks_sidecars import sidecars
from .findings import Finding, some, weaker
from .injection import is_injected, is_of_mesh, may_have_sidecar
from .services import Pods, exposed_hosts, is_gateway_pod
from .state import (
    EXPIRES_ANNOTATION,
    FOR_WARNINGS,
    ClusterState,
    MeshState,
    annotations_of,
    exposed_by,
    is_ready,
    is_running,
    is_selected,
    name_of,
    sidecar_of,
    workload_name,
)
from .unready import rollouts

_CA_DAYS, _LEAF_SHARE = 30, 0.1
"""The life that must be left: days for a CA, and a share of its whole life for a leaf certificate."""


def about_cluster(cluster: ClusterState, mesh: MeshState) -> Iterator[Finding]:
    """Report what is wrong with one cluster."""
    if cluster.error:
        yield Finding(findings.CLUSTER_UNREACHABLE, cluster=cluster.name, evidence=[cluster.error])
        return
    for check in _CLUSTER_CHECKS:
        for kind, evidence in check(cluster, mesh):
            why = cluster.causes.get(kind.code)
            yield Finding(kind, cluster=cluster.name, evidence=some(evidence), why=why)
    yield from destination_rules(cluster, mesh)
    yield from discovery(cluster, mesh)


# Checks: each yields kinds of findings, with their evidence


def certificates(cluster: ClusterState, mesh: MeshState) -> Found:
    if cluster.certificates_problem:
        yield findings.CACERTS_INVALID, [cluster.certificates_problem]
        return
    held = [seen.certificate for seen in cluster.certificates if seen.role == ROOT and "secret" in seen.where]
    intermediates = [seen.certificate for seen in cluster.certificates if seen.role == INTERMEDIATE]
    if not held:
        yield findings.CACERTS_MISSING, [f"no secret {ISTIO_NAMESPACE}/cacerts"]
    elif cluster.running_roots and not set(held) & set(cluster.running_roots):
        evidence = [
            f"secret cacerts: {told_roots(held)}",
            f"istio-ca-root-cert: {told_roots(cluster.running_roots)}",
        ]
        yield findings.CACERTS_NOT_IN_USE, evidence
        return
    stale = [
        seen.where
        for seen in cluster.certificates
        if seen.role == ISTIOD and intermediates and not issued_by(seen.certificate, intermediates[0])
    ]
    if stale:
        yield findings.CA_NOT_LOADED, [f"{where} serves a certificate of an older CA" for where in stale]
    expired, expiring = [], []
    for seen in cluster.certificates:
        begins, ends = seen.certificate.not_valid_before_utc, seen.certificate.not_valid_after_utc
        told = f"{seen.role} of {seen.where}: {seen.days_left(mesh.now)} days left ({time_text(ends)})"
        if ends <= mesh.now:
            expired.append(told)
        elif seen.role in (ISTIOD, WORKLOAD):
            if (ends - mesh.now) / (ends - begins) < _LEAF_SHARE:
                expiring.append(told)
        elif ends - mesh.now < timedelta(days=_CA_DAYS):
            expiring.append(told)
    if expired:
        yield findings.CERTIFICATE_EXPIRED, expired
    if expiring:
        yield findings.CERTIFICATE_EXPIRING, expiring


def istiods(cluster: ClusterState, _mesh: MeshState) -> Found:
    unready = [f"{istiod.name}: {istiod.unmet}" for istiod in cluster.istiods if istiod.unmet]
    if all(istiod.unmet for istiod in cluster.istiods):
        yield findings.ISTIOD_MISSING, unready or ["there is no pod with label app=istiod"]
    elif unready:
        yield findings.ISTIOD_DEGRADED, unready
    silent = [f"{i.name}: {i.silent}" for i in cluster.istiods if i.silent and not i.unmet]
    if silent:
        yield findings.ISTIOD_UNRESPONSIVE, silent


def network(cluster: ClusterState, _mesh: MeshState) -> Found:
    labels = next(
        (labels_of(ns) for ns in cluster.namespaces if ns["metadata"]["name"] == ISTIO_NAMESPACE), None
    )
    if labels is None:
        return  # no Istio there, which another check reports
    if (found := labels.get(NETWORK_LABEL)) != cluster.member.network:
        yield (
            findings.NETWORK_LABEL_WRONG,
            [f"{NETWORK_LABEL} is {found or 'missing'}, should be {cluster.member.network}"],
        )
    wrong = [
        f"{name_of(pod)} is on {network}"
        for pod in cluster.proxied_pods
        if (network := _environment(pod).get("ISTIO_META_NETWORK", cluster.member.network))
        != cluster.member.network
    ]
    if wrong:
        yield findings.PROXY_NETWORK_WRONG, wrong


def dns_capture(cluster: ClusterState, _mesh: MeshState) -> Found:
    if not cluster.mesh_config:
        return
    if not cluster.dns_capture:
        yield findings.DNS_CAPTURE_DISABLED, ["ISTIO_META_DNS_CAPTURE in config map istio is not true"]
        return
    without = [
        name_of(pod)
        for pod in cluster.proxied_pods
        # Gateways resolve no names for other pods.
        if _environment(pod).get("ISTIO_META_DNS_CAPTURE", "").lower() != "true" and not is_gateway_pod(pod)
    ]
    if without:
        yield findings.DNS_CAPTURE_MISSING, without


def registries(cluster: ClusterState, _mesh: MeshState) -> Found:
    images: dict[str, list[str]] = {}
    for pod in cluster.pods:
        spec = pod["spec"]
        for container in spec.get("initContainers", []) + spec["containers"]:
            if retired(container.get("image", "")):
                images.setdefault(container["image"], []).append(name_of(pod))
    if images:
        yield (
            findings.RETIRED_REGISTRY,
            [f"{image}: {pods[0]} and {len(pods) - 1} more" for image, pods in images.items()],
        )


def gateways(cluster: ClusterState, _mesh: MeshState) -> Found:
    services = cluster.gateway_services
    if not services:
        label = f"{NETWORK_LABEL}={cluster.member.network}"
        yield findings.GATEWAY_MISSING, [f"no Service in {ISTIO_NAMESPACE} with label {label}"]
        return
    if not cluster.gateway_addresses:
        yield findings.GATEWAY_WITHOUT_ADDRESS, cluster.gateway_events
    pods = cluster.pods_of_gateways
    if not any(_leads_to_gateway_port(service) for service in services):
        ports = [
            f"{p['port']} to {p.get('targetPort', p['port'])}" for s in services for p in s["spec"]["ports"]
        ]
        yield findings.GATEWAY_PORT_WRONG, [f"its ports: {', '.join(ports)}"]
    unready = [f"{name_of(pod)}: {unmet}" for pod in pods if (unmet := pod_unmet(pod))]
    if not any(map(is_ready, pods)):
        yield (
            findings.GATEWAY_NOT_READY,
            unready or [f"no pod has the labels {services[0]['spec'].get('selector')}"],
        )
    elif not any(_exposes(gateway, pods) for gateway in cluster.gateways):
        told = [
            f"Gateway {name_of(gateway)}: selector {(gateway.get('spec') or {}).get('selector')}"
            for gateway in cluster.gateways
        ]
        yield findings.GATEWAY_NOT_EXPOSED, told or [f"no Gateway in {ISTIO_NAMESPACE}"]
    elif hosts := _too_narrow(cluster):
        yield findings.GATEWAY_HOSTS_RESTRICTED, [f"its hosts: {', '.join(hosts)}"]
    if any(map(is_ready, pods)) and unready:
        yield findings.GATEWAY_DEGRADED, unready


def services(cluster: ClusterState, _mesh: MeshState) -> Found:
    """Report the Services that peers see without endpoints."""
    without, pods_there = [], Pods.of(cluster)
    for service in cluster.services:
        namespace, selector = service["metadata"]["namespace"], service["spec"].get("selector")
        if namespace == ISTIO_NAMESPACE or service["spec"].get("type") == "ExternalName":
            continue
        pods = list(filter(is_running, pods_there.behind(namespace, selector)))
        if not is_of_mesh(cluster, namespace, pods):
            continue
        bare = [name_of(pod) for pod in pods if may_have_sidecar(pod) and not sidecar_of(pod)]
        if bare:
            without.append(f"Service {name_of(service)}: {', '.join(bare)}")
    if without:
        yield findings.ENDPOINT_WITHOUT_SIDECAR, without


def mtls(cluster: ClusterState, _mesh: MeshState) -> Found:
    disabled = []
    for policy in cluster.peer_authentications:
        spec = policy.get("spec") or {}
        modes = {
            "": spec.get("mtls"),
            **{f" port {port}": mtls for port, mtls in (spec.get("portLevelMtls") or {}).items()},
        }
        disabled += [
            f"{name_of(policy)}{port}"
            for port, mtls in modes.items()
            if (mtls or {}).get("mode") == "DISABLE"
        ]
    if disabled:
        yield findings.MTLS_DISABLED, disabled


def foreign_secrets(cluster: ClusterState, mesh: MeshState) -> Found:
    known = (mesh.clusters.keys() | mesh.left_out) - {cluster.name}
    unknown = [
        f"Secret {ISTIO_NAMESPACE}/{secret.name} for {', '.join(secret.keys) or 'no cluster'}"
        for secret in cluster.secrets
        if not known & {*secret.keys, secret.annotation, secret.name.removeprefix(secret_ref("").name)}
    ]
    if unknown:
        yield findings.REMOTE_SECRET_UNKNOWN, unknown


def workload(cluster: ClusterState, mesh: MeshState) -> Found:
    namespace = next((ns for ns in cluster.namespaces if ns["metadata"]["name"] == VERIFY_NAMESPACE), None)
    if not mesh.full:
        expires = annotations_of(namespace).get(EXPIRES_ANNOTATION, "0") if namespace else None
        if expires and (not expires.isdigit() or int(expires) < mesh.now.timestamp()):
            yield findings.WORKLOAD_LEFTOVER, [f"namespace {VERIFY_NAMESPACE}"]
        return
    if cluster.workload_problem:
        yield findings.WORKLOAD_NOT_READY, [cluster.workload_problem]
        return
    pod = next(
        (pod for pod in cluster.pods if name_of(pod) == f"{VERIFY_NAMESPACE}/{workload_name(cluster.name)}"),
        None,
    )
    if pod and not sidecar_of(pod):
        yield findings.WORKLOAD_NOT_INJECTED, [f"pod {name_of(pod)}"]
    elif unmet := pod_unmet(pod):
        yield findings.WORKLOAD_NOT_READY, [unmet]
    elif cluster.sidecar_problem:
        yield findings.SIDECAR_UNRESPONSIVE, [cluster.sidecar_problem]


def discovery(cluster: ClusterState, mesh: MeshState) -> Iterator[Finding]:
    """Report the namespaces of the mesh that discovery selectors hide from istiod."""
    labels = {namespace["metadata"]["name"]: labels_of(namespace) for namespace in cluster.namespaces}
    proxied = {pod["metadata"]["namespace"] for pod in cluster.proxied_pods}
    needed = {
        name: held
        for name, held in labels.items()
        if name in {ISTIO_NAMESPACE, *proxied} or is_injected(cluster, name)
    }
    if mesh.full:
        needed.setdefault(VERIFY_NAMESPACE, {MANAGED_BY_LABEL: MANAGED_BY, INJECTION_LABEL: "enabled"})
    unseen = hidden(selectors_of(cluster.mesh_config), needed)
    if unseen:
        first = {ISTIO_NAMESPACE: "gateway", VERIFY_NAMESPACE: "endpoints"}
        yield Finding(
            findings.NAMESPACE_HIDDEN,
            cluster=cluster.name,
            evidence=some([f"namespace {name} has labels that no selector names" for name in unseen]),
            breaks=next((check for name, check in first.items() if name in unseen), None),
        )


def cilium(cluster: ClusterState, _mesh: MeshState) -> Found:
    if found := bypassing(cluster.cilium):
        yield findings.SIDECARS_BYPASSED, found


def untold(cluster: ClusterState, _mesh: MeshState) -> Found:
    """Report what could not be looked at, so that nobody takes it for well."""
    for kind, of_warnings in ((findings.NOT_TOLD, False), (weaker(findings.NOT_TOLD), True)):
        parts = [told for part, told in cluster.untold.items() if (part in FOR_WARNINGS) is of_warnings]
        if reasons := [reason for part in parts for reason in part]:
            yield kind, reasons


_CLUSTER_CHECKS: tuple[Callable[[ClusterState, MeshState], Found], ...] = (
    certificates,
    istiods,
    network,
    dns_capture,
    registries,
    gateways,
    rollouts,
    proxies,
    rotation,
    network_policies,
    services,
    sidecars,
    mtls,
    foreign_secrets,
    workload,
    cilium,
    untold,
)


def destination_rules(cluster: ClusterState, mesh: MeshState) -> Iterator[Finding]:
    """Report rules for hosts of the mesh with a TLS mode that gateways between networks do not carry."""
    names = {
        f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
        for other in mesh.reached
        for service in other.services
    }
    wrong, for_all = [], False
    for rule in cluster.destination_rules:
        spec = rule.get("spec") or {}
        modes = _tls_modes(spec) - {"ISTIO_MUTUAL"}
        host = full_host(str(spec.get("host", "")), rule["metadata"]["namespace"])
        if not modes or not any(covers(host, name) for name in names):
            continue
        wrong.append(f"{name_of(rule)}: {', '.join(sorted(modes))} for {spec.get('host')}")
        in_force = rule["metadata"]["namespace"] in (ISTIO_NAMESPACE, VERIFY_NAMESPACE)
        for_all |= in_force and covers(host, f"{workload_name('x')}.{VERIFY_NAMESPACE}.svc.cluster.local")
    if wrong:
        yield Finding(
            findings.DESTINATION_RULE_NOT_MUTUAL,
            cluster=cluster.name,
            evidence=some(wrong),
            # The east-west gateway applies this rule, too.
            breaks="endpoints" if for_all else None,
        )


def _tls_modes(spec: Object) -> set[str]:
    policies = [spec.get("trafficPolicy") or {}]
    policies += [subset.get("trafficPolicy") or {} for subset in spec.get("subsets") or []]
    policies += [port for policy in list(policies) for port in policy.get("portLevelSettings") or []]
    return {mode for policy in policies if (mode := (policy.get("tls") or {}).get("mode"))}


def _environment(pod: Object) -> dict[str, str]:
    container = sidecar_of(pod) or {}
    return {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}


def _leads_to_gateway_port(service: Object) -> bool:
    return any(
        port["port"] == GATEWAY_PORT
        and str(port.get("targetPort", GATEWAY_PORT)) in (str(GATEWAY_PORT), "tls")
        for port in service["spec"].get("ports", [])
    )


def _exposes(gateway: Object, pods: Sequence[Object]) -> bool:
    """Return whether a Gateway, Istio's own or of the Gateway API, makes these pods pass on connections."""
    spec = gateway.get("spec") or {}
    passes = any(server.get("tls", {}).get("mode") == "AUTO_PASSTHROUGH" for server in exposed_by(gateway))
    return (passes and any(is_selected(pod, spec.get("selector") or {}) for pod in pods)) or any(
        listener["port"] == GATEWAY_PORT
        and (listener.get("tls", {}).get("options") or {}).get("gateway.istio.io/listener-protocol")
        == "auto-passthrough"
        for listener in spec.get("listeners", [])
    )


def _too_narrow(cluster: ClusterState) -> list[str]:
    """Return the exposed hosts if they do not include the test workload's host; otherwise none."""
    hosts = exposed_hosts(cluster)
    tested = f"{workload_name(cluster.name)}.{VERIFY_NAMESPACE}.svc.cluster.local"
    return [] if any(covers(host, tested) for host in hosts) else hosts
