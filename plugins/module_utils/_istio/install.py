# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing Istio with ``istioctl``, but only where something would change (private to the collection).

``istioctl install`` neither says what it changes nor whether it changes anything. So its manifest is
rendered, given the labels that the installer itself adds, and compared with the cluster; the installer runs
only where the two differ. Where nothing is there yet, the manifest is applied as it would do it: that takes
no second rendering, and no look every two seconds whether it is ready.

Rendering takes ``istioctl`` a second, and its answer depends on the question alone. So the last answers can
be kept in a file; what is compared with the cluster is the same with it and without.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._base.errors import ExomeshError, MissingRequirementError
from .._base.files import FileError, locked, read_text, real_path, write_private
from .._base.programs import run_program
from .._base.waiting import remaining, sparing
from .._kubernetes.client import (
    FIELD_MANAGER,
    ISTIO_NAMESPACE,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    NETWORK_LABEL,
    OWNER_LABEL,
    KubernetesClient,
    Object,
    ObjectRef,
    concurrently,
    deployment_unmet,
    explain_deployment,
    is_ours,
    wait_until_met,
    yaml_loader,
)
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
    refuse_foreign,
    remove_surplus,
)
from .istioctl import istioctl_environment
from .operator import DEFAULT_REVISION, DEFAULT_TAG, OperatorSettings, istio_operator
from .registries import REPLACEMENT_HUB, retired

with suppress(ImportError):  # whoever connects to a cluster is told that it is missing
    import yaml

INSTALLER_FIELD_MANAGER = "istio-operator"

_COMPONENT_LABEL = "operator.istio.io/component"
_COMPONENTS = {
    "base": "Base",
    "istiod": "Pilot",
    "istio-ingress": "IngressGateways",
    "istio-egress": "EgressGateways",
}
"""The installer's names of what its charts make, by the name of the chart."""
_NOT_PRUNED_LABEL = "install.operator.istio.io/owning-resource-not-pruned"
_REVISION_LABEL, _TAG_LABEL = "istio.io/rev", "istio.io/tag"

_WEBHOOKS_API = "admissionregistration.k8s.io/v1"
_INJECTOR_WEBHOOK = "istio-sidecar-injector"
_DEFAULT_TAG_WEBHOOK = ObjectRef(
    _WEBHOOKS_API, "MutatingWebhookConfiguration", f"istio-revision-tag-{DEFAULT_TAG}"
)
_DEFAULT_TAG = (
    _DEFAULT_TAG_WEBHOOK,
    ObjectRef(_WEBHOOKS_API, "ValidatingWebhookConfiguration", f"istiod-{DEFAULT_TAG}-validator"),
    ObjectRef("v1", "Service", f"istiod-revision-tag-{DEFAULT_TAG}", ISTIO_NAMESPACE),
)
"""What the default tag consists of, which no manifest has."""

PLAIN_TEXT_REFUSED: Object = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {
        "name": "default",
        "namespace": ISTIO_NAMESPACE,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY},
    },
    "spec": {"mtls": {"mode": "STRICT"}},
}
"""The policy of a mesh whose workloads take mutual TLS only."""

_NEVER_MATCH = {"matchLabels": {"istio.io/deactivated": "never-match"}}
"""Selector by which istioctl switches off an injector whose work the default tag's webhook does."""

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


class AnswerCache:
    """The last answer to each kind of question, in one file. What cannot be kept is asked again.

    :param path: the file; None to keep nothing.
    :param writable: whether new answers are kept, too.
    """

    def __init__(self, path: str | None = None, writable: bool = True) -> None:
        self._path = real_path(path) if path else None
        self._writable = writable

    def answer(self, kind: str, question: Any, ask: Callable[[], Any]) -> Any:
        """The answer of ``ask``, or the one that is kept to the same question."""
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        kept = self._kept().get(kind)
        if isinstance(kept, dict) and kept.get("question") == key and "answer" in kept:
            return kept["answer"]
        answer = ask()
        if self._path and self._writable:
            with suppress(FileError, OSError), locked(self._path):
                everything = {**self._kept(), kind: {"question": key, "answer": answer}}
                write_private(self._path, json.dumps(everything))
        return answer

    def _kept(self) -> dict[str, Any]:
        with suppress(FileError, ValueError):
            kept = json.loads((read_text(self._path) if self._path else None) or "{}")
            return kept if isinstance(kept, dict) else {}
        return {}


