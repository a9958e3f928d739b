# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a mesh, as it was seen (private to the collection).

:mod:`observe` and :mod:`workload` fill it in, :mod:`judge` judges it, and :mod:`report` reports it. Objects
of the clusters are kept unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._base.members import Member
from .._istio.names import GATEWAY_PORT, ISTIO_NAMESPACE, NETWORK_LABEL, TRUST_DOMAIN
from .._istio.record import Record
from .._istio.services import mapping
from .._kubernetes.api import Object
from .._kubernetes.causes import Cause
from .._kubernetes.client import KubernetesClient, labels_of
from .._kubernetes.load_balancer import service_addresses
from .._kubernetes.readiness import pod_unmet

if TYPE_CHECKING:
    from cryptography import x509

    from .._trust.cluster import Rotation
    from .._trust.inventory import Seen
    from .._trust.rotation import Phase

PROXY = "istio-proxy"
EXPIRES_ANNOTATION = "exomesh.istio/expires"
"""Annotation with a Unix time. A workload that still exists after that time was left behind."""

CILIUM, INJECTION, POLICIES = (
    "the settings of Cilium",
    "webhooks that inject sidecars",
    "policies of networks",
)
GIVEN_ADDRESSES, DENIALS, ROLLOUTS = "addresses given by hand", "who denies requests", "rollouts of Istio"
FOR_WARNINGS = frozenset({CILIUM, INJECTION, POLICIES, GIVEN_ADDRESSES, DENIALS, ROLLOUTS})
"""Parts of the state without which only warnings are missed."""


@dataclass(frozen=True)
class Access:
    """The kubeconfig in a remote secret."""

    server: str
    ca: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class RemoteSecret:
    """A remote secret.

    :param keys: its keys, each the name of a cluster.
    :param access: the kubeconfig in the first key; None if that is not a kubeconfig that istiod accepts.
    """

    name: str
    keys: tuple[str, ...]
    annotation: str | None
    access: Access | None


@dataclass
class Istiod:
    """A replica of istiod, and what it knows.

    :param unmet: what keeps it from being ready; None if it is ready.
    :param synced: sync state of every cluster that it reads.
    :param gateways: network, address and port of every gateway that it knows.
    :param silent: why it did not answer; None if it did.
    :param answered: whether it answered.
    """

    name: str
    version: str | None
    unmet: str | None
    synced: dict[str, str] = field(default_factory=dict)
    gateways: list[tuple[str, str, int]] = field(default_factory=list)
    silent: str | None = None
    answered: bool = False


@dataclass(frozen=True)
class Proxy:
    """A running proxy, as it describes itself.

    :param pod: its pod, as ``namespace/name``.
    :param chain: its certificate and those above it.
    :param roots: the roots that it trusts.
    :param version: its version of Istio; empty if it does not tell.
    :param rejected: why it rejected what istiod sent, by the name of the resource.
    """

    pod: str
    is_gateway: bool
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    version: str = ""
    rejected: dict[str, str] = field(default_factory=dict)


