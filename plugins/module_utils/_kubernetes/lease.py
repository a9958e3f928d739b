# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The holder of a lock, and its claim in the Lease (private to the collection)."""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .._base.processes import Process, user_name
from .._base.text import printable_line
from .api import Object, ObjectRef

NAMESPACE = "kube-system"

DURATION = 30
"""Seconds after which a lock that nobody renewed is free."""

HOLDER_ANNOTATION = "exomesh.istio/holder"

_MAX_DURATION = 300
"""Longest duration in seconds that a Lease may name; a longer one is ignored, so nobody waits for it."""

_LONGEST = 200
"""Characters at most that are shown of a name in a Lease."""


def lock_ref(name: str) -> ObjectRef:
    """Return the reference to the Lease of the lock ``name``."""
    return ObjectRef("coordination.k8s.io/v1", "Lease", f"exomesh-{name}", NAMESPACE)


def clock() -> float:
    """Return seconds of a clock that nobody sets. If possible, it also counts while the machine sleeps."""
    with suppress(AttributeError, OSError):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True)
class Holder:
    """The holder of a lock.

    :param process: the holder has the lock as long as this process lives.
    :param run: the playbook, where it is known.
    :param token: differs for every holder.
    """

    process: Process
    user: str
    run: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def this_process(cls) -> Holder:
        return cls(Process.of(os.getpid()), user_name())

    @property
    def identity(self) -> str:
        return f"{self.user}@{self.process.host}/{self.process.pid}/{self.token}"

    def told(self) -> str:
        """Return, as JSON, all that helps others to recognise this holder."""
        told = {**self.process.told(), "user": self.user, "run": self.run, "identity": self.identity}
        return json.dumps(told)


@dataclass(frozen=True)
class Claim:
    """The content of a Lease. Anybody may have written it, so no field is trusted to have a certain form.

    :param identity: the holder of the Lease; empty when nobody holds it.
    :param who: the holder, in words for people.
    """

    identity: str
    who: str
    since: str
    process: Process | None
    renewed: datetime | None
    duration: float | None

    @classmethod
    def of(cls, lease: Object) -> Claim:
        spec = as_mapping(lease.get("spec"))
        identity = spec.get("holderIdentity")
        identity = identity if isinstance(identity, str) else ""
        told: dict[str, Any] = {}
        with suppress(ValueError, TypeError, RecursionError):
            annotations = as_mapping(as_mapping(lease.get("metadata")).get("annotations"))
            told = as_mapping(json.loads(annotations.get(HOLDER_ANNOTATION) or "{}"))
        # A holder with an older version of the collection leaves the annotation of the holder before it.
        process = Process.parse(told) if told.get("identity") == identity else None
        who = printable_line(identity, _LONGEST)
        if process:
            run = f"playbook {told['run']}, " if told.get("run") else ""
            who = printable_line(f"{told.get('user')}@{process.host} ({run}process {process.pid})", _LONGEST)
        acquired = _time(spec.get("acquireTime"))
        since = acquired.strftime("%Y-%m-%d %H:%M:%S UTC") if acquired else "an unknown time"
        seconds = spec.get("leaseDurationSeconds")
        duration = None
        if isinstance(seconds, int) and not isinstance(seconds, bool) and 0 < seconds <= _MAX_DURATION:
            duration = float(seconds)
        return cls(identity, who, since, process, _time(spec.get("renewTime")), duration)


def as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
