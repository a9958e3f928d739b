# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/performance.md and its plot from what was measured, and print what the targets came to."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import figures
import jinja2
import plot
from figures import ACTIONS, CONTESTANTS, EXOMESH, Measurements, Run, Spread, Target

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
NOT_MEASURED = "not measured"
MACHINE = {"cpu": "processor", "cores": "cores", "memory_gib": "memory, GiB", "kernel": "Linux"}
COST: Mapping[str, Callable[[Run], float | None]] = {
    "CPU seconds": lambda run: run.cpu_seconds,
    "peak memory, MB": lambda run: run.memory_mb,
    "processes": lambda run: run.processes,
    "requests a cluster": figures.requests_a_cluster,
    "writes a cluster": lambda run: figures.a_cluster(run, run.writes),
    "kB a cluster": lambda run: kilobytes(figures.a_cluster(run, run.bytes)),
    "tasks": lambda run: run.tasks,
}
FIRST_HEADS = ("clusters", "by", "median", "least", "most", "runs", "against (a)", "against (b)")
SCALE_HEADS = (
    "playbook",
    "mode",
    "clusters",
    "seconds",
    "seconds a cluster",
    "CPU seconds a cluster",
    "requests a cluster",
    "writes a cluster",
    "kB a cluster",
)
TEXTS = {"playbook", "mode", "by", "role", "what", "reached", "verdict", "machine", ""}
"""Heads of the columns that hold no figures."""

Rows = list[Sequence[object]]


