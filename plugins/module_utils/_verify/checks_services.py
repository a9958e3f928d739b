# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the Services of one name in several clusters that are not one in truth (private).

Each check takes one Service, and returns what is wrong with it, with the cluster where it is to be corrected.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from .._istio.names import SEND_UNREADY_BY_DEFAULT
from .._istio.services import (
    covers,
    exported_by_default,
    full_host,
    is_cluster_local,
    is_exported,
    is_http,
    may_be_http,
    protocol_of,
)
from .._kubernetes.api import Object
from . import findings
from .findings import Finding, Kind, some, weaker
from .injection import is_injected, may_have_sidecar
from .services import (
    USUAL,
    Merged,
    Pods,
    Rules,
    Side,
    Use,
    exposed_hosts,
    has_labels,
    is_set_to_send_unready,
    merged_services,
    rules_of,
    sends_unready,
    sends_unready_by_default,
)
from .state import ClusterState, MeshState, is_ready, name_of, sidecar_of

Told = Iterator[tuple[Kind, str, str]]
"""Kinds of findings, each with the cluster and the evidence."""


def services_of_mesh(mesh: MeshState) -> Iterator[Finding]:
    """Report what is wrong with Services that several clusters have or call: a finding a kind and cluster."""
    rules = {cluster.name: rules_of(cluster) for cluster in mesh.reached}
    found: dict[tuple[Kind, str], list[str]] = {}
    for service in merged_services(mesh.reached, rules):
        for check in _CHECKS if len(service.sides) > 1 else [subsets]:
            for kind, cluster, evidence in check(service):
                found.setdefault((kind, cluster), []).append(f"Service {service.name}: {evidence}")
    for kind, cluster, evidence in [*_settings(mesh), *service_entries(mesh)]:
        found.setdefault((kind, cluster), []).append(evidence)
    for (kind, name), lines in found.items():
        yield Finding(kind, cluster=name, evidence=some(list(dict.fromkeys(lines))))


def odd(values: Mapping[str, str], least: str | None = None) -> Iterator[tuple[str, str]]:
    """Return the clusters whose value is not that of most, each with one that has the value of most.

    :param least: a value that is not taken for that of most.
    """
    counted = Counter(value for value in values.values() if value != least)
    if not counted:
        return
    common = counted.most_common(1)[0][0]
    examples = {value: name for name, value in reversed(list(values.items()))}
    yield from ((name, examples[common]) for name, value in values.items() if value != common)


# Definitions


def shapes(service: Merged) -> Told:
    """Report a Service that is headless, without pods or an alias in one cluster only."""
    shapes = {name: shape for name, side in service.joined.items() if (shape := side.shape)}
    usual_first = dict(sorted(shapes.items(), key=lambda each: each[1] != USUAL))
    for name, common in odd(usual_first):
        yield findings.SERVICE_SHAPE_DIFFERS, name, f"{shapes[name]}; {shapes[common]} in {common}"


def headless(service: Merged) -> Told:
    """Report a headless Service whose callers in one cluster have no pods but those of another."""
    if not all(side.is_headless for side in service.sides.values()):
        return
    for source, destination in service.calls:
        if source.name in service.sides and destination.proxied and not service.sides[source.name].pods:
            told = f"{source.name} has no pods of its own for it, so its callers have none"
            yield findings.HEADLESS_SERVICE, destination.name, told


def ports(service: Merged) -> Told:
    """Report ports that lead to a peer's pods under one definition, and not under the other."""
    defined = {name: _told_ports(side) for name, side in service.joined.items() if not side.is_alias}
    for name, common in odd(defined):
        differ = {defined[name], defined[common]}
        callers = [
            source
            for source, there in service.ways
            if there.proxied
            and name in (source.name, there.name)
            and {defined.get(source.name), defined.get(there.name)} == differ
        ]
        if callers:
            yield from _ports_between(service.sides[common], service.sides[name], callers)


def _told_ports(side: Side) -> str:
    return json.dumps([(name, port["port"], protocol_of(port)) for name, port in sorted(side.ports.items())])


def _ports_between(source: Side, destination: Side, callers: list[Side]) -> Told:
    ours, theirs = source.ports, destination.ports
    numbers = {port["port"]: name for name, port in theirs.items()}
    for name, port in ours.items():
        here, there = f"in {source.name}", f"in {destination.name}"
        if name in theirs:
            other = theirs[name]
            if other["port"] != port["port"]:
                told = f"port {name or 'without a name'} is {port['port']} {here}, {other['port']} {there}"
                repeated = all(side.repeats(side.ports[name]) for side in callers)
                yield _if_not(repeated, findings.SERVICE_PORT_NUMBER_DIFFERS), destination.name, told
            elif not _speak_alike(port, other):
                told = f"port {port['port']} is {protocol_of(port)} {here}, {protocol_of(other)} {there}"
                yield findings.SERVICE_PROTOCOL_DIFFERS, destination.name, told
        elif port["port"] in numbers or not ours.keys() & theirs.keys():
            named = numbers.get(port["port"], ", ".join(theirs))
            told = (
                f"port {port['port']} is named {name or '(nothing)'} {here}, {named or '(nothing)'} {there}"
            )
            yield findings.SERVICE_PORT_NAME_DIFFERS, destination.name, told


