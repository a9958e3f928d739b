# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock in the cluster itself that keeps runs on several controllers apart (private to the collection).

The lock is a Lease in namespace kube-system, which every cluster has before anything is installed. The holder
renews the Lease. Another run may take it over when it was not renewed for its duration, or at once when the
holder is proved to have ended. A holder that cannot renew the Lease counts it as lost before anybody else can
take it, and writes nothing more.

No wall clock of a controller is trusted. All times are those of the API server. Between its answers they are
continued by a clock that nobody sets, and that also counts while the machine sleeps.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from .._base.errors import ExomeshError
from .._base.waiting import TimeUpError, cleaning_up, concurrently, pause, remaining, time_limit
from .api import ApiError, Object
from .client import MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient
from .lease import DURATION, HOLDER_ANNOTATION, NAMESPACE, Claim, Holder, as_mapping, clock, lock_ref

Result = TypeVar("Result")


RUN_LOCK = "run"
"""Lock of a playbook run, which changes the mesh in several steps."""
INSTALL_LOCK = "istio-install"
"""Lock of an installation of Istio."""
VERIFY_LOCK = "verify"
"""Lock of the namespace of the verification."""


_REQUEST_PART = 0.25
"""Part of the duration between two renewals. One request may take the same part at most."""

_SAFE_PART = 0.75
"""Part of the duration for which the holder relies on a renewal. Others wait for the whole duration."""


_TAKE_SECONDS = 7.5
"""Seconds for a request before the lock is held."""

_TELL_SECONDS = 2.0
"""Seconds for a request after the lock was lost or while it is released."""

_JOIN_SECONDS = 2.0
"""Seconds for a renewal that is under way when the lock is released."""

_RESERVE_SECONDS = 3.0
"""Seconds of the task's time that are kept to report who has the lock."""

_REPEATS = 3

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class LockLostError(ExomeshError):
    """The lock is no longer ours, or is not known to be."""


