# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walk the way of one request, from a sidecar to the pod that should answer (private to the collection).

This module only judges. Each step looks at what the proxy on the way was really configured with, and reports
whether the way stops there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .._base.certificates import time_text
from .._istio.names import ISTIO_NAMESPACE
from .._verify import findings
from .._verify.checks_mesh import told_roots
from .._verify.checks_proxies import network_policies
from .._verify.state import MeshState, name_of
from .arriving import cluster, endpoints
from .commands import kubectl, playbook, proxy_log, restart, show
from .leaving import find_listener, find_route, no_istiod
from .legs import Leg, legs_of, place
from .peer import gateway, peer
from .routes import rule_of
from .way import FOLLOWS, OK, STOP, UNKNOWN, UNTOLD, Step, Way

STEPS = (
    "certificates",
    "configuration",
    "listener",
    "route",
    "cluster",
    "endpoints",
    "gateway",
    "peer",
    "request",
)
"""The steps, in the order in which a request passes them. The last one is a real request."""


_TAKES_WITHIN = 5.0
"""Seconds within which a proxy accepts or rejects what istiod sends."""
_MOST_SKEW = 60.0
"""Seconds by which the clock of a cluster may differ."""
_ALL = ("virtualOutbound", "virtualInbound")
"""Listeners that every request passes."""


# Judging


def walk(way: Way) -> list[Step]:
    """Return all steps of the way, in order. Steps behind a stop have the state unknown."""
    steps: list[Step] = []
    for step in _steps(way):
        steps.append(step)
        if step.state == STOP:
            break
    done = [step.name for step in steps]
    why = "not looked at" if any(step.state == STOP for step in steps) else "not needed"
    steps += [Step(name, UNKNOWN, why) for name in STEPS[:-1] if name not in done]
    return [*steps, request(way, steps)]


def _steps(way: Way) -> Iterator[Step]:
    yield certificates(way)
    yield configuration(way)
    listener, step = find_listener(way)
    yield step
    if listener is None:
        return
    targets, step = find_route(way, listener)
    yield step
    if not targets:
        return
    legs = legs_of(way, targets)
    for check in (cluster, endpoints, gateway, peer):
        yield _of_all(way, legs, check)


def _of_all(way: Way, legs: Sequence[Leg], check: Callable[[Way, Leg], Step]) -> Step:
    """Return the step of several parts of the requests: the first one with a fault, or else all together."""
    found = [(leg, check(way, leg)) for leg in legs]
    if len(found) == 1:
        return found[0][1]
    for state in (STOP, UNTOLD, FOLLOWS):
        for leg, step in found:
            if step.state == state:
                return Step(
                    step.name,
                    state,
                    step.told,
                    (f"this concerns: {leg.name}", *step.evidence),
                    step.cause,
                    step.next_step,
                    leg.target.share,
                )
    first = found[0][1]
    if len({step.told for _leg, step in found}) == 1:
        return Step(
            first.name, OK, first.told, tuple(dict.fromkeys(line for _leg, s in found for line in s.evidence))
        )
    told = tuple(f"{leg.name}: {'; '.join((step.told, *step.evidence))}" for leg, step in found)
    return Step(first.name, OK, f"well for each of {len(found)} parts of the requests", told)


