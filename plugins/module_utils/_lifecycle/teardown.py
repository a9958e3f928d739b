# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal of all that this collection put into a cluster, and a report of what stays.

Private to the collection.

Three groups of objects are ours: those with our label, those that the installer made for our IstioOperators,
by their names, and those that istiod makes by itself. Objects with a former name are renamed first, so that
the next run can finish an interrupted one. A plan is made from what exists. The run carries out the plan and
makes a new one, until nothing is left to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from .._base.errors import ExomeshError
from .._base.waiting import concurrently, told_in_time
from .._istio.default_tag import DEFAULT_TAG_PARTS
from .._istio.former import former_objects, labelled_by_us, mesh_id_in, mesh_of, rename
from .._istio.manifest import is_istiod
from .._istio.names import COMPONENT_LABEL, CONTROL_PLANE, FORMER_NAMES, ISTIO_NAMESPACE, OWNER_LABEL
from .._istio.ownership import foreign_owner, revision_of
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.causes import cause_in, wait_unless_it_lasts
from .._kubernetes.client import (
    FIELD_MANAGER,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    Kind,
    KubernetesClient,
    is_derived,
    is_ours,
    labels_of,
)
from .._kubernetes.lease import lock_ref
from .._kubernetes.load_balancer import likely_cause
from .._kubernetes.lock import INSTALL_LOCK, RUN_LOCK, ClusterLock
from .._kubernetes.objects import DELETE, UNCHANGED, ObjectChange, compare_all
from .._kubernetes.removal import kept_by
from .._trust.cluster import CACERTS_REF
from .._verify.injection import asked_by
from .._verify.state import sidecar_of

_LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
_BACKUP_PREFIX = f"{CACERTS_REF.name}-backup-"

_WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_ROOT_CONFIG_MAPS = ("istio-ca-root-cert", "istio-ca-crl")
_BORN_WITH_A_NAMESPACE = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}

_NAMESPACE = ObjectRef("v1", "Namespace", ISTIO_NAMESPACE)
_SHARED = "Base"
"""The installer's name of the component that all istiods of a cluster share."""

_ROUNDS = 3
_NAMED = 10
"""Maximum number of names in a line about what stays."""

_Key: TypeAlias = "tuple[str, str | None, str]"


