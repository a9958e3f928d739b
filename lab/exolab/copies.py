"""Copies of a lab: one that took minutes to make is there again in seconds, as often as is wanted.

A copy has the names and addresses of the original, so it runs where that does not: on a machine of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from exolab import cgroups
from exolab.command import run
from exolab.errors import LabError
from exolab.layout import HOME, Record, valid_name

# What containerd never changes once it is written: a copy has it by hard links.
CONSTANT = (
    "nodes/*/data/containerd/io.containerd.content.v1.content",
    "nodes/*/data/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots",
)


def save(name: str, folder: Path) -> None:
    """Keep a copy of lab `name` in a new folder. The lab is stopped for that, as by a power cut."""
    record = Record.load(name)
    if not record:
        raise LabError(f"there is no lab {name}")
    cgroups.remove(record.lab.cgroup)
    unfinished = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    source = _folder(name)
    _copy(source, unfinished, _constant(source))
    unfinished.rename(folder)


def restore(folder: Path, name: str, clusters: int | None = None) -> None:
    """Put a copy in the place of lab `name`, with its first clusters only where a number is given.

    :raises LabError: the lab is there already, or the folder has no copy of a lab of that name.
    """
    if Record.load(name):
        raise LabError(f"there is a lab {name} already: take it down, then a copy can take its place")
    record = Record.read(folder)
    if not record:
        raise LabError(f"{folder} is no copy of a lab")
    if record.lab.name != name:
        raise LabError(f"{folder} is a copy of lab {record.lab.name}, which must keep its name")
    others = [folder / "nodes" / cluster.name for cluster in record.members[clusters:]] if clusters else []
    _copy(folder, _folder(name), _constant(folder), others)
    record.clusters -= len(others)
    record.save()


def _folder(name: str) -> Path:
    """Where a lab is, by a path that hard links can be made to: on a machine of its own, HOME is a mount."""
    return Path(os.environ.get("EXOLAB_MACHINE", HOME)) / valid_name(name)


def _constant(folder: Path) -> set[Path]:
    return {path for pattern in CONSTANT for path in folder.glob(pattern)}


def _copy(source: Path, target: Path, constant: Collection[Path], left_out: Collection[Path] = ()) -> None:
    """Copy a folder, with the files of some folders in it by hard links, and without some."""
    if source in left_out:
        return
    if source in constant:
        run("cp", "--archive", "--link", "--no-target-directory", source, target)
    elif any(path.is_relative_to(source) for path in (*constant, *left_out)):
        target.mkdir(parents=True, mode=0o700)
        shutil.copystat(source, target)
        for path in source.iterdir():
            _copy(path, target / path.name, constant, left_out)
    else:
        run("cp", "--archive", "--no-target-directory", source, target, timeout=600)
