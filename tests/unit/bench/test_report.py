# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about performance says what was measured, and no more: with made-up runs."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import figures
import pytest
import report
from figures import Measurements, Run

SVG = "{http://www.w3.org/2000/svg}"


def run(clusters: int, contestant: str, action: str, seconds: float, **more: Any) -> Run:
    return Run(clusters, contestant, action, seconds, **more)


def measured(*runs: Run) -> Measurements:
    return Measurements({}, {}, "", runs)


def row(text: str, *cells: str) -> list[str]:
    """The rest of the first row that begins with these cells."""
    begin = f"| {' | '.join(cells)} | "
    line = next(line for line in text.splitlines() if line.startswith(begin))
    return plain(line).removeprefix(begin).removesuffix(" |").split(" | ")


def plain(text: str) -> str:
    """The text with a sign for ratios that is on every keyboard."""
    return text.replace(figures.TIMES, "x")


def part(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its kind."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def verdict(name: str, *runs: Run) -> tuple[str, str]:
    """What is reached of a target, and the verdict."""
    [target] = [target for target in figures.targets(measured(*runs)) if target.what.startswith(name)]
    return plain(report.reached(target)), target.verdict


FIRST = [
    *(run(2, "by-hand", "first", seconds) for seconds in (100, 90, 130, 110, 104)),
    *(run(2, "script", "first", seconds) for seconds in (40, 50)),
    *(run(2, "exomesh", "first", seconds) for seconds in (61, 60, 59.94)),
    run(4, "exomesh", "first", 80),
]


def test_first_runs_have_median_spread_and_ratios() -> None:
    page = part(report.page(measured(*FIRST), [], ""), "First run")
    assert row(page, "2", "by hand (a)") == [
        "104",
        "90.0",
        "130",
        "5",
        "1.00x",
        "2.32x",
    ]
    assert row(page, "2", "script (b)") == [
        "45.0",
        "40.0",
        "50.0",
        "2",
        "0.44x",
        "1.00x",
    ]
    assert row(page, "2", "exomesh") == [
        "60.0",
        "59.9",
        "61.0",
        "3",
        "0.58x",
        "1.34x",
    ]
    assert row(page, "4", "script (b)") == ["not measured", "", "", "0", "", ""]
    assert row(page, "4", "exomesh") == ["80.0", "80.0", "80.0", "1", "-", "-"]


def test_a_ratio_that_is_shown_as_the_limit_is_not_above_it() -> None:
    name = "first run with 2 clusters, against (a)"
    by_hand = run(2, "by-hand", "first", 1000)
    assert verdict(name, by_hand, run(2, "exomesh", "first", 800)) == (
        "0.80x with 2 clusters",
        "met",
    )
    assert verdict(name, by_hand, run(2, "exomesh", "first", 801)) == (
        "0.81x with 2 clusters",
        "not met",
    )
    assert verdict(name, by_hand) == ("-", "not measured")
    assert verdict(name, by_hand, run(6, "exomesh", "first", 1)) == ("-", "not measured")


@pytest.mark.parametrize(
    ("eighth", "expected"),
    [
        (130, ("1.30x with 8 clusters (of 2, 4, 6 and 8)", "met")),
        (131, ("1.31x with 8 clusters (of 2, 4, 6 and 8)", "not met")),
        (None, ("1.00x with 2 clusters (of 2, 4 and 6)", "met as far as measured")),
    ],
)
def test_a_target_for_any_number_is_judged_by_the_worst(
    eighth: float | None, expected: tuple[str, str]
) -> None:
    runs = [run(size, "script", "first", 100) for size in (2, 4, 6, 8)]
    runs += [run(size, "exomesh", "first", 100) for size in (2, 4, 6)]
    runs += [run(8, "exomesh", "first", eighth)] if eighth else []
    assert verdict("first run with any number, against (b)", *runs) == expected


def test_eight_clusters_are_held_against_two() -> None:
    runs = [run(2, "exomesh", "first", 20), run(8, "exomesh", "first", 51)]
    assert verdict("first run with 8 clusters", *runs) == (
        "2.55x with 8 clusters",
        "not met",
    )
    assert verdict("first run with 8 clusters", *runs[:1]) == ("-", "not measured")


def test_a_second_run_is_judged_by_time_writes_and_requests() -> None:
    def second(clusters: int, requests: dict[str, int]) -> list[Run]:
        return [
            run(clusters, "exomesh", "first", 100),
            run(clusters, "exomesh", "second", 24, requests=requests),
            run(clusters, "exomesh", "second", 24, requests=requests),
        ]

    quiet = second(2, {"read": 80, "write": 2, "lease": 4, "review": 6})
    assert verdict("second run, against the first", *quiet)[0] == "0.24x with 2 clusters"
    assert verdict("API writes of a second run", *quiet) == ("2 with 2 clusters", "met as far as measured")
    assert verdict("API requests of a second run", *quiet)[0] == "46 with 2 clusters"
    assert verdict("the same, against the fewest clusters", *quiet) == ("-", "not measured")

    quadratic = [*quiet, *second(4, {"read": 200, "of another kind": 3})]
    assert verdict("API writes of a second run", *quadratic) == ("3 with 4 clusters (of 2 and 4)", "not met")
    assert verdict("API requests of a second run", *quadratic)[0] == "50.75 with 4 clusters (of 2 and 4)"
    assert verdict("the same, against the fewest clusters", *quadratic) == (
        "1.11x with 4 clusters",
        "not met",
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"cluster1": 1, "cluster2": 1, "cluster3": 1, "cluster4": 9}, "1 with 4 clusters"),
        ({"cluster1": 1, "cluster2": 2, "cluster4": 9}, "2 with 4 clusters"),
        ({"cluster4": 9}, "0 with 4 clusters"),
    ],
)
def test_an_added_cluster_is_not_counted_as_another(changed: dict[str, int], expected: str) -> None:
    added = run(4, "exomesh", "add", 30, changed_by_host=changed)
    assert verdict("tasks that change one other cluster", added)[0] == expected