@dataclass(frozen=True)
class Left:
    """What stays in the cluster, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Stage:
    """The objects that are deleted together, before the next stage begins.

    :param awaited: objects that disappear with them by themselves. The stage waits for these, too.
    """

    name: str
    refs: list[ObjectRef]
    awaited: list[ObjectRef] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """The plan of a teardown.

    :param released: namespaces that stay, but lose the labels that we gave them.
    """

    stages: list[Stage]
    released: list[ObjectChange]
    left: list[Left]

    def changes(self) -> list[ObjectChange]:
        deleted = [ObjectChange(ref, DELETE, {}, {}) for stage in self.stages for ref in stage.refs]
        return deleted + self.released


class Teardown:
    """The teardown of one cluster.

    :param cluster: name of the cluster in the mesh.
    :param mesh_id: ID of the mesh.
    :param operators: names of the IstioOperators from which the collection installs.
    """

    def __init__(
        self, client: KubernetesClient, cluster: str, mesh_id: str, operators: Sequence[str]
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._mesh_id = mesh_id
        self._is_locked = False
        self._operators = operators
        self._installed = f"{OWNER_LABEL} in ({','.join(operators)})"

    def plan(self) -> Plan:
        """Return the plan to delete what is ours, in the necessary order. Only read.

        :raises ExomeshError: ``foreign_istio``: istiod belongs to another mesh, or to another member.
        """
        client = self._client
        kinds = client.kinds()
        ours = client.find(kinds, f"{MANAGED_BY_LABEL}={MANAGED_BY}")
        # Locks that are held disappear when they are released.
        held = {lock_ref(RUN_LOCK), *([lock_ref(INSTALL_LOCK)] if self._is_locked else [])}
        ours = [obj for obj in ours if ObjectRef.of(obj) not in held]
        installed = client.find(kinds, self._installed)
        installed += [obj for _operator, former in self._former() for obj in former]
        self._refuse_foreign(installed)
        installed += self._default_tag_of(installed)
        installed = list(
            {_key(obj): obj for obj in installed if _key(obj) not in set(map(_key, ours))}.values()
        )
        left: list[Left] = []
        balancers = [obj for obj in ours + installed if _is_balancer(obj)]
        rest = [obj for obj in ours + installed if not _is_balancer(obj)]
        crds = [obj for obj in rest if obj["kind"] == "CustomResourceDefinition"]
        mesh, istio, last = [], [], []
        for obj in rest:
            if obj["kind"] in ("Namespace", "CustomResourceDefinition"):
                continue
            if _is_backup(obj):
                left.append(Left(str(ObjectRef.of(obj)), "it keeps a CA that something else had made"))
            elif ObjectRef.of(obj) == CACERTS_REF:
                last.append(obj)
            elif obj["kind"] in _WEBHOOKS or is_ours(obj):
                mesh.append(obj)
            else:
                istio.append(obj)
        foreign = self._foreign_istiods(installed)
        if foreign:
            istio, last = _without_shared(istio, last, foreign, left)
        else:
            last += self._what_istiod_made()
        going = {_key(obj) for obj in [*balancers, *mesh, *istio, *last]}
        crds = self._removable(crds, kinds, going, foreign, left)
        namespaces, kept = self._namespaces(ours, kinds, going, left)
        if foreign:
            kept = [name for name in kept if name != ISTIO_NAMESPACE]
        self._look_at_users(namespaces, left)
        self._look_at_installations(going, left)
        stages = [
            Stage("load balancers", _refs(balancers), self._services_of(balancers)),
            Stage("webhooks, peering and workloads", _refs(mesh)),
            Stage("Istio", _refs(istio)),
            Stage("what Istio leaves behind", _refs(last)),
            Stage("Istio's kinds", _refs(crds)),
            Stage("namespaces", [ObjectRef("v1", "Namespace", name) for name in namespaces]),
        ]
        released = compare_all(client, [_bare_namespace(name) for name in kept], FIELD_MANAGER)
        return Plan(
            [stage for stage in stages if stage.refs],
            [change for change in released if change.action != UNCHANGED],
            left,
        )

    def run(self, timeout: float) -> tuple[list[ObjectChange], list[Left]]:
        """Carry out the teardown. Return the changes, and what stays.

        :raises ExomeshError: ``not_deleted``, with what holds the object, or ``locked``.
        """
        plan = self.plan()
        if not plan.changes():
            return [], plan.left
        gone = {change.ref: change for change in plan.changes()}
        with ClusterLock(self._client, INSTALL_LOCK, timeout) as lock:
            self._client = lock.client
            self._is_locked = True
            deadline = time.monotonic() + timeout
            for operator, former in self._former():
                rename(self._client, former, operator)
            for _round in range(_ROUNDS):
                plan = self.plan()
                if not plan.changes():
                    break
                gone |= {change.ref: change for change in plan.changes()}
                for stage in plan.stages:
                    self._delete(stage, deadline)
                for change in plan.released:
                    self._client.apply(_bare_namespace(change.ref.name))
        return list(gone.values()), self.plan().left

    # Finding

    def _list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        return self._client.list_objects(kind.api_version, kind.name, namespace)

    def _former(self) -> list[tuple[str, list[Object]]]:
        """Return the current names, each with those of our objects that carry the former name."""
        return [
            (operator, former_objects(self._client, operator, self._mesh_id, self._cluster))
            for operator in self._operators
        ]

    def _default_tag_of(self, installed: list[Object]) -> list[Object]:
        """Return the objects of the default tag, if it points to an istiod of ours.

        They carry the name of the installation whose istioctl ran last. Without the istiod, they keep pods
        from being made.
        """
        revisions = {revision_of(obj) for obj in installed if is_istiod(obj)}
        found = concurrently(self._client.get, DEFAULT_TAG_PARTS) if revisions else []
        return [obj for obj in found if obj and revision_of(obj) in revisions]

    def _refuse_foreign(self, installed: list[Object]) -> None:
        istiods = [obj for obj in installed if is_istiod(obj)]
        configs = [
            obj for obj in installed if obj["kind"] == "ConfigMap" and "mesh" in (obj.get("data") or {})
        ]
        for obj in [*configs, *istiods]:
            mesh_id, cluster = (mesh_id_in(obj), None) if obj in configs else mesh_of(self._client, obj)
            self._require_member(obj, mesh_id, cluster)
        if istiods or not labelled_by_us(self._client.get(_NAMESPACE)):
            return
        # No istiod is ours by the current name. One with a former name may be that of another member.
        name = FORMER_NAMES[CONTROL_PLANE]
        found = self._client.list_objects(
            "apps/v1", "Deployment", ISTIO_NAMESPACE, labels=f"app=istiod,{OWNER_LABEL}={name}"
        )
        for istiod in found:
            mesh_id, cluster = mesh_of(self._client, istiod)
            if mesh_id:  # an istiod without a mesh ID is a user's plain Istio
                self._require_member(istiod, mesh_id, cluster)

    def _require_member(self, obj: Object, mesh_id: str | None, cluster: str | None) -> None:
        """Refuse an object that belongs to another mesh, or to another member of this mesh."""
        for found, wanted, what in ((cluster, self._cluster, "cluster"), (mesh_id, self._mesh_id, "mesh")):
            if found and found != wanted:
                raise ExomeshError(
                    f"Its Istio is that of {what} {found}, not of {wanted}. Nothing was deleted",
                    "foreign_istio",
                    cluster=self._cluster,
                    cause="the kubeconfig is another cluster's, or mesh_id or mesh_cluster_name has changed",
                    next_step=f"See {ObjectRef.of(obj)}, and correct the inventory",
                )

    def _foreign_istiods(self, installed: list[Object]) -> list[Object]:
        ours = set(map(_key, installed))
        found = self._client.list_objects("apps/v1", "Deployment", labels="app=istiod")
        return [obj for obj in found if _key(obj) not in ours]

    def _look_at_installations(self, going: set[_Key], left: list[Left]) -> None:
        """Report gateways of users that carry former names of ours."""
        names = f"{OWNER_LABEL} in ({','.join(FORMER_NAMES.values())})"
        found = self._client.list_objects("apps/v1", "Deployment", labels=names)
        theirs = [_with_owner(obj) for obj in found if _key(obj) not in going and not is_istiod(obj)]
        if theirs:
            left.append(Left(_list(theirs), "this collection did not install it"))

    def _what_istiod_made(self) -> list[Object]:
        """Return the roots of trust in every namespace, and the objects for the replicas' leader election."""
        client = self._client
        roots = client.list_objects("v1", "ConfigMap", labels="istio.io/config=true")
        maps = client.list_objects("v1", "ConfigMap", ISTIO_NAMESPACE)
        leases = client.list_objects("coordination.k8s.io/v1", "Lease", ISTIO_NAMESPACE)
        return [
            *(obj for obj in roots if obj["metadata"]["name"] in _ROOT_CONFIG_MAPS),
            *(obj for obj in maps if _LEADER_ANNOTATION in (obj["metadata"].get("annotations") or {})),
            *(
                obj
                for obj in leases
                if str(obj["spec"].get("holderIdentity", "")).startswith("istiod") and not is_ours(obj)
            ),
        ]

    def _removable(
        self, crds: list[Object], kinds: list[Kind], going: set[_Key], foreign: list[Object], left: list[Left]
    ) -> list[Object]:
        """Return Istio's kinds that can be removed; empty if somebody uses them."""
        if not crds or foreign:
            if crds:
                left.append(Left(f"{len(crds)} CustomResourceDefinitions", "the other istiod uses them"))
            return []
        served = {(crd["spec"]["group"], crd["spec"]["names"]["kind"]) for crd in crds}
        istios = [kind for kind in kinds if (kind.api_version.split("/")[0], kind.name) in served]
        found = [obj for objects in concurrently(self._list, istios) for obj in objects]
        users = [str(ObjectRef.of(obj)) for obj in found if _key(obj) not in going]
        if not users:
            return crds
        left += [
            Left(_list(users), "Istio objects of users"),
            Left(f"{len(crds)} CustomResourceDefinitions", "with them the objects of users would go"),
        ]
        return []

    def _namespaces(
        self, ours: list[Object], kinds: list[Kind], going: set[_Key], left: list[Left]
    ) -> tuple[list[str], list[str]]:
        """Return the namespaces that are empty after the deletion, and those that stay."""
        candidates = [obj["metadata"]["name"] for obj in ours if obj["kind"] == "Namespace"]
        if self._client.get(ObjectRef("v1", "Namespace", ISTIO_NAMESPACE)):
            candidates.append(ISTIO_NAMESPACE)
        namespaced = [kind for kind in kinds if kind.namespaced]
        empty, kept = [], []
        for name in dict.fromkeys(candidates):
            found = concurrently(lambda kind, name=name: self._list(kind, name), namespaced)  # type: ignore[misc]
            others = [
                str(ObjectRef.of(obj))
                for objects in found
                for obj in objects
                if _key(obj) not in going and not _goes_with_its_namespace(obj)
            ]
            if others:
                kept.append(name)
                left.append(Left(f"Namespace {name}", f"it holds what is not ours: {_list(others)}"))
            else:
                empty.append(name)
        return empty, kept

    def _look_at_users(self, namespaces: list[str], left: list[Left]) -> None:
        """Report what users have to take care of, because nothing serves it any more."""
        running = [
            str(ObjectRef.of(pod))
            for pod in self._client.list_objects("v1", "Pod")
            if sidecar_of(pod) and pod["metadata"]["namespace"] not in (*namespaces, ISTIO_NAMESPACE)
        ]
        if running:
            why = "they run with a sidecar, whose certificate ends within a day: restart their workloads"
            left.append(Left(_list(running), why))
        injected = [
            obj["metadata"]["name"]
            for obj in self._client.list_objects("v1", "Namespace")
            if asked_by(labels_of(obj)) and obj["metadata"]["name"] not in namespaces and not is_ours(obj)
        ]
        if injected:
            left.append(Left(f"Label for injection of {_list(injected)}", "users have set it"))

    def _services_of(self, balancers: list[Object]) -> list[ObjectRef]:
        """Return the Services that Istio made for Gateways."""
        owners = {obj["metadata"]["uid"] for obj in balancers if obj["kind"] == "Gateway"}
        if not owners:
            return []
        return [
            ObjectRef.of(service)
            for service in self._client.list_objects("v1", "Service")
            if owners & {owner["uid"] for owner in service["metadata"].get("ownerReferences", [])}
        ]

    # Deleting

    def _delete(self, stage: Stage, deadline: float) -> None:
        def one(ref: ObjectRef) -> None:
            # A Deployment must disappear after its pods, not before: istiod writes as long as it runs.
            self._client.delete(ref, "Foreground" if ref.kind == "Deployment" else "Background")

        concurrently(one, stage.refs)
        waiting = [*stage.refs, *stage.awaited]

        def remaining() -> str | None:
            found = concurrently(self._client.get, waiting)
            there = [obj for obj in found if obj]
            waiting[:] = _refs(there)
            return "; ".join(filter(None, map(kept_by, there))) or "they are there" if there else None

        if wait_unless_it_lasts(remaining, max(0.0, deadline - time.monotonic())):
            cause, next_step = told_in_time(
                lambda: self._why_held(waiting[0]),
                ("the API does not tell in time what holds it", "Look at its metadata.finalizers and status"),
            )
            raise ExomeshError(
                f"Not gone in time ({stage.name}): {_list(map(str, waiting))}",
                "not_deleted",
                cluster=self._cluster,
                cause=cause,
                next_step=f"{next_step}. Then run this again; it goes on where it stopped",
            )

    def _why_held(self, ref: ObjectRef) -> tuple[str, str]:
        obj = self._client.get(ref)
        if ref.kind == "Service" and ref.namespace:
            return likely_cause(self._client.events("Service", ref.namespace, ref.name))
        told = kept_by(obj) if obj else ""
        if cause := cause_in(told, ref.namespace or ref.name):
            return cause.told, cause.next_step()
        return told or "its pods have not ended yet", f"Look at {ref}"


