# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The default tag: it selects the istiod for namespaces without a revision (private to the collection)."""

from __future__ import annotations

from collections.abc import Mapping

from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient
from .._kubernetes.objects import CREATE, UNCHANGED, UPDATE, ObjectChange, compare_all, remove_surplus
from .manifest import (
    INSTALLER_FIELD_MANAGER,
    Installation,
    as_installed,
    owner_labels,
    without_own_changes,
)
from .names import COMPONENT_LABEL, ISTIO_NAMESPACE, NOT_PRUNED_LABEL, REVISION_LABEL, TAG_LABEL
from .operator import DEFAULT_REVISION, DEFAULT_TAG, OperatorSettings
from .rendering import Istioctl

_WEBHOOKS_API = "admissionregistration.k8s.io/v1"

_DEFAULT_TAG_WEBHOOK = ObjectRef(
    _WEBHOOKS_API, "MutatingWebhookConfiguration", f"istio-revision-tag-{DEFAULT_TAG}"
)

DEFAULT_TAG_PARTS = (
    _DEFAULT_TAG_WEBHOOK,
    ObjectRef(_WEBHOOKS_API, "ValidatingWebhookConfiguration", f"istiod-{DEFAULT_TAG}-validator"),
    ObjectRef("v1", "Service", f"istiod-revision-tag-{DEFAULT_TAG}", ISTIO_NAMESPACE),
)
"""The objects of the default tag. No manifest contains them."""


def require_tags_of_their_own(client: KubernetesClient, settings: OperatorSettings) -> None:
    """Refuse a tag that has the name of a revision: namespaces could not tell the two apart."""
    for tag in settings.revision_tags:
        revisions = client.list_objects(
            _WEBHOOKS_API, "MutatingWebhookConfiguration", labels=f"{REVISION_LABEL}={tag},!{TAG_LABEL}"
        )
        if tag != DEFAULT_TAG and (tag == settings.revision or revisions):
            raise ExomeshError(
                f"The revision tag {tag} is called like a revision",
                "tag_is_revision",
                next_step="Give it another name (istio_revision_tags)",
            )


def _default_tag(
    client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings, labels: Mapping[str, str]
) -> list[Object] | None:
    """Return the objects of the default tag, if it points to this revision, or is to point to it.

    :returns: empty if the tag points to another revision; None if the objects are not known before the
        revision is installed.
    """
    revision = settings.revision or DEFAULT_REVISION
    held = client.get(_DEFAULT_TAG_WEBHOOK)
    holder = held["metadata"]["labels"].get(REVISION_LABEL) if held else revision
    if settings.revision and DEFAULT_TAG not in settings.revision_tags and holder != revision:
        return []  # the tag belongs to another revision
    selector = f"{REVISION_LABEL}={revision},!{TAG_LABEL}"
    injectors = client.list_objects(_WEBHOOKS_API, "MutatingWebhookConfiguration", labels=selector)
    if not injectors:
        return None
    return [
        as_installed(obj, {**labels, COMPONENT_LABEL: "Pilot", NOT_PRUNED_LABEL: "true"})
        for obj in istioctl.tag(DEFAULT_TAG, revision, injectors)
    ]


def compare_default_tag(
    client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings, labels: Mapping[str, str]
) -> list[ObjectChange]:
    objects = _default_tag(client, istioctl, settings, labels)
    if objects is None:
        revision = labels[REVISION_LABEL]
        return [
            _taken_over(ref, live, revision)
            for ref, live in zip(DEFAULT_TAG_PARTS, concurrently(client.get, DEFAULT_TAG_PARTS), strict=True)
        ]
    return compare_all(client, objects, INSTALLER_FIELD_MANAGER, without_own_changes)


def _taken_over(ref: ObjectRef, live: Object | None, revision: str) -> ObjectChange:
    """Return the change to an object of the default tag when a new revision is installed."""
    holder = live and live["metadata"]["labels"].get(REVISION_LABEL)
    if not holder:
        return ObjectChange(ref, CREATE, {}, {})
    if holder == revision:
        return ObjectChange(ref, UNCHANGED, {}, {})
    path = f"metadata.labels['{REVISION_LABEL}']"
    return ObjectChange(ref, UPDATE, {path: holder}, {path: revision})


def apply_default_tag(
    client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings, installation: Installation
) -> None:
    """Create or update the default tag. The installer does not update an existing one."""
    labels = owner_labels(installation.operator, installation.version)
    objects = _default_tag(client, istioctl, settings, labels) or []
    changes = compare_all(client, objects, INSTALLER_FIELD_MANAGER, without_own_changes)
    for obj, change in zip(objects, changes, strict=True):
        if change.action != UNCHANGED:
            remove_surplus(client, obj)
            client.apply(obj, INSTALLER_FIELD_MANAGER)
