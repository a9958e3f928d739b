# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of an east-west gateway, and the objects created from them (private to the collection)."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .._base.documents import load_yaml
from .._base.errors import ExomeshError
from .._kubernetes.api import Object
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL
from .._kubernetes.objects import hash_of
from .merging import merge
from .names import EASTWEST_GATEWAY, ISTIO_NAMESPACE, NETWORK_LABEL
from .operator import OperatorSettings

with suppress(ImportError):  # require("kubernetes") reports it
    import yaml


NAME = "istio-eastwestgateway"

PORT = 15443

DRAIN_SECONDS = 15
"""Time for peers to learn that a gateway is no longer to be used, and for running requests to end."""

_READINESS = {
    "httpGet": {"path": "/healthz/ready", "port": 15021},
    "initialDelaySeconds": 1,
    "periodSeconds": 2,
    "timeoutSeconds": 3,
    "failureThreshold": 30,
}
"""Istio's own probe asks every 15 s: a gateway that fails the first probe would wait that long to be used."""

CONFIGURATION_ANNOTATION = "exomesh.istio/configuration"

ADDRESS_ANNOTATION = "exomesh.istio/address"
"""Annotation of the gateway's Service: the address that the latest run found."""

EXPOSING = "cross-network-gateway"
"""Name of Istio's Gateway that exposes services through the gateway of the operator's form."""

_HOST = r"\*|(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"


@dataclass(frozen=True)
class GatewaySettings:
    """The settings that both forms share, and the overrides for each form.

    :param hosts: services that other networks may reach.
    :param operator_spec: merged last over the ``spec`` of the IstioOperator.
    :param parameters: merged last over the objects that istiod creates from a Gateway, by ``deployment``,
        ``service`` and so on.
    """

    network: str
    hosts: Sequence[str] = ("*.local",)
    annotations: Mapping[str, str] = field(default_factory=dict)
    source_ranges: Sequence[str] = ()
    hub: str | None = None
    image_pull_secrets: Sequence[str] = ()
    revision: str = ""
    ha: bool = False
    operator_spec: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse values that would be accepted, but mean something else.

        :raises ExomeshError: ``gateway_invalid``.
        """
        if not self.hosts:
            raise _invalid("gateway_expose_hosts is empty: name what other networks may reach, as in *.local")
        for host in self.hosts:
            if "/" in host:
                raise _invalid(
                    f"gateway_expose_hosts names {host}, but a namespace before a slash narrows nothing "
                    "here: for the services of a namespace write *.NAMESPACE.svc.cluster.local"
                )
            if not re.fullmatch(_HOST, host):
                raise _invalid(
                    f"gateway_expose_hosts names {host}, which is no host: write a service's full name, or "
                    "one that begins with *. for all that end so"
                )
        for source in self.source_ranges:
            try:
                ipaddress.ip_network(source)
            except ValueError as error:
                raise _invalid(
                    f"gateway_source_ranges names {source}, which is no network: {error}"
                ) from None


def operator_settings(settings: GatewaySettings, announced: bool) -> OperatorSettings:
    """Return the settings of the gateway's IstioOperator.

    :raises ExomeshError: ``overlay_loses`` or ``gateway_invalid``: the gateway would not be one any more.
    """
    component: dict[str, Any] = {
        "name": NAME,
        "enabled": True,
        "label": {"app": NAME, "istio": "eastwestgateway", NETWORK_LABEL: settings.network},
        "k8s": {
            # Route requests to services of this network only.
            "env": [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": settings.network}],
            "readinessProbe": _READINESS,
            "serviceAnnotations": dict(settings.annotations),
            "service": {
                "ports": [
                    {"name": "status-port", "port": 15021, "targetPort": 15021},
                    {"name": "tls", "port": PORT, "targetPort": PORT},
                ],
                **_source_ranges(settings),
            },
        },
    }
    if not announced:
        # Remove the label from the Service only. It is also in the selectors of Deployment and Service, which
        # cannot change.
        patch = {"path": "metadata.labels." + NETWORK_LABEL.replace(".", "\\.")}
        component["k8s"]["overlays"] = [{"kind": "Service", "name": NAME, "patches": [patch]}]
    spec = {
        "components": {"ingressGateways": [component]},
        "values": {"gateways": {"istio-ingressgateway": {"injectionTemplate": "gateway"}}},
    }
    merged = merge(spec, settings.operator_spec)
    _refuse_other_gateway(component, merged)
    return OperatorSettings(
        name=EASTWEST_GATEWAY,
        profile="empty",
        hub=settings.hub,
        image_pull_secrets=settings.image_pull_secrets,
        revision=settings.revision,
        network=settings.network,
        ha=settings.ha,
        spec=merged,
    )


def _refuse_other_gateway(ours: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
    """Refuse an overlay with which peers would not find the gateway, or nothing would answer them.

    The labels are also in selectors, which cannot change.
    """
    gateways = (merged.get("components") or {}).get("ingressGateways") or []
    found: Mapping[str, Any] = next((entry for entry in gateways if entry.get("name") == NAME), {})
    labels = found.get("label") or {}
    for label, value in ours["label"].items():
        if labels.get(label) != value:
            raise _invalid(
                f"gateway_overlay would leave the gateway without its label {label}={value}, by which it is "
                f"found: leave components.ingressGateways[{NAME}].label as it is, or add other labels to it"
            )
    ports = ((found.get("k8s") or {}).get("service") or {}).get("ports") or []
    if PORT not in [port.get("port") for port in ports]:
        raise _invalid(
            f"gateway_overlay would leave the gateway without its port {PORT}, to which the peers connect: "
            f"keep it in components.ingressGateways[{NAME}].k8s.service.ports"
        )


def exposing_gateway(settings: GatewaySettings) -> Object:
    """Return Istio's Gateway, which exposes services to other networks through the operator's form."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": EXPOSING,
            "namespace": ISTIO_NAMESPACE,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
        },
        "spec": {
            "selector": {"istio": "eastwestgateway"},
            "servers": [
                {
                    "port": {"number": PORT, "name": "tls", "protocol": "TLS"},
                    "tls": {"mode": "AUTO_PASSTHROUGH"},
                    "hosts": list(settings.hosts),
                }
            ],
        },
    }


