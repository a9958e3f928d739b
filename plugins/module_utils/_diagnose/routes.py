# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the route of a request as Envoy does, and tell what the route does with it (private)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._istio.envoy import Dump

_FAULT = "envoy.filters.http.fault"
_DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
_REDIRECTS = {
    "MOVED_PERMANENTLY": 301,
    "FOUND": 302,
    "SEE_OTHER": 303,
    "TEMPORARY_REDIRECT": 307,
    "PERMANENT_REDIRECT": 308,
}


@dataclass(frozen=True)
class Request:
    """A ``GET`` without headers of its own."""

    host: str
    port: int
    path: str = "/"

    @property
    def headers(self) -> dict[str, str]:
        """Return what Envoy takes for headers of every request."""
        return {":method": "GET", ":path": self.path, ":authority": self.host, ":scheme": "http"}

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.path}"


@dataclass(frozen=True)
class Redirect:
    """An answer that sends the client to another address."""

    status: int
    scheme: str
    to: Request

    def __str__(self) -> str:
        return f"{self.status} to {self.scheme}{self.to.url.removeprefix('http')}"


@dataclass(frozen=True)
class Route:
    """A route, which decides what becomes of a request.

    :param shares: the Envoy clusters to which it goes, each with its share in percent.
    :param answer: the status with which the proxy itself answers; None if it does not.
    :param rule: the VirtualService that defines the route, as ``namespace/name``.
    :param aborted: the share of requests, in percent, that the proxy itself answers with an error.
    :param abort: that error.
    :param notes: what else it does with a request, as retries and copies.
    :param passed_over: routes before it that need what the request does not have.
    """

    shares: Mapping[str, float]
    answer: int | None = None
    rule: str | None = None
    redirect: Redirect | None = None
    aborted: float = 0.0
    abort: str = ""
    notes: Sequence[str] = ()
    passed_over: Sequence[str] = ()


@dataclass(frozen=True)
class VirtualHost:
    """The routes of one host.

    :param catches_all: whether it is that of all hosts that the proxy does not know.
    """

    told: Dump = field(repr=False)
    catches_all: bool = False

    @property
    def rules(self) -> list[str]:
        """Return the VirtualServices that define its routes."""
        return list(dict.fromkeys(rule for route in self.told.get("routes", []) if (rule := rule_of(route))))

    def choose(self, request: Request) -> Route | None:
        """Return the first route that takes the request; None if there is none."""
        passed_over: list[str] = []
        for route in self.told.get("routes", []):
            match = route.get("match") or {}
            needs = list(_needs(match, request))
            if not needs:
                return _route(route, request, passed_over)
            if _has_path(match, request.path):  # a route of another path does not concern the request
                passed_over.append(f"not taken, as it needs {', '.join(needs)}: {_told_route(route)}")
        return None


def virtual_host(config: Dump, request: Request) -> VirtualHost | None:
    """Return the routes of a host: those of its name, or else of the longest wildcard, as Envoy does."""
    hosts = config.get("virtual_hosts", [])
    by_domain = {domain: told for told in hosts for domain in told.get("domains", [])}
    for name in (request.host, f"{request.host}:{request.port}"):
        if name in by_domain:
            return VirtualHost(by_domain[name])
    suffixes = [domain for domain in by_domain if domain[:1] == "*" and len(domain) > 1]
    for domain in sorted(suffixes, key=len, reverse=True):
        if request.host.endswith(domain[1:]):
            return VirtualHost(by_domain[domain])
    told = by_domain.get("*")
    return VirtualHost(told, told.get("name") in ("allow_any", "block_all")) if told else None


def rule_of(resource: Dump) -> str | None:
    """Return the DestinationRule or VirtualService behind a cluster or route, as ``namespace/name``."""
    istio = ((resource.get("metadata") or {}).get("filter_metadata") or {}).get("istio") or {}
    match = re.search(r"/namespaces/([^/]+)/[^/]+/([^/]+)$", str(istio.get("config", "")))
    return f"{match[1]}/{match[2]}" if match else None


def shares_of(action: Dump) -> dict[str, float]:
    """Return the Envoy clusters of a route or of a TCP listener, each with its share in percent."""
    weighted = (action.get("weighted_clusters") or {}).get("clusters", [])
    total = sum(entry.get("weight", 0) for entry in weighted)
    shares: dict[str, float] = {}
    for entry in weighted:
        if entry.get("weight") and entry.get("name"):
            shares[entry["name"]] = shares.get(entry["name"], 0.0) + 100 * entry["weight"] / total
    return shares or ({str(action["cluster"]): 100.0} if action.get("cluster") else {})


# Matching


def _needs(match: Dump, request: Request) -> Iterator[str]:
    """Yield what a route needs that the request does not have."""
    if not _has_path(match, request.path):
        yield f"path {_told_path(match)}"
    for header in match.get("headers") or []:
        if not _has_header(header, request.headers):
            yield f"header {header.get('name')}"
    for parameter in match.get("query_parameters") or []:
        if parameter.get("present_match") is not False:
            yield f"query parameter {parameter.get('name')}"
    if "grpc" in match:
        yield "gRPC"


def _has_path(match: Dump, path: str) -> bool:
    fold = str.lower if match.get("case_sensitive") is False else str
    path = fold(path)
    if "prefix" in match:
        return path.startswith(fold(match["prefix"]))
    if "path" in match:
        return bool(path == fold(match["path"]))
    if "path_separated_prefix" in match:
        prefix = fold(match["path_separated_prefix"])
        return path == prefix or path.startswith(f"{prefix}/")
    if "safe_regex" in match:
        return _fits(match["safe_regex"], path)
    return False


