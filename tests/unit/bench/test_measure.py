# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark makes of what it saw."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_lab import kind_of_request
from cost import measure
from measure import busy_seconds

URI = "/api/v1/namespaces/istio-system/secrets"


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"verb": "list", "objectRef": {"resource": "secrets"}, "requestURI": URI}, "read"),
        ({"verb": "get", "requestURI": "/apis"}, "read"),
        ({"verb": "watch", "objectRef": {"resource": "pods"}, "requestURI": URI + "?watch=true"}, "read"),
        ({"verb": "patch", "objectRef": {"resource": "secrets"}, "requestURI": URI}, "write"),
        (
            {"verb": "patch", "objectRef": {"resource": "secrets"}, "requestURI": URI + "?dryRun=All"},
            "dry-run",
        ),
        ({"verb": "get", "objectRef": {"subresource": "exec"}, "requestURI": URI}, "session"),
        ({"verb": "create", "objectRef": {"subresource": "portforward"}, "requestURI": URI}, "session"),
        ({"verb": "create", "objectRef": {"apiGroup": "authorization.k8s.io"}, "requestURI": URI}, "review"),
        (
            {"verb": "create", "objectRef": {"resource": "serviceaccounts", "subresource": "token"}},
            "review",
        ),
        ({"verb": "create", "objectRef": {"resource": "secrets"}, "requestURI": URI}, "write"),
        ({"verb": "update", "objectRef": {"resource": "leases"}, "requestURI": URI}, "lease"),
    ],
)
def test_requests_are_told_apart(event: dict[str, Any], kind: str) -> None:
    assert kind_of_request(event) == kind


def test_time_in_which_several_hosts_work_counts_once() -> None:
    assert busy_seconds([(5.0, 6.0), (1.0, 3.0), (2.0, 4.0), (2.5, 2.6)]) == pytest.approx(4.0)


class QuietLab:
    """Clusters that are asked nothing."""

    def requests(self) -> dict[str, Any]:
        return {}

    def bytes(self) -> int:
        return 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a process namespace is root's, as the lab is")
def test_the_cost_of_all_that_came_of_a_program_is_counted(tmp_path: Path) -> None:
    child = "import sys; sum(range(20_000_000))"
    cost = measure(QuietLab(), ["bash", "-c", f"'{sys.executable}' -c '{child}'; true"], tmp_path, {})
    assert cost["cpu_seconds"] > 0.1
    assert 2 <= cost["processes"] <= 20


@pytest.mark.skipif(os.geteuid() != 0, reason="a process namespace is root's, as the lab is")
def test_a_contestant_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"the reason"):
        measure(QuietLab(), ["bash", "-c", "echo the reason; exit 3"], tmp_path, {})


def test_both_scripts_are_shell() -> None:
    for script in (Path(__file__).parents[3] / "bench").glob("*.sh"):
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
