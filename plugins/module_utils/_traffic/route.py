# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes from an ingress gateway to the versions of a service (private to the collection).

A route is written in one of two forms: Istio's own (Gateway, VirtualService, DestinationRule) or the Gateway
API's (Gateway, HTTPRoute). Weights can be read and set in either form, also in routes that others wrote.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._base.errors import ExomeshError
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL

ISTIO, GATEWAY_API = "istio", "gateway-api"

_ISTIO_API = "networking.istio.io/v1"
_GATEWAY_API = "gateway.networking.k8s.io/v1"


@dataclass(frozen=True)
class Rule:
    """A rule that sends requests with all these headers and the cookie to one version, regardless of weights.

    :param cookie: the cookie's name and value.
    """

    version: str
    headers: Mapping[str, str]
    cookie: tuple[str, str] | None = None


@dataclass(frozen=True)
class Mirror:
    """A version that gets a copy of requests. Its answers are thrown away."""

    version: str
    percent: int


@dataclass(frozen=True)
class Ejection:
    """The conditions to take an endpoint out, so that requests go to the next locality."""

    errors: int
    interval: int
    seconds: int


@dataclass(frozen=True)
class Ingress:
    """The gateway through which requests come in: its Service, and the labels of its pods."""

    namespace: str
    service: str
    selector: Mapping[str, str]


@dataclass(frozen=True)
class Route:
    """The route that a service should have, without the weights."""

    namespace: str
    service: str
    port: int
    hosts: Sequence[str]
    versions: Sequence[str]
    rules: Sequence[Rule]
    mirror: Mirror | None
    ejection: Ejection
    ingress: Ingress

    def __post_init__(self) -> None:
        used = [rule.version for rule in self.rules] + ([self.mirror.version] if self.mirror else [])
        unknown = sorted(set(used) - set(self.versions))
        if unknown:
            raise ExomeshError(
                f"A rule or the mirror names {', '.join(unknown)}",
                "unknown_version",
                cause=f"the versions are {', '.join(self.versions)}",
                next_step="Add the version, or correct the name",
            )

    def host(self, version: str = "") -> str:
        """Return the full name of the service, or of the Service of one version."""
        name = f"{self.service}-{version}" if version else self.service
        return f"{name}.{self.namespace}.svc.cluster.local"


def route_ref(form: str, namespace: str, name: str) -> ObjectRef:
    """Return the reference of the object that holds the weights."""
    if form == ISTIO:
        return ObjectRef(_ISTIO_API, "VirtualService", name, namespace)
    return ObjectRef(_GATEWAY_API, "HTTPRoute", name, namespace)


def starting_weights(
    versions: Sequence[str], wanted: Mapping[str, Any], live: Object | None
) -> dict[str, int]:
    """Return a route's weights: those wanted, or else those it has, or else everything for the first version.

    :raises ExomeshError: ``weights_invalid``.
    """
    has = wanted or _live_weights(live, versions)
    try:
        weights = {version: int(has.get(version, 0)) for version in versions}
    except (TypeError, ValueError):
        weights = {}
    if wanted and (sum(weights.values()) != 100 or min(weights.values()) < 0 or set(wanted) - set(versions)):
        raise ExomeshError(
            f"These are no weights of {', '.join(versions)} that make 100: {dict(wanted)}",
            "weights_invalid",
            next_step="Give whole numbers that make 100, or none to keep those that the route has",
        )
    weights[versions[0]] += 100 - sum(weights.values())
    return weights


def _live_weights(live: Object | None, versions: Sequence[str]) -> dict[str, int]:
    if live is None:
        return {}
    for rule in _rules_of(live):
        if not _matches_of(live, rule):
            return {
                version: _weight(destination)
                for destination in _destinations(live, rule)
                for version in versions
                if _is_version(live, destination, version)
            }
    return {}


def render(form: str, route: Route, weights: Mapping[str, int]) -> list[Object]:
    """Return the objects of the route, in the order in which they are created."""
    return _istio_objects(route, weights) if form == ISTIO else _gateway_api_objects(route, weights)


