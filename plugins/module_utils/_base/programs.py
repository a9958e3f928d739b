# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run other programs with what they need and nothing else (private to the collection)."""

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
"""Variables of our environment that a program sees. It must not see others, such as the keys of a cloud."""


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a program that has ended."""

    code: int
    output: str
    errors: str


def passed(environment: Mapping[str, str], *more: str) -> dict[str, str]:
    """Return the part of an environment that every program may see, and the variables in ``more``."""
    return {name: environment[name] for name in (*PASSED_VARIABLES, *more) if name in environment}


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    text: str = "",
    folder: str = "/",
    go_on: Callable[[], None] | None = None,
) -> Ended:
    """Run a program to its end. Afterwards the program and all that it started are gone, also after an error.

    :param environment: the program's whole environment.
    :param timeout: seconds at most.
    :param text: its standard input.
    :param folder: its working directory; the default is one from which no program reads files by chance.
    :param go_on: is called every second, and raises an error when the program must not go on.
    :raises TimeoutError: the program did not end in time.
    :raises OSError: the program cannot be started.
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
            given = None  # the program has received it
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{command[0]} did not end within {timeout:.0f} s")
            if go_on:
                go_on()
    finally:
        _end(process)
    return Ended(process.returncode, output, errors)


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and all that it started. Do not wait for processes that have left its group."""
    with suppress(ProcessLookupError, PermissionError):  # the program and all that it started have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with suppress(OSError):  # the program did not read all of its input
                pipe.close()
