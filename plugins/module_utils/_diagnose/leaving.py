# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow a request out of its pod: the listener that takes it, and the route that decides (private)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.client import labels_of
from .._kubernetes.selectors import selects
from .._verify.state import ClusterState, annotations_of, is_ready, is_selected, name_of, sidecar_of
from .commands import kubectl, playbook, restart, show
from .envoy import PASSES_ON, Listener
from .routes import Request, Route, VirtualHost
from .way import OK, STOP, UNTOLD, Service, Step, Target, Way, service_in

_MOST_REDIRECTS = 5
_LISTENER, _ROUTE = "listener", "route"


@dataclass(frozen=True)
class _Found:
    """Where a request leads: to targets, or to the end of its way in the sidecar."""

    targets: tuple[Target, ...]
    step: Step


def find_listener(way: Way, service: Service | None = None) -> tuple[Listener | None, Step]:
    """Find the listener on which the sidecar takes the request from its workload."""
    service = service or way.service
    addresses = addresses_of(way, service)
    listener = way.proxy.listener(addresses, service.port)
    if unresolved := _unresolved(way, service):
        return None, unresolved
    if listener is None and passes_on(way, service):
        return Listener(PASSES_ON, None, {PASSES_ON: 100.0}), Step(
            _LISTENER, OK, "the sidecar does not know the service, and passes the connection on unchanged"
        )
    if listener is None:
        told = f"the sidecar has no listener for port {service.port} of {', '.join(addresses)}"
        return None, Step(
            _LISTENER, STOP, told, tuple(sync_evidence(way, way.destination.name)), *_why_hidden(way, service)
        )
    if listener.routes is None and not listener.shares:
        filters = [name_of(one) for one in way.objects.get("EnvoyFilter", [])]
        return None, Step(
            _LISTENER,
            STOP,
            f"{listener.name} leads nowhere",
            tuple(f"EnvoyFilter {name}" for name in filters),
            "an EnvoyFilter changed it",
            kubectl(way.source.member, "get", "envoyfilters", "-A", "-o", "yaml"),
        )
    return listener, Step(_LISTENER, OK, f"{listener.name}, {'HTTP' if listener.routes else 'TCP'}")


def passes_on(way: Way, service: Service) -> bool:
    """Return whether the request works without Istio: Kubernetes brings it to a pod of the same cluster."""
    here = service_in(way.source, service.namespace, service.name)
    wanted_here = way.destination is way.source or not way.asked
    return bool(here and wanted_here and way.proxy.passes_on_unknown())


def addresses_of(way: Way, service: Service) -> list[str]:
    """Return the addresses to which a client connects for a service."""
    addresses: list[str] = []
    for state in (way.source, way.destination):
        if found := service_in(state, service.namespace, service.name):
            spec = found["spec"]
            addresses += spec.get("clusterIPs") or [spec.get("clusterIP", "")]
            if spec.get("clusterIP") == "None":  # clients then connect to a pod's own address
                pods = [pod for pod in state.pods if is_selected(pod, spec.get("selector") or {})]
                addresses += [
                    str((pod.get("status") or {}).get("podIP"))
                    for pod in pods
                    if pod["metadata"]["namespace"] == service.namespace and is_ready(pod)
                ]
    return list(dict.fromkeys(addresses))


def _unresolved(way: Way, service: Service) -> Step | None:
    """Return the step that stops a request whose name the pod cannot resolve."""
    environment = {
        each.get("name"): each.get("value") for each in (sidecar_of(way.caller) or {}).get("env", [])
    }
    captures = str(environment.get("ISTIO_META_DNS_CAPTURE")).lower() == "true"
    if not environment or captures or service_in(way.source, service.namespace, service.name):
        return None
    return Step(
        _LISTENER,
        STOP,
        f"the pod cannot resolve {service.host}",
        (f"{way.source.name} has no such Service", "the sidecar has no ISTIO_META_DNS_CAPTURE=true"),
        "without DNS capture, pods only resolve Services of their own cluster"
        + (", and this pod was started before it was switched on" if way.source.dns_capture else ""),
        restart(way.source.member, [way.caller])
        if way.source.dns_capture
        else playbook(way.source.member, "istio", way.source.member, why="with istio_dns_capture: true"),
    )