@dataclass
class ClusterState:
    """The state of one cluster, as it was seen.

    :param error: why the cluster could not be seen at all.
    :param clock_skew: seconds by which its clock is ahead of this machine's.
    :param server: address of its API, as its peers must use it.
    :param api_ca: the CA of its API, as PEM.
    :param record: the record that the cluster holds of its membership; None if it has none.
    :param settings: data of the ConfigMaps in Istio's namespace, by name.
    :param policies: what istiod applies to the whole mesh; None if it was not asked or did not answer.
    :param certificates_problem: why its secret cacerts cannot be read.
    :param given_addresses: Services without a selector to which somebody gave addresses, by their names; like
        the rules below, None if they may not be read.
    :param injectors: the webhooks that give pods a sidecar; None if they may not be read.
    :param cilium: the ConfigMap with the settings of Cilium; None if the cluster has none.
    :param rotation: the rotation of the root that is under way, with the phase of the cluster.
    :param foreign_policies: kinds of policies for networks that are not judged here, each with their number.
    :param proxies: the running proxies that were asked.
    :param deployments: the Deployments in Istio's namespace.
    :param causes: causes that the cluster itself names, by the code of the finding that they explain.
    :param untold: what could not be looked at, and why, by the part that it belongs to.
    :param gateway_events: newest Events of its gateway's Service.
    :param workload_problem: why the test workload does not run.
    :param sidecar_problem: why the test workload's sidecar does not report its endpoints.
    """

    member: Member
    client: KubernetesClient | None = None
    error: str | None = None
    clock_skew: float | None = None
    kubernetes_version: str | None = None
    server: str = ""
    api_ca: str = ""
    record: Record | None = None
    mesh_config: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    policies: list[Any] | None = None
    istiods: list[Istiod] = field(default_factory=list)
    secrets: list[RemoteSecret] = field(default_factory=list)
    certificates: list[Seen] = field(default_factory=list)
    running_roots: tuple[x509.Certificate, ...] = ()
    rotation: tuple[Rotation, Phase] | None = None
    certificates_problem: str | None = None
    namespaces: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    services: list[Object] = field(default_factory=list)
    gateways: list[Object] = field(default_factory=list)
    given_addresses: set[str] | None = field(default_factory=set)
    virtual_services: list[Object] | None = field(default_factory=list)
    destination_rules: list[Object] = field(default_factory=list)
    service_entries: list[Object] | None = field(default_factory=list)
    peer_authentications: list[Object] = field(default_factory=list)
    network_policies: list[Object] = field(default_factory=list)
    injectors: list[Object] | None = None
    cilium: Object | None = None
    foreign_policies: dict[str, int] = field(default_factory=dict)
    proxies: list[Proxy] = field(default_factory=list)
    authorization_policies: list[Object] | None = field(default_factory=list)
    deployments: list[Object] | None = field(default_factory=list)
    causes: dict[str, Cause] = field(default_factory=dict)
    untold: dict[str, list[str]] = field(default_factory=dict)
    gateway_events: list[str] = field(default_factory=list)
    workload_problem: str | None = None
    sidecar_problem: str | None = None

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def reached(self) -> KubernetesClient:
        """Return the client of the cluster, which must have answered."""
        if self.client is None:
            raise RuntimeError(f"{self.name} did not answer")
        return self.client

    @property
    def istio_version(self) -> str | None:
        return next((istiod.version for istiod in self.istiods if istiod.version), None)

    @property
    def trust_domain(self) -> str:
        return str(self.mesh_config.get("trustDomain") or TRUST_DOMAIN)

    @property
    def dns_capture(self) -> bool:
        """Return whether new proxies capture DNS."""
        config = mapping(self.mesh_config.get("defaultConfig"))
        return str(mapping(config.get("proxyMetadata")).get("ISTIO_META_DNS_CAPTURE")).lower() == "true"

    @property
    def gateway_services(self) -> list[Object]:
        """Return the Services that are labelled as the gateway of the cluster's network."""
        return [
            service
            for service in self.services
            if service["metadata"]["namespace"] == ISTIO_NAMESPACE
            and labels_of(service).get(NETWORK_LABEL) == self.member.network
        ]

    @property
    def gateway_addresses(self) -> list[str]:
        return [address for service in self.gateway_services for address in service_addresses(service)]

    @property
    def pods_of_gateways(self) -> list[Object]:
        """Return the pods behind the Services of the gateway."""
        return [pod for service in self.gateway_services for pod in self.gateway_pods(service)]

    @property
    def proxied_pods(self) -> list[Object]:
        """Return the running pods that have a proxy."""
        return [pod for pod in self.pods if is_running(pod) and sidecar_of(pod)]

    @property
    def istiod_pods(self) -> list[Object]:
        """Return the pods of istiod that have not ended and are not being deleted."""
        return [
            pod
            for pod in self.pods
            if pod["metadata"]["namespace"] == ISTIO_NAMESPACE
            and labels_of(pod).get("app") == "istiod"
            and not _is_over(pod)
        ]

    def gateway_pods(self, service: Object) -> list[Object]:
        """Return the pods behind a gateway's Service that have not ended and are not being deleted."""
        selector = service["spec"].get("selector") or {}
        return [
            pod
            for pod in self.pods
            if pod["metadata"]["namespace"] == ISTIO_NAMESPACE
            and is_selected(pod, selector)
            and not _is_over(pod)
        ]


