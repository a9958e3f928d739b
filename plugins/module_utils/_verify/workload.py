# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the test workload of a verification, and send its requests (private to the collection).

Every cluster gets one pod with a server, a client and a sidecar. The pod is behind a Service whose name no
other cluster has. The proxies write into headers of the answer which identity they verified on the other
side: only the two ends of the mutual TLS can know that.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote, urlparse

from .._base.cleanup import afterwards
from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.text import new_mark
from .._base.waiting import concurrently, told_in_time
from .._istio.envoy import ADMIN_PORT
from .._istio.istiod import tolerations
from .._istio.names import GATEWAY_PORT, INJECTION_LABEL, SMALL_SIDECAR, VERIFY_NAMESPACE
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.causes import wait_unless_it_lasts
from .._kubernetes.client import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient
from .._kubernetes.containers import POD_SECURITY, client_container, server_container
from .._kubernetes.images import require_image
from .._kubernetes.objects import apply_patiently, delete_for_sure
from .._kubernetes.readiness import Unready, explain_pod, pod_unmet
from .._kubernetes.removal import wait_until_gone
from .observe import access_to
from .state import (
    EXPIRES_ANNOTATION,
    Answer,
    ClusterState,
    PairState,
    Reach,
    Sample,
    workload_name,
)

SERVICE_PORT = 3000
NEW_CONNECTION_PORT = 3001
"""Another port of the same server. The sidecars open a new connection for every request to this port."""

NAMESPACE_REF = ObjectRef("v1", "Namespace", VERIFY_NAMESPACE)
_REQUEST_SECONDS = 5
_CONNECT_SECONDS = 3
_EXEC_SECONDS = 40
_CLEANUP_SECONDS = 120
_ENVOY_SECONDS = 10.0
_KEPT_REQUESTS, _NEW_REQUESTS = 20, 10

_HEADERS = ("cluster", "source", "destination", "certificate", "upstream", "details")


@dataclass(frozen=True)
class Marks:
    """Random marks that separate transfers and their fields in curl's output. No server can know them."""

    secret: str = field(default_factory=new_mark)

    @property
    def transfer(self) -> str:
        return f"~{self.secret}~"  # not @, which curl takes for a file

    @property
    def separator(self) -> str:
        return f"~{self.secret}|"

    def told(self, *fields: str) -> str:
        """Return the format in which curl is to report a transfer."""
        return self.transfer + self.separator.join(fields)


_ANSWERED = (
    "%{exitcode}",
    "%{http_code}",
    *(f"%header{{x-exomesh-{name}}}" for name in _HEADERS),
    "%{errormsg}",
)
_CONNECTED = ("%{time_connect}", "%{http_code}", "%{errormsg}", "%{certs}")


@dataclass(frozen=True)
class Workload:
    """The images of the test workload, how long it may live, and as whom its server runs.

    :param server_image: image that answers HTTP on port 3000.
    :param client_image: image with curl (7.84 or newer) and sleep.
    :param lifetime: seconds after which the kubelet ends the pod if nobody has removed it.
    :param server_user: user ID of the server; the image's user if None.
    """

    server_image: str
    client_image: str
    lifetime: int = 1800
    server_user: int | None = None

    def __post_init__(self) -> None:
        for image in (self.server_image, self.client_image):
            require_image(image)


def start(
    client: KubernetesClient, cluster: str, workload: Workload, api_ports: Iterable[int], timeout: float
) -> None:
    """Start the workload in a cluster, and replace one that was left behind; see :func:`await_ready`."""
    deadline = time.monotonic() + timeout
    remove(client)
    wait_until_gone(client, [NAMESPACE_REF], min(timeout, _CLEANUP_SECONDS))
    for obj in workload_objects(cluster, workload, api_ports, tolerations(client)):
        apply_patiently(client, obj, FIELD_MANAGER, max(0.0, deadline - time.monotonic()))


def is_started(client: KubernetesClient, cluster: str) -> bool:
    """Return whether the workload was started and is not being deleted."""
    pod = client.get(_pod_ref(cluster))
    return pod is not None and not pod["metadata"].get("deletionTimestamp")


def await_ready(client: KubernetesClient, cluster: str, timeout: float) -> Unready | None:
    """Wait until the workload is ready. Return what keeps it when waiting does not help any more, or None."""
    ref = _pod_ref(cluster)
    missing = wait_unless_it_lasts(lambda: pod_unmet(client.get(ref)), timeout)
    if missing is None:
        return None

    def explained() -> Unready:
        pod = client.get(ref)
        return explain_pod(client, pod) if pod else Unready(missing)

    return told_in_time(explained, Unready(missing))


