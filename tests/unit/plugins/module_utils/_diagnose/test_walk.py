"""Each step of the way of a request, judged on what real proxies, istiods and clusters said.

`recorded/diagnose.json` is from two clusters of the lab: a way that is well, and what differed with faults.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.envoy import EnvoyConfig
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.look import (
    choose_destination,
    find_pod,
    find_service,
)
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.walk import STEPS, not_taken, walk
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.way import (
    FOLLOWS,
    OK,
    STOP,
    UNKNOWN,
    Service,
    Step,
    Way,
    lines,
)
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import read_chain
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import ClusterState, Istiod

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


def way_of(told: Recording) -> Way:
    return Way(
        SERVICE,
        state("cluster1", told["source"]),
        state("cluster2", told["destination"]),
        told["pod"],
        EnvoyConfig(**told["proxy"]),
        asked=True,
        known_to=told["known_to"],
        gateways={"cluster2": EnvoyConfig(**told["gateway"])},
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
    local = Way(
        SERVICE, way.destination, way.destination, way.pod, way.proxy, known_to=way.known_to, now=way.now
    )
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
