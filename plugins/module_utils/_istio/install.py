# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installation of Istio with ``istioctl``, only where something would change (private to the collection).

``istioctl install`` does not report what it changes, or whether it changes anything. So this module renders
the manifest, adds the labels that the installer adds, and compares the result with the cluster. The installer
runs only if the two differ. In a cluster without an installation, this module applies the manifest itself, as
the installer would. That saves a second rendering, and the installer's look every two seconds whether all is
ready.

``istioctl`` needs a second to render, and its answer depends only on its input. So the last answers can be
kept in a file. The comparison with the cluster is the same with and without that file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from .._base.errors import ExomeshError
from .._base.waiting import concurrently, remaining, sparing
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import FIELD_MANAGER, KubernetesClient, labels_of
from .._kubernetes.lock import LockLostError
from .._kubernetes.objects import (
    CREATE,
    DELETE,
    UNCHANGED,
    UPDATE,
    ObjectChange,
    apply_patiently,
    compare_all,
    live_objects,
    remove_surplus,
)
from .._kubernetes.readiness import Unready, deployment_unmet, explain_deployment
from .default_tag import apply_default_tag, compare_default_tag, require_tags_of_their_own
from .discovery import NAME_LABEL, hidden, selectors_of
from .former import as_ours, former_objects, rename, with_renaming
from .manifest import (
    INSTALLER_FIELD_MANAGER,
    Installation,
    as_installed,
    component_of,
    is_istiod,
    owner_labels,
    without_own_changes,
)
from .names import (
    COMPONENT_LABEL,
    ISTIO_NAMESPACE,
    NETWORK_LABEL,
    NOT_PRUNED_LABEL,
    OWNER_LABEL,
    REVISION_LABEL,
)
from .operator import OperatorSettings, istio_operator
from .ownership import refuse_foreign_owner
from .registries import refuse_retired_registries
from .rendering import Istioctl

PRUNED_KINDS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("policy/v1", "PodDisruptionBudget"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
)
"""Kinds that the installer prunes: it deletes those of its objects that it no longer renders."""


def plan(
    client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings, adopt: bool = False
) -> Installation:
    """Compare the wanted installation with the cluster. Change nothing.

    :param adopt: take over an installation of somebody else.
    :raises ExomeshError: such an installation is refused: ``retired_registry``, ``pull_secret_missing``,
        ``tag_is_revision``, ``namespace_hidden`` or ``foreign_istio``.
    """
    kubernetes = client.version()  # reports an unreachable cluster in better words than istioctl
    version = istioctl.version()
    operator = istio_operator(settings, version)
    require_tags_of_their_own(client, settings)
    rendered = istioctl.render(operator, kubernetes)
    refuse_retired_registries(operator, rendered)
    namespace = client.get(ObjectRef("v1", "Namespace", ISTIO_NAMESPACE))
    if namespace:
        _require_pull_secrets(client, settings)
    held = labels_of(namespace) if namespace else {}
    _require_seen(operator, {**held, NETWORK_LABEL: settings.network or ""})
    labels = owner_labels(operator, version)
    objects = [as_installed(obj, labels) for obj in rendered]
    former = former_objects(client, settings.name, settings.mesh_id, settings.cluster_name)
    renamed = {ObjectRef.of(obj): as_ours(obj, settings.name) for obj in former}
    if not adopt:
        refuse_foreign_owner(client, settings.name, objects, labels[REVISION_LABEL], renamed)
    installed = _installed(client, labels)
    installed |= {ref: obj for ref, obj in renamed.items() if _is_installed(obj, labels)}
    changes = compare_all(
        client, objects, INSTALLER_FIELD_MANAGER, without_own_changes, {**renamed, **installed}
    )
    changes += _to_be_pruned(installed, objects)
    needs_installer = any(change.action != UNCHANGED for change in changes)
    is_new = _is_new(changes, objects)
    if any(is_istiod(obj) for obj in rendered):
        changes += compare_default_tag(client, istioctl, settings, labels)
    namespaces = _namespace(operator, rendered)
    replicas = _replicas_out_of_range(client, objects, installed)
    resized = [_with_replicas(change, replicas.get(change.ref)) for change in changes]
    return Installation(
        version,
        operator,
        [
            *compare_all(client, namespaces, FIELD_MANAGER),
            *with_renaming(resized, former, settings.name),
        ],
        objects,
        needs_installer,
        is_new,
        namespaces,
        replicas,
        former,
    )