class ClusterLock:
    """The lock of one cluster, held for the time of a ``with`` statement.

    Use :attr:`client` for all writes meanwhile: it refuses to write once the lock is lost. The end of the
    ``with`` statement reports a loss, too.

    :param name: what the lock guards, such as ``istio-install``.
    :param timeout: seconds to wait for another holder.
    :param holder: the holder of this lock; this process when None.
    :param how_to_break: the option that takes the lock from another holder, if there is such an option.
    :raises ExomeshError: ``locked``, with the holder; ``lock_lost``, with the new holder.
    """

    def __init__(
        self,
        client: KubernetesClient,
        name: str,
        timeout: float = 0.0,
        duration: int = DURATION,
        holder: Holder | None = None,
        how_to_break: str = "",
    ) -> None:
        self._client = client
        self._ref = lock_ref(name)
        self._timeout = timeout
        self._duration = duration
        self._holder = holder or Holder.this_process()
        self._how_to_break = how_to_break
        self._lease: Object = {}
        self._acquired = ""
        self._renewed = 0.0
        self._offset: float | None = None
        """Seconds by which the API server's time is ahead of ``clock()``."""
        self._seen: tuple[Any, float] = (None, 0.0)
        self._loss: LockLostError | None = None
        self._released = threading.Event()
        self._renewal: threading.Thread | None = None
        self.client: KubernetesClient = _HeldClient(client, self)
        self.had_to_wait = False
        """Whether another run held the lock meanwhile, so that what we read before may have changed."""
        self.followed = ""
        """Who held the lock before us; empty if it was free."""

    @property
    def order(self) -> tuple[str, str]:
        """Sort key: every run that needs several locks takes them in this order."""
        return self._client.server, self._ref.name

    @property
    def cluster(self) -> str:
        return self._client.name

    def __enter__(self) -> ClusterLock:
        for error in take_all([self], self._timeout).values():
            raise error
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.release()
        if self._loss and (error is None or isinstance(error, Exception)) and error is not self._loss:
            raise self._loss from error

    def acquire(self, force: bool = False) -> bool:
        """Take the lock if it is free, and keep it renewed; return whether it is ours now.

        :param force: take the lock even if another run holds it.
        """
        if not self._acquire(force):
            return False
        self._released.clear()
        self._renewal = threading.Thread(target=self._keep, daemon=True)
        self._renewal.start()
        return True

    def release(self) -> None:
        """Release the lock. If it was lost before, :meth:`require` reports that."""
        if self._renewal is None:
            return
        renewal, self._renewal = self._renewal, None
        with cleaning_up(), suppress(ExomeshError):  # without renewal the lock ends by itself
            self._note_loss()
            self._released.set()
            renewal.join(_JOIN_SECONDS)
            for _attempt in range(_REPEATS):
                try:
                    self._ask(self._delete, _TELL_SECONDS)
                except ApiError as error:
                    if error.status != 409:
                        raise
                    self._lease = self._still_ours()
                else:
                    return

    def _delete(self) -> bool:
        return self._client.delete(self._ref, resource_version=_version(self._lease))

    def require(self) -> None:
        """Raise ``lock_lost`` unless the lock is still ours."""
        self._note_loss()
        self.tell_loss()

    def tell_loss(self) -> None:
        """Raise ``lock_lost`` if the lock was lost before it was released."""
        if self._loss:
            raise self._loss

    @property
    def is_lost(self) -> bool:
        self._note_loss()
        return self._loss is not None

    def refusal(self, waited: float) -> ExomeshError:
        """Return the error that says who holds the lock."""
        claim = Claim.of(self._lease)
        next_step = (
            f"Wait for that run, or end it. Of a run that is gone the lock is free {self._duration} s later"
        )
        if self._how_to_break:
            next_step += f", and with {self._how_to_break} at once"
        return ExomeshError(
            f"{claim.who or 'another run'} has been changing this cluster since {claim.since}, and was not "
            f"done after another {waited:.0f} s",
            "locked",
            cluster=self._client.name,
            next_step=next_step,
            details={"holder": claim.who, "since": claim.since, "lease": str(self._ref)},
        )

    def loss(self) -> LockLostError:
        """Return the error that says what became of our lock, as the cluster reports it now."""
        try:
            found = self._ask(lambda: self._client.get(self._ref), _TELL_SECONDS)
        except ExomeshError as error:
            return self._lost(f"it could not be renewed ({error.message})")
        if found is None:
            return self._lost("its Lease is gone, as who had taken it has ended, or somebody deleted it")
        claim = Claim.of(found)
        if claim.identity == self._holder.identity or not claim.identity:
            return self._lost("it was not renewed in time, and nobody has it now")
        return self._lost(f"{claim.who} has had it since {claim.since}", claim)

    # Taking

    def _acquire(self, force: bool = False) -> bool:
        for _attempt in range(_REPEATS):
            found = self._ask(lambda: self._client.get(self._ref), _TAKE_SECONDS)
            if found:
                self.followed = Claim.of(found).who
            if found and self._is_held(found) and not force:
                self._lease = found
                return False
            metadata = as_mapping(found.get("metadata")) if found else {}
            self._acquired = self._now().strftime(_TIME)
            write = self._client.replace if found else self._client.create
            asked = clock()
            try:
                self._lease = self._ask(partial(write, self._as_lease(metadata)), _TAKE_SECONDS)
            except ApiError as error:
                # In between, its holder released it (404), or renewed it while we take it by force (409).
                if (found and error.status == 404) or (force and error.status == 409):
                    continue
                if error.status == 409:  # another run was quicker
                    return False
                raise
            self._renewed = asked
            # Its holder died, and may have changed what we read before.
            self.had_to_wait |= found is not None
            return True
        return False

    def _is_held(self, lease: Object) -> bool:
        claim = Claim.of(lease)
        # It may be ours, from an attempt whose answer did not come in time.
        if not claim.identity or claim.identity == self._holder.identity:
            return False
        if claim.process and claim.process.is_gone():
            return False
        duration = claim.duration or self._duration
        # Its times may be of no use. Then it is free when nobody has changed it for its duration.
        if self._seen[0] != _version(lease):
            self._seen = (_version(lease), clock())
        if clock() - self._seen[1] >= duration:
            return False
        try:
            return claim.renewed is None or self._now() < claim.renewed + timedelta(seconds=duration)
        except OverflowError:
            return True

    def _as_lease(self, metadata: dict[str, Any]) -> Object:
        labels = {**as_mapping(metadata.get("labels")), MANAGED_BY_LABEL: MANAGED_BY}
        annotations = {**as_mapping(metadata.get("annotations")), HOLDER_ANNOTATION: self._holder.told()}
        return {
            "apiVersion": self._ref.api_version,
            "kind": self._ref.kind,
            "metadata": {
                **metadata,
                "name": self._ref.name,
                "namespace": NAMESPACE,
                "labels": labels,
                "annotations": annotations,
            },
            "spec": {
                "holderIdentity": self._holder.identity,
                "leaseDurationSeconds": self._duration,
                "acquireTime": self._acquired,
                "renewTime": self._now().strftime(_TIME),
            },
        }

    # Keeping

    def _keep(self) -> None:
        pause = self._duration * _REQUEST_PART
        while not self._released.wait(pause) and not self.is_lost:
            pause = self._duration * _REQUEST_PART
            try:
                self._renew()
            except LockLostError as error:
                self._loss = error
            except ExomeshError:  # the API may be away for a moment
                pause = self._duration / 20

    def _renew(self) -> None:
        for _attempt in range(_REPEATS):
            asked = clock()
            try:
                self._lease = self._ask(
                    lambda: self._client.replace(self._as_lease(as_mapping(self._lease.get("metadata")))),
                    self._duration * _REQUEST_PART,
                )
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
                self._lease = self._still_ours()  # perhaps somebody wrote a label to it
            else:
                self._renewed = asked
                return

    def _still_ours(self) -> Object:
        """Read the Lease again and return it.

        :raises LockLostError: the lock is not ours any more.
        """
        found = self._ask(lambda: self._client.get(self._ref), self._duration * _REQUEST_PART)
        if found and Claim.of(found).identity == self._holder.identity:
            return found
        self._loss = self._loss or self.loss()
        raise self._loss

    def _note_loss(self) -> None:
        """Note the loss of a lock whose last renewal is too long ago.

        This is before anybody else can take the lock: others wait the whole duration, by their own clocks.
        """
        if self._loss is None and clock() - self._renewed >= self._duration * _SAFE_PART:
            self._loss = self.loss()

    def _lost(self, what: str, claim: Claim | None = None) -> LockLostError:
        return LockLostError(
            f"The lock of this run was lost: {what}",
            "lock_lost",
            cluster=self._client.name,
            cause="Nothing more is changed; what was under way may be half done",
            next_step="Let the other run end, then run this again: it goes on where it stopped",
            details={
                "holder": claim.who if claim else "",
                "since": claim.since if claim else "",
                "lease": str(self._ref),
            },
        )

    def _ask(self, request: Callable[[], Result], seconds: float) -> Result:
        """Send a request that ends within so many seconds, and note the API server's time."""
        try:
            with time_limit(seconds):
                answer = request()
        except TimeUpError:
            remaining()  # raises when the task's own time is over
            raise ExomeshError(
                f"The API server did not answer within {seconds:g} s when it was asked about {self._ref}",
                "api_silent",
                cluster=self._client.name,
                next_step="See whether the cluster is overloaded, then run this again",
            ) from None
        if self._client.clock_skew is not None:
            self._offset = time.time() + self._client.clock_skew - clock()
        return answer

    def _now(self) -> datetime:
        """Return the API server's time, as controllers' clocks differ and may be set."""
        if self._offset is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(clock() + self._offset, UTC)


