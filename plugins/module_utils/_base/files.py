# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private files: written whole or not at all, mode 0600, one writer at a time (private to the collection)."""

from __future__ import annotations

import fcntl
import glob
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ExomeshError
from .waiting import wait_until_met

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
_TEMPORARY_SUFFIX = ".exomesh-tmp"
_GITIGNORE = ".gitignore"
_IGNORE_ALL = "*\n"


class FileError(ExomeshError):
    """A file cannot be read, written or locked."""


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path with ``~`` expanded and links followed, so that a link is never replaced.

    A file in the memory of a process has no other path than the link in /proc.
    """
    given = Path(path).expanduser()
    real = given.resolve()
    return given.absolute() if given.exists() and not real.exists() else real


def read_text(path: Path) -> str | None:
    """Return the text of a file, or None when there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not a text file", "file_unreadable") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}", "file_unreadable") from error


def is_private(path: Path) -> bool:
    """Return whether a file has exactly the mode 0600."""
    return stat.S_IMODE(path.stat().st_mode) == FILE_MODE


def make_private_directory(path: Path) -> None:
    """Create a directory and its missing parents with mode 0700; existing ones keep their mode."""
    if path.is_dir():
        return
    make_private_directory(path.parent)
    try:
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot create the directory {path}: {error.strerror}", "file_unwritable") from error


@dataclass
class StateFolder:
    """Changes to the folder of a mesh's state, made or (in check mode) planned, in words."""

    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def have_state_folder(path: Path, check_mode: bool) -> StateFolder:
    """Ensure a folder for secrets: Git ignores it, and if it is created here, only the user may enter it.

    A folder that exists is the user's: its mode stays, and so does every line of its ``.gitignore``.

    :raises FileError: ``folder_unsafe``: the folder as it is must not hold secrets; nothing was changed.
    """
    result = StateFolder()
    ignore = path / _GITIGNORE
    if not path.is_dir():
        result.changes.append(f"{path}, for nobody else")
        lines = ""
    else:
        _judge_mode(path, result)
        lines = read_text(ignore) or ""
    if _ignores_all(lines):
        return result
    if (path / ".git").exists():
        raise FileError(
            f"{path} is the top of a Git repository, and its {_GITIGNORE} does not ignore everything. "
            "Nothing was changed",
            "folder_unsafe",
            cause="The root key and the kubeconfigs of a mesh would be committed with all else",
            next_step="Set mesh_state_dir to a folder of its own, below it or elsewhere",
        )
    if lines:
        result.changes.append(f"a last line * in {ignore}")
        result.warnings.append(
            f"{ignore} did not ignore everything: a last line * was added, as secrets are kept there. Git "
            "sees no new file of that folder any more. Set mesh_state_dir to a folder of its own if it should"
        )
        lines += "" if lines.endswith("\n") else "\n"
    elif path.is_dir():
        result.changes.append(f"{ignore}, so that Git ignores all of it")
    if not check_mode:
        make_private_directory(path)
        with locked(ignore):
            mode = stat.S_IMODE(ignore.stat().st_mode) if lines else FILE_MODE
            write_private(ignore, lines + _IGNORE_ALL)
            ignore.chmod(mode)
    return result


def _judge_mode(path: Path, result: StateFolder) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise FileError(
            f"Everybody may write into {path} (mode {mode:04o}). Nothing was changed",
            "folder_unsafe",
            cause="Whoever does could put a kubeconfig or a root CA of their own in place of the mesh's",
            next_step=f"Close it (chmod 700 {path}), or set mesh_state_dir to another folder, such as a new "
            "one in it",
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        able = "write into" if mode & stat.S_IWGRP else "look into"
        result.warnings.append(
            f"Others than you may {able} {path} (mode {mode:04o}), where secrets are kept. It was there "
            "before, so it stays as it is; what is made in it is for you alone. To close it: "
            f"chmod 700 {path}"
        )


def _ignores_all(lines: str) -> bool:
    """Return whether a ``.gitignore`` ignores everything: the last pattern that fits a name decides."""
    patterns = [line.rstrip() for line in lines.splitlines() if line.strip() and not line.startswith("#")]
    for pattern in reversed(patterns):
        if pattern in ("*", "**", "/*", "/**", "**/*"):
            return True
        if pattern.startswith("!"):
            return False
    return False


@contextmanager
def locked(path: Path, timeout: float = 60.0) -> Iterator[None]:
    """Hold the lock of a file while the file is read, changed and written.

    The lock is an flock on the file's directory. It leaves nothing behind and ends with the process. It does
    not block kubectl, for which a file ``FILE.lock`` is a lock as soon as it exists.

    :param timeout: seconds to wait for the other holder.
    """
    make_private_directory(path.parent)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:

        def held_by_another() -> str | None:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"another process holds the lock of {path.parent}"
            return None

        if cause := wait_until_met(held_by_another, timeout):
            raise FileError(
                f"could not lock {path} within {timeout:g} s",
                "lock_timeout",
                cause=cause,
                next_step="Wait for the other run to end, then run again",
            )
        yield
    finally:
        os.close(directory)


def write_private(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, mode 0600. A process that is killed leaves the old file or the new one.

    Call it while the file is :func:`locked`. The owner of an existing file stays its owner.
    """
    make_private_directory(path.parent)
    prefix = f".{path.name}."
    # We hold the lock, so these files are from a writer that was killed. They may contain a key.
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*{_TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=prefix, suffix=_TEMPORARY_SUFFIX, dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), FILE_MODE)
            if path.exists():
                before = path.stat()
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(stream.fileno(), before.st_uid, before.st_gid)
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        temporary = None
        _sync_directory(path.parent)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}", "file_unwritable") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def make_private(path: Path) -> None:
    """Set the mode of an existing file to 0600."""
    try:
        path.chmod(FILE_MODE)
    except OSError as error:
        raise FileError(f"cannot set the mode of {path}: {error.strerror}", "file_unwritable") from error


def back_up(path: Path) -> Path:
    """Write a private copy of a file beside it; return the copy's path."""
    stamp = time.strftime("%Y-%m-%d@%H:%M:%S")
    copy = path.with_name(f"{path.name}.{os.getpid()}.{stamp}~")
    try:
        content = path.read_bytes()
        with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise FileError(f"cannot back up {path}: {error.strerror}", "file_unwritable") from error
    return copy


def remove(path: Path) -> None:
    """Remove a file. It is no error if the file is already gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {path}: {error.strerror}", "file_unwritable") from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
