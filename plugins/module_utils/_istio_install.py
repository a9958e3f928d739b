# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing Istio with ``istioctl``, but only where something would change (private to the collection).

``istioctl install`` neither says what it changes nor whether it changes anything. So its manifest is
rendered, given the labels that the installer itself adds, and compared with the cluster; the installer runs
only where the two differ.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils._errors import (
    ExomeshError,
    MissingRequirementError,
)
from ansible_collections.exomesh.istio.plugins.module_utils._istio_operator import (
    OperatorSettings,
    istio_operator,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import (
    FIELD_MANAGER,
    ISTIO_NAMESPACE,
    KubernetesClient,
    Object,
    ObjectRef,
    concurrently,
    deployment_unmet,
    explain_deployment,
    wait_until_met,
)
from ansible_collections.exomesh.istio.plugins.module_utils._objects import (
    CREATE,
    DELETE,
    UNCHANGED,
    UPDATE,
    ObjectChange,
    compare_all,
)

with suppress(ImportError):  # whoever connects to a cluster is told that it is missing
    import yaml

INSTALLER_FIELD_MANAGER = "istio-operator"

_COMPONENT_LABEL = "operator.istio.io/component"
_NOT_PRUNED_LABEL = "install.operator.istio.io/owning-resource-not-pruned"
_INJECTOR_WEBHOOK = "istio-sidecar-injector"
_TAG_WEBHOOK = ObjectRef(
    "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "istio-revision-tag-default"
)

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
"""Kinds of which the installer deletes what it once made and no longer renders."""


class Istioctl:
    """One ``istioctl`` program, speaking to one cluster with one named kubeconfig.

    :raises MissingRequirementError: it is not there.
    """

    def __init__(self, path: str, kubeconfig: str, context: str | None = None) -> None:
        if not os.access(path, os.X_OK):
            raise MissingRequirementError(
                f"istioctl is not at {path}, or cannot be run",
                next_step="Let role istioctl fetch it, or set istioctl_binary to an existing one",
            )
        self._path = path
        self._cluster_arguments = ["--kubeconfig", kubeconfig] + (["--context", context] if context else [])

    def version(self) -> str:
        """Its own version, as in ``1.31.1``."""
        answer = self._run(["version", "--remote=false", "--output", "json"], None, 30)
        return str(json.loads(answer)["clientVersion"]["version"])

    def render(self, operator: Object) -> list[Object]:
        """The objects that an installation of ``operator`` consists of, for this very cluster."""
        answer = self._run(
            ["manifest", "generate", "--cluster-specific", *self._cluster_arguments, "--filename", "-"],
            operator,
            120,
        )
        # Warnings about deprecated settings come first, on the same stream.
        start = answer.find("apiVersion:")
        documents = yaml.load_all(answer[start:], Loader=_yaml_loader()) if start >= 0 else []
        return [document for document in documents if document]

    def install(self, operator: Object, timeout: int) -> None:
        """Install and wait until ready, or fail after ``timeout`` seconds."""
        arguments = ["install", "--skip-confirmation", "--readiness-timeout", f"{timeout}s"]
        self._run([*arguments, *self._cluster_arguments, "--filename", "-"], operator, timeout + 120)

    def _run(self, arguments: list[str], operator: Object | None, timeout: int) -> str:
        with tempfile.TemporaryDirectory(prefix="exomesh-istioctl-") as home:
            # No configuration and no credentials of the user's: only what the arguments name.
            environment = {name: value for name, value in os.environ.items() if name != "ISTIOCONFIG"}
            environment |= {"HOME": home, "KUBECONFIG": os.devnull}
            try:
                result = subprocess.run(
                    [self._path, *arguments],
                    input="" if operator is None else yaml.safe_dump(operator),
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise ExomeshError(
                    f"istioctl {arguments[0]} did not end within {timeout} seconds",
                    "istioctl_timeout",
                    next_step="Check that the cluster's API answers",
                ) from None
            except OSError as error:
                raise MissingRequirementError(
                    f"istioctl at {self._path} cannot be run: {error.strerror}",
                    next_step="Use the release for this operating system and processor",
                ) from None
        if result.returncode != 0:
            # Its banner and its progress marks tell nothing.
            output = f"{result.stdout}\n{result.stderr}".splitlines()
            lines = [line.strip() for line in output if re.search("[a-z]{3}", line)]
            raise ExomeshError(
                f"istioctl {arguments[0]} failed",
                "istioctl_failed",
                cause=" ".join([line for line in lines if line.startswith("Error")] or lines[-5:]),
                details={"exit_code": result.returncode, "output": lines[-40:]},
            )
        return result.stdout


@dataclass
class Installation:
    """What an installation is, and would become.

    :param changes: everything that changes, for people.
    :param needs_installer: whether ``istioctl install`` must run; what follows is done without it.
    :param namespaces: the namespace as it should be.
    :param replicas: Deployments that someone scaled to 0, with the replicas they should have.
    """

    version: str
    operator: Object
    changes: list[ObjectChange]
    deployments: list[ObjectRef]
    needs_installer: bool
    namespaces: list[Object]
    replicas: dict[ObjectRef, int]

    @property
    def differs(self) -> bool:
        return any(change.action != UNCHANGED for change in self.changes)


def plan(client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings) -> Installation:
    """Compare what an installation would make with the cluster. Changes nothing."""
    client.version()  # says in better words than istioctl that the cluster cannot be reached
    version = istioctl.version()
    operator = istio_operator(settings, version)
    rendered = istioctl.render(operator)
    labels = _owner_labels(operator, version)
    objects = [_as_installed(obj, labels) for obj in rendered]
    changes = compare_all(client, objects, INSTALLER_FIELD_MANAGER, _without_installers_own_changes)
    changes += _missing_tag_webhook(client, operator, changes)
    changes += _to_be_pruned(client, labels, {ObjectRef.of(obj) for obj in objects})
    needs_installer = any(change.action != UNCHANGED for change in changes)
    namespaces = _namespace(operator, rendered)
    replicas = _scaled_to_zero(client, objects)
    scaled = [
        _with_replicas(change, replicas[change.ref]) if change.ref in replicas else change
        for change in changes
    ]
    return Installation(
        version,
        operator,
        [*compare_all(client, namespaces, FIELD_MANAGER), *scaled],
        [ObjectRef.of(obj) for obj in objects if obj["kind"] == "Deployment"],
        needs_installer,
        namespaces,
        replicas,
    )


def install(client: KubernetesClient, istioctl: Istioctl, installation: Installation, timeout: int) -> None:
    """Do what the plan says; the installer runs only where it is needed.

    :raises ExomeshError: ``istioctl_failed``, with the state of every Deployment that is not ready.
    """
    started = time.monotonic()
    for namespace in installation.namespaces:
        client.apply(namespace)
    for ref, replicas in installation.replicas.items():
        client.scale(ref, replicas)
    if not installation.needs_installer:
        return
    try:
        istioctl.install(installation.operator, timeout)
    except ExomeshError as error:
        unready = _explain_unready(client, installation.operator)
        if unready:
            seconds = round(time.monotonic() - started)
            error.cause = f"after {seconds} s: {unready}"
        error.next_step = (
            error.next_step or f"Look at the pods of namespace {ISTIO_NAMESPACE}, then run this again"
        )
        raise


def wait_ready(client: KubernetesClient, deployments: list[ObjectRef], timeout: float) -> dict[str, str]:
    """Wait until every Deployment is ready.

    :returns: readiness by Deployment.
    :raises ExomeshError: ``not_ready``, with the condition that is not met, pods and Events.
    """
    deadline = time.monotonic() + timeout

    def unmet(ref: ObjectRef) -> str | None:
        return wait_until_met(
            lambda: deployment_unmet(client.get(ref)), max(0.0, deadline - time.monotonic())
        )

    missing = concurrently(unmet, deployments)
    unready = [ref for ref, condition in zip(deployments, missing, strict=True) if condition]
    if unready:
        explained = [explain_deployment(client, ref.namespace or "", ref.name) for ref in unready]
        raise ExomeshError(
            f"Not ready after {timeout:.0f} s: "
            + ", ".join(f"{ref.namespace}/{ref.name}" for ref in unready),
            "not_ready",
            cause=". ".join(explained),
            next_step="Cure what the Events say, then run this again; it goes on where it stopped",
        )
    return {f"{ref.namespace}/{ref.name}": "ready" for ref in deployments}


def readiness(client: KubernetesClient, deployments: list[ObjectRef]) -> dict[str, str]:
    """Readiness by Deployment, as it is now: ``ready``, or what is missing."""
    found = concurrently(lambda ref: deployment_unmet(client.get(ref)) or "ready", deployments)
    return {f"{ref.namespace}/{ref.name}": state for ref, state in zip(deployments, found, strict=True)}


def _explain_unready(client: KubernetesClient, operator: Object) -> str:
    selector = f"install.operator.istio.io/owning-resource={operator['metadata']['name']}"
    try:
        deployments = client.list_objects("apps/v1", "Deployment", ISTIO_NAMESPACE, labels=selector)
        names = [obj["metadata"]["name"] for obj in deployments if deployment_unmet(obj)]
        return ". ".join(explain_deployment(client, ISTIO_NAMESPACE, name) for name in names)
    except ExomeshError:
        return ""  # the installer's own words must do


def _yaml_loader() -> Any:
    # The manifest has 25,000 lines: the C loader reads it in a twentieth of the time.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _namespace(operator: Object, rendered: list[Object]) -> list[Object]:
    """istiod's namespace with its network's label, which the installer sets only on one that it makes."""
    network = operator["spec"].get("values", {}).get("global", {}).get("network")
    if not network or not any(ObjectRef.of(obj).kind == "Deployment" and _is_istiod(obj) for obj in rendered):
        return []
    metadata = {"name": operator["metadata"]["namespace"], "labels": {"topology.istio.io/network": network}}
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}]


