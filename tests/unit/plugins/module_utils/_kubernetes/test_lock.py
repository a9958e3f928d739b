# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock in the cluster: one holder at a time, known by name, and gone soon after it died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.processes import Process, Watch
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import lock as cluster_lock
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ApiError, ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.lease import HOLDER_ANNOTATION, Holder
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.lock import ClusterLock, take_all
from kubernetes_api import ApiServer, status
from patience import ends_within

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/exomesh-test"


def lock(api: ApiServer, timeout: float = 0, duration: int = 15) -> ClusterLock:
    return ClusterLock(KubernetesClient(str(api.kubeconfig)), "test", timeout, duration)


def steal(api: ApiServer, **spec: Any) -> None:
    """Have another one hold the lock."""
    lease = api.objects[LEASE]
    api.put(LEASE, {**lease, "spec": {**lease["spec"], "holderIdentity": "other", **spec}})


def elsewhere(seconds_ago: float = 0, **spec: Any) -> dict[str, Any]:
    """A lease of another controller."""
    now = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "exomesh-test", "namespace": "kube-system"},
        "spec": {
            "holderIdentity": "other",
            "leaseDurationSeconds": 15,
            "acquireTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            **spec,
        },
    }


def writes(held: ClusterLock) -> None:
    """What the holder of a lock does."""
    held.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "made"}})


