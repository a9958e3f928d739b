"""The preflight, on objects in a real Kubernetes API (etcd and kube-apiserver)."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.check import Check
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._istio.probe import Answer, Target, api_hash
from ansible_collections.exomesh.istio.plugins.module_utils._istio.record import Entry, Record
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._preflight import checks as preflight
from ansible_collections.exomesh.istio.plugins.module_utils._preflight import targets as peer_targets
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.acceptance import require_acceptable
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.capacity import (
    Amount,
)
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.checks import Preflight
from ansible_collections.exomesh.istio.plugins.module_utils._preflight.wanted import Wanted, Workload

Object = dict[str, Any]

NAMESPACE = "istio-system"
ISTIOD = Workload("istiod", 1, Amount.of({"cpu": "500m", "memory": "2Gi"}))
GATEWAY = Workload("istio-eastwestgateway", 1, Amount.of({"cpu": "100m", "memory": "128Mi"}))
WANTED = {
    "version": "1.31.1",
    "revision": "",
    "owner": "exomesh",
    "mesh_id": "mesh1",
    "cluster": "vienna",
    "network": "network-vienna",
    "trust_domain": "cluster.local",
    "trust_domains": {},
    "workloads": (ISTIOD, GATEWAY),
    "annotations": {},
    "max_clock_skew": 30.0,
    "accepted": frozenset(),
}


class Cluster:
    """A real API that holds what a test puts there."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.client = KubernetesClient(str(kubeconfig))
        self._made: list[ObjectRef] = []

    def put(self, *objects: Object) -> None:
        for obj in objects:
            made = self.client.create(obj)
            if obj["kind"] == "Node":  # the API has tainted it, for nobody to lift that here
                self.client.replace({**made, "spec": obj["spec"]})
            self._made.append(ObjectRef.of(obj))

    def clear(self) -> None:
        for ref in reversed(self._made):
            self.client.delete(ref)

    def label(self, network: str | None) -> None:
        """Label the namespace with a network, or with none."""
        metadata = {"name": NAMESPACE, "labels": {"topology.istio.io/network": network} if network else {}}
        self.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def preflight(self, **wanted: Any) -> Preflight:
        members = [
            Member("vienna", "network-vienna", str(self.kubeconfig), None, ("sofia", "zurich")),
            Member("sofia", "network-sofia", str(self.kubeconfig), "https://sofia.example:443"),
            Member("zurich", "network-zurich", "/nonexistent/zurich.kubeconfig"),
        ]
        return Preflight(self.client, Wanted(**{**WANTED, **wanted}), members)

    def check(self, code: str, **wanted: Any) -> Check:
        """The outcome of a check, the worst one where there are several of this name."""
        order = [preflight.ERROR, preflight.WARNING, preflight.NOTE, preflight.OK]
        found = [check for check in self.preflight(**wanted).checks() if check.code == code]
        return min(found, key=lambda check: order.index(check.outcome))


@pytest.fixture
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    made = Cluster(kubeconfig)
    for namespace in (NAMESPACE, "shop"):
        made.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        account = {"name": "default", "namespace": namespace}
        made.client.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    yield made
    made.clear()


def istiod(
    version: str = "1.31.1", owner: str | None = "exomesh", revision: str = "default", **metadata: Any
) -> Object:
    labels = {"app": "istiod", "istio.io/rev": revision, "operator.istio.io/version": version}
    labels |= {"install.operator.istio.io/owning-resource": owner} if owner else {}
    name = "istiod" if revision == "default" else f"istiod-{revision}"
    container = {"name": "discovery", "image": f"docker.io/istio/pilot:{version}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, **metadata},
        "spec": {
            "selector": {"matchLabels": {"app": "istiod"}},
            "template": {"metadata": {"labels": {"app": "istiod"}}, "spec": {"containers": [container]}},
        },
    }


def settings(mesh: str, cluster: str, network: str, trust_domain: str) -> list[Object]:
    """The ConfigMaps of an istiod, as istioctl 1.31 writes them."""
    values = {"global": {"meshID": mesh, "multiCluster": {"clusterName": cluster}, "network": network}}
    data = {
        "istio": {"mesh": yaml.safe_dump({"trustDomain": trust_domain, "defaultConfig": {"meshId": mesh}})},
        "istio-sidecar-injector": {"config": "policy: enabled", "values": json.dumps(values)},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "data": content,
        }
        for name, content in data.items()
    ]


