# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow a request through the gateway of a cluster to the pods there (private to the collection)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from .._istio.names import GATEWAY_PORT, INJECTION_LABEL, ISTIO_NAMESPACE, REVISION_LABEL
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .._kubernetes.readiness import pod_unmet
from .._verify import findings
from .._verify.checks_cluster import gateways
from .._verify.checks_proxies import network_policies
from .._verify.injection import is_injected, would_inject
from .._verify.mtls import DISABLE, mtls_mode
from .._verify.network_policies import EGRESS, INGRESS, NetworkPolicies
from .._verify.state import (
    ClusterState,
    MeshState,
    exposed_by,
    hosts_of,
    is_ready,
    is_running,
    name_of,
    sidecar_of,
)
from .commands import kubectl, playbook, proxy_log, restart, show
from .envoy import is_mutual
from .leaving import subset_labels
from .legs import Leg, listening_port, pods_of
from .rbac import Caller, Refusal, refusal
from .way import OK, STOP, UNTOLD, Step, Target, Way, service_in

_GATEWAY, _PEER = "gateway", "peer"
_INBOUND_PORT = 15006
"""The port of the listener with which sidecars take what comes in."""
_ABOUT_OTHERS = (findings.GATEWAY_HOSTS_RESTRICTED,)
"""Findings about the gateway that only concern the test workload's name."""


# The gateway


def gateway(way: Way, leg: Leg) -> Step:
    """Check that the gateway of the leg's cluster can be reached, and lets the request in."""
    if leg.state is None or not way.crosses(leg.state):
        return Step(
            _GATEWAY, OK, "not needed inside one network" if leg.state else "not needed out of the mesh"
        )
    return next(_at_gateway(way, leg, leg.state))


def _at_gateway(way: Way, leg: Leg, state: ClusterState) -> Iterator[Step]:
    """Yield what stops the request at the gateway, and at last that nothing does."""
    if refused := _egress(way, state.gateway_addresses):
        told = f"NetworkPolicies keep the pod from the gateway of {state.name}"
        cause = f"NetworkPolicy {refused} of {way.source.name} allows its egress elsewhere only"
        yield Step(_GATEWAY, STOP, told, (), cause, show(way.source.member, "networkpolicy", refused))
    mesh = MeshState({state.name: state}, [], way.now, full=False)
    for kind, evidence in (*gateways(state, mesh), *network_policies(state, mesh)):
        if kind.breaks_in and kind not in _ABOUT_OTHERS:
            yield _fault(state, kind, evidence)
    asked = way.gateways.get(state.name)
    if asked is None:
        told = f"the gateway of {state.name} could not be asked"
        words = ("-n", ISTIO_NAMESPACE, "logs", "-l", "istio=eastwestgateway", "--tail", "50")
        why = way.untold.get(state.name, "no pod of it is ready")
        yield Step(_GATEWAY, UNTOLD, told, (why,), next_step=kubectl(state.member, *words))
        return
    passed_on, sni = asked.server_names(GATEWAY_PORT), leg.target.sni
    if sni not in passed_on:
        if rejected := asked.rejected():
            evidence = [f"{resource}: {why}" for resource, why in rejected.items()]
            yield _fault(state, findings.GATEWAY_CONFIG_REJECTED, evidence)
        told = f"the gateway of {state.name} does not pass the request on"
        evidence = [f"its listener {GATEWAY_PORT} has {len(passed_on)} names, but not {sni}"]
        yield Step(_GATEWAY, STOP, told, tuple(evidence), *_why_not_passed_on(way, leg, state))
    caller = Caller(way.service.request, GATEWAY_PORT, sni=sni)
    if refused_by := refusal(asked.listeners, GATEWAY_PORT, caller):
        yield _refused(_GATEWAY, state, refused_by, f"the gateway of {state.name}")
    yield Step(_GATEWAY, OK, f"{', '.join(state.gateway_addresses)} passes it on by its name")


def _egress(way: Way, addresses: Sequence[str]) -> str | None:
    """Return a NetworkPolicy that keeps the pod from all of these addresses, or None."""
    policies = NetworkPolicies(way.source.network_policies, way.source.namespaces)
    if not (way.caller["metadata"] and addresses):
        return None
    refused = [policies.refusing(way.caller, EGRESS, address, GATEWAY_PORT) for address in addresses]
    return name_of(refused[0][0]) if all(refused) else None


