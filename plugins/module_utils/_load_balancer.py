# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of Services of type LoadBalancer (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import (
    KubernetesClient,
    Object,
    ObjectRef,
    wait_until_met,
)

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"multiple Instance Pools",
        "the cluster has several node pools, and the load balancer can serve only one",
        (
            "Name the node pool in gateway_annotations: "
            "service.beta.kubernetes.io/exoscale-loadbalancer-service-sks-nodepool-name and "
            "service.beta.kubernetes.io/exoscale-loadbalancer-sks-cluster-name"
        ),
    ),
    (
        r"quota|limit",
        "a limit of the account or of the load balancer is reached",
        "Raise the quota, or free what is not used; one Exoscale load balancer serves at most 10 ports",
    ),
    (
        r"401|403|forbidden|unauthori[sz]ed|credential",
        "the cluster's cloud controller may not manage load balancers",
        "Check the cluster's CCM credentials (for SKS: rotate the CCM credentials)",
    ),
)
"""Pattern in an Event, what it means, what to do."""


def service_addresses(service: Object | None) -> list[str]:
    """The addresses of a Service's load balancer: IP addresses, then host names."""
    ingress = ((service or {}).get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    return [entry["ip"] for entry in ingress if entry.get("ip")] + [
        entry["hostname"] for entry in ingress if entry.get("hostname") and not entry.get("ip")
    ]


def addresses(client: KubernetesClient, namespace: str, name: str) -> list[str]:
    """The addresses the Service has now; none where it does not exist."""
    return service_addresses(client.get(ObjectRef("v1", "Service", name, namespace)))


def wait_for_addresses(client: KubernetesClient, namespace: str, name: str, timeout: float) -> list[str]:
    """Wait for the Service's addresses.

    :raises ExomeshError: ``no_load_balancer_address``, with the Service's Events and the likely cause.
    """
    found: list[str] = []

    def unmet() -> str | None:
        service = client.get(ObjectRef("v1", "Service", name, namespace))
        found[:] = service_addresses(service)
        if found:
            return None
        if service is None:
            return "the Service does not exist"
        kind = service["spec"].get("type")
        return "no address yet" if kind == "LoadBalancer" else f"its type is {kind}, not LoadBalancer"

    missing = wait_until_met(unmet, timeout)
    if missing is None:
        return found
    events = client.events("Service", namespace, name)
    cause, next_step = likely_cause(events)
    raise ExomeshError(
        f"Service {namespace}/{name} has no load balancer address after {timeout:.0f} s: {missing}",
        "no_load_balancer_address",
        cause=cause,
        next_step=next_step,
        details={"events": events},
    )


def likely_cause(events: Sequence[str]) -> tuple[str, str]:
    """Why there is no address, and what to do, as the Service's Events tell it."""
    for line in reversed(events):
        for pattern, cause, next_step in _CAUSES:
            if re.search(pattern, line, re.IGNORECASE):
                return f"{cause} (Event: {line})", next_step
    if events:
        return f"the last Event says: {events[-1]}", "Cure what the Event says, then run this again"
    return (
        "the Service has no Events: nothing in this cluster gives out load balancer addresses, or not yet",
        "Check that the cluster has a cloud controller manager (SKS: --exoscale-ccm), or wait longer",
    )
