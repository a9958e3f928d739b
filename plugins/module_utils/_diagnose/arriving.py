# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow a request from its route to its endpoints (private to the collection)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._istio.names import GATEWAY_PORT, ISTIO_NAMESPACE, NETWORK_LABEL
from .._istio.services import is_cluster_local
from .._verify.mtls import DISABLE, STRICT, mtls_mode
from .._verify.state import ClusterState, sidecar_of
from .commands import ask_proxy, kubectl, playbook, show
from .envoy import PASSES_ON, Endpoint, is_mutual
from .leaving import not_read, subset_labels, sync_evidence
from .legs import Leg, chosen_by_client, listening_port, place, pods_of
from .peer import gateway, peer
from .routes import rule_of
from .way import FOLLOWS, OK, STOP, Step, Way, service_in

_CLUSTER, _ENDPOINTS = "cluster", "endpoints"


def cluster(way: Way, leg: Leg) -> Step:
    """Check that the sidecar sends with mutual TLS, which gateways between networks need."""
    config = way.proxy.cluster(leg.target.name) or {}
    if is_mutual(config):
        return Step(_CLUSTER, OK, "Istio's mutual TLS")
    if leg.state is None:
        return Step(_CLUSTER, OK, "without Istio's mutual TLS, out of the mesh")
    port = listening_port(way, leg)
    strict = {
        name: None
        for pod in pods_of(way, leg.target, leg.state)
        if sidecar_of(pod)
        for mode, name in [mtls_mode(leg.state, pod, port)]
        if mode == STRICT
    }
    crosses = way.crosses(leg.state)
    if not crosses and not strict:
        return Step(_CLUSTER, OK, "without Istio's mutual TLS, which stays inside the cluster")
    rule = rule_of(config)
    if rule:
        cause = f"DestinationRule {rule} sets another TLS mode than ISTIO_MUTUAL"
    elif leg.target.name == PASSES_ON:
        cause = "a Sidecar or exportTo hides the service, so that the sidecar only passes the connection on"
    else:
        cause = "istiod takes none of its endpoints for one with a sidecar"
    kind = "destinationrule" if rule or not strict else "peerauthentication"
    # The policies are those of the cluster that answers.
    member = leg.state.member if kind == "peerauthentication" else way.source.member
    return Step(
        _CLUSTER,
        STOP,
        "the sidecar does not send with Istio's mutual TLS",
        tuple([f"DestinationRule {rule}"] if rule else []) + tuple(f"STRICT by {one}" for one in strict),
        cause,
        show(member, kind, rule or next(iter(strict), None)),
    )


def endpoints(way: Way, leg: Leg) -> Step:
    """Check that the sidecar knows endpoints in the leg's cluster, and uses them."""
    state, target = leg.state, leg.target
    known = way.proxy.endpoints_of(target.name)
    if state is None:
        return _outside(way, leg, known)
    if state is way.source and (target.name == PASSES_ON or chosen_by_client(way, target)):
        told = "Kubernetes" if target.name == PASSES_ON else "the client"
        return Step(_ENDPOINTS, OK, f"{told} chooses the pod")
    there = [one for one in known if place(way, one) == state.name]
    if not there:
        return _no_endpoints(way, leg, known)
    addresses = {f"{address}:{GATEWAY_PORT}" for address in state.gateway_addresses}
    pods = [one.address for one in there if not one.address.endswith(f":{GATEWAY_PORT}")]
    if way.crosses(state) and pods:
        return Step(
            _ENDPOINTS,
            STOP,
            f"the sidecar would send to pods of {state.name}, past its gateway",
            (f"endpoints: {', '.join(pods)}", f"the gateway: {', '.join(sorted(addresses)) or 'none'}"),
            f"istiod of {way.source.name} takes both clusters for one network: a label "
            f"{NETWORK_LABEL} is missing or the same, at the namespace or at the pods",
            kubectl(
                state.member, "get", "namespace,pods", "-A", "-L", NETWORK_LABEL, why="a network for each"
            ),
        )
    usable = [one for one in there if not one.problem]
    unused = tuple(f"{one.address}: {one.problem}" for one in there if one.problem)
    if not usable:
        return _unusable(way, leg, there, unused)
    told = ", ".join(one.address for one in usable[:5])
    first = min(one.priority for one in known if not one.problem)
    if min(one.priority for one in usable) > first:
        others = {place(way, one) for one in known if not one.problem and one.priority == first}
        unused += (f"they stand by: requests go to {', '.join(sorted(others))} as long as it is well",)
    return Step(_ENDPOINTS, OK, told, unused)


def _outside(way: Way, leg: Leg, known: Sequence[Endpoint]) -> Step:
    usable = [one.address for one in known if not one.problem]
    if usable:
        return Step(_ENDPOINTS, OK, f"out of the mesh: {', '.join(usable[:5])}")
    return Step(
        _ENDPOINTS,
        STOP,
        f"the sidecar has no address of {leg.target.host}",
        tuple(f"{one.address}: {one.problem}" for one in known),
        "its name does not resolve, its addresses do not answer, or its ServiceEntry has none",
        kubectl(way.source.member, "get", "serviceentries", "-A", "-o", "yaml"),
    )


