# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every play of every playbook says, so that no setting of the user's inventory can take its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

PLAYBOOKS = sorted((Path(__file__).resolve().parents[3] / "playbooks").glob("*.yml"))


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_play_runs_here_with_the_python_of_ansible(path: Path) -> None:
    plays = [play for play in yaml.safe_load(path.read_text()) if "hosts" in play]
    for play in plays:
        assert play.get("connection") == "local", play["name"]
        assert play["vars"]["ansible_python_interpreter"] == "{{ ansible_playbook_python }}", play["name"]


def rotation() -> list[dict[str, Any]]:
    path = next(path for path in PLAYBOOKS if path.stem == "rotate_root")
    return list(yaml.safe_load(path.read_text()))


def test_a_rotation_checks_its_lock_before_every_play() -> None:
    before = [first for first, then in zip(rotation(), rotation()[1:], strict=False) if "hosts" in then]
    imported = [play["ansible.builtin.import_playbook"] for play in before]
    assert [Path(name).stem for name in imported] == ["access", "members", "members"]


def test_no_tag_lets_a_rotation_begin_without_a_member() -> None:
    first = next(play for play in rotation() if "hosts" in play)
    assert first["tasks"][0]["tags"] == ["always"]
