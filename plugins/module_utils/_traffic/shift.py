# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move requests from one version to another, step by step (private to the collection).

After every step, real requests show whether the mesh works. If they fail, all requests go back to the version
that they came from. The routes themselves hold the progress, so a later run continues an interrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from re import Pattern
from typing import Any, NoReturn

from .._base.errors import ExomeshError
from .._base.waiting import cleaning_up, concurrently, pause, sparing
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient
from .._kubernetes.objects import write_anew
from .requests import Answer, Tally
from .route import Split, split_of, with_percent

UNDERWAY_ANNOTATION = "exomesh.istio/shift-under-way"
"""Annotation on a route while it is moved. It names the version to move from, and the version to move to."""

_DEVIATIONS = 4.5  # a correct split deviates further once in 150,000 times
_ROLL_BACK_SECONDS = 30.0
_BETWEEN_SAMPLES = 1.0  # seconds, while requests still fail after a roll-back


@dataclass(frozen=True)
class Limits:
    """The cost of a check, and the errors that it tolerates.

    :param requests: the number of requests for one check.
    :param seconds: the seconds over which these requests are spread.
    :param max_error_percent: how many of these requests may fail, in percent.
    :param settle: the seconds that the proxies may take to follow a step.
    """

    requests: int
    seconds: float
    max_error_percent: float
    settle: float

    @property
    def tolerated(self) -> int:
        """Return how many requests of one check may fail."""
        return math.floor(self.requests * self.max_error_percent / 100)


@dataclass(frozen=True)
class Check:
    """The result of the requests that were sent while the canary had this share."""

    percent: int
    tally: Tally
    problem: str | None

    def as_dict(self) -> dict[str, Any]:
        return {"percent": self.percent, **self.tally.as_dict(), "problem": self.problem}

    def __str__(self) -> str:
        return f"{self.percent:3d} %: {self.tally}" + (f" - {self.problem}" if self.problem else "")


class ClusterRoute:
    """The route of the service in one cluster.

    :param rule: name of the rule that is split; without a name, the only rule with both versions.
    """

    def __init__(
        self, client: KubernetesClient, ref: ObjectRef, stable: str, canary: str, rule: str | None
    ) -> None:
        self._client = client
        self._ref = ref
        self._stable = stable
        self._canary = canary
        self._rule = rule

    @property
    def cluster(self) -> str:
        return self._client.name

    @property
    def under_way(self) -> str:
        return f"{self._stable} to {self._canary}"

    def read(self) -> tuple[Split, bool]:
        """Return the weights, and whether this shift is under way.

        :raises ExomeshError: there is no such route, or it lacks one of the versions.
        """
        route = self._route()
        return self._split(route), (route["metadata"].get("annotations") or {}).get(
            UNDERWAY_ANNOTATION
        ) == self.under_way

    def move(self, percent: int, finished: bool = False) -> None:
        """Set the canary's share, and mark the shift as under way unless it is finished."""

        def write(live: Object | None) -> Object:
            route = self._there(live)
            changed = with_percent(route, self._stable, self._canary, percent, self._rule)
            notes = {**(changed["metadata"].get("annotations") or {}), UNDERWAY_ANNOTATION: self.under_way}
            if finished:
                del notes[UNDERWAY_ANNOTATION]
            changed["metadata"]["annotations"] = notes
            return self._client.replace(changed)

        try:
            write_anew(self._client, self._ref, write)  # the route's controller writes its status, too
        except ExomeshError as error:
            raise error.about(cluster=self.cluster) from None

    def _route(self) -> Object:
        return self._there(self._client.get(self._ref))

    def _there(self, route: Object | None) -> Object:
        if route is None:
            raise ExomeshError(
                f"There is no {self._ref}",
                "no_route",
                cluster=self.cluster,
                next_step="Make the route in every member (playbook exomesh.istio.traffic), or name another",
            )
        return route

    def _split(self, route: Object) -> Split:
        try:
            split = split_of(route, self._stable, self._canary, self._rule)
        except ExomeshError as error:
            raise error.about(cluster=self.cluster) from None
        if split.stable + split.canary == 0:
            raise ExomeshError(
                f"{self._ref} gives neither {self._stable} nor {self._canary} any requests: nothing to move",
                "nothing_to_move",
                cluster=self.cluster,
                next_step="Move from the version that has the requests",
            )
        return split


def _ask_nobody(_count: int, _seconds: float) -> Generator[Answer]:
    yield from ()


