# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until deleted objects are gone, and say what keeps them (private to the collection)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .api import Object, ObjectRef
from .causes import cause_in, wait_unless_it_lasts
from .client import KubernetesClient

_NAMED = 6


def kept_by(obj: Object) -> str:
    """Return what keeps a deleted object, in the words of its conditions and finalizers; empty if unknown."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    told = [
        str(condition["message"])
        for condition in conditions
        if condition.get("status") == "True" and condition.get("message")
    ]
    if finalizers := obj["metadata"].get("finalizers"):
        told.append(f"its finalizers are {', '.join(finalizers)}")
    # A namespace that keeps nothing says so in conditions with the status False.
    return "; ".join(told)


def wait_until_gone(client: KubernetesClient, refs: Sequence[ObjectRef], timeout: float) -> None:
    """Wait until deleted objects are gone; not longer if a namespace says that it cannot go.

    :raises ExomeshError: ``not_deleted``, with what keeps them.
    """
    left, started = list(refs), time.monotonic()

    def remaining() -> str | None:
        found = [obj for obj in concurrently(client.get, left) if obj]
        left[:] = [ObjectRef.of(obj) for obj in found]
        return ("; ".join(filter(None, map(kept_by, found))) or "its pods have not ended") if found else None

    kept = wait_unless_it_lasts(remaining, timeout)
    if kept is None:
        return
    first, more = left[:_NAMED], left[_NAMED:]
    place = f"-n {left[0].namespace} " if left and left[0].namespace else ""
    cause = cause_in(kept, left[0].namespace or left[0].name if left else None)
    raise ExomeshError(
        f"Not gone after {time.monotonic() - started:.0f} s: {', '.join(map(str, first))}"
        + (f" and {len(more)} more" if more else ""),
        "not_deleted",
        cluster=client.name,
        cause=f"{cause.told} ({kept})" if cause else kept,
        next_step=cause.next_step()
        if cause
        else f"kubectl {place}get {left[0].kind.lower()} {left[0].name} -o yaml; see its finalizers and "
        "conditions",
    )
