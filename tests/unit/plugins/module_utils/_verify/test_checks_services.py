# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of Services that several clusters have, and what is not: shapes that work, or are meant so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._verify.checks_services import services_of_mesh
from ansible_collections.exomesh.istio.plugins.module_utils._verify.findings import (
    ERROR,
    UNKNOWN,
    WARNING,
    Finding,
)
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import (
    ClusterState,
    Istiod,
    MeshState,
)

Object = dict[str, Any]
NAMES = ("vie", "fra", "gva")
HTTP: Object = {"name": "http", "port": 80, "targetPort": 8080}
UNREADY = "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS"


def named(kind: str, name: str, namespace: str, spec: Object, **metadata: Any) -> Object:
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": spec}


def service(name: str = "web", namespace: str = "shop", **spec: Any) -> Object:
    usual = {"clusterIP": "10.96.0.7", "selector": {"app": name}, "ports": [dict(HTTP)]}
    return named("Service", name, namespace, {**usual, **spec})


def pod(
    name: str = "web", namespace: str = "shop", sidecar: bool = True, ready: bool = True, **labels: str
) -> Object:
    proxy = [{"name": "istio-proxy"}] if sidecar else []
    made = named("Pod", f"{name}-1", namespace, {"initContainers": proxy, "containers": [{"name": "app"}]})
    made["metadata"]["labels"] = {"app": name, **labels}
    conditions = [{"type": "Ready", "status": str(ready)}]
    made["status"] = {"phase": "Running", "podIP": "192.168.0.7", "conditions": conditions}
    return made


def istiod(**environment: str) -> Object:
    made = pod("istiod", "istio-system", sidecar=False)
    env = [{"name": key, "value": value} for key, value in environment.items()]
    made["spec"]["containers"] = [{"name": "discovery", "env": env}]
    return made


def expose(*hosts: str) -> Object:
    server = {"port": {"number": 15443}, "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": list(hosts)}
    return named("Gateway", "expose", "istio-system", {"servers": [server]})


def cluster(name: str, members: tuple[str, ...]) -> ClusterState:
    labels = {"istio-injection": "enabled"}
    return ClusterState(
        Member(name, f"network-{name}", "none", None, tuple(other for other in members if other != name)),
        client=KubernetesClient.__new__(KubernetesClient),
        istiods=[Istiod("istiod-1", "1.31.1", None)],
        namespaces=[{"metadata": {"name": "shop", "labels": labels}}, {"metadata": {"name": "data"}}],
        pods=[istiod(**{UNREADY: "false"}), pod()],
        services=[service()],
        gateways=[expose("*.local")],
    )


Mesh = dict[str, ClusterState]
Change = Callable[[Mesh], object]


def mesh_of(*names: str) -> Mesh:
    return {name: cluster(name, names) for name in names}


def look(clusters: Mesh) -> list[Finding]:
    return list(services_of_mesh(MeshState(clusters, [], datetime.now(UTC), full=False)))


def found(change: Change, clusters: Mesh | None = None) -> dict[tuple[str, str | None], list[str]]:
    clusters = clusters or mesh_of("vie", "fra")
    change(clusters)
    told: dict[tuple[str, str | None], list[str]] = {}
    for finding in look(clusters):
        told.setdefault((finding.kind.code, finding.cluster), []).extend(finding.evidence)
    return told


def severities(change: Change, clusters: Mesh | None = None) -> set[tuple[str, str]]:
    clusters = clusters or mesh_of("vie", "fra")
    change(clusters)
    return {(finding.kind.code, finding.severity) for finding in look(clusters)}


def routes(name: str = "web", subsets: tuple[str, ...] = (), **spec: Any) -> Object:
    destinations = [{"destination": {"host": name, "subset": subset}, "weight": 50} for subset in subsets]
    plain = [{"destination": {"host": name}}]
    return named(
        "VirtualService", name, "shop", {"hosts": [name], "http": [{"route": destinations or plain}], **spec}
    )


