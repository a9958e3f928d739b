# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a teardown takes and what it leaves, against a small Kubernetes API of real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._istio.names import OPERATORS
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._lifecycle.teardown import Teardown
from kubernetes_api import ApiServer, Object

OURS = {"app.kubernetes.io/managed-by": "exomesh.istio"}
INSTALLED = {"install.operator.istio.io/owning-resource": "exomesh"}
OWNER = "install.operator.istio.io/owning-resource"
GATEWAY = {OWNER: "exomesh-eastwest", "operator.istio.io/component": "IngressGateways"}
CRD = "virtualservices.networking.istio.io"
PLURALS = {
    "Namespace": "/api/v1/namespaces",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Event": "/api/v1/namespaces/{}/events",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "MutatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ValidatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    ),
    "Gateway": "/apis/networking.istio.io/v1/namespaces/{}/gateways",
    "VirtualService": "/apis/networking.istio.io/v1/namespaces/{}/virtualservices",
}


class Cluster:
    """Member vie of mesh mesh1, as site.yml leaves it."""

    def __init__(self, folder: Path) -> None:
        self.api = ApiServer(folder, "vie")
        network = {"topology.istio.io/network": "network-vie"}
        self.put("Namespace", "istio-system", labels=network)
        self.put("Namespace", "default")
        self.put("ServiceAccount", "default", "istio-system")
        environment = [{"name": "CLUSTER_ID", "value": "vie"}]
        pod = {"spec": {"containers": [{"name": "discovery", "env": environment}]}}
        self.put("Deployment", "istiod", labels={**INSTALLED, "app": "istiod"}, spec={"template": pod})
        config = {"mesh": "defaultConfig: {meshId: mesh1}"}
        self.put("ConfigMap", "istio", labels=INSTALLED, data=config)
        self.put("Service", "istio-eastwestgateway", labels=GATEWAY, spec={"type": "LoadBalancer"})
        self.put("Service", "istiod", labels=INSTALLED, spec={})
        self.put("MutatingWebhookConfiguration", "istio-sidecar-injector", None, INSTALLED)
        names = {"group": "networking.istio.io", "names": {"kind": "VirtualService"}}
        self.put("CustomResourceDefinition", CRD, None, INSTALLED, spec=names)
        self.put("Gateway", "cross-network-gateway", labels=OURS)
        self.put("Secret", "cacerts", labels=OURS)
        self.put("Secret", "istio-remote-secret-fra", labels=OURS)
        for namespace in ("istio-system", "default"):
            self.put("ConfigMap", "istio-ca-root-cert", namespace, {"istio.io/config": "true"})
        self.put("Lease", "istio-gateway", spec={"holderIdentity": "istiod-1"})
        self.before = dict(self.api.objects)

    def put(
        self,
        kind: str,
        name: str,
        namespace: str | None = "istio-system",
        labels: dict[str, str] | None = None,
        **rest: Any,
    ) -> None:
        folder = PLURALS[kind].format(namespace)
        metadata: Object = {"name": name, "labels": labels or {}, "uid": f"{kind}-{name}"}
        if "{}" in PLURALS[kind]:
            metadata["namespace"] = namespace
        self.api.put(f"{folder}/{name}", {"kind": kind, "metadata": metadata, **rest})

    def by_the_names_of_before(self) -> None:
        """Leave what istioctl installed as the collection did before it had names of its own."""
        before = {"exomesh": "installed-state", "exomesh-eastwest": "eastwest", "exomesh-ingress": "ingress"}
        for obj in self.api.objects.values():
            labels = obj["metadata"].get("labels") or {}
            if owner := labels.get(OWNER):
                labels |= {OWNER: before[owner], f"{OWNER}-namespace": "istio-system"}
                labels.setdefault("istio.io/rev", "default")
        self.before = dict(self.api.objects)

    def labelled_by(self, manager: str) -> None:
        """Say who labelled Istio's namespace with its network."""
        fields = {"f:metadata": {"f:labels": {"f:topology.istio.io/network": {}}}}
        entry = {"manager": manager, "operation": "Apply", "fieldsV1": fields}
        self.api.objects["/api/v1/namespaces/istio-system"]["metadata"]["managedFields"] = [entry]

    def annotate_gateway(self) -> None:
        """Note the gateway's address, as its role does."""
        service = self.api.objects["/api/v1/namespaces/istio-system/services/istio-eastwestgateway"]
        service["metadata"]["annotations"] = {"exomesh.istio/address": "192.0.2.7"}

    def teardown(self, name: str = "vie", mesh_id: str = "mesh1") -> Teardown:
        client = KubernetesClient(str(self.api.kubeconfig), name=name)
        return Teardown(client, name, mesh_id, OPERATORS)

    def left(self) -> set[str]:
        return {path.split("/v1/")[1] for path in self.api.objects}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.api.close()


