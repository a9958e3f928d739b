# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify that the mesh works, with evidence for every ordered pair of clusters (private to the collection).

There are three steps, each with its own module: look at all clusters at once (:mod:`observe`, and
:mod:`workload` if there is a test workload), judge what was seen (:mod:`judge`), and report it
(:mod:`report`). This module runs the steps. Some things take a moment to come right: it looks at them again
until they are right, or the time is up.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType

from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.waiting import TimeUpError, as_far_as_time_goes, cleaning_up, concurrently, pause, sparing
from .._istio.names import VERIFY_NAMESPACE
from .._kubernetes.causes import cause_in
from .._kubernetes.client import KubernetesClient
from .._kubernetes.lock import VERIFY_LOCK, ClusterLock, holding, release_all, take_all
from .._kubernetes.readiness import Unready
from .findings import WORKLOAD_NOT_READY
from .judge import Verdict, about_clusters, judge, judge_pair
from .observe import ask_istiod, observe_cluster, observe_credentials, reach_cluster, read_certificates
from .state import ClusterState, MeshState, PairState, is_ready, sidecar_of, workload_name
from .workload import (
    Workload,
    api_ports_of,
    ask,
    await_ready,
    is_started,
    measure,
    read_endpoints,
    remove,
    start,
)

_CLEARING_SECONDS = 30.0
_FOR_THE_OTHERS = (0.5, 120.0)
"""The time that each look at all clusters leaves for later steps: a share of the time left, and the most in
seconds. Without it, one silent cluster could use up all the time."""

_PAIRS = 10
"""The number of pairs for one command. Its arguments are part of a URL, whose length proxies limit."""


class Verification:
    """Verifications of one mesh, as a context manager that removes the test workload in any case.

    Only one verification at a time may use the test workload's namespace. It waits until any other has ended
    in all clusters.

    :param workload: the test workload; None to only read, without a test workload and without requests.
    :param only: names of members; only pairs with one of them are looked at. All pairs if empty.
    :param timeout: seconds that the mesh may take to settle.
    :param started: whether the workload was started before; it is used where it exists.
    :param policies: also read what istiod applies to the whole mesh, because a proof depends on it.
    :param silent: members that are known not to answer, with the reason by name; they are not asked.
    :param left_out: names of further members, about which nothing is reported.
    """

    def __init__(
        self,
        members: Sequence[Member],
        workload: Workload | None,
        timeout: float,
        only: Collection[str] = (),
        least_privilege: bool = False,
        started: bool = False,
        policies: bool = False,
        silent: Mapping[str, str] | None = None,
        left_out: Collection[str] = (),
    ) -> None:
        self._members = list(members)
        self._workload = workload
        self._timeout = timeout
        self._only = set(only)
        self._least_privilege = least_privilege
        self._policies = policies
        self._was_started = started
        self._silent = silent or {}
        self._left_out = frozenset(left_out)
        self._started: dict[str, KubernetesClient] = {}
        self._start_problems: dict[str, Unready] = {}
        self._locks: dict[str, ClusterLock] = {}
        self.warnings: list[str] = []

    def __enter__(self) -> Verification:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with cleaning_up(_CLEARING_SECONDS):
            concurrently(self._clear, self._started.items())
        self._started = {}
        release_all(list(self._locks.values()))

    def look(self) -> tuple[MeshState, Verdict]:
        """Look at everything once, and judge it. The first call starts the test workload."""
        to_start = self._reserve() if self._workload and not self._started else []
        deadline = time.monotonic() + self._timeout
        with sparing(*_FOR_THE_OTHERS):
            concurrently(lambda cluster: self._start(cluster, deadline), to_start)
        with sparing(*_FOR_THE_OTHERS):
            observed = concurrently(
                lambda member: self._known(member) or observe_cluster(member, self._policies), self._members
            )
        clusters = {state.name: state for state in observed}
        for name, problem in self._start_problems.items():
            if clusters[name].client:
                clusters[name].workload_problem = problem.told
                if problem.cause:
                    clusters[name].causes[WORKLOAD_NOT_READY.code] = problem.cause
        pairs = [
            PairState(member.name, peer)
            for member in self._members
            for peer in member.peers
            if peer in clusters and (not self._only or self._only & {member.name, peer})
        ]
        mesh = MeshState(
            clusters,
            pairs,
            datetime.now(UTC),
            self._workload is not None,
            self._least_privilege,
            left_out=self._left_out,
        )
        concurrently(
            lambda pair: observe_credentials(pair, clusters[pair.source], clusters[pair.destination]), pairs
        )
        with as_far_as_time_goes():
            _settle(mesh, deadline, self._require_locks)
        if mesh.full:
            concurrently(
                lambda some: measure(clusters[some[0].source], some, clusters),
                _by_source(pair for pair in pairs if has_workload(clusters[pair.source])),
            )
        self._require_locks()
        return mesh, judge(mesh)

    def _reserve(self) -> list[ClusterState]:
        """Wait until no other verification runs, and lock the clusters. Return the state of each member."""
        with sparing(*_FOR_THE_OTHERS):
            reached = concurrently(lambda member: self._known(member) or reach_cluster(member), self._members)
        self._locks = _locks_of(reached)
        # The other half of the time is for the verification itself.
        problems: dict[ClusterLock, ExomeshError] = {}
        try:
            with sparing(*_FOR_THE_OTHERS):
                problems = take_all(list(self._locks.values()), self._timeout / 2)
        except TimeUpError as error:
            if error.interrupted:
                raise
            problems = dict.fromkeys(self._locks.values(), error)
        self._start_problems |= {
            name: Unready(str(problems[lock])) for name, lock in self._locks.items() if lock in problems
        }
        return reached

    def _known(self, member: Member) -> ClusterState | None:
        """Return the state of a member that is known not to answer; None for any other member."""
        return ClusterState(member, error=self._silent[member.name]) if member.name in self._silent else None

    def _start(self, cluster: ClusterState, deadline: float) -> None:
        if self._workload is None:
            return
        if cluster.client is None:
            self._start_problems[cluster.name] = Unready(cluster.error or "")
            return
        if cluster.name in self._start_problems:
            return
        client = self._started[cluster.name] = self._locks[cluster.name].client

        def remaining() -> float:
            return max(0.0, deadline - time.monotonic())

        try:
            if not (self._was_started and is_started(client, cluster.name)):
                start(client, cluster.name, self._workload, api_ports_of(cluster), remaining())
            problem = await_ready(client, cluster.name, remaining())
        except ExomeshError as error:
            problem = Unready(str(error), cause_in(f"{error.message}. {error.cause}", VERIFY_NAMESPACE))
        if problem:
            self._start_problems[cluster.name] = problem

    def _require_locks(self) -> None:
        for name in self._started:
            self._locks[name].require()

    def _clear(self, started: tuple[str, KubernetesClient]) -> None:
        name, client = started
        try:
            remove(client)
        except ExomeshError as error:
            self.warnings.append(f"{name}: the namespace {VERIFY_NAMESPACE} could not be removed: {error}")


