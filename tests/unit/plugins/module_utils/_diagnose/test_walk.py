"""Each step of the way of a request, judged on what real proxies, istiods and clusters said.

`recorded/diagnose.json` is from two clusters of the lab: a way that is well, and what differed with faults.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.envoy import EnvoyConfig
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.look import (
    _inbound,
    choose_destination,
    find_pod,
    find_service,
)
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.request import Sent
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.walk import (
    STEPS,
    agrees,
    not_taken,
    walk,
)
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.way import (
    FOLLOWS,
    OK,
    STOP,
    UNKNOWN,
    Service,
    Step,
    Way,
    lines,
    untold,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import read_chain
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import ClusterState, Istiod, Proxy

RECORDED = json.loads(
    (Path(__file__).resolve().parents[2] / "recorded/diagnose.json").read_text(encoding="utf-8")
)
SERVICE = Service("exo-webtest", "exodemo", 3000)
Recording = dict[str, Any]


def healthy() -> Recording:
    """What was recorded of a way that is well; the caller may change it."""
    return copy.deepcopy(dict(RECORDED["healthy"]))


def broken(fault: str) -> Recording:
    """What was recorded with a fault."""
    told, changed = healthy(), copy.deepcopy(RECORDED["broken"][fault])
    told["proxy"].update(changed.get("proxy", {}))
    told["known_to"] = changed.get("known_to", told["known_to"])
    told["now"] = changed.get("now", told["now"])
    told["destination"]["pods"] = changed.get("destination_pods", told["destination"]["pods"])
    return told


def state(name: str, told: Recording) -> ClusterState:
    """A cluster as it was seen."""
    return ClusterState(
        Member(name, f"network-{name}", "kubeconfig"),
        pods=told["pods"],
        services=told["services"],
        gateways=told["gateways"],
        peer_authentications=told["peer_authentications"],
        network_policies=told["network_policies"],
        istiods=[Istiod(item["name"], None, None, item["synced"]) for item in told["istiods"]],
        running_roots=read_chain("".join(told["roots"]), "the roots"),
    )


def without_policies(*states: ClusterState) -> dict[tuple[str, str], EnvoyConfig]:
    """What pods tell of their listeners if nobody keeps requests from them."""
    return {
        (one.name, f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"): EnvoyConfig()
        for one in states
        for pod in one.pods
    }


def way_of(told: Recording) -> Way:
    source, destination = state("cluster1", told["source"]), state("cluster2", told["destination"])
    return Way(
        SERVICE,
        source,
        destination,
        told["pod"],
        EnvoyConfig(**told["proxy"]),
        asked=True,
        known_to=told["known_to"],
        gateways={"cluster2": EnvoyConfig(**told["gateway"])},
        inbound=without_policies(source, destination),
        now=datetime.fromisoformat(told["now"]),
        **told.get("more", {}),
    )


def stop_of(told: Recording) -> Step:
    """The step at which a way stops: there is one, and nothing is said of what is behind it."""
    steps = walk(way_of(told))
    assert tuple(step.name for step in steps) == STEPS
    at = next(number for number, step in enumerate(steps) if step.state == STOP)
    assert {step.state for step in steps[:at]} <= {OK, FOLLOWS}
    assert steps[at].next_step.startswith(("kubectl --kubeconfig kubeconfig ", "ansible-playbook "))
    assert {step.state for step in steps[at + 1 :]} <= {UNKNOWN}
    assert steps[at].cause
    assert steps[at].next_step
    return steps[at]


def test_a_good_way_goes_to_its_end() -> None:
    way = way_of(healthy())
    steps = walk(way)
    assert [step.state for step in steps[:-1]] == [OK] * (len(STEPS) - 1)
    assert "Every step is well. No request was sent. Not looked at:" in lines(way, steps)


@pytest.mark.parametrize("fault", RECORDED["broken"])
def test_a_recorded_fault_stops_the_way_at_its_step(fault: str) -> None:
    assert stop_of(broken(fault)).name == RECORDED["broken"][fault]["stops_at"]


def test_lines_say_where_it_stops_and_what_to_do() -> None:
    way = way_of(broken("a DestinationRule with TLS DISABLE"))
    told = lines(way, walk(way))
    assert told[7] == "STOP  cluster        the sidecar does not send with Istio's mutual TLS"
    assert "saw: DestinationRule exodemo/plain" in told[8]
    assert "next: kubectl --kubeconfig kubeconfig -n exodemo get destinationrule plain -o yaml" in told[11]
    assert told[12] == "-     endpoints      not looked at"


def test_endpoints_that_are_missing_because_of_the_peer_are_not_the_stop() -> None:
    steps = {step.name: step for step in walk(way_of(broken("pods scaled to 0")))}
    assert steps["endpoints"].state == FOLLOWS
    assert steps["peer"].state == STOP


def no_certificate(told: Recording) -> None:
    told["proxy"]["secrets"] = [entry for entry in told["proxy"]["secrets"] if entry["name"] != "default"]


def expired(told: Recording) -> None:
    told["now"] = (datetime.fromisoformat(told["now"]) + timedelta(days=2)).isoformat()


def disconnected(told: Recording) -> None:
    told["known_to"] = {istiod: {} for istiod in told["known_to"]}


def rejected_listener(told: Recording) -> None:
    told["proxy"]["listeners"].append({"name": "0.0.0.0_3000", "error_state": {"details": "no good"}})


def unread_peer(told: Recording) -> None:
    told["proxy"]["listeners"] = []
    told["source"]["istiods"][0]["synced"] = {"cluster2": "timeout"}


def answered_by_the_sidecar(told: Recording) -> None:
    (route,) = told["proxy"]["routes"][0]["route_config"]["virtual_hosts"][0]["routes"]
    del route["route"]
    route["direct_response"] = {"status": 503}


def no_endpoints(told: Recording) -> None:
    told["proxy"]["endpoints"] = []


def ejected(told: Recording) -> None:
    (host,) = told["proxy"]["statuses"][0]["host_statuses"]
    host["health_status"] = {"failed_outlier_check": True, "eds_health_status": "HEALTHY"}


def no_gateway_address(told: Recording) -> None:
    no_endpoints(told)
    for service in told["destination"]["services"]:
        service["status"] = {}


def gateway_down(told: Recording) -> None:
    ejected(told)
    told["destination"]["pods"] = [
        pod for pod in told["destination"]["pods"] if pod["metadata"]["namespace"] == "exodemo"
    ]


def unknown_to_the_gateway(told: Recording) -> None:
    for chain in told["gateway"]["listeners"][0]["active_state"]["listener"]["filter_chains"]:
        chain["filter_chain_match"]["server_names"] = ["outbound_.80_._.another.exodemo.svc.cluster.local"]


def no_service_there(told: Recording) -> None:
    no_endpoints(told)
    services = told["destination"]["services"]
    told["source"]["services"] += [s for s in services if s["metadata"]["name"] == "exo-webtest"]
    told["destination"]["services"] = [s for s in services if s["metadata"]["name"] != "exo-webtest"]


def not_ready(told: Recording) -> None:
    for pod in told["destination"]["pods"]:
        if pod["metadata"]["namespace"] == "exodemo":
            pod["status"]["conditions"] = [{"type": "Ready", "status": "False", "message": "no good"}]


def no_sidecar_there(told: Recording) -> None:
    no_endpoints(told)
    for pod in told["destination"]["pods"]:
        spec = pod["spec"]
        for kind in ("containers", "initContainers"):
            spec[kind] = [one for one in spec.get(kind, []) if one["name"] != "istio-proxy"]


def closed_gateway(told: Recording) -> None:
    told["destination"]["network_policies"].append(
        {"metadata": {"name": "closed", "namespace": "istio-system"}, "spec": {"podSelector": {}}}
    )


def rejecting_gateway(told: Recording) -> None:
    unknown_to_the_gateway(told)
    told["gateway"]["listeners"].append({"name": "0.0.0.0_15443", "error_state": {"details": "two the same"}})


def no_mutual_tls_there(told: Recording) -> None:
    told["destination"]["peer_authentications"].append(
        {"metadata": {"name": "plain", "namespace": "exodemo"}, "spec": {"mtls": {"mode": "DISABLE"}}}
    )


@pytest.mark.parametrize(
    ("harm", "step", "words"),
    [
        (no_certificate, "certificates", "has no certificate"),
        (expired, "certificates", "not valid now"),
        (disconnected, "configuration", "no istiod knows"),
        (rejected_listener, "configuration", "no good"),
        (unread_peer, "listener", "has not read cluster2"),
        (answered_by_the_sidecar, "route", "503"),
        (no_endpoints, "endpoints", "no endpoint in cluster2"),
        (ejected, "endpoints", "outlier detection"),
        (no_gateway_address, "gateway", "no load balancer address"),
        (gateway_down, "gateway", "no ready pod"),
        (unknown_to_the_gateway, "gateway", "outbound_.3000_._.exo-webtest.exodemo.svc.cluster.local"),
        (closed_gateway, "gateway", "istio-system/closed"),
        (rejecting_gateway, "gateway", "0.0.0.0_15443: two the same"),
        (no_service_there, "peer", "no Service exodemo/exo-webtest"),
        (not_ready, "peer", "no pod of the Service is ready"),
        (no_sidecar_there, "peer", "have no sidecar"),
        (no_mutual_tls_there, "peer", "exodemo/plain"),
    ],
)
def test_each_step_can_stop_the_way(harm: Callable[[Recording], None], step: str, words: str) -> None:
    told = healthy()
    harm(told)
    stop = stop_of(told)
    assert stop.name == step, stop
    assert words in " ".join((stop.told, *stop.evidence, stop.cause))


def test_a_rejection_of_something_else_does_not_stop_the_way() -> None:
    told = healthy()
    told["proxy"]["listeners"].append({"name": "0.0.0.0_9000", "error_state": {"details": "no good"}})
    steps = walk(way_of(told))
    assert all(step.state == OK for step in steps[:-1])
    assert "0.0.0.0_9000" in steps[1].evidence[0]


def test_a_second_pod_of_the_gateway_that_waits_does_not_stop_the_way() -> None:
    told = healthy()
    (gateway,) = [pod for pod in told["destination"]["pods"] if "eastwest" in pod["metadata"]["name"]]
    waiting = copy.deepcopy(gateway)
    waiting["metadata"]["name"] += "-2"
    waiting["status"] = {"phase": "Pending"}
    told["destination"]["pods"].append(waiting)
    assert all(step.state == OK for step in walk(way_of(told))[:-1])


def test_inside_a_cluster_no_gateway_is_needed() -> None:
    told = healthy()
    way = way_of(told)
    local = replace(way, source=way.destination, asked=False, gateways={})
    told["proxy"]["endpoints"][0]["endpoint_config"]["endpoints"][0]["lb_endpoints"][0]["endpoint"][
        "address"
    ] = {"socket_address": {"address": "192.168.0.7", "port_value": 3000}}
    steps = {step.name: step for step in walk(local)}
    assert steps["gateway"].told == "not needed inside one network"
    assert all(step.state == OK for step in [*steps.values()][:-1])


def test_a_route_by_weight_is_looked_at_as_a_whole() -> None:
    told = healthy()
    (route,) = told["proxy"]["routes"][0]["route_config"]["virtual_hosts"][0]["routes"]
    good = route["route"]["cluster"]
    route["route"] = {
        "weighted_clusters": {
            "clusters": [{"name": good, "weight": 90}, {"name": good.replace("||", "|v9|"), "weight": 10}]
        }
    }
    stop = stop_of(told)
    assert stop.name == "route"
    assert "10 % go to outbound|3000|v9|exo-webtest.exodemo.svc.cluster.local" in stop.evidence


def test_a_proxy_gets_a_moment_to_take_what_it_was_sent() -> None:
    sent = {"sent": "b", "acked": "a", "sentTime": "2026-11-23T08:11:15.659373711Z"}
    told = {"resources": {"type.googleapis.com/envoy.config.cluster.v3.Cluster": sent}}
    moment = datetime.fromisoformat("2026-11-23T08:11:16+00:00")
    assert list(not_taken(told, moment)) == []
    assert len(list(not_taken(told, moment + timedelta(seconds=10)))) == 1
    sent["lastError"] = "no good"
    assert list(not_taken(told, moment)) == ["Cluster: no good"]


# What is asked for


@pytest.mark.parametrize(
    "text", ["exo-webtest.exodemo", "exo-webtest.exodemo:3000", "exo-webtest.exodemo.svc.cluster.local:3000"]
)
def test_a_service_is_found_by_its_name(text: str) -> None:
    assert find_service(text, [way_of(healthy()).destination]) == SERVICE


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "unknown_service", "NAME.NAMESPACE"),
        ("http://exo-webtest.exodemo", "unknown_service", "NAME.NAMESPACE"),
        ("nobody.exodemo", "unknown_service", "That namespace has exo-webtest"),
        ("exo-webtest.nowhere", "unknown_service", "No cluster has Services there"),
        ("exo-webtest.exodemo:80", "unknown_port", "3000"),
    ],
)
def test_a_service_that_is_not_there_is_said(text: str, code: str, words: str) -> None:
    with pytest.raises(ExomeshError) as caught:
        find_service(text, [way_of(healthy()).destination])
    assert caught.value.code == code
    assert words in str(caught.value)


@pytest.mark.parametrize("spec", [{}, {"ports": []}, {"ports": None}, {"type": "ExternalName"}])
@pytest.mark.parametrize("port", ["", ":80"])
def test_a_service_without_ports_is_said(spec: Recording, port: str) -> None:
    cluster = way_of(healthy()).destination
    cluster.services = [{"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}]
    with pytest.raises(ExomeshError) as caught:
        find_service(f"web.shop{port}", [cluster])
    assert caught.value.code == "unknown_port"
    assert "has no ports" in str(caught.value)


def test_the_destination_is_another_member_that_has_the_service() -> None:
    way = way_of(healthy())
    states = {"cluster1": way.source, "cluster2": way.destination}
    assert choose_destination(SERVICE, states, "cluster1") == "cluster2"
    assert choose_destination(SERVICE, states, "cluster2") == "cluster2"


def test_any_pod_with_a_sidecar_may_ask() -> None:
    way = way_of(healthy())
    assert find_pod(way.source, SERVICE)["metadata"]["name"] == way.pod_name
    assert find_pod(way.source, SERVICE, way.pod)["metadata"]["name"] == way.pod_name


@pytest.mark.parametrize(("wanted", "words"), [("", "No running pod"), ("exodemo/nobody", "no such pod")])
def test_without_a_sidecar_nobody_can_ask(wanted: str, words: str) -> None:
    told = healthy()
    told["source"]["pods"] = []
    with pytest.raises(ExomeshError) as caught:
        find_pod(way_of(told).source, SERVICE, wanted)
    assert caught.value.code == "no_sidecar"
    assert words in str(caught.value)


# Ways that work, and shares of requests

HOST = "exo-webtest.exodemo.svc.cluster.local"
HOME = "outbound|3000||home.exodemo.svc.cluster.local"
REMOTE = f"outbound|3000||{HOST}"


def service(name: str, port: int = 3000, **spec: Any) -> Recording:
    ports = [{"name": "http", "port": port}]
    return {"metadata": {"name": name, "namespace": "exodemo"}, "spec": {"ports": ports, **spec}}


def with_home(told: Recording) -> None:
    """Add a service that only the source has, with a pod."""
    told["source"]["services"].append(service("home", clusterIP="10.96.0.9", selector={"app": "home"}))
    pod = copy.deepcopy(
        next(pod for pod in told["destination"]["pods"] if "webtest" in pod["metadata"]["name"])
    )
    pod["metadata"] |= {"name": "home-1", "labels": {"app": "home"}}
    told["source"]["pods"].append(pod)
    config = copy.deepcopy(next(c for c in told["proxy"]["clusters"] if c["cluster"]["name"] == REMOTE))
    config["cluster"]["name"] = HOME
    told["proxy"]["clusters"].append(config)
    address = {"socket_address": {"address": "192.168.0.8", "port_value": 3000}}
    metadata = {"filter_metadata": {"istio": {"workload": "home;exodemo;home;latest;cluster1"}}}
    endpoint = {"endpoint": {"address": address}, "metadata": metadata}
    assignment = {"cluster_name": HOME, "endpoints": [{"lb_endpoints": [endpoint]}]}
    told["proxy"]["endpoints"].append({"endpoint_config": assignment})


def routed(told: Recording, **route: Any) -> None:
    """Let the only route of the service do this."""
    (only,) = told["proxy"]["routes"][0]["route_config"]["virtual_hosts"][0]["routes"]
    only.pop("route")
    config = "/apis/networking.istio.io/v1/namespaces/exodemo/virtual-service/web"
    only |= {"metadata": {"filter_metadata": {"istio": {"config": config}}}, **route}


def weighted(**shares: int) -> Recording:
    names = {"home": HOME, "remote": REMOTE}
    clusters = [{"name": names[name], "weight": weight} for name, weight in shares.items()]
    return {"weighted_clusters": {"clusters": clusters}}


def steps_of(told: Recording) -> dict[str, Step]:
    return {step.name: step for step in walk(way_of(told))}


def sent_so(told: Recording, status: int, text: str = "") -> None:
    told["more"] = {"sent": Sent(status, text, why_not="")}


def test_a_share_that_is_answered_at_home_does_not_stop_the_way() -> None:
    told = healthy()
    with_home(told)
    routed(told, route=weighted(home=50, remote=50))
    steps = steps_of(told)
    assert {steps[name].state for name in STEPS[:-1]} == {OK}
    assert f"50 % to {HOME}" in steps["route"].told
    assert any("cluster1" in line and "192.168.0.8:3000" in line for line in steps["endpoints"].evidence)
    assert any("not needed inside one network" in line for line in steps["gateway"].evidence)


def test_a_share_that_fails_stops_the_way_and_is_named() -> None:
    told = healthy()
    with_home(told)
    routed(told, route=weighted(home=20, remote=80))
    told["source"]["pods"] = [p for p in told["source"]["pods"] if p["metadata"]["name"] != "home-1"]
    told["proxy"]["endpoints"] = told["proxy"]["endpoints"][:1]
    stop = stop_of(told)
    assert stop.name == "peer"
    assert stop.evidence[0] == "this concerns: 20 % to home.exodemo.svc.cluster.local, cluster1"


def test_a_route_that_leaves_the_destination_out_on_purpose_is_well() -> None:
    told = healthy()
    with_home(told)
    routed(told, route=weighted(home=100))
    told["destination"]["services"] = [
        one for one in told["destination"]["services"] if one["metadata"]["name"] != "home"
    ]
    assert {step.state for step in walk(way_of(told))[:-1]} == {OK}


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ({"redirect": {"host_redirect": "nobody.exodemo:3000"}}, "301 to http://nobody.exodemo:3000/"),
        ({"redirect": {"https_redirect": True}}, "the client begins TLS itself"),
    ],
)
def test_a_redirect_that_cannot_be_followed_is_not_told_as_well(route: Recording, words: str) -> None:
    told = healthy()
    routed(told, **route)
    way = way_of(told)
    steps = walk(way)
    assert untold(steps) == ["route"]
    assert words in " ".join(lines(way, steps))
    assert "cannot be told" in lines(way, steps)[-1]
    sent_so(told, 301)
    assert untold(walk(way_of(told))) == []


def test_a_redirect_to_a_service_is_followed() -> None:
    told = healthy()
    with_home(told)
    route = {"match": {"prefix": "/"}, "route": {"cluster": HOME}}
    hosts = told["proxy"]["routes"][0]["route_config"]["virtual_hosts"]
    hosts.append({"name": "home", "domains": ["home.exodemo.svc.cluster.local"], "routes": [route]})
    routed(told, redirect={"host_redirect": "home.exodemo.svc.cluster.local:3000", "response_code": "FOUND"})
    steps = steps_of(told)
    assert {steps[name].state for name in STEPS[:-1]} == {OK}
    assert "302 to http://home.exodemo" in " ".join(steps["route"].evidence)
    assert "192.168.0.8:3000" in steps["endpoints"].told


def test_redirects_without_an_end_stop_the_way() -> None:
    told = healthy()
    routed(told, redirect={"path_redirect": "/again"})
    assert stop_of(told).told == "the redirects have no end"


def test_an_answer_of_the_sidecar_itself_is_an_answer() -> None:
    told = healthy()
    routed(told, direct_response={"status": 200})
    steps = steps_of(told)
    assert steps["route"].state == OK
    assert steps["peer"] == Step("peer", UNKNOWN, "not needed")


def test_an_injected_fault_stops_the_way() -> None:
    told = healthy()
    abort = {"http_status": 503, "percentage": {"numerator": 100}}
    fault = {"envoy.filters.http.fault": {"abort": abort}}
    routed(told, route={"cluster": REMOTE}, typed_per_filter_config=fault)
    stop = stop_of(told)
    assert (stop.name, stop.cause) == ("route", "a VirtualService injects this fault (fault.abort)")
    assert stop.next_step == "kubectl --kubeconfig kubeconfig -n exodemo get virtualservice web -o yaml"


# Causes, decided with what is at hand


def synced(told: Recording) -> None:
    told["source"]["istiods"][0]["synced"] = {"cluster2": "synced"}


def test_no_cause_contradicts_what_was_seen() -> None:
    told = healthy()
    no_endpoints(told)
    synced(told)
    stop = stop_of(told)
    assert "has cluster2 as synced" in " ".join(stop.evidence)
    assert "has not read" not in stop.cause


def test_a_gateway_that_istiod_does_not_know_is_the_cause() -> None:
    told = healthy()
    no_endpoints(told)
    synced(told)
    way = way_of(told)
    istiod = way.source.istiods[0]
    istiod.answered, istiod.gateways = True, [("network-cluster3", "198.18.0.3", 15443)]
    stop = next(step for step in walk(way) if step.state == STOP)
    assert "does not know the gateway of cluster2, only of network-cluster3" in stop.cause


def test_outlier_detection_is_no_firewall() -> None:
    told = healthy()
    ejected(told)
    stop = stop_of(told)
    assert stop.told == "outlier detection took out all endpoints"
    assert "firewall" not in stop.cause
    assert "-- pilot-agent request GET clusters" in stop.next_step


@pytest.mark.parametrize(("total", "stops"), [(3, True), (9, False)])
def test_connections_that_failed_once_do_not_stop_the_way(total: int, stops: bool) -> None:
    told = healthy()
    (host,) = told["proxy"]["statuses"][0]["host_statuses"]
    host["stats"] = [{"name": "cx_connect_fail", "value": "3"}, {"name": "cx_total", "value": str(total)}]
    assert (steps_of(told)["endpoints"].state == STOP) == stops


def test_what_hides_a_service_is_named() -> None:
    told = healthy()
    synced(told)
    told["proxy"]["listeners"] = []
    sidecar = {"metadata": {"name": "default", "namespace": "exodemo"}, "spec": {}}
    told["more"] = {"objects": {"Sidecar": [sidecar]}}
    assert stop_of(told).cause == "Sidecar exodemo/default hides the service from exodemo"
    exported = {"networking.istio.io/exportTo": "."}
    for one in told["destination"]["services"]:
        one["metadata"]["annotations"] = exported
    assert "exported to . only" in stop_of(told).cause


def test_an_unknown_service_of_the_same_cluster_is_passed_on() -> None:
    told = healthy()
    with_home(told)
    told["proxy"]["listeners"] = []
    way = way_of(told)
    filters = [{"typed_config": {"cluster": "PassthroughCluster"}}]
    catching = {"name": "virtualOutbound", "address": {}, "filter_chains": [{"filters": filters}]}
    proxy = replace(way.proxy, listeners=[{"active_state": {"listener": catching}}])
    way = replace(way, proxy=proxy, asked=False, service=Service("home", "exodemo", 3000))
    way.source.peer_authentications = []
    steps = {step.name: step for step in walk(replace(way, destination=way.source))}
    assert {steps[name].state for name in STEPS[:-1]} == {OK}
    assert "passes the connection on unchanged" in steps["listener"].told
    strict = {"metadata": {"name": "strict", "namespace": "exodemo"}, "spec": {"mtls": {"mode": "STRICT"}}}
    way.source.peer_authentications = [strict]
    stop = next(step for step in walk(replace(way, destination=way.source)) if step.state == STOP)
    assert "STRICT by exodemo/strict" in stop.evidence


def test_without_dns_capture_a_name_of_another_cluster_does_not_resolve() -> None:
    told = healthy()
    way = way_of(told)
    container = next(
        one
        for kind in ("initContainers", "containers")
        for one in way.caller["spec"].get(kind, [])
        if one["name"] == "istio-proxy"
    )
    container["env"] = [{"name": "ISTIO_META_CLUSTER_ID", "value": "cluster1"}]
    stop = next(step for step in walk(way) if step.state == STOP)
    assert (stop.name, stop.told) == ("listener", f"the pod cannot resolve {HOST}")


def test_a_service_whose_endpoints_were_made_by_hand_works() -> None:
    told = healthy()
    for one in told["destination"]["services"]:
        one["spec"].pop("selector") if one["metadata"]["name"] == "exo-webtest" else None
    assert "no usable endpoint" in stop_of(told).told
    sni = f"outbound_.3000_._.{HOST}"
    address = {"socket_address": {"address": "192.168.0.5", "port_value": 3000}}
    lb_endpoints = [{"endpoint": {"address": address}}]
    assignment = {"cluster_name": sni, "endpoints": [{"lb_endpoints": lb_endpoints}]}
    told["gateway"]["endpoints"] = [{"endpoint_config": assignment}]
    assert steps_of(told)["peer"].told == "its endpoints were made by hand: 192.168.0.5:3000"


def test_a_network_policy_before_the_pods_is_named() -> None:
    told = healthy()
    told["destination"]["network_policies"].append(
        {"metadata": {"name": "closed", "namespace": "exodemo"}, "spec": {"podSelector": {}}}
    )
    stop = stop_of(told)
    assert (stop.name, stop.cause) == ("peer", "NetworkPolicy exodemo/closed does not allow this connection")


def test_a_network_policy_around_the_caller_is_named() -> None:
    told = healthy()
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]}
    told["source"]["network_policies"].append(
        {"metadata": {"name": "inside", "namespace": "exodemo"}, "spec": spec}
    )
    stop = stop_of(told)
    assert (stop.name, "exodemo/inside" in stop.cause) == ("gateway", True)


def test_a_policy_that_refuses_the_request_is_named() -> None:
    told = healthy()
    way = way_of(told)
    denied = {
        "ns[exodemo]-policy[no]-rule[0]": {"permissions": [{"any": True}], "principals": [{"any": True}]}
    }
    rules = {"action": "DENY", "policies": denied}
    rbac = {"name": "envoy.filters.http.rbac", "typed_config": {"rules": rules}}
    manager = {"typed_config": {"@type": "x.HttpConnectionManager", "http_filters": [rbac]}}
    chain = {"filter_chain_match": {"destination_port": 3000}, "filters": [manager]}
    address = {"socket_address": {"port_value": 15006}}
    inbound = EnvoyConfig([{"active_state": {"listener": {"address": address, "filter_chains": [chain]}}}])
    pod = next(pod for pod in way.destination.pods if "webtest" in pod["metadata"]["name"])
    name = f"exodemo/{pod['metadata']['name']}"
    stop = next(s for s in walk(replace(way, inbound={("cluster2", name): inbound})) if s.state == STOP)
    assert (stop.name, stop.cause) == ("peer", "AuthorizationPolicy exodemo/no denies it")


# What could not be told, and the real request


def test_a_gateway_that_does_not_answer_is_not_told_as_well() -> None:
    told = healthy()
    way = replace(way_of(told), gateways={}, untold={"cluster2": "it hangs"})
    steps = walk(way)
    assert untold(steps) == ["gateway"]
    assert "it hangs" in " ".join(lines(way, steps))


def test_an_istiod_that_does_not_answer_is_not_told_as_well() -> None:
    way = replace(way_of(healthy()), known_to={}, untold={"istiod-1": "it hangs"})
    assert untold(walk(way)) == ["configuration"]


@pytest.mark.parametrize(
    ("istiods", "why"),
    [
        ([], "there is no pod of it"),
        ([Istiod("istiod-1", None, "condition Ready is False")], "istiod-1: condition Ready is False"),
    ],
)
def test_without_a_ready_istiod_nothing_is_told_as_well(istiods: list[Istiod], why: str) -> None:
    told = healthy()
    way = replace(way_of(told), known_to={})
    way.source.istiods = istiods
    steps = walk(way)
    assert untold(steps) == ["configuration"]
    assert f"no istiod of cluster1 is ready: {why}" in " ".join(lines(way, steps))
    assert "istio --limit cluster1" in steps[1].next_step
    no_endpoints(told)
    way = replace(way_of(told), known_to={})
    way.source.istiods = istiods
    stop = next(step for step in walk(way) if step.state == STOP)
    assert why in stop.cause


def test_pods_that_do_not_tell_their_policies_are_not_told_as_well() -> None:
    told = healthy()
    way = way_of(told)
    pod = next(pod for pod in way.destination.pods if "webtest" in pod["metadata"]["name"])
    name = f"exodemo/{pod['metadata']['name']}"
    way = replace(way, inbound={}, silent={("cluster2", name): "it hangs"})
    steps = walk(way)
    assert untold(steps) == ["peer"]
    assert "it hangs" in steps[-2].evidence
    assert "cannot be told: see peer" in lines(way, steps)[-1]
    assert "was not asked" in walk(replace(way, silent={}))[-2].evidence[0]
    assert untold(walk(replace(way, sent=Sent(200, why_not="")))) == []


def test_why_a_pod_does_not_tell_its_policies_is_kept() -> None:
    class Hanging:
        name = "cluster2"

        def get_from_pod(self, *_arguments: object) -> str:
            raise ExomeshError("it hangs", "x")

    way = way_of(healthy())
    way.destination.client = cast(KubernetesClient, Hanging())
    silent: dict[tuple[str, str], str] = {}
    pod = {"metadata": {"name": "web-1", "namespace": "shop"}}
    assert _inbound(silent, way.destination, pod) is None
    assert silent == {("cluster2", "shop/web-1"): "it hangs."}


def test_a_request_that_agrees_is_told() -> None:
    told = healthy()
    sent_so(told, 200)
    way = way_of(told)
    steps = walk(way)
    assert steps[-1].state == OK
    assert agrees(way, steps)
    assert "Every step is well. Not looked at:" in lines(way, steps)


def test_a_request_that_fails_on_a_good_way_stops_it() -> None:
    told = healthy()
    sent_so(told, 503, "upstream connect error")
    way = way_of(told)
    steps = walk(way)
    assert (steps[-1].state, agrees(way, steps)) == (STOP, False)
    assert "disagrees with the steps above" in steps[-1].told
    assert steps[-1].evidence == ("upstream connect error",)


@pytest.mark.parametrize(("status", "upstream"), [(403, True), (404, False), (503, False)])
def test_an_error_that_anybody_may_have_made_proves_nothing(status: int, upstream: bool) -> None:
    told = healthy()
    told["more"] = {"sent": Sent(status, "", upstream, why_not="")}
    way = way_of(told)
    steps = walk(way)
    assert untold(steps) == ["request"]
    assert agrees(way, steps) is None
    assert "Whether the request arrives cannot be told: see request." in lines(way, steps)


def test_an_error_that_the_sidecar_should_answer_is_well() -> None:
    told = healthy()
    routed(told, direct_response={"status": 404})
    sent_so(told, 404)
    assert steps_of(told)["request"].state == OK


@pytest.mark.parametrize(("status", "state", "agreed"), [(503, FOLLOWS, True), (200, OK, False)])
def test_a_request_is_compared_with_a_stop(status: int, state: str, agreed: bool) -> None:
    told = healthy()
    no_certificate(told)
    sent_so(told, status)
    way = way_of(told)
    steps = walk(way)
    assert (steps[-1].state, agrees(way, steps)) == (state, agreed)


def test_a_request_that_another_cluster_answers_does_not_disagree() -> None:
    told = healthy()
    copied = copy.deepcopy(told["proxy"]["endpoints"][0])
    (entry,) = copied["endpoint_config"]["endpoints"]
    entry["lb_endpoints"][0]["metadata"]["filter_metadata"]["istio"]["workload"] = "w;exodemo;w;v;cluster1"
    entry["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] = "192.168.0.9"
    told["proxy"]["endpoints"] = [copied]
    sent_so(told, 200)
    way = way_of(told)
    steps = walk(way)
    assert "endpoint in cluster2" in next(step for step in steps if step.state == STOP).told
    assert "from cluster1 and not from cluster2" in steps[-1].told
    assert agrees(way, steps)


def deployment(replicas: int = 1, app: str = "exo-webtest", **status: Any) -> Recording:
    template = {"metadata": {"labels": {"app": app, "version": "v2"}}}
    return {
        "kind": "Deployment",
        "metadata": {"name": "exo-webtest", "namespace": "exodemo"},
        "spec": {"replicas": replicas, "template": template},
        "status": status,
    }


FULL = {"conditions": [{"type": "ReplicaFailure", "message": "exceeded quota: small"}]}


@pytest.mark.parametrize(
    ("workloads", "cause"),
    [
        (None, "its workload is scaled to 0, is not there, or has other labels"),
        ([], "no Deployment or StatefulSet of the namespace has the labels that the Service selects"),
        ([deployment(app="other")], "no Deployment or StatefulSet of the namespace has the labels"),
        ([deployment(0)], "Deployment exodemo/exo-webtest is scaled to 0"),
        ([deployment(**FULL)], "Deployment exodemo/exo-webtest makes no pods: exceeded quota: small"),
    ],
)
def test_why_a_service_has_no_pods_is_decided(workloads: list[Recording] | None, cause: str) -> None:
    way = way_of(broken("pods scaled to 0"))
    way = replace(way, workloads={} if workloads is None else {"cluster2": workloads})
    stop = next(step for step in walk(way) if step.state == STOP)
    assert stop.cause.startswith(cause)


def test_a_gateway_that_never_gets_ready_because_it_rejects_is_told_so() -> None:
    told = healthy()
    gateway_down(told)
    way = way_of(told)
    refused = {"0.0.0.0_15443": "filter chain has the same matching rules"}
    way.destination.proxies = [Proxy("istio-system/gw-1", True, (), (), rejected=refused)]
    other = copy.deepcopy(way.destination.gateways[0])
    other["metadata"]["name"] = "second"
    way.destination.gateways.append(other)
    stop = next(step for step in walk(way) if step.state == STOP)
    assert "same matching rules" in " ".join(stop.evidence)
    assert "more than one Gateway has port 15443" in stop.cause
    assert "second" in stop.cause


def test_a_policy_of_the_source_that_hides_the_endpoints_is_the_cause() -> None:
    told = healthy()
    no_endpoints(told)
    synced(told)
    plain = {"metadata": {"name": "plain", "namespace": "exodemo"}, "spec": {"mtls": {"mode": "DISABLE"}}}
    told["source"]["peer_authentications"] = [plain]
    assert "PeerAuthentication exodemo/plain of cluster1 switches mutual TLS off" in stop_of(told).cause


def test_a_service_that_is_kept_in_its_cluster_is_told_so() -> None:
    told = healthy()
    no_endpoints(told)
    synced(told)
    way = way_of(told)
    local = {"settings": {"clusterLocal": True}, "hosts": ["*.exodemo.svc.cluster.local"]}
    way.source.mesh_config = {"serviceSettings": [local]}
    assert "clusterLocal" in next(step for step in walk(way) if step.state == STOP).cause


@pytest.mark.parametrize(
    "settings",
    [
        {"a": 1},
        ["x"],
        [
            {"settings": {"clusterLocal": True}, "hosts": ["*.exodemo.svc.cluster.local"]},
            {"settings": {"clusterLocal": False}, "hosts": [HOST]},
        ],
    ],
)
def test_a_service_that_is_not_kept_in_its_cluster_is_not_told_so(settings: object) -> None:
    told = healthy()
    no_endpoints(told)
    synced(told)
    way = way_of(told)
    way.source.mesh_config = {"serviceSettings": settings}
    assert "clusterLocal" not in next(step for step in walk(way) if step.state == STOP).cause


def test_a_policy_of_the_destination_is_shown_there() -> None:
    told = healthy()
    for entry in told["proxy"]["clusters"]:
        if entry["cluster"]["name"] == REMOTE:
            for part in ("transport_socket", "transport_socket_matches", "metadata"):
                entry["cluster"].pop(part, None)
    way = way_of(told)
    strict = {"metadata": {"name": "strict", "namespace": "exodemo"}, "spec": {"mtls": {"mode": "STRICT"}}}
    way.destination.peer_authentications = [strict]
    way.destination.member = replace(way.destination.member, kubeconfig="of-cluster2")
    stop = next(step for step in walk(way) if step.state == STOP)
    assert stop.next_step.startswith("kubectl --kubeconfig of-cluster2 -n exodemo get peerauthentication")


NOT_SWITCHED_OFF = {
    "matchExpressions": [{"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}]
}


def injector(**selector: Any) -> Recording:
    return {"namespaceSelector": selector, "objectSelector": NOT_SWITCHED_OFF}


ENABLED = injector(matchExpressions=[{"key": "istio-injection", "operator": "In", "values": ["enabled"]}])
OF_REVISION = injector(
    matchExpressions=[
        {"key": "istio.io/rev", "operator": "In", "values": ["1-30"]},
        {"key": "istio-injection", "operator": "DoesNotExist"},
    ]
)
LABEL = "kubectl --kubeconfig kubeconfig label namespace exodemo"
RESTART = "kubectl --kubeconfig kubeconfig -n exodemo rollout restart deployment/exo-webtest"


@pytest.mark.parametrize(
    ("injectors", "labels", "next_step"),
    [
        (None, {}, f"{LABEL} istio-injection=enabled --overwrite && {RESTART}"),
        ([ENABLED], {}, f"{LABEL} istio-injection=enabled --overwrite && {RESTART}"),
        (
            [ENABLED],
            {"istio-injection": "disabled"},
            f"{LABEL} istio-injection=enabled --overwrite && {RESTART}",
        ),
        ([ENABLED], {"istio-injection": "enabled"}, RESTART),
        ([OF_REVISION], {}, f"{LABEL} istio.io/rev=1-30 --overwrite && {RESTART}"),
        (
            [OF_REVISION],
            {"istio-injection": "enabled"},
            f"{LABEL} istio.io/rev=1-30 istio-injection- --overwrite && {RESTART}",
        ),
        ([OF_REVISION], {"istio.io/rev": "1-30"}, RESTART),
        (
            [],
            {"istio-injection": "enabled"},
            "kubectl --kubeconfig kubeconfig get mutatingwebhookconfigurations -o yaml",
        ),
    ],
)
def test_pods_get_sidecars_by_the_label_that_their_cluster_knows(
    injectors: list[Recording] | None, labels: dict[str, str], next_step: str
) -> None:
    told = healthy()
    no_sidecar_there(told)
    way = way_of(told)
    way.destination.injectors = injectors
    way.destination.namespaces = [{"metadata": {"name": "exodemo", "labels": labels}}]
    stop = next(step for step in walk(way) if step.state == STOP)
    assert (stop.name, stop.next_step) == ("peer", next_step)


def test_only_the_workload_of_the_pod_is_restarted() -> None:
    way = way_of(healthy())
    owner = {"kind": "StatefulSet", "name": "db", "controller": True}
    way.caller["metadata"]["ownerReferences"] = [owner]
    another = way.proxy.certificate_chain()[0]
    way.destination.running_roots = way.source.running_roots = (another,)
    stop = next(step for step in walk(way) if step.state == STOP)
    assert stop.cause == "the pod runs since before the root was changed"
    assert stop.next_step == "kubectl --kubeconfig kubeconfig -n exodemo rollout restart statefulset/db"
    way.caller["metadata"]["ownerReferences"] = []
    stop = next(step for step in walk(way) if step.state == STOP)
    assert f"get pods {way.pod_name} -o yaml  # nothing makes them again" in stop.next_step


def test_a_request_of_another_share_does_not_disagree() -> None:
    told = healthy()
    abort = {"http_status": 503, "percentage": {"numerator": 30}}
    fault = {"envoy.filters.http.fault": {"abort": abort}}
    routed(told, route={"cluster": REMOTE}, typed_per_filter_config=fault)
    sent_so(told, 200)
    way = way_of(told)
    steps = walk(way)
    assert steps[3].share == 30
    assert agrees(way, steps)
    assert "does not concern" in steps[-1].told
