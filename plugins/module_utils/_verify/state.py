# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen of a mesh (private to the collection).

Filled in by :mod:`observe` and :mod:`workload`, judged by :mod:`judge`, told by
:mod:`report`. Objects of the clusters stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._base.members import Member
from .._istio.names import ISTIO_NAMESPACE, NETWORK_LABEL
from .._istio.record import Record
from .._kubernetes.api import Object
from .._kubernetes.client import KubernetesClient
from .._kubernetes.load_balancer import service_addresses
from .._kubernetes.readiness import pod_unmet

if TYPE_CHECKING:
    from cryptography import x509

    from .._trust.inventory import Seen

PROXY = "istio-proxy"
SIDECAR_LABEL = "security.istio.io/tlsMode=istio"
VERIFY_NAMESPACE = "exomesh-verify"
EXPIRES_ANNOTATION = "exomesh.istio/expires"
"""Unix time after which a workload that is still there was left behind."""


@dataclass(frozen=True)
class Access:
    """The kubeconfig in a remote secret."""

    server: str
    ca: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class RemoteSecret:
    """A remote secret.

    :param keys: what it names as clusters.
    :param access: None where the first key does not hold a kubeconfig that istiod takes.
    """

    name: str
    keys: tuple[str, ...]
    annotation: str | None
    access: Access | None


@dataclass
class Istiod:
    """A replica of istiod, and what it knows.

    :param unmet: what keeps it from being ready.
    :param synced: state of every cluster that it reads.
    :param gateways: network, address and port of every gateway that it knows.
    :param silent: why it did not tell.
    """

    name: str
    version: str | None
    unmet: str | None
    synced: dict[str, str] = field(default_factory=dict)
    gateways: list[tuple[str, str, int]] = field(default_factory=list)
    silent: str | None = None


@dataclass
class ClusterState:
    """What was seen of one cluster.

    :param error: why it was not seen at all.
    :param clock_skew: seconds by which its clock is ahead of ours.
    :param server: address of its API, as its peers must have it.
    :param api_ca: PEM of the CA of its API.
    :param record: what it is by its own record; None where it has none.
    :param settings: data of Istio's ConfigMaps, by name.
    :param policies: what istiod applies to the whole mesh; None where nobody asked, or it does not tell.
    :param certificates_problem: why its secret cacerts cannot be read.
    :param gateway_events: newest Events of its gateway's Service.
    :param workload_problem: why the test workload does not run.
    :param sidecar_problem: why the test workload's sidecar does not tell its endpoints.
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
    certificates_problem: str | None = None
    namespaces: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    services: list[Object] = field(default_factory=list)
    gateways: list[Object] = field(default_factory=list)
    destination_rules: list[Object] = field(default_factory=list)
    peer_authentications: list[Object] = field(default_factory=list)
    network_policies: list[Object] = field(default_factory=list)
    gateway_events: list[str] = field(default_factory=list)
    workload_problem: str | None = None
    sidecar_problem: str | None = None

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def reached(self) -> KubernetesClient:
        """The client of a cluster that answered."""
        if self.client is None:
            raise RuntimeError(f"{self.name} did not answer")
        return self.client

    @property
    def istio_version(self) -> str | None:
        return next((istiod.version for istiod in self.istiods if istiod.version), None)

    @property
    def trust_domain(self) -> str:
        return str(self.mesh_config.get("trustDomain") or "cluster.local")

    @property
    def dns_capture(self) -> bool:
        """Whether new proxies capture DNS."""
        metadata = (self.mesh_config.get("defaultConfig") or {}).get("proxyMetadata") or {}
        return str(metadata.get("ISTIO_META_DNS_CAPTURE")).lower() == "true"

    @property
    def gateway_services(self) -> list[Object]:
        """The Services that are the gateway of the cluster's network."""
        return [
            service
            for service in self.services
            if service["metadata"]["namespace"] == ISTIO_NAMESPACE
            and labels_of(service).get(NETWORK_LABEL) == self.member.network
        ]

    @property
    def gateway_addresses(self) -> list[str]:
        return [address for service in self.gateway_services for address in service_addresses(service)]

    def gateway_pods(self, service: Object) -> list[Object]:
        """The pods behind a gateway's Service, those that are going away left out."""
        selector = service["spec"].get("selector") or {}
        return [
            pod
            for pod in self.pods
            if pod["metadata"]["namespace"] == ISTIO_NAMESPACE
            and is_selected(pod, selector)
            and "deletionTimestamp" not in pod["metadata"]
        ]


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    :param exit_code: curl's.
    :param error: curl's words; for a request that was answered, the body of what is no 200.
    :param details: flags and words of the source's proxy.
    :param upstream: where the source's proxy sent it.
    :param cluster: which one answered, by the word of its proxy.
    :param source_identity: as the destination's proxy verified it.
    :param destination_identity: as the source's proxy verified it.
    :param certificate: of the destination's proxy on the wire, as PEM.
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
    """What became of a connection from a pod to an address, past the sidecar.

    :param connected: whether TCP came about.
    :param status: of HTTP; 0 where there was no answer.
    :param certificates: PEM of what was served.
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
        """The nearest-rank quantile."""
        ranked = sorted(self.times)
        return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


@dataclass
class PairState:
    """What was seen of the way from one cluster to another. None: not looked at.

    :param user: the account of the remote secret, as the destination knows it; "" when it refuses the token.
    :param rights: what that account may do there.
    :param endpoints: addresses that the source's sidecar knows for the destination's test service.
    """

    source: str
    destination: str
    user: str | None = None
    rights: dict[str, bool] = field(default_factory=dict)
    endpoints: list[str] | None = None
    answer: Answer | None = None
    gateway: Reach | None = None
    api: Reach | None = None
    new: Sample | None = None
    kept: Sample | None = None


@dataclass(frozen=True)
class MeshState:
    """What was seen of the whole mesh.

    :param now: when.
    :param full: whether requests were sent.
    :param least_privilege: whether reader accounts must not read Secrets.
    :param proved: when requests got through that depended on what is there still; None where none did.
    :param left_out: names of members that have no part in this run.
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


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def is_selected(pod: Object, selector: dict[str, str]) -> bool:
    """Whether a selector by labels names the pod; an empty one names none."""
    return bool(selector) and selector.items() <= labels_of(pod).items()


def sidecar_of(pod: Object) -> Object | None:
    """The pod's proxy; a native sidecar sits among the init containers."""
    spec = pod.get("spec", {})
    containers = spec.get("initContainers", []) + spec.get("containers", [])
    return next((container for container in containers if container["name"] == PROXY), None)


def is_running(pod: Object) -> bool:
    """Whether the pod runs and is to go on."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Object) -> bool:
    return is_running(pod) and pod_unmet(pod) is None


def name_of(obj: Object) -> str:
    """Namespace and name."""
    return f"{obj['metadata'].get('namespace')}/{obj['metadata']['name']}"


def workload_name(cluster: str) -> str:
    """Name of the test pod, account and Service of a cluster; a DNS label, also for long names."""
    name = f"verify-{cluster}"
    if len(name) <= 63:
        return name
    return f"{name[:54].rstrip('-')}-{hashlib.sha256(cluster.encode()).hexdigest()[:8]}"