def _told_path(match: Dump) -> str:
    kinds = ("prefix", "path", "path_separated_prefix")
    named = next((f"{kind} {match[kind]}" for kind in kinds if kind in match), "")
    return named or f"regex {(match.get('safe_regex') or {}).get('regex')}"


def _has_header(matcher: Dump, headers: Mapping[str, str]) -> bool:
    """Return whether the request has a header. A header that is missing only fits where Envoy says so."""
    value, inverted = headers.get(str(matcher.get("name")).lower()), bool(matcher.get("invert_match"))
    if "present_match" in matcher or not _kinds(matcher):
        return ((value is not None) == bool(matcher.get("present_match", True))) != inverted
    if value is None:
        if not matcher.get("treat_missing_header_as_empty"):
            return False
        value = ""
    return fits(matcher, value) != inverted


def _kinds(matcher: Dump) -> list[str]:
    return [kind for kind in matcher if kind.endswith("_match") and kind not in ("invert_match",)]


def fits(matcher: Mapping[str, Any], value: str) -> bool:
    """Return whether a value fits a matcher of a header, or one of its text."""
    told = matcher.get("string_match", matcher)

    def fold(text: Any) -> str:
        return str(text).lower() if told.get("ignore_case") else str(text)

    value = fold(value)
    checks: dict[str, Callable[[Any], bool]] = {
        "exact": lambda wanted: value == fold(wanted),
        "prefix": lambda wanted: value.startswith(fold(wanted)),
        "suffix": lambda wanted: value.endswith(fold(wanted)),
        "contains": lambda wanted: fold(wanted) in value,
        "safe_regex": lambda wanted: _fits(wanted, value),
    }
    # Older forms of headers have the kind with an ending, as exact_match.
    return any(
        check(told[key]) for kind, check in checks.items() for key in (kind, f"{kind}_match") if key in told
    )


def _fits(matcher: Dump, value: str) -> bool:
    """Return whether a text fits a regular expression of RE2. One that Python does not know fits nothing."""
    try:
        return re.fullmatch(str(matcher.get("regex", "")), value[:200]) is not None
    except (re.error, RecursionError):
        return False


# What a route does


def _route(told: Dump, request: Request, passed_over: Sequence[str]) -> Route:
    action = told.get("route") or {}
    fault = (told.get("typed_per_filter_config") or {}).get(_FAULT) or {}
    aborted, abort = _abort(fault.get("abort") or {})
    direct = told.get("direct_response") or {}
    redirect = _redirect(told["redirect"], request) if "redirect" in told else None
    return Route(
        shares_of(action),
        int(direct.get("status", 0)) if direct else None,
        rule_of(told),
        redirect,
        aborted,
        abort,
        tuple(_notes(action, fault)),
        tuple(passed_over),
    )


def _abort(abort: Dump) -> tuple[float, str]:
    if "grpc_status" in abort:
        return _percent(abort.get("percentage")), f"gRPC status {abort['grpc_status']}"
    return _percent(abort.get("percentage")), str(abort.get("http_status", 503))


def _percent(told: Dump | None) -> float:
    told = told or {}
    return float(100 * told.get("numerator", 0) / _DENOMINATORS.get(told.get("denominator", "HUNDRED"), 100))


def _notes(action: Dump, fault: Dump) -> Iterator[str]:
    delay = fault.get("delay") or {}
    if percent := _percent(delay.get("percentage")):
        yield f"{percent:g} % of the requests wait {delay.get('fixed_delay')} (fault.delay)"
    if (timeout := action.get("timeout", "0s")) != "0s":
        yield f"an answer must come within {timeout}"
    retries = action.get("retry_policy") or {}
    if number := retries.get("num_retries", 1 if retries else 0):
        within = f", each within {retries['per_try_timeout']}" if retries.get("per_try_timeout") else ""
        yield f"up to {number} retries on {retries.get('retry_on')}{within}"
    for mirror in action.get("request_mirror_policies") or []:
        fraction = (mirror.get("runtime_fraction") or {}).get("default_value")
        percent = _percent(fraction) if fraction else 100
        yield f"a copy of {percent:g} % goes to {mirror.get('cluster')}, whose answers do not matter"
    if rewritten := action.get("prefix_rewrite") or action.get("host_rewrite_literal"):
        yield f"it is rewritten to {rewritten}"


def _redirect(told: Dump, request: Request) -> Redirect:
    scheme = "https" if told.get("https_redirect") else str(told.get("scheme_redirect") or "http")
    host, _colon, port = str(told.get("host_redirect") or request.host).partition(":")
    usual = 443 if scheme == "https" else 80
    same = not told.get("host_redirect") and scheme == "http"
    number = told.get("port_redirect") or (int(port) if port.isdigit() else request.port if same else usual)
    path = str(told.get("path_redirect") or told.get("prefix_rewrite") or request.path)
    status = _REDIRECTS.get(str(told.get("response_code", "MOVED_PERMANENTLY")), 301)
    return Redirect(status, scheme, Request(host, int(number), path))


def _told_route(told: dict[str, Any]) -> str:
    if "redirect" in told:
        return "a redirect"
    if "direct_response" in told:
        return f"an answer with {told['direct_response'].get('status')}"
    shares = shares_of(told.get("route") or {})
    return "to " + (", ".join(f"{name} ({share:.0f} %)" for name, share in shares.items()) or "nowhere")
