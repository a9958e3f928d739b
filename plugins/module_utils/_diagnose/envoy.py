# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the configuration of one of Istio's proxies from Envoy itself (private to the collection)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .._istio.envoy import ADMIN_PORT, Dump, rejected
from .._kubernetes.client import KubernetesClient
from .._trust.proxies import own_chain, trusted_roots
from .._trust.x509 import CertificateError

if TYPE_CHECKING:
    from cryptography import x509

_ANSWER_SECONDS = 20.0
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - what Envoy calls its listeners
_HTTP = "HttpConnectionManager"
_TCP = "TcpProxy"


@dataclass(frozen=True)
class Listener:
    """A listener, on which the proxy takes the requests of its workload.

    :param routes: name of its routes; None if it passes on TCP.
    :param clusters: the Envoy clusters to which a TCP connection goes.
    """

    name: str
    routes: str | None
    clusters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """A route, which decides where a request goes.

    :param clusters: the Envoy clusters to which it goes, each with its share in percent.
    :param answer: the status with which the proxy itself answers; None if it does not.
    :param rule: the VirtualService that defines the route, as ``namespace/name``.
    """

    clusters: dict[str, float]
    answer: int | None = None
    rule: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """An address to which a request may be sent.

    :param cluster: the cluster of the mesh whose workload is behind the address.
    :param problem: why the proxy does not use the address; None if it does.
    """

    address: str
    cluster: str
    problem: str | None = None


@dataclass(frozen=True)
class EnvoyConfig:
    """The parts of Envoy's ``config_dump``, and its ``clusters``."""

    listeners: Sequence[Dump] = ()
    routes: Sequence[Dump] = ()
    clusters: Sequence[Dump] = ()
    endpoints: Sequence[Dump] = ()
    secrets: Sequence[Dump] = field(default=(), repr=False)
    statuses: Sequence[Dump] = ()

    def certificate_chain(self) -> tuple[x509.Certificate, ...]:
        """Return the proxy's own certificate and those above it; nothing if it has no certificate."""
        with suppress(CertificateError):
            return own_chain(self.secrets, "the proxy's certificate")
        return ()

    def trusted(self) -> tuple[x509.Certificate, ...]:
        """Return the roots that the proxy trusts."""
        with suppress(CertificateError):
            return trusted_roots(self.secrets, "the proxy's roots")
        return ()

    def rejected(self) -> dict[str, str]:
        """Return why the proxy rejected resources, by the name of the resource."""
        return rejected((*self.listeners, *self.routes, *self.clusters))

    def listener(self, addresses: Sequence[str], port: int) -> Listener | None:
        """Return the listener for a connection to one of ``addresses``, or None.

        A listener for the address itself takes precedence over one for all addresses.
        """
        found: dict[str, Listener] = {}
        for entry in self.listeners:
            told = entry.get("active_state", {}).get("listener")
            if not told or told.get("bind_to_port", True) is True:
                continue  # it is not a listener for requests of the workload
            for where in (
                told["address"],
                *(more["address"] for more in told.get("additional_addresses", [])),
            ):
                socket = where.get("socket_address", {})
                if socket.get("port_value") == port:
                    found[socket["address"]] = _listener(told)
        return next((found[address] for address in (*addresses, *_WILDCARDS) if address in found), None)

    def route(self, name: str, host: str, path: str = "/") -> Route | None:
        """Return the route of ``GET path`` for a host, without any further header; None if there is none."""
        for entry in self.routes:
            config = entry.get("route_config", {})
            if config.get("name") != name:
                continue
            for virtual_host in config.get("virtual_hosts", []):
                if host in virtual_host["domains"]:
                    matching = (route for route in virtual_host.get("routes", []) if _matches(route, path))
                    return next(map(_route, matching), None)
        return None

    def cluster(self, name: str) -> Dump | None:
        return next((c["cluster"] for c in self.clusters if c.get("cluster", {}).get("name") == name), None)

    def endpoints_of(self, name: str) -> list[Endpoint]:
        return [
            endpoint
            for entry in self.endpoints
            if entry.get("endpoint_config", {}).get("cluster_name") == name
            for endpoint in self._endpoints(entry["endpoint_config"])
        ]

    def _endpoints(self, assignment: Dump) -> Iterator[Endpoint]:
        problems = self._problems(assignment["cluster_name"])
        for locality in assignment.get("endpoints", []):
            for entry in locality.get("lb_endpoints", []):
                address = _address(entry.get("endpoint", {}).get("address", {}))
                metadata = entry.get("metadata", {}).get("filter_metadata", {})
                # workload;namespace;name;revision;cluster
                workload = str(metadata.get("istio", {}).get("workload", ""))
                yield Endpoint(address, workload.rpartition(";")[2], problems.get(address))

    def _problems(self, name: str) -> dict[str, str]:
        """Return why the proxy does not use endpoints of an Envoy cluster, by address."""
        problems = {}
        for status in self.statuses:
            if status.get("name") != name:
                continue
            for host in status.get("host_statuses", []):
                health, stats = host.get("health_status", {}), _stats(host)
                address = _address(host["address"])
                if health.get("failed_outlier_check"):
                    problems[address] = "taken out after errors (outlier detection)"
                elif health.get("eds_health_status", "HEALTHY") not in ("HEALTHY", "UNKNOWN"):
                    problems[address] = f"not healthy: {health['eds_health_status']}"
                elif stats.get("cx_connect_fail") and not stats.get("rq_success"):
                    problems[address] = f"{stats['cx_connect_fail']} connections failed, no request succeeded"
        return problems

    def server_names(self, port: int) -> set[str]:
        """Return the names (SNI) for which the proxy passes on connections that come in on a port."""
        return {
            name
            for entry in self.listeners
            if (told := entry.get("active_state", {}).get("listener"))
            and told["address"].get("socket_address", {}).get("port_value") == port
            for chain in told.get("filter_chains", [])
            for name in chain.get("filter_chain_match", {}).get("server_names", [])
        }


