# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes that others undo, programs that do not end, names that nobody resolves: none holds a task."""

from __future__ import annotations

import copy
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base import waiting
from ansible_collections.exomesh.istio.plugins.module_utils._base.cleanup import afterwards
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.programs import run_program
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import (
    TimeUpError,
    as_far_as_time_goes,
    cleaning_up,
    concurrently,
    in_threads,
    pause,
    remaining,
    sparing,
    time_limit,
    told_in_time,
    wait_until_met,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ClusterUnreachableError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.objects import remove_surplus
from ansible_collections.exomesh.istio.plugins.module_utils._peering.remote_secrets import (
    Access,
    write_secret,
)
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.requests import ask_urls
from kubernetes_api import ApiServer, Object, status
from silent_api import Servers

SERVICE = "/api/v1/namespaces/istio-system/services/istiod"
REMOTE = "/api/v1/namespaces/istio-system/secrets/istio-remote-secret-fra"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    api = ApiServer(tmp_path, "vie")
    yield api
    api.close()


def client_of(api: ApiServer) -> KubernetesClient:
    return KubernetesClient(str(api.kubeconfig), name=api.name)


def a_service(*ports: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istiod", "namespace": "istio-system"},
        "spec": {"ports": [{"name": f"port-{port}", "port": port} for port in ports]},
    }


def puts(api: ApiServer) -> int:
    return sum(request.startswith("PUT") for request in api.requests)


@pytest.mark.parametrize("by", ["a policy", "a controller"])
def test_what_is_put_back_for_ever_is_told(api: ApiServer, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    api.put(SERVICE, a_service(15010, 9999))
    replace = api._replace

    def put_back(path: str, live: Object, body: Object, dry_run: bool) -> tuple[int, Any]:
        code, answer = replace(path, live, copy.deepcopy(body), dry_run)
        stored = copy.deepcopy(answer)
        stored["spec"]["ports"].append({"name": "port-9999", "port": 9999})
        api.put(path, stored)
        return code, answer if by == "a controller" else api.objects[path]

    monkeypatch.setattr(api, "_replace", put_back)
    with time_limit(10), pytest.raises(ExomeshError) as caught:
        remove_surplus(client_of(api), a_service(15010))
    assert caught.value.code == "put_back"
    told = str(caught.value)
    assert "cluster vie: Service istio-system/istiod keeps" in told
    assert "spec.ports[port-9999]" in told
    assert "A mutating policy or controller puts it back" in told
    assert puts(api) <= 5


def test_what_is_removed_once_stays_away_quickly(api: ApiServer) -> None:
    api.put(SERVICE, a_service(15010, 9999))
    begun = time.monotonic()
    remove_surplus(client_of(api), a_service(15010))
    assert api.objects[SERVICE]["spec"]["ports"] == [{"name": "port-15010", "port": 15010}]
    assert puts(api) == 1
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_secret_that_others_always_write_is_told(api: ApiServer, method: str) -> None:
    path = REMOTE if method == "PUT" else REMOTE.rpartition("/")[0]
    if method == "PUT":
        api.put(REMOTE, {"kind": "Secret", "metadata": {"name": "istio-remote-secret-fra"}, "data": {}})
    api.failures[method, path] = [status(409, "Conflict")] * 1000
    access = Access("fra", "https://fra.example", None, "Y2E=", "token")
    with time_limit(10), pytest.raises(ExomeshError) as caught:
        write_secret(client_of(api), access)
    assert caught.value.code == "always_changed"
    assert "cluster vie: Secret istio-system/istio-remote-secret-fra could not be written" in str(
        caught.value
    )
    assert caught.value.next_step
    assert sum(request.startswith(method) for request in api.requests) <= 10


# Programs


_FAKES = {
    "ignores SIGTERM": "trap '' TERM INT HUP\nsleep 60 & echo $! >{pids}\nwhile :; do sleep 1; done",
    "leaves a child with its output": "sleep 60 & echo $! >{pids}\nexit 0",
    "leaves a child of another session": "setsid sleep 60 & echo $! >{pids}\nsleep 60",
    "reads nothing": "sleep 60 & echo $! >{pids}\nwait",
}


@pytest.mark.parametrize("fake", _FAKES)
def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path, fake: str) -> None:
    program, pids = tmp_path / "istioctl", tmp_path / "pids"
    program.write_text("#!/bin/sh\n" + _FAKES[fake].format(pids=pids))
    program.chmod(0o700)
    begun = time.monotonic()
    with time_limit(2), pytest.raises((TimeoutError, TimeUpError)):
        run_program([str(program)], dict(os.environ), 60, "x" * 1_000_000)
    assert time.monotonic() - begun < 5
    if "session" not in fake:  # nobody can know of that one
        assert wait_until_met(lambda: None if not _runs(int(pids.read_text())) else "it runs", 5) is None


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# Names, and servers of others


def test_a_name_server_that_says_nothing_is_told(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()

    def look_up(*_arguments: Any, **_options: Any) -> Any:
        ends.wait(60)
        raise socket.gaierror

    client = client_of(api)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    begun = time.monotonic()
    with time_limit(2), pytest.raises((TimeUpError, ClusterUnreachableError)) as caught:
        client.version()
    ends.set()
    assert time.monotonic() - begun < 4
    assert caught.value.cluster == "vie"
    assert caught.value.cause
    assert caught.value.next_step


@pytest.mark.parametrize("way", ["says nothing", "head byte by byte", "body byte by byte"])
def test_requests_to_a_silent_page_end(way: str) -> None:
    servers = Servers()
    silent = servers.start(way, tls=False)
    begun = time.monotonic()
    url = silent.url.replace("https", "http")
    with time_limit(2), pytest.raises(TimeUpError):
        list(ask_urls([url], {}, 100, 1))
    assert time.monotonic() - begun < 5
    time.sleep(2.5)
    heard = silent.last_heard
    time.sleep(1.5)
    assert silent.last_heard == heard
    servers.close()


# The limits themselves


def test_a_wait_leaves_time_to_tell_why() -> None:
    with time_limit(3):
        assert wait_until_met(lambda: "no", 60) == "no"
        assert remaining() > 0.1
        assert told_in_time(lambda: "because", "") == "because"


def test_a_question_without_an_answer_leaves_time_to_tell_why() -> None:
    answers = iter(["1 of 2 replicas"])

    def unmet() -> str:
        for answer in answers:
            return answer
        pause(60, "GET /apis")
        return "never"

    with time_limit(4):
        assert wait_until_met(unmet, 60) == "1 of 2 replicas"
        assert remaining() > 0.1
        assert wait_until_met(unmet, 60) == "It was waiting for GET /apis"


def test_the_message_says_what_was_waited_for() -> None:
    with time_limit(0.2), pytest.raises(TimeUpError, match=r"time limit of 0.2 s .* waiting for istiod"):
        pause(60, "istiod")


def test_work_goes_as_far_as_the_time() -> None:
    done: list[int] = []
    with time_limit(2):
        with as_far_as_time_goes(0.5, 60):
            for number in range(100):
                done.append(number)
                pause(0.3)
        assert 0.8 < remaining() < 1.2
    assert 2 <= len(done) <= 4


def test_whoever_was_ended_does_not_go_on() -> None:
    failures: list[BaseException] = []

    def work(_number: int) -> None:
        try:
            with as_far_as_time_goes(), sparing():
                wait_until_met(lambda: "no", 60)
        except TimeUpError as error:
            failures.append(error)
            raise

    class Stop(BaseException):
        pass

    def fail(number: int) -> None:
        if number:
            work(number)

    original, waited = waiting.wait, threading.Event()

    def interrupted(*_arguments: Any) -> None:
        waited.set()
        time.sleep(0.3)
        raise Stop

    waiting.wait = interrupted  # type: ignore[assignment]
    try:
        with time_limit(60), pytest.raises(Stop):
            concurrently(fail, range(3))
    finally:
        waiting.wait = original
    assert wait_until_met(lambda: None if len(failures) == 2 else "they go on", 5) is None
    assert all(isinstance(error, TimeUpError) and error.interrupted for error in failures)


def test_threads_end_with_their_block() -> None:
    beats: list[float] = []

    def beat() -> None:
        while True:
            beats.append(time.monotonic())
            pause(0.05)

    with time_limit(60), in_threads(beat, beat):
        pause(0.3)
    heard = len(beats)
    time.sleep(0.3)
    assert len(beats) == heard > 2


def _hang() -> None:
    pause(60, "an API that says nothing")


def test_cleaning_up_has_its_own_time_which_blocks_in_a_row_share() -> None:
    cleaned: list[str] = []
    begun = time.monotonic()
    with (
        pytest.raises(TimeUpError),
        time_limit(0.2),
        afterwards(_hang, lambda: cleaned.append("other cluster")),
        afterwards(_hang),
    ):
        pause(60)
    assert time.monotonic() - begun < 0.2 + waiting.CLEANING_SECONDS + 0.7
    assert cleaned == ["other cluster"]


def test_cleaning_up_may_take_longer_while_the_task_has_time() -> None:
    with time_limit(60), cleaning_up(30):
        assert remaining() > 25
    with time_limit(1), cleaning_up(30):
        assert remaining() < 1 + waiting.CLEANING_SECONDS + 0.1