def _is_istiod(obj: Object) -> bool:
    return bool((obj["metadata"].get("labels") or {}).get("app") == "istiod")


def _revision(operator: Object) -> str:
    spec = operator["spec"]
    return str(spec.get("revision") or spec.get("values", {}).get("revision") or "")


def _owner_labels(operator: Object, version: str) -> dict[str, str]:
    """Labels that the installer puts on everything it applies, beside the component's."""
    return {
        "operator.istio.io/managed": "Reconcile",
        "operator.istio.io/version": version,
        "install.operator.istio.io/owning-resource": operator["metadata"]["name"],
        "install.operator.istio.io/owning-resource-namespace": operator["metadata"]["namespace"],
        "istio.io/rev": _revision(operator) or "default",
    }


def _as_installed(obj: Object, labels: Mapping[str, str]) -> Object:
    metadata = {**obj["metadata"], "labels": {**(obj["metadata"].get("labels") or {}), **labels}}
    return {**obj, "metadata": metadata}


def _without_installers_own_changes(obj: Object) -> Object:
    """Leave out what Istio itself rewrites after the manifest was applied."""
    labels = {
        key: value for key, value in obj["metadata"].get("labels", {}).items() if key != _COMPONENT_LABEL
    }
    obj = {**obj, "metadata": {**obj["metadata"], "labels": labels}}
    if obj["kind"] == "ValidatingWebhookConfiguration":
        # istiod sets it to Fail once it serves the webhook.
        return _with_webhooks(obj, ("failurePolicy",))
    if obj["kind"] == "MutatingWebhookConfiguration" and obj["metadata"]["name"] == _INJECTOR_WEBHOOK:
        # The installer switches it off in favour of the revision tag's webhook.
        return _with_webhooks(obj, ("namespaceSelector", "objectSelector"))
    return obj


