# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder in which a mesh keeps what it must remember."""

from __future__ import annotations

import stat
from pathlib import Path

from kubeconfigs import run_module


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_nobody_else_and_kept_out_of_git(tmp_path: Path) -> None:
    folder = tmp_path / "above" / ".exomesh"
    assert run_module("state_directory", path=str(folder), check=True)["changed"]
    assert not folder.exists()
    assert run_module("state_directory", path=str(folder))["changed"]
    assert (folder / ".gitignore").read_text() == "*\n"
    assert (mode_of(folder.parent), mode_of(folder), mode_of(folder / ".gitignore")) == (0o700, 0o700, 0o600)
    assert not run_module("state_directory", path=str(folder))["changed"]


def test_one_that_others_may_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    assert run_module("state_directory", path=str(folder))["changed"]
    assert mode_of(folder) == 0o700


def test_one_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = run_module("state_directory", path=str(tmp_path / "file" / "state"))
    assert failed["failure"]["code"] == "file_unwritable"
    assert f"cannot create the directory {tmp_path}/file" in failed["msg"]