def record() -> Object:
    """The record of a cluster that is in a mesh."""
    mine = Entry("vienna", "network-vienna", "", "")
    return Record("mesh1", "vienna", "network-vienna", "uid", "", {"vienna": mine}).object()


def node(name: str, cpu: str = "2", memory: str = "4Gi", pool: str = "", **spec: Any) -> Object:
    labels = {"node.exoscale.net/nodepool-id": pool} if pool else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, on: str, image: str = "docker.io/istio/proxyv2:1.31.1", **requests: str) -> Object:
    container = {"name": "it", "image": image, "resources": {"requests": requests}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"nodeName": on, "containers": [container], "terminationGracePeriodSeconds": 0},
    }


def webhook(service: str, policy: str = "Fail", kind: str = "Mutating") -> Object:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": f"istio-test-{service}"},
        "webhooks": [
            {
                "name": "object.sidecar-injector.istio.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": policy,
                "clientConfig": {"service": {"namespace": NAMESPACE, "name": service, "path": "/inject"}},
                "namespaceSelector": {"matchLabels": {"istio.io/rev": "never-here"}},
            }
        ],
    }


def service(name: str, annotations: dict[str, str] | None = None) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": annotations or {},
            "labels": {"topology.istio.io/network": "network-vienna"},
        },
        "spec": {"ports": [{"port": 443}]},
    }


def test_an_empty_cluster_with_a_node_is_fine(cluster: Cluster) -> None:
    cluster.put(node("a"))
    cluster.label("network-vienna")
    outcomes = {check.code: check.outcome for check in cluster.preflight().checks()}
    assert set(outcomes.values()) <= {preflight.OK, preflight.NOTE}, outcomes
    assert outcomes["kubernetes-version"] == outcomes["capacity"] == preflight.OK


@pytest.mark.parametrize(
    ("version", "outcome", "said"),
    [
        ("1.31.1", "ok", "1.32 to 1.36"),
        ("1.28.0", "ok", "not known"),
        ("1.29.9", "warning", "newer than 1.35"),
    ],
)
def test_kubernetes_must_be_in_the_window(cluster: Cluster, version: str, outcome: str, said: str) -> None:
    check = cluster.check("kubernetes-version", version=version)
    assert (check.outcome, said in str(check)) == (outcome, True), check


def test_kubernetes_that_is_too_old_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.client, "version", lambda: "v1.31.9")
    check = cluster.check("kubernetes-version")
    assert check.outcome == "error"
    assert "1.31.9 is older than 1.32" in check.message


def test_an_istio_that_ran_out_of_support_warns(cluster: Cluster) -> None:
    check = cluster.check("istio-support", version="1.28.9")
    assert check.outcome == "warning"
    assert "has ended" in check.message


OF_HELM = {"meta.helm.sh/release-name": "it", "meta.helm.sh/release-namespace": NAMESPACE}


def test_an_istio_that_was_adopted_is_ours(cluster: Cluster) -> None:
    cluster.put(istiod(annotations=OF_HELM))
    assert cluster.check("istio-owner").outcome == "ok"


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ({"owner": "unknown", "annotations": OF_HELM}, "the Helm release istio-system/it"),
        (
            {
                "ownerReferences": [
                    {"apiVersion": "sailoperator.io/v1", "kind": "IstioRevision", "name": "it", "uid": "1"}
                ]
            },
            "IstioRevision it, of an operator",
        ),
        ({"owner": "someone"}, "IstioOperator istio-system/someone"),
        ({"owner": None}, "somebody unknown"),
    ],
)
def test_an_istio_of_another_owner_is_refused(cluster: Cluster, metadata: Any, owner: str) -> None:
    cluster.put(istiod(**metadata))
    check = cluster.check("istio-owner")
    assert check.outcome == "error"
    assert owner in check.message
    accepted = cluster.check("istio-owner", accepted=frozenset(["istio-owner"]))
    assert accepted.outcome == "warning"
    assert cluster.check("istio-owner", revision="canary").outcome == "warning"


def test_a_plain_istio_is_its_users_and_the_ways_on_are_told(cluster: Cluster) -> None:
    """As `istioctl install` leaves it; neither its field manager nor its name makes it ours."""
    plain = istiod(owner="installed-state")
    cluster.client.apply(plain, "istio-operator")
    try:
        check = cluster.check("istio-owner")
    finally:
        cluster.client.delete(ObjectRef.of(plain))
    assert check.outcome == "error"
    assert check.message.startswith(
        "In cluster vienna, Deployment istio-system/istiod belongs to somebody else"
    )
    assert "IstioOperator istio-system/installed-state" in check.message
    for way in ("--check --diff with istio_adopt: true", "preflight_accept: [istio-owner]", "istio_revision"):
        assert way in check.next_step


