"""Workloads as users have them, all of which are well: by each way of injection, of each kind of Service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]

INJECTED = {"istio-injection": "enabled"}
BY_REVISION = {"istio.io/rev": "default"}
SWITCHED_OFF = {"istio-injection": "disabled"}
STRICT = {"mtls": {"mode": "STRICT"}}
MONITORED = {"app": "web", "version": "v1"}


def namespaces() -> list[Object]:
    """Return the namespaces; deleting them deletes all shapes."""
    labels = {
        "shapes": INJECTED,
        "shapes-revision": BY_REVISION,
        "shapes-pods": {},
        "shapes-off": SWITCHED_OFF,
        "shapes-closed": INJECTED,
    }
    return [_object("Namespace", name, None, metadata={"labels": held}) for name, held in labels.items()]


def shapes(image: str, gateways: Sequence[str]) -> list[Object]:
    """Return the objects of one cluster.

    :param image: that of all pods; it listens at port 3000.
    :param gateways: addresses of the gateways of its peers.
    """
    return [
        *namespaces(),
        # By the label of the namespace: HTTP, TCP and gRPC, and a headless Service of the same pods.
        _pod("web-1", "shapes", image, **MONITORED),
        _pod("web-2", "shapes", image, app="web", version="v2"),
        _service("web", "shapes", {"name": "http", "port": 80, "targetPort": 3000}),
        _service("web-tcp", "shapes", {"name": "tcp-db", "port": 5432, "targetPort": 3000}),
        _service("web-grpc", "shapes", {"name": "grpc", "port": 9000, "targetPort": 3000}),
        _service("web-pods", "shapes", {"name": "tcp", "port": 3000}, clusterIP="None"),
        # A split between versions.
        _istio("DestinationRule", "web", "shapes", host="web", subsets=[_subset("v1"), _subset("v2")]),
        _istio(
            "VirtualService",
            "web",
            "shapes",
            hosts=["web"],
            http=[{"route": [_share("v1", 80), _share("v2", 20)]}],
        ),
        # A pod that needs no sidecar, behind no Service.
        _pod("batch", "shapes", image, **{"app": "batch", "sidecar.istio.io/inject": "false"}),
        # By the revision, and by the labels of pods.
        _pod("web", "shapes-revision", image, app="web"),
        _service("web", "shapes-revision", {"name": "http", "port": 80, "targetPort": 3000}),
        _pod("web", "shapes-pods", image, **{"app": "web", "sidecar.istio.io/inject": "true"}),
        _service("web", "shapes-pods", {"name": "http", "port": 80, "targetPort": 3000}),
        # Outside the mesh, and outside the cluster.
        _pod("plain", "shapes-off", image, app="web"),
        _service("web", "shapes-off", {"name": "http", "port": 80, "targetPort": 3000}),
        _object("Service", "alias", "shapes", spec={"type": "ExternalName", "externalName": "example.com"}),
        _istio(
            "ServiceEntry",
            "outside",
            "shapes",
            hosts=["api.example.com"],
            ports=[{"name": "https", "number": 443, "protocol": "TLS"}],
            resolution="DNS",
            location="MESH_EXTERNAL",
        ),
        *_zero_trust(image, gateways),
    ]


def _zero_trust(image: str, gateways: Sequence[str]) -> list[Object]:
    """Return a namespace in which only what is needed is allowed."""
    here, system = "shapes-closed", {"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}}
    needed = [
        {"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]},
        {"to": [{"namespaceSelector": system}], "ports": [{"port": 15012}]},
        {"to": [{"podSelector": {}}]},
        {"to": [{"ipBlock": {"cidr": f"{address}/32"}} for address in gateways], "ports": [{"port": 15443}]},
    ]
    allowed = [{"from": [{"podSelector": {}}, {"namespaceSelector": system}]}]
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    caller = {"from": [{"source": {"namespaces": [here, "shapes"]}}]}
    return [
        _pod("web", here, image, app="web"),
        _service("web", here, {"name": "http", "port": 80, "targetPort": 3000}),
        _object("NetworkPolicy", "closed", here, "networking.k8s.io/v1", spec=closed),
        _object(
            "NetworkPolicy",
            "needed",
            here,
            "networking.k8s.io/v1",
            spec={**closed, "ingress": allowed, "egress": needed},
        ),
        _object("PeerAuthentication", "strict", here, "security.istio.io/v1", spec=STRICT),
        _object("AuthorizationPolicy", "nothing", here, "security.istio.io/v1", spec={}),
        _object("AuthorizationPolicy", "callers", here, "security.istio.io/v1", spec={"rules": [caller]}),
    ]


def _object(kind: str, name: str, namespace: str | None, api_version: str = "v1", **rest: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **rest.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def _istio(kind: str, name: str, namespace: str, **spec: Any) -> Object:
    return _object(kind, name, namespace, "networking.istio.io/v1", spec=spec)


def _pod(name: str, namespace: str, image: str, **labels: str) -> Object:
    spec = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "web", "image": image}]}
    return _object("Pod", name, namespace, metadata={"labels": labels}, spec=spec)


def _service(name: str, namespace: str, port: Object, **spec: Any) -> Object:
    return _object("Service", name, namespace, spec={"selector": {"app": "web"}, "ports": [port], **spec})


def _subset(version: str) -> Object:
    return {"name": version, "labels": {"version": version}}


def _share(version: str, weight: int) -> Object:
    return {"destination": {"host": "web", "subset": version}, "weight": weight}
