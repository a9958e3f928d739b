# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what is needed to walk the way of a request (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.members import Member, member_named
from .._base.waiting import concurrently
from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import Object
from .._kubernetes.client import KubernetesClient
from .._kubernetes.readiness import pod_unmet
from .._verify.observe import observe_cluster
from .._verify.state import ClusterState, is_ready, is_selected, name_of, sidecar_of
from .commands import playbook
from .envoy import EnvoyConfig, read_config, read_listeners, with_new_statuses
from .leaving import addresses_of, find_listener, find_route
from .legs import Leg, legs_of, pods_of
from .request import Sent, send
from .way import Service, Way, service_in

_ISTIOD_DEBUG_PORT = 15014
_ANSWER_SECONDS = 20.0
_READ = (
    ("networking.istio.io/v1", "Sidecar"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
)
"""Kinds of the source that may change what its proxies do, and that status does not read."""


def look(
    members: Sequence[Member],
    source: str,
    service: str,
    destination: str = "",
    pod: str = "",
    request: bool = False,
    why_not: str = "it was switched off",
) -> Way:
    """Read everything that is needed to walk the way; see the module's options.

    :param request: whether to send a real request.
    :param why_not: why no real request is sent.
    :raises ExomeshError: an option names something that does not exist, or a cluster does not answer.
    """
    names = [member.name for member in members]
    source = member_named(members, "source", source).name
    destination = member_named(members, "destination", destination).name if destination.strip() else ""
    states = dict(zip(names, concurrently(observe_cluster, members), strict=True))
    for name in filter(None, (source, destination)):
        member = states[name].member
        if states[name].error:
            raise ExomeshError(
                "The cluster's API does not answer",
                "cluster_unreachable",
                cluster=name,
                cause=states[name].error,
                next_step=playbook(member, "kubeconfig", member),
            )
    reached = {name: state for name, state in states.items() if state.client}
    wanted = find_service(service, list(reached.values()))
    chosen = destination or choose_destination(wanted, reached, source)
    asking = find_pod(reached[source], wanted, pod)
    way = Way(
        wanted,
        reached[source],
        reached[chosen],
        name_of(asking),
        EnvoyConfig(),
        asked=bool(destination),
        states=reached,
    )
    return _with_request(_ask_proxies(way), request, why_not)


def find_service(text: str, clusters: Sequence[ClusterState]) -> Service:
    """Return the service that the user named as ``name.namespace`` or ``name.namespace:port``.

    :raises ExomeshError: there is no such service or port.
    """
    match = re.fullmatch(r"([a-z0-9-]+)\.([a-z0-9-]+)(?:\.svc(?:\.[a-z0-9.-]+)?)?(?::(\d+))?", text)
    if not match:
        raise ExomeshError(
            f"The service {text!r} is not understood",
            "unknown_service",
            next_step="Give it as NAME.NAMESPACE or NAME.NAMESPACE:PORT",
        )
    name, namespace, port = match.groups()
    found = [
        service
        for cluster in clusters
        for service in cluster.services
        if name_of(service) == f"{namespace}/{name}"
    ]
    if not found:
        near = sorted(
            {
                service["metadata"]["name"]
                for cluster in clusters
                for service in cluster.services
                if service["metadata"]["namespace"] == namespace
            }
        )
        raise ExomeshError(
            f"No cluster has a Service {name} in namespace {namespace}",
            "unknown_service",
            cause=f"That namespace has {', '.join(near)}" if near else "No cluster has Services there",
            next_step="Give it as NAME.NAMESPACE or NAME.NAMESPACE:PORT",
        )
    ports = list(
        dict.fromkeys(
            entry["port"] for service in found for entry in (service.get("spec") or {}).get("ports") or []
        )
    )
    if not ports:
        raise ExomeshError(
            f"Service {name} in namespace {namespace} has no ports, so nobody can send it a request",
            "unknown_port",
            next_step="Give the Service a port, or name another one as NAME.NAMESPACE",
        )
    if port and int(port) not in ports:
        raise ExomeshError(
            f"Service {name} in namespace {namespace} has no port {port}",
            "unknown_port",
            next_step=f"Take one of its ports: {', '.join(map(str, ports))}",
        )
    return Service(name, namespace, int(port) if port else ports[0])


def choose_destination(service: Service, states: Mapping[str, ClusterState], source: str) -> str:
    """Return the first other member that has the Service and pods of it.

    If there is none, it is the source if that has pods of it, or else the first other one with the Service.
    """
    having = [name for name, state in states.items() if service_in(state, service.namespace, service.name)]
    others = [name for name in having if name != source]
    with_pods = [name for name in (*others, source) if name in having and _has_pods(states[name], service)]
    return next(iter([*with_pods, *others]), source)


def _has_pods(state: ClusterState, service: Service) -> bool:
    found = service_in(state, service.namespace, service.name) or {"spec": {}}
    selector = found["spec"].get("selector") or {}
    # The endpoints of a Service without a selector are not known here.
    return not selector or any(
        is_selected(pod, selector) and pod["metadata"]["namespace"] == service.namespace for pod in state.pods
    )


def find_pod(cluster: ClusterState, service: Service, wanted: str = "") -> Object:
    """Return the workload that sends the request: the named pod, or else any pod with a sidecar.

    Pods in the service's own namespace come first.

    :raises ExomeshError: there is no such pod.
    """
    proxied = [
        pod
        for pod in cluster.pods
        if sidecar_of(pod) and is_ready(pod) and pod["metadata"]["namespace"] != ISTIO_NAMESPACE
    ]
    if wanted:
        found = next((pod for pod in proxied if name_of(pod) == wanted), None)
        if found:
            return found
        there = next((pod for pod in cluster.pods if name_of(pod) == wanted), None)
        raise ExomeshError(
            f"Pod {wanted} cannot be asked",
            "no_sidecar",
            cluster=cluster.name,
            cause="There is no such pod"
            if there is None
            else pod_unmet(there) or "It has no sidecar: it was started before injection, or switches it off",
            next_step="Name a pod with a sidecar as NAMESPACE/NAME: "
            + (", ".join(name_of(pod) for pod in proxied[:5]) or "there is none in this cluster"),
        )
    if not proxied:
        raise ExomeshError(
            "No running pod has a sidecar, so there is no proxy to ask",
            "no_sidecar",
            cluster=cluster.name,
            cause="No namespace is injected, or its pods were started before it was",
            next_step="Start a workload with a sidecar there, as playbook exomesh.istio.demo does",
        )
    return min(proxied, key=lambda pod: (pod["metadata"]["namespace"] != service.namespace, name_of(pod)))


def _ask_proxies(way: Way) -> Way:
    """Ask the caller's sidecar, the istiods of its cluster, then the proxies to which the request goes."""
    client, untold = way.source.reached, dict[str, str]()
    proxy = read_config(client, way.pod_namespace, way.pod_name)
    objects = concurrently(lambda kind: _objects(client, *kind), _READ)
    kinds = [kind for _api_version, kind in _READ]
    istiods = [istiod.name for istiod in way.source.istiods if not istiod.unmet]
    ask = partial(_syncz, client, f"{way.pod_name}.{way.pod_namespace}", untold)
    told = dict(zip(istiods, concurrently(ask, istiods), strict=True))
    known_to = {name: entry for name, entry in told.items() if entry is not None}
    way = replace(
        way,
        proxy=proxy,
        known_to=known_to,
        objects=dict(zip(kinds, objects, strict=True)),
    )
    listener, _step = find_listener(way)
    targets = find_route(way, listener)[0] if listener else []
    legs = legs_of(way, targets)
    states = {leg.state.name: leg.state for leg in legs if leg.state} | {
        way.destination.name: way.destination
    }
    crossed = [state for state in states.values() if way.crosses(state)]
    gateways = concurrently(partial(_gateway, untold), crossed)
    answering = list(_answering(way, legs))
    empty = {leg.state.name: leg for leg in legs if leg.state and not pods_of(way, leg.target, leg.state)}
    silent: dict[tuple[str, str], str] = {}
    inbound = concurrently(lambda where: _inbound(silent, *where), answering)
    return replace(
        way,
        untold=untold,
        workloads={
            name: found
            for name, found in zip(empty, concurrently(_workloads, empty.values()), strict=True)
            if found is not None
        },
        gateways={state.name: told for state, told in zip(crossed, gateways, strict=True) if told},
        inbound={
            (state.name, name_of(pod)): told
            for (state, pod), told in zip(answering, inbound, strict=True)
            if told
        },
        silent=silent,
    )


def _objects(client: KubernetesClient, api_version: str, kind: str) -> list[Object]:
    """Return objects that only help to name a cause; none if they may not be read."""
    with suppress(ExomeshError):
        return client.list_objects(api_version, kind)
    return []


def _workloads(leg: Leg) -> list[Object] | None:
    """Return the workloads in the namespace of a leg's Service; None if they may not be read."""
    client, namespace = leg.state.client if leg.state else None, leg.target.service[0]
    if client is None:
        return None
    with suppress(ExomeshError):
        return [
            workload
            for kind in ("Deployment", "StatefulSet")
            for workload in client.list_objects("apps/v1", kind, namespace)
        ]
    return None


def _gateway(untold: dict[str, str], state: ClusterState) -> EnvoyConfig | None:
    pod = next((pod for pod in state.pods_of_gateways if is_ready(pod)), None)
    if pod is None:
        return None
    try:
        return read_config(state.reached, ISTIO_NAMESPACE, pod["metadata"]["name"])
    except ExomeshError as error:
        untold[state.name] = str(error)
        return None


def _answering(way: Way, legs: Sequence[Leg]) -> Iterator[tuple[ClusterState, Object]]:
    """Yield a pod of each leg that has a sidecar, which knows who may send requests to it."""
    seen = set()
    for leg in legs:
        for pod in pods_of(way, leg.target, leg.state) if leg.state else []:
            if leg.state and sidecar_of(pod) and is_ready(pod):
                if (leg.state.name, name_of(pod)) not in seen:
                    yield leg.state, pod
                seen.add((leg.state.name, name_of(pod)))
                break


def _inbound(silent: dict[tuple[str, str], str], state: ClusterState, pod: Object) -> EnvoyConfig | None:
    try:
        return read_listeners(state.reached, pod["metadata"]["namespace"], pod["metadata"]["name"])
    except ExomeshError as error:
        silent[state.name, name_of(pod)] = str(error)
        return None


def _with_request(way: Way, request: bool, why_not: str) -> Way:
    """Send a real request, if it may be sent, and ask the sidecar again what it makes of its endpoints."""
    reason = _forbids(way) if request else why_not
    if reason:
        return replace(way, sent=Sent(why_not=reason))
    client = way.source.reached
    sent = send(client, way.caller, way.service.request.url)
    if not sent.made:
        return replace(way, sent=sent)
    proxy = with_new_statuses(way.proxy, client, way.pod_namespace, way.pod_name)
    return replace(way, sent=sent, proxy=proxy)


def _forbids(way: Way) -> str:
    """Return why no HTTP request can be sent to the service; empty if it can."""
    service: Object = next(
        (
            found
            for state in (way.destination, *way.states.values())
            if (found := service_in(state, way.service.namespace, way.service.name))
        ),
        {"spec": {}},
    )
    for port in service["spec"].get("ports") or []:
        told = str(port.get("appProtocol") or port.get("name") or "").lower()
        protocol = told.rpartition("/")[2].partition("-")[0]
        if port["port"] == way.service.port and protocol in _NOT_HTTP:
            return f"port {way.service.port} is {told}, not HTTP"
    listener = way.proxy.listener(addresses_of(way, way.service), way.service.port)
    if listener and listener.routes is None:
        return f"port {way.service.port} is TCP to the sidecar, not HTTP"
    return ""


_NOT_HTTP = (
    "tcp",
    "udp",
    "tls",
    "https",
    "mongo",
    "mysql",
    "redis",
    "grpc",
    "postgres",
    "postgresql",
    "kafka",
)


def _syncz(
    client: KubernetesClient, proxy: str, untold: dict[str, str], istiod: str
) -> dict[str, Any] | None:
    """Return what a replica of istiod sent to a proxy and what the proxy accepted; empty if not connected.

    None means that the replica does not tell it.
    """
    try:
        answer = client.get_from_pod(
            ISTIO_NAMESPACE, istiod, _ISTIOD_DEBUG_PORT, "/debug/syncz", _ANSWER_SECONDS
        )
        entries = load_json(answer, f"What istiod {istiod} tells of its proxies") or []
        return next((dict(entry) for entry in entries if entry.get("proxy") == proxy), {})
    except (ExomeshError, *MALFORMED) as error:
        untold[istiod] = str(error)
        return None
