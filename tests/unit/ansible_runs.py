# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of ansible-playbook and ansible-inventory that need not start from nothing each time.

For what is about starting, signals, or processes themselves: subprocess, with the program.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

_ONE_AT_A_TIME = threading.Lock()
_MEASURED: dict[str, str] = {}


def measure_ours_alone() -> None:
    """Have the runs of here measure their coverage, and no other program that tests start.

    A program of Python that does takes 0.16 CPU seconds to start in place of 0.02.
    """
    for name in [
        name for name in os.environ if name.startswith(("COVERAGE_", "_ANSIBLE_ANSIBALLZ_COVERAGE"))
    ]:
        _MEASURED[name] = os.environ.pop(name)


def run_ansible(
    program: str,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> CompletedProcess[str]:
    """The result of `ansible-playbook` or `ansible-inventory`.

    :param environment: else this process's.
    :param folder: the one that it is started in, else this process's.
    """
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    shell = dict(os.environ if environment is None else environment)
    if "EXOMESH_MODULE_PROCESSES" in shell:
        shell |= {name: value for name, value in _MEASURED.items() if name.startswith("_ANSIBLE")}
    if any(
        shell[name] != os.environ.get(name) for name in shell if name.startswith(("PYTHON", "KUBECONFIG"))
    ):
        # Python reads these as it starts, the client of Kubernetes as it is imported, and there both are.
        shell |= _MEASURED
        return subprocess.run(command, env=shell, cwd=folder, capture_output=True, text=True, check=False)
    asked = {"arguments": command, "environment": shell, "folder": str(folder or Path.cwd())}
    with (
        tempfile.TemporaryFile("w+") as wanted,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        json.dump(asked, wanted)
        wanted.seek(0)
        with _ONE_AT_A_TIME:
            server = _server()
            socket.send_fds(server, [b"."], [file.fileno() for file in (wanted, output, errors)])
            code = server.recv(2)
        assert len(code) == 2, "the server of Ansible has ended"
        for file in (output, errors):
            file.seek(0)
        return CompletedProcess(command, int.from_bytes(code, signed=True), output.read(), errors.read())


@cache
def _server() -> socket.socket:
    """A connection to the server of this process, which ends with it."""
    near, far = socket.socketpair()
    with far:
        command: Sequence[str] = (sys.executable, str(Path(__file__).with_name("ansible_server.py")))
        subprocess.Popen(
            [*command, str(far.fileno())],
            env={**os.environ, **_MEASURED},
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
        )
    return near