def _istio_objects(route: Route, weights: Mapping[str, int]) -> list[Object]:
    def destination(version: str) -> Object:
        return {"host": route.host(), "subset": version, "port": {"number": route.port}}

    rules: list[Object] = [
        {
            "name": f"{rule.version}-by-choice-{number}",
            "match": [{"headers": _istio_headers(rule)}],
            "route": [{"destination": destination(rule.version)}],
        }
        for number, rule in enumerate(route.rules, 1)
    ]
    weighted: Object = {
        "name": "weighted",
        "route": [
            {"destination": destination(version), "weight": weight} for version, weight in weights.items()
        ],
    }
    if route.mirror:
        percentage = {"value": route.mirror.percent}
        weighted["mirrors"] = [{"destination": destination(route.mirror.version), "percentage": percentage}]
    gateway = {
        "selector": dict(route.ingress.selector),
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": list(route.hosts)}],
    }
    virtual_service = {
        "hosts": list(route.hosts),
        "gateways": [f"{route.namespace}/{route.service}"],
        "http": [*rules, weighted],
    }
    subsets = [{"name": version, "labels": {"version": version}} for version in route.versions]
    return [
        # This comes before the route that names its subsets.
        _object(route, _ISTIO_API, "DestinationRule", route.service, _destination_rule(route, "", subsets)),
        _object(route, _ISTIO_API, "Gateway", route.service, gateway),
        _object(route, _ISTIO_API, "VirtualService", route.service, virtual_service),
    ]


def _gateway_api_objects(route: Route, weights: Mapping[str, int]) -> list[Object]:
    def backend(version: str) -> Object:
        return {"name": f"{route.service}-{version}", "port": route.port}

    rules: list[Object] = [
        {
            "matches": [{"headers": _gateway_api_headers(rule)}],
            "backendRefs": [backend(rule.version)],
        }
        for rule in route.rules
    ]
    weighted: Object = {
        "backendRefs": [{**backend(version), "weight": weight} for version, weight in weights.items()]
    }
    if route.mirror:
        mirror: Object = {"backendRef": backend(route.mirror.version)}
        if route.mirror.percent != 100:
            mirror["percent"] = route.mirror.percent  # a field of newer releases of the Gateway API
        weighted["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]
    hostnames = [host for host in route.hosts if host != "*"]
    address = f"{route.ingress.service}.{route.ingress.namespace}.svc.cluster.local"
    from_here = {"matchLabels": {"kubernetes.io/metadata.name": route.namespace}}
    listener = {
        "name": "http",
        "port": 80,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "Selector", "selector": from_here}},
    }
    gateway = {
        "gatewayClassName": "istio",
        # Use the existing ingress gateway, and no new one. So this Gateway must be in the same namespace.
        "addresses": [{"type": "Hostname", "value": address}],
        "listeners": [listener],
    }
    http_route = {
        "parentRefs": [{"name": route.service, "namespace": route.ingress.namespace}],
        **({"hostnames": hostnames} if hostnames else {}),
        "rules": [*rules, weighted],
    }
    objects = []
    for version in route.versions:
        name = f"{route.service}-{version}"
        service = {
            "selector": {"app": route.service, "version": version},
            "ports": [{"name": "http", "port": route.port, "targetPort": route.port}],
        }
        rule = _destination_rule(route, version, [])
        objects += [
            _object(route, "v1", "Service", name, service),
            _object(route, _ISTIO_API, "DestinationRule", name, rule),
        ]
    return [
        *objects,
        _object(route, _ISTIO_API, "DestinationRule", route.service, _destination_rule(route, "", [])),
        _object(route, _GATEWAY_API, "Gateway", route.service, gateway, route.ingress.namespace),
        _object(route, _GATEWAY_API, "HTTPRoute", route.service, http_route),
    ]


def _object(
    route: Route, api_version: str, kind: str, name: str, spec: Object, namespace: str = ""
) -> Object:
    metadata = {
        "name": name,
        "namespace": namespace or route.namespace,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY},
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def _destination_rule(route: Route, version: str, subsets: list[Object]) -> Object:
    """Return a rule with locality failover. It needs outlier detection to know when a locality has failed."""
    policy = {
        "connectionPool": {"tcp": {"connectTimeout": "1s"}},
        "loadBalancer": {"simple": "ROUND_ROBIN", "localityLbSetting": {"enabled": True}},
        "outlierDetection": {
            "consecutive5xxErrors": route.ejection.errors,
            "consecutiveGatewayErrors": route.ejection.errors,
            "interval": f"{route.ejection.interval}s",
            "baseEjectionTime": f"{route.ejection.seconds}s",
            "maxEjectionPercent": 100,
        },
    }
    rule: Object = {"host": route.host(version), "trafficPolicy": policy}
    return {**rule, "subsets": subsets} if subsets else rule


