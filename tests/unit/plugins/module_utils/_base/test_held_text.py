# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A text that is on no disk, and goes with the run that it is held for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.files import read_text, real_path
from ansible_collections.exomesh.istio.plugins.module_utils._base.held_text import hold_text
from ansible_collections.exomesh.istio.plugins.module_utils._base.processes import Process


@pytest.fixture
def run() -> Iterator[subprocess.Popen[bytes]]:
    """In place of a run of ansible-playbook."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_in_memory_and_gone_with_the_run(
    run: subprocess.Popen[bytes], folder: Path, number: signal.Signals
) -> None:
    path = hold_text("key: é" * 20000, Process.of(run.pid))
    assert path.startswith("/proc/")
    assert Path(path).read_text() == "key: é" * 20000
    assert read_text(real_path(path)) == "key: é" * 20000
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert not list(folder.iterdir())
    run.send_signal(number)
    run.wait()
    until(lambda: not Path(path).exists())


def test_each_has_its_own(run: subprocess.Popen[bytes]) -> None:
    paths = [hold_text(name, Process.of(run.pid)) for name in ("one", "two")]
    assert [Path(path).read_text() for path in paths] == ["one", "two"]


def test_without_such_files_it_is_in_a_private_folder_that_goes_with_the_run(
    run: subprocess.Popen[bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    path = Path(hold_text("key", Process.of(run.pid)))
    assert path.read_text() == "key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent == folder
    run.kill()
    run.wait()
    until(lambda: not path.parent.exists())


def test_what_a_killed_keeper_left_is_swept_by_the_next(
    run: subprocess.Popen[bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    first = Path(hold_text("key", Process.of(run.pid)))
    keeper = Process.parse(json.loads((first.parent / "keeper.json").read_text()))
    assert keeper
    os.kill(keeper.pid, signal.SIGKILL)
    until(keeper.has_ended)
    assert first.exists()
    others = [folder / "exomesh-held-mine", folder / "exomesh-held-file"]
    others[0].mkdir()
    others[1].touch()
    second = Path(hold_text("key", Process.of(run.pid)))
    assert second.exists()
    assert not first.exists()
    assert all(other.exists() for other in others), "nobody's, as far as is known"
