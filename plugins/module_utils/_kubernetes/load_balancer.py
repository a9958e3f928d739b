# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of Services of type LoadBalancer (private to the collection)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from .._base.errors import ExomeshError
from .._base.waiting import wait_until_met
from .api import Object, ObjectRef
from .client import EVENTS_UNREAD, KubernetesClient

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"multiple Instance Pools|infer any Instance Pool",
        "the load balancer can serve one node pool, and which one is not clear",
        "Name it: gateway_nlb.node_pool, or gateway_nlb.instance_pool_id",
    ),
    (
        r"SKS (cluster|node pool) (with name|name specified)",
        "there is no node pool of the name that was given",
        "Correct gateway_nlb.node_pool and gateway_nlb.sks_cluster (exo compute sks nodepool list)",
    ),
    (
        r"marked (as )?external",
        "the load balancer that gateway_nlb says is there already is not there",
        "Make it first, or correct gateway_nlb.id or gateway_nlb.name (exo compute load-balancer list)",
    ),
    (
        r"at most 10|(maximum|too many|limit).*services|services.*(maximum|limit)",
        "one Exoscale load balancer serves at most 10 ports",
        "Take ports away, or use another load balancer for them",
    ),
    (
        r"quota|limit (is )?(reached|exceeded)|limit exceeded",
        "a quota of the account is reached",
        "Raise the quota (exo limits shows it), or free load balancers that are not used",
    ),
    (
        r"\b(401|403)\b|forbidden|unauthori[sz]ed|credential|invalid request signature|role policy",
        "the cluster's cloud controller may not manage load balancers",
        "Check its credentials, or renew them: exo compute sks rotate-ccm-credentials CLUSTER",
    ),
    (
        r"\b400\b|bad request|unprocessable|duration|healthcheck",
        "Exoscale refuses a setting of the load balancer",
        "Correct gateway_nlb or gateway_annotations",
    ),
    (
        r"\b(429|5\d\d)\b|giving up after|timeout|deadline exceeded|connection refused|no such host",
        "the cluster's cloud controller does not reach the Exoscale API, or not always",
        "It tries again by itself: see status.exoscale.com, and run this again",
    ),
)
"""Pattern in an Event, the cause that it means, and the next step."""


def service_addresses(service: Object | None) -> list[str]:
    """Return the addresses of a Service's load balancer: IP addresses, then host names."""
    ingress = ((service or {}).get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    return [entry["ip"] for entry in ingress if entry.get("ip")] + [
        entry["hostname"] for entry in ingress if entry.get("hostname") and not entry.get("ip")
    ]


def addresses(client: KubernetesClient, namespace: str, name: str) -> list[str]:
    """Return the addresses that the Service has now; none when it does not exist."""
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

    started = time.monotonic()
    missing = wait_until_met(unmet, timeout)
    waited = time.monotonic() - started
    if missing is None:
        return found
    events = client.events("Service", namespace, name)
    cause, next_step = likely_cause(events)
    raise ExomeshError(
        f"Service {namespace}/{name} has no load balancer address after {waited:.0f} s: {missing}",
        "no_load_balancer_address",
        cause=cause,
        next_step=next_step,
        details={"events": events},
    )


def likely_cause(events: Sequence[str]) -> tuple[str, str]:
    """Return the likely cause of a missing address and the next step, by the Service's Events."""
    if list(events) == [EVENTS_UNREAD]:
        return EVENTS_UNREAD, "Check that the API of the cluster answers, then run this again"
    for line in reversed(events):
        for pattern, cause, next_step in _CAUSES:
            if re.search(pattern, line, re.IGNORECASE):
                return f"{cause} (Event: {line})", next_step
    if events:
        return f"the last Event says: {events[-1]}", "Cure what the Event says, then run this again"
    return (
        "the Service has no Events: nothing in this cluster gives out load balancer addresses, or not yet",
        "Check that the SKS cluster has the add-on exoscale-cloud-controller, or wait longer",
    )
