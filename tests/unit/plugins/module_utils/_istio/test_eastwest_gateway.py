# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the east-west gateway is made of, in either form; what becomes of it is tested on the lab."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale.nlb import nlb_annotations
from ansible_collections.exomesh.istio.plugins.module_utils._istio.eastwest_gateway import (
    NETWORK_LABEL,
    GatewayApiForm,
    OperatorForm,
    Plan,
    ensure,
)
from ansible_collections.exomesh.istio.plugins.module_utils._istio.gateway_settings import (
    GatewaySettings,
    exposing_gateway,
    gateway_api_objects,
    operator_settings,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubernetes_api import ApiServer

RANGES = ("198.51.100.0/28",)


def settings(**given: Any) -> GatewaySettings:
    return GatewaySettings(network="network-vie", **given)


def parameters(wanted: GatewaySettings, announced: bool = True) -> dict[str, Any]:
    """What istiod is told to make otherwise, by kind."""
    config_map, _gateway = gateway_api_objects(wanted, announced)
    return {key: yaml.safe_load(text) for key, text in config_map["data"].items()}


def component(wanted: GatewaySettings, announced: bool = True) -> dict[str, Any]:
    spec = operator_settings(wanted, announced).spec
    found: dict[str, Any] = spec["components"]["ingressGateways"][0]
    return found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hosts": []}, "gateway_expose_hosts is empty"),
        ({"hosts": ["shop/*.local"]}, r"\*\.NAMESPACE\.svc\.cluster\.local"),
        ({"hosts": ["*.local", "shop.*.local"]}, r"names shop\.\*\.local, which is no host"),
        ({"hosts": ["Shop.local"]}, "no host"),
        ({"source_ranges": ["198.51.100.7/28"]}, "198.51.100.7/28, which is no network: .*host bits"),
        ({"source_ranges": ["everywhere"]}, "everywhere, which is no network"),
    ],
)
def test_what_would_mean_something_else_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ExomeshError, match=said):
        settings(**given).check()


def test_what_is_right_is_not_refused() -> None:
    settings(
        hosts=["*", "*.local", "web.shop.svc.cluster.local"], source_ranges=["0.0.0.0/0", "2001:db8::/32"]
    ).check()


def test_only_the_listed_hosts_and_two_ports_are_open_in_both_forms() -> None:
    wanted = settings(hosts=["*.a.svc.cluster.local", "web.b.svc.cluster.local"])
    assert exposing_gateway(wanted)["spec"]["servers"][0]["hosts"] == list(wanted.hosts)
    ports = component(wanted)["k8s"]["service"]["ports"]
    assert [port["port"] for port in ports] == [15021, 15443]
    listeners = gateway_api_objects(wanted, True)[1]["spec"]["listeners"]
    assert [listener["hostname"] for listener in listeners] == list(wanted.hosts)
    assert {listener["port"] for listener in listeners} == {15443}
    assert len({listener["name"] for listener in listeners}) == 2
    (every,) = gateway_api_objects(settings(hosts=["*"]), True)[1]["spec"]["listeners"]
    assert "hostname" not in every


def test_annotations_and_ranges_reach_the_service_in_both_forms_and_nothing_else() -> None:
    wanted = settings(annotations={"a/b": "c"}, source_ranges=RANGES)
    assert component(wanted)["k8s"]["serviceAnnotations"] == {"a/b": "c"}
    assert component(wanted)["k8s"]["service"]["loadBalancerSourceRanges"] == list(RANGES)
    service = parameters(wanted)["service"]
    assert service["metadata"]["annotations"]["a/b"] == "c"
    assert service["spec"]["loadBalancerSourceRanges"] == list(RANGES)
    assert "annotations" not in gateway_api_objects(wanted, True)[1]["spec"]["infrastructure"]


def test_a_gateway_that_is_not_announced_lacks_the_label_on_its_service_only() -> None:
    wanted = settings()
    patched = component(wanted, announced=False)["k8s"]["overlays"]
    assert [(overlay["kind"], overlay["patches"]) for overlay in patched] == [
        ("Service", [{"path": "metadata.labels.topology\\.istio\\.io/network"}])
    ]
    assert component(wanted, announced=False)["label"][NETWORK_LABEL] == "network-vie"
    assert parameters(wanted, announced=False)["service"]["metadata"]["labels"] == {NETWORK_LABEL: None}
    assert "labels" not in parameters(wanted)["service"]["metadata"]


def test_every_change_is_seen_in_the_mark_on_the_service() -> None:
    def mark(wanted: GatewaySettings, announced: bool = True) -> str:
        annotations = parameters(wanted, announced)["service"]["metadata"]["annotations"]
        return str(annotations["exomesh.istio/configuration"])

    same = {mark(settings()), mark(settings())}
    assert len(same) == 1
    others = [
        mark(settings(), announced=False),
        mark(settings(hosts=["*"])),
        mark(settings(ha=True)),
        mark(settings(source_ranges=RANGES)),
        mark(settings(parameters={"deployment": {"spec": {"replicas": 3}}})),
    ]
    assert len({*same, *others}) == 6


