# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the rules that istiod makes of AuthorizationPolicies, as Envoy does (private to the collection).

Every answer may also be None: it cannot be told from what is known of the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .._istio.envoy import Dump
from .routes import Request, fits

_HTTP_RULES, _TCP_RULES = "envoy.filters.http.rbac", "envoy.filters.network.rbac"
_HTTP = "HttpConnectionManager"
_OF_TOKENS = ("istio_authn", "envoy.filters.http.jwt_authn")
_PRINCIPALS = ("io.istio.peer_principal", "io.istio.peer_uri")


@dataclass(frozen=True)
class Caller:
    """Who sends a request, as the proxy that judges it sees it.

    :param identity: the identity in its certificate; empty if the proxy does not read it.
    :param sni: the server name of its connection.
    """

    request: Request
    port: int
    identity: str = ""
    sni: str = ""


@dataclass(frozen=True)
class Refusal:
    """Rules that refuse a request.

    :param policies: AuthorizationPolicies that refuse it, as ``namespace/name``; none if no policy allows it.
    :param certain: whether that could be told.
    """

    policies: tuple[str, ...]
    certain: bool
    allowing: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.policies:
            return f"AuthorizationPolicy {', '.join(self.policies)} denies it"
        known = f" (those that are there: {', '.join(self.allowing)})" if self.allowing else ""
        return f"no AuthorizationPolicy allows it, and at least one allows something{known}"


def refusal(listeners: Iterable[Dump], listens: int, caller: Caller) -> Refusal | None:
    """Return why a proxy refuses a request that comes in on a port; None if it takes it.

    :param listens: the port of the listener, which sidecars have for all ports of their workload.
    """
    unsure = None
    for rules in _rules(_chains(listeners, listens, caller)):
        found = _refused(rules, caller)
        if found and found.certain:
            return found
        unsure = unsure or found
    return unsure


def _chains(listeners: Iterable[Dump], listens: int, caller: Caller) -> list[Dump]:
    """Return the filter chain of the connection: that of its port or name, or else the one for all others."""
    chains = [
        chain
        for entry in listeners
        if (told := (entry.get("active_state") or {}).get("listener"))
        and ((told.get("address") or {}).get("socket_address") or {}).get("port_value") == listens
        for chain in told.get("filter_chains", [])
    ]
    matches = [(chain.get("filter_chain_match") or {}, chain) for chain in chains]
    named = [chain for match, chain in matches if caller.sni in match.get("server_names", [])]
    of_port = [chain for match, chain in matches if match.get("destination_port") == caller.port]
    # With permissive mutual TLS a port has more than one chain, whose rules are the same.
    return (named or of_port)[:1]


def _rules(chains: Iterable[Dump]) -> Iterator[Dump]:
    """Yield the rules in force. A filter without any only tries out what may come."""
    for chain in chains:
        for entry in chain.get("filters", []):
            config = entry.get("typed_config") or {}
            if entry.get("name") == _TCP_RULES and "rules" in config:
                yield config["rules"]
            if str(config.get("@type", "")).endswith(_HTTP):
                for inner in config.get("http_filters", []):
                    rbac = inner.get("typed_config") or {}
                    if inner.get("name") == _HTTP_RULES and "rules" in rbac:
                        yield rbac["rules"]


def _refused(rules: Dump, caller: Caller) -> Refusal | None:
    action = rules.get("action", "ALLOW")
    if action not in ("ALLOW", "DENY"):
        return None
    judged = {name: _policy(policy, caller) for name, policy in (rules.get("policies") or {}).items()}
    named = tuple(dict.fromkeys(map(_policy_name, judged)))
    if action == "DENY":
        denying = [name for name, verdict in judged.items() if verdict is not False]
        if not denying:
            return None
        sure = [name for name in denying if judged[name]]
        return Refusal(tuple(dict.fromkeys(map(_policy_name, sure or denying))), bool(sure))
    if any(judged.values()):
        return None
    return Refusal((), None not in judged.values(), named)


def _policy_name(name: str) -> str:
    match = re.match(r"ns\[(.+?)\]-policy\[(.+?)\]", name)
    return f"{match[1]}/{match[2]}" if match else name


def _policy(policy: Dump, caller: Caller) -> bool | None:
    permitted = _any(_permission(told, caller) for told in policy.get("permissions", []))
    known = _any(_principal(told, caller) for told in policy.get("principals", []))
    return _all((permitted, known))


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    return True if True in found else None if None in found else False


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _not(verdict: bool | None) -> bool | None:
    return None if verdict is None else not verdict


def _combined(told: Dump, kind: str, judge: Callable[[Dump], bool | None]) -> tuple[bool, bool | None]:
    """Return whether a rule combines others, and what comes of it.

    :param kind: how Envoy names a rule: ``rules`` or ``ids``.
    """
    if "any" in told:
        return True, bool(told["any"])
    if f"and_{kind}" in told:
        return True, _all(judge(inner) for inner in told[f"and_{kind}"].get(kind, []))
    if f"or_{kind}" in told:
        return True, _any(judge(inner) for inner in told[f"or_{kind}"].get(kind, []))
    if f"not_{kind[:-1]}" in told:
        return True, _not(judge(told[f"not_{kind[:-1]}"]))
    return False, None


def _permission(told: Dump, caller: Caller) -> bool | None:
    combines, verdict = _combined(told, "rules", lambda inner: _permission(inner, caller))
    if combines:
        return verdict
    if "destination_port" in told:
        return bool(told["destination_port"] == caller.port)
    if "requested_server_name" in told:
        return fits(told["requested_server_name"], caller.sni)
    if "url_path" in told:
        return fits((told["url_path"] or {}).get("path") or {}, caller.request.path)
    return _header(told["header"], caller) if "header" in told else None


def _principal(told: Dump, caller: Caller) -> bool | None:
    combines, verdict = _combined(told, "ids", lambda inner: _principal(inner, caller))
    if combines:
        return verdict
    if "authenticated" in told:
        wanted = (told["authenticated"] or {}).get("principal_name")
        return fits(wanted, caller.identity) if wanted else bool(caller.identity)
    if "filter_state" in told:
        state: Mapping[str, Any] = told["filter_state"] or {}
        return fits(state, caller.identity) if state.get("key") in _PRINCIPALS else None
    if "metadata" in told:
        # Claims of a token, which the request does not have.
        return False if (told["metadata"] or {}).get("filter") in _OF_TOKENS else None
    return _header(told["header"], caller) if "header" in told else None


def _header(matcher: Dump, caller: Caller) -> bool | None:
    headers = {**caller.request.headers, ":authority": f"{caller.request.host}:{caller.request.port}"}
    name = str(matcher.get("name", "")).lower()
    value = headers.get(name)
    if "present_match" in matcher:
        return (value is not None) == bool(matcher["present_match"])
    if value is None:
        return bool(matcher.get("invert_match") and matcher.get("treat_missing_header_as_empty"))
    return fits(matcher, value) != bool(matcher.get("invert_match"))