def certificates(way: Way) -> Step:
    """Check that the sidecar has a valid certificate, and trusts the destination's root."""
    name, member = STEPS[0], way.source.member
    chain, trusted = way.proxy.certificate_chain(), way.proxy.trusted()
    if not chain:
        return Step(name, STOP, "the sidecar has no certificate", (), *_why_no_istiod(way))
    begins, ends = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
    if not begins <= way.now < ends:
        evidence = (f"valid from {time_text(begins)} to {time_text(ends)}", f"now it is {time_text(way.now)}")
        told = "the sidecar's certificate is not valid now"
        skew = way.source.clock_skew or 0.0
        if abs(skew) > _MOST_SKEW:
            cause = f"the clock of {way.source.name} differs from this machine's by {skew:.0f} seconds"
            return Step(name, STOP, told, evidence, cause, kubectl(member, "get", "nodes", "-o", "wide"))
        return Step(name, STOP, told, evidence, *_why_no_istiod(way))
    theirs = way.destination.running_roots
    if trusted and theirs and not set(trusted) & set(theirs):
        evidence = (
            f"it trusts {told_roots(trusted)}",
            f"{way.destination.name} uses {told_roots(theirs)}",
        )
        told = f"the sidecar does not trust the root of {way.destination.name}"
        if set(way.source.running_roots) & set(theirs):
            cause = "the pod runs since before the root was changed"
            return Step(name, STOP, told, evidence, cause, restart(member, [way.caller]))
        why = "it shows how to bring the roots together"
        cause = f"{way.source.name} and {way.destination.name} have different roots"
        return Step(name, STOP, told, evidence, cause, playbook(member, "certificates", why=why))
    hours = int((ends - way.now).total_seconds() // 3600)
    return Step(name, OK, f"valid for {hours} more hours; the root is the one of {way.destination.name}")


def _why_no_istiod(way: Way) -> tuple[str, str]:
    """Return the cause and the next command if a sidecar gets nothing from istiod."""
    source = way.source
    if cause := no_istiod(source):
        return cause, playbook(source.member, "istio", source.member)
    mesh = MeshState({source.name: source}, [], way.now, full=False)
    for kind, evidence in network_policies(source, mesh):
        blocked = [line for line in evidence if line.startswith(f"{way.pod} ")]
        if kind == findings.ISTIOD_BLOCKED and blocked:
            return blocked[0], kubectl(source.member, "get", "networkpolicies", "-A", "-o", "yaml")
    return "it does not reach istiod, or istiod does not sign for it", proxy_log(source.member, way.pod)


def configuration(way: Way) -> Step:
    """Check that istiod knows the sidecar, and that the sidecar accepted what istiod sent."""
    name = STEPS[1]
    silent = [f"{istiod}: {why}" for istiod, why in way.untold.items() if istiod not in way.states]
    if way.known_to and not any(way.known_to.values()) and not silent:
        return Step(
            name,
            STOP,
            "no istiod knows the sidecar",
            tuple(f"{istiod} has no connection from {way.pod}" for istiod in way.known_to),
            f"the sidecar lost istiod, and works with an old configuration: {_why_no_istiod(way)[0]}",
            proxy_log(way.source.member, way.pod),
        )
    rejected = way.proxy.rejected()
    ours = {resource: why for resource, why in rejected.items() if _is_ours(way, resource)}
    if ours:
        told = tuple(f"{resource}: {why}" for resource, why in ours.items())
        return Step(name, STOP, "the sidecar rejected what it was sent", told, *_who_made(way, tuple(ours)))
    refused = [reason for told in way.known_to.values() for reason in not_taken(told, way.now)]
    about_others = ["outbound|" in reason and way.service.host not in reason for reason in refused]
    if not all(about_others):
        told_so = "the sidecar did not take what it was sent, and works with an old configuration"
        return Step(name, STOP, told_so, tuple(refused), *_who_made(way, refused))
    notes = [f"rejected, but not of this service: {what}" for what in (*rejected, *refused)]
    if silent:
        return Step(
            name,
            UNTOLD,
            "whether the sidecar has what istiod sent could not be told",
            (*silent, *notes),
            next_step=kubectl(way.source.member, "-n", ISTIO_NAMESPACE, "get", "pods", "-l", "app=istiod"),
        )
    if not way.known_to:
        told_so = "no istiod was there to tell what the sidecar should have"
        return Step(name, UNTOLD, told_so, tuple(notes), *_why_no_istiod(way))
    return Step(name, OK, "istiod knows the sidecar, and nothing of this service was rejected", tuple(notes))


def _is_ours(way: Way, resource: str) -> bool:
    of_port = re.search(rf"(^|_|:){way.service.port}$", resource) is not None
    return way.service.host in resource or resource in _ALL or of_port


def _who_made(way: Way, refused: Sequence[str]) -> tuple[str, str]:
    """Return the cause and the next command if a sidecar rejects something: what may have made it."""
    entries = (*way.proxy.listeners, *way.proxy.routes, *way.proxy.clusters)
    failed = [(entry.get("error_state") or {}).get("failed_configuration") or {} for entry in entries]
    inner = [each.get(kind, each) for each in failed for kind in ("cluster", "listener", "route_config")]
    rules = [rule for each in inner if isinstance(each, dict) and (rule := rule_of(each))]
    namespaces = (way.pod_namespace, ISTIO_NAMESPACE)
    filters = [
        name_of(one)
        for one in way.objects.get("EnvoyFilter", [])
        if one["metadata"]["namespace"] in namespaces
    ]
    member = way.source.member
    if filters:
        cause = f"EnvoyFilter {', '.join(filters[:5])} makes what Envoy does not take"
        return cause, show(member, "envoyfilter", filters[0])
    rule = next((f"{one}" for one in rules if any(way.service.host in line for line in refused)), None)
    cause = f"{rule or 'a DestinationRule, VirtualService or ServiceEntry'} makes what Envoy does not take"
    kinds = "destinationrules,virtualservices,serviceentries"
    return cause, kubectl(member, "get", kinds, "-A", "-o", "yaml")


def not_taken(told: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """Report what a proxy should have accepted by now but has not, and why, according to one istiod."""
    for kind, state in (told.get("resources") or {}).items():
        if not state.get("sent") or state["sent"] == state.get("acked"):
            continue
        # The time has nine digits after the second, and Python accepts only six.
        sent = datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*Z$", r"\1+00:00", state["sentTime"]))
        reason = " ".join(str(state.get("lastError", "")).split())
        if reason or (now - sent).total_seconds() > _TAKES_WITHIN:
            yield f"{kind.rpartition('.')[2]}: {reason or f'sent at {time_text(sent)}, and not taken'}"


# The real request


def request(way: Way, steps: Sequence[Step]) -> Step:
    """Compare the request that was really sent with what the steps say."""
    name, sent = STEPS[-1], way.sent
    if not sent.made:
        return Step(name, UNKNOWN, f"none was sent: {sent.why_not}")
    told = f"GET {way.service.request.url}: " + (f"status {sent.status}" if sent.status else "no answer")
    evidence = (sent.text,) if sent.text else ()
    if stop := next((step for step in steps if step.state == STOP), None):
        return _beside(way, stop, told, evidence)
    if sent.arrived or any(f"answers with {sent.status}" in step.told for step in steps):
        return Step(name, OK, told, evidence)
    log = proxy_log(way.source.member, way.pod)
    if sent.is_unclear:
        cause = "the service or a proxy may have answered so: the answer does not tell which"
        return Step(name, UNTOLD, told, evidence, cause, log)
    who = "the service, or the proxy before it, answered so" if sent.upstream else "a proxy answered so"
    return Step(
        name,
        STOP,
        f"{told}, which disagrees with the steps above",
        evidence,
        f"{who if sent.status else 'nobody answered'}; no step found why",
        log,
    )


def _beside(way: Way, stop: Step, told: str, evidence: tuple[str, ...]) -> Step:
    """Return what the request says beside a step that stops the way."""
    name, sent = STEPS[-1], way.sent
    if not sent.arrived or sent.is_of_sidecar:
        return Step(name, FOLLOWS, f"{told}, as the step {stop.name} says", evidence)
    if stop.share < 100:
        return Step(name, OK, f"{told}, as one of the requests that the step {stop.name} does not concern")
    if others := _others(way):
        return Step(name, OK, f"{told}, from {', '.join(others)} and not from {way.destination.name}")
    return Step(name, OK, f"{told}, which disagrees: the step {stop.name} says that the way stops", evidence)


def _others(way: Way) -> list[str]:
    """Return the other clusters that answer requests for the service."""
    prefix, suffix = f"outbound|{way.service.port}|", f"|{way.service.host}"
    names = {
        place(way, endpoint)
        for entry in way.proxy.clusters
        if (told := str((entry.get("cluster") or {}).get("name"))).startswith(prefix)
        and told.endswith(suffix)
        for endpoint in way.proxy.endpoints_of(told)
        if not endpoint.problem
    }
    return sorted(names - {way.destination.name, ""})


def agrees(way: Way, steps: Sequence[Step]) -> bool | None:
    """Return whether the request that was really sent agrees with the steps; None if that is not known."""
    if not way.sent.made or steps[-1].state == UNTOLD:
        return None
    return "disagrees" not in steps[-1].told
