# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The east-west gateway of a cluster, in one of two forms (private to the collection).

Peers find the gateway by the label ``topology.istio.io/network`` of its Service. Moving that label replaces a
gateway of the other form without an outage. The new gateway is created without the label, and gets it when it
is ready. Then the old gateway loses the label. It is deleted when the peers have moved to the new one.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .._base.errors import ExomeshError
from .._base.waiting import concurrently, pause, wait_until_met
from .._exoscale.nlb import LOAD_BALANCER_ID
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient, is_ours
from .._kubernetes.load_balancer import service_addresses, wait_for_addresses
from .._kubernetes.lock import INSTALL_LOCK, ClusterLock
from .._kubernetes.objects import (
    CREATE,
    DELETE,
    UNCHANGED,
    UPDATE,
    ObjectChange,
    apply_patiently,
    compare_all,
    write_anew,
)
from .._kubernetes.readiness import wait_ready
from .._kubernetes.removal import wait_until_gone
from .former import former_objects, rename
from .gateway_settings import (
    ADDRESS_ANNOTATION,
    CONFIGURATION_ANNOTATION,
    DRAIN_SECONDS,
    NAME,
    GatewaySettings,
    configuration_of,
    exposing_gateway,
    gateway_api_objects,
    operator_settings,
)
from .install import PRUNED_KINDS, install, plan
from .names import COMPONENT_LABEL, EASTWEST_GATEWAY, ISTIO_NAMESPACE, NETWORK_LABEL, OWNER_LABEL
from .rendering import Istioctl

GATEWAY_CRD = ObjectRef(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "gateways.gateway.networking.k8s.io"
)


def without_gateway_api(definition: Object | None) -> ExomeshError | None:
    """Return the error of a cluster in which gateway_api cannot be used; None if it can.

    :param definition: the cluster's :data:`GATEWAY_CRD`.
    """
    versions = (definition or {}).get("spec", {}).get("versions", [])
    if any(version["name"] == "v1" and version["served"] for version in versions):
        return None
    return ExomeshError(
        "The cluster has no kind Gateway of gateway.networking.k8s.io/v1, which gateway_api needs",
        "gateway_api_missing",
        next_step="Install the standard channel of the Gateway API, release 1.1 or newer: kubectl apply "
        "--server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.0/"
        "standard-install.yaml. Or leave gateway_api off",
    )


@dataclass(frozen=True)
class Plan:
    """The changes to make. ``carry_out(timeout)`` makes them, and returns when the gateway is ready."""

    changes: list[ObjectChange]
    carry_out: Callable[[int], None]

    @property
    def differs(self) -> bool:
        return any(change.action != UNCHANGED for change in self.changes)


class Form(ABC):
    """One way to create a gateway. ``service`` is the Service by which peers find the gateway."""

    service: ObjectRef

    def __init__(self, client: KubernetesClient, settings: GatewaySettings) -> None:
        self._client = client
        self._settings = settings

    @abstractmethod
    def plan(self, announced: bool = True) -> Plan:
        """Compare the gateway with the cluster. ``announced``: whether peers are to find it."""

    @abstractmethod
    def parts(self) -> list[ObjectRef]:
        """Return the objects of the gateway that are ours, in the order of deletion."""

    @abstractmethod
    def claim(self) -> None:
        """Mark as ours the objects that were created before there was a mark."""

    @abstractmethod
    def withdraw(self, timeout: int) -> None:
        """Hide the gateway from peers. It continues to serve requests."""

    def refuse_shared_load_balancer(self) -> None:
        """Refuse to create the gateway beside the other form, if both would share one load balancer.

        :raises ExomeshError: ``shared_load_balancer``. The cloud would give the old gateway's ports to the
            new gateway before that is ready. Deleting the old gateway would take the ports away from both.
        """
        if LOAD_BALANCER_ID in self._settings.annotations:
            raise ExomeshError(
                "The gateway cannot change its form behind a load balancer that is named by its ID",
                "shared_load_balancer",
                cause="for a while there are two gateways, and both need the same ports of it",
                next_step="Leave gateway_nlb.id and gateway_nlb.external away for this run, or name another",
            )

    def is_announced(self) -> bool:
        service = self._client.get(self.service)
        return NETWORK_LABEL in ((service or {}).get("metadata", {}).get("labels") or {})