class Istioctl:
    """One ``istioctl`` program, speaking to one cluster with one named kubeconfig.

    :param cache: where its answers are kept.
    :raises MissingRequirementError: it is not there.
    """

    def __init__(
        self, path: str, kubeconfig: str, context: str | None = None, cache: AnswerCache | None = None
    ) -> None:
        if not os.access(path, os.X_OK):
            raise MissingRequirementError(
                f"istioctl is not at {path}, or cannot be run",
                next_step="Let role istioctl fetch it, or set istioctl_binary to an existing one",
            )
        self._path = path
        self._cache = cache or AnswerCache()
        program = os.stat(path)
        self._program = [program.st_size, program.st_mtime_ns]
        self._cluster_arguments = ["--kubeconfig", kubeconfig] + (["--context", context] if context else [])

    def version(self) -> str:
        """Its own version, as in ``1.31.1``."""

        def ask() -> str:
            answer = self._run(["version", "--remote=false", "--output", "json"], None, 30)
            return str(json.loads(answer)["clientVersion"]["version"])

        return str(self._cache.answer("version", self._program, ask))

    def render(self, operator: Object, kubernetes: str) -> list[Object]:
        """The objects that an installation of ``operator`` consists of, for this very cluster.

        :param kubernetes: the cluster's version, which is all of it that the rendering depends on.
        """

        def ask() -> list[Object]:
            arguments = ["manifest", "generate", "--cluster-specific", *self._cluster_arguments]
            return _objects_in(self._run([*arguments, "--filename", "-"], operator, 120))

        if "installPackagePath" in operator["spec"]:  # charts of the user's own, which may change
            return ask()
        return list(self._cache.answer("manifest", [*self._program, kubernetes, operator], ask))

    def tag(self, tag: str, revision: str, injectors: Sequence[Object]) -> list[Object]:
        """The objects that a revision tag consists of.

        :param injectors: the revision's webhooks in the cluster, which they are made of.
        """

        def ask() -> list[Object]:
            arguments = ["tag", "generate", tag, "--revision", revision, "--overwrite", "--skip-confirmation"]
            return _objects_in(self._run([*arguments, *self._cluster_arguments], None, 60))

        made_of = [[obj["metadata"]["name"], obj["metadata"]["labels"], obj["webhooks"]] for obj in injectors]
        return list(self._cache.answer("tag", [*self._program, tag, revision, made_of], ask))

    def install(self, operator: Object, timeout: int, go_on: Callable[[], None] = lambda: None) -> None:
        """Install and wait until ready, or fail after ``timeout`` seconds.

        :param go_on: is asked every second, and raises an error where it must not go on.
        """
        arguments = ["install", "--skip-confirmation", "--readiness-timeout", f"{timeout}s"]
        self._run([*arguments, *self._cluster_arguments, "--filename", "-"], operator, timeout + 120, go_on)

    def _run(
        self,
        arguments: list[str],
        operator: Object | None,
        timeout: int,
        go_on: Callable[[], None] = lambda: None,
    ) -> str:
        try:
            ended = run_program(
                [self._path, *arguments],
                istioctl_environment(),
                timeout,
                # JSON, as a name like "n" is a truth value in the YAML of Go alone.
                "" if operator is None else json.dumps(operator),
                os.getcwd(),  # paths in the operator begin there
                go_on,
            )
        except TimeoutError:
            raise ExomeshError(
                f"istioctl {arguments[0]} did not end in time, and was ended",
                "istioctl_timeout",
                cause="The API of the cluster is slow or silent, or what it installs does not become ready",
                next_step="Check that the cluster's API answers, then run it again",
            ) from None
        except OSError as error:
            raise MissingRequirementError(
                f"istioctl at {self._path} cannot be run: {error.strerror}",
                next_step="Use the release for this operating system and processor",
            ) from None
        if ended.code != 0:
            # Its banner and its progress marks tell nothing.
            output = f"{ended.output}\n{ended.errors}".splitlines()
            lines = [line.strip() for line in output if re.search("[a-z]{3}", line)]
            raise ExomeshError(
                f"istioctl {arguments[0]} failed",
                "istioctl_failed",
                cause=" ".join([line for line in lines if line.startswith("Error")] or lines[-5:]),
                details={"exit_code": ended.code, "output": lines[-40:]},
            )
        return ended.output