def start_only(members: Sequence[Member], workload: Workload, timeout: float) -> None:
    """Start the workload for a later verification, without waiting until it is ready.

    :raises ExomeshError: the workload cannot be started in a cluster, which the error names.
    """

    def begin(cluster: ClusterState) -> None:
        try:
            start(locks[cluster.name].client, cluster.name, workload, api_ports_of(cluster), timeout)
        except ExomeshError as error:
            raise error.about(cluster=cluster.name) from None

    reached = [cluster for cluster in concurrently(reach_cluster, members) if cluster.client]
    locks = _locks_of(reached)
    with holding(list(locks.values()), timeout):
        concurrently(begin, reached)


def _locks_of(reached: Iterable[ClusterState]) -> dict[str, ClusterLock]:
    return {cluster.name: ClusterLock(cluster.client, VERIFY_LOCK) for cluster in reached if cluster.client}


def has_workload(cluster: ClusterState) -> bool:
    """Return whether the cluster's test workload can send and answer requests."""
    return cluster.client is not None and any(
        is_ready(pod) and sidecar_of(pod)
        for pod in cluster.pods
        if pod["metadata"]["namespace"] == VERIFY_NAMESPACE
        and pod["metadata"]["name"] == workload_name(cluster.name)
    )


def _settle(mesh: MeshState, deadline: float, go_on: Callable[[], None]) -> None:
    """Send requests, and look again at what may come right after a moment."""
    clusters, pairs = mesh.clusters, list(mesh.pairs)
    while True:
        go_on()
        sources = [clusters[name] for name in {pair.source for pair in pairs}]
        if mesh.full:
            concurrently(
                lambda cluster: _look_at_endpoints(cluster, mesh.pairs), filter(has_workload, sources)
            )
            concurrently(
                lambda some: _ask(some, clusters[some[0].source]),
                _by_source(
                    pair
                    for pair in pairs
                    if has_workload(clusters[pair.source]) and has_workload(clusters[pair.destination])
                ),
            )
        of_clusters = about_clusters(mesh)
        # An istiod loads a new CA within about a minute.
        late = {finding.cluster for finding in of_clusters if finding.cluster and finding.kind.settles}
        pairs = [
            pair
            for pair in pairs
            if any(finding.kind.settles for finding in judge_pair(pair, mesh, of_clusters)[1])
        ]
        if not (pairs or late) or time.monotonic() >= deadline:
            return
        pause(min(1.0, max(0.0, deadline - time.monotonic())))
        concurrently(lambda name: read_certificates(clusters[name], clusters[name].reached), late)
        sources = [clusters[name] for name in {pair.source for pair in pairs}]
        concurrently(
            lambda asked: ask_istiod(*asked), [(c.reached, istiod) for c in sources for istiod in c.istiods]
        )


def _look_at_endpoints(cluster: ClusterState, pairs: Sequence[PairState]) -> None:
    cluster.sidecar_problem = None
    try:
        known = read_endpoints(cluster)
    except ExomeshError as error:
        cluster.sidecar_problem = str(error)
        return
    for pair in pairs:
        if pair.source == cluster.name:
            pair.endpoints = known.get(
                f"{workload_name(pair.destination)}.{VERIFY_NAMESPACE}.svc.cluster.local", []
            )


def _ask(pairs: Sequence[PairState], source: ClusterState) -> None:
    answers = ask(source, [pair.destination for pair in pairs])
    for pair in pairs:
        pair.answer = answers[pair.destination]


def _by_source(pairs: Iterable[PairState]) -> list[list[PairState]]:
    """Group the pairs by source. One command serves a group, as its start costs more than its requests."""
    found = defaultdict(list)
    for pair in pairs:
        found[pair.source].append(pair)
    return [some[begin : begin + _PAIRS] for some in found.values() for begin in range(0, len(some), _PAIRS)]
