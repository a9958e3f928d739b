# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the mesh work? Evidence for every ordered pair of clusters (private to the collection).

Reads first what each cluster has and knows; then, unless told to read only, starts a small workload of its
own in every cluster and sends a request from each to each. A pair is good when every check of it is.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils import _findings as findings
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._findings import Finding, Kind
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import (
    FIELD_MANAGER,
    ISTIO_NAMESPACE,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    KubernetesClient,
    Object,
    ObjectRef,
    concurrently,
    pod_unmet,
    wait_until_met,
)
from ansible_collections.exomesh.istio.plugins.module_utils._load_balancer import service_addresses
from ansible_collections.exomesh.istio.plugins.module_utils._members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._objects import apply_patiently, hash_of
from ansible_collections.exomesh.istio.plugins.module_utils._remote_secrets import secret_ref

GATEWAY_PORT = 15443
SERVICE_PORT = 3000
NAMESPACE = "exomesh-verify"
NAMESPACE_REF = ObjectRef("v1", "Namespace", NAMESPACE)
NETWORK_LABEL = "topology.istio.io/network"

_REQUEST_SECONDS = 5
_EXEC_SECONDS = 20
_CLEANUP_SECONDS = 120
_RESOLVE_FAILED = 6  # curl's exit code

_NOT_ASKED = "not asked"

_SOURCE_KINDS = (
    findings.CLUSTER_UNREACHABLE,
    findings.ISTIOD_MISSING,
    findings.ISTIOD_SILENT,
    findings.WORKLOAD_NOT_READY,
    findings.WORKLOAD_NOT_INJECTED,
    findings.SIDECAR_SILENT,
)
"""What keeps requests from leaving a cluster, or from being judged there."""

_DESTINATION_KINDS = (
    findings.CLUSTER_UNREACHABLE,
    findings.GATEWAY_MISSING,
    findings.GATEWAY_WITHOUT_ADDRESS,
    findings.GATEWAY_NOT_READY,
    findings.GATEWAY_NOT_EXPOSED,
    findings.WORKLOAD_NOT_READY,
    findings.WORKLOAD_NOT_INJECTED,
)
"""What keeps requests from being answered in a cluster."""


@dataclass(frozen=True)
class Workload:
    """Images of the test workload: ``server`` answers HTTP on port 3000, ``client`` has curl and sleep."""

    server_image: str
    client_image: str


@dataclass
class PairState:
    """What was seen of the way from one cluster to another. None: not looked at."""

    source: str
    destination: str
    secret: bool | None = None
    synced: bool | None = None
    sync_evidence: list[str] = field(default_factory=list)
    endpoints: list[str] | None = None
    answered: bool | None = None
    answered_by: str | None = None
    request_kind: Kind | None = None
    request_evidence: str = _NOT_ASKED
    seconds: float | None = None


@dataclass
class ClusterState:
    """What was seen of one cluster."""

    member: Member
    client: KubernetesClient | None = None
    gateway_addresses: list[str] = field(default_factory=list)
    istiods: list[str] = field(default_factory=list)
    root: str | None = None
    workload_ready: bool = False
    problems: list[Finding] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def reached(self) -> KubernetesClient:
        """The client of a cluster that answered."""
        if self.client is None:
            raise RuntimeError(f"{self.name} did not answer")
        return self.client

    def found(self, kind: Kind, *evidence: str) -> None:
        self.problems.append(Finding(kind, cluster=self.name, evidence=[line for line in evidence if line]))

    def has(self, *kinds: Kind) -> bool:
        return any(problem.kind in kinds for problem in self.problems)


@dataclass
class Verdict:
    """The outcome for the whole mesh."""

    pairs: list[PairState]
    findings: list[Finding]
    failed_pairs: list[tuple[str, str]]
    warnings: list[str]

    @property
    def healthy(self) -> bool:
        return not self.findings