def _pod_ref(cluster: str) -> ObjectRef:
    return ObjectRef("v1", "Pod", workload_name(cluster), VERIFY_NAMESPACE)


def remove(client: KubernetesClient) -> None:
    """Delete the verification's namespace, without waiting for the five seconds or so that this takes.

    :raises ExomeshError: the namespace was not made by this collection.
    """
    namespace = client.get(NAMESPACE_REF)
    if namespace is None:
        return
    if (namespace["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) != MANAGED_BY:
        raise ExomeshError(
            f"The namespace {VERIFY_NAMESPACE} is not ours: it lacks {MANAGED_BY_LABEL}={MANAGED_BY}",
            "foreign_namespace",
            next_step="Delete or rename it",
        )
    if namespace["metadata"].get("deletionTimestamp"):
        return
    # The namespace controller begins after five seconds. Pods that are gone by then save it a second round.
    with afterwards(partial(delete_for_sure, client, NAMESPACE_REF)):
        for pod in client.list_objects("v1", "Pod", VERIFY_NAMESPACE):
            client.delete(ObjectRef.of(pod))


def read_endpoints(cluster: ClusterState) -> dict[str, list[str]]:
    """Return the addresses that the sidecar of the cluster's test workload knows, by test service.

    :raises ExomeshError: the sidecar does not report them.
    """
    query = f"resource=dynamic_endpoint_configs&include_eds&name_regex=.*[.]{VERIFY_NAMESPACE}[.]svc[.].*"
    answer = cluster.reached.get_from_pod(
        VERIFY_NAMESPACE,
        workload_name(cluster.name),
        ADMIN_PORT,
        f"/config_dump?{query}",
        _ENVOY_SECONDS,
    )
    return parse_endpoints(answer.decode())


def ask(source: ClusterState, destinations: Sequence[str]) -> dict[str, Answer]:
    """Send a request from the source's pod to the service of each destination, each over a new connection.

    A request that fails is sent again on its own, as only then curl's output has the body of the answer.
    """
    urls = [url_of(destination, NEW_CONNECTION_PORT) for destination in destinations]
    marks = Marks()
    try:
        told = parse_transfers(_run(source, _curl(marks, _ANSWERED, urls, together=True)), marks)
        answers = {
            name: _answer(told[number][0], "") for number, name in enumerate(destinations) if told[number]
        }
    except (ExomeshError, ValueError):
        answers = {}
    failed = [name for name in destinations if name not in answers or answers[name].status != 200]
    return answers | dict(zip(failed, concurrently(lambda name: _ask_one(source, name), failed), strict=True))


def _ask_one(source: ClusterState, destination: str) -> Answer:
    command = ["curl", "--silent", "--show-error", "--max-time", str(_REQUEST_SECONDS)]
    marks = Marks()
    command += ["--write-out", marks.told(*_ANSWERED), url_of(destination, NEW_CONNECTION_PORT)]
    try:
        output = _run(source, command)
    except ExomeshError as error:
        return Answer(-1, 0, str(error))
    return parse_answer(output, marks)


def measure(source: ClusterState, pairs: Sequence[PairState], clusters: Mapping[str, ClusterState]) -> None:
    """Measure how long requests take, and what answers at the gateways and APIs past the sidecar.

    :param pairs: pairs that all begin at this source.
    """
    marks = Marks()
    # One after the other, so that no request waits for another one.
    timed = [
        (pair, port, attribute, requests)
        for pair in pairs
        if pair.answer is not None and pair.answer.status == 200
        for port, attribute, requests in (
            (SERVICE_PORT, "kept", _KEPT_REQUESTS),
            (NEW_CONNECTION_PORT, "new", _NEW_REQUESTS),
        )
    ]
    urls = [f"{url_of(pair.destination, port)}?[0-{requests}]" for pair, port, _attribute, requests in timed]
    with suppress(ExomeshError, ValueError):  # it took too long; what is judged was seen before
        command = _curl(marks, ("%{http_code}", "%{time_total}"), urls)
        told = parse_transfers(_run(source, command), marks) if urls else {}
        for number, (pair, _port, attribute, _requests) in enumerate(timed):
            # The first request of each also has to connect to the sidecar, and is not counted.
            times = tuple(float(time) * 1000 for status, time in told[number] if status == "200")[1:]
            setattr(pair, attribute, Sample(times) if times else None)

    ways = []
    for pair in pairs:
        address = next(iter(clusters[pair.destination].gateway_addresses), None)
        if address:
            ways.append(
                (
                    pair,
                    "gateway",
                    f"{address}:{GATEWAY_PORT}",
                    f"https://{_bracketed(address)}:{GATEWAY_PORT}/",
                )
            )
        access = access_to(source, pair.destination)
        if access:
            ways.append((pair, "api", access.server, f"{access.server.rstrip('/')}/version"))
    options = ("--insecure", "--globoff", "--connect-timeout", str(_CONNECT_SECONDS))
    with suppress(ExomeshError, ValueError):
        command = _curl(marks, _CONNECTED, [way[-1] for way in ways], *options, together=True)
        told = parse_transfers(_run(source, command), marks) if ways else {}
        for number, (pair, attribute, address, _url) in enumerate(ways):
            setattr(pair, attribute, _reach(address, told[number][0]) if told[number] else None)


def url_of(cluster: str, port: int) -> str:
    return f"http://{workload_name(cluster)}.{VERIFY_NAMESPACE}:{port}/"


def parse_answer(output: str, marks: Marks) -> Answer:
    """Return the answer to a request, read from curl's output."""
    body, _mark, told = output.rpartition(marks.transfer)
    fields = told.split(marks.separator)
    if len(fields) != len(_HEADERS) + 3:
        return Answer(-1, 0, f"curl says: {output.strip()[:200]}")
    return _answer(fields, body)


def _answer(fields: Sequence[str], body: str) -> Answer:
    exit_code, status, *headers, error = fields
    named = {
        name: "" if value == "-" else value.strip() for name, value in zip(_HEADERS, headers, strict=True)
    }
    ok = status == "200"
    return Answer(
        int(exit_code),
        int(status),
        "" if ok else (error or body).strip()[:300],
        named["details"].strip("- "),
        named["upstream"],
        named["cluster"],
        named["source"],
        named["destination"],
        unquote(named["certificate"]),
    )


def parse_transfers(output: str, marks: Marks) -> dict[int, list[list[str]]]:
    """Return the transfers in curl's output: the fields of each, by the number of its URL."""
    seen: dict[int, list[list[str]]] = defaultdict(list)
    for part in output.split(marks.transfer)[1:]:
        number, *fields = part.split(marks.separator)
        seen[int(number)].append(fields)
    return seen


def parse_endpoints(config_dump: str) -> dict[str, list[str]]:
    """Return addresses (``ip:port``) by host of the service, from Envoy's ``config_dump`` of endpoints."""
    known: dict[str, list[str]] = {}
    try:
        for entry in load_json(config_dump, "What the proxy tells").get("configs", []):
            assignment = entry["endpoint_config"]
            addresses = known.setdefault(assignment.get("cluster_name", "").split("|")[-1], [])
            for locality in assignment.get("endpoints", []):
                for endpoint in locality.get("lb_endpoints", []):
                    where = endpoint.get("endpoint", {}).get("address", {}).get("socket_address", {})
                    address = f"{where.get('address')}:{where.get('port_value')}"
                    if address not in addresses:
                        addresses.append(address)
    except MALFORMED:
        raise ExomeshError(f"the proxy says: {config_dump[:200]!r}", "proxy_silent") from None
    return known


def workload_objects(
    cluster: str, workload: Workload, api_ports: Iterable[int], tolerated: Sequence[Object] = ()
) -> list[Object]:
    """Return the objects of one cluster's test workload, in the order in which they are created.

    :param api_ports: ports of the peers' APIs. The client calls these APIs past its sidecar.
    :param tolerated: the tolerations of its pod.
    """
    name = workload_name(cluster)
    owned = {MANAGED_BY_LABEL: MANAGED_BY}
    metadata = {"name": name, "namespace": VERIFY_NAMESPACE, "labels": owned}
    past_the_sidecar = sorted({GATEWAY_PORT, *api_ports})
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": VERIFY_NAMESPACE,
                "labels": {**owned, INJECTION_LABEL: "enabled"},
                "annotations": {EXPIRES_ANNOTATION: str(int(time.time()) + workload.lifetime)},
            },
        },
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {**metadata, "name": "default"},
            "spec": {"mtls": {"mode": "STRICT"}},
        },
        {
            # Without it, a policy that allows nothing in the root namespace would refuse the test's requests.
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {**metadata, "name": "test"},
            "spec": {"rules": [{"from": [{"source": {"namespaces": [VERIFY_NAMESPACE]}}]}]},
        },
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {**metadata, "name": "evidence"},
            "spec": {"configPatches": _evidence_patches()},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata,
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "selector": {"app": name},
                "ports": [
                    {"name": "http", "port": SERVICE_PORT, "targetPort": SERVICE_PORT},
                    {"name": "http-new", "port": NEW_CONNECTION_PORT, "targetPort": SERVICE_PORT},
                ],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **metadata,
                "labels": {**owned, "app": name},
                "annotations": {
                    **SMALL_SIDECAR,
                    "traffic.sidecar.istio.io/excludeOutboundPorts": ",".join(map(str, past_the_sidecar)),
                },
            },
            "spec": {
                "serviceAccountName": name,
                "terminationGracePeriodSeconds": 1,
                "activeDeadlineSeconds": workload.lifetime,
                "automountServiceAccountToken": False,
                "tolerations": list(tolerated),
                "securityContext": POD_SECURITY,
                "containers": [
                    server_container("server", workload.server_image, workload.server_user),
                    client_container("client", workload.client_image, ["sleep", "infinity"]),
                ],
            },
        },
    ]


