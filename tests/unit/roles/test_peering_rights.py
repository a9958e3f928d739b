# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader's account may do in a real Kubernetes API: all resources, all verbs."""

from __future__ import annotations

import itertools
from pathlib import Path

from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import concurrently
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import Object
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._peering.remote_secrets import (
    reader_account,
    reader_objects,
)

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
READING = ("get", "list", "watch")
NAMESPACES = ("", "istio-system")  # all, and the one that is special
CLUSTER_WIDE = {"namespaces", "nodes", "pods", "services", "endpointslices", "customresourcedefinitions"}
NOT_SERVED_HERE = (
    ("extensions.istio.io", "wasmplugins"),
    ("networking.istio.io", "virtualservices"),
    ("networking.istio.io", "workloadentries"),
    ("security.istio.io", "authorizationpolicies"),
    ("telemetry.istio.io", "telemetries"),
    ("gateway.networking.k8s.io", "gateways"),
    ("multicluster.x-k8s.io", "serviceexports"),
    ("multicluster.x-k8s.io", "serviceimports"),
)

Right = tuple[str, str, str]


def resources(client: KubernetesClient) -> set[tuple[str, str]]:
    """Group and name of every resource that the API has, subresources too, and of those of mesh CRDs."""
    found = {("", entry["name"]) for entry in client._request("GET", "/api/v1")["resources"]}
    for group in client._request("GET", "/apis")["groups"]:
        listed = client._request("GET", f"/apis/{group['preferredVersion']['groupVersion']}")
        found |= {(group["name"], entry["name"]) for entry in listed["resources"]}
    return found | set(NOT_SERVED_HERE)


def rights(client: KubernetesClient, account: str) -> set[Right]:
    """Verb, resource and namespace of everything that the account may do."""
    request: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/istio-system/serviceaccounts/{account}/token"
    reader = client.with_token(client._request("POST", path, body=request)["status"]["token"])

    def may(asked: tuple[tuple[str, str], str, str]) -> set[Right]:
        (group, name), verb, namespace = asked
        resource, _slash, subresource = name.partition("/")
        attributes = {
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "verb": verb,
            "namespace": namespace,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {"name": ""},
            "spec": {"resourceAttributes": attributes},
        }
        allowed = reader.create(review)["status"]["allowed"]
        return {(verb, name, namespace)} if allowed else set()

    asked = itertools.product(resources(client), VERBS, NAMESPACES)
    return {right for found in concurrently(may, asked) for right in found}


def test_readers_may_do_what_istiod_does_and_nothing_else(kubeconfigs: dict[str, Path]) -> None:
    client = KubernetesClient(str(kubeconfigs["east"]), name="east")
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    for obj in [*reader_objects("vie"), *reader_objects("fra", secrets=True)]:
        client.apply(obj)
    nobody = {"name": "nobody", "namespace": "istio-system"}
    client.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": nobody})
    names = CLUSTER_WIDE | {name for _group, name in NOT_SERVED_HERE}
    expected = set(itertools.product(READING, names, NAMESPACES))
    expected |= {(verb, "configmaps", "istio-system") for verb in READING}
    least = rights(client, reader_account("vie"))
    assert least - rights(client, "nobody") == expected
    more = rights(client, reader_account("fra"))
    assert more - least == set(itertools.product(("list", "watch"), ("secrets",), NAMESPACES))