def test_what_is_missing_is_said() -> None:
    page = report.page(measured(*FIRST), [], "")
    missing = part(page, "What was measured, and how")
    assert "- first run, by hand (a): not measured with 4, 6 and 8 clusters\n" in missing
    assert "- first run, by hand (a): 5" not in missing
    assert "- first run, script (b): 2 of 5 with 2 clusters\n" in missing
    assert "- adding the last cluster, exomesh: not measured with 4, 6 and 8 clusters\n" in missing
    assert row(missing, "processor") == ["not measured"]
    for heading in ("Later runs", "Time by role", "Many clusters"):
        assert part(page, heading).rstrip().endswith("This was not measured."), heading


def test_all_that_should_be_there_leaves_no_list_of_what_is_missing() -> None:
    runs = [
        run(size, contestant, action, 10)
        for size in figures.SIZES
        for contestant in figures.CONTESTANTS
        for action in figures.ACTIONS
        for _round in range(figures.ROUNDS)
    ]
    assert "What is missing here" not in report.page(measured(*runs), [], "")


def test_costs_are_for_each_cluster() -> None:
    requests = {"read": 30, "session": 4, "write": 7}
    cost = {"cpu_seconds": 12.34, "memory_mb": 310, "processes": 410, "bytes": 1234567, "tasks": 40}
    runs = [run(2, "exomesh", "verify", 3, requests=requests, **cost), run(2, "script", "first", 30)]
    page = part(report.page(measured(*runs), [], ""), "What it costs")
    _, first, verify = page.split("### ")
    assert row(first, "2", "script (b)") == ["-"] * 7
    assert row(verify, "2", "exomesh") == ["12.3", "310", "410", "20.5", "3.5", "617", "40"]


def test_time_by_role_adds_up() -> None:
    runs = [
        run(2, "exomesh", "first", 20, roles={"": 1, "istio": 9, "verify": 4}),
        run(2, "exomesh", "first", 22, roles={"": 1, "istio": 11, "verify": 4}),
        run(4, "exomesh", "first", 30, roles={"istio": 18}),
    ]
    page = part(report.page(measured(*runs), [], ""), "Time by role")
    assert row(page, "`istio`") == ["10.0", "18.0"]
    assert row(page, "`verify`") == ["4.0", "0.0"]
    assert row(page, "outside of roles") == ["7.0", "12.0"]
    assert row(page, "**all**") == ["21.0", "30.0"]


def test_the_scale_model_is_a_table_by_cluster() -> None:
    model = [
        {"clusters": 50, "playbook": "site", "mode": "check", "seconds": 60, "requests_per_cluster": 41},
        {
            "clusters": 8,
            "playbook": "site",
            "mode": "check",
            "seconds": 12,
            "cpu_seconds": 20,
            "bytes_per_cluster": 1500,
        },
    ]
    page = part(report.page(measured(), model, ""), "Many clusters")
    assert row(page, "`site`", "check", "8") == ["12.0", "1.50", "2.50", "-", "-", "1.5"]
    assert row(page, "`site`", "check", "50") == ["60.0", "1.20", "-", "41", "-", "-"]
    assert page.index("| 8 |") < page.index("| 50 |")


def test_findings_are_taken_over_as_they_are() -> None:
    findings = "Most of it in `istioctl`: {{ no_template }} & <b>.\n"
    assert part(report.page(measured(), [], findings), "Where the time goes").strip() == findings.strip()
    assert "Where the time goes" not in report.page(measured(), [], "")