@dataclass
class Installation:
    """What an installation is, and would become.

    :param changes: everything that changes, for people.
    :param objects: what the installer makes, as it makes it.
    :param needs_installer: whether ``istioctl install`` must run; what follows is done without it.
    :param is_new: nothing is there that the installer would have to bring up to date, or to remove.
    :param namespaces: the namespace as it should be.
    :param replicas: Deployments with too few or too many replicas: how many they have, and should have.
    """

    version: str
    operator: Object
    changes: list[ObjectChange]
    objects: list[Object]
    needs_installer: bool
    is_new: bool
    namespaces: list[Object]
    replicas: dict[ObjectRef, tuple[int, int]]

    @property
    def differs(self) -> bool:
        return any(change.action != UNCHANGED for change in self.changes)

    @property
    def deployments(self) -> list[ObjectRef]:
        return [ObjectRef.of(obj) for obj in self.objects if obj["kind"] == "Deployment"]


def plan(client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings) -> Installation:
    """Compare what an installation would make with the cluster. Changes nothing.

    :raises ExomeshError: it must not be made like that; ``retired_registry``, ``pull_secret_missing`` or
        ``tag_is_revision``.
    """
    kubernetes = client.version()  # says in better words than istioctl that the cluster cannot be reached
    version = istioctl.version()
    operator = istio_operator(settings, version)
    _require_tags_of_their_own(client, settings)
    rendered = istioctl.render(operator, kubernetes)
    _refuse_retired_registries(operator, rendered)
    if client.get(ObjectRef("v1", "Namespace", ISTIO_NAMESPACE)):
        _require_pull_secrets(client, settings)
    labels = _owner_labels(operator, version)
    objects = [_as_installed(obj, labels) for obj in rendered]
    installed = _installed(client, labels)
    changes = compare_all(client, objects, INSTALLER_FIELD_MANAGER, _without_own_changes, installed)
    changes += _to_be_pruned(installed, objects)
    needs_installer = any(change.action != UNCHANGED for change in changes)
    is_new = _is_new(changes, objects)
    if any(_is_istiod(obj) for obj in rendered):
        changes += _compare_default_tag(client, istioctl, settings, labels)
    namespaces = _namespace(operator, rendered)
    replicas = _replicas_out_of_range(client, objects, installed)
    resized = [_with_replicas(change, replicas.get(change.ref)) for change in changes]
    return Installation(
        version,
        operator,
        [*compare_all(client, namespaces, FIELD_MANAGER), *resized],
        objects,
        needs_installer,
        is_new,
        namespaces,
        replicas,
    )


def install(
    client: KubernetesClient,
    istioctl: Istioctl,
    settings: OperatorSettings,
    installation: Installation,
    timeout: int,
    go_on: Callable[[], None] = lambda: None,
) -> None:
    """Do what the plan says; the installer runs only where it is needed.

    :param go_on: is asked while the installer runs, and raises an error where it must not go on.
    :raises ExomeshError: ``istioctl_failed``, with the state of every Deployment that is not ready.
    """
    _require_pull_secrets(client, settings)
    for namespace in installation.namespaces:
        client.apply(namespace)
    _scale(client, installation.replicas)
    if installation.is_new:
        _apply_new(client, installation.objects, timeout)
    elif installation.needs_installer:
        concurrently(lambda obj: remove_surplus(client, obj), installation.objects)
        _run_installer(client, istioctl, installation, timeout, go_on)
        # An autoscaler takes a while to see that there are too few.
        _scale(client, _replicas_out_of_range(client, installation.objects))
    if any(_is_istiod(obj) for obj in installation.objects):
        _apply_default_tag(client, istioctl, settings, installation)