def _fault(state: ClusterState, kind: findings.Kind, evidence: Sequence[str]) -> Step:
    """Return the step at which a fault of a gateway stops the request."""
    member = state.member
    commands = {
        findings.GATEWAY_BLOCKED: kubectl(
            member, "-n", ISTIO_NAMESPACE, "get", "networkpolicies", "-o", "yaml"
        ),
        findings.GATEWAY_CONFIG_REJECTED: kubectl(
            member, "get", "gateways.networking.istio.io,envoyfilters", "-A", "-o", "yaml"
        ),
    }
    if kind == findings.GATEWAY_NOT_READY:
        # A pod that rejects its configuration from the start never becomes ready.
        rejected = [
            f"{proxy.pod}: {resource}: {why}"
            for proxy in state.proxies
            if proxy.is_gateway
            for resource, why in proxy.rejected.items()
        ]
        if rejected:
            kind, evidence = findings.GATEWAY_CONFIG_REJECTED, [*evidence, *rejected]
    next_step = commands.get(kind) or playbook(member, "gateway", member)
    return Step(_GATEWAY, STOP, kind.message, tuple(evidence), _cause(state, kind), next_step)


def _cause(state: ClusterState, kind: findings.Kind) -> str:
    """Return the cause of a gateway's fault, as far as the objects of its cluster tell it."""
    exposing = [one for one in state.gateways if exposed_by(one)]
    named = ", ".join(f"{name_of(one)} for {', '.join(hosts_of(one))}" for one in exposing)
    pods = state.pods_of_gateways
    if kind == findings.GATEWAY_CONFIG_REJECTED:
        if len(exposing) > 1:
            return f"more than one Gateway has port {GATEWAY_PORT}, and hosts may overlap: {named}"
        return "an EnvoyFilter makes what Envoy does not accept"
    if kind == findings.GATEWAY_NOT_EXPOSED:
        if exposing:
            return f"Gateway {named} has another mode than AUTO_PASSTHROUGH, or its selector other pods"
        return f"the Gateway with port {GATEWAY_PORT} was deleted, or its port changed"
    if kind == findings.GATEWAY_NOT_READY:
        unready = (f"{name_of(pod)}: {pod_unmet(pod)}" for pod in pods)
        return next(unready, "its Deployment is scaled to 0, or the Service's selector names other pods")
    return kind.cause


def _why_not_passed_on(way: Way, leg: Leg, state: ClusterState) -> tuple[str, str]:
    """Return cause and next command if a gateway does not know the name of a request."""
    target, member = leg.target, state.member
    namespace, name = target.service
    service = service_in(state, namespace, name)
    if service is None:
        cause = f"{state.name} has no Service {namespace}/{name}"
        return cause, kubectl(member, "-n", namespace, "get", "services")
    if target.port not in (entry["port"] for entry in service["spec"].get("ports") or []):
        cause = f"the Service has no port {target.port} in {state.name}"
        return cause, show(member, "service", f"{namespace}/{name}")
    if target.subset and not subset_labels(way, target, state):
        cause = (
            f"{state.name} has no DestinationRule with subset {target.subset}: the gateway only knows the "
            "subsets of its own cluster"
        )
        return cause, kubectl(member, "get", "destinationrules", "-A", "-o", "yaml")
    exposing = [one for one in state.gateways if exposed_by(one)]
    hosts = [host for one in exposing for host in hosts_of(one)]
    show_gateways = kubectl(member, "get", "gateways.networking.istio.io", "-A", "-o", "yaml")
    if exposing and not any(_covers(host, target.host) for host in hosts):
        return f"Gateway {name_of(exposing[0])} exposes {', '.join(hosts)} only", show_gateways
    pod = next((name_of(pod) for pod in state.pods_of_gateways if is_ready(pod)), None)
    cause = "the gateway did not yet get the Service from its istiod, or lost istiod"
    return cause, proxy_log(member, pod) if pod else show_gateways


def _covers(host: str, name: str) -> bool:
    return name.endswith(host[1:]) if host.startswith("*") else name == host


def _refused(step: str, state: ClusterState, by: Refusal, who: str) -> Step:
    """Return the step at which AuthorizationPolicies refuse a request, or may do so."""
    named = by.policies or by.allowing
    command = show(state.member, "authorizationpolicy", named[0] if named else None)
    if named == () or "/" not in named[0]:
        command = kubectl(state.member, "get", "authorizationpolicies", "-A", "-o", "yaml")
    if by.certain:
        return Step(step, STOP, f"{who} refuses the request (403)", (), str(by), command)
    told = f"whether {who} refuses the request cannot be told from what is known of it"
    return Step(step, UNTOLD, told, (str(by),), "the policy asks for addresses or other conditions", command)