def _if_not(repeated: bool, kind: Kind) -> Kind:
    """Return the kind of a failure, which is only a warning if the callers' proxies repeat the requests."""
    return weaker(kind) if repeated else kind


def _speak_alike(port: Object, other: Object) -> bool:
    """Return whether proxies understand each other. A proxy finds out about a protocol that is not named."""
    ours, theirs = protocol_of(port), protocol_of(other)
    return ours == theirs or "auto" in (ours, theirs)


# Pods


def unready(service: Merged) -> Told:
    """Report a cluster without a ready pod to which peers still connect."""
    if not any(side.ready for side in service.sides.values()):
        return
    for sources, destination in service.callers():
        if destination.ready or not destination.proxied:
            continue
        # Proxies repeat HTTP requests with other pods.
        failing = [source for source in sources if not all(map(is_http, source.ports.values()))]
        sent = {
            source.name: sends_unready(source, destination, service.rules[source.name]) for source in failing
        }
        seen = f"none of {len(destination.proxied)} pods is ready, and"
        if callers := [source for source in failing if sent[source.name]]:
            source, repeated = _worst(callers)
            kind = _if_not(repeated, findings.UNREADY_PODS_CALLED)
            yield kind, destination.name, f"{seen} {source.name} sends requests there"
        elif unknown := [name for name, is_sent in sent.items() if is_sent is None]:
            why = f"whether {unknown[0]} sends requests there cannot be told: its istiod has no version"
            yield findings.NOT_TOLD, destination.name, f"{seen} {why}"


def _worst(callers: list[Side]) -> tuple[Side, bool]:
    """Return a cluster whose proxies do not repeat failed requests, if any, and whether all repeat them."""
    lost = [source for source in callers if not source.repeats()]
    return [*lost, *callers][0], not lost


def sidecars(service: Merged) -> Told:
    """Report a cluster whose pods have no sidecar, while those of peers have one."""
    for sources, destination in service.callers():
        source = next((source for source in sources if source.proxied), None)
        # Another check reports such pods where their namespace is injected.
        bare = [pod for pod in destination.pods if may_have_sidecar(pod)]
        if source and bare and not destination.proxied and not _is_injected(destination):
            told = f"pods without sidecar: {len(bare)}; with it in {source.name}: {len(source.proxied)}"
            kind, namespace = findings.SERVICE_NOT_INJECTED, destination.service["metadata"]["namespace"]
            step = kind.next_step.replace("NAMESPACE", namespace)
            yield replace(kind, next_step=step), destination.name, told


def _is_injected(side: Side) -> bool:
    return is_injected(side.cluster, side.service["metadata"]["namespace"])


# Rules


def routes(service: Merged) -> Told:
    """Report the clusters whose callers get other routes than those of most clusters."""
    specs = {
        name: _told_routes(service.host, service.rules[name])
        for name, side in service.joined.items()
        if side.cluster.virtual_services is not None
    }
    for name, common in odd(specs, least=""):
        there = _named(service.host, service.rules[common])
        mine = _named(service.host, service.rules[name])
        told = (
            f"{mine} in {name} differs from {there} in {common}" if mine else f"{there} is only in {common}"
        )
        yield findings.ROUTES_DIFFER, name, told


def _told_routes(host: str, rules: Rules) -> str:
    """Return what VirtualServices make of a host, as text that is equal if they do the same."""
    told = []
    for rule in rules.routes.get(host, []):
        namespace, spec = rule["metadata"]["namespace"], rule["spec"]
        parts = {kind: spec.get(kind) for kind in ("http", "tls", "tcp")}
        told.append(json.dumps(_with_full_hosts(parts, namespace), sort_keys=True))
    return "\n".join(sorted(told))


def _with_full_hosts(tree: object, namespace: str) -> object:
    if isinstance(tree, list):
        return [_with_full_hosts(part, namespace) for part in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: full_host(str(value), namespace) if key == "host" else _with_full_hosts(value, namespace)
        for key, value in tree.items()
    }


def _named(host: str, rules: Rules) -> str:
    return ", ".join(f"VirtualService {name_of(rule)}" for rule in rules.routes.get(host, []))


def subsets(service: Merged) -> Told:
    """Report subsets that the gateway of a peer does not know, or that none of its pods belongs to."""
    for source, destination in service.calls:
        mine, theirs = service.rules[source.name], service.rules[destination.name]
        defined = mine.subsets.get(service.host, {})
        uses = [use for use in mine.uses if use.host == service.host and use.subset in defined]
        if not uses or not destination.proxied or _is_by_place(defined):
            continue
        chosen = [use for use in uses if _selected(destination, defined[use.subset])]
        for use in chosen:
            known = theirs.exported.get(service.host, {})
            if use.subset not in known or not _selected(destination, known[use.subset]):
                side = service.sides.get(source.name)
                repeated = bool(side and side.repeats(labels=defined[use.subset]))
                kind = _if_not(repeated, findings.SUBSET_UNKNOWN_TO_PEER)
                yield kind, destination.name, _told_use(use, source)
        if not chosen and service.host not in mine.plain:
            yield findings.SUBSET_WITHOUT_PODS, destination.name, _told_use(uses[0], source)