@pytest.mark.parametrize("owner", ["installed-state", None])
@pytest.mark.parametrize(
    ("labelled", "mesh", "member", "outcome"),
    [
        (True, "mesh1", "vienna", "ok"),
        (True, "mesh2", "vienna", "error"),
        (True, "mesh1", "Kubernetes", "error"),
        (False, "mesh1", "vienna", "error"),
    ],
)
def test_an_istio_of_ours_by_the_name_of_before_is_known_by_what_else_is_there(
    cluster: Cluster, owner: str | None, labelled: bool, mesh: str, member: str, outcome: str
) -> None:
    cluster.label("network-vienna" if labelled else None)
    installed = istiod(owner=owner)
    (container,) = installed["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "CLUSTER_ID", "value": member}]
    cluster.put(installed, *settings(mesh, member, "network-vienna", "cluster.local"))
    assert cluster.check("istio-owner").outcome == outcome


@pytest.mark.parametrize(
    ("owner", "ours", "outcome"),
    [("exomesh-eastwest", False, "ok"), ("eastwest", True, "ok"), ("eastwest", False, "error")],
)
def test_a_gateway_of_somebody_else_is_refused(
    cluster: Cluster, owner: str, ours: bool, outcome: str
) -> None:
    labels = {
        "app": "it",
        "install.operator.istio.io/owning-resource": owner,
        "install.operator.istio.io/owning-resource-namespace": NAMESPACE,
        "operator.istio.io/component": "IngressGateways",
    }
    made = service("istio-eastwestgateway", {"exomesh.istio/address": "192.0.2.1"} if ours else {})
    made["metadata"]["labels"] = {**(made["metadata"].get("labels") or {}), **labels}
    deployment = istiod()
    deployment["metadata"] |= {"name": "istio-eastwestgateway", "labels": labels}
    cluster.put(made, deployment)
    codes = {check.code: check for check in cluster.preflight().checks()}
    assert ("gateway-owner" in codes) == (outcome == "error")
    assert "gateway-owner" not in {check.code for check in cluster.preflight(workloads=(ISTIOD,)).checks()}
    if outcome == "error":
        assert "gateway_adopt: true" in codes["gateway-owner"].next_step
        accepted = cluster.check("gateway-owner", accepted=frozenset(["gateway-owner"]))
        assert accepted.outcome == "warning"


@pytest.mark.parametrize(
    ("installed", "wanted", "outcome", "said"),
    [
        ("1.31.1", "1.31.1", "ok", "1.31.1"),
        ("1.31.1-alpha.eed52ebb66ad", "1.31.1-alpha.eed52ebb66ad", "ok", "alpha"),
        ("1.30.5", "1.31.1", "warning", "upgraded in place to 1.31.1"),
        ("1.29.9", "1.31.1", "error", "the newest 1.30 first"),
        ("1.31.2", "1.31.1", "error", "newer than the wanted"),
        ("my-build", "1.31.1", "note", "will be 1.31.1"),
    ],
)
def test_an_upgrade_is_told_and_a_leap_refused(
    cluster: Cluster, installed: str, wanted: str, outcome: str, said: str
) -> None:
    cluster.put(istiod(version=installed))
    check = cluster.check("istio-version", version=wanted)
    assert (check.outcome, said in str(check)) == (outcome, True), check


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("mesh-id", {"mesh_id": "mesh2"}),
        ("cluster-name", {"cluster": "wien"}),
        ("network", {"network": "network-wien"}),
        ("trust-domain", {"trust_domain": "wien.example"}),
    ],
)
def test_what_running_proxies_depend_on_is_not_changed(
    cluster: Cluster, code: str, wanted: dict[str, str]
) -> None:
    cluster.put(istiod(), *settings("mesh1", "vienna", "network-vienna", "cluster.local"))
    codes = [check.code for check in cluster.preflight().checks() if check.outcome == "error"]
    assert "mesh-id" not in codes
    check = cluster.check(code, **wanted)
    assert check.outcome == "error"
    assert f"not {next(iter(wanted.values()))}" in check.message
    assert f"preflight_accept: [{code}]" in check.next_step


def test_members_must_have_one_trust_domain(cluster: Cluster) -> None:
    domains = {"vienna": "cluster.local", "sofia": "sofia.example"}
    check = cluster.check("trust-domain", trust_domains=domains)
    assert check.outcome == "error"
    assert check.evidence == ["sofia has sofia.example"]


