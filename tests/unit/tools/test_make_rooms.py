# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders of module_utils build on each other in one direction, and files in none of them in a circle."""

from __future__ import annotations

from graphlib import TopologicalSorter

import make_rooms


def test_every_file_is_in_a_room() -> None:
    files = [path for path in make_rooms.CODE.rglob("*.py") if "__pycache__" not in path.parts]
    assert len(files) > 60
    assert {path.relative_to(make_rooms.CODE).parts[0] for path in files} == set(make_rooms.ROOMS)


def test_no_room_imports_from_a_later_one() -> None:
    order = list(make_rooms.ROOMS)
    edges = make_rooms.edges()
    assert edges.total() > 100
    assert [edge for edge in edges if order.index(edge[0]) < order.index(edge[1])] == []


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {
        path.relative_to(make_rooms.CODE).with_suffix("").parts: make_rooms.imports(path)
        for path in make_rooms.CODE.glob("*/*.py")
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_no_file_is_longer_than_a_reader_likes() -> None:
    data = {"findings.py"}
    lengths = {
        path.name: len(path.read_text(encoding="utf-8").splitlines())
        for path in make_rooms.ROOT.glob("plugins/**/*.py")
        if path.name not in data
    }
    assert {name: length for name, length in lengths.items() if length > 500} == {}
