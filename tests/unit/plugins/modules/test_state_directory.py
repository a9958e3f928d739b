# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder in which a mesh keeps what it must remember."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(("mode", "able"), [(0o755, "look into"), (0o2775, "write into")])
def test_one_of_the_user_keeps_its_mode_and_is_warned_of(tmp_path: Path, mode: int, able: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    for check in (True, False):
        done = run_module("state_directory", path=str(folder), check=check)
        assert done["changed"]
        assert f"may {able} {folder} (mode" in str(done["warnings"])
        assert f"chmod 700 {folder}" in str(done["warnings"])
        assert mode_of(folder) == mode
    assert not run_module("state_directory", path=str(folder))["changed"]


def test_one_that_everybody_may_write_into_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o1777)
    failed = run_module("state_directory", path=str(folder))
    assert failed["failure"]["code"] == "folder_unsafe"
    assert "chmod 700" in failed["msg"]
    assert (mode_of(folder), list(folder.iterdir())) == (0o1777, [])


def is_ignored(repository: Path, path: str) -> bool:
    done = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=repository, check=False)
    return done.returncode == 0


@pytest.mark.parametrize(
    "lines", ["*.log\n", "# *\n", "*\n!*.pem\n", "*\n!cluster1\n", "ca/\n*.tmp", "\\*\n"]
)
def test_a_gitignore_that_does_not_ignore_everything_gets_a_last_line(tmp_path: Path, lines: str) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    ignore = folder / ".gitignore"
    ignore.write_text(lines)
    ignore.chmod(0o644)
    predicted = run_module("state_directory", path=str(folder), check=True)
    assert predicted["changed"]
    assert ignore.read_text() == lines
    done = run_module("state_directory", path=str(folder))
    assert done["changed"]
    assert done["diff"] == predicted["diff"]
    assert f"{ignore} did not ignore everything" in str(done["warnings"])
    assert ignore.read_text().splitlines() == [*lines.splitlines(), "*"]
    assert mode_of(ignore) == 0o644
    for path in ("ca/root-key.pem", "cluster1/kubeconfig", "verification.proof"):
        assert is_ignored(folder, path)
    assert not run_module("state_directory", path=str(folder))["changed"]


@pytest.mark.parametrize("lines", ["*\n", "/*\n", "!x\n**\n", "*\n# why\n\n", "*\n*.log\n"])
def test_a_gitignore_that_ignores_everything_is_left(tmp_path: Path, lines: str) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / ".gitignore").write_text(lines)
    assert is_ignored(folder, "ca/root-key.pem")
    assert not run_module("state_directory", path=str(folder))["changed"]
    assert (folder / ".gitignore").read_text() == lines


def test_the_top_of_a_repository_is_refused(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("*.log\n")
    tmp_path.chmod(0o700)
    failed = run_module("state_directory", path=str(tmp_path))
    assert failed["failure"]["code"] == "folder_unsafe"
    assert "mesh_state_dir" in failed["msg"]
    assert (tmp_path / ".gitignore").read_text() == "*.log\n"


def test_one_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = run_module("state_directory", path=str(tmp_path / "file" / "state"))
    assert failed["failure"]["code"] == "file_unwritable"
    assert f"cannot create the directory {tmp_path}/file" in failed["msg"]
