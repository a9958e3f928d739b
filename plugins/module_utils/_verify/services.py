# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of one name in several clusters, and what Istio makes of them (private).

Istio takes Services of the same namespace and name for one. Each istiod uses the definition, the rules and
the settings of its own cluster, and the pods of all clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ansible.module_utils.compat.version import LooseVersion

from .._istio.names import GATEWAY_PORT, ISTIO_NAMESPACE, SEND_UNREADY, SEND_UNREADY_BY_DEFAULT
from .._istio.services import (
    EXPORT_TO,
    covers,
    exported_by_default,
    full_host,
    host_of,
    is_cluster_local,
    is_discovered,
    is_exported,
    may_be_http,
    may_merge,
)
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .mtls import DISABLE, mtls_mode
from .network_policies import port_of
from .state import (
    ClusterState,
    annotations_of,
    hosts_of,
    is_ready,
    is_running,
    is_selected,
    name_of,
    sidecar_of,
)


def exposed_hosts(cluster: ClusterState) -> list[str]:
    """Return the hosts that the east-west gateway of a cluster exposes."""
    listeners = [
        listener
        for gateway in cluster.gateways
        for listener in (gateway.get("spec") or {}).get("listeners", [])
        if listener["port"] == GATEWAY_PORT
    ]
    hosts = [host for gateway in cluster.gateways for host in hosts_of(gateway)]
    return hosts + [listener.get("hostname", "*") for listener in listeners]


USUAL = "with an address, for pods"
"""The shape of most Services."""


@dataclass(frozen=True)
class Side:
    """A Service in one of the clusters that have it.

    :param pods: the pods behind it that have an address.
    :param has_endpoints: whether somebody gave it addresses by hand; only for one without a selector.
    """

    cluster: ClusterState
    service: Object
    pods: list[Object]
    has_endpoints: bool = False

    @property
    def name(self) -> str:
        return self.cluster.name

    @property
    def spec(self) -> Object:
        spec: Object = self.service["spec"]
        return spec

    @cached_property
    def proxied(self) -> list[Object]:
        """Return the pods that peers can reach: those with a sidecar."""
        return [pod for pod in self.pods if sidecar_of(pod)]

    @cached_property
    def ready(self) -> list[Object]:
        return [pod for pod in self.proxied if is_ready(pod)]

    @cached_property
    def ports(self) -> dict[str, Object]:
        """Return the ports that cross clusters, by name. UDP never leaves its cluster."""
        ports = self.spec.get("ports") or []
        return {port.get("name", ""): port for port in ports if port.get("protocol", "TCP") == "TCP"}

    def repeats(self, *ports: Object, labels: Mapping[str, str] | None = None) -> bool:
        """Return whether proxies here repeat failed requests to these ports with pods of their own cluster.

        They cannot repeat other connections than HTTP requests.

        :param labels: labels that these pods must have.
        """
        own = any(is_ready(pod) and has_labels(pod, labels or {}) for pod in self.pods)
        return own and all(may_be_http(port) for port in ports or self.ports.values())

    @property
    def is_headless(self) -> bool:
        return bool(self.spec.get("clusterIP") == "None")

    @property
    def is_exported(self) -> bool:
        """Return whether the east-west gateway sees the Service."""
        told = annotations_of(self.service).get(EXPORT_TO)
        default = exported_by_default(self.cluster.mesh_config, "Service")
        return is_exported(told.split(",") if told else default)

    @property
    def is_alias(self) -> bool:
        return bool(self.spec.get("type") == "ExternalName")

    @property
    def shape(self) -> str | None:
        """Return what kind of Service it is; None for one that only gives a name an address."""
        if self.is_alias:
            return f"an ExternalName for {self.spec.get('externalName')}"
        if self.is_headless:
            return "headless"
        if not self.spec.get("selector"):
            return "without a selector, with addresses given by hand" if self.has_endpoints else None
        return USUAL


