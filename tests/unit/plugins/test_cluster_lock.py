# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock in the cluster: one holder at a time, known by name, and gone soon after it died."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._cluster_lock import ClusterLock
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import KubernetesClient
from kubernetes_api import ApiServer

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/exomesh-test"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, "vie")
    yield server
    server.close()


def lock(api: ApiServer, timeout: float = 0, duration: int = 15) -> ClusterLock:
    return ClusterLock(KubernetesClient(str(api.kubeconfig)), "test", timeout, duration)


def test_it_is_there_only_while_it_is_held(api: ApiServer) -> None:
    with lock(api) as held:
        assert api.objects[LEASE]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "exomesh.istio"}
        assert not held.had_to_wait
    assert LEASE not in api.objects


def test_the_second_is_told_who_holds_it(api: ApiServer) -> None:
    with (
        lock(api),
        pytest.raises(ExomeshError, match="has been changing this cluster since") as caught,
        lock(api),
    ):
        pass
    assert caught.value.code == "locked"
    assert caught.value.details["holder"] in str(caught.value)


def test_the_second_waits_and_knows_that_it_did(api: ApiServer) -> None:
    order = []
    first = lock(api).__enter__()

    def wait() -> None:
        with lock(api, timeout=10) as second:
            order.append(("second", second.had_to_wait))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.6)
    order.append(("first", False))
    first.__exit__(None, None, None)
    thread.join()
    assert order == [("first", False), ("second", True)]


def test_a_dead_holder_is_followed(api: ApiServer) -> None:
    dead = lock(api, duration=1)
    assert dead._acquire()  # and never renewed
    with lock(api, timeout=10) as follower:
        assert follower.had_to_wait
    assert LEASE not in api.objects


def test_a_living_holder_is_not_followed(api: ApiServer) -> None:
    with lock(api, duration=2), pytest.raises(ExomeshError), lock(api, timeout=4):
        pass


def test_a_lock_that_was_lost_is_left_to_its_new_holder(api: ApiServer) -> None:
    with lock(api):
        taken = {**api.objects[LEASE], "spec": {**api.objects[LEASE]["spec"], "holderIdentity": "other"}}
        api.put(LEASE, taken)
    assert api.objects[LEASE]["spec"]["holderIdentity"] == "other"
