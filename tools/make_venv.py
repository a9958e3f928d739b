#!/usr/bin/env python3
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make or refresh `.venv`, the Python environment of this checkout.

It takes the newest supported Python at hand, or the one that is given: `tools/make_venv.py python3.12`. It
needs the standard library only, does nothing when the environment is up to date, and may run several times at
once. Python 3.6 can start it, too: hence the annotations in quotes.
"""

import fcntl
import hashlib
import os
import re
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
SUPPORTED = ("3.14", "3.13", "3.12", "3.11")  # the newest first; `make matrix` tries each
THIS = "--this"  # the argument for the Python that was chosen

# The PyPI package `ansible` carries a hundred collections; a few are wanted, the rest would slow every tool.
# The release is the one that was made of the ansible-core in run.txt; since 14 there is no awx.awx in it.
OWN = ("kubernetes/core", "community/crypto", "community/hashi_vault")
AWX = ("awx/awx",)
COLLECTIONS = {"12.3.0": OWN + AWX} if sys.version_info < (3, 12) else {"14.5.0": OWN, "12.3.0": AWX}


def main(arguments: "list[str]") -> int:
    """Bring `.venv` up to date; return the exit code."""
    if arguments == [THIS]:
        return refresh()
    python = find_given(arguments[0]) if arguments else find_newest()
    if python is None:
        wanted = f"`{arguments[0]}`" if arguments else f"Python {SUPPORTED[-1]} to {SUPPORTED[0]}"
        return fail(
            f"no {wanted} is in PATH or among pyenv's; install one, or name it: make venv PYTHON=FILE"
        )
    return subprocess.run([python, __file__, THIS], check=False).returncode


def find_given(name: str) -> "str | None":
    """Return the path of the Python that the user named."""
    version = re.match(r"python(3\.\d+)$", name)
    return find_python(version.group(1)) if version else which(name, search_path())


def find_newest() -> "str | None":
    """Return the path of the newest supported Python at hand."""
    return next(filter(None, map(find_python, SUPPORTED)), None)


def find_python(version: str) -> "str | None":
    """Return the path of a Python of that version: among pyenv's, in PATH, or the one that runs.

    pyenv's shims have the names of all its Pythons, and work for few.
    """
    path = search_path()
    roots = {Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")}
    roots.update(entry.parent for entry in path if entry.name == "shims")
    pyenv = [folder for root in roots for folder in root.glob(f"versions/{version}.*/bin")]
    pyenv = sorted(filter(release_of, pyenv), key=release_of, reverse=True)
    found = which(f"python{version}", [*pyenv, *(entry for entry in path if entry.name != "shims")])
    if found is None and version == "{}.{}".format(*sys.version_info) and Path(sys.prefix) != VENV:
        return sys.executable
    return found


def search_path() -> "list[Path]":
    """Return PATH without `.venv`, whose Python ends when the environment is made anew."""
    entries = [Path(entry) for entry in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    return [entry for entry in entries if entry != VENV / "bin"]


def which(name: str, folders: "list[Path]") -> "str | None":
    """Return the path of a program."""
    return shutil.which(name, path=os.pathsep.join(map(str, folders)))


def release_of(folder: Path) -> "tuple[int, ...]":
    """Return the release that pyenv keeps there; nothing where it is of another kind, such as 3.14.0t."""
    release = folder.parent.name
    return tuple(map(int, release.split("."))) if re.match(r"[\d.]+$", release) else ()


def refresh() -> int:
    """Bring `.venv` up to date with the Python that runs; return the exit code."""
    if sys.version_info < (3, 11):
        return fail(
            f"Python {SUPPORTED[-1]} or newer is needed, {sys.executable} is {sys.version.split()[0]}; "
            "without PYTHON the newest at hand is taken"
        )
    if Path(sys.prefix) == VENV:
        return fail(f"{sys.executable} is of .venv itself; without PYTHON the newest at hand is taken")
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
    print(f"Making .venv with Python {sys.version.split()[0]}, {sys.executable} (about a minute)", flush=True)
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


def extract_collections(python: Path, site: Path, release: str, collections: "tuple[str, ...]") -> None:
    """Put collections out of the wheel of the PyPI package `ansible` below `site`/ansible_collections."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    wheel = WHEELS / f"ansible-{release}-py3-none-any.whl"
    if not wheel.is_file():
        run(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", WHEELS, f"ansible=={release}")
    wanted = tuple(f"ansible_collections/{name}/" for name in collections)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site, [name for name in archive.namelist() if name.startswith(wanted)])


def run(*command: "str | Path") -> None:
    """Run `command`; raise CalledProcessError when it fails."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