class Verification:
    """One verification of one mesh.

    :param workload: None to read only: no test workload, no requests.
    :param timeout: seconds for the mesh to settle; clearing up comes on top.
    """

    def __init__(self, members: Sequence[Member], workload: Workload | None, timeout: float) -> None:
        self._clusters = [ClusterState(member) for member in members]
        self._by_name = {cluster.name: cluster for cluster in self._clusters}
        self._pairs = [
            PairState(source.name, destination.name)
            for source in members
            for destination in members
            if source.name != destination.name
        ]
        self._workload = workload
        self._deadline = time.monotonic() + timeout
        self._warnings: list[str] = []

    def run(self) -> Verdict:
        """Look at everything; leaves nothing behind."""
        concurrently(self._look_at_cluster, self._clusters)
        concurrently(self._look_at_secret, self._pairs)
        if self._workload is None:
            self._settle()
        else:
            with self._running_workload(self._workload):
                self._settle()
        return self._verdict()

    # What each cluster has

    def _look_at_cluster(self, cluster: ClusterState) -> None:
        try:
            client = KubernetesClient(cluster.member.kubeconfig, name=cluster.name)
            client.version()
            cluster.client = client
            self._look_at_gateway(cluster, client)
            cluster.root = _trusted_root(client)
            pods = client.list_objects("v1", "Pod", ISTIO_NAMESPACE, labels="app=istiod")
        except ExomeshError as error:
            cluster.client = None
            cluster.found(findings.CLUSTER_UNREACHABLE, str(error))
            return
        cluster.istiods = [pod["metadata"]["name"] for pod in pods if pod_unmet(pod) is None]
        if not cluster.istiods:
            cluster.found(
                findings.ISTIOD_MISSING, *(f"{pod['metadata']['name']}: {pod_unmet(pod)}" for pod in pods)
            )

    @staticmethod
    def _look_at_gateway(cluster: ClusterState, client: KubernetesClient) -> None:
        label = f"{NETWORK_LABEL}={cluster.member.network}"
        services = client.list_objects("v1", "Service", ISTIO_NAMESPACE, labels=label)
        if not services:
            cluster.found(findings.GATEWAY_MISSING, f"no Service with label {label}")
            return
        for service in services:
            cluster.gateway_addresses += service_addresses(service)
        if not cluster.gateway_addresses:
            name = services[0]["metadata"]["name"]
            cluster.found(
                findings.GATEWAY_WITHOUT_ADDRESS, *client.events("Service", ISTIO_NAMESPACE, name, 2)
            )
        selector = services[0]["spec"].get("selector") or {}
        labels = ",".join(f"{key}={value}" for key, value in selector.items())
        pods = client.list_objects("v1", "Pod", ISTIO_NAMESPACE, labels=labels)
        unready = {pod["metadata"]["name"]: pod_unmet(pod) for pod in pods}
        if all(unready.values()):
            evidence = [f"{name}: {missing}" for name, missing in unready.items()]
            cluster.found(findings.GATEWAY_NOT_READY, *(evidence or ["it has no pods"]))
        gateways = [
            gateway
            for group in ("networking.istio.io/v1", "gateway.networking.k8s.io/v1")
            for gateway in client.list_objects(group, "Gateway", ISTIO_NAMESPACE)
        ]
        if not any(_exposes(gateway) for gateway in gateways):
            names = [gateway["metadata"]["name"] for gateway in gateways]
            cluster.found(findings.GATEWAY_NOT_EXPOSED, f"Gateways in {ISTIO_NAMESPACE}: {names or 'none'}")

    def _look_at_secret(self, pair: PairState) -> None:
        client = self._by_name[pair.source].client
        if client is None:
            return
        try:
            pair.secret = client.get(secret_ref(pair.destination)) is not None
        except ExomeshError as error:
            self._by_name[pair.source].found(findings.CLUSTER_UNREACHABLE, str(error))

    # What takes a moment: rounds, until all is well or the time is up

    def _settle(self) -> None:
        sources, pairs = self._clusters, self._pairs
        while True:
            concurrently(self._look_at_sync, [c for c in sources if c.client and c.istiods])
            if self._workload:
                concurrently(self._look_at_endpoints, [c for c in sources if c.workload_ready])
                concurrently(self._ask, [pair for pair in pairs if self._can_ask(pair)])
            # What lacks a part will not come right by waiting.
            pairs = [pair for pair in pairs if self._pair_problem(pair) and not self._lacks_a_part(pair)]
            if not pairs or time.monotonic() >= self._deadline:
                return
            names = {pair.source for pair in pairs}
            sources = [cluster for cluster in self._clusters if cluster.name in names]
            time.sleep(1)

    def _look_at_sync(self, cluster: ClusterState) -> None:
        client = cluster.reached
        pairs = [pair for pair in self._pairs if pair.source == cluster.name]
        seen: dict[str, dict[str, str]] = {}
        for istiod in cluster.istiods:
            try:
                command = ["pilot-discovery", "request", "GET", "/debug/clusterz"]
                result = client.exec(ISTIO_NAMESPACE, istiod, "discovery", command, _EXEC_SECONDS)
                entries = json_of(result.stdout)
                seen[istiod] = {entry["id"]: entry["syncStatus"] for entry in entries}
            except (ExomeshError, ValueError, TypeError, KeyError) as error:
                if not cluster.has(findings.ISTIOD_SILENT):
                    cluster.found(findings.ISTIOD_SILENT, f"{istiod}: {error}")
        for pair in pairs:
            states = {istiod: clusters.get(pair.destination, "unknown") for istiod, clusters in seen.items()}
            pair.synced = all(state == "synced" for state in states.values()) if states else None
            pair.sync_evidence = [
                f"{istiod} says {pair.destination} is {state}"
                for istiod, state in states.items()
                if state != "synced"
            ]

    def _look_at_endpoints(self, cluster: ClusterState) -> None:
        query = f"resource=dynamic_endpoint_configs&include_eds&name_regex=.*[.]{NAMESPACE}[.]svc[.].*"
        command = ["pilot-agent", "request", "GET", f"config_dump?{query}"]
        pod = workload_name(cluster.name)
        try:
            result = cluster.reached.exec(NAMESPACE, pod, "istio-proxy", command, _EXEC_SECONDS)
            known = parse_endpoints(result.stdout)
        except (ExomeshError, ValueError) as error:
            if not cluster.has(findings.SIDECAR_SILENT):
                cluster.found(findings.SIDECAR_SILENT, f"{NAMESPACE}/{pod}: {error}")
            return
        for pair in self._pairs:
            if pair.source == cluster.name:
                host = f"{workload_name(pair.destination)}.{NAMESPACE}.svc"
                pair.endpoints = sorted(
                    address
                    for name, addresses in known.items()
                    if host in name.split("|")[-1]
                    for address in addresses
                )

    def _can_ask(self, pair: PairState) -> bool:
        return all(self._by_name[name].workload_ready for name in (pair.source, pair.destination))

    def _ask(self, pair: PairState) -> None:
        client = self._by_name[pair.source].reached
        url = f"http://{workload_name(pair.destination)}.{NAMESPACE}:{SERVICE_PORT}/"
        command = ["curl", "--silent", "--show-error", "--max-time", str(_REQUEST_SECONDS)]
        command += ["--write-out", "\n%{http_code} %{time_total}", url]
        try:
            answer = client.exec(NAMESPACE, workload_name(pair.source), "client", command, _EXEC_SECONDS)
        except ExomeshError as error:
            pair.answered, pair.request_kind = False, findings.REQUEST_FAILED
            pair.request_evidence = str(error)
            return
        body, _newline, figures = answer.stdout.rpartition("\n")
        status, _space, seconds = figures.partition(" ")
        pair.answered_by = next(
            (name for name in self._by_name if _names_pod(body, workload_name(name))), None
        )
        pair.answered = answer.exit_code == 0 and status == "200"
        pair.request_kind = None
        pair.request_evidence = f"GET {url}: status {status}"
        if pair.answered:
            pair.seconds = float(seconds)
            if pair.answered_by not in (None, pair.destination):
                pair.answered, pair.request_kind = False, findings.WRONG_CLUSTER_ANSWERED
                pair.request_evidence += f", answered by {pair.answered_by}"
        elif answer.exit_code == _RESOLVE_FAILED:
            pair.request_kind = findings.NAME_NOT_RESOLVED
            pair.request_evidence = answer.stderr.strip()
        else:
            pair.request_kind = findings.REQUEST_FAILED
            detail = (answer.stderr if answer.exit_code else body).strip()
            pair.request_evidence += f": {detail[:300]}" if detail else ""

    # The test workload

    @contextmanager
    def _running_workload(self, workload: Workload) -> Iterator[None]:
        reachable = [cluster for cluster in self._clusters if cluster.client]
        try:
            concurrently(lambda cluster: self._start(cluster, workload), reachable)
            yield
        finally:
            concurrently(self._clear, reachable)

    def _start(self, cluster: ClusterState, workload: Workload) -> None:
        client = cluster.reached
        try:
            self._remove_namespace(client)  # what a killed run left behind
            for obj in workload_objects(cluster.name, workload):
                apply_patiently(client, obj, FIELD_MANAGER, self._remaining())
            missing = wait_until_met(lambda: pod_unmet(client.get(_pod_ref(cluster.name))), self._remaining())
            if missing:
                events = client.events("Pod", NAMESPACE, workload_name(cluster.name), 3)
                cluster.found(findings.WORKLOAD_NOT_READY, missing, *events)
                return
            pod = client.get(_pod_ref(cluster.name)) or {}
            if not _has_sidecar(pod):
                cluster.found(
                    findings.WORKLOAD_NOT_INJECTED, f"Pod {NAMESPACE}/{workload_name(cluster.name)}"
                )
                return
            cluster.workload_ready = True
        except ExomeshError as error:
            cluster.found(findings.WORKLOAD_NOT_READY, str(error))

    def _clear(self, cluster: ClusterState) -> None:
        try:
            self._remove_namespace(cluster.reached)
        except ExomeshError as error:
            self._warn(f"{cluster.name}: the namespace {NAMESPACE} could not be removed: {error}")

    @staticmethod
    def _remove_namespace(client: KubernetesClient) -> None:
        """Delete our namespace and wait until it is gone.

        :raises ExomeshError: it is not ours, or does not go.
        """
        namespace = client.get(NAMESPACE_REF)
        if namespace is None:
            return
        if (namespace["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) != MANAGED_BY:
            raise ExomeshError(
                f"The namespace {NAMESPACE} is there, but not ours: it lacks {MANAGED_BY_LABEL}={MANAGED_BY}",
                "foreign_namespace",
                next_step="Delete or rename it",
            )
        client.delete(NAMESPACE_REF)
        # Its controller begins after five seconds; pods that are gone by then spare it a second round.
        for pod in client.list_objects("v1", "Pod", NAMESPACE):
            client.delete(ObjectRef.of(pod))

        def remaining() -> str | None:
            return "it is still there" if client.get(NAMESPACE_REF) else None

        if wait_until_met(remaining, _CLEANUP_SECONDS):
            raise ExomeshError(
                f"The namespace {NAMESPACE} is not gone after {_CLEANUP_SECONDS} s",
                "not_deleted",
                next_step=f"Look at status.conditions of namespace {NAMESPACE}",
            )

    def _remaining(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.append(message)

    # The verdict

    def _lacks_a_part(self, pair: PairState) -> bool:
        source, destination = self._by_name[pair.source], self._by_name[pair.destination]
        return pair.secret is False or source.has(*_SOURCE_KINDS) or destination.has(*_DESTINATION_KINDS)

    def _pair_problem(self, pair: PairState) -> Finding | None:
        """The first thing that is wrong on the way; what follows from it is evidence."""
        source, destination = self._by_name[pair.source], self._by_name[pair.destination]
        if source.has(*_SOURCE_KINDS):
            return None  # it is said of the cluster
        checks: list[tuple[bool, Kind, list[str]]] = [
            (pair.secret is False, findings.REMOTE_SECRET_MISSING, [str(secret_ref(pair.destination))]),
            (pair.synced is False, findings.ISTIOD_NOT_SYNCED, pair.sync_evidence),
            (
                None not in (source.root, destination.root) and source.root != destination.root,
                findings.ROOTS_DIFFER,
                [f"{cluster.name} trusts {cluster.root}" for cluster in (source, destination)],
            ),
        ]
        well = not destination.has(*_DESTINATION_KINDS)
        if pair.endpoints is not None and well and destination.workload_ready:
            gateways = {f"{address}:{GATEWAY_PORT}" for address in destination.gateway_addresses}
            wrong = [endpoint for endpoint in pair.endpoints if not _is_gateway(endpoint, gateways)]
            expected = f"the gateway is {', '.join(sorted(gateways))}"
            checks += [
                (not pair.endpoints, findings.ENDPOINT_MISSING, [expected]),
                (bool(wrong), findings.ENDPOINT_NOT_GATEWAY, [f"endpoints: {', '.join(wrong)}", expected]),
            ]
        if pair.request_kind and well:
            checks.append((True, pair.request_kind, []))
        for wrong_here, kind, evidence in checks:
            if wrong_here:
                asked = [pair.request_evidence] if pair.request_evidence != _NOT_ASKED else []
                return Finding(
                    kind, source=pair.source, destination=pair.destination, evidence=evidence + asked
                )
        return None

    def _verdict(self) -> Verdict:
        pair_findings = [finding for pair in self._pairs if (finding := self._pair_problem(pair))]
        cluster_findings = [problem for cluster in self._clusters for problem in cluster.problems]
        failed = [(pair.source, pair.destination) for pair in self._pairs if not self._is_good(pair)]
        return Verdict(self._pairs, cluster_findings + pair_findings, failed, self._warnings)

    def _is_good(self, pair: PairState) -> bool:
        if self._pair_problem(pair) or self._lacks_a_part(pair):
            return False
        return bool(pair.answered) if self._workload else True


def matrix(members: Sequence[str], failed: Sequence[tuple[str, str]], asked: bool) -> list[str]:
    """A table of all pairs: sources down, destinations across."""
    corner = "from \\ to"
    width = max(len(name) for name in [corner, *members]) + 2
    good = "ok" if asked else "ready"

    def cell(source: str, destination: str) -> str:
        if source == destination:
            return "-"
        return "FAIL" if (source, destination) in failed else good

    rows = [
        [corner, *members],
        *([source, *(cell(source, other) for other in members)] for source in members),
    ]
    return ["".join(text.ljust(width) for text in row).rstrip() for row in rows]


def parse_endpoints(config_dump: str) -> dict[str, list[str]]:
    """Addresses (``ip:port``) by Envoy cluster, out of Envoy's ``config_dump`` of endpoints."""
    known: dict[str, list[str]] = {}
    for entry in json_of(config_dump).get("configs", []):
        assignment = entry["endpoint_config"]
        addresses = known.setdefault(assignment.get("cluster_name", ""), [])
        for locality in assignment.get("endpoints", []):
            for endpoint in locality.get("lb_endpoints", []):
                socket = endpoint.get("endpoint", {}).get("address", {}).get("socket_address", {})
                addresses.append(f"{socket.get('address')}:{socket.get('port_value')}")
    return known


def json_of(output: str) -> Any:
    """The JSON document in the output of an Istio program, which logs to the same stream.

    :raises ValueError: there is none.
    """
    start = re.search(r"^[\[{]", output, re.MULTILINE)
    if start is None:
        raise ValueError(f"no JSON in {output.strip()[:200]!r}")
    return json.JSONDecoder().raw_decode(output[start.start() :])[0]


def workload_name(cluster: str) -> str:
    """Name of the test pod and Service of a cluster; a DNS label, also for long names."""
    name = f"verify-{cluster}"
    if len(name) <= 63:
        return name
    return f"{name[:54].rstrip('-')}-{hashlib.sha256(cluster.encode()).hexdigest()[:8]}"


def workload_objects(cluster: str, workload: Workload) -> list[Object]:
    """The test workload of one cluster, in the order of its making."""
    name = workload_name(cluster)
    owned = {MANAGED_BY_LABEL: MANAGED_BY}
    container: dict[str, Any] = {
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {**owned, "istio-injection": "enabled"}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": owned},
            "spec": {
                "selector": {"app": name},
                "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": SERVICE_PORT}],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": {**owned, "app": name},
                "annotations": {
                    "sidecar.istio.io/proxyCPU": "10m",
                    "sidecar.istio.io/proxyMemory": "64Mi",
                },
            },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": False,
                "containers": [
                    {"name": "server", "image": workload.server_image, **container},
                    {
                        "name": "client",
                        "image": workload.client_image,
                        "command": ["sleep", "infinity"],
                        **container,
                    },
                ],
            },
        },
    ]


