# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Label selectors; NetworkPolicies and discovery selectors are tested with them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.selectors import selects


def test_an_operator_that_nobody_knows_selects_nothing() -> None:
    assert not selects(
        {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["w"]}]}, {"app": "w"}
    )


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": ["app"]},
        {"matchLabels": "app"},
        {"matchExpressions": ["app"]},
        {"matchExpressions": {"app": "w"}},
        {"matchExpressions": [{"key": ["app"], "operator": "In", "values": ["w"]}]},
        {"matchExpressions": [{"key": "app", "operator": ["In"], "values": ["w"]}]},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": 5}]},
    ],
)
def test_parts_of_another_type_select_nothing(selector: dict[str, Any]) -> None:
    assert not selects(selector, {"app": "w"})
