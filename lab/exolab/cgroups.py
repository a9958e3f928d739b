"""Control groups of a lab, on machines with cgroup v1 (a hierarchy per controller) and v2 (one for all).

Every process of a lab is in a group below its own, which is how `down` finds them all, whoever started them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from exolab.errors import LabError

ROOT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "cpuset", "memory", "pids")


def unified() -> bool:
    """Whether this machine has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """Mount points of every hierarchy; beside v1's there may be one of v2, where runc makes groups too."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    # On a machine of its own (see machine.py) each is mounted over the one of the machine outside.
    return list(dict.fromkeys(Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")))


def check() -> None:
    """Raise LabError where the kernel's control groups do not suffice for a kubelet."""
    if unified():
        have = set((ROOT / "cgroup.controllers").read_text().split())
    else:
        have = {name for path in hierarchies() for name in path.name.split(",")}
    missing = [name for name in NEEDED if name not in have]
    if missing:
        raise LabError(f"cgroup controllers {', '.join(missing)} are not available: mount them below {ROOT}")


def create(group: str) -> None:
    """Make `group` (a path without leading slash) in every hierarchy, ready to have processes in it."""
    for hierarchy in hierarchies():
        path = hierarchy
        for part in group.split("/"):
            if unified():
                (path / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in NEEDED))
            parent, path = path, path / part
            path.mkdir(exist_ok=True)
            # A cpuset of v1 begins empty, and then takes no process.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if not unified() and (path / setting).exists() and not (path / setting).read_text().strip():
                    (path / setting).write_text((parent / setting).read_text())


def join(group: str) -> None:
    """Move this process into `group`; what it starts is born there."""
    create(group)
    for hierarchy in hierarchies():
        (hierarchy / group / "cgroup.procs").write_text(str(os.getpid()))


def processes(group: str) -> set[int]:
    """Ids of all processes in `group` and below."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for path in _groups(hierarchy / group):
            with contextlib.suppress(OSError):  # the group went away while we looked
                found.update(map(int, (path / "cgroup.procs").read_text().split()))
    return found


def _groups(top: Path) -> list[Path]:
    """A group and all below it, each before those in it; what goes away meanwhile is left out."""
    return [Path(folder) for folder, _folders, _files in os.walk(top)]


def cpu_seconds() -> float:
    """CPU seconds of all that ran on this machine until now; 0 where control groups do not count them."""
    for path, unit in ((ROOT / "cpuacct" / "cpuacct.usage", 1e9), (ROOT / "cpu.stat", 1e6)):
        if path.exists():
            return int(path.read_text().removeprefix("usage_usec").split()[0]) / unit
    return 0.0


def memory(group: str) -> int:
    """Bytes that the processes in `group` and below hold for themselves.

    The page cache, which can go, is not counted.
    """
    if unified():
        path, keys = ROOT / group / "memory.stat", {"anon", "shmem"}
    else:
        path, keys = ROOT / "memory" / group / "memory.stat", {"total_rss", "total_shmem"}
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return 0
    return sum(int(value) for key, value in lines if key in keys)


def remove(group: str, timeout: float = 20) -> None:
    """Kill every process in `group` and below, and remove the groups.

    Nothing happens where there is no such group.
    """
    deadline = time.monotonic() + timeout
    while left := processes(group):
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(
                f"processes {sorted(left)} of cgroup {group} do not end: see `ps -p`; then run `down` again"
            )
        time.sleep(0.05)
    for hierarchy in hierarchies():
        top = hierarchy / group
        # From the leaves up. A group whose last process has just died may be busy for a moment.
        for path in reversed(_groups(top)):
            while path.exists():
                try:
                    path.rmdir()
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise LabError(f"cgroup {path} cannot be removed: {error}") from error
                    time.sleep(0.05)