@dataclass(frozen=True)
class Merged:
    """A Service of the mesh, in all clusters that have it.

    :param sides: each of them, by the cluster's name.
    :param clusters: all clusters, by name.
    :param rules: the rules of each of them.
    """

    name: str
    host: str
    sides: dict[str, Side]
    clusters: Mapping[str, ClusterState]
    rules: Mapping[str, Rules]

    @cached_property
    def calls(self) -> list[tuple[ClusterState, Side]]:
        """Return each cluster whose callers are sent to pods of another, with that other one."""
        return [
            (source, self.sides[peer])
            for source in self.clusters.values()
            if not is_cluster_local(source.mesh_config, self.host)
            for peer in source.member.peers
            if peer in self.sides and self._is_mutual(source, self.sides[peer])
        ]

    def _is_mutual(self, source: ClusterState, destination: Side) -> bool:
        """Return whether callers use mutual TLS. Otherwise, istiod gives them no pods of other networks."""
        rules, definition = self.rules[source.name], self.sides.get(source.name, destination)
        namespace, ports = definition.service["metadata"]["namespace"], definition.ports.values()
        policy = rules.policy_of(self.host, namespace)
        if policy and ports and not any(_mutual(policy, port) for port in ports):
            return False
        if not (ports and destination.proxied and rules.without_mtls & {namespace, ISTIO_NAMESPACE}):
            return True
        targets = [port.get("targetPort") or port["port"] for port in ports]
        return any(
            mtls_mode(source, pod, port_of(pod, target) or 0)[0] != DISABLE
            for pod in destination.proxied
            for target in targets
        )

    @cached_property
    def ways(self) -> list[tuple[Side, Side]]:
        """Return the same for clusters that have the Service themselves.

        Callers of a headless Service or of an alias only get what their own cluster has.
        """
        with_service = [(self.sides.get(source.name), destination) for source, destination in self.calls]
        return [
            (side, destination)
            for side, destination in with_service
            if side and not side.is_headless and not side.is_alias
        ]

    def callers(self) -> Iterator[tuple[list[Side], Side]]:
        """Return each cluster whose Service others call, with those others before it."""
        for destination in self.sides.values():
            if sources := [source for source, there in self.ways if there is destination]:
                yield sources, destination

    @cached_property
    def joined(self) -> dict[str, Side]:
        """Return the sides between which there are calls."""
        ends = {
            name
            for source, destination in self.calls
            if source.name in self.sides
            for name in (source.name, destination.name)
        }
        return {name: side for name, side in self.sides.items() if name in ends}


@dataclass
class Pods:
    """The pods of a cluster that have an address, by namespace and label. A large mesh has many thousands."""

    by_label: dict[tuple[str, str, str], list[Object]] = field(default_factory=dict)

    @classmethod
    def of(cls, cluster: ClusterState) -> Pods:
        pods = cls()
        for pod in filter(has_address, cluster.pods):
            for label, value in labels_of(pod).items():
                pods.by_label.setdefault((pod["metadata"]["namespace"], label, value), []).append(pod)
        return pods

    def behind(self, namespace: str, selector: dict[str, str] | None) -> list[Object]:
        """Return the pods that a selector selects."""
        wanted = selector or {}
        by_label = [self.by_label.get((namespace, *label), []) for label in wanted.items()]
        return [pod for pod in min(by_label, key=len, default=[]) if is_selected(pod, wanted)]


def has_address(pod: Object) -> bool:
    """Return whether a pod can be an endpoint, ready or not. Pods that have ended or end are none."""
    phase = pod.get("status", {}).get("phase")
    started = phase == "Running" or (phase == "Pending" and pod["status"].get("podIP"))
    return bool(started) and "deletionTimestamp" not in pod["metadata"]


def is_gateway_pod(pod: Object) -> bool:
    """Return whether the pod has no container but a proxy."""
    containers = pod["spec"]["containers"]
    return len(containers) == 1 and containers[0]["name"] == "istio-proxy"


