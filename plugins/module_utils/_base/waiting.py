# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One time limit for a task, and an orderly end for it (private to the collection).

Every wait, in every thread, asks :func:`remaining` how long it may take. So a task ends in time, however many
requests, programs and threads it has. When the time is over, or the task is interrupted, waits end with an
exception. Clean-up is done in a :func:`cleaning_up` block, which has a few seconds of its own.
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
"""Seconds that cleaning up may take beyond a time limit."""

_LEAST_CLEANING = 0.3
"""Seconds that each clean-up has, even when earlier ones took all the time."""

MAX_THREADS = 32

_LOOKS_UP = 0.5
"""Seconds after which a sleeping thread checks whether the task was ended."""

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RESERVE, _MOST_RESERVED = 0.1, 5.0
"""Part of the time left, and seconds at most, that a wait keeps for the report of why it failed."""


class TimeUpError(ExomeshError):
    """The time limit of the task is over, or the task was ended.

    :param seconds: the limit; None when the task was ended.
    :param cause: what the task was waiting for.
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
    """The task must end: after Ctrl-C, after SIGTERM, or because the terminal went away."""

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
    """Limit the block to so many seconds, or to the limit around it if that ends earlier."""
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
    """End the block a little before the time limit, so that there is time to report its outcome.

    :param part: part of the time left that is kept.
    :param most: seconds that are kept at most.
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
    """Run the block until the time is nearly over, then go on after it with what it has found so far.

    :param part: part of the time left that is kept for the code after the block.
    :param most: seconds that are kept for it at most.
    :raises TimeUpError: the task was ended.
    """
    try:
        with sparing(part, most):
            yield
    except TimeUpError as error:
        if error.interrupted:
            raise


def remaining(most: float = float("inf"), what: str | None = None) -> float:
    """Return the seconds that a wait may take: the time left, but at most ``most``, and always more than 0.

    :param what: what the caller waits for, for the message.
    :raises TimeUpError: no time is left.
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

    :param what: what the caller waits for, for the message.
    :raises TimeUpError: no time is left, before or after the sleep.
    """
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        time.sleep(remaining(min(left, _LOOKS_UP), what))
    remaining(what=what)


@contextmanager
def cleaning_up(seconds: float = CLEANING_SECONDS) -> Iterator[None]:
    """Run a block that cleans up, however the task ended: it has time of its own and is not interrupted.

    :param seconds: seconds at most; beyond the task's time limit no more than ``CLEANING_SECONDS``.

    Beyond the task's time limit, all such blocks of a task share these seconds. So clean up several clusters
    concurrently: one silent cluster would take all of the time.
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
    """Turn a signal that would end this process into an exception, so that the process can clean up first.

    After that, the signal has its usual effect. Outside the main thread, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        for each in _ENDING_SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # the process is already ending
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
        raise Interrupted(interrupted)  # its handler lets the process go on, but the task must end


def concurrently(
    work: Callable[[Item], Result], items: Iterable[Item], threads_at_most: int = MAX_THREADS
) -> list[Result]:
    """Call ``work`` for every item in threads; return the results in the order of the items.

    The first error is raised when all threads have ended. Threads have the time limit of the task. When the
    task is interrupted, it waits for them only a moment, which a request under way may need.
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
    """Run each of the works in a thread for as long as the block lasts.

    Threads have the time limit of the task. At the end of the block they must end: each of their waits ends
    with an exception, at the latest when its answer comes. The block waits for them only a moment.
    """
    limit = _limit.get()
    stop = _Limit(float("inf"), float("inf")) if limit is None else _Limit(limit.seconds, limit.ends, limit)

    def run(work: Callable[[], object]) -> None:
        _limit.set(stop)
        with suppress(TimeUpError):  # the block has the same limit
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
    """Wait a moment for threads to end, so that they write nothing after the clean-up."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def wait_until_met(unmet: Callable[[], str | None], timeout: float, interval: float = 0.5) -> str | None:
    """Ask again and again until a condition is met, at first more often.

    The end of a long wait is noticed a little late, by a tenth of its length: hundreds of questions would
    slow down a small cluster that is busy with what we wait for.

    :param unmet: returns None when the condition is met, otherwise what is missing.
    :param timeout: seconds at most; a little less when the task's time limit comes first, so that there is
        time to report the reason.
    :param interval: seconds between two questions after five seconds; later up to four times as many.
    :returns: None when the condition was met in time, otherwise what was missing last.
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
        # The last answer that came says more than the question that got none.
        return missing or error.cause or error.message


def told_in_time(tell: Callable[[], Result], otherwise: Result) -> Result:
    """Return what ``tell`` explains about a failure, or ``otherwise`` when ``tell`` fails or takes too long.

    So the failure is reported in any case, also without its explanation.
    """
    try:
        with sparing():
            return tell()
    except ExomeshError as error:
        if isinstance(error, TimeUpError) and error.interrupted:
            raise
        return otherwise


def in_time(work: Callable[[], Result], most: float = float("inf")) -> Result:
    """Return ``work()``, for a call that takes no time limit itself, as the resolution of a name.

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