class _HeldClient(KubernetesClient):
    """The client of a lock's holder: it writes nothing once the lock is lost."""

    def __init__(self, client: KubernetesClient, lock: ClusterLock) -> None:
        self.__dict__.update(client.__dict__)
        self._lock = lock

    def _send(self, method: str, *arguments: Any, **options: Any) -> Any:
        if method != "GET":
            self._lock.require()
        return super()._send(method, *arguments, **options)


def take_all(
    locks: Sequence[ClusterLock],
    timeout: float,
    force: bool = False,
    sleep: Callable[[float], Any] = pause,
) -> dict[ClusterLock, ExomeshError]:
    """Take all locks, or none. No run waits while it holds a lock, so no two runs can wait for each other.

    :param sleep: waits so many seconds.
    :returns: the locks whose cluster does not answer or refuses, each with the error.
    :raises ExomeshError: ``locked``, with the holder of one of them.
    """
    ordered = sorted(locks, key=lambda lock: lock.order)
    failed: dict[ClusterLock, ExomeshError] = {}
    left = remaining()
    deadline = clock() + min(timeout, left - min(_RESERVE_SECONDS, left / 10))

    def take(lock: ClusterLock) -> bool:
        try:
            return lock.acquire(force)
        except TimeUpError:
            raise
        except ExomeshError as error:
            failed[lock] = error
            return True

    refused: list[ClusterLock] = []
    while True:
        held_by_others = refused
        refused = []
        # First take one lock alone: two runs that want the same locks meet at the first that answers.
        todo = [lock for lock in ordered if lock not in failed]
        has_first = False
        try:
            while todo and not refused:
                some = todo if has_first else todo[:1]
                todo = todo[len(some) :]
                got = concurrently(take, some)
                refused = [lock for lock, is_free in zip(some, got, strict=True) if not is_free]
                has_first = has_first or some[0] not in failed
            if not refused:
                return failed
            release_all(ordered)
            for lock in ordered:
                lock.had_to_wait = True
            if clock() >= deadline:
                raise refused[0].refusal(timeout)
            sleep(0.3 + 0.4 * random.random())  # noqa: S311 - so that two do not go in step
        except TimeUpError:
            release_all(ordered)
            for lock in refused or held_by_others:
                raise lock.refusal(timeout) from None
            raise
        except BaseException:
            release_all(ordered)
            raise


def release_all(locks: Sequence[ClusterLock]) -> None:
    """Release the locks that are ours."""
    with cleaning_up():
        concurrently(lambda lock: lock.release(), locks)


@contextmanager
def holding(locks: Sequence[ClusterLock], timeout: float) -> Iterator[None]:
    """Hold all locks for the time of a ``with`` statement.

    :raises ExomeshError: one of them cannot be taken, or was lost.
    """
    try:
        for error in take_all(locks, timeout).values():
            raise error
        yield
    finally:
        release_all(locks)
    for lock in locks:
        lock.tell_loss()


def _version(lease: Object) -> Any:
    return as_mapping(lease.get("metadata")).get("resourceVersion")