def test_tables_are_whole() -> None:
    runs = [
        run(2, name, action, 10, roles={"istio": 1})
        for name in figures.CONTESTANTS
        for action in figures.ACTIONS
    ]
    model = [{"clusters": 8, "playbook": "site", "mode": "run", "seconds": 12}]
    for page in (report.page(measured(*runs), model, ""), report.page(measured(), [], "")):
        for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1, table
        assert "\n\n\n" not in page


def texts(picture: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(picture).iter(f"{SVG}text")]


def bars(root: ET.Element) -> list[list[float]]:
    """The widths of each bar's parts."""
    widths: dict[str, list[float]] = {}
    for rect in root.iter(f"{SVG}rect"):
        if "part" in rect.attrib.get("class", ""):
            widths.setdefault(rect.attrib["y"], []).append(float(rect.attrib["width"]))
    return [*widths.values()]


def test_the_plot_has_a_line_for_each_contestant_and_a_bar_for_each_number() -> None:
    roles = {"istio": 30.0, "verify": 10.0, "a<b&c": 5.0, "": 2.0}
    picture = report.picture(measured(*FIRST, run(4, "exomesh", "first", 60, roles=roles)))
    root = ET.fromstring(picture)
    lines = {line.attrib["class"]: line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")}
    assert {name: len(points) for name, points in lines.items()} == {
        "line by-hand": 1,
        "line script": 1,
        "line exomesh": 2,
    }
    (widths,) = bars(root)
    assert [round(width / widths[0] * 30) for width in widths] == [30, 10, 5, 15]
    assert {"by hand (a)", "script (b)", "exomesh", "a<b&c", "the rest", "60.0"} <= {*texts(picture)}
    assert "prefers-color-scheme: dark" in picture
    assert "<script" not in picture


def test_a_bar_is_as_long_as_the_run_also_where_roles_ran_at_once() -> None:
    runs = [
        run(2, "exomesh", "first", 30, roles={"istio": 20.0, "verify": 10.0}),
        run(4, "exomesh", "first", 60, roles={"istio": 60.0, "verify": 20.0}),
    ]
    root = ET.fromstring(report.picture(measured(*runs)))
    two, four = bars(root)
    assert sum(four) == pytest.approx(2 * sum(two), abs=0.5)  # widths are rounded
    assert four[0] == pytest.approx(3 * four[1], abs=0.5)


def test_a_line_that_ends_early_has_its_label_above_it() -> None:
    runs = [
        run(2, "by-hand", "first", 60),
        *(run(size, "exomesh", "first", seconds) for size, seconds in ((2, 40), (4, 60))),
    ]
    root = ET.fromstring(report.picture(measured(*runs)))
    (point,) = (c.attrib for c in root.iter(f"{SVG}circle") if c.attrib["class"] == "of-by-hand")
    (label,) = (t.attrib for t in root.iter(f"{SVG}text") if t.text == "by hand (a)")
    assert float(label["y"]) < float(point["cy"])


def test_the_more_seconds_the_higher_and_labels_do_not_cover_each_other() -> None:
    runs = [run(2, "by-hand", "first", 100), run(2, "script", "first", 99), run(2, "exomesh", "first", 50)]
    root = ET.fromstring(report.picture(measured(*runs)))
    circles = {circle.attrib["class"]: float(circle.attrib["cy"]) for circle in root.iter(f"{SVG}circle")}
    assert circles["of-by-hand"] < circles["of-script"] < circles["of-exomesh"]
    labels = [float(text.attrib["y"]) for text in root.iter(f"{SVG}text") if "name" in text.attrib["class"]]
    assert labels[1] - labels[0] >= 16


def test_a_plot_without_runs_says_so() -> None:
    assert texts(report.picture(measured())).count("not measured") == 2


def test_the_program_writes_both_files_and_prints_the_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["report.py", "--input", str(tmp_path), "--output", str(tmp_path / "docs")]
    )
    with pytest.raises(SystemExit, match=r"There is no .*measurements\.json"):
        report.main()

    entry = {
        "clusters": 2,
        "contestant": "exomesh",
        "action": "first",
        "round": 1,
        "seconds": 34.1,
        "tasks": None,
    }
    found = {
        "machine": {"cpu": "A processor", "cores": 2, "memory_gib": 15.6, "kernel": "6.1"},
        "versions": {"istio": "1.31.1", "commit": "abc1234"},
        "started": "2026-11-23T15:30:00+00:00",
        "runs": [entry, {**entry, "contestant": "by-hand", "seconds": 68.2, "requests_by_cluster": {}}],
    }
    (tmp_path / "measurements.json").write_text(json.dumps(found))
    assert report.main() == 0

    page = (tmp_path / "docs/performance.md").read_text()
    assert "Measured on 2026-11-23 with commit abc1234." in page
    assert row(page, "processor") == ["A processor"]
    assert row(page, "istio") == ["1.31.1"]
    ET.parse(tmp_path / "docs/performance.svg")
    assert "against (a), at most 0.8x: 0.50x with 2 clusters: met\n" in plain(capsys.readouterr().out)