def _refs(objects: Iterable[Object]) -> list[ObjectRef]:
    return [ObjectRef.of(obj) for obj in objects]


def _key(obj: Object) -> _Key:
    """Return a key for an object. It does not depend on the API version in which the object was read."""
    return obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]


def _is_balancer(obj: Object) -> bool:
    if obj["kind"] == "Gateway":
        return str(obj["apiVersion"]).startswith("gateway.networking.k8s.io/")
    return bool(obj["kind"] == "Service" and obj["spec"].get("type") == "LoadBalancer")


def _is_backup(obj: Object) -> bool:
    return obj["kind"] == "Secret" and str(obj["metadata"]["name"]).startswith(_BACKUP_PREFIX)


def _goes_with_its_namespace(obj: Object) -> bool:
    name = obj["metadata"]["name"]
    return (
        is_derived(obj)
        or (obj["kind"], name) in _BORN_WITH_A_NAMESPACE
        or (obj["kind"] == "ConfigMap" and name in _ROOT_CONFIG_MAPS)
    )


def _without_shared(
    istio: list[Object], last: list[Object], foreign: list[Object], left: list[Left]
) -> tuple[list[Object], list[Object]]:
    """Return what of Istio is deleted, and what after it, if another istiod stays.

    The other istiod must not lose what it needs.
    """
    told = _list(map(_with_owner, foreign))
    left.append(Left(told, "another istiod than ours; what it needs stays with it"))
    shared = [obj for obj in istio if labels_of(obj).get(COMPONENT_LABEL) == _SHARED]
    if any(obj["metadata"]["namespace"] == ISTIO_NAMESPACE for obj in foreign):
        shared += last
        last = []
    if shared:
        left.append(Left(_list(map(str, _refs(shared))), "the other istiod uses it, too"))
    return [obj for obj in istio if obj not in shared], last


def _with_owner(deployment: Object) -> str:
    """Return the name of a Deployment that is not ours, with its owner."""
    return f"{ObjectRef.of(deployment)} of {foreign_owner(deployment, CONTROL_PLANE)}"


def _bare_namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _list(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