def gateway_api_objects(settings: GatewaySettings, announced: bool) -> list[Object]:
    """Return the ConfigMap with the parameters, then the Gateway of the Gateway API.

    The annotations for the load balancer are not on the Gateway itself: its own annotations also go to its
    pods, and each change would replace the pods.
    """
    owned = {MANAGED_BY_LABEL: MANAGED_BY}
    labels = {**owned, **({"istio.io/rev": settings.revision} if settings.revision else {})}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": NAME,
            "namespace": ISTIO_NAMESPACE,
            "labels": {**labels, NETWORK_LABEL: settings.network},
        },
        "spec": {
            "gatewayClassName": "istio",
            "infrastructure": {
                "labels": {NETWORK_LABEL: settings.network},
                "parametersRef": {"group": "", "kind": "ConfigMap", "name": NAME},
            },
            "listeners": [_listener(number, host) for number, host in enumerate(settings.hosts, 1)],
        },
    }
    parameters = merge(_parameters(settings), settings.parameters)
    service: dict[str, Any] = {"metadata": {"annotations": {}}}
    if not announced:
        service["metadata"]["labels"] = {NETWORK_LABEL: None}
    parameters["service"] = merge(service, parameters["service"])
    configuration = hash_of(json.dumps([gateway, parameters], sort_keys=True))
    parameters["service"]["metadata"]["annotations"][CONFIGURATION_ANNOTATION] = configuration
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": ISTIO_NAMESPACE, "labels": owned},
            "data": {key: yaml.safe_dump(value) for key, value in sorted(parameters.items())},
        },
        gateway,
    ]


def _listener(number: int, host: str) -> dict[str, Any]:
    listener = {
        "name": "tls" if number == 1 else f"tls-{number}",
        "port": PORT,
        "protocol": "TLS",
        "tls": {
            "mode": "Passthrough",
            "options": {"gateway.istio.io/listener-protocol": "auto-passthrough"},
        },
    }
    return listener if host == "*" else {**listener, "hostname": host}


def _parameters(settings: GatewaySettings) -> dict[str, Any]:
    """Return the overrides for the objects that istiod creates, by kind of object."""
    pod: dict[str, Any] = {}
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    service = {"metadata": {"annotations": dict(settings.annotations)}, "spec": _source_ranges(settings)}
    if not settings.ha:
        return {"deployment": {"spec": {"replicas": 1, "template": {"spec": pod}}}, "service": service}
    requests = {"cpu": "100m", "memory": "128Mi"}
    pod["containers"] = [{"name": "istio-proxy", "resources": {"requests": requests}}]
    pod["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"gateway.networking.k8s.io/gateway-name": NAME}},
        }
    ]
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    return {
        "deployment": {"spec": {"template": {"spec": pod}}},
        "horizontalPodAutoscaler": {
            "spec": {"minReplicas": 2, "maxReplicas": 5, "metrics": [{"type": "Resource", "resource": cpu}]}
        },
        "podDisruptionBudget": {"spec": {"minAvailable": 1}},
        "service": service,
    }


def _source_ranges(settings: GatewaySettings) -> dict[str, Any]:
    return {"loadBalancerSourceRanges": list(settings.source_ranges)} if settings.source_ranges else {}


def configuration_of(objects: Iterable[Object]) -> str:
    for obj in objects:
        if obj["kind"] == "ConfigMap":
            service = load_yaml(obj["data"]["service"], "The gateway's configuration")
            return str(service["metadata"]["annotations"][CONFIGURATION_ANNOTATION])
    raise ValueError("no ConfigMap is among the objects")


def _invalid(message: str) -> ExomeshError:
    return ExomeshError(message, "gateway_invalid")