def _unusable(way: Way, leg: Leg, there: Sequence[Endpoint], evidence: tuple[str, ...]) -> Step:
    """Return the step for endpoints of which the sidecar uses none."""
    told = f"{', '.join(one.address for one in there[:5])}, of which none is usable"
    if behind := _behind(way, leg):
        return Step(_ENDPOINTS, FOLLOWS, f"{told}, which follows from the step {behind.name} below", evidence)
    host = leg.target.host
    ask = ask_proxy(way.source.member, way.pod, "clusters", why=f"the lines of {host}")
    if all(one.ejected for one in there):
        rule = rule_of(way.proxy.cluster(leg.target.name) or {})
        cause = (
            "outlier detection takes out an address after errors in a row, as the service itself or the way "
            f"to it answered with errors; DestinationRule {rule or 'of the mesh'} says for how long"
        )
        return Step(_ENDPOINTS, STOP, "outlier detection took out all endpoints", evidence, cause, ask)
    if any("not healthy" in str(one.problem) for one in there):
        return Step(_ENDPOINTS, STOP, told, evidence, "istiod takes none of its pods for ready", ask)
    where = leg.state.name if leg.state else ""
    cause = f"nothing answers there: a firewall or security group closes the way to {where}, or it is down"
    return Step(_ENDPOINTS, STOP, told, evidence, cause, ask)


def _behind(way: Way, leg: Leg) -> Step | None:
    """Return a later step that stops the way, and so explains what the endpoints are like."""
    return next((step for step in (gateway(way, leg), peer(way, leg)) if step.state == STOP), None)


def _no_endpoints(way: Way, leg: Leg, known: Sequence[Endpoint]) -> Step:
    state = leg.state or way.destination
    others = sorted({place(way, one) or one.address for one in known})
    told = f"the sidecar knows no endpoint in {state.name}"
    evidence = [f"it knows those of {', '.join(others)}"] if others else []
    # istiod sends no endpoints if no pod could answer, or no gateway would let the request in.
    reasons = [peer(way, leg)]
    if way.crosses(state) and not state.gateway_addresses:
        reasons.insert(0, gateway(way, leg))
    if any(step.state == STOP for step in reasons):
        return Step(_ENDPOINTS, FOLLOWS, f"{told}, which follows from what is below", tuple(evidence))
    if state is not way.source:
        evidence += sync_evidence(way, state.name)
    cause, next_step = next(_why_no_endpoints(way, leg, state))
    return Step(_ENDPOINTS, STOP, told, tuple(evidence), cause, next_step)


def _why_no_endpoints(way: Way, leg: Leg, state: ClusterState) -> Iterator[tuple[str, str]]:
    """Yield causes and next commands, the surest first."""
    source, target = way.source.member, leg.target
    if unread := not_read(way, state.name):
        yield unread
    known = {network for istiod in way.source.istiods for network, _address, _port in istiod.gateways}
    answered = any(istiod.answered for istiod in way.source.istiods)
    if way.crosses(state) and answered and state.member.network not in known:
        others = ", ".join(sorted(known)) or "no network"
        cause = f"istiod of {way.source.name} does not know the gateway of {state.name}, only of {others}"
        yield cause, playbook(state.member, "gateway", state.member)
    namespace, name = target.service
    service = service_in(state, namespace, name) or {"spec": {}}
    if target.subset and not subset_labels(way, target):
        cause = f"no DestinationRule of {way.source.name} has a subset {target.subset} for {target.host}"
        yield cause, kubectl(source, "get", "destinationrules", "-A", "-o", "yaml")
    if not service["spec"].get("selector"):
        of_service = f"kubernetes.io/service-name={name}"
        yield (
            "the EndpointSlices of the Service were made by hand, and name no pod with a sidecar",
            kubectl(state.member, "-n", namespace, "get", "endpointslices", "-l", of_service, "-o", "yaml"),
        )
    if service["spec"].get("clusterIP") == "None":
        cause = "the Service is headless, and Istio sends proxies no endpoints of other networks for it"
        yield cause, show(state.member, "service", f"{namespace}/{name}")
    modes = [mtls_mode(way.source, pod, listening_port(way, leg)) for pod in pods_of(way, target, state)]
    if way.crosses(state) and modes and all(mode == DISABLE for mode, _rule in modes):
        rule = modes[0][1]
        cause = f"PeerAuthentication {rule} of {way.source.name} switches mutual TLS off for these pods, too"
        yield cause, show(source, "peerauthentication", rule)
    if is_cluster_local(way.source.mesh_config, target.host):
        cause = f"serviceSettings of {way.source.name} keep the service in its cluster (clusterLocal)"
        yield cause, show(source, "configmap", f"{ISTIO_NAMESPACE}/istio")
    cause = f"istiod of {way.source.name} has read {state.name}, and nothing that was read explains it"
    yield cause, kubectl(source, "-n", ISTIO_NAMESPACE, "logs", "-l", "app=istiod", "--tail", "50")