def subsets(name: str = "web", **spec: Any) -> Object:
    made = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    return named("DestinationRule", name, "shop", {"host": name, "subsets": made, **spec})


def both(change: Callable[[ClusterState], object]) -> Change:
    return lambda mesh: [change(state) for state in mesh.values()]


def put(name: str, *services: Object) -> Change:
    return lambda mesh: setattr(mesh[name], "services", list(services))


def pods(name: str, *pods_there: Object) -> Change:
    return lambda mesh: mesh[name].pods.__setitem__(slice(1, None), pods_there)


def all_of(*changes: Change) -> Change:
    return lambda mesh: [change(mesh) for change in changes]


def canary(state: ClusterState) -> None:
    """Version 2 runs in one cluster only; both have the rules."""
    state.virtual_services = [routes(subsets=("v1", "v2"))]
    state.destination_rules = [subsets()]
    state.pods[1]["metadata"]["labels"]["version"] = "v1"
    if state.name == "fra":
        state.pods.append(pod(version="v2"))


def cluster_local(state: ClusterState) -> None:
    hosts = {"hosts": ["*.shop.svc.cluster.local"], "settings": {"clusterLocal": True}}
    state.mesh_config = {"serviceSettings": [hosts]}


def port(**changes: Any) -> Object:
    return service(ports=[{**HTTP, **changes}])


def entry(host: str, **spec: Any) -> Object:
    usual = {"hosts": [host], "location": "MESH_INTERNAL", "workloadSelector": {"labels": {"app": "web"}}}
    return named("ServiceEntry", "api", "shop", {**usual, **spec})


def exported_to(*namespaces: str) -> Object:
    return {"networking.istio.io/exportTo": ",".join(namespaces)}


def on_node(made: Object) -> Object:
    made["spec"]["hostNetwork"] = True
    return made


def evicted(gone: Object) -> Object:
    gone["metadata"]["name"] += "-old"
    gone["status"] = {"phase": "Failed", "reason": "Evicted"}
    return gone


def weighted(subset: str, weight: Object) -> Object:
    """A route to a host, and with another weight to one of its subsets."""
    return {
        "route": [
            {"destination": {"host": "web"}, "weight": 100},
            {"destination": {"host": "web", "subset": subset}, **weight},
        ]
    }


def in_root_namespace(state: ClusterState) -> None:
    (rule,) = state.destination_rules
    rule["metadata"]["namespace"] = "istio-system"
    rule["spec"].update(exportTo=["."], host="web.shop.svc.cluster.local")


