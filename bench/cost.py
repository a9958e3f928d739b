# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program costs: time, CPU time, memory, processes, and what it asks of the clusters."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench_lab import Lab
from exolab.command import descendants

COUNT_PROCESSES = 'file=$1; shift; "$@"; code=$?; cat /proc/sys/kernel/ns_last_pid >"$file"; exit $code'
"""In a process namespace of its own, the last number given out is how many processes and threads began."""


def measure(lab: Lab, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a contestant to its end, and tell what that took; it must succeed."""
    count, log = folder / "processes", folder / "log"
    requests, bytes_ = lab.requests(), lab.bytes()
    isolated = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "bash",
        "-c",
        COUNT_PROCESSES,
        "-",
    ]
    began = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [*isolated, str(count), *command],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        memory = PeakMemory(process.pid)
        memory.start()
        _pid, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    megabytes = memory.end()
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-4000:]}")
    asked = {name: after - requests[name] for name, after in lab.requests().items()}
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "memory_mb": megabytes,
        "processes": int(count.read_text()),
        "requests": dict(sum(asked.values(), Counter())),
        "requests_by_cluster": {name: dict(kinds) for name, kinds in asked.items()},
        "bytes": lab.bytes() - bytes_,
    }


class PeakMemory(threading.Thread):
    """The most that a process and all that came of it held at once, looked at each second."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._ended = threading.Event()
        self.megabytes = 0

    def run(self) -> None:
        while not self._ended.wait(1):
            held = sum(_proportional_kilobytes(process) for process in self._family())
            self.megabytes = max(self.megabytes, held // 1024)

    def _family(self) -> set[int]:
        return {self._process, *descendants(self._process)}

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.megabytes


def _proportional_kilobytes(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
