# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and rename objects that carry names of earlier releases (private to the collection).

The former names are those of Istio's documents. Others use them, too, so a name proves nothing. The proof is
something else:

- istiod: we labelled its namespace, and it is the expected member of the expected mesh.
- East-west gateway: beside it is something that only its role writes.
- Ingress gateway: its namespace is ours.

The objects found get the current mark, and none of them is created again. The object that is the proof gets
the mark last, so that the next run can finish an interrupted one. Once that object has the mark, nothing that
somebody else installs under the former names is taken for ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from .._base.documents import MALFORMED, load_yaml
from .._base.waiting import concurrently
from .._kubernetes.api import ApiError, Object, ObjectRef
from .._kubernetes.client import FIELD_MANAGER, KubernetesClient, is_ours, labels_of
from .._kubernetes.objects import NOT_FOUND, UNCHANGED, UPDATE, ObjectChange
from .gateway_settings import ADDRESS_ANNOTATION, EXPOSING, NAME
from .manifest import is_istiod
from .names import (
    COMPONENT_LABEL,
    CONTROL_PLANE,
    EASTWEST_GATEWAY,
    FORMER_NAMES,
    INGRESS_GATEWAY,
    ISTIO_NAMESPACE,
    NETWORK_LABEL,
    NOT_PRUNED_LABEL,
    OWNER_LABEL,
    OWNER_NAMESPACE_LABEL,
    REVISION_LABEL,
)
from .ownership import is_marked, revision_of

_NAMESPACE = ObjectRef("v1", "Namespace", ISTIO_NAMESPACE)

_GATEWAYS = "IngressGateways"
"""The installer's name of the gateway component.

The default tag may have the owner name of a gateway, but is not of this component.
"""


def former_objects(
    client: KubernetesClient, operator: str, mesh_id: str | None = None, cluster: str | None = None
) -> list[Object]:
    """Return our objects that carry the former name of an IstioOperator, in the order of renaming.

    :param operator: current name of the IstioOperator.
    :param mesh_id: mesh ID that istiod must have.
    :param cluster: cluster name that istiod must have.
    """
    if operator == CONTROL_PLANE:
        return _of_control_plane(client, mesh_id, cluster)
    if operator == EASTWEST_GATEWAY:
        return _of_eastwest_gateway(client)
    return _of_ingress_gateway(client) if operator == INGRESS_GATEWAY else []


def former_istiods(
    client: KubernetesClient,
    namespace: Object | None,
    istiods: Sequence[Object],
    mesh_id: str | None,
    cluster: str | None,
) -> list[Object]:
    """Return those istiods that are ours, but carry the former name or have lost it.

    The label of the namespace is not enough: the role certificates also sets it for an istiod that somebody
    else installs. So istiod must also be configured as we would do it: as this member of this mesh.
    """
    if not mesh_id or not cluster or not labelled_by_us(namespace):
        return []
    marked = any(is_marked(istiod, CONTROL_PLANE) for istiod in istiods)
    found = [istiod for istiod in istiods if _may_be_former(istiod)]
    return [istiod for istiod in found if _is_member(client, istiod, mesh_id, cluster, marked)]


def labelled_by_us(namespace: Object | None) -> bool:
    """Return whether this collection set the network label of a namespace."""
    entries = (namespace or {}).get("metadata", {}).get("managedFields") or []
    return any(
        f"f:{NETWORK_LABEL}" in _labels_in(entry)
        for entry in entries
        if entry.get("manager") == FIELD_MANAGER
    )


def mesh_of(client: KubernetesClient, istiod: Object) -> tuple[str | None, str | None]:
    """Return the mesh ID and the cluster name of an istiod; None for each that it does not have."""
    containers = istiod["spec"]["template"]["spec"]["containers"]
    variables = (variable for container in containers for variable in container.get("env") or [])
    cluster = next((entry.get("value") for entry in variables if entry["name"] == "CLUSTER_ID"), None)
    metadata = istiod["metadata"]
    name = f"istio{metadata['name'].removeprefix('istiod')}"
    config = client.get(ObjectRef("v1", "ConfigMap", name, metadata["namespace"]))
    return (mesh_id_in(config) if config else None), cluster


def mesh_id_in(config: Object) -> str | None:
    """Return the mesh ID in istiod's ConfigMap; None if it has none."""
    with suppress(*MALFORMED):
        mesh = load_yaml(config["data"]["mesh"], "The mesh configuration")
        return str(mesh["defaultConfig"]["meshId"])
    return None


def as_ours(obj: Object, operator: str) -> Object:
    """Return the object with the current mark."""
    metadata = obj["metadata"]
    return {**obj, "metadata": {**metadata, "labels": {**labels_of(obj), OWNER_LABEL: operator}}}