def merged_services(clusters: Sequence[ClusterState], rules: Mapping[str, Rules]) -> list[Merged]:
    """Return the Services that several clusters have, or to a subset of which there are routes.

    Services without any sidecar behind them are not among them: no request of a peer reaches their pods.

    :param rules: the rules of each cluster.
    """
    ruled = {use.host for known in rules.values() for use in known.uses}
    found: dict[str, dict[str, Object]] = {}
    for cluster in clusters:
        hidden = _hidden_namespaces(cluster)
        for service in filter(may_merge, cluster.services):
            if service["metadata"]["namespace"] in hidden:
                continue
            found.setdefault(name_of(service), {})[cluster.name] = service
    pods = {cluster.name: Pods.of(cluster) for cluster in clusters}
    by_name = {cluster.name: cluster for cluster in clusters}

    def side(name: str, service: Object) -> Side:
        behind = pods[name].behind(service["metadata"]["namespace"], service["spec"].get("selector"))
        return Side(by_name[name], service, behind, name_of(service) in (by_name[name].given_addresses or ()))

    merged = []
    for name, services in found.items():
        host = host_of(next(iter(services.values())))
        if len(services) > 1 or host in ruled:
            sides = {key: side(key, service) for key, service in services.items()}
            if any(map(_is_workload, sides.values())):
                merged.append(Merged(name, host, sides, by_name, rules))
    return sorted(merged, key=lambda service: service.name)


def _hidden_namespaces(cluster: ClusterState) -> set[str]:
    return {
        ns["metadata"]["name"]
        for ns in cluster.namespaces
        if not is_discovered(cluster.mesh_config, labels_of(ns))
    }


def _is_workload(side: Side) -> bool:
    return any(not is_gateway_pod(pod) for pod in side.proxied)


# Ports and settings

_FIRST_WITH_DEFAULT = LooseVersion("1.31")


def is_set_to_send_unready(cluster: ClusterState, variable: str) -> bool | None:
    """Return what istiod is told about pods that are not ready; None if one of its pods is told nothing."""
    pods = list(filter(is_running, cluster.istiod_pods)) or cluster.istiod_pods
    told = [
        next((str(entry.get("value")) for entry in _environment(pod) if entry["name"] == variable), None)
        for pod in pods
    ]
    values = [value.lower() for value in told if value is not None]
    return (
        any(value in ("1", "t", "true") for value in values) if values and len(values) == len(told) else None
    )


def _environment(pod: Object) -> list[Object]:
    return [entry for container in pod["spec"]["containers"] for entry in container.get("env") or []]


def sends_unready_by_default(cluster: ClusterState) -> bool | None:
    """Return whether a cluster's istiod gives out pods that are not ready, unless it is told not to.

    Return None if its version is not known.
    """
    version = cluster.istio_version
    return None if version is None else LooseVersion(version.partition("-")[0]) >= _FIRST_WITH_DEFAULT


def sends_unready(source: Side, destination: Side, rules: Rules) -> bool | None:
    """Return whether callers of one cluster get pods of another that are not ready, and do not answer.

    Return None if that is not known.
    """
    if destination.spec.get("publishNotReadyAddresses"):
        return False  # the gateway there takes these pods for ready, too
    if not rules.always_unready and host_of(source.service) in rules.healthy_only:
        return False
    return rules.always_unready or rules.sends_unready


# Rules


@dataclass(frozen=True)
class Use:
    """A route to a subset of a host's pods, and the VirtualService that has it."""

    rule: str
    host: str
    subset: str


@dataclass(frozen=True)
class Rules:
    """The VirtualServices and DestinationRules of a cluster, by host.

    :param routes: for each host, the VirtualServices that sidecars of all namespaces apply to it.
    :param uses: the routes to subsets that are used, at gateways, too.
    :param plain: hosts that also get requests without a subset.
    :param subsets: for each host, the labels of each subset.
    :param exported: the same, of those rules that the east-west gateway sees.
    :param healthy_only: hosts of which callers get only pods that are ready, by ``minHealthPercent``.
    :param policies: for each namespace and host, the traffic policy of DestinationRules for all callers.
    :param without_mtls: namespaces with a PeerAuthentication that switches mutual TLS off for pods.
    :param always_unready: whether istiod gives out pods that are not ready, in spite of ``minHealthPercent``.
    :param sends_unready: whether it does so otherwise; None if that is not known.
    """

    routes: dict[str, list[Object]]
    uses: list[Use]
    plain: set[str]
    subsets: dict[str, dict[str, dict[str, str]]]
    exported: dict[str, dict[str, dict[str, str]]]
    healthy_only: set[str]
    policies: dict[str, dict[str, Object]]
    without_mtls: set[str]
    always_unready: bool
    sends_unready: bool | None

    def policy_of(self, host: str, namespace: str) -> Object | None:
        """Return the traffic policy that callers of all namespaces follow for a Service; None without any."""
        for place in (namespace, ISTIO_NAMESPACE):
            known = self.policies.get(place, {})
            if found := [named for named in known if covers(named, host)]:
                return known[max(found, key=lambda named: (not named.startswith("*"), len(named)))]
        return None