def _pod_ref(cluster: str) -> ObjectRef:
    return ObjectRef("v1", "Pod", workload_name(cluster), NAMESPACE)


def _trusted_root(client: KubernetesClient) -> str | None:
    """Fingerprint of what the workloads trust, which istiod itself writes to every namespace."""
    roots = client.get(ObjectRef("v1", "ConfigMap", "istio-ca-root-cert", ISTIO_NAMESPACE))
    pem = ((roots or {}).get("data") or {}).get("root-cert.pem")
    return hash_of(pem.strip()) if pem else None


def _has_sidecar(pod: Object) -> bool:
    """Whether the proxy was injected; a native sidecar sits among the init containers."""
    spec = pod.get("spec", {})
    return any(
        container["name"] == "istio-proxy"
        for container in spec.get("initContainers", []) + spec.get("containers", [])
    )


def _exposes(gateway: Object) -> bool:
    """Whether a Gateway, Istio's own or of the Gateway API, passes on what comes to the gateway's port."""
    spec = gateway.get("spec", {})
    return any(
        server.get("port", {}).get("number") == GATEWAY_PORT
        and server.get("tls", {}).get("mode") == "AUTO_PASSTHROUGH"
        for server in spec.get("servers", [])
    ) or any(
        listener["port"] == GATEWAY_PORT
        and listener.get("tls", {}).get("options", {}).get("gateway.istio.io/listener-protocol")
        == "auto-passthrough"
        for listener in spec.get("listeners", [])
    )


def _is_gateway(endpoint: str, gateways: set[str]) -> bool:
    if endpoint in gateways:
        return True
    # A gateway known by a host name is resolved by istiod: its addresses are its own affair, the port is not.
    by_name = any(not re.match(r"[0-9.]+:|.*:.*:", gateway) for gateway in gateways)
    return by_name and endpoint.endswith(f":{GATEWAY_PORT}")


def _names_pod(body: str, pod: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(pod)}(?![\w-])", body) is not None