@pytest.mark.parametrize(
    ("label", "outcome", "said"),
    [
        (None, "warning", "no label topology.istio.io/network; it will be set to network-vienna"),
        ("network-graz", "warning", "=network-graz; it will be set to network-vienna"),
        ("network-vienna", "ok", "network-vienna"),
    ],
)
def test_the_network_label_is_told(cluster: Cluster, label: str | None, outcome: str, said: str) -> None:
    cluster.label(label)
    check = cluster.check("network-label")
    assert (check.outcome, said in check.message) == (outcome, True), check


@pytest.mark.parametrize("kind", ["Mutating", "Validating"])
def test_webhooks_that_nobody_answers_are_refused(cluster: Cluster, kind: str) -> None:
    cluster.put(webhook("istiod-old", kind=kind))
    check = cluster.check("webhook-leftover")
    assert check.outcome == "error"
    assert "no Service istio-system/istiod-old" in str(check)
    cluster.put(service("istiod-old"))
    assert cluster.check("webhook-leftover").outcome == "ok"


def test_webhooks_that_the_new_istiod_will_answer_are_no_obstacle(cluster: Cluster) -> None:
    cluster.put(webhook("istiod"))
    assert cluster.check("webhook-leftover").outcome == "note"
    assert cluster.check("webhook-leftover", revision="canary").outcome == "error"


def test_webhooks_that_let_requests_pass_are_a_warning(cluster: Cluster) -> None:
    cluster.put(webhook("istiod-old", policy="Ignore"))
    assert cluster.check("webhook-leftover").outcome == "warning"


def test_webhooks_that_are_switched_off_are_no_obstacle(cluster: Cluster) -> None:
    off = webhook("istiod-old")
    off["webhooks"][0]["namespaceSelector"] = {"matchLabels": {"istio.io/deactivated": "never-match"}}
    cluster.put(off)
    assert cluster.check("webhook-leftover").outcome == "ok"


@pytest.mark.parametrize(
    ("nodes", "outcome"),
    [
        ([node("a")], "ok"),
        ([node("a", memory="2Gi")], "error"),
        ([node("a", memory="2Gi"), node("b", memory="256Mi")], "ok"),
        ([node("a", cpu="400m")], "error"),
        ([node("a", unschedulable=True)], "error"),
        ([node("a", taints=[{"key": "gpu", "effect": "NoSchedule"}])], "error"),
        ([], "error"),
    ],
)
def test_there_must_be_a_node_with_room_for_each_pod(
    cluster: Cluster, nodes: list[Object], outcome: str
) -> None:
    cluster.put(*copy.deepcopy(nodes))
    check = cluster.check("capacity")
    assert check.outcome == outcome, check


@pytest.mark.parametrize(
    ("tolerations", "outcome"),
    [
        ([{"key": "mesh", "operator": "Exists", "effect": "NoSchedule"}], "ok"),
        ([{"key": "mesh", "value": "yes"}], "ok"),
        ([{"operator": "Exists"}], "ok"),
        ([{"key": "mesh", "value": "no"}], "error"),
        ([{"key": "mesh", "operator": "Exists", "effect": "NoExecute"}], "error"),
    ],
)
def test_a_pod_goes_to_a_node_whose_taints_it_tolerates(
    cluster: Cluster, tolerations: list[Object], outcome: str
) -> None:
    cluster.put(node("a", taints=[{"key": "mesh", "value": "yes", "effect": "NoSchedule"}]))
    tolerant = replace(ISTIOD, tolerations=tolerations)
    assert cluster.check("capacity", workloads=(tolerant,)).outcome == outcome
    # The gateway tolerates nothing.
    assert cluster.check("capacity", workloads=(tolerant, GATEWAY)).outcome == "error"


def test_a_pod_goes_only_to_nodes_that_it_selects(cluster: Cluster) -> None:
    cluster.put(node("a", pool="1a"))
    pool = next(iter(node("a", pool="1a")["metadata"]["labels"]))
    for name, outcome in (("1a", "ok"), ("2b", "error")):
        selecting = replace(ISTIOD, node_selector={pool: name})
        assert cluster.check("capacity", workloads=(selecting,)).outcome == outcome


