# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what a cluster has before the installation (private to the collection)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .._base.documents import MALFORMED, load_json, load_yaml
from .._base.waiting import concurrently
from .._istio.names import NETWORK_LABEL
from .._istio.record import read_record
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient
from .wanted import Wanted

VERSION_LABEL = "operator.istio.io/version"

_DEACTIVATED = {"istio.io/deactivated": "never-match"}


def identity_of(client: KubernetesClient, istiod: Object) -> dict[str, str]:
    """Return mesh ID, cluster name, network and trust domain of an istiod, by the code of their checks.

    A value that is not known is missing in the result.
    """
    namespace, suffix = istiod["metadata"]["namespace"], istiod["metadata"]["name"].removeprefix("istiod")
    mesh_config, injector = concurrently(
        client.get,
        [
            ObjectRef("v1", "ConfigMap", f"istio{suffix}", namespace),
            ObjectRef("v1", "ConfigMap", f"istio-sidecar-injector{suffix}", namespace),
        ],
    )
    found: dict[str, Any] = {}
    if injector:
        with suppress(*MALFORMED):
            settings = load_json(injector["data"].get("values") or "{}", "values").get("global") or {}
            found["mesh-id"] = settings.get("meshID")
            found["cluster-name"] = (settings.get("multiCluster") or {}).get("clusterName")
            found["network"] = settings.get("network")
    if mesh_config:
        with suppress(*MALFORMED):
            document = load_yaml(mesh_config["data"].get("mesh") or "", "mesh") or {}
            found["trust-domain"] = document.get("trustDomain")
    return {code: str(value) for code, value in found.items() if value}


def version_of(istiod: Object) -> str:
    labels = istiod["metadata"].get("labels") or {}
    image = istiod["spec"]["template"]["spec"]["containers"][0]["image"]
    return str(labels.get(VERSION_LABEL) or image.partition("@")[0].rpartition(":")[2])


def is_of_istio(configuration: Object, webhook: Object) -> bool:
    return str(configuration["metadata"]["name"]).startswith("istio") or str(webhook["name"]).endswith(
        "istio.io"
    )


def deactivated(webhook: Object) -> bool:
    """Return whether the installer has switched off the webhook in favour of a revision tag's webhook."""
    return (webhook.get("namespaceSelector") or {}).get("matchLabels") == _DEACTIVATED


def is_of_deployment(pod: Object, name: str) -> bool:
    """Return whether a ReplicaSet of the Deployment has made the pod."""
    return any(
        reference["kind"] == "ReplicaSet" and reference["name"].rpartition("-")[0] == name
        for reference in pod["metadata"].get("ownerReferences") or []
    )


def images_of(pod: Object) -> set[str]:
    spec = pod["spec"]
    containers = (spec.get("initContainers") or []) + (spec.get("containers") or [])
    return {str(container.get("image", "")) for container in containers}


def name_of(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def why_fixed(client: KubernetesClient, wanted: Wanted, code: str) -> str:
    """Return why a value of the installed Istio cannot be changed, so that nobody accepts it in vain.

    :param code: code of the check that has found another value; see :func:`identity_of`.
    :return: sentences; empty if the value can be changed.
    """
    record = read_record(client)
    if record:
        kept = {"mesh-id": record.mesh, "cluster-name": record.cluster, "network": record.network}
        value = {"mesh-id": wanted.mesh_id, "cluster-name": wanted.cluster, "network": wanted.network}
        if code in kept and kept[code] != value[code]:
            return (
                f"The cluster's record has {kept[code]}, too. For another value take the cluster out of the "
                "mesh first (playbook remove_cluster with remove_uninstall, or playbook teardown)"
            )
    if code != "network":
        return ""
    gateways = [
        name_of(deployment)
        for deployment in client.list_objects("apps/v1", "Deployment", labels=NETWORK_LABEL)
        if (deployment["spec"]["selector"].get("matchLabels") or {}).get(NETWORK_LABEL, wanted.network)
        != wanted.network
    ]
    if not gateways:
        return ""
    deleting = "; ".join(
        f"kubectl -n {namespace} delete deployment {name}"
        for namespace, _slash, name in (gateway.partition("/") for gateway in gateways)
    )
    return (
        f"The network is in the selector of {', '.join(gateways)}, which the API does not let change. For "
        f"another network delete that first, which interrupts requests from other clusters: {deleting}"
    )
