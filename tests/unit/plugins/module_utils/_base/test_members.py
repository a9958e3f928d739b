# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Members, as the filter gives them to modules, and the commands that name them."""

from __future__ import annotations

import shlex

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import (
    Member,
    member_named,
    members_named,
    members_of,
)

FRA = {"name": "fra", "network": "n1", "kubeconfig": "/k/fra"}
VIE = {"name": "vie", "network": "n2", "kubeconfig": "/k/vie", "peers": []}
MEMBERS = [
    Member("vie", "network-vie", "/vie", host="vienna"),
    Member("vienna", "network-vienna", "/vienna", host="fra"),
    Member("gva", "network-gva", "/gva"),
]


def test_without_peers_it_is_a_peer_of_all() -> None:
    fra, vie, gva = members_of({"members": [FRA, VIE, {**FRA, "name": "gva", "peers": ["vie"]}]})
    assert (fra.peers, vie.peers, gva.peers) == (("vie", "gva"), (), ("vie",))


def test_what_is_told_is_kept() -> None:
    told = {"server": "https://a", "zone": "de-fra-1", "mesh": "m1", "variables": {"v": 1}, "uid": "u"}
    member = Member.of({**FRA, **told})
    assert {name: getattr(member, name) for name in told} == told


def test_commands_can_be_pasted_into_a_shell() -> None:
    member = Member.of({**FRA, "host": "my host", "inventory": ["/a b/hosts", "$(id)"]})
    words = shlex.split(f"{member.playbook}.verify --limit {member.limit}")
    sources = ["-i", "/a b/hosts", "-i", "$(id)"]
    assert words == ["ansible-playbook", *sources, "exomesh.istio.verify", "--limit", "my host"]
    assert Member.of(FRA).playbook == "ansible-playbook -i INVENTORY exomesh.istio"
    assert Member.of(FRA).limit == "fra"


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
