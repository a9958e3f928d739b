# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock in the cluster itself, so that runs on several controllers do not meet (private to the collection).

It is a Lease of namespace kube-system, which every cluster has before anything is installed. The holder
renews it; once it has not been renewed for some seconds, its holder is taken for dead and the next one takes
it over.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ApiError,
    KubernetesClient,
    Object,
    ObjectRef,
)

NAMESPACE = "kube-system"
DURATION = 15
"""Seconds after which a lock that nobody renewed is free."""

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


def lock_ref(name: str) -> ObjectRef:
    """The Lease that is the lock called ``name``."""
    return ObjectRef("coordination.k8s.io/v1", "Lease", f"exomesh-{name}", NAMESPACE)


class ClusterLock:
    """Holds the lock for the time of a ``with`` statement.

    :param name: what it guards, as in ``istio-install``.
    :param timeout: seconds to wait for another holder.
    :raises ExomeshError: ``locked``, with who holds it.
    """

    def __init__(self, client: KubernetesClient, name: str, timeout: float, duration: int = DURATION) -> None:
        self._client = client
        self._ref = lock_ref(name)
        self._timeout = timeout
        self._duration = duration
        self._holder = f"{socket.gethostname()} (process {os.getpid()})"
        self._lease: Object = {}
        self._acquired = ""
        self._released = threading.Event()
        self._renewal = threading.Thread(target=self._renew, daemon=True)
        self.had_to_wait = False
        """Whether another one held it in the meantime, so that what was known before may be no longer so."""

    def __enter__(self) -> ClusterLock:
        deadline = time.monotonic() + self._timeout
        while not self._acquire():
            self.had_to_wait = True
            if time.monotonic() >= deadline:
                raise self._refusal()
            time.sleep(0.5)
        self._renewal.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._released.set()
        self._renewal.join()
        with suppress(ExomeshError):  # it is another one's by now, or ends by itself
            self._client.delete(self._ref, resource_version=self._lease["metadata"]["resourceVersion"])

    def _acquire(self) -> bool:
        found = self._client.get(self._ref)
        if found and self._is_alive(found):
            self._lease = found
            return False
        metadata = found["metadata"] if found else {"name": self._ref.name, "namespace": NAMESPACE}
        self._acquired = self._now().strftime(_TIME)
        write = self._client.replace if found else self._client.create
        try:
            self._lease = write(self._as_lease(metadata))
        except ApiError as error:
            if error.status == 409:  # another one was quicker
                return False
            raise
        # Its holder died: what it left behind is not what was seen before.
        self.had_to_wait |= found is not None
        return True

    def _renew(self) -> None:
        while not self._released.wait(self._duration / 3):
            with suppress(ExomeshError):  # the API may be away for a moment
                self._lease = self._client.replace(self._as_lease(self._lease["metadata"]))

    def _as_lease(self, metadata: dict[str, Any]) -> Object:
        return {
            "apiVersion": self._ref.api_version,
            "kind": self._ref.kind,
            "metadata": {**metadata, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
            "spec": {
                "holderIdentity": self._holder,
                "leaseDurationSeconds": self._duration,
                "acquireTime": self._acquired,
                "renewTime": self._now().strftime(_TIME),
            },
        }

    def _is_alive(self, lease: Object) -> bool:
        renewed = datetime.strptime(lease["spec"]["renewTime"], _TIME).replace(tzinfo=UTC)
        duration = timedelta(seconds=lease["spec"]["leaseDurationSeconds"])
        return self._now() < renewed + duration

    def _now(self) -> datetime:
        """By the clock of the API server, as controllers' clocks may differ."""
        return datetime.now(UTC) + timedelta(seconds=self._client.clock_skew or 0.0)

    def _refusal(self) -> ExomeshError:
        spec = self._lease["spec"]
        return ExomeshError(
            f"{spec['holderIdentity']} has been changing this cluster since {spec['acquireTime']}, and was "
            f"not done after another {self._timeout:.0f} s",
            "locked",
            next_step=f"Wait for that run, or end it: its lock ends by itself {self._duration} s later",
            details={"holder": spec["holderIdentity"], "lease": str(self._ref)},
        )
