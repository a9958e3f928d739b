# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which workload makes a pod (private to the collection)."""

from __future__ import annotations

from .api import Object
from .client import labels_of


def workload_of(pod: Object) -> str | None:
    """Return the workload whose restart replaces the pod, as kubectl names it; None if there is none."""
    owners = (owner for owner in pod["metadata"].get("ownerReferences") or [] if owner.get("controller"))
    owner = next(owners, None)
    if owner is None:
        return None
    kind, name = owner["kind"], str(owner["name"])
    if kind in ("StatefulSet", "DaemonSet"):
        return f"{kind.lower()}/{name}"
    # A Deployment names its ReplicaSets after itself and this label.
    suffix = f"-{labels_of(pod).get('pod-template-hash')}"
    if kind == "ReplicaSet" and name.endswith(suffix):
        return f"deployment/{name.removesuffix(suffix)}"
    return None
