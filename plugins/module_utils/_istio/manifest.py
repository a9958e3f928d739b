# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of rendered objects once they are in a cluster (private to the collection)."""

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
"""The installer's names of what its charts make, by the name of the chart."""

_INJECTOR_WEBHOOK = "istio-sidecar-injector"

_NEVER_MATCH = {"matchLabels": {"istio.io/deactivated": "never-match"}}
"""Selector by which istioctl switches off an injector whose work the default tag's webhook does."""


@dataclass
class Installation:
    """What an installation is, and would become.

    :param changes: everything that changes, for people.
    :param objects: what the installer makes, as it makes it.
    :param needs_installer: whether ``istioctl install`` must run; what follows is done without it.
    :param is_new: nothing is there that the installer would have to bring up to date, or to remove.
    :param namespaces: the namespace as it should be.
    :param replicas: Deployments with too few or too many replicas: how many they have, and should have.
    :param former: what is ours, but has the name of before; it gets the one of now before anything else.
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
    """The installer's name of the component that an object belongs to; None for one that is not known."""
    labels = obj["metadata"].get("labels") or {}
    chart = str(labels.get("helm.sh/chart", "")).rpartition("-")[0]
    return labels.get(COMPONENT_LABEL) or _COMPONENTS.get(chart)


def is_istiod(obj: Object) -> bool:
    return obj["kind"] == "Deployment" and (obj["metadata"].get("labels") or {}).get("app") == "istiod"


def _revision(operator: Object) -> str:
    spec = operator["spec"]
    return str(spec.get("revision") or spec.get("values", {}).get("revision") or "")


def owner_labels(operator: Object, version: str) -> dict[str, str]:
    """Labels that the installer puts on everything it applies, beside the component's."""
    return {
        "operator.istio.io/managed": "Reconcile",
        "operator.istio.io/version": version,
        OWNER_LABEL: operator["metadata"]["name"],
        OWNER_NAMESPACE_LABEL: operator["metadata"]["namespace"],
        REVISION_LABEL: _revision(operator) or DEFAULT_REVISION,
    }


def as_installed(obj: Object, labels: Mapping[str, str]) -> Object:
    """The object as the installer leaves it: with its labels, and the plain injector switched off."""
    metadata = {**obj["metadata"], "labels": {**(obj["metadata"].get("labels") or {}), **labels}}
    obj = {**obj, "metadata": metadata}
    if obj["kind"] == "MutatingWebhookConfiguration" and metadata["name"] == _INJECTOR_WEBHOOK:
        off = {"namespaceSelector": _NEVER_MATCH, "objectSelector": _NEVER_MATCH}
        obj["webhooks"] = [{**webhook, **off} for webhook in obj["webhooks"]]
    return obj


def without_own_changes(obj: Object) -> Object:
    """Leave out what the installer and istiod write themselves, beside the manifest."""
    labels = obj["metadata"].get("labels") or {}
    # The default tag is every installation's: its owner is the one whose installer ran last.
    own = {COMPONENT_LABEL} | ({OWNER_LABEL} if NOT_PRUNED_LABEL in labels else set())
    labels = {key: value for key, value in labels.items() if key not in own}
    obj = {**obj, "metadata": {**obj["metadata"], "labels": labels}}
    if obj["kind"].endswith("WebhookConfiguration"):
        # istiod writes its CA, and sets the policy of validation to Fail once it serves it.
        written = {"caBundle"} | ({"failurePolicy"} if obj["kind"].startswith("Validating") else set())
        obj["webhooks"] = [_without(webhook, written) for webhook in obj.get("webhooks", [])]
    return obj


def _without(webhook: Mapping[str, Any], written: set[str]) -> Object:
    client_config = {key: value for key, value in webhook["clientConfig"].items() if key not in written}
    return {key: value for key, value in webhook.items() if key not in written} | {
        "clientConfig": client_config
    }