def install(
    client: KubernetesClient,
    istioctl: Istioctl,
    settings: OperatorSettings,
    installation: Installation,
    timeout: int,
    go_on: Callable[[], None] = lambda: None,
) -> None:
    """Carry out the plan. Run the installer only if it is needed.

    :param go_on: is called while the installer runs, and raises an error to stop the installer.
    :raises ExomeshError: ``istioctl_failed``, with the state of every Deployment that is not ready.
    """
    _require_pull_secrets(client, settings)
    rename(client, installation.former, settings.name)
    for namespace in installation.namespaces:
        client.apply(namespace)
    _scale(client, installation.replicas)
    if installation.is_new:
        _apply_new(client, installation.objects, timeout)
    elif installation.needs_installer:
        concurrently(lambda obj: remove_surplus(client, obj), installation.objects)
        _run_installer(client, istioctl, installation, timeout, go_on)
        # An autoscaler takes a while to notice that there are too few replicas.
        _scale(client, _replicas_out_of_range(client, installation.objects))
    if any(is_istiod(obj) for obj in installation.objects):
        apply_default_tag(client, istioctl, settings, installation)


def _is_new(changes: Sequence[ObjectChange], objects: Sequence[Object]) -> bool:
    """Return whether the installer would do nothing but apply the objects.

    Objects of an earlier Istio or of an interrupted run may exist, if they need no change.
    """
    actions = {change.ref: change.action for change in changes}
    deployments = [ref for ref in actions if ref.kind == "Deployment"]
    return (
        bool(deployments)
        and all(actions[ref] == CREATE for ref in deployments)
        and set(actions.values()) <= {CREATE, UNCHANGED}
        and all(component_of(obj) for obj in objects)
    )


_INSTALLER_PART = 0.8
"""Share of the time left that the installer may wait for its objects to become ready."""

_FIRST, _LAST = "CustomResourceDefinition", "Deployment"


def _apply_new(client: KubernetesClient, objects: Sequence[Object], timeout: float) -> None:
    """Apply objects as the installer does. Deployments come last: their pods need all the rest."""

    def apply(obj: Object) -> None:
        metadata = obj["metadata"]
        labels = {**metadata["labels"], COMPONENT_LABEL: component_of(obj)}
        apply_patiently(
            client, {**obj, "metadata": {**metadata, "labels": labels}}, INSTALLER_FIELD_MANAGER, timeout
        )

    concurrently(apply, [obj for obj in objects if obj["kind"] == _FIRST])
    concurrently(apply, [obj for obj in objects if obj["kind"] not in (_FIRST, _LAST)])
    concurrently(apply, [obj for obj in objects if obj["kind"] == _LAST])


def _run_installer(
    client: KubernetesClient,
    istioctl: Istioctl,
    installation: Installation,
    timeout: int,
    go_on: Callable[[], None],
) -> None:
    started = time.monotonic()
    go_on()
    try:
        # Leave time for the installer to report what is not ready, and then for our own look at the rest.
        with sparing():
            most = min(timeout, remaining() * _INSTALLER_PART)
            istioctl.install(installation.operator, max(1, int(most)), go_on)
    except LockLostError:
        raise
    except ExomeshError as error:
        unready = _explain_unready(client, installation.operator)
        if unready:
            seconds = round(time.monotonic() - started)
            error.cause = f"after {seconds} s: {'. '.join(each.told for each in unready)}"
        error.next_step = (
            next((each.next_step for each in unready if each.next_step), error.next_step)
            or f"Look at the pods of namespace {ISTIO_NAMESPACE}, then run this again"
        )
        raise


def _explain_unready(client: KubernetesClient, operator: Object) -> list[Unready]:
    selector = f"{OWNER_LABEL}={operator['metadata']['name']}"
    try:
        deployments = client.list_objects("apps/v1", "Deployment", ISTIO_NAMESPACE, labels=selector)
        names = [obj["metadata"]["name"] for obj in deployments if deployment_unmet(obj)]
        return [explain_deployment(client, ISTIO_NAMESPACE, name) for name in names]
    except ExomeshError:
        return []  # the installer's own message has to suffice


def _require_seen(operator: Object, labels: Mapping[str, str]) -> None:
    """Raise ExomeshError ``namespace_hidden`` if discovery selectors hide istiod's own namespace from it.

    :param labels: the labels that the namespace will have.
    """
    if hidden(selectors_of(operator["spec"].get("meshConfig")), {ISTIO_NAMESPACE: labels}):
        raise ExomeshError(
            f"meshConfig.discoverySelectors of istio_overlay hide {ISTIO_NAMESPACE} from istiod",
            "namespace_hidden",
            cause="istiod would see neither the gateway nor the network of the cluster",
            next_step=f"Add a selector: - matchLabels: {{{NAME_LABEL}: {ISTIO_NAMESPACE}}}",
        )