WELL: dict[str, Change] = {
    "the same everywhere": lambda mesh: None,
    "canary in one cluster": both(canary),
    "a port more for monitoring": put(
        "fra", service(ports=[dict(HTTP), {"name": "http-metrics", "port": 9090}])
    ),
    "UDP, which never crosses": lambda mesh: [
        put(name, service(ports=[dict(HTTP), {"name": "stats", "port": number, "protocol": "UDP"}]))(mesh)
        for name, number in (("vie", 8125), ("fra", 9125))
    ],
    "another port of the pods": put("fra", port(targetPort="web")),
    "protocol named in one, found out in the other": put("fra", port(appProtocol="http")),
    "services of a cluster": both(
        lambda state: state.services.extend(
            service(name, namespace, ports=[{"port": 1 + len(state.name + state.member.peers[0][:1])}])
            for name, namespace in (
                ("kubernetes", "default"),
                ("kube-dns", "kube-system"),
                ("istiod", "istio-system"),
            )
        )
    ),
    "headless, each with pods of its own": both(
        lambda state: state.services.append(service(clusterIP="None"))
    ),
    "headless in one cluster": lambda mesh: [
        mesh["vie"].services.append(service("db", clusterIP="None")),
        mesh["vie"].pods.append(pod("db")),
    ],
    "only a name where the pods are not": all_of(
        put("fra", {**service(), "spec": {"ports": [HTTP]}}), pods("fra")
    ),
    "headless and published before it is ready": both(
        lambda state: [
            state.services.append(service("db", clusterIP="None", publishNotReadyAddresses=True)),
            state.pods.append(pod("db", ready=state.name == "vie")),
        ]
    ),
    "scaled to 0": pods("fra"),
    "not ready, and not sent": pods("fra", pod(ready=False)),
    "not ready, and HTTP": all_of(
        pods("fra", pod(ready=False)),
        both(lambda state: state.pods.__setitem__(0, istiod(**{UNREADY: "true"}))),
    ),
    "nothing ready anywhere": all_of(pods("fra", pod(ready=False)), pods("vie", pod(ready=False))),
    "one of two ready": lambda mesh: [
        mesh["fra"].pods.append(pod(ready=False)),
        *(state.pods.__setitem__(0, istiod(**{UNREADY: "true"})) for state in mesh.values()),
    ],
    "without sidecars everywhere": all_of(
        pods("fra", pod(sidecar=False)), pods("vie", pod(sidecar=False)), put("fra", port(name="web"))
    ),
    "kept apart": all_of(both(cluster_local), put("fra", port(port=81))),
    "kept apart, of other kinds and with other routes": all_of(
        both(cluster_local),
        put("fra", service(clusterIP="None")),
        lambda mesh: mesh["vie"].virtual_services.append(routes()),
    ),
    "exported to nobody": put(
        "fra",
        {
            **port(port=81),
            "metadata": {
                "name": "web",
                "namespace": "shop",
                "annotations": {"networking.istio.io/exportTo": "~"},
            },
        },
    ),
    "routes of an ingress gateway": lambda mesh: mesh["vie"].virtual_services.append(
        routes(gateways=["shop/ingress"])
    ),
    "exported to nobody in particular": both(
        lambda state: state.services[0]["metadata"].update(annotations=exported_to(""))
    ),
    "an istiod that does not run yet": both(lambda state: state.pods[0].update(status={"phase": "Pending"})),
    "pods on the network of their nodes": lambda mesh: [
        *(state.services.append(service("db", "data")) for state in mesh.values()),
        mesh["vie"].pods.append(pod("db", "data")),
        mesh["fra"].pods.append(on_node(pod("db", "data", sidecar=False))),
    ],
    "an istiod that was evicted": both(lambda state: state.pods.append(evicted(istiod()))),
    "subset without a weight": lambda mesh: [
        both(lambda state: state.virtual_services.append(routes(http=[weighted("v2", {})])))(mesh),
        mesh["vie"].destination_rules.append(subsets()),
        mesh["fra"].pods.append(pod(version="v2")),
    ],
    "rules of Istio's namespace for itself": both(lambda state: [canary(state), in_root_namespace(state)]),
    "routes of a namespace by default": lambda mesh: [
        mesh["vie"].virtual_services.append(routes()),
        mesh["vie"].mesh_config.update(defaultVirtualServiceExportTo=["."]),
    ],
    "routes of one namespace": lambda mesh: mesh["vie"].virtual_services.append(routes(exportTo=["."])),
    "the same routes with full names": lambda mesh: [
        setattr(mesh["vie"], "virtual_services", [routes()]),
        setattr(
            mesh["fra"],
            "virtual_services",
            [
                routes(
                    hosts=["web.shop.svc.cluster.local"],
                    http=[{"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}],
                )
            ],
        ),
    ],
    "subsets that nobody uses": lambda mesh: mesh["vie"].destination_rules.append(subsets()),
    "subset with weight 0": lambda mesh: [
        both(lambda state: state.virtual_services.append(routes(http=[weighted("v2", {"weight": 0})])))(mesh),
        mesh["vie"].destination_rules.append(subsets()),
    ],
    "ports of an ingress gateway": all_of(
        *(pods(name, {**pod(), "spec": {"containers": [{"name": "istio-proxy"}]}}) for name in NAMES[:2]),
        put("fra", port(port=8080)),
    ),
    "hosts outside of the mesh": lambda mesh: mesh["vie"].service_entries.append(
        entry("api.example.com", location="MESH_EXTERNAL")
    ),
    "a host of both that gateways expose": both(
        lambda state: state.service_entries.append(entry("api.mesh.local"))
    ),
    "a host whose pods are here": all_of(
        pods("fra"), lambda mesh: mesh["vie"].service_entries.append(entry("api.shop.example"))
    ),
}


@pytest.mark.parametrize("change", WELL.values(), ids=WELL.keys())
def test_what_works_or_is_meant_so_is_no_finding(change: Change) -> None:
    assert found(change) == {}


def tcp(state: ClusterState) -> None:
    state.services = [service(ports=[{"name": "tcp", "port": 80}])]


def unready_there(mesh: Mesh) -> None:
    both(tcp)(mesh)
    pods("fra", pod(ready=False))(mesh)
    both(lambda state: state.pods.__setitem__(0, istiod(**{UNREADY: "true"})))(mesh)


def of_one_cluster(name: str, subsets_there: bool = True) -> Change:
    """Routes to subsets that only one cluster has, and pods of version 2 that only the other has."""

    def change(mesh: Mesh) -> None:
        mesh["fra"].pods[1]["metadata"]["labels"]["version"] = "v2"
        mesh[name].virtual_services = [routes(subsets=("v1", "v2"))]
        for state in mesh.values() if subsets_there else [mesh[name]]:
            state.destination_rules = [subsets()]

    return change


FAULTS: dict[str, tuple[Change, dict[tuple[str, str], str]]] = {
    "port named differently": (
        put("fra", port(name="web")),
        {("service-port-name-differs", "fra"): "Service shop/web: port 80 is named http in vie, web in fra"},
    ),
    "port without a name": (
        put("vie", service(ports=[{"port": 80}])),
        {
            (
                "service-port-name-differs",
                "fra",
            ): "Service shop/web: port 80 is named (nothing) in vie, http in fra"
        },
    ),
    "only a name, with a port that the pods elsewhere do not have": (
        all_of(put("fra", {**service(), "spec": {"ports": [{**HTTP, "name": "web"}]}}), pods("fra")),
        {("service-port-name-differs", "fra"): "Service shop/web: port 80 is named http in vie, web in fra"},
    ),
    "no port in common": (
        put("fra", port(name="web", port=8080)),
        {("service-port-name-differs", "fra"): "Service shop/web: port 80 is named http in vie, web in fra"},
    ),
    "other number": (
        put("fra", port(port=81)),
        {("service-port-number-differs", "fra"): "Service shop/web: port http is 80 in vie, 81 in fra"},
    ),
    "other protocol": (
        put("fra", port(appProtocol="tcp")),
        {("service-protocol-differs", "fra"): "Service shop/web: port 80 is HTTP in vie, TCP in fra"},
    ),
    "headless in one": (
        put("vie", service(clusterIP="None")),
        {
            (
                "service-shape-differs",
                "vie",
            ): "Service shop/web: headless; with an address, for pods in fra"
        },
    ),
    "alias in one": (
        put("fra", {**service(), "spec": {"type": "ExternalName", "externalName": "db.example.com"}}),
        {
            (
                "service-shape-differs",
                "fra",
            ): "Service shop/web: an ExternalName for db.example.com; with an address, for pods in vie"
        },
    ),
    "addresses by hand in one": (
        all_of(
            put("fra", {**service(), "spec": {"ports": [HTTP]}}),
            lambda mesh: mesh["fra"].given_addresses.add("shop/web"),
        ),
        {
            (
                "service-shape-differs",
                "fra",
            ): "Service shop/web: without a selector, with addresses given by hand; with an address, for "
            "pods in vie"
        },
    ),
    "headless, with pods elsewhere": (
        all_of(both(lambda state: setattr(state, "services", [service(clusterIP="None")])), pods("fra")),
        {
            (
                "headless-service",
                "vie",
            ): "Service shop/web: fra has no pods of its own for it, so its callers have none"
        },
    ),
    "nothing ready there, and sent": (
        unready_there,
        {
            (
                "unready-pods-called",
                "fra",
            ): "Service shop/web: none of 1 pods is ready, and vie sends requests there"
        },
    ),
    "hidden from the gateway": (
        lambda mesh: mesh["fra"].services[0]["metadata"].update(annotations=exported_to(".")),
        {
            (
                "host-not-exposed",
                "fra",
            ): "Service shop/web: vie sends requests there, and its exportTo hides it from the gateway"
        },
    ),
    "hidden by default": (
        lambda mesh: mesh["fra"].mesh_config.update(defaultServiceExportTo=["."]),
        {
            (
                "host-not-exposed",
                "fra",
            ): "Service shop/web: vie sends requests there, and its exportTo hides it from the gateway"
        },
    ),
    "istiod as Istio delivers it": (
        lambda mesh: mesh["fra"].pods.__setitem__(0, istiod()),
        {("unready-pods-sent", "fra"): f"Istio 1.31.1 without {UNREADY}"},
    ),
    "no sidecars in one": (
        all_of(
            lambda mesh: [state.services.append(service("db", "data")) for state in mesh.values()],
            lambda mesh: mesh["vie"].pods.append(pod("db", "data")),
            lambda mesh: mesh["fra"].pods.append(pod("db", "data", sidecar=False)),
        ),
        {
            (
                "service-not-injected",
                "fra",
            ): "Service data/db: pods without sidecar: 1; with it in vie: 1"
        },
    ),
    "routes in one cluster only": (
        lambda mesh: mesh["vie"].virtual_services.append(routes()),
        {("routes-differ", "fra"): "Service shop/web: VirtualService shop/web is only in vie"},
    ),
    "other routes": (
        lambda mesh: [
            mesh["vie"].virtual_services.append(routes()),
            mesh["fra"].virtual_services.append(routes(http=[{"timeout": "1s"}])),
        ],
        {
            (
                "routes-differ",
                "fra",
            ): "Service shop/web: VirtualService shop/web in fra differs from VirtualService shop/web in vie"
        },
    ),
    "subset of a rule that the peer lacks": (
        of_one_cluster("vie", subsets_there=False),
        {
            (
                "subset-unknown-to-peer",
                "fra",
            ): "Service shop/web: VirtualService shop/web in vie sends requests to subset v2",
            ("routes-differ", "fra"): "Service shop/web: VirtualService shop/web is only in vie",
        },
    ),
    "subset that the gateway does not see": (
        all_of(
            both(canary),
            lambda mesh: mesh["fra"].destination_rules[0]["spec"].update(exportTo=["."]),
        ),
        {
            (
                "subset-unknown-to-peer",
                "fra",
            ): "Service shop/web: VirtualService shop/web in vie sends requests to subset v1"
        },
    ),
    "pods without the labels of any subset": (
        all_of(both(canary), pods("fra", pod(release="v2"))),
        {
            (
                "subset-without-pods",
                "fra",
            ): "Service shop/web: VirtualService shop/web in vie sends requests to subset v1"
        },
    ),
    "gateway that exposes less": (
        lambda mesh: mesh["fra"].gateways.__setitem__(0, expose("*.data.svc.cluster.local")),
        {
            (
                "host-not-exposed",
                "fra",
            ): "Service shop/web: vie sends requests there, and the gateway exposes only "
            "*.data.svc.cluster.local"
        },
    ),
    "own domain that is not exposed": (
        lambda mesh: mesh["vie"].service_entries.append(entry("api.shop.example")),
        {
            (
                "host-not-exposed",
                "fra",
            ): "ServiceEntry shop/api of vie: the gateway exposes *.local, and not api.shop.example"
        },
    ),
    "own domain on the peer's network": (
        lambda mesh: mesh["vie"].service_entries.append(
            entry("api.example", workloadSelector=None, endpoints=[{"network": "network-fra"}])
        ),
        {
            (
                "host-not-exposed",
                "fra",
            ): "ServiceEntry shop/api of vie: the gateway exposes *.local, and not api.example"
        },
    ),
    "own domain that only one istiod knows": (
        lambda mesh: mesh["vie"].service_entries.append(entry("api.mesh.local")),
        {
            (
                "host-not-exposed",
                "fra",
            ): "ServiceEntry shop/api of vie: no ServiceEntry of fra has api.mesh.local, so the gateway does "
            "not know it"
        },
    ),
}


@pytest.mark.parametrize(("change", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found_in_its_cluster_with_its_service(
    change: Change, expected: dict[tuple[str, str], str]
) -> None:
    told = found(change)
    assert {place: lines[0] for place, lines in told.items()} == expected


def test_of_three_clusters_the_odd_one_is_named() -> None:
    told = found(put("vie", service(clusterIP="None")), mesh_of(*NAMES))
    assert set(told) == {("service-shape-differs", "vie")}
    for name in NAMES:
        told = found(put(name, port(port=81)), mesh_of(*NAMES))
        assert set(told) == {("service-port-number-differs", name)}
    told = found(lambda mesh: mesh["gva"].virtual_services.append(routes()), mesh_of(*NAMES))
    assert set(told) == {("routes-differ", "vie"), ("routes-differ", "fra")}


def test_of_three_clusters_all_that_hide_something_are_named() -> None:
    told = found(lambda mesh: [hide(mesh[name]) for name in ("vie", "gva")], mesh_of(*NAMES))
    assert set(told) == {("host-not-exposed", "vie"), ("host-not-exposed", "gva")}

    def bare(mesh: Mesh) -> None:
        for name, state in mesh.items():
            state.services.append(service("db", "data"))
            state.pods.append(pod("db", "data", sidecar=name == "fra"))

    assert set(found(bare, mesh_of(*NAMES))) == {
        ("service-not-injected", "vie"),
        ("service-not-injected", "gva"),
    }


def test_a_subset_of_a_service_that_only_the_peer_has() -> None:
    change = all_of(
        of_one_cluster("vie", subsets_there=False), lambda mesh: mesh["vie"].services.clear(), pods("vie")
    )
    assert set(found(change)) == {("subset-unknown-to-peer", "fra")}


def test_clusters_that_are_not_peers_are_not_compared() -> None:
    apart = {name: cluster(name, (name,)) for name in NAMES}
    assert found(put("fra", port(port=81)), apart) == {}


@pytest.mark.parametrize(
    ("environment", "service_spec", "rule", "sent"),
    [
        ({UNREADY: "false"}, {}, None, False),
        ({UNREADY: "true"}, {"publishNotReadyAddresses": True}, None, False),
        ({UNREADY: "true"}, {"trafficDistribution": "PreferClose"}, None, True),
        ({UNREADY: "false", "PILOT_SEND_UNHEALTHY_ENDPOINTS": "true"}, {}, None, True),
        ({UNREADY: "true"}, {}, {"outlierDetection": {"minHealthPercent": 50}}, False),
        ({UNREADY: "1"}, {}, {"outlierDetection": {}}, True),
    ],
)
def test_whether_unready_pods_are_sent(
    environment: dict[str, str], service_spec: Object, rule: Object | None, sent: bool
) -> None:
    def change(mesh: Mesh) -> None:
        pods("fra", pod(ready=False))(mesh)
        mesh["vie"].pods[0] = istiod(**environment)
        for state in mesh.values():
            state.services = [service(ports=[{"name": "tcp", "port": 80}], **service_spec)]
        if rule:
            spec = {"host": "web", "trafficPolicy": rule}
            mesh["vie"].destination_rules = [named("DestinationRule", "web", "shop", spec)]

    assert ("unready-pods-called", "fra") in found(change) or not sent
    assert set(found(change)) == ({("unready-pods-called", "fra")} if sent else set())


def test_older_istio_sends_nothing_unready() -> None:
    def change(mesh: Mesh) -> None:
        pods("fra", pod(ready=False))(mesh)
        for state in mesh.values():
            state.istiods[0].version = "1.30.7"
            state.pods[0] = istiod()

    assert found(change) == {}


def of_unknown_version(state: ClusterState) -> None:
    state.istiods[0].version = None
    state.pods[0] = istiod()


def test_an_istiod_of_an_unknown_version_is_not_taken_for_one_that_sends_nothing() -> None:
    change = all_of(unready_there, both(of_unknown_version))
    assert set(found(change)) == {("not-told", "fra"), ("not-told", "vie")}
    assert severities(change) == {("not-told", UNKNOWN), ("not-told", WARNING)}
    lines = found(change)["not-told", "fra"]
    assert lines[0].endswith("whether vie sends requests there cannot be told: its istiod has no version")


def test_an_istiod_of_an_unknown_version_is_a_warning_where_all_is_ready() -> None:
    assert severities(both(of_unknown_version)) == {("not-told", WARNING)}
    (line,) = found(both(of_unknown_version))["not-told", "vie"]
    assert line.startswith(f"istiod has no version, and no {UNREADY}")


def test_the_command_names_the_namespace_that_is_not_injected() -> None:
    mesh = mesh_of("vie", "fra")
    for name, state in mesh.items():
        state.services.append(service("db", "data"))
        state.pods.append(pod("db", "data", sidecar=name == "vie"))
    (finding,) = look(mesh)
    assert finding.next_step({}).startswith("kubectl label namespace data istio-injection=enabled, in fra")


def test_an_exception_from_a_cluster_local_rule_counts() -> None:
    def change(mesh: Mesh) -> None:
        both(cluster_local)(mesh)
        exception = {"hosts": ["web.shop.svc.cluster.local"], "settings": {"clusterLocal": False}}
        mesh["vie"].mesh_config["serviceSettings"].append(exception)
        put("fra", port(port=81))(mesh)

    assert set(found(change)) == {("service-port-number-differs", "fra")}


def test_all_of_many_services_are_compared() -> None:
    def change(mesh: Mesh) -> None:
        names = [f"web-{number}" for number in range(1001)]
        for state in mesh.values():
            state.services = [service(name) for name in names]
            state.pods += [pod(name) for name in names]

    assert found(change) == {}
    last = lambda mesh: mesh["fra"].services[-1]["spec"]["ports"][0].update(name="web")  # noqa: E731
    assert set(found(all_of(change, last))) == {("service-port-name-differs", "fra")}


def test_the_pods_of_a_cluster_are_gone_through_as_often_for_many_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []
    seen = ClusterState.istiod_pods.fget
    monkeypatch.setattr(ClusterState, "istiod_pods", property(lambda s: looks.append(s.name) or seen(s)))

    def looks_for(number: int) -> int:
        mesh = mesh_of("vie", "fra")
        names = [f"web-{each}" for each in range(number)]
        for state in mesh.values():
            state.services = [service(name, ports=[{"name": "tcp", "port": 80}]) for name in names]
            state.pods += [pod(name, ready=state.name == "vie") for name in names]
        looks.clear()
        assert look(mesh) == []
        return len(looks)

    assert looks_for(1) == looks_for(20)


def of_protocol(name: str) -> Change:
    """Give all ports a name, and leave their numbers."""

    def change(state: ClusterState) -> None:
        state.services = copy.deepcopy(state.services)
        for each in state.services:
            each["spec"]["ports"][0].update(name=name)

    return both(change)


def hide(state: ClusterState) -> None:
    state.services[0]["metadata"].update(annotations=exported_to("."))


def narrow(state: ClusterState) -> None:
    state.gateways[0] = expose("*.data.svc.cluster.local")


def without_subsets(mesh: Mesh) -> None:
    both(canary)(mesh)
    mesh["vie"].pods.append(pod(version="v2"))
    mesh["fra"].destination_rules.clear()


REPEATED: dict[str, tuple[Change, str]] = {
    "other number": (put("fra", port(port=81)), "service-port-number-differs"),
    "hidden": (both(hide), "host-not-exposed"),
    "not exposed": (both(narrow), "host-not-exposed"),
    "subset unknown": (without_subsets, "subset-unknown-to-peer"),
}


@pytest.mark.parametrize(("change", "code"), REPEATED.values(), ids=REPEATED.keys())
def test_what_proxies_repeat_with_pods_of_their_own_cluster_is_a_warning(change: Change, code: str) -> None:
    for name in ("http", "web"):
        assert severities(all_of(change, of_protocol(name))) == {(code, WARNING)}
    assert severities(all_of(change, of_protocol("tcp"))) == {(code, ERROR)}
    # Cluster gva has no pods of its own, so its callers fail.
    without = all_of(change, pods("gva"))
    assert (code, ERROR) in severities(without, mesh_of("fra", "vie", "gva"))


def test_requests_to_unready_pods_behind_a_port_without_a_protocol_may_be_repeated() -> None:
    assert severities(unready_there) == {("unready-pods-called", ERROR)}
    assert severities(all_of(unready_there, of_protocol("web"))) == {("unready-pods-called", WARNING)}


@pytest.mark.parametrize(("protocol", "severity"), [("HTTP", WARNING), ("", WARNING), ("TCP", ERROR)])
def test_service_entries_of_http_are_a_warning(protocol: str, severity: str) -> None:
    ports = [{"number": 80, "name": "p", "protocol": protocol}]
    change = lambda mesh: mesh["vie"].service_entries.append(entry("api.mesh.local", ports=ports))  # noqa: E731
    assert severities(change) == {("host-not-exposed", severity)}
    assert severities(all_of(change, pods("vie"))) == {("host-not-exposed", ERROR)}


def without_tls(**spec: Any) -> Change:
    """A rule without mutual TLS, in both clusters."""
    rule = named("DestinationRule", "web", "shop", {"host": "web", **spec})
    return both(lambda state: state.destination_rules.append(rule))


def authentication(**spec: Any) -> Change:
    policy = named("PeerAuthentication", "web", "shop", spec)
    return both(lambda state: state.peer_authentications.append(policy))


OFF = {"tls": {"mode": "DISABLE"}}
ON = {"tls": {"mode": "ISTIO_MUTUAL"}}
OFF_AT_PORT = {**ON, "portLevelSettings": [{"port": {"number": 80}, **OFF}]}
ON_AT_PORT = {**OFF, "portLevelSettings": [{"port": {"number": 80}, **ON}]}


@pytest.mark.parametrize(
    ("off", "crosses"),
    [
        (without_tls(trafficPolicy=OFF), False),
        (without_tls(trafficPolicy=OFF_AT_PORT), False),
        (without_tls(trafficPolicy=OFF, host="*.shop.svc.cluster.local"), False),
        (without_tls(trafficPolicy=ON), True),
        (without_tls(trafficPolicy=ON_AT_PORT), True),
        (without_tls(trafficPolicy=OFF, host="other"), True),
        (without_tls(trafficPolicy=OFF, exportTo=["pay"]), True),
        (without_tls(trafficPolicy=OFF, workloadSelector={"matchLabels": {"app": "x"}}), True),
        (authentication(mtls={"mode": "DISABLE"}), False),
        (authentication(mtls={"mode": "STRICT"}), True),
        (authentication(mtls={"mode": "DISABLE"}, selector={"matchLabels": {"app": "db"}}), True),
    ],
)
def test_nothing_crosses_without_mutual_tls(off: Change, crosses: bool) -> None:
    assert severities(all_of(unready_there, off)) == ({("unready-pods-called", ERROR)} if crosses else set())


def test_failing_requests_are_errors_and_unused_pods_are_not() -> None:
    for code, (change, _expected) in FAULTS.items():
        clusters = copy.deepcopy(mesh_of("vie", "fra"))
        change(clusters)
        severe = {finding.kind.code for finding in look(clusters) if finding.severity == ERROR}
        assert severe <= {
            "service-port-number-differs",
            "unready-pods-called",
            "subset-unknown-to-peer",
            "host-not-exposed",
        }, code
