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
