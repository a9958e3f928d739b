# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walk the way of one request, from a sidecar to the pod that should answer (private to the collection).

This module only reads. Each step asks what the proxy on the way was really configured with, and reports
whether the way stops there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .._base.certificates import time_text
from .._istio.names import GATEWAY_PORT, ISTIO_NAMESPACE, NETWORK_LABEL
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .._kubernetes.readiness import pod_unmet
from .._verify import findings
from .._verify.checks_cluster import gateways
from .._verify.checks_mesh import told_roots
from .._verify.checks_proxies import network_policies
from .._verify.findings import Finding
from .._verify.state import (
    ClusterState,
    MeshState,
    is_ready,
    is_running,
    is_selected,
    name_of,
    sidecar_of,
)
from .envoy import Endpoint, Listener, is_mutual, rule_of
from .way import FOLLOWS, OK, STOP, UNKNOWN, Step, Target, Way, service_in

STEPS = (
    "certificates",
    "configuration",
    "listener",
    "route",
    "cluster",
    "endpoints",
    "gateway",
    "peer",
)
"""The steps, in the order in which a request passes them."""


_TAKES_WITHIN = 5.0
"""Seconds within which a proxy accepts or rejects what istiod sends."""
_ABOUT_OTHERS = (findings.GATEWAY_HOSTS_RESTRICTED,)
"""Findings about the gateway that only concern the test workload's name."""


# Judging


def walk(way: Way) -> list[Step]:
    """Return all steps of the way, in order. Steps behind a stop have the state unknown."""
    steps: list[Step] = []
    for step in _steps(way):
        steps.append(step)
        if step.state == STOP:
            break
    done = [step.name for step in steps]
    return steps + [Step(name, UNKNOWN, "not looked at") for name in STEPS if name not in done]


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
    for check in (cluster, endpoints, gateway, peer):
        # Of several targets, report the first one that has a fault.
        found = [check(way, target) for target in targets]
        yield next((step for step in found if step.state == STOP), found[0])


