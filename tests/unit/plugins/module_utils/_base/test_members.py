# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that name members: by both of their names, and never a name that nobody has."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import (
    Member,
    member_named,
    members_named,
)

MEMBERS = [
    Member("vie", "network-vie", "/vie", host="vienna"),
    Member("vienna", "network-vienna", "/vienna", host="fra"),
    Member("gva", "network-gva", "/gva"),
]


@pytest.mark.parametrize(
    ("given", "name"), [("vienna", "vie"), ("vie", "vie"), ("fra", "vienna"), (" gva ", "gva")]
)
def test_a_member_has_two_names_and_the_inventory_goes_first(given: str, name: str) -> None:
    assert member_named(MEMBERS, "cluster", given).name == name


@pytest.mark.parametrize(("given", "told"), [("sofia", "sofia"), ("", "nothing"), ("v", "v"), ("*", "*")])
def test_a_name_that_nobody_has_is_refused_with_those_of_all(given: str, told: str) -> None:
    with pytest.raises(ExomeshError) as refused:
        member_named(MEMBERS, "cluster", given)
    assert refused.value.code == "unknown_member"
    assert f"cluster names {told}, which is no member" in str(refused.value)
    assert "vie (host vienna), vienna (host fra), gva" in str(refused.value)


def test_of_several_names_each_must_be_a_member() -> None:
    assert [member.name for member in members_named(MEMBERS, "only", [" fra", "", "gva"])] == [
        "vienna",
        "gva",
    ]
    with pytest.raises(ExomeshError, match="only names sofia"):
        members_named(MEMBERS, "only", ["fra", "sofia"])