def test_what_runs_takes_room_and_two_replicas_take_more(cluster: Cluster) -> None:
    cluster.put(node("a", cpu="4", memory="5Gi"))
    two = (Workload("istiod", 2, ISTIOD.request), Workload("istio-eastwestgateway", 2, GATEWAY.request))
    assert cluster.check("capacity", workloads=two).outcome == "ok"
    cluster.put(pod("greedy", on="a", cpu="1", memory="1536Mi"))
    check = cluster.check("capacity", workloads=two)
    assert check.outcome == "error"
    assert "No node has room for istiod (500m CPU and 2048 Mi memory)" in check.message
    assert check.evidence == ["node a has 3000m CPU and 3584 Mi memory and 109 pods left"]
    assert cluster.check("capacity").outcome == "ok"


def test_pods_that_run_already_need_no_second_place(cluster: Cluster) -> None:
    cluster.put(node("a", cpu="600m", memory="3Gi"))
    running = pod("istiod-5d7c-x2x4z", on="a", cpu="500m", memory="2Gi")
    running["metadata"] |= {
        "namespace": NAMESPACE,
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "istiod-5d7c", "uid": "1"}
        ],
    }
    cluster.put(running)
    assert cluster.check("capacity").outcome == "ok"


def test_several_node_pools_need_a_choice(cluster: Cluster) -> None:
    cluster.put(node("a", pool="1a"), node("b", pool="1a"))
    assert cluster.check("node-pools").outcome == "ok"
    cluster.put(node("c", pool="2b"))
    check = cluster.check("node-pools")
    assert check.outcome == "error"
    assert check.evidence == ["node pool 1a: 2 nodes", "node pool 2b: 1 nodes"]
    assert "gateway_nlb: {node_pool: NAME}" in check.next_step
    chosen = dict.fromkeys(preflight.POOL_ANNOTATIONS, "web")
    for name in chosen:
        assert cluster.check("node-pools", annotations={name: "web"}).outcome == "ok"
    cluster.put(service("istio-eastwestgateway", chosen))
    assert cluster.check("node-pools").outcome == "ok"


def test_pods_of_registries_that_go_away_are_named(cluster: Cluster) -> None:
    cluster.put(node("a"), pod("web", on="a", image="registry.istio.io/release/proxyv2:1.30.4"))
    check = cluster.check("retired-registry")
    assert check.outcome == "warning"
    assert check.evidence == ["registry.istio.io/release/proxyv2:1.30.4 in shop/web"]


def test_a_clock_that_is_off_warns(cluster: Cluster) -> None:
    assert cluster.check("clock").outcome == "ok"
    assert cluster.check("clock", max_clock_skew=-1.0).outcome == "warning"


# Overlays, and what extends the API


def gateway_entry(**entry: Any) -> Object:
    return {"components": {"ingressGateways": [{"name": "istio-eastwestgateway", **entry}]}}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"gateway_overlay": gateway_entry(label={"istio": "mine"})}, "label istio=eastwestgateway"),
        (
            {"gateway_overlay": {"components": {"ingressGateways": [{"enabled": True}]}}},
            "ingressGateways has an",
        ),
    ],
)
def test_an_overlay_that_cannot_work_is_refused_and_cannot_be_accepted(
    cluster: Cluster, wanted: Object, said: str
) -> None:
    for accepted in (frozenset[str](), frozenset(["overlay"])):
        check = cluster.check("overlay", **wanted, accepted=accepted)
        assert (check.outcome, said in check.message) == ("error", True), check
    codes = [check.code for check in cluster.preflight(gateway_api=True, **wanted).checks()]
    assert "overlay" not in codes  # it is of the other form


def discovery(*selectors: Object) -> Object:
    return {"overlay": {"meshConfig": {"discoverySelectors": list(selectors)}}, "demo": "exodemo"}


def named(*names: str) -> Object:
    return {
        "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [*names]}]
    }


@pytest.mark.parametrize(
    ("selectors", "hidden"),
    [
        ([{"matchLabels": {"team": "shop"}}], "istio-system, exomesh-verify, exodemo"),
        ([{"matchLabels": {"istio-injection": "enabled"}}], "istio-system"),
        ([named("istio-system", "exodemo")], "exomesh-verify"),
        ([named("istio-system", "exomesh-verify")], "exodemo"),
    ],
)
def test_namespaces_that_istiod_would_not_see_are_named(
    cluster: Cluster, selectors: list[Object], hidden: str
) -> None:
    check = cluster.check("discovery-selectors", **discovery(*selectors))
    assert check.outcome == "error"
    assert f"hide {hidden} from istiod" in check.message
    assert "values: [istio-system, exomesh-verify, exodemo]" in check.next_step
    accepted = cluster.check(
        "discovery-selectors", **discovery(*selectors), accepted=frozenset(["discovery-selectors"])
    )
    assert accepted.outcome == ("error" if "istio-system" in hidden else "warning")