def test_all_of_ours_goes_load_balancers_first_as_predicted(cluster: Cluster) -> None:
    plan = cluster.teardown().plan()
    assert cluster.api.objects == cluster.before
    assert plan.left == []
    changes, left = cluster.teardown().run(5)
    assert left == []
    assert {change.ref for change in changes} == {change.ref for change in plan.changes()}
    deletions = [request for request in cluster.api.requests if request.startswith("DELETE")]
    order = ["istio-eastwestgateway", "istio-sidecar-injector", "istiod", "cacerts", CRD]
    positions = [
        next(i for i, line in enumerate(deletions) if line.endswith(f"/{name}"))
        for name in [*order, "namespaces/istio-system"]
    ]
    assert positions == sorted(positions)
    # The stand-in does not empty a namespace that goes.
    assert cluster.left() == {"namespaces/default", "namespaces/istio-system/serviceaccounts/default"}
    assert cluster.teardown().run(5) == ([], [])


def test_what_users_have_stays_with_what_it_needs(cluster: Cluster) -> None:
    cluster.put("VirtualService", "mine", "default")
    cluster.put("ConfigMap", "mine", "istio-system")
    cluster.put("Secret", "cacerts-backup-1", labels=OURS)
    cluster.put("Pod", "web", "default", spec={"containers": [{"name": "istio-proxy"}]})
    cluster.put("Namespace", "shop", labels={"istio.io/rev": "stable"})
    _changes, left = cluster.teardown().run(5)
    reasons = {item.what: item.why for item in left}
    assert reasons["VirtualService default/mine"] == "Istio objects of users"
    assert "the objects of users would go" in reasons["1 CustomResourceDefinitions"]
    assert "ConfigMap istio-system/mine" in reasons["Namespace istio-system"]
    assert "something else had made" in reasons["Secret istio-system/cacerts-backup-1"]
    assert "restart their workloads" in reasons["Pod default/web"]
    assert reasons["Label for injection of shop"] == "users have set it"
    kept = {f"customresourcedefinitions/{CRD}", "namespaces/istio-system/configmaps/mine"}
    assert kept | {"namespaces/istio-system"} <= cluster.left()
    assert "namespaces/istio-system/secrets/cacerts" not in cluster.left()


def test_another_istiod_keeps_what_it_shares(cluster: Cluster) -> None:
    spec = {"template": {"spec": {"containers": []}}}
    cluster.put("Deployment", "istiod-canary", labels={"app": "istiod"}, spec=spec)
    _changes, left = cluster.teardown().run(5)
    assert any("another istiod than ours" in item.why for item in left)
    stays = cluster.left()
    assert "namespaces/default/configmaps/istio-ca-root-cert" in stays
    assert f"customresourcedefinitions/{CRD}" in stays
    assert "namespaces/istio-system/deployments/istiod" not in stays


@pytest.mark.parametrize(("name", "mesh_id", "told"), [("fra", "mesh1", "vie"), ("vie", "mesh2", "mesh1")])
def test_the_istio_of_another_cluster_or_mesh_is_refused(
    cluster: Cluster, name: str, mesh_id: str, told: str
) -> None:
    with pytest.raises(ExomeshError, match=rf"{told}, not of .*Nothing was deleted") as caught:
        cluster.teardown(name, mesh_id).run(5)
    assert caught.value.code == "foreign_istio"
    assert cluster.api.objects == cluster.before


def test_a_load_balancer_that_the_cloud_does_not_let_go_is_named(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/istio-system/services/istio-eastwestgateway"
    cluster.api.failures[("DELETE", path)] = [(200, {})]  # a finalizer holds it
    with pytest.raises(ExomeshError, match=r"load balancers.*istio-eastwestgateway") as caught:
        cluster.teardown().run(1)
    assert caught.value.code == "not_deleted"
    assert "namespaces/istio-system/deployments/istiod" in cluster.left()
    _changes, left = cluster.teardown().run(5)
    assert left == []


def of_ingress(cluster: Cluster, namespace: str, owner: str) -> None:
    """Put a gateway there, as istioctl installs one out of an IstioOperator of this name."""
    labels = {
        OWNER: owner,
        f"{OWNER}-namespace": "istio-system",
        "operator.istio.io/component": "IngressGateways",
        "istio.io/rev": "default",
    }
    spec = {"template": {"spec": {"containers": []}}}
    cluster.put("Deployment", "istio-ingressgateway", namespace, labels, spec=spec)
    cluster.put("Service", "istio-ingressgateway", namespace, labels, spec={"type": "LoadBalancer"})


def test_what_has_the_names_of_before_goes_where_more_tells_that_it_is_ours(cluster: Cluster) -> None:
    cluster.put("Namespace", "istio-ingress", labels=OURS)
    of_ingress(cluster, "istio-ingress", "exomesh-ingress")
    cluster.by_the_names_of_before()
    cluster.labelled_by("exomesh.istio")
    plan = cluster.teardown().plan()
    assert plan.left == []
    changes, left = cluster.teardown().run(5)
    assert left == []
    assert {change.ref for change in changes} == {change.ref for change in plan.changes()}
    assert cluster.left() == {"namespaces/default", "namespaces/istio-system/serviceaccounts/default"}


def test_a_teardown_of_the_names_of_before_goes_on_where_it_stopped(cluster: Cluster) -> None:
    cluster.by_the_names_of_before()
    cluster.labelled_by("exomesh.istio")
    cluster.annotate_gateway()
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD}"
    cluster.api.failures[("DELETE", path)] = [(500, {"kind": "Status", "code": 500, "message": "no"})] * 20
    with pytest.raises(ExomeshError):
        cluster.teardown().run(5)
    assert "namespaces/istio-system/deployments/istiod" not in cluster.left()
    cluster.api.failures.clear()
    _changes, left = cluster.teardown().run(5)
    assert left == []
    assert cluster.left() == {"namespaces/default", "namespaces/istio-system/serviceaccounts/default"}