def with_renaming(
    changes: Sequence[ObjectChange], former: Sequence[Object], operator: str
) -> list[ObjectChange]:
    """Return the changes, including those that set the current mark."""
    path = f"metadata.labels['{OWNER_LABEL}']"
    after = {path: operator}
    before = {
        ObjectRef.of(obj): {path: owner} if (owner := labels_of(obj).get(OWNER_LABEL)) else {}
        for obj in former
    }
    told = [
        ObjectChange(
            change.ref, UPDATE, {**before.pop(change.ref), **change.before}, {**after, **change.after}
        )
        if change.ref in before and change.action in (UNCHANGED, UPDATE)
        else change
        for change in changes
    ]
    there = {change.ref for change in changes}
    return [
        *told,
        *(ObjectChange(ref, UPDATE, old, after) for ref, old in before.items() if ref not in there),
    ]


def rename(client: KubernetesClient, former: Sequence[Object], operator: str) -> None:
    """Set the current mark on objects, one after the other."""
    for obj in former:
        try:
            client.set_labels(ObjectRef.of(obj), {OWNER_LABEL: operator}, obj["metadata"].get("uid"))
        except ApiError as error:
            if error.status != NOT_FOUND:  # an object that was just deleted needs no mark
                raise


def _of_control_plane(client: KubernetesClient, mesh_id: str | None, cluster: str | None) -> list[Object]:
    istiods = client.list_objects("apps/v1", "Deployment", ISTIO_NAMESPACE, labels="app=istiod")
    if not any(map(_may_be_former, istiods)):
        return []
    ours = former_istiods(client, client.get(_NAMESPACE), istiods, mesh_id, cluster)
    if not ours:
        return []
    revisions = ",".join(sorted(set(map(revision_of, ours))))
    found = client.find(
        client.kinds(), f"{_made_by(*FORMER_NAMES.values())},{REVISION_LABEL} in ({revisions})"
    )
    name = FORMER_NAMES[CONTROL_PLANE]
    rest = [
        obj
        for obj in found
        if not is_istiod(obj)
        # The default tag carries the name of the operator that was installed last.
        and (labels_of(obj)[OWNER_LABEL] == name or NOT_PRUNED_LABEL in labels_of(obj))
    ]
    return [*rest, *ours]


def _may_be_former(istiod: Object) -> bool:
    metadata = istiod["metadata"]
    return (
        metadata["namespace"] == ISTIO_NAMESPACE
        and labels_of(istiod).get(OWNER_LABEL) in (None, FORMER_NAMES[CONTROL_PLANE])
        and not metadata.get("ownerReferences")
        and "meta.helm.sh/release-name" not in (metadata.get("annotations") or {})
    )


def _is_member(client: KubernetesClient, istiod: Object, mesh_id: str, cluster: str, renamed: bool) -> bool:
    """Return whether an istiod is the one of this cluster in this mesh.

    :param renamed: another istiod is marked already. Then this one is ours only if its Service is marked:
        Services are renamed before any istiod.
    """
    if renamed:
        service = client.get(ObjectRef("v1", "Service", istiod["metadata"]["name"], ISTIO_NAMESPACE))
        if service is None or not is_marked(service, CONTROL_PLANE):
            return False
    return mesh_of(client, istiod) == (mesh_id, cluster)


def _of_eastwest_gateway(client: KubernetesClient) -> list[Object]:
    service = client.get(ObjectRef("v1", "Service", NAME, ISTIO_NAMESPACE))
    name = FORMER_NAMES[EASTWEST_GATEWAY]
    if service is None or labels_of(service).get(OWNER_LABEL) != name:
        return []
    if ADDRESS_ANNOTATION not in (service["metadata"].get("annotations") or {}):
        exposing = client.get(ObjectRef("networking.istio.io/v1", "Gateway", EXPOSING, ISTIO_NAMESPACE))
        if not exposing or not is_ours(exposing):
            return []
    found = client.find(client.kinds(), f"{_made_by(name)},{COMPONENT_LABEL}={_GATEWAYS}")
    main = ObjectRef.of(service)
    return [*(obj for obj in found if ObjectRef.of(obj) != main), service]


def _of_ingress_gateway(client: KubernetesClient) -> list[Object]:
    selector = f"{_made_by(FORMER_NAMES[INGRESS_GATEWAY])},{COMPONENT_LABEL}={_GATEWAYS}"
    services = client.list_objects("v1", "Service", labels=selector)
    names = sorted({service["metadata"]["namespace"] for service in services})
    namespaces = concurrently(client.get, [ObjectRef("v1", "Namespace", name) for name in names])
    ours = {obj["metadata"]["name"] for obj in namespaces if obj and is_ours(obj)}
    if not ours:
        return []
    found = [obj for obj in client.find(client.kinds(), selector) if obj["metadata"].get("namespace") in ours]
    return sorted(found, key=lambda obj: bool(obj["kind"] == "Service"))


def _made_by(*names: str) -> str:
    """Return a label selector for objects that were installed from IstioOperators of these names."""
    return f"{OWNER_LABEL} in ({','.join(names)}),{OWNER_NAMESPACE_LABEL}={ISTIO_NAMESPACE}"


def _labels_in(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the labels among the fields of a field manager, each as ``f:LABEL``."""
    fields: Mapping[str, Any] = entry.get("fieldsV1") or {}
    labels: Mapping[str, Any] = fields.get("f:metadata", {}).get("f:labels", {})
    return labels
