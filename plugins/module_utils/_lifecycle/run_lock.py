# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of a mesh's clusters for one run of ``ansible-playbook`` (private to the collection).

A process holds the locks: the keeper of the run. It ends with the run in all cases, and then releases the
locks at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._base.errors import ExomeshError
from .._base.keeper import Tell, start_keeper
from .._base.processes import Process, Watch
from .._base.waiting import concurrently, remaining
from .._kubernetes.client import KubernetesClient
from .._kubernetes.lease import Holder
from .._kubernetes.lock import RUN_LOCK, ClusterLock, LockLostError, release_all, take_all

HOW_TO_BREAK = "-e mesh_break_lock=true"

_LOOK_SECONDS = 2.0
GRACE_SECONDS = 30.0
"""Seconds that locking may take in addition to the time for waiting."""


@dataclass(frozen=True)
class Held:
    """The locks that a run holds.

    :param clusters: kubeconfigs of the locked clusters, by name.
    :param left_out: why clusters cannot be locked, by name.
    :param followed: the previous holder, which had to be waited for or was gone, by cluster.
    """

    keeper: Process
    holder: Holder
    clusters: dict[str, str]
    left_out: dict[str, str]
    followed: dict[str, str]

    def told(self) -> dict[str, Any]:
        """Return the locks as plain data."""
        return {
            "keeper": self.keeper.told(),
            "run": self.holder.process.told(),
            "user": self.holder.user,
            "playbook": self.holder.run,
            "token": self.holder.token,
            "clusters": self.clusters,
            "left_out": self.left_out,
            "followed": self.followed,
        }

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Held:
        """Read the data that :meth:`told` returned.

        :raises ExomeshError: ``invalid_option``: the data is something else.
        """
        keeper, run = Process.parse(told.get("keeper")), Process.parse(told.get("run"))
        if keeper is None or run is None:
            raise ExomeshError("held is not what this module returned before", "invalid_option")
        holder = Holder(run, str(told.get("user")), str(told.get("playbook")), str(told.get("token")))
        return cls(
            keeper,
            holder,
            dict(told.get("clusters") or {}),
            dict(told.get("left_out") or {}),
            dict(told.get("followed") or {}),
        )

    def require(self) -> None:
        """Raise ``lock_lost``, with the present holder, unless this run still holds all clusters."""
        if self.keeper.has_ended():
            raise self._loss()

    def _loss(self) -> ExomeshError:
        def look(cluster: tuple[str, str]) -> LockLostError | None:
            try:
                return _lock(*cluster, self.holder).loss()
            except ExomeshError:
                return None

        losses = [loss for loss in concurrently(look, sorted(self.clusters.items())) if loss]
        taken = [loss for loss in losses if loss.details.get("holder")]
        return next(
            iter(taken or losses),
            LockLostError("The locks of this run were lost", "lock_lost", next_step="Run this again"),
        )


def hold(clusters: Mapping[str, str], holder: Holder, timeout: float, force: bool = False) -> Held:
    """Lock the clusters until the run ends.

    :param clusters: kubeconfigs, by name of the cluster.
    :param holder: the run that is to hold the locks. The locks end with its process.
    :param timeout: seconds to wait for other runs.
    :param force: take the locks from any other holder.
    :raises ExomeshError: ``locked``, with the holder of a lock; or a cluster's refusal to be locked.
    """
    answer = start_keeper(
        lambda tell: _serve(clusters, holder, timeout, force, tell), remaining(timeout + GRACE_SECONDS)
    )
    if answer is None:
        raise ExomeshError(
            "The clusters could not be locked: the process that was to hold the locks has ended, or hangs",
            "keeper_failed",
            next_step="See whether this machine has memory and processes left, then run this again",
        )
    if "failure" in answer:
        raise ExomeshError(**answer["failure"])
    return Held.parse(answer)


def _serve(clusters: Mapping[str, str], holder: Holder, timeout: float, force: bool, tell: Tell) -> None:
    watch = Watch(holder.process)
    locks: dict[str, ClusterLock] = {}

    def sleep(seconds: float) -> None:
        if watch.wait(seconds):
            raise SystemExit

    try:
        answer: dict[str, Any]
        try:
            left_out: dict[str, str] = {}
            for name, kubeconfig in clusters.items():
                try:
                    locks[name] = _lock(name, kubeconfig, holder)
                except ExomeshError as error:
                    left_out[name] = str(error)
            failed = take_all(list(locks.values()), timeout, force, sleep)
            for name in [name for name, lock in locks.items() if lock in failed]:
                problem = failed[locks.pop(name)]
                if _is_refusal(problem):
                    raise problem
                left_out[name] = str(problem)
            followed = {name: lock.followed for name, lock in locks.items() if lock.followed}
            mine = {name: clusters[name] for name in locks}
            answer = Held(Process.of(os.getpid()), holder, mine, left_out, followed).told()
        except ExomeshError as error:
            answer = {"failure": error.failure()}
        tell(answer)
        if "failure" in answer:
            return
        while not watch.wait(_LOOK_SECONDS):
            if any(lock.is_lost for lock in locks.values()):
                # The run notices that its keeper is gone. The other locks stay until they expire.
                os._exit(1)
    finally:
        release_all(list(locks.values()))


def _lock(name: str, kubeconfig: str, holder: Holder) -> ClusterLock:
    client = KubernetesClient(kubeconfig, name=name)
    return ClusterLock(client, RUN_LOCK, holder=holder, how_to_break=HOW_TO_BREAK)


def _is_refusal(error: ExomeshError) -> bool:
    """Return whether the cluster answers, but refuses. Then others can change what we cannot lock."""
    return error.details.get("status") not in (None, 0, 401) and int(error.details["status"]) < 500
