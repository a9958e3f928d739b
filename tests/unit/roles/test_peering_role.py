# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role knows which APIs were reached from its option, or from the fact of role preflight."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Play


@pytest.mark.parametrize(
    ("told", "reached"),
    [
        ({}, []),
        ({"preflight_seen": {"failed": True}}, []),
        ({"preflight_seen": {"reached": ["abc"]}}, ["abc"]),
        ({"preflight_seen": {"reached": ["abc"]}, "peering_reached": ["def"]}, ["def"]),
    ],
)
def test_what_was_reached(play_role: Play, told: dict[str, Any], reached: list[str]) -> None:
    hosts = {name: {"mesh_kubeconfig": f"/nonexistent/{name}"} for name in ("east", "west")}
    result = play_role(
        "peering", hosts, "--check", tasks_from="before_istiod", shown="peering_reached", **told
    )
    assert f"peering_reached is {reached}." in result.words, result.text