def read_config(client: KubernetesClient, namespace: str, pod: str) -> EnvoyConfig:
    """Ask the proxy of a pod for its configuration.

    :raises ExomeshError: the proxy does not report it.
    """
    dumps = (
        "listeners",
        "route_configs",
        "active_clusters",
        "endpoint_configs&include_eds",
        "active_secrets",
    )
    paths = [f"/config_dump?resource=dynamic_{dump}" for dump in dumps] + ["/clusters?format=json"]

    def ask(path: str) -> list[Dump]:
        answer = client.get_from_pod(namespace, pod, ADMIN_PORT, path, _ANSWER_SECONDS)
        try:
            told = load_json(answer, f"What the proxy of pod {namespace}/{pod} tells")
            return [dict(entry) for entry in told.get("configs") or told.get("cluster_statuses") or []]
        except MALFORMED:
            raise ExomeshError(
                f"The proxy of pod {namespace}/{pod} answers {path} with {answer[:100]!r}",
                "proxy_silent",
                cluster=client.name,
                next_step=f"kubectl -n {namespace} logs {pod} -c istio-proxy --tail 50",
            ) from None

    return EnvoyConfig(*concurrently(ask, paths))


def is_mutual(cluster: Dump) -> bool:
    """Return whether requests to an Envoy cluster use Istio's mutual TLS if the other end supports it."""
    sockets = [match["transport_socket"] for match in cluster.get("transport_socket_matches", [])]
    sockets.append(cluster.get("transport_socket", {}))
    return any(
        str(socket.get("typed_config", {}).get("sni", "")).startswith("outbound_")
        and "default" in json.dumps(socket["typed_config"]["common_tls_context"].get(_OWN_CERTIFICATE, []))
        for socket in sockets
    )


_OWN_CERTIFICATE = "tls_certificate_sds_secret_configs"


def rule_of(resource: Dump) -> str | None:
    """Return the DestinationRule or VirtualService behind a cluster or route, as ``namespace/name``."""
    config = resource.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", "")
    match = re.search(r"/namespaces/([^/]+)/[^/]+/([^/]+)$", config)
    return f"{match[1]}/{match[2]}" if match else None


def _listener(told: Dump) -> Listener:
    chains = [*told.get("filter_chains", []), told.get("default_filter_chain", {})]
    filters = [entry.get("typed_config", {}) for chain in chains for entry in chain.get("filters", [])]
    for config in filters:
        if config.get("@type", "").endswith(_HTTP) and "rds" in config:
            return Listener(told["name"], config["rds"]["route_config_name"])
    for config in filters:
        if config.get("@type", "").endswith(_TCP):
            weighted = [entry["name"] for entry in config.get("weighted_clusters", {}).get("clusters", [])]
            return Listener(
                told["name"], None, tuple([config["cluster"]] if "cluster" in config else weighted)
            )
    return Listener(told["name"], None)


def _matches(route: Dump, path: str) -> bool:
    match = route.get("match", {})
    if match.get("headers") or match.get("query_parameters"):
        return False
    if "prefix" in match:
        return path.startswith(match["prefix"])
    if "path" in match:
        return bool(path == match["path"])
    if "path_separated_prefix" in match:
        prefix = match["path_separated_prefix"]
        return path == prefix or path.startswith(f"{prefix}/")
    if "safe_regex" in match:
        return re.fullmatch(match["safe_regex"]["regex"], path) is not None
    return False


def _route(told: Dump) -> Route:
    action, rule = told.get("route", {}), rule_of(told)
    if "direct_response" in told:
        return Route({}, int(told["direct_response"]["status"]), rule)
    if "redirect" in told:
        return Route({}, 301, rule)
    weighted = action.get("weighted_clusters", {}).get("clusters", [])
    total = sum(entry.get("weight", 0) for entry in weighted) or 1
    clusters = {entry["name"]: 100 * entry["weight"] / total for entry in weighted if entry.get("weight")}
    return Route(clusters or {action.get("cluster", ""): 100.0}, None, rule)


def _address(told: Dump) -> str:
    socket = told.get("socket_address", {})
    return f"{socket.get('address')}:{socket.get('port_value')}"


def _stats(host: Dump) -> dict[str, int]:
    return {entry["name"]: int(entry.get("value", 0)) for entry in host.get("stats", [])}
