# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Annotations of Exoscale's network load balancers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale.nlb import nlb_annotations

PREFIX = "service.beta.kubernetes.io/exoscale-loadbalancer-"
ID = "85664334-0fd5-47bd-94a1-b4f40b1d2eb7"


def test_nothing_said_is_nothing_written() -> None:
    assert nlb_annotations({}) == {}
    unsaid = {"name": None, "external": False, "health_check": {"mode": None}, "node_pool": None}
    assert nlb_annotations({**unsaid, "sks_cluster": "vienna"}) == {}


def test_everything_said_is_written_as_the_cloud_controller_reads_it() -> None:
    check = {
        "mode": "http",
        "port": 31021,
        "path": "/healthz/ready",
        "interval": 20,
        "timeout": 10,
        "retries": 3,
    }
    options: dict[str, Any] = {
        "name": "mesh-vienna",
        "description": "east-west",
        "id": ID,
        "external": True,
        "node_pool": "workers",
        "sks_cluster": "vienna",
        "strategy": "source-hash",
        "health_check": check,
    }
    assert nlb_annotations(options) == {
        f"{PREFIX}name": "mesh-vienna",
        f"{PREFIX}description": "east-west",
        f"{PREFIX}id": ID,
        f"{PREFIX}external": "true",
        f"{PREFIX}sks-cluster-name": "vienna",
        f"{PREFIX}service-sks-nodepool-name": "workers",
        f"{PREFIX}service-strategy": "source-hash",
        f"{PREFIX}service-healthcheck-mode": "http",
        f"{PREFIX}service-healthcheck-port": "31021",
        f"{PREFIX}service-healthcheck-uri": "/healthz/ready",
        f"{PREFIX}service-healthcheck-interval": "20s",
        f"{PREFIX}service-healthcheck-timeout": "10s",
        f"{PREFIX}service-healthcheck-retries": "3",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"node_pool": "a", "sks_cluster": "b", "instance_pool_id": ID}, "give one of them"),
        ({"node_pool": "a"}, "node_pool needs sks_cluster"),
        ({"external": True}, "external needs the id or the name"),
        ({"id": "mine"}, "id must be a UUID"),
        ({"instance_pool_id": "workers"}, "instance_pool_id must be a UUID"),
        ({"health_check": {"interval": 4}}, "interval must be from 5 to 300, not 4"),
        ({"health_check": {"interval": 301}}, "interval must be from 5 to 300, not 301"),
        ({"health_check": {"timeout": 61, "interval": 300}}, "timeout must be from 2 to 60, not 61"),
        ({"health_check": {"retries": 0}}, "retries must be from 1 to 20, not 0"),
        ({"health_check": {"port": 70000}}, "port must be from 1 to 65535"),
        ({"health_check": {"timeout": 11}}, r"timeout \(11 s\) must not be longer than .*\(10 s\)"),
        ({"health_check": {"interval": 5, "timeout": 6}}, "must not be longer"),
        ({"health_check": {"mode": "http"}}, "mode http needs health_check.path"),
        ({"health_check": {"path": "/"}}, "needs health_check.mode http or https"),
        ({"health_check": {"mode": "http", "path": "ready"}}, "must begin with a slash"),
    ],
)
def test_what_the_cloud_would_refuse_is_refused_before(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ExomeshError, match=f"gateway_nlb: .*{said}"):
        nlb_annotations(options)
