# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that keeps something for as long as a run of ``ansible-playbook`` lives (private).

A run has many tasks. Each is a process of its own, and half an hour may lie between two of them. A task may
have something for later tasks that must be gone after the run. A keeper holds it: a process forked from the
task, which costs little. The keeper watches the run and ends with it, also when the run is killed.
"""

from __future__ import annotations

import contextvars
import gc
import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

Tell = Callable[[Mapping[str, Any]], None]
"""Sends plain data to the task that waits for it, once."""


def start_keeper(serve: Callable[[Tell], None], seconds: float) -> dict[str, Any] | None:
    """Start a keeper; return the data that it sends, or None when it sends nothing in time.

    :param serve: the keeper's work. The keeper ends when this returns, or when it sends data that nobody
        reads.
    """
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        _become_keeper(serve, writer)
    os.close(writer)
    os.waitpid(first, 0)
    try:
        return _read(reader, seconds)
    finally:
        os.close(reader)  # a keeper that sends something later ends


def _read(reader: int, seconds: float) -> dict[str, Any] | None:
    text = b""
    deadline = time.monotonic() + seconds
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 65536)
        if not part:
            break
        text += part
    try:
        return dict(json.loads(text))
    except ValueError:
        return None


def _become_keeper(serve: Callable[[Tell], None], writer: int) -> None:
    """Detach this process from the task that forked it, then serve. The function never returns."""

    def tell(what: Mapping[str, Any]) -> None:
        with os.fdopen(writer, "w", encoding="utf-8") as stream:
            json.dump(what, stream)

    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        # Let go of all inherited files, so that nobody waits for us to close them. Their numbers stay in use,
        # as objects of the task may still close them.
        nowhere = os.open(os.devnull, os.O_RDWR)
        inherited = next(path for path in ("/proc/self/fd", "/dev/fd") if os.path.isdir(path))
        for number in map(int, os.listdir(inherited)):
            if number not in (nowhere, writer):
                with suppress(OSError):
                    os.fstat(number)
                    os.dup2(nowhere, number)
        os.chdir("/")
        gc.disable()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end)
        # A context of its own: the task's context may have a time limit.
        contextvars.Context().run(serve, tell)
    finally:
        os._exit(0)


def _end(_number: int, _frame: object) -> None:
    raise SystemExit
