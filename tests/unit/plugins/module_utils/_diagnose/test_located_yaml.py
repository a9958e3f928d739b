# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of YAML are replaced where they are, and all else stays."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.located_yaml import read, replaced


def redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return "GONE" if "s3cret" in value else value


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("a: s3cret # why\nb:   kept\n", "a: GONE # why\nb:   kept\n"),
        ("a: 's3cret'\nb: x\n", 'a: "GONE"\nb: x\n'),
        ("a:\n- s3cret\n- {b: s3cret, c: d}\n", "a:\n- GONE\n- {b: GONE, c: d}\n"),
        ("a: |\n    s3cret\n    more\nb: x\n", "a: |\n    GONE\nb: x\n"),
        ('{"a": "s3cret", "b": 1}', '{"a": "GONE", "b": 1}'),
        ("a: 1\nb: 1\n---\na: s3cret\nb: 2\n", "a: 1\nb: 1\n---\na: GONE\nb: 2\n"),
    ],
)
def test_only_what_differs_is_replaced(text: str, after: str) -> None:
    documents = read(text)
    assert documents is not None
    assert replaced(text, documents, redacted(documents)) == after


@pytest.mark.parametrize(
    "text",
    [
        "one line of a log",
        "a: &a 1\nb: *a\n",
        "a: 1\na: 2\n",
        "[a, b]: 1\nb: [\n",
        "a: 1\n" + "b: [" * 100 + "\n",
        "a: 1\n" + "b: 2\n" * 200_000,
    ],
)
def test_what_is_no_plain_yaml_is_left_to_others(text: str) -> None:
    assert read(text) is None
