# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Services are one in a mesh, and what Istio takes their ports for."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._istio.services import (
    exported_by_default,
    full_host,
    is_cluster_local,
    is_discovered,
    is_exported,
    may_merge,
    mesh_config_in,
    protocol_of,
)

LOCAL = {"settings": {"clusterLocal": True}, "hosts": ["*.data.svc.cluster.local"]}
EXCEPTION = {"settings": {"clusterLocal": False}, "hosts": ["pg.data.svc.cluster.local"]}


@pytest.mark.parametrize(
    ("settings", "host", "local"),
    [
        ([], "pg.data.svc.cluster.local", False),
        ([], "kubernetes.default.svc.cluster.local", True),
        ([], "dns.kube-system.svc.cluster.local", True),
        ([LOCAL], "pg.data.svc.cluster.local", True),
        ([LOCAL, EXCEPTION], "pg.data.svc.cluster.local", False),
        ([EXCEPTION, LOCAL], "pg.data.svc.cluster.local", False),
        ([LOCAL], "pg.shop.svc.cluster.local", False),
        (
            [{"settings": {"clusterLocal": False}, "hosts": ["*.kube-system.svc.cluster.local"]}],
            "dns.kube-system.svc.cluster.local",
            False,
        ),
        ([{"settings": {"clusterLocal": True}}, {"hosts": ["*"]}], "pg.data.svc.cluster.local", False),
    ],
)
def test_the_most_specific_setting_keeps_a_host_in_its_cluster(
    settings: list[dict[str, Any]], host: str, local: bool
) -> None:
    assert is_cluster_local({"serviceSettings": settings}, host) is local


@pytest.mark.parametrize(
    ("namespace", "metadata", "merges"),
    [
        ("shop", {}, True),
        ("istio-system", {}, False),
        ("exomesh-verify", {}, False),
        ("kube-system", {}, False),
        ("shop", {"labels": {"app.kubernetes.io/managed-by": "exomesh.istio"}}, False),
        ("shop", {"annotations": {"networking.istio.io/exportTo": "~"}}, False),
        ("shop", {"annotations": {"networking.istio.io/exportTo": "."}}, True),
    ],
)
def test_services_of_a_cluster_are_not_those_of_the_mesh(
    namespace: str, metadata: dict[str, Any], merges: bool
) -> None:
    assert may_merge({"metadata": {"name": "web", "namespace": namespace, **metadata}}) is merges


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        ({"name": "http", "port": 80}, "HTTP"),
        ({"name": "http-web", "port": 80}, "HTTP"),
        ({"name": "grpc-web-x", "port": 80}, "GRPC-WEB"),
        ({"name": "web", "port": 80}, "auto"),
        ({"port": 80}, "auto"),
        ({"name": "db", "port": 3306}, "TCP"),
        ({"name": "http", "appProtocol": "kubernetes.io/h2c", "port": 80}, "HTTP2"),
        ({"name": "http", "appProtocol": "tcp", "port": 80}, "TCP"),
        ({"name": "http", "protocol": "UDP", "port": 80}, "UDP"),
    ],
)
def test_protocols_are_those_that_istio_takes(port: dict[str, Any], protocol: str) -> None:
    assert protocol_of(port) == protocol


def test_namespaces_that_istiod_looks_at() -> None:
    config = {"discoverySelectors": [{"matchLabels": {"mesh": "yes"}}]}
    assert is_discovered({}, {})
    assert is_discovered(config, {"mesh": "yes"})
    assert not is_discovered(config, {})


@pytest.mark.parametrize("value", ["x", 7, ["x"], {"a": 1}, None])
def test_a_mesh_configuration_of_another_form_says_nothing(value: Any) -> None:
    assert is_discovered({"discoverySelectors": value}, {})
    assert not is_cluster_local({"serviceSettings": value}, "pg.data.svc.cluster.local")


@pytest.mark.parametrize(
    "entry",
    [{"settings": "x", "hosts": ["*"]}, {"settings": {"clusterLocal": True}, "hosts": 5}, {"hosts": {}}],
)
def test_a_setting_of_another_form_says_nothing(entry: dict[str, Any]) -> None:
    assert not is_cluster_local({"serviceSettings": [entry]}, "pg.data.svc.cluster.local")


@pytest.mark.parametrize("selector", [{"matchLabels": ["a"]}, {"matchExpressions": ["a"]}])
def test_a_discovery_selector_of_another_form_selects_nothing(selector: dict[str, Any]) -> None:
    assert not is_discovered({"discoverySelectors": [selector]}, {"a": "b"})


@pytest.mark.parametrize(
    ("namespaces", "own", "seen"),
    [
        (None, "shop", True),
        ([], "shop", True),
        (["*"], "shop", True),
        (["."], "shop", False),
        (["."], "istio-system", True),
        (["pay", " istio-system "], "shop", True),
        (["~"], "istio-system", False),
        (exported_by_default({"defaultServiceExportTo": ["."]}, "Service"), "shop", False),
        (exported_by_default({"defaultServiceExportTo": 5}, "Service"), "shop", True),
    ],
)
def test_what_the_gateway_sees(namespaces: list[str] | None, own: str, seen: bool) -> None:
    assert is_exported(namespaces, own) is seen


def test_a_mesh_configuration_may_be_that_of_a_revision() -> None:
    assert mesh_config_in({}) == {}
    assert mesh_config_in({"other": {"mesh": "x"}, "istio-1-31": {"mesh": "trustDomain: a"}}) == {
        "trustDomain": "a"
    }


def test_short_hosts_are_of_the_namespace_of_their_rule() -> None:
    assert full_host("web", "shop") == "web.shop.svc.cluster.local"
    assert full_host("web.shop.svc.cluster.local", "other") == "web.shop.svc.cluster.local"
    assert full_host("*.local", "other") == "*.local"