def test_an_istio_that_was_never_ours_stays(cluster: Cluster) -> None:
    """As istioctl and Istio's documents have it, in a cluster where the collection never was."""
    for path in [path for path, obj in cluster.api.objects.items() if obj["metadata"].get("labels") == OURS]:
        del cluster.api.objects[path]
    of_ingress(cluster, "shop", "exomesh-ingress")
    cluster.by_the_names_of_before()
    cluster.labelled_by("kubectl")
    before = dict(cluster.api.objects)
    changes, left = cluster.teardown().run(5)
    assert changes == []
    assert cluster.api.objects == before
    told = {item.why: item.what for item in left}
    istiod = told["another istiod than ours; what it needs stays with it"]
    assert "IstioOperator istio-system/installed-state" in istiod
    assert "Deployment shop/istio-ingressgateway" in told["this collection did not install it"]


def test_a_gateway_of_a_user_survives_the_mesh(cluster: Cluster) -> None:
    of_ingress(cluster, "shop", "ingress")
    cluster.put("Namespace", "shop")
    _changes, left = cluster.teardown().run(5)
    assert {
        "namespaces/shop/deployments/istio-ingressgateway",
        "namespaces/shop/services/istio-ingressgateway",
    } <= cluster.left()
    assert "namespaces/istio-system/services/istio-eastwestgateway" not in cluster.left()
    (what,) = [item.what for item in left if item.why == "this collection did not install it"]
    assert "Deployment shop/istio-ingressgateway of somebody else's installation by istioctl" in what


def test_an_istio_of_a_user_beside_ours_keeps_its_ca_and_what_both_use(cluster: Cluster) -> None:
    theirs = {OWNER: "installed-state", f"{OWNER}-namespace": "istio-system", "istio.io/rev": "theirs"}
    env = [{"name": "CLUSTER_ID", "value": "Kubernetes"}]
    spec = {"template": {"spec": {"containers": [{"name": "discovery", "env": env}]}}}
    cluster.put("Deployment", "istiod-theirs", labels={**theirs, "app": "istiod"}, spec=spec)
    base = {**INSTALLED, "operator.istio.io/component": "Base"}
    cluster.put("ServiceAccount", "istio-reader-service-account", labels=base)
    cluster.labelled_by("exomesh.istio")
    _changes, left = cluster.teardown().run(5)
    assert {
        "namespaces/istio-system/deployments/istiod-theirs",
        "namespaces/istio-system/secrets/cacerts",
        "namespaces/istio-system/serviceaccounts/istio-reader-service-account",
    } <= cluster.left()
    assert "namespaces/istio-system/deployments/istiod" not in cluster.left()
    assert (
        "Secret istio-system/cacerts"
        in {item.why: item.what for item in left}["the other istiod uses it, too"]
    )


def test_the_default_tag_goes_with_its_istiod_whoever_ran_istioctl_last(cluster: Cluster) -> None:
    tag = {OWNER: "ingress", "istio.io/rev": "default", "istio.io/tag": "default"}
    cluster.put("MutatingWebhookConfiguration", "istio-revision-tag-default", None, tag)
    cluster.put("Service", "istiod-revision-tag-default", labels=tag, spec={})
    theirs = {**tag, "istio.io/rev": "theirs"}
    cluster.put("ValidatingWebhookConfiguration", "istiod-default-validator", None, theirs)
    cluster.teardown().run(5)
    left = {path for path in cluster.left() if "default" in path.rpartition("/")[2]}
    assert left == {
        "namespaces/default",
        "namespaces/istio-system/serviceaccounts/default",
        "validatingwebhookconfigurations/istiod-default-validator",
    }


@pytest.mark.parametrize(("name", "mesh_id", "told"), [("fra", "mesh1", "vie"), ("vie", "mesh2", "mesh1")])
def test_another_members_istio_by_the_names_of_before_is_refused(
    cluster: Cluster, name: str, mesh_id: str, told: str
) -> None:
    cluster.by_the_names_of_before()
    cluster.labelled_by("exomesh.istio")
    with pytest.raises(ExomeshError, match=rf"{told}, not of .*Nothing was deleted"):
        cluster.teardown(name, mesh_id).run(5)
    assert cluster.api.objects == cluster.before