# The pods


def peer(way: Way, leg: Leg) -> Step:
    """Check that the leg's cluster has a pod that can answer, and that nothing keeps the request from it."""
    if leg.state is None:
        what = f"{leg.where} did not answer" if leg.where else f"{leg.target.host} is out of the mesh"
        return Step(_PEER, UNTOLD, f"{what}: its end is not looked at")
    return next(_stops(way, leg, leg.state))


def _stops(way: Way, leg: Leg, state: ClusterState) -> Iterator[Step]:
    """Yield what stops the request at the pods, and at last that nothing does."""
    service = service_in(state, *leg.target.service)
    if service is None:
        yield _no_service(way, leg, state)
    elif not service["spec"].get("selector"):
        yield _without_selector(way, leg, state, service)
    else:
        pods = pods_of(way, leg.target, state)
        ready = [pod for pod in pods if is_ready(pod)]
        yield from _without_pods(way, leg, state, pods, ready)
        proxied = [pod for pod in ready if sidecar_of(pod) and is_running(pod)]
        if way.crosses(state):
            yield from _without_mutual_tls(leg, state, ready, proxied, listening_port(way, leg))
        yield from _refused_by_policies(way, leg, state, proxied if way.crosses(state) else ready)
        told = f"{len(ready)} of {len(pods)} pods ready: {', '.join(map(name_of, ready[:3]))}"
        yield Step(_PEER, OK, told, tuple(_unready(pods)))


def _no_service(way: Way, leg: Leg, state: ClusterState) -> Step:
    namespace, name = leg.target.service
    having = [one.name for one in way.states.values() if service_in(one, namespace, name)]
    cause = f"it is in {', '.join(having)} only" if having else "it was deleted"
    command = kubectl(state.member, "-n", namespace, "get", "services")
    return Step(_PEER, STOP, f"{state.name} has no Service {namespace}/{name}", (), cause, command)


def _without_pods(
    way: Way, leg: Leg, state: ClusterState, pods: Sequence[Object], ready: Sequence[Object]
) -> Iterator[Step]:
    """Yield the step that stops if no pod is there, or none is ready."""
    service = service_in(state, *leg.target.service) or {"spec": {}}
    wanted = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
    in_namespace = ("-n", leg.target.service[0])
    if not pods:
        words = ("get", "deployments,statefulsets,pods", "-o", "wide")
        yield _no_pods(way, leg, state, wanted, kubectl(state.member, *in_namespace, *words))
    elif not ready:
        unready = tuple(_unready(pods))
        describe = kubectl(state.member, *in_namespace, "describe", "pods", "-l", wanted)
        yield Step(
            _PEER, STOP, f"no pod of the Service is ready in {state.name}", unready, unready[0], describe
        )


def _unready(pods: Sequence[Object]) -> list[str]:
    return [f"{name_of(pod)}: {pod_unmet(pod) or 'it ends'}" for pod in pods if not is_ready(pod)][:5]


def _without_mutual_tls(
    leg: Leg, state: ClusterState, ready: Sequence[Object], proxied: Sequence[Object], port: int
) -> Iterator[Step]:
    """Yield the step that stops if no pod takes mutual TLS, which alone crosses networks."""
    if not proxied:
        yield _no_sidecars(leg, state, ready)
        return
    modes = [mtls_mode(state, pod, port) for pod in proxied]
    if all(mode == DISABLE for mode, _name in modes):
        rule = modes[0][1]
        told = f"mutual TLS is switched off for the Service in {state.name}"
        evidence = (f"PeerAuthentication {rule}",)
        cause = "gateways between networks pass on mutual TLS only"
        yield Step(_PEER, STOP, told, evidence, cause, show(state.member, "peerauthentication", rule))


def _refused_by_policies(way: Way, leg: Leg, state: ClusterState, pods: Sequence[Object]) -> Iterator[Step]:
    """Yield the steps of policies that refuse the request, or may do so."""
    port = listening_port(way, leg)
    if by := _network_policy(way, state, pods, port):
        who = "the gateway" if way.crosses(state) else "the caller"
        told = f"NetworkPolicies keep {who} from the pods in {state.name}"
        evidence = (f"{name_of(pods[0])}, port {port}",)
        cause = f"NetworkPolicy {by} does not allow this connection"
        yield Step(_PEER, STOP, told, evidence, cause, show(state.member, "networkpolicy", by))
    yield from _authorized(way, leg, state, pods, port)


