# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes by -e is a text, also where a list is meant; a wrong name is told before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Play

HOSTS: dict[str, dict[str, str]] = {"east": {}, "west": {}}


@pytest.mark.parametrize("tasks", ["main", "start"])
def test_the_demo_is_only_for_members(play_role: Play, tmp_path: Path, tasks: str) -> None:
    arguments = ("--check", "-e", "demo_client_cluster=nosuch", "-e", f"mesh_state_dir={tmp_path}/state")
    run = play_role("demo", HOSTS, *arguments, tasks_from=tasks)
    assert run.return_code != 0
    assert "demo_client_cluster (nosuch) must be two of mesh_clusters (east, west)" in run.words


def test_members_may_be_a_text_of_names(play_role: Play, tmp_path: Path) -> None:
    arguments = ("--check", "-e", f"mesh_state_dir={tmp_path}/state")
    run = play_role(
        "demo", HOSTS, *arguments, "-e", "mesh_clusters=west,east", "-e", "demo_server_cluster=west"
    )
    assert "demo_server_cluster (west) and demo_client_cluster (west) must be two of" in run.words
    assert "mesh_clusters (west, east)" in run.words


def test_a_name_in_the_members_that_is_no_host_is_told(play_role: Play) -> None:
    run = play_role("verify", HOSTS, "--check", "-e", "mesh_clusters=east,wets")
    assert run.return_code != 0
    assert "mesh_clusters names wets, which is not in the inventory" in run.words


def test_versions_name_members_one_by_one(play_role: Play) -> None:
    """A text would also have the names of members that are a part of it."""
    versions = [{"name": "v1", "clusters": "east"}, {"name": "v2", "clusters": ["west"]}]
    run = play_role("traffic", HOSTS, "--check", traffic_versions=versions)
    assert run.return_code != 0
    assert "They must be lists of some of mesh_clusters (east, west)" in run.words