def _namespace(operator: Object, rendered: list[Object]) -> list[Object]:
    """Return istiod's namespace with the network label; empty if there is no network or no istiod.

    The installer sets that label only on a namespace that it creates.
    """
    network = operator["spec"].get("values", {}).get("global", {}).get("network")
    if not network or not any(is_istiod(obj) for obj in rendered):
        return []
    metadata = {"name": operator["metadata"]["namespace"], "labels": {NETWORK_LABEL: network}}
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}]


def _replicas_out_of_range(
    client: KubernetesClient, objects: list[Object], known: Mapping[ObjectRef, Object] | None = None
) -> dict[ObjectRef, tuple[int, int]]:
    """Return Deployments with fewer or more replicas than the limits of their autoscaler allow.

    The autoscaler sets the number of replicas, so no manifest has it. But an autoscaler ignores 0 replicas.

    :param known: live objects that were read already.
    :returns: by Deployment, the number of replicas found, and the nearest number that is allowed.
    """
    limits = {
        obj["spec"]["scaleTargetRef"]["name"]: (obj["spec"].get("minReplicas", 1), obj["spec"]["maxReplicas"])
        for obj in objects
        if obj["kind"] == "HorizontalPodAutoscaler"
    }
    unsized = [obj for obj in objects if obj["kind"] == "Deployment" and "replicas" not in obj["spec"]]
    live = live_objects(client, unsized, known)
    found = {ObjectRef.of(obj): obj["spec"].get("replicas", 1) for obj in live if obj}
    sizes = {ref: (size, _clamp(size, *limits.get(ref.name, (1, None)))) for ref, size in found.items()}
    return {ref: (size, wanted) for ref, (size, wanted) in sizes.items() if size != wanted}


def _scale(client: KubernetesClient, sizes: Mapping[ObjectRef, tuple[int, int]]) -> None:
    for ref, (_found, wanted) in sizes.items():
        client.scale(ref, wanted)


def _clamp(replicas: int, least: int, most: int | None) -> int:
    return max(least, min(replicas, most or replicas))


def _with_replicas(change: ObjectChange, replicas: tuple[int, int] | None) -> ObjectChange:
    if replicas is None:
        return change
    before, after = (
        {**side, "spec.replicas": size}
        for side, size in zip((change.before, change.after), replicas, strict=True)
    )
    return ObjectChange(change.ref, UPDATE, before, after)


def _require_pull_secrets(client: KubernetesClient, settings: OperatorSettings) -> None:
    refs = [ObjectRef("v1", "Secret", name, ISTIO_NAMESPACE) for name in settings.image_pull_secrets]
    missing = [ref.name for ref, found in zip(refs, concurrently(client.get, refs), strict=True) if not found]
    if missing:
        raise ExomeshError(
            f"Namespace {ISTIO_NAMESPACE} has no Secret {', '.join(missing)} to pull images with",
            "pull_secret_missing",
            next_step=f"Create it (kubectl create secret docker-registry {missing[0]} --namespace "
            f"{ISTIO_NAMESPACE} ...), or take it out of istio_image_pull_secrets",
        )


def _installed(client: KubernetesClient, labels: Mapping[str, str]) -> dict[ObjectRef, Object]:
    """Return the objects of an installation with these labels, of the kinds that the installer prunes."""
    owned = [f"{name}={value}" for name, value in labels.items()]
    selector = ",".join([*owned, f"!{NOT_PRUNED_LABEL}", COMPONENT_LABEL])
    found = concurrently(lambda kind: client.list_objects(*kind, labels=selector), PRUNED_KINDS)
    return {ObjectRef.of(obj): obj for objects in found for obj in objects}


def _is_installed(obj: Object, labels: Mapping[str, str]) -> bool:
    """Return whether :func:`_installed` would find an object."""
    found = obj["metadata"]["labels"]
    kinds = (obj["apiVersion"], obj["kind"]) in PRUNED_KINDS
    return (
        kinds
        and found.items() >= labels.items()
        and COMPONENT_LABEL in found
        and NOT_PRUNED_LABEL not in found
    )


def _to_be_pruned(installed: Mapping[ObjectRef, Object], objects: Sequence[Object]) -> list[ObjectChange]:
    """Return what the installer deletes: objects of an earlier installation that this one does not have."""
    refs = [ObjectRef.of(obj) for obj in objects]
    kept = {(ref.kind, ref.namespace, ref.name) for ref in refs}
    surplus = [ref for ref in installed if (ref.kind, ref.namespace, ref.name) not in kept]
    return [ObjectChange(ref, DELETE, {}, {}) for ref in surplus]
