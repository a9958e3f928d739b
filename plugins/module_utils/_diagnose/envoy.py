# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the configuration of one of Istio's proxies from Envoy itself (private to the collection)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .._istio.envoy import ADMIN_PORT, Dump, rejected
from .._kubernetes.client import KubernetesClient
from .._trust.proxies import own_chain, trusted_roots
from .._trust.x509 import CertificateError
from .routes import Request, VirtualHost, shares_of, virtual_host

if TYPE_CHECKING:
    from cryptography import x509

_ANSWER_SECONDS = 20.0
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - what Envoy calls its listeners
_HTTP = "HttpConnectionManager"
_TCP = "TcpProxy"
_CATCHES_ALL = "virtualOutbound"
PASSES_ON = "PassthroughCluster"
"""The Envoy cluster of connections that go to their own address unchanged."""
_RESOLVED = ("STRICT_DNS", "LOGICAL_DNS")
"""Types of Envoy clusters whose names Envoy resolves itself, so that they have no configured endpoints."""
_STATUSES = "/clusters?format=json"


@dataclass(frozen=True)
class Listener:
    """A listener, on which the proxy takes the requests of its workload.

    :param routes: name of its routes; None if it passes on TCP.
    :param shares: the Envoy clusters to which a TCP connection goes, each with its share in percent.
    """

    name: str
    routes: str | None
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Endpoint:
    """An address to which a request may be sent.

    :param cluster: the cluster of the mesh whose workload is behind the address.
    :param problem: why the proxy does not use the address; None if it does.
    :param ejected: whether outlier detection took it out.
    :param priority: the proxy only uses endpoints of a higher number if those of lower ones are not usable.
    """

    address: str
    cluster: str
    problem: str | None = None
    ejected: bool = False
    priority: int = 0


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

    def virtual_host(self, name: str, request: Request) -> VirtualHost | None:
        """Return the routes that a configuration of that name has for the host of a request, or None."""
        for entry in self.routes:
            config = entry.get("route_config", {})
            if config.get("name") == name and (found := virtual_host(config, request)):
                return found
        return None

    def passes_on_unknown(self) -> bool:
        """Return whether connections that the proxy does not know go to their address unchanged."""
        chains = [
            chain
            for entry in self.listeners
            if (told := entry.get("active_state", {}).get("listener")) and told.get("name") == _CATCHES_ALL
            for chain in (*told.get("filter_chains", []), told.get("default_filter_chain", {}))
        ]
        filters = [entry.get("typed_config", {}) for chain in chains for entry in chain.get("filters", [])]
        return any(config.get("cluster") == PASSES_ON for config in filters)

    def cluster(self, name: str) -> Dump | None:
        return next((c["cluster"] for c in self.clusters if c.get("cluster", {}).get("name") == name), None)

    def endpoints_of(self, name: str) -> list[Endpoint]:
        statuses = self._statuses_of(name)
        if (self.cluster(name) or {}).get("type") in _RESOLVED:
            return [Endpoint(address, "", **_trouble(status)) for address, status in statuses.items()]
        return [
            replace(endpoint, **_trouble(statuses.get(endpoint.address, {})))
            for entry in self.endpoints
            if entry.get("endpoint_config", {}).get("cluster_name") == name
            for endpoint in _endpoints(entry["endpoint_config"])
        ]

    def _statuses_of(self, name: str) -> dict[str, Dump]:
        return {
            _address(host.get("address", {})): host
            for status in self.statuses
            if status.get("name") == name
            for host in status.get("host_statuses", [])
        }

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
    paths = [f"/config_dump?resource=dynamic_{dump}" for dump in dumps] + [_STATUSES]
    return EnvoyConfig(*concurrently(lambda path: _ask(client, namespace, pod, path), paths))


def read_listeners(client: KubernetesClient, namespace: str, pod: str) -> EnvoyConfig:
    """Ask the proxy of a pod for its listeners alone. See :func:`read_config`."""
    return EnvoyConfig(listeners=_ask(client, namespace, pod, "/config_dump?resource=dynamic_listeners"))


def with_new_statuses(config: EnvoyConfig, client: KubernetesClient, namespace: str, pod: str) -> EnvoyConfig:
    """Ask the proxy of a pod again which endpoints it uses."""
    return replace(config, statuses=_ask(client, namespace, pod, _STATUSES))


def _ask(client: KubernetesClient, namespace: str, pod: str, path: str) -> list[Dump]:
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


def _listener(told: Dump) -> Listener:
    chains = [*told.get("filter_chains", []), told.get("default_filter_chain", {})]
    filters = [entry.get("typed_config", {}) for chain in chains for entry in chain.get("filters", [])]
    for config in filters:
        if config.get("@type", "").endswith(_HTTP) and "rds" in config:
            return Listener(told["name"], config["rds"]["route_config_name"])
    for config in filters:
        if config.get("@type", "").endswith(_TCP):
            return Listener(told["name"], None, shares_of(config))
    return Listener(told["name"], None)


def _endpoints(assignment: Dump) -> Iterator[Endpoint]:
    for locality in assignment.get("endpoints", []):
        for entry in locality.get("lb_endpoints", []):
            metadata = entry.get("metadata", {}).get("filter_metadata", {})
            # workload;namespace;name;revision;cluster
            workload = str(metadata.get("istio", {}).get("workload", ""))
            yield Endpoint(
                _address(entry.get("endpoint", {}).get("address", {})),
                workload.rpartition(";")[2],
                priority=int(locality.get("priority", 0)),
            )


def _trouble(host: Dump) -> dict[str, Any]:
    """Return why the proxy does not use an endpoint, from what it tells of it."""
    health, stats = host.get("health_status", {}), _stats(host)
    if health.get("failed_outlier_check"):
        return {"problem": "taken out after errors (outlier detection)", "ejected": True}
    if health.get("eds_health_status", "HEALTHY") not in ("HEALTHY", "UNKNOWN"):
        return {"problem": f"not healthy: {health['eds_health_status']}"}
    failed = stats.get("cx_connect_fail", 0)
    # Not every kind of connection counts its requests.
    if failed and failed >= stats.get("cx_total", 0) and not stats.get("rq_success"):
        return {"problem": f"{failed} connections failed, none succeeded"}
    return {}


def _address(told: Dump) -> str:
    socket = told.get("socket_address", {})
    return f"{socket.get('address')}:{socket.get('port_value')}"


def _stats(host: Dump) -> dict[str, int]:
    return {entry["name"]: int(entry.get("value", 0)) for entry in host.get("stats", [])}