def _cookie_pattern(name: str, value: str) -> str:
    """Return a pattern for a header Cookie that has this cookie, also among others."""
    return f"(.*;[ ]*)?{re.escape(name)}={re.escape(value)}(;.*)?"


def _istio_headers(rule: Rule) -> Object:
    headers: Object = {name.lower(): {"exact": value} for name, value in rule.headers.items()}
    if rule.cookie:
        headers["cookie"] = {"regex": _cookie_pattern(*rule.cookie)}
    return headers


def _gateway_api_headers(rule: Rule) -> list[Object]:
    headers = [{"name": name, "value": value} for name, value in rule.headers.items()]
    if rule.cookie:
        pattern = _cookie_pattern(*rule.cookie)
        headers.append({"name": "cookie", "type": "RegularExpression", "value": pattern})
    return headers


# Weights of an existing route, in either form


@dataclass(frozen=True)
class Split:
    """The split of one rule's requests between two of its versions."""

    stable: int
    canary: int

    @property
    def percent(self) -> int:
        """Return the canary's share of what both versions get together, in percent."""
        total = self.stable + self.canary
        return round(100 * self.canary / total) if total else 0


def split_of(route: Object, stable: str, canary: str, rule: str | None = None) -> Split:
    """Return the weights of two versions.

    :param rule: name of the rule; without a name, the only rule that has both versions.
    :raises ExomeshError: ``no_such_rule``.
    """
    destinations = _destinations(route, _rule(route, stable, canary, rule))
    return Split(
        _weight(_destination(route, destinations, stable)), _weight(_destination(route, destinations, canary))
    )


def with_percent(route: Object, stable: str, canary: str, percent: int, rule: str | None = None) -> Object:
    """Return the route with a new split: the canary gets that share of what both versions get.

    Other versions keep their weights.
    """
    changed = copy.deepcopy(route)
    destinations = _destinations(changed, _rule(changed, stable, canary, rule))
    one, other = _destination(changed, destinations, stable), _destination(changed, destinations, canary)
    total = _weight(one) + _weight(other)
    other["weight"] = round(total * percent / 100)
    one["weight"] = total - other["weight"]
    return changed


def _rule(route: Object, stable: str, canary: str, name: str | None) -> Object:
    where = str(ObjectRef.of(route))
    rules = _rules_of(route)
    if name:
        rules = [rule for rule in rules if rule.get("name") == name]
    both = [
        rule
        for rule in rules
        if all(
            any(_is_version(route, destination, version) for destination in _destinations(route, rule))
            for version in (stable, canary)
        )
    ]
    if len(both) != 1:
        has = sorted(
            {
                _version_name(route, destination)
                for rule in rules
                for destination in _destinations(route, rule)
            }
        )
        raise ExomeshError(
            f"{where} has {len(both)} rules{f' {name}' if name else ''} with both {stable} and {canary}",
            "no_such_rule",
            cause=f"its destinations are {', '.join(has) or 'none'}",
            next_step="Name versions that one rule has both, also with weight 0; or name the rule",
        )
    return both[0]


def _rules_of(route: Object) -> list[Object]:
    rules: list[Object] = route["spec"].get("http" if _is_istio(route) else "rules") or []
    return rules


def _matches_of(route: Object, rule: Object) -> list[Object]:
    if _is_istio(route):
        return rule.get("match") or []
    # The API's default, a match of every path, does not count as a match.
    return [match for match in rule.get("matches") or [] if set(match) - {"path"}]


def _destinations(route: Object, rule: Object) -> list[Object]:
    destinations: list[Object] = rule.get("route" if _is_istio(route) else "backendRefs") or []
    return destinations


def _destination(route: Object, destinations: list[Object], version: str) -> Object:
    return next(entry for entry in destinations if _is_version(route, entry, version))


def _weight(destination: Object) -> int:
    # A single destination needs no weight.
    return int(destination.get("weight", 100))


def _version_name(route: Object, destination: Object) -> str:
    if not _is_istio(route):
        return str(destination["name"])
    target = destination["destination"]
    return str(target.get("subset") or target["host"].partition(".")[0])


def _is_version(route: Object, destination: Object, version: str) -> bool:
    """Return whether a destination is a version: a subset or Service with that name, or that ending."""
    name = _version_name(route, destination)
    return name == version or name.endswith(f"-{version}")


def _is_istio(route: Object) -> bool:
    return bool(route["kind"] == "VirtualService")
