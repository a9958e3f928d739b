"""The role gateway against real Kubernetes APIs without controllers: what it says before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from exolab import build

Play = Callable[..., Any]

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}
GATEWAY = ObjectRef("gateway.networking.k8s.io/v1", "Gateway", "istio-eastwestgateway", "istio-system")


@pytest.fixture
def play(play_role: Play, kubeconfigs: dict[str, Path]) -> Play:
    """The gateway of the cluster west, as a Gateway of the Gateway API."""
    hosts = {"west": {"mesh_kubeconfig": str(kubeconfigs["west"]), "gateway_api": True, "gateway_timeout": 1}}
    return partial(play_role, "gateway", hosts)


@pytest.fixture
def west(kubeconfigs: dict[str, Path]) -> KubernetesClient:
    client = KubernetesClient(str(kubeconfigs["west"]))
    client.apply(NAMESPACE)
    return client


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"gateway_nlb": {"health_check": {"interval": 3}}}, "interval must be from 5 to 300, not 3"),
        ({"gateway_nlb": {"strategy": "random"}}, "round-robin, source-hash"),
        ({"gateway_nlb": {"nodepool": "a"}}, "nodepool"),
        ({"gateway_nlb": {"external": True}}, "external needs the id or the name"),
        ({"gateway_source_ranges": ["10.0.0.1/8"]}, "10.0.0.1/8, which is no network"),
        ({"gateway_expose_hosts": ["shop/*.local"]}, "narrows nothing here"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_asked(
    play_role: Play, variables: dict[str, Any], said: str
) -> None:
    nowhere = {"mesh_kubeconfig": "/nonexistent/kubeconfig", "gateway_api": True}
    result = play_role("gateway", {"west": nowhere}, "--check", **variables)
    assert result.return_code != 0
    assert said in result.words


def test_without_the_kinds_it_says_how_to_install_them(play: Play, west: KubernetesClient) -> None:
    for arguments in ((), ("--check",)):
        result = play(*arguments)
        assert result.return_code != 0
        assert "standard-install.yaml" in result.words
    assert west.get(ObjectRef("v1", "ConfigMap", "istio-eastwestgateway", "istio-system")) is None


def test_what_is_made_is_as_predicted_and_what_istiod_leaves_undone_is_told(
    play: Play, west: KubernetesClient
) -> None:
    for path in build.gateway_api_crds().glob("*_gateways.yaml"):
        west.apply(yaml.safe_load(path.read_text()))
    predicted = play("--check", "--diff")
    assert predicted.return_code == 0, predicted.text
    assert predicted.changed == {"west": 1}
    for made in ("ConfigMap", "Gateway", "Service"):
        assert f"+{made} istio-system/istio-eastwestgateway" in predicted.text
    assert west.get(GATEWAY) is None
    result = play()
    assert result.return_code != 0
    assert "not in place after 1 s: istiod has not taken it up yet" in result.words
    live = west.get(GATEWAY)
    assert live
    assert live["spec"]["listeners"][0]["hostname"] == "*.local"


def test_a_gateway_of_somebody_else_is_not_touched(play: Play, west: KubernetesClient) -> None:
    foreign = west.get(GATEWAY)
    assert foreign
    del foreign["metadata"]["labels"]["app.kubernetes.io/managed-by"]
    west.replace(foreign)
    result = play("--check")
    assert result.return_code != 0
    assert "Gateway istio-system/istio-eastwestgateway is there, but not ours" in result.words
