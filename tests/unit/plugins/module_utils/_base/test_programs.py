# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs end within the time of the task, with their children."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.programs import run_program
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import (
    TimeUpError,
    time_limit,
    wait_until_met,
)
from patience import ends_within

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
    with ends_within(10), time_limit(2), pytest.raises((TimeoutError, TimeUpError)):
        run_program([str(program)], dict(os.environ), 60, "x" * 1_000_000)
    if "session" not in fake:  # nobody can know of that one
        assert wait_until_met(lambda: None if not _runs(int(pids.read_text())) else "it runs", 5) is None


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
