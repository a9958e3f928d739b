# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The east-west gateway as a Gateway of the Gateway API, with an istiod that makes what it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._istio import eastwest_gateway
from kubeconfigs import run_module
from kubernetes_api import Object
from running_mesh import RunningCluster, RunningMesh

NAME = "istio-eastwestgateway-istio"
SERVICE = f"/api/v1/namespaces/istio-system/services/{NAME}"
DEPLOYMENT = f"/apis/apps/v1/namespaces/istio-system/deployments/{NAME}"
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/istio-system/gateways/istio-eastwestgateway"
PARAMETERS = "/api/v1/namespaces/istio-system/configmaps/istio-eastwestgateway"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gateways.gateway.networking.k8s.io"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningCluster]:
    """Cluster vie without a gateway, and with the kinds of the Gateway API."""
    monkeypatch.setattr(eastwest_gateway, "DRAIN_SECONDS", 0)
    mesh = RunningMesh(tmp_path)
    vie = mesh["vie"]
    del vie.api.objects["/api/v1/namespaces/istio-system/services/istio-eastwestgateway"]
    del vie.api.objects["/apis/networking.istio.io/v1/namespaces/istio-system/gateways/cross-network-gateway"]
    versions = [{"name": "v1", "served": True}]
    vie.api.put(CRD, {"metadata": {"name": "gateways"}, "spec": {"versions": versions}})
    follow(vie)
    yield vie
    mesh.close()


def follow(cluster: RunningCluster, address: str = "203.0.113.7") -> None:
    """Have istiod make Service and Deployment of the Gateway, and the cloud give an address."""
    put = type(cluster.api).put.__get__(cluster.api)

    def put_and_follow(path: str, obj: Object) -> Object:
        made: Object = put(path, obj)
        if path not in (GATEWAY, PARAMETERS) or GATEWAY not in cluster.api.objects:
            return made
        accepted = {"type": "Accepted", "status": "True", "observedGeneration": 1}
        cluster.api.objects[GATEWAY]["status"] = {"conditions": [accepted]}
        wanted = yaml.safe_load(cluster.api.objects[PARAMETERS]["data"]["service"])["metadata"]
        labels = {"topology.istio.io/network": "network-vie", **wanted.get("labels", {})}
        live = cluster.api.objects.get(SERVICE, {"metadata": {}})["metadata"].get("annotations", {})
        service = cluster.put(
            "Service",
            NAME,
            {key: value for key, value in labels.items() if value},
            spec={"type": "LoadBalancer"},
            status={"loadBalancer": {"ingress": [{"ip": address}]}},
        )
        service["metadata"]["annotations"] = live | wanted["annotations"]
        if DEPLOYMENT not in cluster.api.objects:
            cluster.put("Deployment", NAME, spec={"replicas": 1, "selector": {"matchLabels": {}}})
        return made

    cluster.api.put = put_and_follow  # type: ignore[method-assign]


def gateway(cluster: RunningCluster, **options: Any) -> Object:
    known = {"form": "gateway-api", "network": "network-vie", "timeout": 2}
    kubeconfig = str(cluster.api.kubeconfig)
    return run_module("eastwest_gateway", **{"kubeconfig": kubeconfig, **known, **options})


def test_it_is_made_as_foretold_and_kept(cluster: RunningCluster) -> None:
    foretold = gateway(cluster, check=True)
    assert GATEWAY not in cluster.api.objects
    done = gateway(cluster)
    assert done.get("changed"), done
    assert done["objects"] == foretold["objects"]
    assert (done["address"], done["service"], done["former_address"]) == ("203.0.113.7", NAME, "")
    assert not gateway(cluster)["changed"]


def test_another_address_is_told_once(cluster: RunningCluster) -> None:
    gateway(cluster)
    ingress = cluster.api.objects[SERVICE]["status"]["loadBalancer"]["ingress"]
    ingress[0]["ip"] = "203.0.113.8"
    foretold = gateway(cluster, check=True)
    assert (foretold["changed"], foretold["former_address"]) == (True, "203.0.113.7")
    moved = gateway(cluster)
    assert (moved["address"], moved["former_address"]) == ("203.0.113.8", "203.0.113.7")
    assert "no longer 203.0.113.7" in str(moved["warnings"])
    assert not gateway(cluster)["changed"]


