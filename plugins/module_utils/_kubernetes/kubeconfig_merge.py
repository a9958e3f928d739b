# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set or remove one context in a shared kubeconfig (private to the collection)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._base import files
from .kubeconfig import Entry, Kubeconfig, KubeconfigError
from .kubeconfig_certificates import certificates_of, describe, described


@dataclass(frozen=True)
class Target:
    """A shared kubeconfig file, and how it may be changed."""

    path: Path
    backup: bool
    check_mode: bool


def source_entry(path: Path | None, content: str | None, context: str | None) -> Entry:
    """Return the context to merge, from a file or from content. Files that a file refers to are embedded.

    :param context: name of the context. When None, it is the current one, or else the only one.
    """
    if path is None:
        return _checked(_chosen(Kubeconfig.parse(content or "", "the content"), context))
    text = files.read_text(path)
    if text is None:
        raise KubeconfigError(
            f"there is no kubeconfig {path}",
            "kubeconfig_missing",
            next_step="Correct the path, or fetch it first",
        )
    return _checked(_chosen(Kubeconfig.parse(text, str(path)), context).flattened(path.parent))


def merge(target: Target, entry: Entry, name: str, *, make_current: bool, force: bool) -> dict[str, Any]:
    """Set the context ``name``; everything else keeps its meaning. Return the module's result."""
    renamed = entry.renamed(name, entry.record or {"server": entry.server})

    def put(config: Kubeconfig) -> None:
        config.put(renamed, make_current=make_current, force=force)

    return {**_change(target, put), **describe(renamed)}


def alone(entry: Entry, name: str) -> str:
    """Return the text of a kubeconfig that has only this context."""
    return Kubeconfig.of(entry.renamed(name, entry.record or {"server": entry.server})).dump()


def remove(target: Target, name: str) -> dict[str, Any]:
    """Remove the context ``name`` with its cluster and user. Return the module's result."""

    def drop(config: Kubeconfig) -> None:
        config.drop(name)

    return {**_change(target, drop), "context": name}


def _change(target: Target, change: Callable[[Kubeconfig], None]) -> dict[str, Any]:
    # Check mode must not create the directory on which the lock is taken.
    with nullcontext() if target.check_mode else files.locked(target.path):
        before = files.read_text(target.path)
        config = Kubeconfig.parse(before or "", str(target.path))
        data_before = copy.deepcopy(config.data)
        change(config)
        changed = config.data != data_before
        after = config.dump() if changed else before
        result: dict[str, Any] = {
            "changed": changed,
            "dest": str(target.path),
            "contexts": config.context_names,
            "current_context": config.current_context,
            "diff": {"before": described(before), "after": described(after)},
        }
        if before is not None and not changed and not files.is_private(target.path):
            result |= {"changed": True, "diff": {"before": "mode: not 0600\n", "after": "mode: 0600\n"}}
            if not target.check_mode:
                files.make_private(target.path)
        if changed and not target.check_mode:
            if target.backup and before is not None:
                result["backup_file"] = str(files.back_up(target.path))
            files.write_private(target.path, config.dump())
        return result


def _chosen(config: Kubeconfig, context: str | None) -> Entry:
    only = config.context_names if len(config.context_names) == 1 else [None]
    return config.entry(context or config.current_context or only[0])


def _checked(entry: Entry) -> Entry:
    certificates_of(entry)
    return entry