# The route


def find_route(way: Way, listener: Listener) -> tuple[list[Target], Step]:
    """Find where the request goes: to the service, unless a VirtualService says otherwise.

    No targets and a step that is well mean that the sidecar itself answers.
    """
    found = _follow(way, listener, way.service, way.service.request, ())
    return list(found.targets), found.step


def _follow(
    way: Way, listener: Listener, service: Service, request: Request, trail: tuple[str, ...]
) -> _Found:
    if listener.routes is None:
        return _targets(way, service, Route(listener.shares), trail)
    host = way.proxy.virtual_host(listener.routes, request)
    route = host.choose(request) if host and not host.catches_all else None
    if route is None:
        if (host is None or host.catches_all) and passes_on(way, service):
            return _targets(way, service, Route({PASSES_ON: 100.0}), trail)
        return _no_route(way, host, listener, request)
    by = (f"by VirtualService {route.rule}",) if route.rule else ()
    return _decided(way, service, route, (*trail, *by, *route.passed_over))


def _decided(way: Way, service: Service, route: Route, trail: tuple[str, ...]) -> _Found:
    """Return what becomes of a request by its route."""
    if route.aborted:
        return _Found((), _aborted(way, route, trail))
    if route.redirect is None:
        if route.answer is None:
            return _targets(way, service, route, trail)
        return _Found((), _answered(way, route, trail))
    trail = (*trail, f"the sidecar answers with {route.redirect}")
    return _redirected(way, route, trail)


def _aborted(way: Way, route: Route, trail: Sequence[str]) -> Step:
    return Step(
        _ROUTE,
        STOP,
        f"the sidecar itself answers {route.aborted:g} % of the requests with {route.abort}",
        (*trail, *route.notes),
        "a VirtualService injects this fault (fault.abort)",
        show(way.source.member, "virtualservice", route.rule),
        route.aborted,
    )


def _answered(way: Way, route: Route, trail: Sequence[str]) -> Step:
    told = f"the sidecar itself answers with {route.answer}"
    if route.answer is not None and 0 < route.answer < 500:
        return Step(_ROUTE, OK, f"{told}, and sends the request nowhere", tuple(trail))
    return Step(
        _ROUTE,
        STOP,
        told,
        tuple(trail),
        f"VirtualService {route.rule} answers itself (directResponse), or its destination does not exist"
        if route.rule
        else "the route of an object that istiod does not name leads nowhere",
        show(way.source.member, "virtualservice", route.rule),
    )


def _redirected(way: Way, route: Route, trail: tuple[str, ...]) -> _Found:
    redirect = route.redirect
    if redirect is None:
        raise RuntimeError("there is no redirect")
    command = show(way.source.member, "virtualservice", route.rule)
    if sum("the sidecar answers with" in line for line in trail) > _MOST_REDIRECTS:
        told = "the redirects have no end"
        evidence = tuple(dict.fromkeys(trail))
        return _Found((), Step(_ROUTE, STOP, told, evidence, "redirects lead back to each other", command))
    service = _service_of(way, redirect.to)
    if service is None or redirect.scheme != "http":
        told = f"the sidecar answers with {redirect}, which is not followed here"
        why = "" if redirect.scheme == "http" else "the client begins TLS itself"
        return _Found((), Step(_ROUTE, UNTOLD, told, trail, why or "it leads out of the mesh", command))
    listener, step = find_listener(way, service)
    if listener is None:
        return _Found((), Step(_ROUTE, STOP, step.told, (*trail, *step.evidence), step.cause, step.next_step))
    request = Request(service.host, service.port, redirect.to.path)
    return _follow(way, listener, service, request, trail)