def test_a_gateway_that_was_scaled_away_comes_back(cluster: RunningCluster) -> None:
    gateway(cluster)
    cluster.api.objects[DEPLOYMENT]["spec"]["replicas"] = 0
    assert gateway(cluster)["changed"]
    assert cluster.api.objects[DEPLOYMENT]["spec"]["replicas"] == 1


def test_what_istiod_refuses_is_told(cluster: RunningCluster) -> None:
    del cluster.api.put  # type: ignore[attr-defined]
    assert "istiod has not taken it up yet" in gateway(cluster)["msg"]
    refused = {"type": "Accepted", "status": "False", "reason": "Invalid", "message": "no such class"}
    cluster.api.objects[GATEWAY]["status"] = {"conditions": [{**refused, "observedGeneration": 1}]}
    failed = gateway(cluster)
    assert failed["failure"]["code"] == "gateway_not_in_place"
    assert "it is not accepted: Invalid: no such class" in failed["msg"]
    cluster.api.objects[GATEWAY]["status"]["conditions"][0]["status"] = "True"
    assert f"istiod has made no Service istio-system/{NAME} of it" in gateway(cluster)["msg"]


@pytest.mark.parametrize(
    ("options", "code"),
    [({"hosts": []}, "gateway_invalid"), ({"kubeconfig": "/nonexistent"}, "kubeconfig_missing")],
)
def test_what_cannot_be_made_is_refused(cluster: RunningCluster, options: Object, code: str) -> None:
    assert gateway(cluster, **options)["failure"]["code"] == code


def test_without_the_kinds_or_beside_a_foreign_one_nothing_is_made(cluster: RunningCluster) -> None:
    cluster.api.put(PARAMETERS, {"metadata": {"name": "istio-eastwestgateway"}, "data": {}})
    assert gateway(cluster)["failure"]["code"] == "foreign_object"
    del cluster.api.objects[CRD]
    assert gateway(cluster)["failure"]["code"] == "gateway_api_missing"
    assert gateway(cluster, kubeconfig="/nonexistent", check=True)["changed"]


def test_the_operators_gateway_goes_when_this_one_has_its_address(cluster: RunningCluster) -> None:
    component = {
        "install.operator.istio.io/owning-resource": "exomesh-eastwest",
        "operator.istio.io/component": "IngressGateways",
        "topology.istio.io/network": "network-vie",
    }
    old = "/api/v1/namespaces/istio-system/services/istio-eastwestgateway"
    ingress = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
    cluster.put("Service", "istio-eastwestgateway", component, spec={"type": "LoadBalancer"}, status=ingress)
    foretold = gateway(cluster, check=True)
    assert foretold["objects"]["delete"] == ["Service istio-system/istio-eastwestgateway"]
    assert old in cluster.api.objects
    done = gateway(cluster)
    assert done.get("changed"), done
    assert (done["address"], old in cluster.api.objects) == ("203.0.113.7", False)
    assert not gateway(cluster)["changed"]


@pytest.mark.parametrize("ours", [True, False])
def test_one_by_the_name_of_before_goes_only_where_it_is_ours(cluster: RunningCluster, ours: bool) -> None:
    """As Istio's own script names it; the note of its address is by our role."""
    labels = {
        "install.operator.istio.io/owning-resource": "eastwest",
        "install.operator.istio.io/owning-resource-namespace": "istio-system",
        "operator.istio.io/component": "IngressGateways",
        "topology.istio.io/network": "network-vie",
    }
    old = "/api/v1/namespaces/istio-system/services/istio-eastwestgateway"
    ingress = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
    cluster.put("Service", "istio-eastwestgateway", labels, spec={"type": "LoadBalancer"}, status=ingress)
    if ours:
        cluster.api.objects[old]["metadata"]["annotations"] = {"exomesh.istio/address": "203.0.113.1"}
    foretold = gateway(cluster, check=True)
    assert foretold["objects"]["delete"] == (["Service istio-system/istio-eastwestgateway"] if ours else [])
    done = gateway(cluster)
    assert done.get("changed"), done
    assert (old in cluster.api.objects) != ours
    assert not gateway(cluster)["changed"]