def rules_of(cluster: ClusterState) -> Rules:
    """Return what the rules of a cluster mean for each host."""
    without_mtls = {
        policy["metadata"]["namespace"]
        for policy in cluster.peer_authentications
        if DISABLE in str(policy.get("spec"))
    }
    always = bool(is_set_to_send_unready(cluster, SEND_UNREADY))
    told = is_set_to_send_unready(cluster, SEND_UNREADY_BY_DEFAULT)
    by_default = sends_unready_by_default(cluster) if told is None else told
    rules = Rules({}, [], set(), {}, {}, set(), {}, without_mtls, always, by_default)
    for service in cluster.virtual_services or []:
        namespace, spec = service["metadata"]["namespace"], service.get("spec") or {}
        exported = spec.get("exportTo") or exported_by_default(cluster.mesh_config, "VirtualService")
        if "mesh" in (spec.get("gateways") or ["mesh"]) and is_exported(exported):
            for host in spec.get("hosts") or []:
                rules.routes.setdefault(full_host(host, namespace), []).append(service)
        for destination in destinations(spec):
            host = full_host(str(destination.get("host", "")), namespace)
            if subset := destination.get("subset"):
                rules.uses.append(Use(name_of(service), host, subset))
            else:
                rules.plain.add(host)
    for rule in cluster.destination_rules:
        spec = rule.get("spec") or {}
        namespace = rule["metadata"]["namespace"]
        host = full_host(str(spec.get("host", "")), namespace)
        exported = spec.get("exportTo") or exported_by_default(cluster.mesh_config, "DestinationRule")
        named = {subset["name"]: subset.get("labels") or {} for subset in spec.get("subsets") or []}
        rules.subsets.setdefault(host, {}).update(named)
        if is_exported(exported, namespace):
            rules.exported.setdefault(host, {}).update(named)
        if ((spec.get("trafficPolicy") or {}).get("outlierDetection") or {}).get("minHealthPercent"):
            rules.healthy_only.add(host)
        if "*" in (exported or ["*"]) and not spec.get("workloadSelector"):
            of_namespace = rules.policies.setdefault(namespace, {})
            of_namespace[host] = spec.get("trafficPolicy") or {}
    return rules


def _mutual(policy: Object, port: Object) -> bool:
    """Return whether a traffic policy leaves Istio's mutual TLS on for a port of a Service."""
    of_port = [
        setting
        for setting in policy.get("portLevelSettings") or []
        if (setting.get("port") or {}).get("number") == port["port"]
    ]
    # What the settings of a port leave out is not taken from those for all.
    tls = (of_port[0] if of_port else policy).get("tls") or {}
    return tls.get("mode") in (None, "ISTIO_MUTUAL")


def destinations(spec: Object) -> Iterator[Object]:
    """Return the destinations of a VirtualService that get requests."""
    for route in [entry for kind in ("http", "tls", "tcp") for entry in spec.get(kind) or []]:
        for part in route.get("route") or []:
            if part.get("weight") or len(route["route"]) == 1:
                yield part.get("destination") or {}
        yield from filter(None, [route.get("mirror")])
        yield from (mirror.get("destination") or {} for mirror in route.get("mirrors") or [])


def has_labels(pod: Object, labels: Mapping[str, str]) -> bool:
    return labels.items() <= labels_of(pod).items()