def _with_webhooks(obj: Object, without: tuple[str, ...]) -> Object:
    webhooks = [
        {key: value for key, value in webhook.items() if key not in without}
        for webhook in obj.get("webhooks", [])
    ]
    return {**obj, "webhooks": webhooks}


def _scaled_to_zero(client: KubernetesClient, objects: list[Object]) -> dict[ObjectRef, int]:
    """Deployments without pods although nobody asked for that, with the replicas they should have.

    Their number is left to the autoscaler, so no manifest has it; and an autoscaler keeps away from 0.
    """
    minimum = {
        obj["spec"]["scaleTargetRef"]["name"]: obj["spec"].get("minReplicas", 1)
        for obj in objects
        if obj["kind"] == "HorizontalPodAutoscaler"
    }
    unsized = [
        ObjectRef.of(obj) for obj in objects if obj["kind"] == "Deployment" and "replicas" not in obj["spec"]
    ]
    live = concurrently(client.get, unsized)
    return {
        ref: minimum.get(ref.name, 1)
        for ref, obj in zip(unsized, live, strict=True)
        if obj and obj["spec"].get("replicas") == 0
    }


def _with_replicas(change: ObjectChange, replicas: int) -> ObjectChange:
    before, after = {**change.before, "spec.replicas": 0}, {**change.after, "spec.replicas": replicas}
    return ObjectChange(change.ref, UPDATE, before, after)


def _missing_tag_webhook(
    client: KubernetesClient, operator: Object, changes: list[ObjectChange]
) -> list[ObjectChange]:
    """The webhook of the default tag, which the installer makes beside the manifest of a plain istiod."""
    has_injector = any(
        change.ref.name == _INJECTOR_WEBHOOK and change.ref.namespace is None for change in changes
    )
    if not has_injector or _revision(operator) or client.get(_TAG_WEBHOOK):
        return []
    return [ObjectChange(_TAG_WEBHOOK, CREATE, {}, {})]


def _to_be_pruned(
    client: KubernetesClient, labels: Mapping[str, str], rendered: set[ObjectRef]
) -> list[ObjectChange]:
    """What an earlier installation of this name made and this one does not: the installer deletes it."""
    owned = [f"{name}={value}" for name, value in labels.items()]
    selector = ",".join([*owned, f"!{_NOT_PRUNED_LABEL}", _COMPONENT_LABEL])
    kept = {(ref.kind, ref.namespace, ref.name) for ref in rendered}

    def surplus(kind: tuple[str, str]) -> list[ObjectRef]:
        found = (ObjectRef.of(obj) for obj in client.list_objects(*kind, labels=selector))
        return [ref for ref in found if (ref.kind, ref.namespace, ref.name) not in kept]

    return [ObjectChange(ref, DELETE, {}, {}) for refs in concurrently(surplus, PRUNED_KINDS) for ref in refs]
