# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe a process so that its end can be proved later (private to the collection).

The number of a process alone proves nothing: the system uses it again, a container has numbers of its own,
and after a reboot all numbers start again.
"""

from __future__ import annotations

import getpass
import os
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_ENDED = ("Z", "X", "x")
"""States of a process that has ended, but whose exit code nobody has read."""


@dataclass(frozen=True)
class Process:
    """A process, described so that others can look for it.

    :param boot: ID of the machine's boot; empty where the system does not show it, as on macOS.
    :param namespace: the PID namespace in which its number counts; each container has its own.
    :param started: its start time in the machine's own count; empty where the system does not show it.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """Describe a process of this machine."""
        started = ""
        with suppress(OSError, IndexError):
            started = _stat(pid)[1]
        return cls(socket.gethostname(), _boot(), _namespace(), pid, started)

    @classmethod
    def parse(cls, told: Any) -> Process | None:
        """Read the data that :meth:`told` returned; return None for any other data."""
        if not isinstance(told, Mapping) or not _is_pid(told.get("pid")):
            return None
        texts = [told.get(name) for name in ("host", "boot", "namespace", "started")]
        if not all(isinstance(text, str) for text in texts):
            return None
        return cls(str(texts[0]), str(texts[1]), str(texts[2]), told["pid"], str(texts[3]))

    def told(self) -> dict[str, Any]:
        """Return the process as plain data."""
        return asdict(self)

    def is_gone(self) -> bool:
        """Return whether the process is proved to have ended; False also when nothing is known about it."""
        here = (socket.gethostname(), _boot(), _namespace())
        if (self.host, self.boot, self.namespace) != here or not (self.boot and self.namespace):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass  # another user's process, so it exists
        try:
            state, started = _stat(self.pid)
        except (OSError, IndexError):
            return False  # the machine hides it from us
        return state in _ENDED or (bool(self.started) and started != self.started)

    def has_ended(self) -> bool:
        """Return whether the process has ended. Call this only for a process of this machine."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return self.is_gone()


class Watch:
    """Notices the end of a process: at once if the system can report it, otherwise within a second."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._poll: Any = None
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._poll = select.poll()
                self._poll.register(os.pidfd_open(process.pid), select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds; return whether the process has ended."""
        if self._process.has_ended():
            return True
        if self._poll is None:
            select.select([], [], [], min(seconds, 1.0))
        else:
            self._poll.poll(seconds * 1000)
        return self._process.has_ended()


def user_name() -> str:
    """Return the name of the user, or ``uid-NUMBER`` if the system knows no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}"


def _stat(pid: int) -> tuple[str, str]:
    """Return state and start time of a process. The name before them may contain anything, even a bracket."""
    fields = (
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )
    return fields[0], fields[19]


def _boot() -> str:
    with suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _is_pid(number: Any) -> bool:
    # 0 and negative numbers mean groups of processes.
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**31
