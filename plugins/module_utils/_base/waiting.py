# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One time limit for a task, and an orderly end for it (private to the collection).

Every wait asks :func:`remaining` how long it may take, in whatever thread it is. So a task ends in time,
however many requests, programs and threads are beneath it. When the time is over, or the task is interrupted,
waits end with an exception. What must be cleaned up is cleaned up in a :func:`cleaning_up` block, which has a
few seconds of its own.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

from .errors import ExomeshError

Item = TypeVar("Item")
Result = TypeVar("Result")

CLEANING_SECONDS = 4.0
"""What cleaning up may take beyond a time limit."""

_LEAST_CLEANING = 0.3
"""What each cleaning up gets, also when those before it took all."""

MAX_THREADS = 32

_LOOKS_UP = 0.5
"""Seconds after which one who sleeps looks whether the task was ended."""

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RESERVE, _MOST_RESERVED = 0.1, 5.0
"""Part of the time left, and seconds at most, that a wait leaves to whoever tells why it was in vain."""


class TimeUpError(ExomeshError):
    """The time limit of the task is over, or the task was ended.

    :param seconds: the limit; None when the task was ended.
    :param cause: what was waited for.
    """

    def __init__(self, seconds: float | None, cause: str | None = None) -> None:
        self.interrupted = seconds is None
        if seconds is None:
            super().__init__("The task was ended before it was done", "interrupted", cause=cause)
        else:
            super().__init__(
                f"The time limit of {seconds:g} s was over before all was done",
                "time_up",
                cause=cause,
                next_step="Run it again, with a longer timeout if the clusters are only slow",
            )


class Interrupted(BaseException):
    """The task is to end: by Ctrl-C, by SIGTERM, or as the terminal went away."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass
class _Limit:
    seconds: float
    ends: float
    outer: _Limit | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    cleans: bool = False

    @property
    def outermost(self) -> _Limit:
        return self if self.outer is None else self.outer.outermost

    @property
    def is_stopped(self) -> bool:
        return self.stopped.is_set() or (self.outer is not None and self.outer.is_stopped)


_limit: ContextVar[_Limit | None] = ContextVar("exomesh_time_limit", default=None)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let everything within the block end in so many seconds, or when the limit around it ends."""
    outer = _limit.get()
    ends = time.monotonic() + seconds
    if outer is not None and outer.ends < ends:
        seconds, ends = outer.seconds, outer.ends
    token = _limit.set(_Limit(seconds, ends, outer))
    try:
        yield
    finally:
        _limit.reset(token)


@contextmanager
def sparing(part: float = _RESERVE, most: float = _MOST_RESERVED) -> Iterator[None]:
    """Let the block end a little before the time limit, so that what became of it can still be told.

    :param part: of the time left.
    :param most: seconds at most.
    """
    limit = _limit.get()
    if limit is None:
        yield
        return
    spared = min(max(0.0, limit.ends - time.monotonic()) * part, most)
    token = _limit.set(_Limit(limit.seconds, limit.ends - spared, limit))
    try:
        yield
    finally:
        _limit.reset(token)


@contextmanager
def as_far_as_time_goes(part: float = _RESERVE, most: float = _MOST_RESERVED) -> Iterator[None]:
    """Do the block until the time is nearly over, and then go on after it, with what it has found so far.

    :param part: of the time left, for what comes after.
    :param most: seconds at most for that.
    :raises TimeUpError: the task was ended.
    """
    try:
        with sparing(part, most):
            yield
    except TimeUpError as error:
        if error.interrupted:
            raise


def remaining(most: float = float("inf"), what: str | None = None) -> float:
    """Return the seconds that a wait may take: those left, ``most`` at most, and always more than none.

    :param what: what is waited for, for the message.
    :raises TimeUpError: there are none left.
    """
    limit = _limit.get()
    if limit is None:
        return most
    cause = f"It was waiting for {what}" if what else None
    if limit.is_stopped:
        raise TimeUpError(None, cause)
    left = limit.ends - time.monotonic()
    if left <= 0:
        raise TimeUpError(limit.seconds, cause)
    return min(left, most)


def pause(seconds: float, what: str | None = None) -> None:
    """Sleep, but not beyond the time limit.

    :param what: what is waited for, for the message.
    :raises TimeUpError: there is no time left, before or after.
    """
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        time.sleep(remaining(min(left, _LOOKS_UP), what))
    remaining(what=what)


@contextmanager
def cleaning_up(seconds: float = CLEANING_SECONDS) -> Iterator[None]:
    """Clean up within the block, whatever became of the task: with time of its own, and not interrupted.

    :param seconds: at most; beyond the task's time limit no more than ``CLEANING_SECONDS``.

    Several blocks one after the other share that time, as far as the task's own is over: what concerns
    several clusters is cleaned up concurrently, as one that is silent takes all of it.
    A signal that comes meanwhile takes effect at the end of the block.
    """
    now = time.monotonic()
    ends = now + seconds
    task = (limit := _limit.get()) and limit.outermost
    if task:
        latest = task.ends if task.cleans else max(task.ends + CLEANING_SECONDS, now + _LEAST_CLEANING)
        ends = min(ends, latest)
    token = _limit.set(_Limit(seconds, ends, cleans=True))
    try:
        with _signals_put_off():
            yield
    finally:
        _limit.reset(token)