@pytest.mark.parametrize(
    "selectors",
    [
        [named("istio-system", "exomesh-verify", "exodemo")],
        [{"matchLabels": {"app.kubernetes.io/managed-by": "exomesh.istio"}}, named("istio-system")],
        [{"matchExpressions": [{"key": "istio-discovery", "operator": "DoesNotExist"}]}],
        [{"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["batch"]}]}],
        [{}],
    ],
)
def test_selectors_of_all_that_the_mesh_needs_are_right(cluster: Cluster, selectors: list[Object]) -> None:
    assert cluster.check("discovery-selectors", **discovery(*selectors)).outcome == "ok"


def test_cilium_that_leads_connections_past_sidecars_is_a_warning(cluster: Cluster) -> None:
    assert cluster.check("socket-load-balancing").outcome == "ok"
    metadata = {"name": "cilium-config", "namespace": "kube-system"}
    data = {"kube-proxy-replacement": "true"}
    cluster.client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    check = cluster.check("socket-load-balancing")
    assert (check.outcome, "socketLB.hostNamespaceOnly=true" in check.next_step) == ("warning", True)
    cluster.client.delete(ObjectRef("v1", "ConfigMap", "cilium-config", "kube-system"))


def definition(plural: str, bundle: str, version: str = "v1") -> Object:
    group = "gateway.networking.k8s.io"
    kind = {"gateways": "Gateway", "tlsroutes": "TLSRoute", "grpcroutes": "GRPCRoute"}[plural]
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {
                f"{group}/bundle-version": bundle,
                "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/1",
            },
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def test_a_gateway_of_the_gateway_api_needs_its_kinds(cluster: Cluster) -> None:
    assert cluster.check("gateway-api").outcome == "ok"
    check = cluster.check("gateway-api", gateway_api=True, accepted=frozenset(["gateway-api"]))
    assert check.outcome == "error"
    assert "no kind Gateway of gateway.networking.k8s.io/v1" in check.message
    assert "standard-install.yaml" in check.next_step
    cluster.put(definition("gateways", "v1.1.0"))
    assert cluster.check("gateway-api", gateway_api=True).outcome == "ok"


def test_kinds_that_istiod_does_not_read_are_told(cluster: Cluster) -> None:
    cluster.put(definition("tlsroutes", "v1.4.1", "v1alpha2"), definition("grpcroutes", "v1.1.0"))
    check = cluster.check("gateway-api")
    assert check.outcome == "warning"
    assert check.evidence == ["tlsroutes: release v1.4.1, 1.5 or newer is needed"]
    assert cluster.check("gateway-api", version="1.29.0").outcome == "ok"


def test_an_api_service_that_does_not_answer_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster.check("api-service").outcome == "ok"
    condition = {"type": "Available", "status": "False", "message": "no endpoints for metrics-server"}
    silent = {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "status": {"conditions": [condition]}}
    list_objects = KubernetesClient.list_objects

    def with_it(self: KubernetesClient, api: str, kind: str, *more: Any, **options: Any) -> list[Object]:
        found = list_objects(self, api, kind, *more, **options)
        return [*found, silent] if kind == "APIService" else found

    monkeypatch.setattr(KubernetesClient, "list_objects", with_it)
    check = cluster.check("api-service")
    assert check.outcome == "warning"
    assert check.evidence == ["v1beta1.metrics.k8s.io: no endpoints for metrics-server"]


# What is accepted


def test_every_code_of_a_check_is_known() -> None:
    """So that a new check cannot be one that preflight_accept refuses."""
    folder = Path(preflight.__file__).parent
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    codes = set(re.findall(r'Check\(\s*"([a-z-]+)"', text)) | set(re.findall(r'code="([a-z-]+)"', text))
    codes |= {"mesh-id", "cluster-name", "network"} | set(re.findall(r'code = "([a-z-]+)"', text))
    assert {"capacity", "peer-gateway", "api-service"} <= codes
    assert require_acceptable(codes) == codes


def test_a_network_in_a_selector_cannot_be_accepted(cluster: Cluster) -> None:
    cluster.put(istiod(), *settings("mesh1", "vienna", "network-vienna", "cluster.local"))
    accepted = {"network": "network-wien", "accepted": frozenset(["network"])}
    assert cluster.check("network", **accepted).outcome == "warning"
    labels = {"istio": "eastwestgateway", "topology.istio.io/network": "network-vienna"}
    gateway = copy.deepcopy(istiod())
    gateway["metadata"] |= {"name": "istio-eastwestgateway", "labels": labels}
    gateway["spec"]["selector"] = {"matchLabels": labels}
    gateway["spec"]["template"]["metadata"]["labels"] = labels
    cluster.put(gateway)
    check = cluster.check("network", **accepted)
    assert check.outcome == "error"
    assert "preflight_accept" not in check.next_step
    assert f"kubectl -n {NAMESPACE} delete deployment istio-eastwestgateway" in check.next_step


def test_what_the_clusters_record_says_cannot_be_accepted(cluster: Cluster) -> None:
    cluster.put(istiod(), *settings("mesh1", "vienna", "network-vienna", "cluster.local"), record())
    for code, wanted in (("mesh-id", "mesh_id"), ("cluster-name", "cluster"), ("network", "network")):
        check = cluster.check(code, **{wanted: "other"}, accepted=frozenset([code]))
        assert check.outcome == "error", check
        assert "The cluster's record has" in check.next_step


# Peers; the pod itself is for the lab


def asked(monkeypatch: pytest.MonkeyPatch, error: Callable[[Target], str | None]) -> list[Target]:
    """Let the pod say this of each target; gives the list of those that were asked."""
    targets: list[Target] = []

    def probe(_client: Any, wanted: list[Target], *_how: Any) -> list[Answer]:
        targets.extend(wanted)
        return [Answer(target.name, None if error(target) else 200, error(target), 0.1) for target in wanted]

    monkeypatch.setattr(preflight, "probe", probe)
    return targets


def test_every_peer_is_asked_where_there_is_no_istiod(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = asked(monkeypatch, lambda _target: None)
    preflight = cluster.preflight()
    checks = preflight.probe("curl", 10)
    assert preflight.is_new
    assert preflight.reached == [api_hash("https://sofia.example:443", targets[0].ca or b"", None)]
    assert [target.url for target in targets] == ["https://sofia.example:443/version"]
    assert targets[0].ca
    assert [(check.code, check.outcome) for check in checks] == [("peer-api", "note"), ("peer-api", "ok")]
    assert "zurich is not known" in checks[0].message


def test_a_peer_that_is_not_reached_is_refused_with_what_was_said(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(monkeypatch, lambda _target: "Connection timed out after 5001 milliseconds")
    preflight = cluster.preflight()
    check = preflight.probe("curl", 10)[-1]
    assert preflight.reached == []
    assert check.outcome == "error"
    assert "do not reach the API server of sofia" in check.message
    assert "https://sofia.example:443/version: Connection timed out" in check.evidence[0]
    assert "peering_server of sofia" in check.next_step
    accepted = cluster.preflight(accepted=frozenset(["peer-api"])).probe("curl", 10)[-1]
    assert accepted.outcome == "warning"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("Failed to connect to 192.0.2.7 port 15443 after 5000 ms: Could not connect to server", "warning"),
        ("TLS connect error: error:0A000126:SSL routines::unexpected eof while reading", "ok"),
    ],
)
def test_a_gateway_that_is_there_is_asked_for_a_connection(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, error: str, outcome: str
) -> None:
    monkeypatch.setattr(peer_targets, "_gateway_addresses", lambda _peer: ["192.0.2.7"])
    targets = asked(monkeypatch, lambda target: error if "15443" in target.url else None)
    checks = cluster.preflight().probe("curl", 10)
    assert targets[1].url == "https://192.0.2.7:15443/"
    assert [check.outcome for check in checks if check.code == "peer-gateway"] == [outcome]


def test_a_peer_whose_secret_is_there_is_not_asked_again(cluster: Cluster) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "istio-remote-secret-sofia",
            "namespace": NAMESPACE,
            "labels": {"istio/multiCluster": "true"},
        },
    }
    cluster.put(secret)
    assert [peer.name for peer in cluster.preflight().unproven_peers()] == ["sofia", "zurich"]
    cluster.put(istiod())
    assert [peer.name for peer in cluster.preflight().unproven_peers()] == ["zurich"]


