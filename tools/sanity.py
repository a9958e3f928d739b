# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `ansible-test sanity` on the collection, with the Pythons of this machine. Arguments go to it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ansible_test._internal import python_requirements

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DEPENDENCIES = ("kubernetes/core", "community/crypto", "community/hashi_vault")
# What is shipped, and what ansible-test reads. Tests, lab and tools are no part of the collection.
CHECKED = "LICENSE README.md changelogs galaxy.yml meta playbooks plugins roles"
CHECKED += " tests/config.yml tests/integration tests/sanity"

# ansible-test bootstraps pip with get-pip.py of a host of its own, which not every network reaches. This does
# the same with the wheel beside it.
GET_PIP = """\
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).with_name("{wheel}")))

from pip._internal.cli.main import main

arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", "--upgrade", "--force-reinstall", *arguments]))
"""


def main() -> int:
    """Check a copy of the working tree; return the exit code."""
    provide_get_pip()
    with tempfile.TemporaryDirectory(prefix="exomesh-sanity-") as folder:
        collection = copy_collection(Path(folder) / "ansible_collections")
        return sanity(collection, sys.argv[1:])


def provide_get_pip() -> None:
    """Put the stand-in where ansible-test looks for get-pip.py before it downloads it."""
    source = Path(python_requirements.__file__).read_text(encoding="utf-8")
    version = re.search(r"pip=['\"]([\d.]+)['\"]", source)
    if not version:
        raise SystemExit("make sanity: this ansible-test does not say which pip it wants")
    script = Path.home() / f".ansible/test/cache/get_pip_{version[1].replace('.', '_')}.py"
    if script.exists():
        return
    script.parent.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"pip=={version[1]}"]
    subprocess.run(pip, cwd=script.parent, check=True)
    script.write_text(GET_PIP.format(wheel=f"pip-{version[1]}-py3-none-any.whl"), encoding="utf-8")


def copy_collection(root: Path) -> Path:
    """Copy what Git knows or would take to the path that ansible-test wants, its dependencies beside it.

    The copy is out of the repository: in a tree that Git ignores ansible-test finds nothing to check.
    """
    collection = root / "exomesh/istio"
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *CHECKED.split()]
    listed = subprocess.run(git, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (collection / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, collection / name)
    installed = next(BIN.parent.glob("lib/python*/site-packages/ansible_collections"))
    for dependency in DEPENDENCIES:
        (root / dependency).parent.mkdir(exist_ok=True)
        (root / dependency).symlink_to(installed / dependency)
    return collection


def sanity(collection: Path, arguments: list[str]) -> int:
    """Run ansible-test there and pass its output on; return its exit code, and 1 when it checked nothing."""
    command = [str(BIN / "ansible-test"), "sanity", "--local", "--color", "no", *arguments]
    environment = os.environ | {"PATH": os.pathsep.join(map(str, search_path()))}
    skipped = False
    with subprocess.Popen(
        command, cwd=collection, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            skipped = skipped or "All targets skipped" in line
    if skipped:
        print("make sanity: ansible-test checked nothing, which is a failure", file=sys.stderr)
        return 1
    return process.returncode


def search_path() -> list[Path]:
    """PATH with pyenv's Pythons themselves: its shims exist for versions that do not."""
    path = [Path(entry) for entry in os.environ["PATH"].split(os.pathsep)]
    shims = [entry for entry in path if entry.name == "shims"]
    pythons = [folder for entry in shims for folder in sorted(entry.parent.glob("versions/*/bin"))]
    return [BIN, *pythons, *(entry for entry in path if entry not in shims)]


if __name__ == "__main__":
    sys.exit(main())