def test_high_availability_and_what_wins_over_it() -> None:
    given = {
        "horizontalPodAutoscaler": {"spec": {"minReplicas": 4}},
        "service": {"metadata": {"annotations": {"x": "y"}}},
    }
    made = parameters(settings(ha=True, parameters=given, image_pull_secrets=["mirror"]))
    assert made["horizontalPodAutoscaler"]["spec"]["minReplicas"] == 4
    assert made["horizontalPodAutoscaler"]["spec"]["maxReplicas"] == 5
    assert made["podDisruptionBudget"]["spec"] == {"minAvailable": 1}
    pod = made["deployment"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["requests"]["memory"] == "128Mi"
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert pod["imagePullSecrets"] == [{"name": "mirror"}]
    assert made["service"]["metadata"]["annotations"]["x"] == "y"
    assert "replicas" not in made["deployment"]["spec"]
    assert parameters(settings())["deployment"]["spec"]["replicas"] == 1


def test_revision_in_both_forms() -> None:
    assert operator_settings(settings(revision="r2"), True).revision == "r2"
    assert gateway_api_objects(settings(revision="r2"), True)[1]["metadata"]["labels"]["istio.io/rev"] == "r2"
    assert "istio.io/rev" not in gateway_api_objects(settings(), True)[1]["metadata"]["labels"]


def test_two_forms_do_not_share_a_load_balancer(client: KubernetesClient, api: ApiServer) -> None:
    labels = {"app.kubernetes.io/managed-by": "exomesh.istio"}
    config_map = {"metadata": {"name": "istio-eastwestgateway", "labels": labels}}
    api.put("/api/v1/namespaces/istio-system/configmaps/istio-eastwestgateway", config_map)
    wanted = settings(annotations=nlb_annotations({"id": "85664334-0fd5-47bd-94a1-b4f40b1d2eb7"}))

    class Planned(OperatorForm):
        def plan(self, announced: bool = True) -> Plan:
            return Plan([], lambda _timeout: None)

    forms = Planned(client, wanted), GatewayApiForm(client, wanted)
    with pytest.raises(ExomeshError, match=r"both need the same ports.*gateway_nlb.id"):
        ensure(client, *forms, timeout=1, check_mode=True)


def test_what_is_free_form_is_merged_last() -> None:
    made = operator_settings(settings(operator_spec={"values": {"global": {"x": 1}}}), True).spec
    assert made["values"]["global"] == {"x": 1}
    assert made["values"]["gateways"]


def gateway_overlay(**entry: Any) -> dict[str, Any]:
    return {"components": {"ingressGateways": [{"name": "istio-eastwestgateway", **entry}]}}


def test_an_overlay_of_the_gateway_adds_to_it() -> None:
    ports = [{"port": 15443, "nodePort": 30443}, {"name": "metrics", "port": 15020}]
    env = [{"name": "LEVEL", "value": "debug"}]
    k8s = {"service": {"ports": ports}, "env": env}
    plain = component(settings())
    made = component(settings(operator_spec=gateway_overlay(label={"team": "mesh"}, k8s=k8s)))
    assert made["label"] == {**plain["label"], "team": "mesh"}
    assert [port["port"] for port in made["k8s"]["service"]["ports"]] == [15021, 15443, 15020]
    assert made["k8s"]["service"]["ports"][1]["nodePort"] == 30443
    assert made["k8s"]["env"] == [*plain["k8s"]["env"], *env]
    assert made["k8s"]["readinessProbe"] == plain["k8s"]["readinessProbe"]


@pytest.mark.parametrize(
    ("overlay", "told"),
    [
        (gateway_overlay(label={"istio": "other"}), "without its label istio=eastwestgateway"),
        (
            gateway_overlay(label={"topology.istio.io/network": "x"}),
            "label topology.istio.io/network=network-vie",
        ),
        (gateway_overlay(k8s={"service": {"ports": []}}), "without its port 15443"),
        (gateway_overlay(k8s={"service": {"ports": [{"name": "tls"}]}}), "has an entry without port"),
        (
            gateway_overlay(k8s={"service": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}}),
            "out 198.51.100.0/24",
        ),
        ({"components": {"ingressGateways": [{"label": {"team": "mesh"}}]}}, "has an entry without name"),
        ({"components": {"ingressGateways": []}}, "without its label app=istio-eastwestgateway"),
        ({"components": None}, "without its label app=istio-eastwestgateway"),
    ],
)
def test_an_overlay_takes_nothing_from_the_gateway(overlay: dict[str, Any], told: str) -> None:
    wanted = settings(operator_spec=overlay, source_ranges=["198.51.100.0/24"])
    with pytest.raises(ExomeshError, match=re.escape(told)):
        operator_settings(wanted, True)
