"""A machine of its own for labs: what runs there has a network, processes, mounts and control groups apart.

Labs on it have the same names and addresses as on any other, so that a copy of a lab works on each (see
copies.py), and tests of several labs run side by side. It ends with its command, with all that runs on it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from exolab import cgroups, layout, limits, preflight
from exolab.layout import HOME, MACHINES

# Runs as the first process of the new namespaces. Arguments: the machine's folder, its control group, what is
# to be HOME there, the mount points of all hierarchies of control groups, "--", and the command.
BOOT = """
set -eu
folder=$1 group=$2 home=$3; shift 3
ip link set lo up
mkdir -p "$home" /run/netns
mount --bind "$folder" "$home"
mount -t tmpfs tmpfs /run/netns
while [ "$1" != -- ]; do mount --bind "$1/$group" "$1"; shift; done
shift
"$@"
exit $?  # it is not exec: who is the first process is to reap what others leave
"""


def run_apart(command: Sequence[str]) -> int:
    """Run a command on a machine of its own; return its exit code."""
    preflight.check()
    MACHINES.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(dir=MACHINES))
    group = f"exolab-machine-{folder.name}"
    limits.raise_limit()
    cgroups.create(group)
    namespaces = ("--net", "--mount", "--pid", "--cgroup", "--ipc")
    unshare = ["unshare", *namespaces, "--fork", "--kill-child", "--mount-proc", "--propagation=private"]
    hierarchies = [str(path) for path in cgroups.hierarchies()]
    environment = {**os.environ, "EXOLAB_MACHINE": str(folder)}
    boot = ["sh", "-c", BOOT, "machine", str(folder), group, str(HOME), *hierarchies, "--", *command]
    try:
        with subprocess.Popen(
            [*unshare, *boot],
            env=environment,
            preexec_fn=lambda: cgroups.join(group),  # noqa: PLW1509 - there are no threads
        ) as process:
            # Whoever ends a run of tests ends all its processes: this one has to clear up, too.
            signal.signal(signal.SIGTERM, lambda *_: process.kill())
            while True:
                with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is for the command
                    return process.wait()
    finally:
        cgroups.remove(group)
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):  # there are others
            MACHINES.rmdir()
        limits.restore_limit()
        layout.remove_home()