class OperatorForm(Form):
    """A gateway that istioctl installs from an IstioOperator. A Gateway of Istio's own kind exposes services.

    :param istioctl: None if the gateway is only to be removed.
    :param adopt: take over a gateway of this name that somebody else installed.
    """

    service = ObjectRef("v1", "Service", NAME, ISTIO_NAMESPACE)

    def __init__(
        self,
        client: KubernetesClient,
        settings: GatewaySettings,
        istioctl: Istioctl | None = None,
        adopt: bool = False,
    ) -> None:
        super().__init__(client, settings)
        self._istioctl = istioctl
        self._adopt = adopt

    def plan(self, announced: bool = True) -> Plan:
        if self._istioctl is None:
            raise ValueError("istioctl is needed to install a gateway")
        client, istioctl = self._client, self._istioctl
        settings = operator_settings(self._settings, announced)
        installation = plan(client, istioctl, settings, self._adopt)
        exposing = [exposing_gateway(self._settings)]
        changes = compare_all(client, exposing, FIELD_MANAGER)

        def carry_out(timeout: int) -> None:
            if installation.differs:
                with ClusterLock(client, INSTALL_LOCK, timeout) as lock:
                    newest = (
                        plan(client, istioctl, settings, self._adopt) if lock.had_to_wait else installation
                    )
                    install(lock.client, istioctl, settings, newest, timeout, lock.require)
            _apply(client, exposing, changes, timeout)
            wait_ready(client, installation.deployments, timeout)

        return Plan([*installation.changes, *changes], carry_out)

    def parts(self) -> list[ObjectRef]:
        # Select the component, too: istioctl also writes the operator's name on the default tag's webhooks.
        labels = f"{OWNER_LABEL}={EASTWEST_GATEWAY},{COMPONENT_LABEL}=IngressGateways"
        found = concurrently(
            lambda kind: self._client.list_objects(*kind, ISTIO_NAMESPACE, labels=labels), PRUNED_KINDS
        )
        exposing = self._client.get(ObjectRef.of(exposing_gateway(self._settings)))
        return [
            *(ObjectRef.of(obj) for objects in found for obj in objects),
            *(ObjectRef.of(obj) for obj in former_objects(self._client, EASTWEST_GATEWAY)),
            *(ObjectRef.of(obj) for obj in [exposing] if obj and is_ours(obj)),
        ]

    def claim(self) -> None:
        rename(self._client, former_objects(self._client, EASTWEST_GATEWAY), EASTWEST_GATEWAY)

    def withdraw(self, timeout: int) -> None:
        del timeout  # a single request needs none

        def write(service: Object | None) -> Object | None:
            if service is None or NETWORK_LABEL not in (service["metadata"].get("labels") or {}):
                return None
            del service["metadata"]["labels"][NETWORK_LABEL]
            return self._client.replace(service)

        write_anew(self._client, self.service, write)


class GatewayApiForm(Form):
    """A Gateway of the Kubernetes Gateway API. istiod creates Deployment and Service from it."""

    service = ObjectRef("v1", "Service", f"{NAME}-istio", ISTIO_NAMESPACE)
    _deployment = ObjectRef("apps/v1", "Deployment", f"{NAME}-istio", ISTIO_NAMESPACE)

    def plan(self, announced: bool = True) -> Plan:
        client = self._client
        self._require_kind()
        objects = gateway_api_objects(self._settings, announced)
        self._refuse_foreign(objects)
        changes = compare_all(client, objects, FIELD_MANAGER)
        made_of_it = [ref for ref in (self._deployment, self.service) if not client.get(ref)]
        scaled = self._scaled_to_zero()

        def carry_out(timeout: int) -> None:
            _apply(client, objects, changes, timeout)
            self._wait(objects, timeout)
            if scaled:
                client.scale(self._deployment, 1)
            wait_ready(client, [self._deployment], timeout)

        created = [ObjectChange(ref, CREATE, {}, {}) for ref in made_of_it]
        return Plan([*changes, *created, *scaled], carry_out)

    def parts(self) -> list[ObjectRef]:
        refs = [ObjectRef.of(obj) for obj in reversed(gateway_api_objects(self._settings, True))]
        return [ref for ref in refs if (obj := self._client.get(ref)) and is_ours(obj)]

    def claim(self) -> None:
        pass  # objects of this form always had the mark

    def withdraw(self, timeout: int) -> None:
        # If only the Service lost the label, istiod would put it back.
        self.plan(announced=False).carry_out(timeout)

    def _require_kind(self) -> None:
        if error := without_gateway_api(self._client.get(GATEWAY_CRD)):
            raise error

    def _refuse_foreign(self, objects: Iterable[Object]) -> None:
        for ref in [ObjectRef.of(obj) for obj in objects]:
            live = self._client.get(ref)
            if live and not is_ours(live):
                raise ExomeshError(
                    f"{ref} is there, but not ours: it lacks the label {MANAGED_BY_LABEL}={MANAGED_BY}",
                    "foreign_object",
                    next_step="Delete or rename it, or give it that label to let it be taken over",
                )

    def _scaled_to_zero(self) -> list[ObjectChange]:
        """Return the change that scales the Deployment from 0 to 1, as an autoscaler ignores 0 replicas."""
        live = self._client.get(self._deployment)
        if not live or live["spec"].get("replicas") != 0:
            return []
        return [ObjectChange(self._deployment, UPDATE, {"spec.replicas": 0}, {"spec.replicas": 1})]

    def _wait(self, objects: Sequence[Object], timeout: int) -> None:
        gateway = ObjectRef.of(objects[-1])
        configuration = configuration_of(objects)

        def unmet() -> str | None:
            live = self._client.get(gateway) or {"metadata": {}}
            missing = _not_accepted(live)
            if missing:
                return missing
            service = self._client.get(self.service)
            if service is None:
                return f"istiod has made no {self.service} of it"
            made_of = (service["metadata"].get("annotations") or {}).get(CONFIGURATION_ANNOTATION)
            return (
                None if made_of == configuration else f"istiod has not yet brought {self.service} up to date"
            )

        started = time.monotonic()
        missing = wait_until_met(unmet, timeout)
        if missing:
            raise ExomeshError(
                f"{gateway} is not in place after {time.monotonic() - started:.0f} s: {missing}",
                "gateway_not_in_place",
                next_step="Look at the Gateway's status.conditions and at the log of istiod. One of another "
                "revision takes no notice of it",
            )


