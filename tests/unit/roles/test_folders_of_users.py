# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that users name for what roles write: one that exists keeps its mode, a new one is private."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_runs import run_ansible

ROLES = Path(__file__).resolve().parents[3] / "roles"


def tasks_that_make_a_folder() -> list[Any]:
    """Every task that gives a folder a mode, but for those in the state folder, which is ours."""
    found: list[Any] = []

    def walk(origin: str, tasks: list[dict[str, Any]]) -> None:
        for task in tasks:
            for block in ("block", "rescue", "always"):
                walk(origin, task.get(block) or [])
            options = task.get("ansible.builtin.file") or {}
            if options.get("state") == "directory" and "state_dir" not in options["path"]:
                found.append(pytest.param(task, id=f"{origin}: {task['name']}"))

    for path in sorted(ROLES.glob("*/tasks/*.yml")):
        walk(str(path.relative_to(ROLES)), yaml.safe_load(path.read_text()) or [])
    return found


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("task", tasks_that_make_a_folder())
def test_a_role_leaves_the_mode_of_a_folder_that_exists(task: dict[str, Any], tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "new" / "ours"
    theirs.mkdir()
    theirs.chmod(0o2775)
    plays = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": dict.fromkeys(("certificates_report_dir", "__certificates_requests_dir"), str(folder)),
            "tasks": [task],
        }
        for folder in (theirs, ours)
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    done = run_ansible("ansible-playbook", tmp_path / "play.yml", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert mode_of(theirs) == 0o2775
    assert (mode_of(ours.parent), mode_of(ours)) == (0o700, 0o700)