# The numbers


# The role


def test_the_role_names_every_failure_in_one_message(cluster: Cluster, play_role: Callable[..., Any]) -> None:
    cluster.put(node("a", cpu="100m", pool="1a"), node("b", cpu="100m", pool="2b"), webhook("istiod-old"))
    hosts = {"vienna": {"mesh_kubeconfig": str(cluster.kubeconfig)}, "sofia": {"mesh_kubeconfig": "/none"}}
    result = play_role("preflight", hosts, "--limit", "vienna", preflight_probe=False)
    assert result.return_code != 0
    for code in ("webhook-leftover", "capacity", "node-pools"):
        assert f"[{code}]" in result.words
    assert "cluster vienna: 3 of" in result.words
    accepted = ["webhook-leftover", "capacity", "node-pools"]
    result = play_role(
        "preflight", hosts, "--limit", "vienna", preflight_probe=False, preflight_accept=accepted
    )
    assert result.return_code == 0, result.text
    assert result.changed == {"vienna": 0}


def test_only_known_checks_can_be_accepted(play_role: Callable[..., Any], tmp_path: Path) -> None:
    hosts = {"vienna": {"mesh_kubeconfig": str(tmp_path / "none")}}
    result = play_role("preflight", hosts, "--check", "-e", "preflight_accept=capacity,nodepools")
    assert result.return_code != 0
    assert "preflight_accept names nodepools, which is no check" in result.words
    assert "node-pools" in result.words


