# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything is in the plot: the seconds of first runs, and below them the time by role."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from figures import CONTESTANTS, Measurements, Run, Spread, duration, spread

WIDTH = 480  # narrow, so that its letters can be read on a telephone
LEFT, RIGHT, TOP, BOTTOM = 48, 370, 66, 296  # of the plot; the names of the lines stand at its right
INSET = 22
APART = 7  # points of the same number of clusters, so that their spreads do not hide each other
LABEL_HEIGHT = 18
ROLES = 5  # with a colour of their own
BAR_LEFT, BAR_RIGHT, BAR_HEIGHT = LEFT, 424, 22
REST = "the rest"
LEGEND, COLUMNS = BOTTOM + 132, 3


@dataclass(frozen=True)
class Tick:
    """A number at an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A median, with the least and the most."""

    x: float
    y: float
    least: float
    most: float


@dataclass(frozen=True)
class Line:
    """All points of one contestant."""

    contestant: str
    points: Sequence[Point]
    label: str
    label_x: float
    label_y: float


@dataclass(frozen=True)
class Part:
    """The part of a bar that is one role; parts have the order of the legend."""

    x: float
    width: float


@dataclass(frozen=True)
class Bar:
    """The time of one number of clusters."""

    y: float
    clusters: int
    parts: Sequence[Part]
    end: float
    seconds: float


@dataclass(frozen=True)
class Entry:
    """A role in the legend."""

    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Plot:
    """Both panels."""

    height: float
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    legend: Sequence[Entry]
    bars: Sequence[Bar]


def plot(measured: Measurements) -> Plot:
    """Return the plot of the first runs."""
    sizes = measured.sizes("first")
    top = max((run.seconds for run in measured.runs if run.action == "first"), default=1)
    step = nice_step(top / 6)
    top = step * math.ceil(top / step)
    x_ticks = [Tick(x_of(size, sizes), str(size)) for size in sizes]
    y_ticks = [Tick(y_of(value, top), str(value)) for value in range(0, top + 1, step)]
    lines = apart(line for name in CONTESTANTS for line in line_of(name, measured, sizes, top))
    legend, bars = bars_of(measured)
    height = (bars[-1].y + BAR_HEIGHT if bars else LEGEND) + 20
    return Plot(height, x_ticks, y_ticks, lines, legend, bars)


def nice_step(at_least: float) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50, ... that is not below."""
    power = int(10 ** max(0, math.floor(math.log10(at_least))))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= at_least)


def x_of(size: int, sizes: Sequence[int]) -> float:
    """Return where a number of clusters is; a lone one is in the middle."""
    if len(sizes) == 1:
        return (LEFT + RIGHT) / 2
    return LEFT + INSET + (size - sizes[0]) / (sizes[-1] - sizes[0]) * (RIGHT - LEFT - 2 * INSET)


def y_of(value: float, top: float) -> float:
    """Return where so many seconds are."""
    return BOTTOM - value / top * (BOTTOM - TOP)


def line_of(contestant: str, measured: Measurements, sizes: Sequence[int], top: float) -> Iterable[Line]:
    """Yield the line of a contestant, if it has runs."""
    beside = (list(CONTESTANTS).index(contestant) - 1) * APART
    found = spreads(measured, contestant)
    points = [
        Point(x_of(size, sizes) + beside, y_of(one.median, top), y_of(one.least, top), y_of(one.most, top))
        for size, one in found
    ]
    if points:
        x, y = points[-1].x - beside + APART + 15, points[-1].y + 5
        if found[-1][0] != sizes[-1]:  # the other lines go on where the label would be
            x, y = points[-1].x - 5, points[-1].most - 8
        yield Line(contestant, points, CONTESTANTS[contestant], x, y)


def spreads(measured: Measurements, contestant: str) -> list[tuple[int, Spread]]:
    """Return the first runs of a contestant by number of clusters."""
    found = (
        (size, spread(measured.of("first", size, contestant), duration)) for size in measured.sizes("first")
    )
    return [(size, one) for size, one in found if one]


def apart(lines: Iterable[Line]) -> list[Line]:
    """Return the lines with labels that do not cover each other, the highest first."""
    placed: list[Line] = []
    for line in sorted(lines, key=lambda line: line.label_y):
        y = max(line.label_y, placed[-1].label_y + LABEL_HEIGHT) if placed else line.label_y
        placed.append(replace(line, label_y=y))
    return placed


def bars_of(measured: Measurements) -> tuple[list[Entry], list[Bar]]:
    """Return the legend and the bars of the time by role; both are empty where it was not measured."""
    runs = measured.with_roles("first")
    names = longest_roles(run for found in runs.values() for run in found)
    times = {size: [*(median_of(name, found) for name in names)] for size, found in runs.items()}
    whole = {size: statistics.median(map(duration, found)) for size, found in runs.items()}
    for size, known in times.items():
        others = {name for run in runs[size] for name in run.roles} - set(names)
        known.append(max(whole[size] - sum(known), sum(median_of(name, runs[size]) for name in others)))
    scale = (BAR_RIGHT - BAR_LEFT) / max(whole.values(), default=1)

    legend = legend_of([*names, REST]) if runs else []
    bars = []
    y = legend[-1].y + 20 if legend else 0
    for size, known in times.items():
        # Roles may run at once in different clusters: then they share the time.
        share = scale * whole[size] / sum(known)
        ends = [BAR_LEFT + share * sum(known[:count]) for count in range(len(known) + 1)]
        parts = [Part(start, end - start) for start, end in pairwise(ends)]
        bars.append(Bar(y, size, parts, ends[-1], whole[size]))
        y += BAR_HEIGHT + 8
    return legend, bars


def longest_roles(runs: Iterable[Run]) -> list[str]:
    """Return the roles that take the most time, in the order in which they run."""
    total: dict[str, float] = {}
    for run in runs:
        for name, time in run.roles.items():
            total[name] = total.get(name, 0) + time
    total.pop("", None)
    longest = sorted(total, key=lambda name: -total[name])[:ROLES]
    return [name for name in total if name in longest]


def median_of(role: str, runs: Iterable[Run]) -> float:
    """Return the time that the role takes."""
    return statistics.median(run.roles.get(role, 0) for run in runs)


def legend_of(names: Sequence[str]) -> list[Entry]:
    """Return the legend, in rows."""
    width = (WIDTH - LEFT) / COLUMNS
    return [
        Entry(LEFT + index % COLUMNS * width, LEGEND + index // COLUMNS * 22, name)
        for index, name in enumerate(names)
    ]
