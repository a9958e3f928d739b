# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter mesh_members: the roles' defaults, without the roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.exomesh.istio.plugins.filter.mesh_members import mesh_members


def test_defaults_are_those_of_the_roles() -> None:
    assert mesh_members(["vie", "fra"], {"vie": {}, "fra": {}}, "/state") == [
        {
            "host": "vie",
            "name": "vie",
            "network": "network-vie",
            "kubeconfig": "/state/vie/kubeconfig",
            "server": None,
            "zone": None,
            "inventory": [],
            "peers": ["fra"],
        },
        {
            "host": "fra",
            "name": "fra",
            "network": "network-fra",
            "kubeconfig": "/state/fra/kubeconfig",
            "server": None,
            "zone": None,
            "inventory": [],
            "peers": ["vie"],
        },
    ]


def test_variables_of_a_host_win() -> None:
    variables = {
        "mesh_cluster_name": "vienna",
        "mesh_network": "alps",
        "mesh_kubeconfig": "/keys/v",
        "peering_server": "https://10.0.0.1:6443",
        "ansible_inventory_sources": ["/inventory"],
    }
    assert mesh_members(["vie"], {"vie": variables}, "/state") == [
        {
            "host": "vie",
            "name": "vienna",
            "network": "alps",
            "kubeconfig": "/keys/v",
            "server": "https://10.0.0.1:6443",
            "zone": None,
            "inventory": ["/inventory"],
            "peers": [],
        }
    ]


def test_a_relative_kubeconfig_is_one_from_where_ansible_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hosts = {"vie": {}, "fra": {"mesh_kubeconfig": "fra"}}
    members = mesh_members(hosts, hosts, "state")
    assert [member["kubeconfig"] for member in members] == [
        f"{tmp_path}/state/vie/kubeconfig",
        f"{tmp_path}/fra",
    ]


def test_defaults_follow_the_mesh_name() -> None:
    (member,) = mesh_members(["vie"], {"vie": {"mesh_cluster_name": "vienna"}}, "/state")
    assert member["network"] == "network-vienna"
    assert member["kubeconfig"] == "/state/vienna/kubeconfig"


def test_a_host_that_is_not_in_the_inventory_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="names fra, which is not in the inventory"):
        mesh_members(["fra"], {"vie": {}}, "/state")


def test_two_members_of_one_name_are_refused() -> None:
    hostvars = {"vie": {"mesh_cluster_name": "one"}, "fra": {"mesh_cluster_name": "one"}}
    with pytest.raises(AnsibleFilterError, match="vie and fra have the same mesh_cluster_name one"):
        mesh_members(["vie", "fra"], hostvars, "/state")


def peers(**hostvars: dict[str, Any]) -> dict[str, list[str]]:
    """Peers by member."""
    return {member["name"]: member["peers"] for member in mesh_members(hostvars, hostvars, "/state")}


def test_spokes_are_peers_of_the_hubs_only() -> None:
    hub, spoke = ({"mesh_topology": "hub-and-spoke", "mesh_hub": is_hub} for is_hub in (True, "no"))
    assert peers(vie=spoke, fra=hub, gva=spoke, muc=hub) == {
        "vie": ["fra", "muc"],
        "fra": ["vie", "gva", "muc"],
        "gva": ["fra", "muc"],
        "muc": ["vie", "fra", "gva"],
    }


def test_groups_are_peers_within_each() -> None:
    def member(*groups: str) -> dict[str, Any]:
        return {"mesh_topology": "groups", "mesh_groups": list(groups)}

    assert peers(vie=member("east"), fra=member("east", "west"), gva=member("west")) == {
        "vie": ["fra"],
        "fra": ["vie", "gva"],
        "gva": ["fra"],
    }


@pytest.mark.parametrize(
    ("vie", "fra", "said"),
    [
        ({"mesh_topology": "star"}, {}, "vie has the unknown mesh_topology star"),
        (
            {"mesh_topology": "full"},
            {"mesh_topology": "groups"},
            "vie has mesh_topology full, but fra groups",
        ),
        ({"mesh_topology": "hub-and-spoke"}, {"mesh_topology": "hub-and-spoke"}, "none of vie, fra is a hub"),
        (
            {"mesh_topology": "groups", "mesh_groups": ["a"]},
            {"mesh_topology": "groups"},
            "fra is in none: set its mesh_groups",
        ),
        (
            {"mesh_topology": "groups", "mesh_groups": ["a", "b"]},
            {"mesh_topology": "groups", "mesh_groups": ["c"]},
            "vie is alone in a, b",
        ),
        ({"mesh_groups": "a"}, {}, "mesh_groups of vie is 'a', but must be a list"),
    ],
)
def test_a_bad_topology_is_refused_by_name(vie: dict[str, Any], fra: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        peers(vie=vie, fra=fra)