def test_the_role_takes_the_gateways_node_pool_and_the_wanted_requests(
    cluster: Cluster, play_role: Callable[..., Any]
) -> None:
    cluster.put(node("a", cpu="400m", pool="1a"), node("b", cpu="400m", pool="2b"))
    hosts = {"vienna": {"mesh_kubeconfig": str(cluster.kubeconfig)}}
    variables = {
        "gateway_nlb": {"node_pool": "web"},
        "istio_resources": {"requests": {"cpu": "200m"}},
        "istio_overlay": {"values": {"pilot": {"resources": {"requests": {"memory": "1Gi"}}}}},
        "mesh_ha": True,
    }
    result = play_role("preflight", hosts, "--check", **variables)
    assert result.return_code == 0, result.text


@pytest.mark.parametrize(
    "variable", ["istio_resources", "istio_overlay", "gateway_overlay", "gateway_nlb", "gateway_annotations"]
)
def test_a_text_is_no_mapping(cluster: Cluster, play_role: Callable[..., Any], variable: str) -> None:
    hosts = {"vienna": {"mesh_kubeconfig": str(cluster.kubeconfig)}}
    result = play_role("preflight", hosts, "--check", **{variable: "small"})
    assert result.return_code != 0
    ours = f"{variable} is the text small, but must be a mapping"
    # Ansible itself checks the options in the role's spec.
    of_ansible = f"argument '{variable}' is of type str and we were unable to convert to dict"
    assert ours in result.words or of_ansible in result.words
    assert "vienna" in result.words


def test_a_mapping_may_come_as_a_text(cluster: Cluster, play_role: Callable[..., Any]) -> None:
    cluster.put(node("a", cpu="400m", pool="1a"), node("b", cpu="400m", pool="2b"))
    hosts = {"vienna": {"mesh_kubeconfig": str(cluster.kubeconfig)}}
    texts = {
        "gateway_nlb": "node_pool=web",
        "istio_resources": '{"requests": {"cpu": "200m"}}',
        "istio_overlay": '{"values": {"pilot": {"resources": {"requests": {"memory": "1Gi"}}}}}',
    }
    result = play_role("preflight", hosts, "--check", **texts)
    assert result.return_code == 0, result.text


def test_check_mode_before_the_first_run_says_what_it_cannot_tell(
    tmp_path: Path, play_role: Callable[..., Any]
) -> None:
    hosts = {"vienna": {"mesh_kubeconfig": str(tmp_path / "none")}}
    result = play_role("preflight", hosts, "--check")
    assert result.return_code == 0, result.text
    assert "is still to come" in result.words


@pytest.mark.parametrize(
    ("variables", "of_sofia", "agree"),
    [
        ({}, {}, True),
        ({}, {"istio_trust_domain": "cluster.local"}, True),
        ({}, {"istio_trust_domain": "sofia.example"}, False),
        ({"istio_trust_domain": "mesh.example"}, {}, True),
    ],
)
def test_members_without_a_trust_domain_have_the_default(
    cluster: Cluster,
    play_role: Callable[..., Any],
    variables: dict[str, str],
    of_sofia: dict[str, str],
    agree: bool,
) -> None:
    hosts = {
        "vienna": {"mesh_kubeconfig": str(cluster.kubeconfig)},
        "sofia": {"mesh_kubeconfig": "/none", **of_sofia},
    }
    accepted = ["capacity"]
    result = play_role(
        "preflight", hosts, "--check", "--limit", "vienna", preflight_accept=accepted, **variables
    )
    assert (result.return_code == 0) == agree, result.text
    assert ("[trust-domain]" in result.words) != agree
