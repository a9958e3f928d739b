# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Annotations of a Service for Exoscale's network load balancers (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._base.errors import ExomeshError

_PREFIX = "service.beta.kubernetes.io/exoscale-loadbalancer-"
LOAD_BALANCER_ID = f"{_PREFIX}id"
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

NLB_ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "description": {"type": "str"},
    "id": {"type": "str"},
    "external": {"type": "bool", "default": False},
    "node_pool": {"type": "str"},
    "sks_cluster": {"type": "str"},
    "instance_pool_id": {"type": "str"},
    "strategy": {"type": "str", "choices": ["round-robin", "source-hash"]},
    "health_check": {
        "type": "dict",
        "options": {
            "mode": {"type": "str", "choices": ["tcp", "http", "https"]},
            "port": {"type": "int"},
            "path": {"type": "str"},
            "interval": {"type": "int"},
            "timeout": {"type": "int"},
            "retries": {"type": "int"},
        },
    },
}
"""Options of a load balancer. Exoscale's cloud controller decides what the user leaves out."""

_RANGES = {"port": (1, 65535), "interval": (5, 300), "timeout": (2, 60), "retries": (1, 20)}
_DEFAULT_SECONDS = {"interval": 10, "timeout": 5}


def nlb_annotations(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of the Service that tell the cloud controller these options.

    :param options: values for ``NLB_ARGUMENT_SPEC``.
    :raises ExomeshError: ``nlb_invalid``: options contradict each other, or the cloud would refuse them.
    """
    given = {key: value for key, value in options.items() if value not in (None, "", {})}
    check = {key: value for key, value in given.get("health_check", {}).items() if value not in (None, "")}
    _refuse_contradictions(given)
    _refuse_health_check(check)
    values = {
        "name": given.get("name"),
        "description": given.get("description"),
        "id": given.get("id"),
        "external": "true" if given.get("external") else None,
        "sks-cluster-name": given["sks_cluster"] if given.get("node_pool") else None,
        "service-sks-nodepool-name": given.get("node_pool"),
        "service-instancepool-id": given.get("instance_pool_id"),
        "service-strategy": given.get("strategy"),
        "service-healthcheck-mode": check.get("mode"),
        "service-healthcheck-port": check.get("port"),
        "service-healthcheck-uri": check.get("path"),
        "service-healthcheck-interval": _seconds(check.get("interval")),
        "service-healthcheck-timeout": _seconds(check.get("timeout")),
        "service-healthcheck-retries": check.get("retries"),
    }
    return {f"{_PREFIX}{key}": str(value) for key, value in values.items() if value is not None}


def _refuse_contradictions(given: Mapping[str, Any]) -> None:
    if given.get("node_pool") and given.get("instance_pool_id"):
        raise _invalid("node_pool and instance_pool_id both say which nodes it serves: give one of them")
    if given.get("node_pool") and not given.get("sks_cluster"):
        raise _invalid("node_pool needs sks_cluster, the name of the cluster that the pool is of")
    if given.get("external") and not (given.get("id") or given.get("name")):
        raise _invalid("external needs the id or the name of the load balancer that is there already")
    for key in ("id", "instance_pool_id"):
        if key in given and not re.fullmatch(_UUID, given[key]):
            raise _invalid(f"{key} must be a UUID, as the Exoscale API lists them, not {given[key]!r}")


def _refuse_health_check(check: Mapping[str, Any]) -> None:
    for key, (lowest, highest) in _RANGES.items():
        if key in check and not lowest <= check[key] <= highest:
            raise _invalid(f"health_check.{key} must be from {lowest} to {highest}, not {check[key]}")
    seconds = {key: check.get(key, default) for key, default in _DEFAULT_SECONDS.items()}
    if seconds["timeout"] > seconds["interval"]:
        raise _invalid(
            f"health_check.timeout ({seconds['timeout']} s) must not be longer than health_check.interval "
            f"({seconds['interval']} s)"
        )
    by_http = check.get("mode") in ("http", "https")
    if by_http and "path" not in check:
        raise _invalid(f"health_check.mode {check['mode']} needs health_check.path, such as /healthz/ready")
    if "path" in check and not by_http:
        raise _invalid("health_check.path needs health_check.mode http or https")
    if "path" in check and not check["path"].startswith("/"):
        raise _invalid(f"health_check.path must begin with a slash, unlike {check['path']!r}")


def _seconds(number: int | None) -> str | None:
    return None if number is None else f"{number}s"


def _invalid(message: str) -> ExomeshError:
    return ExomeshError(f"gateway_nlb: {message}", "nlb_invalid")