def _no_pods(way: Way, leg: Leg, state: ClusterState, wanted: str, look: str) -> Step:
    target = leg.target
    told = f"no pod of {state.name} belongs to the Service"
    without_subset = pods_of(way, Target(target.name, target.port, "", target.host), state)
    if target.subset and without_subset:
        labels = subset_labels(way, target) or {}
        named = ",".join(f"{key}={value}" for key, value in labels.items())
        cause = f"no pod of the Service has the labels of subset {target.subset} ({named})"
        evidence = tuple(f"{name_of(pod)}: {_told_labels(pod, labels)}" for pod in without_subset[:5])
        return Step(_PEER, STOP, told, evidence, cause, look)
    evidence = (f"there is no pod with {wanted}",)
    return Step(_PEER, STOP, told, evidence, _why_no_pods(way, leg, state), look)


def _why_no_pods(way: Way, leg: Leg, state: ClusterState) -> str:
    """Return why a Service has no pods, by the workloads of its namespace."""
    service = service_in(state, *leg.target.service) or {"spec": {}}
    selector = service["spec"].get("selector") or {}
    found = way.workloads.get(state.name)
    if found is None:
        return "its workload is scaled to 0, is not there, or has other labels"
    for workload in found:
        spec = workload.get("spec") or {}
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if (
            workload["metadata"]["namespace"] != leg.target.service[0]
            or not selector.items() <= labels.items()
        ):
            continue
        name = f"{workload['kind']} {name_of(workload)}"
        if spec.get("replicas", 1) == 0:
            return f"{name} is scaled to 0"
        conditions = (workload.get("status") or {}).get("conditions") or []
        failures = (str(each.get("message")) for each in conditions if each.get("type") == "ReplicaFailure")
        return f"{name} makes no pods: {next(failures, 'it does not say why')}"
    return "no Deployment or StatefulSet of the namespace has the labels that the Service selects"


def _told_labels(pod: Object, wanted: dict[str, str]) -> str:
    labels = labels_of(pod)
    return ", ".join(f"{key}={labels.get(key, '')}" for key in wanted)


def _no_sidecars(leg: Leg, state: ClusterState, ready: Sequence[Object]) -> Step:
    """Return the step that stops at pods without a sidecar, with what keeps them from having one."""
    told = f"the pods of the Service have no sidecar in {state.name}; gateways pass on mutual TLS only"
    why = _why_no_sidecars(state, leg.target.service[0], ready)
    return Step(_PEER, STOP, told, tuple(map(name_of, ready[:5])), *why)


def _why_no_sidecars(state: ClusterState, namespace: str, ready: Sequence[Object]) -> tuple[str, str]:
    """Return the cause and the next command if pods have no sidecar."""
    member, pod = state.member, ready[0]
    if any(labels_of(pod).get("sidecar.istio.io/inject") == "false" for pod in ready):
        look = kubectl(member, "-n", namespace, "get", "pods", "--show-labels")
        return "their label sidecar.istio.io/inject=false switches injection off", look
    if would_inject(state, pod):
        cause = f"they were started before namespace {namespace} was labelled for injection"
        return cause, restart(member, ready)
    if is_injected(state, namespace, labels_of(pod)):
        cause = "their network is that of their node (hostNetwork), or an annotation switches injection off"
        return cause, kubectl(member, "-n", namespace, "get", "pod", pod["metadata"]["name"], "-o", "yaml")
    if wanted := _labels_to_inject(state, namespace, labels_of(pod)):
        label = kubectl(member, "label", "namespace", namespace, *wanted, "--overwrite")
        cause = f"namespace {namespace} is not labelled for injection"
        return cause, f"{label} && {restart(member, ready)}"
    cause = f"no webhook of {state.name} would give them a sidecar, whatever label their namespace has"
    return cause, kubectl(member, "get", "mutatingwebhookconfigurations", "-o", "yaml")


