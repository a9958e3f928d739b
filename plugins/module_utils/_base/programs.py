# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs, run with what they need and nothing else (private to the collection)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .waiting import remaining

PASSED_VARIABLES = (
    "PATH",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
"""What a program sees of our environment. The rest, as the keys of a cloud, is none of its business."""


@dataclass(frozen=True)
class Ended:
    """What a program gave."""

    code: int
    output: str
    errors: str


def passed(environment: Mapping[str, str], *more: str) -> dict[str, str]:
    """Return the part of an environment that every program may see, and the variables named."""
    return {name: environment[name] for name in (*PASSED_VARIABLES, *more) if name in environment}


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    text: str = "",
    folder: str = "/",
    go_on: Callable[[], None] | None = None,
) -> Ended:
    """Run a program to its end. However this ends, the program and what it started are gone.

    :param environment: all of it.
    :param timeout: seconds at most.
    :param text: its standard input.
    :param folder: where it runs; by default one from which nothing is read by chance.
    :param go_on: is asked every second, and raises an error where the program must not go on.
    :raises TimeoutError: it did not end in time.
    :raises OSError: it cannot be started.
    """
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function # there is no module here
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        left = timeout = remaining(timeout)
        deadline = time.monotonic() + timeout
        given: str | None = text
        while True:
            with suppress(subprocess.TimeoutExpired):
                output, errors = process.communicate(given, timeout=min(left, 1.0) if go_on else left)
                break
            given = None  # it has been sent
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{command[0]} did not end within {timeout:.0f} s")
            if go_on:
                go_on()
    finally:
        _end(process)
    return Ended(process.returncode, output, errors)


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and what it started, and wait for nothing that has left its group."""
    with suppress(ProcessLookupError, PermissionError):  # it has ended, and all that it started
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with suppress(OSError):  # what it did not read any more
                pipe.close()
