# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the API need not be asked what server-side apply would do, and what is asked for together."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import concurrently
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import objects
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubernetes_api import ApiServer

Object = dict[str, Any]
LABELS = {"app": "istiod", "owner": "ours"}


def port(name: str, number: int, **more: Any) -> Object:
    return {"name": name, "port": number, **more}


def wanted(**spec: Any) -> Object:
    metadata = {"name": "istiod", "namespace": "istio-system", "labels": dict(LABELS)}
    ports = [port("grpc", 15010), port("https", 443, targetPort=15017)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"ports": ports, "selector": {"app": "istiod"}, **spec},
    }


def live() -> Object:
    """What the API makes of it, with its defaults, its bookkeeping, and what others have added."""
    obj = copy.deepcopy(wanted())
    item: Object = {"f:name": {}, "f:port": {}}
    keys = '{{"port":{},"protocol":"TCP"}}'
    obj["metadata"] |= {
        "uid": "1",
        "resourceVersion": "7",
        "labels": {**LABELS, "of": "others"},
        "managedFields": [
            {
                "manager": "others",
                "operation": "Update",
                "fieldsV1": {"f:metadata": {"f:labels": {"f:of": {}}}},
            },
            {
                "manager": "ours",
                "operation": "Apply",
                "apiVersion": "v1",
                "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:app": {}, "f:owner": {}}},
                    "f:spec": {
                        "f:ports": {
                            "k:" + keys.format(15010): {".": {}, **item},
                            "k:" + keys.format(443): {".": {}, **item, "f:targetPort": {}},
                        },
                        "f:selector": {},
                    },
                },
            },
        ],
    }
    obj["spec"] |= {"clusterIP": "10.96.0.7", "type": "ClusterIP"}
    for one in obj["spec"]["ports"]:
        one["protocol"] = "TCP"
    obj["status"] = {"loadBalancer": {}}
    return obj


def needs_no_question(obj: Object, there: Object) -> bool:
    applied = objects._applied_fields(there, "ours")
    return objects._has_all(objects._comparable(obj), objects._comparable(there), applied)


def test_an_object_that_has_all_is_no_question() -> None:
    assert needs_no_question(wanted(), live())


def _without(obj: Object, *path: str) -> Object:
    *parents, last = path
    inner = obj
    for name in parents:
        inner = inner[name]
    del inner[last]
    return obj


@pytest.mark.parametrize(
    "obj",
    [
        wanted(type="LoadBalancer"),
        wanted(sessionAffinity="None"),  # a default that is not written down
        wanted(ports=[port("grpc", 15010), port("https", 443, targetPort=15018)]),
        wanted(ports=[port("grpc", 15010)]),
        wanted(ports=[port("https", 443, targetPort=15017), port("grpc", 15010)]),
        wanted(ports=[port("grpc", 15010), port("https", 443)]),  # the target port would go
        wanted(selector={"app": "istiod", "revision": "canary"}),
        _without(wanted(), "metadata", "labels", "owner"),
        _without(wanted(), "spec", "selector"),
    ],
)
def test_every_other_wish_is_a_question(obj: Object) -> None:
    assert not needs_no_question(obj, live())


def _selector_of_others(there: Object) -> None:
    there["spec"]["selector"]["more"] = "by hand"  # replaced as a whole by apply


def _port_of_others(there: Object) -> None:
    there["spec"]["ports"].append(port("more", 1, protocol="TCP"))


def _port_edited(there: Object) -> None:
    there["spec"]["ports"][0]["port"] = 15011


def _never_applied(there: Object) -> None:
    del there["metadata"]["managedFields"]


def _applied_in_another_version(there: Object) -> None:
    there["metadata"]["managedFields"][1]["apiVersion"] = "v1beta1"


@pytest.mark.parametrize(
    "change",
    [_selector_of_others, _port_of_others, _port_edited, _never_applied, _applied_in_another_version],
)
def test_every_change_by_others_is_a_question(change: Any) -> None:
    there = live()
    change(there)
    assert not needs_no_question(wanted(), there)


def service(name: str, **labels: str) -> Object:
    metadata = {"name": name, "namespace": "istio-system", "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}}


def test_a_family_is_asked_for_by_one_request_and_who_lost_its_label_by_another(api: ApiServer) -> None:
    path = "/api/v1/namespaces/istio-system/services"
    for name, labels in {"a": {"owner": "ours"}, "b": {"owner": "ours"}, "c": {}}.items():
        api.put(f"{path}/{name}", service(name, **labels))
    family = [service(name, owner="ours", part=name) for name in "abcd"]
    client = KubernetesClient(str(api.kubeconfig), name="vie")
    found = objects.live_objects(client, family)
    assert [obj and obj["metadata"]["name"] for obj in found] == ["a", "b", "c", None]
    asked = sorted(request for request in api.requests if "/services" in request)
    assert len(asked) == 3, asked  # the list, c and d


def test_built_in_kinds_need_no_discovery_and_others_one_for_all_threads(api: ApiServer) -> None:
    client = KubernetesClient(str(api.kubeconfig), name="vie")
    client.list_objects("v1", "Secret", "istio-system")
    assert not [request for request in api.requests if request.endswith("/api/v1")]
    gateways = [ObjectRef("networking.istio.io/v1", "Gateway", str(n), "istio-system") for n in range(20)]
    assert concurrently(client.get, gateways) == [None] * 20
    assert client.list_objects("security.istio.io/v1", "AuthorizationPolicy") == []
    assert not [request for request in api.requests if request.endswith(".istio.io/v1")]
    group = "networking.istio.io/v1alpha3"
    concurrently(client.get, [ObjectRef(group, "EnvoyFilter", str(n), "istio-system") for n in range(20)])
    assert len([request for request in api.requests if request.endswith(f"/apis/{group}")]) == 1
