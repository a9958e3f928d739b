# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a secret text at a path, on no disk, until the run ends (private to the collection).

A keeper process has the text in a file in its memory. Other processes of the same user open this file as
/proc/PID/fd/N. On systems without such files, as macOS, the text is in a temporary folder that nobody else
can enter. The keeper removes the folder. If the keeper was killed, the next keeper removes it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ExomeshError
from .files import FILE_MODE
from .keeper import Tell, start_keeper
from .processes import Process, Watch

_PREFIX = "exomesh-held-"
_KEEPER = "keeper.json"
_START_SECONDS = 30.0
_LOOK_SECONDS = 2.0


def hold_text(text: str, run: Process) -> str:
    """Hold a text until a run ends; return the path at which it can be read until then.

    :raises ExomeshError: ``keeper_failed``.
    """

    def serve(tell: Tell) -> None:
        watch = Watch(run)
        with _held(text) as path:
            tell({"path": path})
            while not watch.wait(_LOOK_SECONDS):
                pass

    told = start_keeper(serve, _START_SECONDS)
    if told is None:
        raise ExomeshError(
            "A kubeconfig could not be held in memory: the process that was to hold it has ended, or hangs",
            "keeper_failed",
            next_step="See whether this machine has memory and processes left, then run this again",
        )
    return str(told["path"])


@contextmanager
def _held(text: str) -> Iterator[str]:
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        number = os.memfd_create("exomesh")
        os.fchmod(number, FILE_MODE)
        with os.fdopen(number, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            yield f"/proc/{os.getpid()}/fd/{number}"
        return
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        (folder / _KEEPER).write_text(json.dumps(Process.of(os.getpid()).told()))
        path = folder / "kubeconfig"
        path.touch(FILE_MODE)
        path.write_text(text, encoding="utf-8")
        yield str(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the folders that killed keepers of this user left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            found = folder.lstat()
            keeper = Process.parse(json.loads((folder / _KEEPER).read_text()))
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and keeper and keeper.has_ended():
                shutil.rmtree(folder, ignore_errors=True)
