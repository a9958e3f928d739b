# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter absolute_path: a path as its user means it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.filter.absolute_path import absolute_path


def test_a_relative_path_begins_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_path("state/./east") == f"{tmp_path}/state/east"
    assert absolute_path("../east") == str(tmp_path.parent / "east")


def test_an_absolute_path_stays_and_links_are_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    assert absolute_path(str(link)) == str(link)


def test_home_and_variables_are_replaced_as_in_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("MESH", "m1")
    assert absolute_path("~/$MESH") == "/home/me/m1"


def test_what_is_not_set_stays_empty() -> None:
    assert absolute_path("") == ""
