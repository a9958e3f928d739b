# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter mesh_members: the roles' defaults, without the roles."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.exomesh.istio.plugins.filter.mesh_members import mesh_members
from ansible_collections.exomesh.istio.plugins.module_utils._base.names import CLUSTER_NAME


def test_defaults_are_those_of_the_roles() -> None:
    assert mesh_members(["vie", "fra"], {"vie": {}, "fra": {}}, "/state") == [
        {
            "host": "vie",
            "name": "vie",
            "network": "network-vie",
            "kubeconfig": "/state/vie/kubeconfig",
            "server": None,
            "zone": None,
            "mesh": "mesh1",
            "variables": {},
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
            "mesh": "mesh1",
            "variables": {},
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
            "mesh": "mesh1",
            "variables": {"peering_server": "https://10.0.0.1:6443", "mesh_network": "alps"},
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


@pytest.mark.parametrize(
    "name", ["eu.prod", "Vienna", "-vie", "vie-", "v" * 51, "../../x", "a/../cluster-admin", "vie\n", "ca"]
)
def test_a_name_of_which_no_object_can_be_named_is_refused(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"vie has mesh_cluster_name .*: set"):
        mesh_members(["vie"], {"vie": {"mesh_cluster_name": name}}, "/state")


@pytest.mark.parametrize("name", ["v", "9", "v" * 50, "mesh-a-2"])
def test_every_name_with_something_around_it_is_one_of_kubernetes(name: str) -> None:
    (member,) = mesh_members(["vie"], {"vie": {"mesh_cluster_name": name}}, "/state")
    for made in (member["network"], f"verify-{name}"):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", made)


def test_the_role_that_comes_before_the_filter_has_the_same_rule() -> None:
    role = Path(__file__).resolve().parents[4] / "roles/kubeconfig/tasks/main.yml"
    assert f"match('{CLUSTER_NAME.pattern}\\\\Z')" in role.read_text()


def test_a_network_that_is_no_value_of_a_label_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="vie has mesh_network the alps, which is no value"):
        mesh_members(["vie"], {"vie": {"mesh_network": "the alps"}}, "/state")


SAME = {"sks_zone": "de-fra-1", "sks_cluster": "one"}


@pytest.mark.parametrize(
    ("vie", "fra", "said"),
    [
        ({"mesh_network": "alps"}, {"mesh_network": "alps"}, "vie and fra have the same mesh_network alps"),
        (SAME, SAME, "vie and fra have the same SKS cluster one in zone de-fra-1"),
        (SAME, {**SAME, "sks_zone": "at-vie-2"}, ""),
    ],
)
def test_what_only_one_member_may_have_is_refused(vie: Any, fra: Any, said: str) -> None:
    if said:
        with pytest.raises(AnsibleFilterError, match=said):
            mesh_members(["vie", "fra"], {"vie": vie, "fra": fra}, "/state")
    else:
        assert len(mesh_members(["vie", "fra"], {"vie": vie, "fra": fra}, "/state")) == 2


def test_all_that_is_wrong_is_told_at_once() -> None:
    hostvars = {
        "vie": {"mesh_cluster_name": "eu.prod"},
        "fra": {"mesh_network": "alps"},
        "muc": {"mesh_network": "alps", "mesh_cluster_name": "ca"},
    }
    with pytest.raises(AnsibleFilterError) as caught:
        mesh_members(["vie", "fra", "muc", "sof"], hostvars, "/state")
    for told in ("eu.prod", "fra and muc have the same mesh_network", "muc has mesh_cluster_name ca", "sof"):
        assert told in str(caught.value)


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


def test_two_hundred_hosts_of_an_inventory_take_no_time(tmp_path: Path) -> None:
    names = [f"cluster{number}" for number in range(200)]
    mesh = {"hosts": {name: {"sks_zone": "de-fra-1"} for name in names}, "vars": {"mesh_id": "shop"}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"mesh": mesh}))
    loader = DataLoader()
    inventory = InventoryManager(loader, [str(tmp_path / "hosts.yml")])
    hostvars = HostVars(inventory, VariableManager(loader, inventory), loader)
    begun = time.process_time()
    members = mesh_members(names, hostvars, "/state")
    assert time.process_time() - begun < 2
    assert [member["mesh"] for member in members] == ["shop"] * 200
    assert all(len(member["peers"]) == 199 for member in members)


def test_a_text_of_names_is_a_list_and_not_a_row_of_letters() -> None:
    hostvars: dict[str, Any] = {"vie": {}, "fra": {}}
    assert mesh_members("vie, fra,", hostvars, "/state") == mesh_members(["vie", "fra"], hostvars, "/state")
    with pytest.raises(
        AnsibleFilterError, match=r"mesh_clusters names vienna, which is not in the inventory"
    ):
        mesh_members("vienna", hostvars, "/state")
