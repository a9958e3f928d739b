# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits end with the time limit of their task, and say why."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base import waiting
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import (
    TimeUpError,
    as_far_as_time_goes,
    concurrently,
    in_threads,
    pause,
    remaining,
    sparing,
    time_limit,
    told_in_time,
    wait_until_met,
)


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
        assert 0.2 < remaining() < 1.2
    assert 1 <= len(done) <= 4


def test_whoever_was_ended_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
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

    waited = threading.Event()

    def interrupted(*_arguments: Any) -> None:
        waited.set()
        time.sleep(0.3)
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(waiting, "wait", interrupted)
        with time_limit(60), pytest.raises(Stop):
            concurrently(fail, range(3))
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