def goes_on_writing(held: ClusterLock, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        writes(held)
        time.sleep(0.02)
        if time.monotonic() > end:
            return


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


class Hasty(KubernetesClient):
    """Something happens to the Lease as soon as it was read."""

    meanwhile: Callable[[], Any] = staticmethod(lambda: None)

    def get(self, ref: ObjectRef) -> Any:
        found = super().get(ref)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return found


@pytest.mark.parametrize("force", [False, True])
def test_a_dead_holder_whose_lease_goes_in_between_is_followed(api: ApiServer, force: bool) -> None:
    dead = lock(api, duration=1)
    assert dead._acquire()
    time.sleep(1.1)
    client = Hasty(str(api.kubeconfig))
    client.meanwhile = lambda: api.objects.pop(LEASE)
    follower = ClusterLock(client, "test", 0)
    assert take_all([follower], 0, force) == {}
    assert api.objects[LEASE]["spec"]["holderIdentity"] == follower._holder.identity
    follower.release()


def test_a_lock_that_is_renewed_while_it_is_broken_is_broken(api: ApiServer) -> None:
    alive = lock(api)
    assert alive._acquire()
    client = Hasty(str(api.kubeconfig))
    client.meanwhile = alive._renew
    breaker = ClusterLock(client, "test", 0)
    assert take_all([breaker], 0, force=True) == {}
    with pytest.raises(ExomeshError, match="lock of this run was lost"):
        alive._renew()
    breaker.release()


def test_a_living_holder_is_not_followed(api: ApiServer) -> None:
    with lock(api, duration=4), pytest.raises(ExomeshError), lock(api, timeout=5):
        pass


def test_a_lock_that_was_lost_is_left_to_its_new_holder(api: ApiServer) -> None:
    with pytest.raises(ExomeshError, match="other has had it since"), lock(api):
        steal(api)
    assert api.objects[LEASE]["spec"]["holderIdentity"] == "other"


def test_one_conflict_is_nothing_where_it_is_still_ours(api: ApiServer) -> None:
    with lock(api, duration=4) as held:
        for _ in range(5):
            labelled = api.objects[LEASE]
            api.put(LEASE, {**labelled, "metadata": {**labelled["metadata"], "labels": {"theirs": "x"}}})
            time.sleep(1.1)
        with pytest.raises(ExomeshError, match="has been changing"), lock(api):
            pass
        writes(held)
    assert LEASE not in api.objects


def test_a_label_that_somebody_wrote_last_does_not_keep_it(api: ApiServer) -> None:
    with lock(api):
        api.put(LEASE, api.objects[LEASE])
    assert LEASE not in api.objects


def test_who_lost_it_writes_nothing_more_and_says_who_has_it(api: ApiServer) -> None:
    with pytest.raises(ExomeshError) as caught, lock(api, duration=2) as held:  # noqa: PT012
        writes(held)
        steal(api, acquireTime="2026-11-28T10:00:00Z")
        goes_on_writing(held, 5)
    assert caught.value.code == "lock_lost"
    assert caught.value.cluster == "vie"
    assert "other has had it since 2026-11-28 10:00:00 UTC" in str(caught.value)
    assert caught.value.next_step
    written = api.requests.count("PATCH /api/v1/namespaces/made")
    with pytest.raises(ExomeshError, match="other has had it"):
        writes(held)
    assert api.requests.count("PATCH /api/v1/namespaces/made") == written


def test_a_lock_that_was_deleted_is_lost(api: ApiServer) -> None:
    with pytest.raises(ExomeshError, match="its Lease is gone"), lock(api, duration=2) as held:  # noqa: PT012
        del api.objects[LEASE]
        goes_on_writing(held, 5)


@pytest.mark.parametrize("code", [403, 429, 500, 503])
def test_an_api_that_refuses_for_a_moment_does_not_matter(api: ApiServer, code: int) -> None:
    with lock(api, duration=4) as held:
        api.failures["PUT", LEASE] = [status(code, "No") for _ in range(2)]
        goes_on_writing(held, 3.5)


def test_an_api_that_refuses_for_longer_than_the_lock_lives_has_lost_it(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed, wrote = [], []
    loss = ClusterLock.loss

    def note(held: ClusterLock) -> ExomeshError:
        noticed.append(cluster_lock.clock() - held._renewed)
        return loss(held)

    monkeypatch.setattr(ClusterLock, "loss", note)
    with pytest.raises(ExomeshError, match="not renewed in time") as caught, lock(api, duration=4) as held:  # noqa: PT012
        api.failures["PUT", LEASE] = [status(403, "Forbidden") for _ in range(1000)]
        for _ in range(1000):
            begun = cluster_lock.clock() - held._renewed
            goes_on_writing(held, 0)
            wrote.append(begun)
    assert caught.value.code == "lock_lost"
    assert noticed[0] >= 3
    assert max(wrote) < 4, "before another one can have it"


def test_an_api_that_is_silent_has_lost_it(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = api.answer

    def silent(method: str, url: str, body: Any) -> Any:
        if url.startswith(LEASE) and method != "DELETE":
            time.sleep(3)
        return answer(method, url, body)

    raised = pytest.raises(ExomeshError, match="could not be renewed")
    with ends_within(10), raised as caught, lock(api, duration=2) as held:
        monkeypatch.setattr(api, "answer", silent)
        goes_on_writing(held, 5)
    assert caught.value.code == "lock_lost"


def test_one_answer_that_never_comes_is_asked_for_again(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, silences = api.answer, [30.0]

    def once_silent(method: str, url: str, body: Any) -> Any:
        if method == "PUT" and silences:
            time.sleep(silences.pop())
        return answer(method, url, body)

    with lock(api, duration=4) as held:
        monkeypatch.setattr(api, "answer", once_silent)
        goes_on_writing(held, 5)
        assert silences == []


def test_an_api_that_forbids_it_is_told(api: ApiServer) -> None:
    api.failures["GET", LEASE] = [status(403, "Forbidden")]
    with pytest.raises(ApiError, match="Forbidden"), lock(api):
        pass


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_is_set_changes_nothing(
    api: ApiServer, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock(api, duration=4) as held:
        # As if the API server's clock were right, and ours were set in the middle of it.
        wrong = time.time
        monkeypatch.setattr(cluster_lock.time, "time", lambda: wrong() + jump)
        held._client.clock_skew = -jump
        time.sleep(1.2)
        told = datetime.fromisoformat(api.objects[LEASE]["spec"]["renewTime"])
        assert abs((told - datetime.now(UTC)).total_seconds()) < 5
        writes(held)


def test_a_machine_that_slept_has_lost_it(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExomeshError, match="other has had it"), lock(api) as held:  # noqa: PT012
        steal(api)
        clock = cluster_lock.clock
        monkeypatch.setattr(cluster_lock, "clock", lambda: clock() + 3600)
        writes(held)
    assert "PATCH /api/v1/namespaces/made" not in api.requests


GARBAGE: list[Callable[[dict[str, Any]], Any]] = [
    lambda lease: lease.pop("spec"),
    lambda lease: lease.update(spec=None),
    lambda lease: lease.update(spec=[]),
    lambda lease: lease["spec"].pop("renewTime"),
    lambda lease: lease["spec"].pop("holderIdentity"),
    lambda lease: lease["spec"].update(holderIdentity=None),
    lambda lease: lease["spec"].update(holderIdentity=7),
    lambda lease: lease["spec"].update(renewTime="yesterday"),
    lambda lease: lease["spec"].update(renewTime=None),
    lambda lease: lease["spec"].update(renewTime="9999-12-31T23:59:59Z"),
    lambda lease: lease["spec"].update(renewTime="0001-01-01T00:00:00+23:59"),
    lambda lease: lease["spec"].update(renewTime="2026-01-01T00:00:00Z"),
    lambda lease: lease["spec"].update(renewTime="2026-01-01T02:00:00.123456789+02:00"),
    lambda lease: lease["spec"].update(renewTime="2026-01-01T00:00:00", acquireTime=12),
    lambda lease: lease["spec"].update(leaseDurationSeconds="soon", renewTime="2026-01-01T00:00:00Z"),
    lambda lease: lease["spec"].update(leaseDurationSeconds=-5, renewTime="2026-01-01T00:00:00Z"),
    lambda lease: lease["spec"].update(leaseDurationSeconds=10**12, renewTime="2026-01-01T00:00:00Z"),
    lambda lease: lease["metadata"].update(labels=None, annotations={HOLDER_ANNOTATION: "{"}),
    lambda lease: lease["metadata"].update(annotations={HOLDER_ANNOTATION: "[" * 5000}),
    lambda lease: lease["metadata"].update(annotations={HOLDER_ANNOTATION: '{"pid": -1}'}),
]


@pytest.mark.parametrize("spoil", GARBAGE)
def test_whatever_stands_in_the_lease_it_is_had_in_the_end(
    api: ApiServer, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    lease = elsewhere(seconds_ago=5, leaseDurationSeconds=1)
    spoil(lease)
    api.put(LEASE, lease)
    with lock(api, timeout=4, duration=2) as held:
        assert held.had_to_wait


def test_what_a_lease_says_does_not_reach_the_terminal(api: ApiServer) -> None:
    told = {"host": "\x1b[2Jx", "boot": "", "namespace": "", "started": "", "pid": 5, "user": "u\n"}
    identity = told["identity"] = "\x1b]0;x\x07" + "a" * 5000
    lease = elsewhere(holderIdentity=identity)
    api.put(LEASE, lease)
    with pytest.raises(ExomeshError) as first, lock(api):
        pass
    lease["metadata"]["annotations"] = {HOLDER_ANNOTATION: json.dumps({**told, "run": "\x9b1m"})}
    api.put(LEASE, lease)
    with pytest.raises(ExomeshError) as second, lock(api):
        pass
    assert str(first.value).isprintable()
    assert str(second.value).isprintable()
    assert len(str(first.value)) < 600


def test_a_lease_of_the_future_is_not_waited_for_longer_than_it_may_live(api: ApiServer) -> None:
    api.put(LEASE, elsewhere(seconds_ago=-86400, leaseDurationSeconds=2))
    started = time.monotonic()
    with ends_within(5), lock(api, timeout=10):
        assert time.monotonic() - started >= 2


def test_no_two_holders_have_a_name_in_common() -> None:
    assert len({Holder.this_process().identity for _ in range(100)}) == 100
    assert f"/{os.getpid()}/" in Holder.this_process().identity


def test_a_holder_on_this_machine_whose_process_is_gone_is_followed_at_once(api: ApiServer) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = replace(Holder.this_process(), process=Process.of(process.pid))
    first = ClusterLock(KubernetesClient(str(api.kubeconfig)), "test", 0, 300, holder)
    assert first._acquire()
    with pytest.raises(ExomeshError, match=f"process {process.pid}"), lock(api):
        pass
    process.send_signal(signal.SIGKILL)
    time.sleep(0.2)  # and nobody asks for its exit code
    with lock(api) as second:
        assert second.had_to_wait
    process.communicate()


def test_a_process_is_gone_only_where_that_is_proved() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    gone = Process.of(ended.pid)
    ended.wait()
    here = Process.of(os.getpid())
    assert gone.is_gone()
    assert not here.is_gone()
    assert not Process.of(1).is_gone(), "somebody else's"
    assert replace(here, started="1").is_gone(), "its number is used again"
    for other in ({"host": "elsewhere"}, {"boot": "other"}, {"boot": ""}, {"namespace": "pid:[1]"}):
        assert not replace(gone, **other).is_gone(), other  # type: ignore[arg-type]
    assert Process.parse(json.loads(json.dumps(here.told()))) == here
    for garbage in (None, [], {}, {"pid": 1}, {**here.told(), "pid": True}, {**here.told(), "boot": 1}):
        assert Process.parse(garbage) is None


@pytest.mark.parametrize("without", [False, True])
def test_the_end_of_a_process_is_noticed(without: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if without:
        monkeypatch.delattr(os, "pidfd_open")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watch = Watch(Process.of(process.pid))
    assert not watch.wait(0.1)
    threading.Timer(0.3, process.kill).start()
    with ends_within(5):
        while not watch.wait(60):
            pass
    process.wait()


def test_two_that_want_several_never_wait_for_each_other(tmp_path: Path) -> None:
    servers = [ApiServer(tmp_path, name) for name in ("a", "b", "c")]
    done: list[int] = []
    inside: list[int] = []

    def want(number: int) -> None:
        # Each in another order.
        rotated = servers[number % 3 :] + servers[: number % 3]
        locks = [ClusterLock(KubernetesClient(str(one.kubeconfig)), "test", 0) for one in rotated]
        take_all(locks, 60)
        inside.append(number)
        assert inside == [number]
        time.sleep(0.1)
        inside.clear()
        for held in locks:
            held.release()
        done.append(number)

    threads = [threading.Thread(target=want, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert not any(LEASE in one.objects for one in servers)
    for one in servers:
        one.close()


def test_who_cannot_have_all_keeps_none(tmp_path: Path) -> None:
    servers = [ApiServer(tmp_path, name) for name in ("a", "b")]
    servers[1].put(LEASE, elsewhere())
    locks = [ClusterLock(KubernetesClient(str(one.kubeconfig)), "test", 0) for one in servers]
    with pytest.raises(ExomeshError, match="cluster b: other has been changing"):
        take_all(locks, 1)
    assert LEASE not in servers[0].objects
    assert servers[1].objects[LEASE]["spec"]["holderIdentity"] == "other"
    take_all(locks, 0, force=True)
    assert "other" not in str(servers[1].objects[LEASE])
    for held, one in zip(locks, servers, strict=True):
        held.release()
        one.close()
