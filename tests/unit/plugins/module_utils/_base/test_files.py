# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with secrets: private, whole or not there, one writer at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base import files
from ansible_collections.exomesh.istio.plugins.module_utils._base.files import FileError


def test_what_is_written_is_private_and_replaces_all_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "key.pem"
    with files.locked(path):
        files.write_private(path, "old")
        leftover = path.with_name(".key.pem.x" + files._TEMPORARY_SUFFIX)
        leftover.write_text("of a writer that was killed")
        files.write_private(path, b"new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
    assert files.is_private(path)
    assert [stat.S_IMODE(parent.stat().st_mode) for parent in path.parents[:2]] == [0o700, 0o700]


def test_an_open_file_is_made_private_and_backed_up(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("mine")
    path.chmod(0o644)
    copy = files.back_up(path)
    assert (copy.read_text(), files.is_private(copy)) == ("mine", True)
    files.make_private(path)
    assert files.is_private(path)
    files.remove(path)
    files.remove(path)
    assert files.read_text(path) is None


def test_a_second_writer_waits_and_says_so_when_it_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "config"
    with (
        files.locked(path),
        pytest.raises(FileError, match=r"could not lock .*/config within 0\.1 s") as caught,
        files.locked(path, timeout=0.1),
    ):
        pass
    assert caught.value.code == "lock_timeout"
    with files.locked(path, timeout=0):
        pass


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda path: files.write_private(path / "key", "x"), "cannot write|cannot create the directory"),
        (lambda path: files.make_private_directory(path / "a" / "b"), "cannot create the directory"),
        (lambda path: files.make_private(path / "key"), "cannot set the mode"),
        (lambda path: files.back_up(path / "key"), "cannot back up"),
        (lambda path: files.remove(path / "key"), "cannot remove"),
        (lambda path: files.read_text(path / "key"), "cannot read"),
    ],
)
def test_what_the_system_refuses_is_named(
    tmp_path: Path, action: Callable[[Path], object], said: str
) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(FileError, match=said):
        action(tmp_path / "file")


def test_a_folder_in_the_place_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(FileError, match="cannot write"):
        files.write_private(tmp_path / "key", "x")
    assert os.listdir(tmp_path) == ["key"]


def test_bytes_that_are_no_text_are_not_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="is not a text file"):
        files.read_text(tmp_path / "key")