def _is_new(changes: Sequence[ObjectChange], objects: Sequence[Object]) -> bool:
    """Whether to apply the objects is all that the installer would do.

    What was left of an earlier Istio, or is of an interrupted run, may be there if it need not be changed.
    """
    actions = {change.ref: change.action for change in changes}
    deployments = [ref for ref in actions if ref.kind == "Deployment"]
    return (
        bool(deployments)
        and all(actions[ref] == CREATE for ref in deployments)
        and set(actions.values()) <= {CREATE, UNCHANGED}
        and all(_component(obj) for obj in objects)
    )


def _component(obj: Object) -> str | None:
    """The installer's name of the component that an object belongs to; None for one that is not known."""
    labels = obj["metadata"].get("labels") or {}
    chart = str(labels.get("helm.sh/chart", "")).rpartition("-")[0]
    return labels.get(_COMPONENT_LABEL) or _COMPONENTS.get(chart)


_INSTALLER_PART = 0.8
"""Of the time left, so much the installer may wait for what it installed."""

_FIRST, _LAST = "CustomResourceDefinition", "Deployment"


def _apply_new(client: KubernetesClient, objects: Sequence[Object], timeout: float) -> None:
    """Apply objects as the installer does; pods come last, as they need all the rest."""

    def apply(obj: Object) -> None:
        metadata = obj["metadata"]
        labels = {**metadata["labels"], _COMPONENT_LABEL: _component(obj)}
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
        # It is to tell itself what is not ready; and what it does not, is to be looked at.
        with sparing():
            most = min(timeout, remaining() * _INSTALLER_PART)
            istioctl.install(installation.operator, max(1, int(most)), go_on)
    except LockLostError:
        raise
    except ExomeshError as error:
        unready = _explain_unready(client, installation.operator)
        if unready:
            seconds = round(time.monotonic() - started)
            error.cause = f"after {seconds} s: {unready}"
        error.next_step = (
            error.next_step or f"Look at the pods of namespace {ISTIO_NAMESPACE}, then run this again"
        )
        raise


def compare_mtls(client: KubernetesClient, strict: bool) -> list[ObjectChange]:
    """What it takes that workloads refuse plain text, or take it as Istio has it by default.

    :raises ExomeshError: ``foreign_object``, where the policy that is wanted is there, but somebody else's.
    """
    if strict:
        own = refuse_foreign(client, [PLAIN_TEXT_REFUSED])
        return compare_all(client, [PLAIN_TEXT_REFUSED], FIELD_MANAGER, known=own)
    ref = ObjectRef.of(PLAIN_TEXT_REFUSED)
    live = client.get(ref)
    return [ObjectChange(ref, DELETE if live and is_ours(live) else UNCHANGED, {}, {})]


def apply_mtls(client: KubernetesClient, changes: Sequence[ObjectChange], timeout: float) -> None:
    """Do what :func:`compare_mtls` says; istiod, which validates the policy, should be up."""
    for change in changes:
        if change.action == DELETE:
            client.delete(change.ref)
        elif change.action != UNCHANGED:
            apply_patiently(client, PLAIN_TEXT_REFUSED, FIELD_MANAGER, timeout)


def wait_ready(client: KubernetesClient, deployments: list[ObjectRef], timeout: float) -> dict[str, str]:
    """Wait until every Deployment is ready.

    :returns: readiness by Deployment.
    :raises ExomeshError: ``not_ready``, with the condition that is not met, pods and Events.
    """
    started = time.monotonic()
    deadline = started + timeout

    def unmet(ref: ObjectRef) -> str | None:
        return wait_until_met(
            lambda: deployment_unmet(client.get(ref)), max(0.0, deadline - time.monotonic())
        )

    missing = concurrently(unmet, deployments)
    unready = [ref for ref, condition in zip(deployments, missing, strict=True) if condition]
    if unready:
        explained = [explain_deployment(client, ref.namespace or "", ref.name) for ref in unready]
        raise ExomeshError(
            f"Not ready after {time.monotonic() - started:.0f} s: "
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
    selector = f"{OWNER_LABEL}={operator['metadata']['name']}"
    try:
        deployments = client.list_objects("apps/v1", "Deployment", ISTIO_NAMESPACE, labels=selector)
        names = [obj["metadata"]["name"] for obj in deployments if deployment_unmet(obj)]
        return ". ".join(explain_deployment(client, ISTIO_NAMESPACE, name) for name in names)
    except ExomeshError:
        return ""  # the installer's own words must do


def _objects_in(answer: str) -> list[Object]:
    # Warnings about deprecated settings come first, on the same stream.
    start = answer.find("apiVersion:")
    documents = yaml.load_all(answer[start:], Loader=yaml_loader()) if start >= 0 else []
    return [document for document in documents if document]


def _namespace(operator: Object, rendered: list[Object]) -> list[Object]:
    """istiod's namespace with its network's label, which the installer sets only on one that it makes."""
    network = operator["spec"].get("values", {}).get("global", {}).get("network")
    if not network or not any(_is_istiod(obj) for obj in rendered):
        return []
    metadata = {"name": operator["metadata"]["namespace"], "labels": {NETWORK_LABEL: network}}
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}]


