# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Istio takes Services of several clusters for one, and how not (private to the collection).

Services of the same namespace and name are one Service in a mesh, wherever they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._base.documents import load_yaml
from .._kubernetes.api import Object
from .._kubernetes.client import is_ours
from .._kubernetes.selectors import selects
from .names import ISTIO_NAMESPACE, VERIFY_NAMESPACE

EXPORT_TO = "networking.istio.io/exportTo"
_APART = frozenset({ISTIO_NAMESPACE, VERIFY_NAMESPACE})
"""Namespaces whose Services each cluster has for itself."""
_LOCAL_HOSTS = ["*.kube-system.svc.cluster.local", "kubernetes.default.svc.cluster.local"]
"""Hosts that Istio keeps in their cluster by itself."""


def host_of(service: Object) -> str:
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"


def full_host(host: str, namespace: str) -> str:
    """Return the full host name. A host without dots is a Service in the rule's own namespace."""
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}.svc.cluster.local"


def covers(host: str, name: str) -> bool:
    """Return whether a host, which may begin with ``*``, includes a name."""
    return name.endswith(host[1:]) if host.startswith("*") else name == host


def may_merge(service: Object) -> bool:
    """Return whether Istio takes a Service of the same name in another cluster for the same one.

    Services of Kubernetes, of Istio and of this collection are of their cluster. One that is exported to
    nobody has no part in the mesh.
    """
    metadata = service["metadata"]
    return (
        metadata["namespace"] not in _APART
        and not is_ours(service)
        and not any(covers(host, host_of(service)) for host in _LOCAL_HOSTS)
        and (metadata.get("annotations") or {}).get(EXPORT_TO) != "~"
    )


def is_exported(namespaces: Iterable[str] | None, own: str | None = None) -> bool:
    """Return whether the east-west gateway sees an object that is exported to these namespaces.

    :param namespaces: by default, all.
    :param own: the namespace of the object itself, which ``.`` means.
    """
    told = {str(name).strip() for name in namespaces or ["*"]}
    return bool({"*", ISTIO_NAMESPACE} & told) or (own == ISTIO_NAMESPACE and "." in told)


def exported_by_default(mesh_config: Mapping[str, Any], kind: str) -> list[str]:
    """Return the namespaces to which objects are exported that tell none; none if that is not set."""
    return _list(mesh_config.get(f"default{kind}ExportTo"))


def is_cluster_local(mesh_config: Mapping[str, Any], host: str) -> bool:
    """Return whether the callers in a cluster only get the pods of their own cluster for a host."""
    default = {"hosts": _LOCAL_HOSTS, "settings": {"clusterLocal": True}}
    found = [
        (not named.startswith("*"), len(named), bool(mapping(entry.get("settings")).get("clusterLocal")))
        for entry in [default, *_mappings(mesh_config.get("serviceSettings"))]
        for named in map(str, _list(entry.get("hosts")))
        if covers(named, host)
    ]
    # The most specific host counts; of equal ones, the last.
    ranked = sorted(found, key=lambda each: each[:2])
    return bool(ranked) and ranked[-1][2]


def is_discovered(mesh_config: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether istiod looks at a namespace with these labels."""
    selectors = _mappings(mesh_config.get("discoverySelectors"))
    return not selectors or any(selects(selector, labels) for selector in selectors)


def _mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the mappings in a list. Anybody may have written the mesh configuration."""
    return [entry for entry in _list(value) if isinstance(entry, Mapping)]


def mapping(value: object) -> Mapping[str, Any]:
    """Return a part of the mesh configuration that must be a mapping; an empty one if it is none."""
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def mesh_config_in(config_maps: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the mesh configuration in one of the ConfigMaps of Istio's namespace; an empty one without any.

    :param config_maps: their data, by name.
    :raises MALFORMED: it is no mapping.
    """
    # With a revision, the ConfigMap is named istio-REVISION.
    names = ["istio", *sorted(name for name in config_maps if name.startswith("istio-"))]
    text = next((config_maps[name]["mesh"] for name in names if "mesh" in config_maps.get(name, {})), "")
    return dict(load_yaml(text, "The mesh configuration") or {})


_PROTOCOLS = frozenset(
    ("tcp", "grpc", "grpc-web", "http", "http_proxy", "http2", "https", "tls", "mongo", "redis", "mysql")
)
_OF_KUBERNETES = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
_NEVER_GUESSED = (25, 53, 3306, 27017)
"""Ports whose protocol proxies do not find out, because there servers speak first."""


def protocol_of(port: Object) -> str:
    """Return the protocol that Istio takes for a port of a Service; ``auto`` if it finds out at run time."""
    if port.get("protocol") == "UDP":
        return "UDP"
    told = str(port.get("appProtocol") or port.get("name") or "").lower()
    told = _OF_KUBERNETES.get(told, told)
    name = "grpc-web" if told.startswith("grpc-web") else told.partition("-")[0]
    if name in _PROTOCOLS:
        return name.upper()
    return "TCP" if port["port"] in _NEVER_GUESSED else "auto"


def is_http(port: Object) -> bool:
    """Return whether Istio takes what goes to a port for HTTP requests."""
    return protocol_of(port) in ("HTTP", "HTTP_PROXY", "HTTP2", "GRPC", "GRPC-WEB")


def may_be_http(port: Object) -> bool:
    """Return whether proxies take what goes to a port for HTTP requests, if it looks like that."""
    return is_http(port) or protocol_of(port) == "auto"
