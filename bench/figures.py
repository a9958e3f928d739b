# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs that `measure.py` measured: their medians and spreads, and what they must reach."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

SIZES = (2, 4, 6, 8)  # the numbers of clusters that there should be figures for
ADDED = SIZES[1:]  # the last cluster joins a mesh, which has at least two
ROUNDS = 5  # runs of each
EXOMESH = "exomesh"
CONTESTANTS = {"by-hand": "by hand (a)", "script": "script (b)", EXOMESH: "exomesh"}
ACTIONS = {
    "first": "first run",
    "second": "second run",
    "prove": "second run that sends requests",
    "check": "run with `--check`",
    "add": "adding the last cluster",
    "verify": "verification alone",
}
STORES_NOTHING = {"read", "dry-run", "review", "session", "lease"}
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Run:
    """One run; what was not measured is None."""

    clusters: int  # with the one that is added
    contestant: str
    action: str
    seconds: float
    cpu_seconds: float | None = None
    memory_mb: float | None = None
    processes: int | None = None
    requests: Mapping[str, int] | None = None  # by kind, at the API servers of all clusters
    bytes: int | None = None
    tasks: int | None = None  # once for each host
    changed_by_host: Mapping[str, int] | None = None  # tasks that changed something
    roles: Mapping[str, float] = field(default_factory=dict)  # seconds; those of no role have the name ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Return the run that an entry of measurements.json describes."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in entry.items() if name in known and value is not None})

    @property
    def all_requests(self) -> int | None:
        """Requests of all kinds."""
        return None if self.requests is None else sum(self.requests.values())

    @property
    def writes(self) -> int | None:
        """Requests that change what a cluster keeps; those of an unknown kind are counted, too."""
        if self.requests is None:
            return None
        return sum(count for kind, count in self.requests.items() if kind not in STORES_NOTHING)

    @property
    def changed_elsewhere(self) -> int | None:
        """The most tasks that changed one cluster besides that in which most did, which is the one added."""
        if self.changed_by_host is None:
            return None
        return sorted([0, 0, *self.changed_by_host.values()])[-2]


@dataclass(frozen=True)
class Spread:
    """Several values of the same thing."""

    median: float
    least: float
    most: float
    count: int


def spread(runs: Collection[Run], value: Callable[[Run], float | None]) -> Spread | None:
    """Return the spread of a value, or None where no run has it."""
    values = [found for run in runs if (found := value(run)) is not None]
    return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None


def median(runs: Collection[Run], value: Callable[[Run], float | None]) -> float | None:
    """Return the median of a value, or None where no run has it."""
    found = spread(runs, value)
    return found.median if found else None


def duration(run: Run) -> float:
    """Return how long a run took."""
    return run.seconds


def requests_a_cluster(run: Run) -> float | None:
    """Return how many requests each API server had."""
    return a_cluster(run, run.all_requests)


def a_cluster(run: Run, total: float | None) -> float | None:
    """Return what it is for each cluster."""
    return None if total is None else total / run.clusters


@dataclass(frozen=True)
class Measurements:
    """All runs on one machine."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    started: str
    runs: tuple[Run, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return those of a file."""
        found = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(Run.of(entry) for entry in found.get("runs", []))
        return cls(found.get("machine", {}), found.get("versions", {}), found.get("started", ""), runs)

    def of(self, action: str, clusters: int, contestant: str = EXOMESH) -> list[Run]:
        """Return all runs of one kind."""
        kind = (action, clusters, contestant)
        return [run for run in self.runs if (run.action, run.clusters, run.contestant) == kind]

    def with_roles(self, action: str) -> dict[int, list[Run]]:
        """Return our runs of which the time by role is known, by number of clusters."""
        runs = {size: [run for run in self.of(action, size) if run.roles] for size in self.sizes(action)}
        return {size: found for size, found in runs.items() if found}

    def sizes(self, *actions: str) -> list[int]:
        """Return for how many clusters there are runs of these actions, or of any."""
        return sorted({run.clusters for run in self.runs if not actions or run.action in actions})


@dataclass(frozen=True)
class Target:
    """What the collection must reach, and what it reached with how many clusters."""

    what: str
    limit: float
    reached: Mapping[int, float]
    wanted: Collection[int] = SIZES
    unit: str = ""

    @property
    def worst(self) -> int | None:
        """With how many clusters it is furthest from being met."""
        return max(self.reached, key=lambda clusters: self.reached[clusters], default=None)

    @property
    def verdict(self) -> str:
        """Whether it is met."""
        if self.worst is None:
            return "not measured"
        if self.reached[self.worst] > self.limit:
            return "not met"
        return "met" if set(self.wanted) <= self.reached.keys() else "met as far as measured"


def ratio(value: float | None, base: float | None) -> float | None:
    """Return one in terms of the other, or None where one of them is not known."""
    return None if value is None or not base else rounded_up(value / base)


def rounded_up(value: float) -> float:
    """Return the value with two decimals: what is shown as the limit is not above it."""
    return math.ceil(round(value * 100, 6)) / 100


def targets(measured: Measurements) -> list[Target]:
    """Return the targets of the project, with what the runs reached."""

    def first(clusters: int, contestant: str = EXOMESH) -> float | None:
        return median(measured.of("first", clusters, contestant), duration)

    def against(contestant: str, *sizes: int) -> dict[int, float]:
        return known({size: ratio(first(size), first(size, contestant)) for size in sizes})

    def most(action: str, value: Callable[[Run], float | None]) -> dict[int, float]:
        spreads = {size: spread(measured.of(action, size), value) for size in every}
        return {size: rounded_up(found.most) for size, found in spreads.items() if found}

    every = measured.sizes()
    second = {size: measured.of("second", size) for size in every}
    again = known({size: ratio(median(second[size], duration), first(size)) for size in every})
    requests = known({size: median(second[size], requests_a_cluster) for size in every})
    growth = known({size: ratio(requests[size], requests[min(requests)]) for size in [*requests][1:]})
    return [
        Target("first run with 2 clusters, against (a)", 0.8, against("by-hand", 2), (2,), TIMES),
        Target("first run with 6 clusters, against (a)", 0.35, against("by-hand", 6), (6,), TIMES),
        Target("first run with any number, against (b)", 1.3, against("script", *every), unit=TIMES),
        Target("second run, against the first", 0.25, again, unit=TIMES),
        Target("API writes of a second run, in all", 2, most("second", lambda run: run.writes)),
        Target(
            "first run with 8 clusters, against 2", 2.5, known({8: ratio(first(8), first(2))}), (8,), TIMES
        ),
        Target("API requests of a second run, a cluster", 60, most("second", requests_a_cluster)),
        Target("the same, against the fewest clusters", 1.1, growth, SIZES[1:], TIMES),
        Target(
            "tasks that change one other cluster when one is added",
            1,
            most("add", lambda run: run.changed_elsewhere),
            ADDED,
        ),
    ]


def known(values: Mapping[int, float | None]) -> dict[int, float]:
    """Return those that were measured."""
    return {key: value for key, value in values.items() if value is not None}