def _is_istiod(obj: Object) -> bool:
    return obj["kind"] == "Deployment" and (obj["metadata"].get("labels") or {}).get("app") == "istiod"


def _revision(operator: Object) -> str:
    spec = operator["spec"]
    return str(spec.get("revision") or spec.get("values", {}).get("revision") or "")


def _owner_labels(operator: Object, version: str) -> dict[str, str]:
    """Labels that the installer puts on everything it applies, beside the component's."""
    return {
        "operator.istio.io/managed": "Reconcile",
        "operator.istio.io/version": version,
        OWNER_LABEL: operator["metadata"]["name"],
        "install.operator.istio.io/owning-resource-namespace": operator["metadata"]["namespace"],
        _REVISION_LABEL: _revision(operator) or DEFAULT_REVISION,
    }


def _as_installed(obj: Object, labels: Mapping[str, str]) -> Object:
    """The object as the installer leaves it: with its labels, and the plain injector switched off."""
    metadata = {**obj["metadata"], "labels": {**(obj["metadata"].get("labels") or {}), **labels}}
    obj = {**obj, "metadata": metadata}
    if obj["kind"] == "MutatingWebhookConfiguration" and metadata["name"] == _INJECTOR_WEBHOOK:
        off = {"namespaceSelector": _NEVER_MATCH, "objectSelector": _NEVER_MATCH}
        obj["webhooks"] = [{**webhook, **off} for webhook in obj["webhooks"]]
    return obj


def _without_own_changes(obj: Object) -> Object:
    """Leave out what the installer and istiod write themselves, beside the manifest."""
    labels = obj["metadata"].get("labels") or {}
    # The default tag is every installation's: its owner is the one whose installer ran last.
    own = {_COMPONENT_LABEL} | ({OWNER_LABEL} if _NOT_PRUNED_LABEL in labels else set())
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