@dataclass
class Shift:
    """A shift of requests in the routes of all clusters.

    :param pattern: pattern that finds the version in an answer.
    :param ask: function that sends a number of requests over a number of seconds, and yields their answers
        as they come. The plan does not need it.
    """

    routes: Sequence[ClusterRoute]
    stable: str
    canary: str
    steps: Sequence[int]
    limits: Limits
    pattern: Pattern[str]
    ask: Callable[[int, float], Generator[Answer]] = _ask_nobody
    checks: list[Check] = field(default_factory=list)
    start: int = 0
    under_way: bool = False
    changed: bool = False

    def plan(self) -> list[int]:
        """Set :attr:`start` to the share that the routes have now, and return the steps from there.

        Change nothing in the clusters.
        """
        found = concurrently(ClusterRoute.read, self.routes)
        percents = {split.percent for split, _under_way in found}
        self.under_way = any(under_way for _split, under_way in found) or len(percents) > 1
        self.start = min(percents)
        return [step for step in self.steps if step > self.start]

    def run(self) -> None:
        """Take the steps.

        :raises ExomeshError: ``traffic_not_healthy`` if requests failed before anything was moved, and
            ``shift_rolled_back`` if they failed afterwards.
        """
        steps = self.plan()
        if not steps and not self.under_way:
            return
        with self._going_back_when_ended():
            self._take(steps)

    def _take(self, steps: Sequence[int]) -> None:
        if self.under_way:
            self._move(self.start)  # this makes clusters equal that differ
        problem = self._tried(lambda: self._check(self.start)) if self.under_way else self._check(self.start)
        if problem and not self.under_way:
            raise ExomeshError(
                f"Nothing was moved: {problem}",
                "traffic_not_healthy",
                next_step="Cure the service first; a shift would only hide what is wrong",
                details=self.details(),
            )
        if problem:
            self._roll_back(self.start, problem)
        for step in steps:
            problem = self._tried(partial(self._step, step))
            if problem:
                self._roll_back(step, problem)
        self._move(steps[-1] if steps else self.start, finished=True)

    def details(self) -> dict[str, Any]:
        return {"checks": [check.as_dict() for check in self.checks]}

    def report(self) -> list[str]:
        """Return the checks as lines for people."""
        return [f"{self.canary} at {check}" for check in self.checks]

    def _step(self, percent: int) -> str | None:
        self._move(percent)
        return self._check(percent)

    @staticmethod
    def _tried(work: Callable[[], str | None]) -> str | None:
        """Do the work, and return what is wrong, or None.

        Errors are returned, not raised, because the caller must move all requests back after any failure.
        """
        try:
            with sparing():
                return work()
        except ExomeshError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - also what an answer led to that nobody foresaw
            return f"{type(error).__name__}: {error}"

    @contextmanager
    def _going_back_when_ended(self) -> Iterator[None]:
        """Move all requests back if the task is ended from outside, as the new version was not checked."""
        try:
            yield
        except BaseException as end:
            if not isinstance(end, Exception) and self.changed:
                with cleaning_up(_ROLL_BACK_SECONDS):
                    self._move(0, finished=True)
            raise

    def _move(self, percent: int, finished: bool = False) -> None:
        self.changed = True
        concurrently(lambda route: route.move(percent, finished), self.routes)

    def _check(self, percent: int, rolled_back: bool = False) -> str | None:
        """Send requests until one sample of them is split as it should be. Return what is wrong, or None.

        :param rolled_back: whether requests were just rolled back. Errors are then accepted until the proxies
            had their time to follow, because they may come from the version that was left.
        """
        deadline = time.monotonic() + self.limits.settle
        while True:
            tally = self._sample()
            errors = self._errors(tally)
            problem = errors or self._stray(tally, percent)
            if not problem or (errors and not rolled_back) or time.monotonic() >= deadline:
                self.checks.append(Check(percent, tally, problem))
                return problem
            if errors:
                pause(_BETWEEN_SAMPLES, "proxies to follow the route")

    def _sample(self) -> Tally:
        tally = Tally(self.pattern)
        with closing(self.ask(self.limits.requests, self.limits.seconds)) as answers:
            for answer in answers:
                tally.add(answer)
                if tally.failed > self.limits.tolerated:
                    break  # no user has to suffer for exact figures
        return tally

    def _errors(self, tally: Tally) -> str | None:
        if tally.failed <= self.limits.tolerated and tally.sent:
            return None
        return (
            f"{tally.failed} of {tally.sent} requests failed, {self.limits.tolerated} of "
            f"{self.limits.requests} may; the first with {tally.first_error or 'no answer'}"
        )

    def _stray(self, tally: Tally, percent: int) -> str | None:
        """Return what is wrong if a split like this does not explain the canary's share of the answers."""
        canary, stable = tally.versions[self.canary], tally.versions[self.stable]
        if not tally.versions:
            return None  # the answers do not name their version
        total = canary + stable
        share = percent / 100
        expected = total * share
        spread = _DEVIATIONS * math.sqrt(total * share * (1 - share)) + (1 if 0 < percent < 100 else 0)
        if total and abs(canary - expected) <= spread:
            return None
        return (
            f"{self.canary} gave {canary} of {total} answers, {expected:.0f} are expected: "
            "the proxies do not follow the route"
        )

    def _roll_back(self, percent: int, problem: str) -> NoReturn:
        try:
            with cleaning_up(_ROLL_BACK_SECONDS):
                self._move(0, finished=True)
        except ExomeshError as error:
            raise ExomeshError(
                f"{problem}. And the roll-back to {self.stable} failed: {error}",
                "roll_back_failed",
                cluster=error.cluster,
                next_step="Cure that and run this again: it goes on, or rolls back again",
                details=self.details(),
            ) from None
        still = self._tried(lambda: self._check(0, rolled_back=True))
        after = f"it still does not work: {still}" if still else "requests are answered again"
        raise ExomeshError(
            f"Rolled back to {self.stable}, as with {self.canary} at {percent} % {problem}",
            "shift_rolled_back",
            cause=f"After the roll-back {after}",
            next_step=f"Look at the pods of {self.canary}",
            details=self.details(),
        )