def _labels_to_inject(state: ClusterState, namespace: str, labels: Mapping[str, str]) -> list[str]:
    """Return the words with which kubectl labels a namespace so that its pods get sidecars; none if none do.

    A mesh whose istiods all have a revision does not know the label of meshes without.
    """
    held = next((labels_of(each) for each in state.namespaces if each["metadata"]["name"] == namespace), {})
    for key, value in [(INJECTION_LABEL, "enabled"), *((REVISION_LABEL, each) for each in _revisions(state))]:
        # Istio looks at a revision only where the other label is not.
        there = {name: told for name, told in held.items() if name != INJECTION_LABEL} | {key: value}
        labelled = replace(state, namespaces=[{"metadata": {"name": namespace, "labels": there}}])
        if is_injected(labelled, namespace, labels):
            removed = [f"{INJECTION_LABEL}-"] if INJECTION_LABEL in held.keys() - {key} else []
            return [f"{key}={value}", *removed]
    return []


def _revisions(state: ClusterState) -> list[str]:
    """Return the revisions and tags that the webhooks of a cluster look for in namespaces."""
    found: list[str] = []
    for webhook in state.injectors or []:
        selector = webhook.get("namespaceSelector") or {}
        found += filter(None, [(selector.get("matchLabels") or {}).get(REVISION_LABEL)])
        for each in selector.get("matchExpressions") or []:
            if each.get("key") == REVISION_LABEL and each.get("operator") == "In":
                found += each.get("values") or []
    return list(dict.fromkeys(found))


def _without_selector(way: Way, leg: Leg, state: ClusterState, service: Object) -> Step:
    """Judge a Service whose endpoints somebody else made, by what the proxies know of them."""
    namespace, name = leg.target.service
    if service["spec"].get("type") == "ExternalName":
        return Step(_PEER, UNTOLD, f"the Service is another name of {service['spec'].get('externalName')}")
    words = (
        "-n",
        namespace,
        "get",
        "endpointslices",
        "-l",
        f"kubernetes.io/service-name={name}",
        "-o",
        "yaml",
    )
    command = kubectl(state.member, *words)
    asked = way.gateways.get(state.name) if way.crosses(state) else way.proxy
    if asked is None:
        return Step(_PEER, UNTOLD, "its endpoints were made by hand, and its gateway could not be asked")
    known = asked.endpoints_of(leg.target.name) + asked.endpoints_of(leg.target.sni)
    usable = [one.address for one in known if not one.problem and one.cluster in (state.name, "")]
    if usable:
        named = ", ".join(list(dict.fromkeys(usable))[:5])
        return Step(_PEER, OK, f"its endpoints were made by hand: {named}")
    told = f"the Service has no selector in {state.name}, and no usable endpoint"
    evidence = tuple(f"{one.address}: {one.problem}" for one in known if one.problem)
    cause = "no EndpointSlice of the Service has a ready address, or its label names another Service"
    return Step(_PEER, STOP, told, evidence, cause, command)


def _network_policy(way: Way, state: ClusterState, pods: Sequence[Object], port: int) -> str | None:
    """Return a NetworkPolicy that keeps the request from all of these pods, or None."""
    policies = NetworkPolicies(state.network_policies, state.namespaces)
    senders = (
        [pod for pod in state.pods_of_gateways if is_running(pod)] if way.crosses(state) else [way.caller]
    )
    if not senders or not senders[0]["metadata"]:
        return None
    refused = [
        policies.refusing(senders[0], EGRESS, pod, port) or policies.refusing(pod, INGRESS, senders[0], port)
        for pod in pods
    ]
    return name_of(refused[0][0]) if refused and all(refused) else None


def _authorized(way: Way, leg: Leg, state: ClusterState, pods: Sequence[Object], port: int) -> Iterator[Step]:
    """Yield what the AuthorizationPolicies at the pod that was asked say, if they refuse the request.

    If pods have sidecars, of which none told its policies, that is the result.
    """
    mutual = is_mutual(way.proxy.cluster(leg.target.name) or {})
    request = way.service.request
    caller = Caller(request, port, way.identity if mutual else "", leg.target.sni)
    proxied = [name_of(pod) for pod in pods if sidecar_of(pod)]
    asked = {name: told for name in proxied if (told := way.inbound.get((state.name, name)))}
    for name, told in asked.items():
        if found := refusal(told.listeners, _INBOUND_PORT, caller):
            yield _refused(_PEER, state, found, f"pod {name}")
    if proxied and not asked:
        silent = [name for name in proxied if (state.name, name) in way.silent] or proxied
        reasons = tuple(way.silent.get((state.name, name), f"{name} was not asked") for name in silent[:3])
        what = f"who may send requests to the pods in {state.name} could not be told"
        yield Step(_PEER, UNTOLD, what, reasons, next_step=proxy_log(state.member, silent[0]))
