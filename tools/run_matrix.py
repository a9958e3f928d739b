# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try the collection with the versions that it supports: of ansible-core, Python and the Kubernetes client.

Each cell has an environment of its own in build/matrix, made by uv from its cache. There, ansible-doc reads
every plugin and role, every playbook parses, and the tests run that depend most on these versions. A cell
whose Python this machine does not have is named at the end, and is no failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FOLDER = ROOT / "build/matrix"
TESTS = (
    "tests/unit/roles/test_shared_defaults.py",
    "tests/unit/plugins/test_in_process.py",
    "tests/unit/plugins/test_kubernetes_client.py",
    "tests/unit/plugins/test_kubeconfig_merge.py",
    "tests/unit/plugins/test_sks_inventory.py",
)
TOOLS = ("pytest==9.2.0", "pytest-cov==7.1.0", "exoscale==0.16.4")


@dataclass(frozen=True)
class Cell:
    """Versions that go together."""

    python: str
    core: str
    kubernetes: str

    def __str__(self) -> str:
        return f"Python {self.python}, ansible-core {self.core}, kubernetes {self.kubernetes}"


OLDEST_CLIENT, NEWEST_CLIENT = "31.0.0", "37.0.2"
CELLS = (
    Cell("3.11", "2.19.0", OLDEST_CLIENT),  # the floor of all three
    Cell("3.12", "2.20.10", OLDEST_CLIENT),
    Cell("3.13", "2.21.5", NEWEST_CLIENT),
    Cell("3.14", "2.21.5", NEWEST_CLIENT),
)


def main() -> int:
    """Run all cells; return 1 when one fails."""
    failed, absent = [], []
    for cell in CELLS:
        python = find_python(cell.python)
        if python is None:
            absent.append(cell)
            continue
        started = time.monotonic()
        good = works(cell, python)
        print(f"{'ok    ' if good else 'FAILED'} {cell} ({time.monotonic() - started:.0f} s)", flush=True)
        failed += [] if good else [cell]
    for cell in absent:
        print(f"not run, there is no Python {cell.python} here: {cell}")
    if len(absent) == len(CELLS):
        print("make matrix: nothing was tried, which is a failure", file=sys.stderr)
    return 1 if failed or len(absent) == len(CELLS) else 0


def find_python(version: str) -> str | None:
    """Find a Python of that version on the PATH or among pyenv's, whose shims exist without one, too."""
    path = [Path(entry) for entry in os.environ["PATH"].split(os.pathsep)]
    pyenv = [folder for entry in path for folder in sorted(entry.parent.glob(f"versions/{version}.*/bin"))]
    folders = [*pyenv, *(entry for entry in path if entry.name != "shims" and entry != BIN)]
    return shutil.which(f"python{version}", path=os.pathsep.join(map(str, folders)))


def works(cell: Cell, python: str) -> bool:
    """Make the cell's environment and try the collection in it."""
    environment = FOLDER / f"{cell.python}-{cell.core}-{cell.kubernetes}"
    playbooks = sorted(str(path) for path in (ROOT / "playbooks").glob("*.yml"))
    bin_ = environment / "bin"
    versions = (f"ansible-core=={cell.core}", f"kubernetes=={cell.kubernetes}")
    requirements: list[str | Path] = [*versions, *TOOLS, "--requirement", ROOT / "requirements.txt"]
    return (
        succeeds(BIN / "uv", "venv", "--quiet", "--clear", "--python", python, environment)
        and succeeds(BIN / "uv", "pip", "install", "--quiet", "--python", bin_ / "python", *requirements)
        and has_collections(environment)
        and succeeds(bin_ / "python", ROOT / "tools/check_docs.py")
        and succeeds(
            bin_ / "ansible-playbook", "-i", ROOT / "inventories/example", "--syntax-check", *playbooks
        )
        and succeeds(bin_ / "python", "-m", "pytest", "-q", *TESTS)
    )


def has_collections(environment: Path) -> bool:
    """Link the collections of .venv, ours among them, to where Python and Ansible look for them."""
    source = next(BIN.parent.glob("lib/python*/site-packages/ansible_collections"))
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "ansible_collections").symlink_to(source)
    return True


def succeeds(*command: str | Path) -> bool:
    """Run a command, and show what it said when it fails."""
    finished = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode:
        print(finished.stdout, finished.stderr, sep="\n")
    return finished.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
