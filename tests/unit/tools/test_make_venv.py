# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Python `make venv` takes: the newest supported one at hand, or the one that is given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Starts the tool with a Python that is too old to be taken itself.
START = """
import runpy, sys
sys.argv.pop(0)
sys.version_info = (3, 10, 1)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def put(folder: Path, *names: str) -> None:
    """Put programs there that tell their own path and what they were started with."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text('#!/bin/sh\necho "$0" "$@"\n')
        (folder / name).chmod(0o755)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start a copy of the tool, with a PATH of its own."""
    (folder / "tools").mkdir(exist_ok=True)
    tool = shutil.copy(ROOT / "tools/make_venv.py", folder / "tools")
    put(folder / ".venv/bin", "python3", "python3.13")
    path = [folder / "pyenv/shims", folder / ".venv/bin", folder / "a", folder / "b"]
    environment = {"PATH": os.pathsep.join(map(str, path)), "HOME": str(folder)}
    command = [sys.executable, "-c", START, tool, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def taken(folder: Path, *arguments: str) -> str:
    """Return the Python that it took, below `folder`; it is told to make the environment."""
    finished = run(folder, *arguments)
    assert finished.returncode == 0, finished.stderr
    python, tool, argument = finished.stdout.split()
    assert (tool, argument) == (str(folder / "tools/make_venv.py"), "--this")
    return str(Path(python).relative_to(folder))


def test_the_newest_in_path_is_taken(tmp_path: Path) -> None:
    put(tmp_path / "a", "python3", "python3.11", "python3.9")
    put(tmp_path / "b", "python3.13", "python3.12", "python3.13-config", "python3.13t")
    assert taken(tmp_path) == "b/python3.13"


def test_one_that_nobody_tried_is_not_taken(tmp_path: Path) -> None:
    put(tmp_path / "a", "python3.99", "python3.13")
    assert taken(tmp_path) == "a/python3.13"


def test_the_newest_of_pyenv_is_taken_and_no_shim(tmp_path: Path) -> None:
    put(tmp_path / "pyenv/shims", "python3.14", "python3.13")
    for version in ("3.13.2", "3.13.10", "3.13.11t", "3.13-dev", "3.12.20", "3.9.1"):
        put(tmp_path / f"pyenv/versions/{version}/bin", f"python{version[:4].rstrip('.')}")
    put(tmp_path / "a", "python3.13")
    assert taken(tmp_path) == "pyenv/versions/3.13.10/bin/python3.13"


def test_pyenv_is_found_without_its_shims(tmp_path: Path) -> None:
    put(tmp_path / ".pyenv/versions/3.14.0/bin", "python3.14")
    put(tmp_path / "a", "python3.13")
    assert taken(tmp_path) == ".pyenv/versions/3.14.0/bin/python3.14"


def test_the_one_that_is_given_is_taken(tmp_path: Path) -> None:
    put(tmp_path / "pyenv/shims", "python3.12")
    put(tmp_path / "pyenv/versions/3.12.1/bin", "python3.12")
    put(tmp_path / "a", "python3", "python3.13")
    assert taken(tmp_path, "python3.12") == "pyenv/versions/3.12.1/bin/python3.12"
    assert taken(tmp_path, "python3") == "a/python3"
    assert taken(tmp_path, str(tmp_path / "a/python3.13")) == "a/python3.13"


def test_the_one_that_starts_it_serves_where_no_other_does(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import make_venv as tool;"
        "print([tool.find_newest(), tool.find_given('python3.9'), sys.executable])"
    )
    command = [sys.executable, "-c", code, tmp_path / "tools"]
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said == f"[{sys.executable!r}, None, {sys.executable!r}]\n"


def test_the_python_of_the_environment_is_refused(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    (tmp_path / "tools").mkdir()
    tool = shutil.copy(ROOT / "tools/make_venv.py", tmp_path / "tools")
    own = tmp_path / ".venv/bin/python3"
    refused = subprocess.run([own, tool, own], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "is of .venv itself; without PYTHON the newest at hand is taken" in refused.stderr


def test_without_any_it_says_so(tmp_path: Path) -> None:
    none = run(tmp_path)
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.startswith(
        "make venv: no Python 3.11 to 3.14 is in PATH or among pyenv's; install one"
    )
    none = run(tmp_path, "python3.12")
    assert none.returncode == 1
    assert none.stderr.startswith("make venv: no `python3.12` is in PATH")