def _replicas_out_of_range(
    client: KubernetesClient, objects: list[Object], known: Mapping[ObjectRef, Object] | None = None
) -> dict[ObjectRef, tuple[int, int]]:
    """Deployments whose replicas are fewer or more than their autoscaler may make them: found, and nearest.

    Their number is left to the autoscaler, so no manifest has it; and an autoscaler keeps away from 0.

    :param known: live objects that were read already.
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


def _require_tags_of_their_own(client: KubernetesClient, settings: OperatorSettings) -> None:
    """Refuse a tag that is called like a revision: namespaces could not tell them apart."""
    for tag in settings.revision_tags:
        revisions = client.list_objects(
            _WEBHOOKS_API, "MutatingWebhookConfiguration", labels=f"{_REVISION_LABEL}={tag},!{_TAG_LABEL}"
        )
        if tag != DEFAULT_TAG and (tag == settings.revision or revisions):
            raise ExomeshError(
                f"The revision tag {tag} is called like a revision",
                "tag_is_revision",
                next_step="Give it another name (istio_revision_tags)",
            )


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


def _refuse_retired_registries(operator: Object, rendered: list[Object]) -> None:
    images = sorted({image for source in (operator, *rendered) for image in _images_in(source)})
    doomed = [image for image in images if retired(image)]
    if doomed:
        raise ExomeshError(
            f"The registry of {', '.join(doomed)} goes away in December 2026",
            "retired_registry",
            cause="Pods whose image cannot be pulled do not start again",
            next_step=f"Set istio_hub and gateway_hub to {REPLACEMENT_HUB} or a mirror, and look for hub and "
            "image in istio_overlay and gateway_overlay",
        )


def _images_in(tree: Any) -> Iterator[str]:
    """Images and hubs anywhere in an object, also in the JSON texts that a ConfigMap holds."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key in ("hub", "image") and isinstance(value, str):
                yield value
            yield from _images_in(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from _images_in(item)
    elif isinstance(tree, str) and tree.lstrip().startswith("{"):
        with suppress(ValueError):
            yield from _images_in(json.loads(tree))


def _default_tag(
    client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings, labels: Mapping[str, str]
) -> list[Object] | None:
    """The objects of the default tag, where it stands for this revision or shall.

    :returns: None where they cannot be told before the revision is installed.
    """
    revision = settings.revision or DEFAULT_REVISION
    held = client.get(_DEFAULT_TAG_WEBHOOK)
    holder = held["metadata"]["labels"].get(_REVISION_LABEL) if held else revision
    if settings.revision and DEFAULT_TAG not in settings.revision_tags and holder != revision:
        return []  # another revision's
    selector = f"{_REVISION_LABEL}={revision},!{_TAG_LABEL}"
    injectors = client.list_objects(_WEBHOOKS_API, "MutatingWebhookConfiguration", labels=selector)
    if not injectors:
        return None
    return [
        _as_installed(obj, {**labels, _COMPONENT_LABEL: "Pilot", _NOT_PRUNED_LABEL: "true"})
        for obj in istioctl.tag(DEFAULT_TAG, revision, injectors)
    ]


def _compare_default_tag(
    client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings, labels: Mapping[str, str]
) -> list[ObjectChange]:
    objects = _default_tag(client, istioctl, settings, labels)
    if objects is None:
        revision = labels[_REVISION_LABEL]
        return [
            _taken_over(ref, live, revision)
            for ref, live in zip(_DEFAULT_TAG, concurrently(client.get, _DEFAULT_TAG), strict=True)
        ]
    return compare_all(client, objects, INSTALLER_FIELD_MANAGER, _without_own_changes)


def _taken_over(ref: ObjectRef, live: Object | None, revision: str) -> ObjectChange:
    """What happens to an object of the default tag when a revision that is not there yet is installed."""
    holder = live and live["metadata"]["labels"].get(_REVISION_LABEL)
    if not holder:
        return ObjectChange(ref, CREATE, {}, {})
    if holder == revision:
        return ObjectChange(ref, UNCHANGED, {}, {})
    path = f"metadata.labels['{_REVISION_LABEL}']"
    return ObjectChange(ref, UPDATE, {path: holder}, {path: revision})


def _apply_default_tag(
    client: KubernetesClient, istioctl: Istioctl, settings: OperatorSettings, installation: Installation
) -> None:
    """Make the default tag as it should be; the installer leaves one that is there as it is."""
    labels = _owner_labels(installation.operator, installation.version)
    objects = _default_tag(client, istioctl, settings, labels) or []
    changes = compare_all(client, objects, INSTALLER_FIELD_MANAGER, _without_own_changes)
    for obj, change in zip(objects, changes, strict=True):
        if change.action != UNCHANGED:
            remove_surplus(client, obj)
            client.apply(obj, INSTALLER_FIELD_MANAGER)


def _installed(client: KubernetesClient, labels: Mapping[str, str]) -> dict[ObjectRef, Object]:
    """What an installation of this name and release made, of the kinds that the installer prunes."""
    owned = [f"{name}={value}" for name, value in labels.items()]
    selector = ",".join([*owned, f"!{_NOT_PRUNED_LABEL}", _COMPONENT_LABEL])
    found = concurrently(lambda kind: client.list_objects(*kind, labels=selector), PRUNED_KINDS)
    return {ObjectRef.of(obj): obj for objects in found for obj in objects}


def _to_be_pruned(installed: Mapping[ObjectRef, Object], objects: Sequence[Object]) -> list[ObjectChange]:
    """What an earlier installation made and this one does not: the installer deletes it."""
    refs = [ObjectRef.of(obj) for obj in objects]
    kept = {(ref.kind, ref.namespace, ref.name) for ref in refs}
    surplus = [ref for ref in installed if (ref.kind, ref.namespace, ref.name) not in kept]
    return [ObjectChange(ref, DELETE, {}, {}) for ref in surplus]
