# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The owners of the Istio and of the gateways in a cluster (private to the collection)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient, labels_of
from .manifest import is_istiod
from .names import (
    COMPONENT_LABEL,
    CONTROL_PLANE,
    EASTWEST_GATEWAY,
    INGRESS_GATEWAY,
    ISTIO_NAMESPACE,
    NAMELESS,
    OWNER_LABEL,
    OWNER_NAMESPACE_LABEL,
    REVISION_LABEL,
)
from .operator import DEFAULT_REVISION

TWO_OWNERS = "Two owners of one Deployment undo each other's changes, and delete what only the other knows"

_ADOPTING = {
    CONTROL_PLANE: "istio_adopt: true (preflight_accept: [istio-owner] comes to the same)",
    EASTWEST_GATEWAY: "gateway_adopt: true (preflight_accept: [gateway-owner] comes to the same)",
    INGRESS_GATEWAY: "ingress_adopt: true",
}

_BESIDE = {
    CONTROL_PLANE: "install beside it with another istio_revision",
    EASTWEST_GATEWAY: "set gateway_api: true, as that gateway has another name",
    INGRESS_GATEWAY: "set another ingress_namespace",
}

_CHARTS_ALONE = "unknown"
"""The owner that Istio's charts write. Newer istioctl keeps it if the IstioOperator has no name."""


def revision_of(obj: Object) -> str:
    return str(labels_of(obj).get(REVISION_LABEL) or DEFAULT_REVISION)


def is_marked(obj: Object, operator: str) -> bool:
    """Return whether an object has an IstioOperator's mark. The name of a nameless one is no mark."""
    labels = labels_of(obj)
    return (
        labels.get(OWNER_LABEL) == operator != NAMELESS
        and labels.get(OWNER_NAMESPACE_LABEL, ISTIO_NAMESPACE) == ISTIO_NAMESPACE
    )


def foreign_owner(deployment: Object, operator: str) -> str | None:
    """Return the other owner of a Deployment; None if it belongs to our IstioOperator.

    The field manager proves nothing: istioctl uses the same one for us and for others.

    :param operator: name of our IstioOperator.
    """
    metadata = deployment["metadata"]
    for reference in metadata.get("ownerReferences") or []:
        # Even if the Deployment has our mark, this owner will write it again.
        return f"{reference['kind']} {reference['name']}, of an operator"
    if is_marked(deployment, operator):
        return None
    annotations, labels = metadata.get("annotations") or {}, labels_of(deployment)
    if release := annotations.get("meta.helm.sh/release-name"):
        return f"the Helm release {annotations.get('meta.helm.sh/release-namespace', '?')}/{release}"
    owner = labels.get(OWNER_LABEL)
    if owner == _CHARTS_ALONE and COMPONENT_LABEL in labels:
        return "somebody else's installation by istioctl, of an IstioOperator without a name"
    if owner in (None, _CHARTS_ALONE):
        return f"somebody unknown (it lacks the label {OWNER_LABEL}={operator})"
    namespace = labels.get(OWNER_NAMESPACE_LABEL) or metadata["namespace"]
    named = ", the name that istioctl gives where none is given" if owner == NAMELESS else ""
    return f"somebody else's installation by istioctl, IstioOperator {namespace}/{owner}{named}"


def ways_on(operator: str) -> str:
    """Return the possible next steps about an installation of somebody else."""
    option = _ADOPTING.get(operator, "adopt: true")
    beside = _BESIDE.get(operator, "install under other names")
    return (
        f"To take it over, look at what would change, by --check --diff with {option}, then run that without "
        f"--check. To leave it alone, {beside}"
    )


def refuse_foreign_owner(
    client: KubernetesClient,
    operator: str,
    objects: Iterable[Object],
    revision: str,
    known: Collection[ObjectRef],
) -> None:
    """Refuse to install over an installation of somebody else.

    :param objects: the objects to install.
    :param known: objects that are certainly ours.
    :raises ExomeshError: ``foreign_istio``.
    """
    wanted = {ObjectRef.of(obj) for obj in objects if obj["kind"] == "Deployment"}
    found = {}
    if any(is_istiod(obj) for obj in objects):
        istiods = client.list_objects("apps/v1", "Deployment", labels="app=istiod")
        # Two istiods of one revision share webhooks and leases, even in different namespaces.
        found = {ObjectRef.of(obj): obj for obj in istiods if revision_of(obj) == revision}
    missing = sorted(wanted - {*found, *known})
    found |= {ref: obj for ref, obj in zip(missing, concurrently(client.get, missing), strict=True) if obj}
    for ref, obj in sorted(found.items()):
        owner = None if ref in known else foreign_owner(obj, operator)
        if owner:
            raise ExomeshError(
                f"{ref} belongs to {owner}. Nothing was changed",
                "foreign_istio",
                cluster=client.name,
                cause=TWO_OWNERS,
                next_step=ways_on(operator),
            )
