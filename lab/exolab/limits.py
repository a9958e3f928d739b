"""A kernel limit that is too low for several clusters, raised while there is a lab."""

from __future__ import annotations

from pathlib import Path

from exolab.layout import HOME, MACHINES, Record

# A cluster with Istio in it holds about 25 instances, and many machines allow 128 in all. Beyond that
# containerd does not load its CRI plugin, and the kubelet says "unknown service runtime.v1.RuntimeService".
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
NEEDED = 1024


def raise_limit(setting: Path = INOTIFY_INSTANCES, home: Path = HOME) -> None:
    """Raise the limit where it is lower, and remember what it was."""
    current = int(setting.read_text())
    if current >= NEEDED:
        return
    home.mkdir(parents=True, exist_ok=True)
    (home / setting.name).write_text(str(current))
    setting.write_text(str(NEEDED))


def restore_limit(setting: Path = INOTIFY_INSTANCES, home: Path = HOME) -> None:
    """Bring back what it was, once no lab is left."""
    kept = home / setting.name
    if not kept.exists() or Record.all() or MACHINES.exists():
        return
    setting.write_text(kept.read_text())
    kept.unlink()
