# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects as given, or absent: what is somebody else's, items that were added, and a webhook that is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeconfigs import run_module
from kubernetes_api import ApiServer, Object, status

PATH = "/api/v1/namespaces/istio-system/services/gateway"
LABELS = {"app.kubernetes.io/managed-by": "exomesh.istio"}


def service(*ports: Object, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "gateway", "namespace": "istio-system", "labels": labels},
        "spec": {"ports": list(ports)},
    }


TLS: Object = {"name": "tls", "port": 15443}
STATUS: Object = {"name": "status", "port": 15021}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, "vie")
    yield server
    server.close()


def apply(api: ApiServer, definition: Object, **options: Any) -> dict[str, Any]:
    arguments = {"kubeconfig": str(api.kubeconfig), "definitions": [definition], "timeout": 5}
    return run_module("server_side_apply", **arguments, **options)


def test_what_somebody_else_made_is_refused_and_left(api: ApiServer) -> None:
    api.put(PATH, service(TLS))
    ours = service(TLS, **LABELS)
    refused = apply(api, ours)
    assert refused["failure"]["code"] == "foreign_object"
    assert "Service istio-system/gateway" in refused["msg"]
    assert not apply(api, ours, state="absent")["changed"]
    assert PATH in api.objects


def test_what_is_ours_is_made_and_deleted(api: ApiServer) -> None:
    ours = service(TLS, **LABELS)
    assert apply(api, ours)["objects"]["create"] == ["Service istio-system/gateway"]
    assert apply(api, ours)["objects"]["unchanged"] == ["Service istio-system/gateway"]
    assert apply(api, ours, state="absent")["changed"]
    assert PATH not in api.objects


def test_a_port_that_someone_added_or_moved_is_told_and_removed(api: ApiServer) -> None:
    api.put(PATH, service(STATUS, {**TLS, "port": 15444, "nodePort": 30444}))
    wanted = service(STATUS, TLS)
    assert apply(api, wanted, check=True)["changed"]
    assert api.objects[PATH]["spec"]["ports"][1]["port"] == 15444
    assert apply(api, wanted)["changed"]
    assert api.objects[PATH]["spec"]["ports"] == [STATUS, TLS]
    assert not apply(api, wanted)["changed"]


def test_check_mode_does_without_a_webhook_that_is_away(api: ApiServer) -> None:
    api.put(PATH, service(TLS))
    away = status(500, "InternalError", 'failed calling webhook "validation.istio.io"')
    api.failures[("PATCH", PATH)] = [away, away]
    assert not apply(api, service(TLS), check=True)["changed"]
    assert apply(api, service(TLS, app="gateway"), check=True)["changed"]


@pytest.mark.parametrize(
    ("selector", "labels", "refused"),
    [
        ({"istio": "ingressgateway"}, {}, True),
        ({"app": "istio-ingressgateway", "istio": "ingressgateway"}, {}, True),
        ({"istio": "ingressgateway", "tier": "other"}, {}, False),
        ({"istio": "eastwestgateway"}, {}, False),
        ({"istio": "ingressgateway"}, LABELS, False),
        (None, {}, False),
    ],
)
def test_what_somebody_else_uses_is_not_deleted(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, selector: Object | None, labels: Object, refused: bool
) -> None:
    # Another identity in the environment is not asked, and not another API.
    monkeypatch.setenv("K8S_AUTH_HOST", "https://127.0.0.1:1")
    monkeypatch.setenv("K8S_AUTH_API_KEY", "somebody-else")
    ours = service(TLS, **LABELS)
    apply(api, ours)
    metadata = {"name": "shop", "namespace": "shop", "labels": labels}
    spec = {} if selector is None else {"selector": selector}
    gateways = "/apis/networking.istio.io/v1/namespaces/shop/gateways"
    api.put(f"{gateways}/shop", {"metadata": metadata, "spec": spec})
    pods = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
    users = {"api_version": "networking.istio.io/v1", "kind": "Gateway", "labels": pods}
    for check in (True, False):
        result = apply(api, ours, state="absent", unless_selected_by=users, check=check)
        assert bool(result.get("failed")) is refused
        assert not refused or "selected by Gateway shop/shop" in result["msg"]
    assert (PATH in api.objects) is refused
