# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered objects, and what changes in them once they are in a cluster (private to the collection)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.objects import UNCHANGED, ObjectChange
from .names import (
    COMPONENT_LABEL,
    NOT_PRUNED_LABEL,
    OWNER_LABEL,
    OWNER_NAMESPACE_LABEL,
    REVISION_LABEL,
)
from .operator import DEFAULT_REVISION

INSTALLER_FIELD_MANAGER = "istio-operator"

_COMPONENTS = {
    "base": "Base",
    "istiod": "Pilot",
    "istio-ingress": "IngressGateways",
    "istio-egress": "EgressGateways",
}
"""The installer's names of components, by the name of the chart."""

_INJECTOR_WEBHOOK = "istio-sidecar-injector"

_NEVER_MATCH = {"matchLabels": {"istio.io/deactivated": "never-match"}}
"""Selector with which istioctl switches off an injector that the default tag's webhook replaces."""


@dataclass
class Installation:
    """An installation: its wanted objects, and the changes that they need.

    :param changes: all changes, for people to read.
    :param objects: the objects that the installer creates, in the form that it gives them.
    :param needs_installer: whether ``istioctl install`` must run. The fields below are handled without it.
    :param is_new: whether there is nothing that the installer would have to update or remove.
    :param namespaces: the namespace as it should be.
    :param replicas: Deployments with too few or too many replicas: the number that they have, and the number
        that they should have.
    :param former: our objects with a former name. They get the current name before anything else changes.
    """

    version: str
    operator: Object
    changes: list[ObjectChange]
    objects: list[Object]
    needs_installer: bool
    is_new: bool
    namespaces: list[Object]
    replicas: dict[ObjectRef, tuple[int, int]]
    former: list[Object]

    @property
    def differs(self) -> bool:
        return any(change.action != UNCHANGED for change in self.changes)

    @property
    def deployments(self) -> list[ObjectRef]:
        return [ObjectRef.of(obj) for obj in self.objects if obj["kind"] == "Deployment"]


def component_of(obj: Object) -> str | None:
    """Return the installer's name of an object's component; None if it is not known."""
    labels = obj["metadata"].get("labels") or {}
    chart = str(labels.get("helm.sh/chart", "")).rpartition("-")[0]
    return labels.get(COMPONENT_LABEL) or _COMPONENTS.get(chart)


def is_istiod(obj: Object) -> bool:
    return obj["kind"] == "Deployment" and (obj["metadata"].get("labels") or {}).get("app") == "istiod"


def _revision(operator: Object) -> str:
    spec = operator["spec"]
    return str(spec.get("revision") or spec.get("values", {}).get("revision") or "")


def owner_labels(operator: Object, version: str) -> dict[str, str]:
    """Return the labels that the installer puts on everything it applies, in addition to the component's."""
    return {
        "operator.istio.io/managed": "Reconcile",
        "operator.istio.io/version": version,
        OWNER_LABEL: operator["metadata"]["name"],
        OWNER_NAMESPACE_LABEL: operator["metadata"]["namespace"],
        REVISION_LABEL: _revision(operator) or DEFAULT_REVISION,
    }


def as_installed(obj: Object, labels: Mapping[str, str]) -> Object:
    """Return the object as the installer leaves it: with its labels, and the plain injector switched off."""
    metadata = {**obj["metadata"], "labels": {**(obj["metadata"].get("labels") or {}), **labels}}
    obj = {**obj, "metadata": metadata}
    if obj["kind"] == "MutatingWebhookConfiguration" and metadata["name"] == _INJECTOR_WEBHOOK:
        off = {"namespaceSelector": _NEVER_MATCH, "objectSelector": _NEVER_MATCH}
        obj["webhooks"] = [{**webhook, **off} for webhook in obj["webhooks"]]
    return obj


def without_own_changes(obj: Object) -> Object:
    """Return the object without what the installer and istiod write in addition to the manifest."""
    labels = obj["metadata"].get("labels") or {}
    # All installations share the default tag. Its owner is the one whose installer ran last.
    own = {COMPONENT_LABEL} | ({OWNER_LABEL} if NOT_PRUNED_LABEL in labels else set())
    labels = {key: value for key, value in labels.items() if key not in own}
    obj = {**obj, "metadata": {**obj["metadata"], "labels": labels}}
    if obj["kind"].endswith("WebhookConfiguration"):
        # istiod writes its CA. It sets the failurePolicy of validation to Fail once it serves validation.
        written = {"caBundle"} | ({"failurePolicy"} if obj["kind"].startswith("Validating") else set())
        obj["webhooks"] = [_without(webhook, written) for webhook in obj.get("webhooks", [])]
    return obj


def _without(webhook: Mapping[str, Any], written: set[str]) -> Object:
    client_config = {key: value for key, value in webhook["clientConfig"].items() if key not in written}
    return {key: value for key, value in webhook.items() if key not in written} | {
        "clientConfig": client_config
    }