def _service_of(way: Way, request: Request) -> Service | None:
    """Return the Service that a host names, as a client in the pod's namespace resolves it."""
    name, _dot, rest = request.host.removesuffix(".svc.cluster.local").removesuffix(".svc").partition(".")
    namespace = rest or way.pod_namespace
    known = any(service_in(state, namespace, name) for state in way.states.values())
    return Service(name, namespace, request.port) if known else None


def _no_route(way: Way, host: VirtualHost | None, listener: Listener, request: Request) -> _Found:
    evidence: tuple[str, ...] = (
        f"in routes {listener.routes}, for GET {request.path} without further headers",
    )
    if host is None or host.catches_all:
        service = _service_of(way, request) or way.service
        evidence += tuple(sync_evidence(way, way.destination.name))
        return _Found(
            (), Step(_ROUTE, STOP, f"no route for {request.host}", evidence, *_why_hidden(way, service))
        )
    rule = next(iter(host.rules), None)
    told = f"no route of VirtualService {', '.join(host.rules) or '(not named)'} takes the request"
    return _Found(
        (),
        Step(
            _ROUTE,
            STOP,
            f"no route for {request.host}",
            (*evidence, told),
            "the VirtualService has routes for other paths or headers only; without a last route for all "
            "others, Envoy answers with 404",
            show(way.source.member, "virtualservice", rule),
        ),
    )


def _targets(way: Way, service: Service, route: Route, trail: Sequence[str]) -> _Found:
    targets = []
    evidence = [*trail, *route.notes]
    for share_of, share in route.shares.items():
        if share_of == PASSES_ON and passes_on(way, service):
            target: Target | None = Target(PASSES_ON, service.port, "", service.host, share)
        else:
            target = Target.of(share_of, share)
        if target is None or way.proxy.cluster(share_of) is None:
            told = f"{share:.0f} % go to {share_of or 'nowhere'}"
            return _Found((), _missing(way, route, target, (told, *evidence)))
        targets.append(target)
    if not targets:
        told = "what Envoy does with the request cannot be told from its route"
        return _Found((), Step(_ROUTE, UNTOLD, told, tuple(evidence)))
    shares = ", ".join(f"{one.share:.0f} % to {one.name}" for one in targets)
    return _Found(
        tuple(targets),
        Step(_ROUTE, OK, shares if len(targets) > 1 else f"to {targets[0].name}", tuple(evidence)),
    )


def _missing(way: Way, route: Route, target: Target | None, evidence: tuple[str, ...]) -> Step:
    """Return the step that stops at a target that the sidecar does not have, with the cause."""
    member = way.source.member
    next_step = show(member, "virtualservice", route.rule)
    if target is None:
        cause = "the service is hidden from the pod, and the sidecar passes on nothing that it does not know"
        return Step(_ROUTE, STOP, "the request leads out of the mesh", evidence, cause, next_step)
    namespace, name = target.service
    services = [found for state in way.states.values() if (found := service_in(state, namespace, name))]
    ports = {entry["port"] for service in services for entry in service["spec"].get("ports") or []}
    if target.is_service and not services:
        cause = f"no cluster has a Service {name} in namespace {namespace}"
    elif target.is_service and target.port not in ports:
        cause = f"Service {namespace}/{name} has no port {target.port}"
    elif target.subset and not subset_labels(way, target):
        cause = f"no DestinationRule of {way.source.name} has a subset {target.subset} for {target.host}"
        next_step = kubectl(member, "get", "destinationrules", "-A", "-o", "yaml")
    else:
        cause = f"the pod's namespace {way.pod_namespace} does not see {target.host} (exportTo, or a Sidecar)"
    return Step(_ROUTE, STOP, "a route leads to what the sidecar does not have", evidence, cause, next_step)


def subset_labels(way: Way, target: Target, state: ClusterState | None = None) -> dict[str, str] | None:
    """Return the labels of a target's subset, by the DestinationRules of a cluster, or else of the source."""
    namespace, name = target.service
    for rule in (state or way.source).destination_rules:
        spec = rule.get("spec") or {}
        host = str(spec.get("host", ""))
        here = rule["metadata"]["namespace"] == namespace
        if host in (target.host, f"{name}.{namespace}", f"{name}.{namespace}.svc") or (here and host == name):
            for subset in spec.get("subsets") or []:
                if subset.get("name") == target.subset:
                    return dict(subset.get("labels") or {})
    return None