def _selected(side: Side, labels: Mapping[str, str]) -> bool:
    return any(has_labels(pod, labels) for pod in side.proxied)


def _is_by_place(defined: Mapping[str, Mapping[str, str]]) -> bool:
    """Return whether subsets are of clusters, networks or zones. Istio itself gives endpoints such labels."""
    return any(label.startswith("topology.") for labels in defined.values() for label in labels)


def _told_use(use: Use, source: ClusterState) -> str:
    return f"VirtualService {use.rule} in {source.name} sends requests to subset {use.subset}"


# Gateways


def exposure(service: Merged) -> Told:
    """Report a cluster whose gateway does not let peers in to pods that they call."""
    for sources, destination in service.callers():
        hosts = exposed_hosts(destination.cluster)
        if not (destination.proxied and hosts):
            continue
        if not destination.is_exported:
            why = "its exportTo hides it from the gateway"
        elif not any(covers(host, service.host) for host in hosts):
            why = f"the gateway exposes only {', '.join(hosts)}"
        else:
            continue
        source, repeated = _worst(sources)
        kind = _if_not(repeated, findings.HOST_NOT_EXPOSED)
        yield kind, destination.name, f"{source.name} sends requests there, and {why}"


def service_entries(mesh: MeshState) -> Told:
    """Report hosts of ServiceEntries with pods in a peer whose gateway does not let requests for them in."""
    pods = {cluster.name: Pods.of(cluster) for cluster in mesh.reached}
    for source in mesh.reached:
        for entry in source.service_entries or []:
            spec, namespace = entry.get("spec") or {}, entry["metadata"]["namespace"]
            if spec.get("location") != "MESH_INTERNAL":
                continue
            labels = (spec.get("workloadSelector") or {}).get("labels")
            repeated = _is_http(spec) and any(map(is_ready, pods[source.name].behind(namespace, labels)))
            kind = _if_not(repeated, findings.HOST_NOT_EXPOSED)
            for name in set(source.member.peers) & pods.keys():
                peer = mesh.clusters[name]
                behind = pods[name].behind(namespace, labels)
                if any(map(sidecar_of, behind)) or _has_endpoint_on(spec, peer.member.network):
                    for host in spec.get("hosts") or []:
                        if reason := _not_let_in(host, source, peer):
                            yield kind, name, f"ServiceEntry {name_of(entry)} of {source.name}: {reason}"


def _is_http(spec: Object) -> bool:
    """Return whether all ports of a ServiceEntry may be of HTTP, which its own field for that tells first."""
    told = [
        {"name": port.get("name"), "appProtocol": port.get("protocol"), "port": port.get("number")}
        for port in spec.get("ports") or []
    ]
    return all(map(may_be_http, told))


def _has_endpoint_on(spec: Object, network: str) -> bool:
    return any(endpoint.get("network") == network for endpoint in spec.get("endpoints") or [])


def _not_let_in(host: str, source: ClusterState, peer: ClusterState) -> str | None:
    """Return why the gateway of a peer closes requests for a ServiceEntry's host; None if it does not."""
    exposed = exposed_hosts(peer)
    if is_cluster_local(source.mesh_config, host) or not exposed:
        return None
    if not any(covers(pattern, host) for pattern in exposed):
        return f"the gateway exposes {', '.join(exposed)}, and not {host}"
    if peer.service_entries is None:  # another finding tells that
        return None
    default = exported_by_default(peer.mesh_config, "Service")
    known = ((entry["metadata"]["namespace"], entry.get("spec") or {}) for entry in peer.service_entries)
    if any(
        host in (spec.get("hosts") or []) and is_exported(spec.get("exportTo") or default, namespace)
        for namespace, spec in known
    ):
        return None
    return f"no ServiceEntry of {peer.name} has {host}, so the gateway does not know it"


def _settings(mesh: MeshState) -> Told:
    """Report the istiods that send requests to pods that are not ready, though nobody decided that."""
    for cluster in mesh.reached:
        decided = is_set_to_send_unready(cluster, SEND_UNREADY_BY_DEFAULT) is not None
        if decided or not cluster.istiod_pods:
            continue
        sent = sends_unready_by_default(cluster)
        if sent is None:
            why = f"istiod has no version, and no {SEND_UNREADY_BY_DEFAULT}: whether it gives out pods that"
            yield weaker(findings.NOT_TOLD), cluster.name, f"{why} are not ready cannot be told"
        elif sent:
            told = f"Istio {cluster.istio_version} without {SEND_UNREADY_BY_DEFAULT}"
            yield findings.UNREADY_PODS_SENT, cluster.name, told


_CHECKS: tuple[Callable[[Merged], Told], ...] = (
    shapes,
    headless,
    ports,
    unready,
    sidecars,
    routes,
    subsets,
    exposure,
)
