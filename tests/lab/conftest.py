"""Labs for tests: real clusters, each module's own, gone again however its tests end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .copies import Making, up_mesh
from .costs import pytest_runtest_makereport, pytest_runtest_protocol, pytest_terminal_summary
from .runs import LAB, RunningLab

__all__ = ["pytest_runtest_makereport", "pytest_runtest_protocol", "pytest_terminal_summary"]

LONGEST = (
    *("test_membership", "test_mesh", "test_rotation", "test_certificates", "test_traffic", "test_verify"),
    *("test_teardown", "test_install", "test_peering", "test_gateway"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that at the end no worker waits for another."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """A lab that is not up yet; it is taken down at the end.

    All have one name, as copies keep the name of the original: each runs on a machine of its own, which
    `make lab-test` gives to every worker.
    """
    running = RunningLab(LAB, tmp_path_factory.mktemp(LAB))
    running.down()
    yield running
    running.down()


@pytest.fixture(scope="module")
def mesh_of_two(lab: RunningLab) -> RunningLab:
    """Two clusters in one mesh, as site.yml leaves it."""
    up_mesh(lab, 2)
    return lab


@pytest.fixture(scope="module")
def mesh_of_three(lab: RunningLab) -> RunningLab:
    """The same with three."""
    up_mesh(lab, 3)
    return lab


@pytest.fixture(scope="session")
def making() -> Making:
    """How the mesh of two was made."""
    return Making.of_copy()