@contextmanager
def _signals_put_off() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    came: list[int] = []
    # Ansible ends a task that has the keyword timeout by SIGALRM.
    numbers = (*_ENDING_SIGNALS, signal.SIGALRM)
    before = {each: signal.signal(each, lambda number, _frame: came.append(number)) for each in numbers}
    try:
        yield
    finally:
        _restore(before)
        for number in came[:1]:
            signal.raise_signal(number)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Turn a signal that would end this process into an exception, so that it cleans up on its way out.

    Then the signal does what it would have done. In another thread than the main one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        for each in _ENDING_SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # it is on its way out
        raise Interrupted(number)

    before = {number: signal.signal(number, end) for number in _ENDING_SIGNALS}
    interrupted: int | None = None
    try:
        yield
    except Interrupted as interruption:
        interrupted = interruption.number
    finally:
        _restore(before)
    if interrupted is not None:
        signal.raise_signal(interrupted)
        raise Interrupted(interrupted)  # whoever handles it wants the process to go on: the task does not


def concurrently(
    work: Callable[[Item], Result], items: Iterable[Item], threads_at_most: int = MAX_THREADS
) -> list[Result]:
    """Return ``work`` of every item, in order, done in threads. Raise the first error when all have ended.

    Threads have the time limit of the task. When the task is interrupted they are not waited for, beyond the
    moment that a request under way may take.
    """
    todo = list(items)
    if len(todo) < 2:
        return [work(item) for item in todo]
    limit = _limit.get()
    stop = _Limit(float("inf"), float("inf")) if limit is None else _Limit(limit.seconds, limit.ends, limit)
    futures: list[Future[Result]] = [Future() for _item in todo]
    jobs = iter(zip(todo, futures, strict=True))
    taking = threading.Lock()

    def run() -> None:
        _limit.set(stop)
        while not stop.is_stopped:
            with taking:
                item, future = next(jobs, (None, None))
            if future is None:
                return
            try:
                future.set_result(work(item))  # type: ignore[arg-type]
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(error)

    threads = [
        threading.Thread(target=copy_context().run, args=(run,), daemon=True)
        for _number in range(min(threads_at_most, len(todo)))
    ]
    for thread in threads:
        thread.start()
    try:
        wait(futures)
    except BaseException:
        stop.stopped.set()
        _let_end(threads, 2.0)
        raise
    return [future.result() for future in futures]


@contextmanager
def in_threads(*works: Callable[[], object]) -> Iterator[None]:
    """Do each of the works in a thread for as long as the block lasts.

    Threads have the time limit of the task. At the end of the block they are to end: whatever they wait for
    ends with an exception, at the latest when its answer comes, and is not waited for beyond a moment.
    """
    limit = _limit.get()
    stop = _Limit(float("inf"), float("inf")) if limit is None else _Limit(limit.seconds, limit.ends, limit)

    def run(work: Callable[[], object]) -> None:
        _limit.set(stop)
        with suppress(TimeUpError):  # whoever waits for the threads has the same limit
            work()

    threads = [threading.Thread(target=copy_context().run, args=(run, work), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.stopped.set()
        _let_end(threads, 2.0)


def _let_end(threads: list[threading.Thread], seconds: float) -> None:
    """Wait a moment for threads, so that nothing is written after it was cleaned up."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def wait_until_met(unmet: Callable[[], str | None], timeout: float, interval: float = 0.5) -> str | None:
    """Ask until the condition is met, more often in the beginning.

    What takes long is noticed a little later, a tenth of the time that it took: hundreds of questions would
    slow down a small cluster that is busy with what is waited for.

    :param unmet: gives None when it is met, and what is missing otherwise.
    :param timeout: seconds at most; a little less where the task's time limit comes first, so that there is
        time left to tell why.
    :param interval: seconds between two questions when five seconds have passed; four times that at most.
    :returns: None when it was met in time, and what was missing at last otherwise.
    :raises TimeUpError: the task was ended.
    """
    started = time.monotonic()
    deadline = started + timeout
    missing: str | None = None
    pause_seconds = interval / 5
    try:
        with sparing():
            while True:
                missing = unmet()
                now = time.monotonic()
                if missing is None or now >= deadline:
                    return missing
                pause(min(pause_seconds, deadline - now))
                slowest = min(max(interval, (now - started) * interval / 5), interval * 4)
                pause_seconds = min(pause_seconds * 1.5, slowest)
    except TimeUpError as error:
        if error.interrupted:
            raise
        # An answer that did not come tells less than the one before it.
        return missing or error.cause or error.message


def told_in_time(tell: Callable[[], Result], otherwise: Result) -> Result:
    """Return what ``tell`` adds to a failure; ``otherwise`` where it fails itself, or takes too long.

    What went wrong is told in any case, also when its explanation cannot be had.
    """
    try:
        with sparing():
            return tell()
    except ExomeshError as error:
        if isinstance(error, TimeUpError) and error.interrupted:
            raise
        return otherwise


def in_time(work: Callable[[], Result], most: float = float("inf")) -> Result:
    """Return ``work()`` of a call that cannot be given a time limit, as the resolution of a name.

    :raises TimeoutError: it did not end in time; it goes on in a thread that nobody waits for.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(remaining(most))
