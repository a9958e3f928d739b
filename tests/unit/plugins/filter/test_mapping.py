# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter mapping: what Ansible takes for a mapping, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.exomesh.istio.plugins.filter.mapping import FilterModule, mapping


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("node_pool=web", {"node_pool": "web"}),
        ("", {}),
        (None, {}),
    ],
)
def test_a_mapping_may_be_a_text(given: Any, wanted: dict[str, Any]) -> None:
    assert mapping(given, "gateway_nlb") == wanted


@pytest.mark.parametrize(
    ("given", "told"),
    [("small", "the text small"), ("[1]", "the text [1]"), ([1], "a list, [1]"), (3, "a int, 3")],
)
def test_what_is_no_mapping_is_refused_by_the_variables_name(given: Any, told: str) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        FilterModule().filters()["mapping"](given, "istio_resources")
    assert f"istio_resources is {told}, but must be a mapping" in str(refused.value)
    assert "-e '{\"istio_resources\": {...}}'" in str(refused.value)
