"""What the tests of the lab cost: CPU seconds of all that runs on the machine of their worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator

import pytest
from exolab.cgroups import cpu_seconds

CPU = "CPU seconds"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Look at the beginning of each phase of a test."""
    item.stash[LAST] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what a phase has cost."""
    report = yield
    now = cpu_seconds()
    report.user_properties = [*report.user_properties, (CPU, now - item.stash[LAST])]
    item.stash[LAST] = now
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what each file has cost, and the dearest tests."""
    files: dict[str, float] = defaultdict(float)
    phases: list[tuple[float, str]] = []
    for report in (report for found in terminalreporter.stats.values() for report in found):
        if isinstance(report, pytest.TestReport):
            cost = sum(float(str(value)) for name, value in report.user_properties if name == CPU)
            files[report.nodeid.partition("::")[0]] += cost
            phases.append((cost, f"{report.when:8} {report.nodeid}"))
    terminalreporter.section("CPU seconds")
    for name, cost in sorted(files.items(), key=lambda each: -each[1]):
        terminalreporter.line(f"{cost:7.0f}  {name}")
    terminalreporter.line(f"{sum(files.values()):7.0f}  all")
    for cost, name in sorted(phases, reverse=True)[:30]:
        terminalreporter.line(f"{cost:7.0f}  {name}")


LAST = pytest.StashKey[float]()