@dataclass(frozen=True)
class Answer:
    """The result of a request.

    :param exit_code: curl's exit code.
    :param error: curl's error; if it has none, the body of an answer whose status is not 200.
    :param details: response flags and failure reason of the source's proxy.
    :param upstream: the address to which the source's proxy sent the request.
    :param cluster: the cluster that answered, as its proxy names itself.
    :param source_identity: the source's identity, as the destination's proxy verified it.
    :param destination_identity: the destination's identity, as the source's proxy verified it.
    :param certificate: the certificate that the destination's proxy showed on the wire, as PEM.
    """

    exit_code: int
    status: int
    error: str = ""
    details: str = ""
    upstream: str = ""
    cluster: str = ""
    source_identity: str = ""
    destination_identity: str = ""
    certificate: str = ""


@dataclass(frozen=True)
class Reach:
    """The result of a connection from a pod to an address, past the sidecar.

    :param connected: whether the TCP connection was established.
    :param status: HTTP status; 0 if there was no answer.
    :param certificates: the served certificates, as PEM.
    """

    address: str
    connected: bool
    status: int
    error: str
    certificates: str


@dataclass(frozen=True)
class Sample:
    """Times of requests, in milliseconds."""

    times: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """Return the nearest-rank quantile."""
        ranked = sorted(self.times)
        return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


@dataclass
class PairState:
    """The state of the way from one cluster to another, as it was seen. None means not looked at.

    :param user: the account of the remote secret, as the destination knows it; "" if it rejects the token.
    :param untold: why the destination could not be asked for that account.
    :param rights: by right, whether that account has it in the destination.
    :param endpoints: addresses that the source's sidecar knows for the destination's test service.
    """

    source: str
    destination: str
    user: str | None = None
    untold: str | None = None
    rights: dict[str, bool] = field(default_factory=dict)
    endpoints: list[str] | None = None
    answer: Answer | None = None
    gateway: Reach | None = None
    api: Reach | None = None
    new: Sample | None = None
    kept: Sample | None = None


@dataclass(frozen=True)
class MeshState:
    """The state of the whole mesh, as it was seen.

    :param now: the time at which it was seen.
    :param full: whether requests were sent.
    :param least_privilege: whether it is a fault if reader accounts may read Secrets.
    :param proved: when requests last succeeded, if all that they depended on is unchanged; otherwise None.
    :param left_out: names of members that do not take part in this run.
    """

    clusters: Mapping[str, ClusterState]
    pairs: Sequence[PairState]
    now: datetime
    full: bool
    least_privilege: bool = False
    proved: datetime | None = None
    left_out: frozenset[str] = frozenset()

    @property
    def reached(self) -> list[ClusterState]:
        return [cluster for cluster in self.clusters.values() if cluster.client]


def exposed_by(gateway: Object) -> list[Object]:
    """Return the servers of one of Istio's own Gateways on the port of east-west gateways."""
    servers = (gateway.get("spec") or {}).get("servers") or []
    return [server for server in servers if (server.get("port") or {}).get("number") == GATEWAY_PORT]


def hosts_of(gateway: Object) -> list[str]:
    """Return the hosts that these servers expose, without their namespaces."""
    return [host.rpartition("/")[2] for server in exposed_by(gateway) for host in server.get("hosts") or []]


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def is_selected(pod: Object, selector: dict[str, str]) -> bool:
    """Return whether a label selector selects the pod. An empty selector selects no pod."""
    return bool(selector) and selector.items() <= labels_of(pod).items()


def sidecar_of(pod: Object) -> Object | None:
    """Return the container of the pod's proxy, or None. A native sidecar is one of the init containers."""
    spec = pod.get("spec", {})
    containers = spec.get("initContainers", []) + spec.get("containers", [])
    return next((container for container in containers if container["name"] == PROXY), None)


def is_running(pod: Object) -> bool:
    """Return whether the pod runs and is not being deleted."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def _is_over(pod: Object) -> bool:
    """Return whether the pod has ended, as one that was evicted, or is being deleted. Others replace it."""
    ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return ended or "deletionTimestamp" in pod["metadata"]


def is_ready(pod: Object) -> bool:
    return is_running(pod) and pod_unmet(pod) is None


def name_of(obj: Object) -> str:
    """Return the object's name as ``namespace/name``."""
    return f"{obj['metadata'].get('namespace')}/{obj['metadata']['name']}"


def workload_name(cluster: str) -> str:
    """Return the name of a cluster's test pod, account and Service. It is a DNS label even for long names."""
    name = f"verify-{cluster}"
    if len(name) <= 63:
        return name
    return f"{name[:54].rstrip('-')}-{hashlib.sha256(cluster.encode()).hexdigest()[:8]}"
