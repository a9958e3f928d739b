# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps Deployments and pods from being ready."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.readiness import (
    deployment_unmet,
    pod_unmet,
)
from kubernetes_api import Object


@pytest.mark.parametrize(
    ("state", "missing"),
    [
        ({"observedGeneration": 1}, "not yet taken up"),
        ({"observedGeneration": 2}, "0 of 2 replicas are of the newest form"),
        ({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3}, "1 replicas of the old form"),
        (
            {"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 1},
            "1 of 2 replicas are available",
        ),
    ],
)
def test_deployment_that_is_not_ready(state: Object, missing: str) -> None:
    found = deployment_unmet({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": state})
    assert missing in str(found)


def test_deployment_that_is_ready() -> None:
    state = {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}
    assert deployment_unmet({"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": state}) is None
    assert deployment_unmet(None) == "it does not exist"


def test_pod_says_which_container_waits_also_among_init_containers() -> None:
    waiting = {
        "name": "istio-proxy",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}},
    }
    pod: Object = {"status": {"phase": "Pending", "initContainerStatuses": [waiting]}}
    assert pod_unmet(pod) == "container istio-proxy waits: ImagePullBackOff: no such tag"
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "no nodes",
    }
    assert pod_unmet({"status": {"conditions": [unscheduled]}}) == (
        "condition PodScheduled is False: Unschedulable: no nodes"
    )
    assert pod_unmet({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}) is None
