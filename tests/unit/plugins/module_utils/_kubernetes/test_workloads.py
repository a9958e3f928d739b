# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which workload makes a pod."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.workloads import workload_of


@pytest.mark.parametrize(
    ("kind", "name", "controls", "workload"),
    [
        ("ReplicaSet", "web-7d4f", True, "deployment/web"),
        ("ReplicaSet", "by-hand", True, None),
        ("StatefulSet", "db", True, "statefulset/db"),
        ("DaemonSet", "agent", True, "daemonset/agent"),
        ("Job", "once", True, None),
        ("StatefulSet", "db", False, None),
    ],
)
def test_the_workload_is_named_whose_restart_replaces_the_pod(
    kind: str, name: str, controls: bool, workload: str | None
) -> None:
    owner = {"kind": kind, "name": name, "controller": controls}
    metadata = {"name": "x", "labels": {"pod-template-hash": "7d4f"}, "ownerReferences": [owner]}
    assert workload_of({"metadata": metadata}) == workload


def test_a_pod_by_itself_has_no_workload() -> None:
    assert workload_of({"metadata": {"name": "x"}}) is None
