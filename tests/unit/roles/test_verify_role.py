# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters without kubeconfigs are findings, and the report of them is where the user says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.plugin_utils.page import html

from .conftest import Play


def test_a_relative_folder_is_below_the_one_that_ansible_was_started_in(
    play_role: Play, tmp_path: Path
) -> None:
    started_in = tmp_path / "elsewhere"
    started_in.mkdir()
    result = play_role(
        "verify",
        {"east": {}, "west": {}},
        started_in=started_in,
        mesh_state_dir=str(tmp_path / "state"),
        verify_output_dir="report",
        verify_read_only=True,
    )
    assert "cluster-unreachable" in result.text
    told = json.loads((started_in / "report" / "verification.json").read_text())
    assert (started_in / "report" / "verification.html").read_text() == html(told)
    assert not (tmp_path / "report").exists()
    assert set(result.changed.values()) == {0}


@pytest.mark.parametrize(
    ("told", "started"),
    [
        ({}, False),
        ({"__verify_started": {"changed": False}}, True),  # as a task of start.yml registers it
        ({"__verify_started": {"changed": False, "skipped": True}}, False),
        ({"verify_started": "true"}, True),
    ],
)
def test_a_workload_that_was_started_is_used(
    play_role: Play, tmp_path: Path, told: dict[str, Any], started: bool
) -> None:
    result = play_role(
        "verify",
        {"east": {}, "west": {}},
        "--check",
        shown="verify_started | bool",
        mesh_state_dir=str(tmp_path / "state"),
        verify_read_only=True,
        **told,
    )
    assert f"verify_started | bool is {started}." in result.words, result.text


def test_only_members_can_be_looked_at(play_role: Play, tmp_path: Path) -> None:
    hosts = {"east": {"mesh_cluster_name": "vie"}, "west": {}}
    variables = {"mesh_state_dir": str(tmp_path / "state"), "verify_read_only": True}
    result = play_role("verify", hosts, "-e", "verify_only=nosuch", **variables)
    assert result.return_code != 0
    assert "only names nosuch, which is no member of the mesh" in result.words
    assert "Name one of the members: vie (host east), west" in result.words
    assert "cluster-unreachable" not in result.text
    # A text is no set of letters: "eas" is in "east", but names nobody.
    assert "only names eas," in play_role("verify", hosts, "-e", "verify_only=east,eas", **variables).words
    assert "cluster-unreachable" in play_role("verify", hosts, "-e", "verify_only=east", **variables).text