def main() -> int:
    """Write the page and the plot; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, default=ROOT / "build/bench", help="where measurements.json is")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="where the page goes")
    options = parser.parse_args()
    source, scale = options.input / "measurements.json", options.input / "scale.json"
    if not source.is_file():
        sys.exit(f"There is no {source}: bench/measure.py writes it")
    measured = Measurements.read(source)
    model = json.loads(scale.read_text(encoding="utf-8")) if scale.is_file() else []
    findings = BENCH / "findings.md"
    text = page(measured, model, findings.read_text(encoding="utf-8") if findings.is_file() else "")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "performance.md").write_text(text, encoding="utf-8")
    (options.output / "performance.svg").write_text(picture(measured), encoding="utf-8")
    for target in figures.targets(measured):
        print(f"{target.what}, at most {limit(target)}: {reached(target)}: {target.verdict}")
    return 0


def page(measured: Measurements, model: Sequence[Mapping[str, Any]], findings: str) -> str:
    """Return the page in Markdown."""
    later = [action for action in ACTIONS if action != "first"]
    return template("performance.md.j2").render(
        started=datetime.fromisoformat(measured.started).date() if measured.started else None,
        commit=measured.versions.get("commit"),
        machine=table(("machine", ""), machine_rows(measured)),
        gaps=list(gaps(measured)),
        rounds=figures.ROUNDS,
        sizes=listed(figures.SIZES),
        first=table(FIRST_HEADS, first_rows(measured)),
        targets=table(("what", "at most", "reached", "verdict"), target_rows(measured)),
        later=table(("clusters", "by", *(ACTIONS[action] for action in later)), later_rows(measured, later)),
        costs={
            title: table(("clusters", "by", *COST), cost_rows(measured, action))
            for action, title in ACTIONS.items()
            if measured.sizes(action)
        },
        roles={
            title: table(("role", *map(clusters, runs)), role_rows(runs.values()))
            for action, title in ACTIONS.items()
            if (runs := measured.with_roles(action))
        },
        model=model,
        scale=table(SCALE_HEADS, scale_rows(model)),
        findings=findings.strip(),
    )


def picture(measured: Measurements) -> str:
    """Return the plot as SVG."""
    spoken = {
        name: ", ".join(f"{seconds(found.median)} with {clusters(size)}" for size, found in spreads)
        for name in CONTESTANTS
        if (spreads := plot.spreads(measured, name))
    }
    return template("performance.svg.j2").render(plot=plot.plot(measured), spoken=spoken, place=plot)


def template(name: str) -> jinja2.Template:
    """Return a template of this folder."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(BENCH),
        autoescape=jinja2.select_autoescape(["svg.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: f"{value:.5g}" if isinstance(value, float) else value,
    )
    environment.filters["seconds"] = seconds
    return environment.get_template(name)


def machine_rows(measured: Measurements) -> Rows:
    """Return machine and versions."""
    machine = [(title, measured.machine.get(name, NOT_MEASURED)) for name, title in MACHINE.items()]
    return [*machine, *((name, version) for name, version in measured.versions.items() if name != "commit")]


def gaps(measured: Measurements) -> Iterator[str]:
    """Tell what there are no runs of, and of what too few."""
    for action, title in ACTIONS.items():
        sizes = figures.ADDED if action == "add" else sorted({*figures.SIZES, *measured.sizes("first")})
        for contestant in CONTESTANTS if action == "first" else [EXOMESH]:
            who = CONTESTANTS[contestant]
            counts = {size: len(measured.of(action, size, contestant)) for size in sizes}
            if none := [size for size, count in counts.items() if not count]:
                yield f"{title}, {who}: {NOT_MEASURED} with {listed(none)} clusters"
            for size, count in counts.items():
                if 0 < count < figures.ROUNDS:
                    yield f"{title}, {who}: {count} of {figures.ROUNDS} with {clusters(size)}"


def first_rows(measured: Measurements) -> Rows:
    """Return the first runs, with how long they took against those of (a) and (b)."""
    rows: Rows = []
    for size in measured.sizes("first"):
        spreads = {name: first_spread(measured, size, name) for name in CONTESTANTS}
        bases = [found.median if found else None for found in (spreads["by-hand"], spreads["script"])]
        for name, found in spreads.items():
            if found is None:
                rows.append((size, CONTESTANTS[name], NOT_MEASURED, "", "", 0, "", ""))
                continue
            times = map(seconds, (found.median, found.least, found.most))
            against = [times_as_long(found.median, base) for base in bases]
            rows.append((size, CONTESTANTS[name], *times, found.count, *against))
    return rows


def first_spread(measured: Measurements, size: int, contestant: str) -> Spread | None:
    """Return how long the first runs of a contestant took."""
    return figures.spread(measured.of("first", size, contestant), figures.duration)


def target_rows(measured: Measurements) -> Rows:
    """Return the targets, and whether they are met."""
    return [
        (target.what, limit(target), reached(target), target.verdict) for target in figures.targets(measured)
    ]


def limit(target: Target) -> str:
    """Return what it is to be at most."""
    return f"{target.limit:g}{target.unit}"


def reached(target: Target) -> str:
    """Return what was reached where it is furthest from being met."""
    if target.worst is None:
        return "-"
    found = target.reached[target.worst]
    value = f"{found:.2f}{target.unit}" if target.unit else f"{found:g}"
    others = f" (of {listed([*target.reached])})" if len(target.reached) > 1 else ""
    return f"{value} with {clusters(target.worst)}{others}"


def later_rows(measured: Measurements, actions: Sequence[str]) -> Rows:
    """Return the seconds of all runs but the first."""
    return [
        (size, title, *(spread_of(measured.of(action, size, name)) for action in actions))
        for size in measured.sizes()
        for name, title in CONTESTANTS.items()
        if any(measured.of(action, size, name) for action in actions)
    ]


def spread_of(runs: Sequence[Run]) -> str:
    """Return the median of the seconds, with the least and the most."""
    found = figures.spread(runs, figures.duration)
    return f"{seconds(found.median)} ({seconds(found.least)} to {seconds(found.most)})" if found else "-"


def cost_rows(measured: Measurements, action: str) -> Rows:
    """Return what an action costs the controller and the API servers."""
    return [
        (size, title, *(number(figures.median(runs, value)) for value in COST.values()))
        for size in measured.sizes(action)
        for name, title in CONTESTANTS.items()
        if (runs := measured.of(action, size, name))
    ]


def role_rows(columns: Collection[Sequence[Run]]) -> Rows:
    """Return the seconds of each role, of what is outside of them, and of it all."""
    names = dict.fromkeys(name for runs in columns for run in runs for name in run.roles if name)
    values: dict[str, Callable[[Run], float]] = {
        **{f"`{name}`": partial(in_role, name) for name in names},
        "outside of roles": outside_of_roles,
        "**all**": figures.duration,
    }
    return [
        (title, *(seconds(statistics.median(map(value, runs))) for runs in columns))
        for title, value in values.items()
    ]


def in_role(name: str, run: Run) -> float:
    """Return the seconds of one role."""
    return run.roles.get(name, 0)


def outside_of_roles(run: Run) -> float:
    """Return the seconds in which no role had a task, or less where roles overlapped."""
    return max(0, run.seconds - sum(time for name, time in run.roles.items() if name))


def scale_rows(model: Iterable[Mapping[str, Any]]) -> Rows:
    """Return the runs of the scale model, by playbook and mode."""
    rows: Rows = []
    for run in sorted(model, key=lambda run: (run["playbook"], run["mode"], run["clusters"])):
        size, cpu = run["clusters"], run.get("cpu_seconds")
        rows.append(
            (
                f"`{run['playbook']}`",
                run["mode"],
                size,
                seconds(run["seconds"]),
                f"{run['seconds'] / size:.2f}",
                "-" if cpu is None else f"{cpu / size:.2f}",
                number(run.get("requests_per_cluster")),
                number(run.get("writes_per_cluster")),
                number(kilobytes(run.get("bytes_per_cluster"))),
            )
        )
    return rows


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown, with figures at the right, or a sentence where there is nothing in it."""
    rows = list(rows)
    if not rows:
        return "This was not measured.\n"
    lines = [heads, ["---" if head in TEXTS else "---:" for head in heads], *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def kilobytes(count: float | None) -> float | None:
    """Return thousands of bytes."""
    return None if count is None else count / 1000


def seconds(value: float) -> str:
    """Return seconds, from 100 on without decimals."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"


def number(value: float | None) -> str:
    """Return a number in the same way, or a dash where it was not measured."""
    if value is None:
        return "-"
    return str(int(value)) if value == int(value) else seconds(value)


def times_as_long(value: float, base: float | None) -> str:
    """Return how long it took against another."""
    found = figures.ratio(value, base)
    return "-" if found is None else f"{found:.2f}{figures.TIMES}"


def clusters(count: int) -> str:
    """Return the number with its word."""
    return f"{count} clusters"


def listed(counts: Sequence[int]) -> str:
    """Return the numbers as a sentence lists them."""
    *others, last = map(str, counts)
    return f"{', '.join(others)} and {last}" if others else last


if __name__ == "__main__":
    sys.exit(main())
