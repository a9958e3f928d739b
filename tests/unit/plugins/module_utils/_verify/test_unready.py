# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why istiod or the gateway is not ready, in the words of the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_mesh import RunningMesh

QUOTA = 'pods "x" is forbidden: exceeded quota: full, requested: pods=1, used: pods=2, limited: pods=2'


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = RunningMesh(tmp_path)
    yield mesh
    mesh.close()


def test_a_refused_rollout_of_the_gateway_is_told_with_the_name_of_the_quota(mesh: RunningMesh) -> None:
    pods = {"metadata": {"labels": {"istio": "eastwestgateway"}}, "spec": {"containers": []}}
    selector = {"matchLabels": {"istio": "eastwestgateway"}}
    spec = {"replicas": 1, "selector": selector, "template": pods}
    counts = {"replicas": 1, "updatedReplicas": 0, "availableReplicas": 1, "observedGeneration": 1}
    refused = [{"type": "ReplicaFailure", "status": "True", "message": QUOTA}]
    status = {**counts, "conditions": refused}
    mesh["vie"].put("Deployment", "istio-eastwestgateway", {}, spec=spec, status=status)
    result = mesh.run("mesh_verify", read_only=True, timeout=15)
    (found,) = result["findings"]
    assert (found["code"], found["cluster"], found["severity"]) == ("rollout-stuck", "vie", "warning")
    assert "ResourceQuota full is used up" in found["cause"]
    assert found["next_step"].startswith("kubectl -n istio-system describe resourcequota full, in vie")
    assert result["healthy"]