@dataclass(frozen=True)
class Outcome:
    """The changes that were made, or would be made in check mode.

    :param former_address: the address that an earlier run recorded, if it is no longer valid.
    """

    changes: list[ObjectChange]
    service: str
    addresses: list[str]
    former_address: str | None


def ensure(client: KubernetesClient, wanted: Form, other: Form, timeout: int, check_mode: bool) -> Outcome:
    """Ensure the gateway in the wanted form, and replace one of the other form.

    Returns when peers can use the gateway.
    """
    final = wanted.plan()
    leftovers = other.parts()
    if leftovers:
        wanted.refuse_shared_load_balancer()
    changes = [*final.changes, *(ObjectChange(ref, DELETE, {}, {}) for ref in leftovers)]
    if check_mode:
        addresses = service_addresses(client.get(wanted.service))
    else:
        if other.is_announced() and not wanted.is_announced():
            wanted.plan(announced=False).carry_out(timeout)
            wait_for_addresses(client, ISTIO_NAMESPACE, wanted.service.name, timeout)
            final = wanted.plan()
        final.carry_out(timeout)
        addresses = wait_for_addresses(client, ISTIO_NAMESPACE, wanted.service.name, timeout)
        if leftovers:
            _remove(client, other, leftovers, timeout)
    service = client.get(wanted.service)
    recorded = ((service or {}).get("metadata", {}).get("annotations") or {}).get(ADDRESS_ANNOTATION)
    if not addresses or recorded in addresses:
        return Outcome(changes, wanted.service.name, addresses, None)
    if not check_mode:
        _record(client, wanted.service, addresses[0])
    if not any(change.ref == wanted.service and change.action != UNCHANGED for change in changes):
        path = f"metadata.annotations['{ADDRESS_ANNOTATION}']"
        before = {path: recorded} if recorded else {}
        changes.append(ObjectChange(wanted.service, UPDATE, before, {path: addresses[0]}))
    return Outcome(changes, wanted.service.name, addresses, recorded)


def _not_accepted(gateway: Object) -> str | None:
    """Return why istiod does not accept the Gateway's newest form; None if it accepts that."""
    for condition in gateway.get("status", {}).get("conditions", []):
        if condition["type"] != "Accepted" or condition["status"] == "Unknown":
            continue
        if condition.get("observedGeneration", 0) < gateway["metadata"].get("generation", 0):
            continue
        if condition["status"] == "True":
            return None
        return f"it is not accepted: {condition['reason']}: {condition['message']}"
    return "istiod has not taken it up yet"


def _apply(
    client: KubernetesClient, objects: Sequence[Object], changes: Sequence[ObjectChange], timeout: int
) -> None:
    for obj, change in zip(objects, changes, strict=True):
        if change.action != UNCHANGED:
            apply_patiently(client, obj, FIELD_MANAGER, timeout)


def _remove(client: KubernetesClient, form: Form, parts: Sequence[ObjectRef], timeout: int) -> None:
    form.claim()
    if form.is_announced():
        form.withdraw(timeout)
        pause(DRAIN_SECONDS, f"connections by {form.service} of cluster {client.name} to end")
    for ref in parts:
        client.delete(ref)
    wait_until_gone(client, sorted({*parts, form.service}), timeout)


def _record(client: KubernetesClient, ref: ObjectRef, address: str) -> None:
    """Record the address on the Service, so that the next run can compare it."""
    metadata = {
        "name": ref.name,
        "namespace": ref.namespace,
        "annotations": {ADDRESS_ANNOTATION: address},
    }
    client.apply({"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata})