def api_ports_of(cluster: ClusterState) -> set[int]:
    """Return the ports of the APIs that the cluster's remote secrets name."""
    ports = set()
    for secret in cluster.secrets:
        try:
            ports.add(urlparse(secret.access.server).port or 443 if secret.access else 443)
        except ValueError:
            continue
    return ports


def _evidence_patches() -> list[dict[str, Any]]:
    """Return patches with which both proxies write into the answer what they know of each other."""

    def headers(context: str, values: dict[str, str]) -> dict[str, Any]:
        added = [{"header": {"key": f"x-exomesh-{key}", "value": value}} for key, value in values.items()]
        return {
            "applyTo": "ROUTE_CONFIGURATION",
            "match": {"context": context},
            "patch": {"operation": "MERGE", "value": {"response_headers_to_add": added}},
        }

    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    one_request = {
        "@type": f"type.googleapis.com/{options}",
        "explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"max_requests_per_connection": 1},
    }
    return [
        headers(
            "SIDECAR_INBOUND",
            {"source": "%DOWNSTREAM_PEER_URI_SAN%", "cluster": "%ENVIRONMENT(ISTIO_META_CLUSTER_ID)%"},
        ),
        headers(
            "SIDECAR_OUTBOUND",
            {
                "destination": "%UPSTREAM_PEER_URI_SAN%",
                "certificate": "%UPSTREAM_PEER_CERT%",
                "upstream": "%UPSTREAM_REMOTE_ADDRESS%",
                "details": "%RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%",
            },
        ),
        {
            "applyTo": "CLUSTER",
            "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"portNumber": NEW_CONNECTION_PORT}},
            "patch": {
                "operation": "MERGE",
                "value": {"typed_extension_protocol_options": {options: one_request}},
            },
        },
    ]


