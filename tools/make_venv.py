#!/usr/bin/env python3
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make or refresh `.venv`, the Python environment of this checkout.

Run it with the Python that the environment shall have. It needs the standard library only, does nothing when
the environment is up to date, and may run several times at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "exomesh.stamp"
REQUIREMENTS = (ROOT / "requirements/run.txt", ROOT / "requirements/dev.txt")
WHEELS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "exomesh" / "wheels"
UV = "uv==0.13.9"

# The PyPI package `ansible` carries a hundred collections; a few are wanted, the rest would slow every tool.
# The release is the one that was made of the ansible-core in run.txt; since 14 there is no awx.awx in it.
OWN = ("kubernetes/core", "community/hashi_vault")
AWX = ("awx/awx",)
COLLECTIONS = {"12.3.0": OWN + AWX} if sys.version_info < (3, 12) else {"14.5.0": OWN, "12.3.0": AWX}


def main() -> int:
    """Bring `.venv` up to date; return the exit code."""
    if sys.version_info < (3, 11):
        return fail(
            f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}: "
            "make venv PYTHON=python3.12"
        )
    lock = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if STAMP.is_file() and STAMP.read_text(encoding="utf-8") == stamp():
        return 0
    try:
        build()
    except subprocess.CalledProcessError as error:
        return fail(f"`{' '.join(map(str, error.cmd))}` failed, exit code {error.returncode}: see above")
    STAMP.write_text(stamp(), encoding="utf-8")
    return 0


def fail(message: str) -> int:
    """Say on one line why there is no environment."""
    print(f"make venv: {message}", file=sys.stderr)
    return 1


def stamp() -> str:
    """Return what the environment depends on, as one line."""
    digest = hashlib.sha256()
    for source in (*REQUIREMENTS, Path(__file__)):
        digest.update(source.read_bytes())
    return f"{ROOT} {sys.base_prefix} {sys.version.split()[0]} {digest.hexdigest()}\n"


def build() -> None:
    """Make the environment anew; raise CalledProcessError when a step fails."""
    print(f"Making .venv with Python {sys.version.split()[0]} (about a minute)", flush=True)
    install_ensurepip()
    STAMP.unlink(missing_ok=True)
    run(sys.executable, "-m", "venv", "--clear", VENV)
    python = VENV / "bin/python"
    run(python, "-m", "pip", "install", "--quiet", UV)
    run(VENV / "bin/uv", "pip", "install", "--quiet", "--python", python, "-r", REQUIREMENTS[-1])
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(VENV), "platbase": str(VENV)}))
    for release, collections in COLLECTIONS.items():
        extract_collections(python, site, release, collections)
    link = site / "ansible_collections/exomesh/istio"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(ROOT)
    # uv does not compile, and without that every start of a tool takes twice as long. Some packages ship
    # sources for other Pythons, which do not compile: the exit code says nothing here.
    subprocess.run([python, "-m", "compileall", "-qq", "-j0", site], check=False)


def install_ensurepip() -> None:
    """Install what Debian leaves out of its Python; raise SystemExit where we may not."""
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise SystemExit(f"make venv: this Python cannot make environments, install {package}") from None
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "install", "--yes", package)


def extract_collections(python: Path, site: Path, release: str, collections: tuple[str, ...]) -> None:
    """Put collections out of the wheel of the PyPI package `ansible` below `site`/ansible_collections."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    wheel = WHEELS / f"ansible-{release}-py3-none-any.whl"
    if not wheel.is_file():
        run(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", WHEELS, f"ansible=={release}")
    wanted = tuple(f"ansible_collections/{name}/" for name in collections)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site, [name for name in archive.namelist() if name.startswith(wanted)])


def run(*command: str | Path) -> None:
    """Run `command`; raise CalledProcessError when it fails."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