def certificates(way: Way) -> Step:
    """Check that the sidecar has a valid certificate, and trusts the destination's root."""
    name = STEPS[0]
    chain, trusted = way.proxy.certificate_chain(), way.proxy.trusted()
    logs = f"kubectl -n {way.pod_namespace} logs {way.pod_name} -c istio-proxy --tail 50"
    if not chain:
        return Step(
            name,
            STOP,
            "the sidecar has no certificate",
            cause="it does not reach istiod, or istiod does not sign for it",
            next_step=f"{logs}, in {way.source.name}",
        )
    begins, ends = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
    if not begins <= way.now < ends:
        return Step(
            name,
            STOP,
            "the sidecar's certificate is not valid now",
            (f"valid from {time_text(begins)} to {time_text(ends)}", f"now it is {time_text(way.now)}"),
            "the sidecar did not get to istiod to renew it, or clocks differ",
            f"{logs}, in {way.source.name}",
        )
    theirs = way.destination.running_roots
    if trusted and theirs and not set(trusted) & set(theirs):
        return Step(
            name,
            STOP,
            f"the sidecar does not trust the root of {way.destination.name}",
            (f"it trusts {told_roots(trusted)}", f"{way.destination.name} uses {told_roots(theirs)}"),
            "the two clusters have different roots, or the pod runs since before the root was changed",
            f"{way.source.member.playbook}.certificates; it shows how to bring the roots together",
        )
    hours = int((ends - way.now).total_seconds() // 3600)
    return Step(name, OK, f"valid for {hours} more hours; the root is the one of {way.destination.name}")


def configuration(way: Way) -> Step:
    """Check that istiod knows the sidecar, and that the sidecar accepted what istiod sent."""
    name = STEPS[1]
    if way.known_to and not any(way.known_to.values()):
        return Step(
            name,
            STOP,
            "no istiod knows the sidecar",
            tuple(f"{istiod} has no connection from {way.pod}" for istiod in way.known_to),
            "the sidecar lost istiod, and works with an old configuration",
            f"kubectl -n {way.pod_namespace} logs {way.pod_name} -c istio-proxy --tail 50, "
            f"in {way.source.name}",
        )
    rejected = way.proxy.rejected()
    ours = {
        resource: why
        for resource, why in rejected.items()
        if way.service.host in resource or re.search(rf"(^|_){way.service.port}$", resource)
    }
    if ours:
        return Step(
            name,
            STOP,
            "the sidecar rejected what it was sent",
            tuple(f"{resource}: {why}" for resource, why in ours.items()),
            "an EnvoyFilter, DestinationRule or VirtualService makes what Envoy does not take",
            f"istioctl analyze -n {way.service.namespace}; kubectl get envoyfilter -A, in {way.source.name}",
        )
    refused = [reason for told in way.known_to.values() for reason in not_taken(told, way.now)]
    about_others = ["outbound|" in reason and way.service.host not in reason for reason in refused]
    if not all(about_others):
        return Step(
            name,
            STOP,
            "the sidecar did not take what it was sent, and works with an old configuration",
            tuple(refused),
            "an EnvoyFilter, DestinationRule or VirtualService makes what Envoy does not take",
            f"istioctl analyze -n {way.service.namespace}; kubectl get envoyfilters -A, in {way.source.name}",
        )
    notes = [f"rejected, but not of this service: {what}" for what in (*rejected, *refused)]
    return Step(name, OK, "istiod knows the sidecar, and nothing of this service was rejected", tuple(notes))


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


def find_listener(way: Way) -> tuple[Listener | None, Step]:
    """Find the listener on which the sidecar takes the request from its workload."""
    name, service = STEPS[2], way.service
    addresses = [
        address
        for state in (way.source, way.destination)
        if (found := service_in(state, service.namespace, service.name))
        for address in found["spec"].get("clusterIPs") or [found["spec"].get("clusterIP", "")]
    ]
    listener = way.proxy.listener(addresses, service.port)
    if listener is None:
        return None, Step(
            name,
            STOP,
            f"the sidecar has no listener for port {service.port} of {', '.join(addresses)}",
            tuple(_sync_evidence(way)),
            *_why_unknown(way),
        )
    if listener.routes is None and not listener.clusters:
        return None, Step(name, STOP, f"{listener.name} leads nowhere", cause="an EnvoyFilter changed it")
    return listener, Step(name, OK, f"{listener.name}, {'HTTP' if listener.routes else 'TCP'}")


def find_route(way: Way, listener: Listener) -> tuple[list[Target], Step]:
    """Find where the request goes: to the service, unless a VirtualService says otherwise."""
    name, host = STEPS[3], way.service.host
    shares = dict.fromkeys(listener.clusters, 100.0)
    rule = None
    if listener.routes is not None:
        route = way.proxy.route(listener.routes, host)
        if route is None:
            return [], Step(
                name,
                STOP,
                f"no route for {host}",
                (f"in routes {listener.routes}, for GET / without further headers",),
                "a VirtualService for that host has no route that matches, or the service is hidden from "
                f"{way.pod_namespace}",
                f"kubectl get virtualservices -A, in {way.source.name}",
            )
        shares, rule = route.clusters, route.rule
        if route.answer is not None:
            return [], Step(
                name,
                STOP,
                f"the sidecar itself answers with {route.answer}",
                (f"VirtualService {rule}",) if rule else (),
                "a VirtualService redirects or answers, or its destination does not exist",
                _show("virtualservice", rule, way.source.name),
            )
    by_rule = (f"by VirtualService {rule}",) if rule else ()
    targets = []
    for share_of, share in shares.items():
        target = Target.of(share_of)
        told = f"{share:.0f} % go to {share_of or 'nowhere'}"
        if target is None or way.proxy.cluster(share_of) is None:
            return [], Step(
                name,
                STOP,
                "a route leads to what the sidecar does not have",
                (told, *by_rule),
                "a VirtualService names a host, port or subset that does not exist; a subset needs a "
                "DestinationRule",
                _show("virtualservice", rule, way.source.name),
            )
        targets.append(target)
    others = [target.host for target in targets if target.host != host]
    told = f"to {', '.join(target.name for target in targets)}"
    return targets, Step(name, OK, told, by_rule if rule or others else ())


def cluster(way: Way, target: Target) -> Step:
    """Check that the sidecar sends with mutual TLS, which gateways between networks need."""
    name = STEPS[4]
    config = way.proxy.cluster(target.name) or {}
    if is_mutual(config):
        return Step(name, OK, "Istio's mutual TLS")
    strict = [
        name_of(policy)
        for policy in _policies(way.destination, target)
        if ((policy.get("spec") or {}).get("mtls") or {}).get("mode") == "STRICT"
    ]
    if not way.crosses and not strict:
        return Step(name, OK, "without Istio's mutual TLS, which stays inside the cluster")
    rule = rule_of(config)
    return Step(
        name,
        STOP,
        "the sidecar does not send with Istio's mutual TLS",
        tuple([f"DestinationRule {rule}"] if rule else []) + tuple(f"STRICT by {one}" for one in strict),
        "a DestinationRule sets another TLS mode than ISTIO_MUTUAL",
        _show("destinationrule", rule, way.source.name),
    )


def endpoints(way: Way, target: Target) -> Step:
    """Check that the sidecar knows endpoints of the destination, and uses them."""
    name = STEPS[5]
    known = way.proxy.endpoints_of(target.name)
    addresses = {f"{address}:{GATEWAY_PORT}" for address in way.destination.gateway_addresses}
    there = [one for one in known if one.cluster == way.destination.name or one.address in addresses]
    if not there:
        return _no_endpoints(way, target, known)
    pods = [one.address for one in there if not one.address.endswith(f":{GATEWAY_PORT}")]
    if way.crosses and pods:
        return Step(
            name,
            STOP,
            f"the sidecar would send to pods of {way.destination.name}, past its gateway",
            (f"endpoints: {', '.join(pods)}", f"the gateway: {', '.join(sorted(addresses)) or 'none'}"),
            f"istiod of {way.source.name} takes both clusters for one network: a label "
            f"{NETWORK_LABEL} is missing or the same",
            f"kubectl get namespace {ISTIO_NAMESPACE} -L {NETWORK_LABEL}, in {way.destination.name}",
        )
    usable = [one for one in there if not one.problem]
    told = ", ".join(one.address for one in there)
    if usable:
        return Step(name, OK, told)
    # The steps behind the endpoints may explain why.
    behind = next((step for step in (gateway(way, target), peer(way, target)) if step.state == STOP), None)
    evidence = tuple(f"{one.address}: {one.problem}" for one in there)
    if behind:
        return Step(
            name, FOLLOWS, f"{told}, of which none is usable, which follows from what is below", evidence
        )
    return Step(
        name,
        STOP,
        "the sidecar uses none of the endpoints",
        evidence,
        "a firewall or security group between the clusters, or errors of the service itself",
        f"try the connection from a node of {way.source.name}: "
        f"openssl s_client -connect {there[0].address} -servername {target.sni} -alpn istio",
    )


def _no_endpoints(way: Way, target: Target, known: Sequence[Endpoint]) -> Step:
    name = STEPS[5]
    others = sorted({one.cluster or one.address for one in known})
    told = f"the sidecar knows no endpoint in {way.destination.name}"
    evidence = [f"it knows those of {', '.join(others)}"] if others else []
    # istiod sends no endpoints if no pod could answer, or no gateway would let the request in.
    reasons = [peer(way, target)]
    if way.crosses and not way.destination.gateway_addresses:
        reasons.insert(0, gateway(way, target))
    if any(step.state == STOP for step in reasons):
        return Step(name, FOLLOWS, f"{told}, which follows from what is below", tuple(evidence))
    return Step(
        name,
        STOP,
        told,
        tuple(evidence + _sync_evidence(way)),
        f"istiod of {way.source.name} has not read {way.destination.name}, or does not know its gateway"
        + (f", or no pod has the labels of subset {target.subset}" if target.subset else ""),
        f"{way.source.member.playbook}.status; it looks at remote secrets and labels",
    )


def gateway(way: Way, target: Target) -> Step:
    """Check that the destination's gateway lets the request in."""
    name = STEPS[6]
    if not way.crosses:
        return Step(name, OK, "not needed inside one network")
    mesh = MeshState({way.destination.name: way.destination}, [], way.now, full=False)
    for kind, evidence in (*gateways(way.destination, mesh), *network_policies(way.destination, mesh)):
        if kind.breaks_in and kind not in _ABOUT_OTHERS:
            return _fault(name, way, kind, evidence)
    passed_on = way.gateway.server_names(GATEWAY_PORT) if way.gateway else set()
    if target.sni not in passed_on:
        if rejected := way.gateway.rejected() if way.gateway else {}:
            evidence = [f"{resource}: {why}" for resource, why in rejected.items()]
            return _fault(name, way, findings.GATEWAY_CONFIG_REJECTED, evidence)
        return Step(
            name,
            STOP,
            f"the gateway of {way.destination.name} does not pass the request on",
            (f"its listener {GATEWAY_PORT} has {len(passed_on)} names, but not {target.sni}",),
            f"{way.destination.name} does not have the Service, its Gateway exposes other hosts only, or a "
            "subset is defined by a DestinationRule of the other cluster alone",
            f"kubectl -n {ISTIO_NAMESPACE} get gateways.networking.istio.io -o yaml and "
            f"kubectl -n {target.service[0]} get service,destinationrule, in {way.destination.name}",
        )
    return Step(name, OK, f"{', '.join(way.destination.gateway_addresses)} passes it on by its name")


def _fault(name: str, way: Way, kind: findings.Kind, evidence: Sequence[str]) -> Step:
    """Return the step at which a fault of the destination stops the request."""
    members = {way.destination.name: way.destination.member}
    next_step = Finding(kind, cluster=way.destination.name).next_step(members)
    return Step(name, STOP, kind.message, tuple(evidence), kind.cause, next_step)


def peer(way: Way, target: Target) -> Step:
    """Check that the destination has a pod that can answer."""
    name, state = STEPS[7], way.destination
    namespace, service_name = target.service
    service = service_in(state, namespace, service_name)
    if service is None:
        return Step(
            name,
            STOP,
            f"{state.name} has no Service {namespace}/{service_name}",
            cause="it was deleted there, or another cluster was meant",
            next_step=f"kubectl -n {namespace} get services, in {state.name}",
        )
    selector = service["spec"].get("selector") or {}
    pods = [
        pod
        for pod in state.pods
        if pod["metadata"]["namespace"] == namespace
        and is_selected(pod, selector)
        and "deletionTimestamp" not in pod["metadata"]
    ]
    wanted = ",".join(f"{key}={value}" for key, value in selector.items())
    if not pods:
        return Step(
            name,
            STOP,
            f"no pod of {state.name} belongs to the Service",
            (f"there is no pod with {wanted or 'its selector, which is empty'}",),
            "its Deployment is scaled to 0, or the Service's selector names other pods",
            f"kubectl -n {namespace} get deployments,pods -l {wanted}, in {state.name}",
        )
    ready = [pod for pod in pods if is_ready(pod)]
    if not ready:
        return Step(
            name,
            STOP,
            f"no pod of the Service is ready in {state.name}",
            tuple(f"{name_of(pod)}: {pod_unmet(pod)}" for pod in pods[:5]),
            "it does not start, or its readiness probe fails",
            f"kubectl -n {namespace} describe pods -l {wanted}, in {state.name}",
        )
    proxied = [pod for pod in ready if sidecar_of(pod) and is_running(pod)]
    if way.crosses and not proxied:
        return Step(
            name,
            STOP,
            f"the pods of the Service have no sidecar in {state.name}",
            tuple(map(name_of, ready[:5])),
            "they were started before injection was switched on, or switch it off; gateways between networks "
            "pass on mutual TLS only",
            f"kubectl label namespace {namespace} istio-injection=enabled; kubectl -n {namespace} rollout "
            f"restart deployment, in {state.name}",
        )
    disabled = [
        name_of(policy)
        for policy in _policies(state, target)
        if ((policy.get("spec") or {}).get("mtls") or {}).get("mode") == "DISABLE"
        and _concerns(policy, proxied)
    ]
    if way.crosses and disabled:
        return Step(
            name,
            STOP,
            f"mutual TLS is switched off for the Service in {state.name}",
            tuple(f"PeerAuthentication {one}" for one in disabled),
            "gateways between networks pass on mutual TLS only",
            _show("peerauthentication", disabled[0], state.name),
        )
    return Step(name, OK, f"{len(ready)} of {len(pods)} pods ready: {', '.join(map(name_of, ready[:3]))}")


def _policies(state: ClusterState, target: Target) -> list[Object]:
    """Return the PeerAuthentications of the service's namespace and of the whole mesh."""
    namespaces = (target.service[0], ISTIO_NAMESPACE)
    return [policy for policy in state.peer_authentications if policy["metadata"]["namespace"] in namespaces]


def _concerns(policy: Object, pods: Sequence[Object]) -> bool:
    selector = ((policy.get("spec") or {}).get("selector") or {}).get("matchLabels")
    return not selector or any(selector.items() <= labels_of(pod).items() for pod in pods)


def _sync_evidence(way: Way) -> list[str]:
    if way.source is way.destination:
        return []
    return [f"{istiod} has {way.destination.name} as {state}" for istiod, state in _synced(way).items()]


def _synced(way: Way) -> dict[str, str]:
    """Return the sync state of the destination in each istiod of the source."""
    return {
        istiod.name: istiod.synced.get(way.destination.name, "not known") for istiod in way.source.istiods
    }


def _why_unknown(way: Way) -> tuple[str, str]:
    """Return the likely cause and the next command if a sidecar does not know a service at all."""
    if way.source is not way.destination and "synced" not in _synced(way).values():
        source, destination = way.source.member, way.destination.member
        return (
            f"istiod of {way.source.name} has not read {way.destination.name}",
            f"{source.playbook}.peering --limit {source.limit},{destination.limit}",
        )
    return (
        f"a Sidecar object or exportTo hides the service from {way.pod_namespace}",
        f"kubectl get sidecars.networking.istio.io -A, in {way.source.name}",
    )


def _show(kind: str, rule: str | None, cluster_name: str) -> str:
    if rule is None:
        return f"kubectl get {kind}s -A, in {cluster_name}"
    namespace, _slash, name = rule.partition("/")
    return f"kubectl -n {namespace} get {kind} {name} -o yaml, in {cluster_name}"