def _curl(
    marks: Marks, told: Iterable[str], urls: Iterable[str], *options: str, together: bool = False
) -> list[str]:
    """Return a curl command that fetches all URLs, and reports the URL's number and fields of each transfer.

    :param told: the fields to report.
    :param together: fetch all at once, instead of one after the other.
    """
    command = ["curl", "--silent", "--max-time", str(_REQUEST_SECONDS), *options]
    command += ["--parallel", "--parallel-immediate"] if together else []
    command += ["--write-out", marks.told("%{urlnum}", *told)]
    return [*command, *(word for url in urls for word in ("--output", "/dev/null", url))]


def _reach(address: str, fields: Sequence[str]) -> Reach:
    connect, status, error, certificates = fields
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", certificates, re.DOTALL)
    # curl reports no connect time if TLS failed, but its error then differs from those for a failed connect.
    refused = re.search(r"Failed to connect|Could not|timed out|timeout|resolve", error, re.IGNORECASE)
    connected = float(connect) > 0 or not refused
    return Reach(address, connected, int(status), error, "\n".join(blocks))


def _run(source: ClusterState, command: list[str]) -> str:
    """Run a command in the source's client container, and return its output.

    :raises ExomeshError: the command cannot be run.
    """
    pod = workload_name(source.name)
    return source.reached.exec(VERIFY_NAMESPACE, pod, "client", command, _EXEC_SECONDS).stdout


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
