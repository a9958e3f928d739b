# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a request: who sends it, where it goes, and what was seen of it (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
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
from .._verify.state import ClusterState, is_ready, name_of, sidecar_of
from .envoy import EnvoyConfig, read_config

_ISTIOD_DEBUG_PORT = 15014

_ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Service:
    """The service to which the request is sent."""

    name: str
    namespace: str
    port: int

    @property
    def host(self) -> str:
        return f"{self.name}.{self.namespace}.svc.cluster.local"

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}:{self.port}"


@dataclass(frozen=True)
class Target:
    """The Envoy cluster to which a route sends a request."""

    name: str
    port: int
    subset: str
    host: str

    @classmethod
    def of(cls, cluster: str) -> Target | None:
        """Return the target of that name; None if it is no service of the mesh, as PassthroughCluster."""
        match = re.fullmatch(r"outbound\|(\d+)\|([^|]*)\|(.+)", cluster)
        return cls(cluster, int(match[1]), match[2], match[3]) if match else None

    @property
    def sni(self) -> str:
        return f"outbound_.{self.port}_.{self.subset}_.{self.host}"

    @property
    def service(self) -> tuple[str, str]:
        """Return the namespace and name of the Service."""
        name, namespace, *_rest = [*self.host.split("."), ""]
        return namespace, name


@dataclass(frozen=True)
class Step:
    """The result of one step of the way.

    :param told: the result in a few words.
    """

    name: str
    state: str
    told: str = ""
    evidence: tuple[str, ...] = ()
    cause: str = ""
    next_step: str = ""


@dataclass
class Way:
    """Everything that was seen of the way of one request.

    :param pod: the workload that sends the request, as ``namespace/name``.
    :param known_to: by replica of istiod, what it reports of the pod's sidecar; empty if it does not know it.
    :param gateway: the configuration of the destination's gateway; None if the gateway was not asked.
    """

    service: Service
    source: ClusterState
    destination: ClusterState
    pod: str
    proxy: EnvoyConfig
    known_to: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gateway: EnvoyConfig | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def crosses(self) -> bool:
        """Return whether the request has to go through the destination's gateway."""
        return self.source.member.network != self.destination.member.network

    @property
    def pod_namespace(self) -> str:
        return self.pod.partition("/")[0]

    @property
    def pod_name(self) -> str:
        return self.pod.partition("/")[2]


def look(members: Sequence[Member], source: str, service: str, destination: str = "", pod: str = "") -> Way:
    """Read everything that is needed to walk the way; see the module's options.

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
                next_step=f"{member.playbook}.kubeconfig --limit {member.limit}",
            )
    wanted = find_service(service, [state for state in states.values() if state.client])
    chosen = destination or choose_destination(wanted, states, source)
    asking = find_pod(states[source], wanted, pod)
    return _ask_proxies(Way(wanted, states[source], states[chosen], name_of(asking), EnvoyConfig()))


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
    ports = list(dict.fromkeys(entry["port"] for service in found for entry in service["spec"]["ports"]))
    if port and int(port) not in ports:
        raise ExomeshError(
            f"Service {name} in namespace {namespace} has no port {port}",
            "unknown_port",
            next_step=f"Take one of its ports: {', '.join(map(str, ports))}",
        )
    return Service(name, namespace, int(port) if port else ports[0])


def choose_destination(service: Service, states: Mapping[str, ClusterState], source: str) -> str:
    """Return the first other member that has the Service, or else the source itself."""
    having = [name for name, state in states.items() if service_in(state, service.namespace, service.name)]
    return next((name for name in having if name != source), source)


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
    client = way.source.reached
    proxy = read_config(client, way.pod_namespace, way.pod_name)
    istiods = [istiod.name for istiod in way.source.istiods if not istiod.unmet]
    told = concurrently(lambda name: _syncz(client, name, f"{way.pod_name}.{way.pod_namespace}"), istiods)
    gateway = None
    if way.crosses:
        pods = [pod for pod in way.destination.pods_of_gateways if is_ready(pod)]
        if pods:
            gateway = read_config(way.destination.reached, ISTIO_NAMESPACE, pods[0]["metadata"]["name"])
    return replace(way, proxy=proxy, known_to=dict(zip(istiods, told, strict=True)), gateway=gateway)


def _syncz(client: KubernetesClient, istiod: str, proxy: str) -> dict[str, Any]:
    """Return what a replica of istiod sent to a proxy and what the proxy accepted; empty if not connected."""
    answer = client.get_from_pod(ISTIO_NAMESPACE, istiod, _ISTIOD_DEBUG_PORT, "/debug/syncz", _ANSWER_SECONDS)
    try:
        entries = load_json(answer, f"What istiod {istiod} tells of its proxies") or []
        return next((dict(entry) for entry in entries if entry.get("proxy") == proxy), {})
    except MALFORMED as error:
        raise ExomeshError(
            f"Pod {ISTIO_NAMESPACE}/{istiod} does not tell what it knows of its proxies",
            "istiod_silent",
            cluster=client.name,
            cause=str(error),
            next_step="Look at its log",
        ) from None


def service_in(state: ClusterState, namespace: str, name: str) -> Object | None:
    return next((found for found in state.services if name_of(found) == f"{namespace}/{name}"), None)


OK, FOLLOWS, STOP, UNKNOWN = "ok", "follows", "stop", "unknown"
"""The states of a step. FOLLOWS means that the step is wrong because of a later step, which stops the way."""


def lines(way: Way, steps: Sequence[Step]) -> list[str]:
    """Return the way as lines for people: the request, each step, and where the way stops."""
    words = {OK: "ok", FOLLOWS: "!", STOP: "STOP", UNKNOWN: "-"}
    told = [f"{way.pod} in {way.source.name} asks for {way.service}, of {way.destination.name}:", ""]
    for step in steps:
        told.append(f"{words[step.state]:<6}{step.name:<15}{step.told}")
        told += [f"{'':<21}saw: {line}" for line in step.evidence]
        if step.state == STOP:
            told += [f"{'':<21}likely cause: {step.cause}", f"{'':<21}next: {step.next_step}"]
    if all(step.state == OK for step in steps):
        told += ["", "Every step is well. Not looked at:"]
        told += ["authorization policies, network policies of the workloads, the application itself."]
    return told