# Causes


def sync_evidence(way: Way, state_name: str) -> list[str]:
    """Return how far each istiod of the source has read a cluster; nothing for the source itself."""
    if state_name == way.source.name:
        return []
    return [f"{istiod} has {state_name} as {told}" for istiod, told in _synced(way, state_name).items()]


def _synced(way: Way, state_name: str) -> dict[str, str]:
    return {istiod.name: istiod.synced.get(state_name, "not known") for istiod in way.source.istiods}


def not_read(way: Way, state_name: str) -> tuple[str, str] | None:
    """Return cause and next command if no istiod of the source is ready, or one has not read a cluster."""
    source = way.source
    if state_name == source.name:
        return None
    if nobody := no_istiod(source):
        return nobody, playbook(source.member, "istio", source.member)
    if all(told == "synced" for told in _synced(way, state_name).values()):
        return None
    if any(istiod.silent for istiod in source.istiods):
        return f"istiod of {source.name} did not tell what it has read", _istiod_log(way)
    held = [secret for secret in source.secrets if state_name in secret.keys]
    cause = f"istiod of {source.name} has not read {state_name}"
    if not held:
        cause += ": there is no remote secret for it"
    return cause, playbook(source.member, "peering", source.member, way.states[state_name].member)


def no_istiod(source: ClusterState) -> str | None:
    """Return why no istiod of a cluster can tell or send anything; None if one is ready."""
    unmet = [f"{istiod.name}: {istiod.unmet}" for istiod in source.istiods if istiod.unmet]
    if len(unmet) < len(source.istiods):
        return None
    return f"no istiod of {source.name} is ready: {unmet[0] if unmet else 'there is no pod of it'}"


def _istiod_log(way: Way) -> str:
    words = ("logs", "-l", "app=istiod", "--tail", "50")
    return kubectl(way.source.member, "-n", ISTIO_NAMESPACE, *words)


def _why_hidden(way: Way, service: Service) -> tuple[str, str]:
    """Return the cause and the next command if a sidecar does not know a service at all."""
    here = service_in(way.source, service.namespace, service.name)
    having = [
        state.name for state in way.states.values() if service_in(state, service.namespace, service.name)
    ]
    if not here:
        unread = [found for name in having if (found := not_read(way, name))]
        if having and len(unread) == len(having):
            return unread[0]
    source = way.source
    for name in having:
        told = service_in(way.states[name], service.namespace, service.name) or {"metadata": {}}
        if export := annotations_of(told).get("networking.istio.io/exportTo"):
            words = ("-n", service.namespace, "get", "service", service.name, "-o", "yaml")
            return (
                f"the Service in {name} is exported to {export} only, by its annotation exportTo",
                kubectl(way.states[name].member, *words),
            )
    sidecars = [
        name_of(one)
        for one in way.objects.get("Sidecar", [])
        if one["metadata"]["namespace"] in (way.pod_namespace, ISTIO_NAMESPACE)
        and selects(
            {"matchLabels": ((one.get("spec") or {}).get("workloadSelector") or {}).get("labels") or {}},
            labels_of(way.caller),
        )
    ]
    # The one of the pod's own namespace takes precedence.
    sidecars.sort(key=lambda name: not name.startswith(f"{way.pod_namespace}/"))
    if sidecars:
        cause = f"Sidecar {sidecars[0]} hides the service from {way.pod_namespace}"
        return cause, show(source.member, "sidecars.networking.istio.io", sidecars[0])
    if source.mesh_config.get("discoverySelectors"):
        return (
            f"the discoverySelectors of {source.name} may leave out namespace {service.namespace}",
            kubectl(source.member, "get", "namespace", service.namespace, "--show-labels"),
        )
    return "nothing that was read explains it: istiod may still be at work, or may be stale", _istiod_log(way)
