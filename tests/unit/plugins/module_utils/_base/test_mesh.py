# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh that an inventory describes: every mistake is told, and no other."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.mesh import (
    Host,
    disagreements,
    members,
    problems_of,
)

Inventory = dict[str, dict[str, Any]]
Mistake = Callable[[Inventory, list[str]], str]
"""Makes one mistake in hosts that nobody else touches; gives a pattern of what is to be told of it."""


def mesh_of(inventory: Inventory) -> list[Host]:
    return [
        Host.of(host, variables, lambda given, name: given or f"/state/{name}/kubeconfig")
        for host, variables in inventory.items()
    ]


def bad_name(inventory: Inventory, hosts: list[str]) -> str:
    host = hosts.pop()
    name = random.choice(["eu.prod", "../../x", "UPPER", "a" * 51, "x/../cluster-admin", "-a"])
    inventory[host]["mesh_cluster_name"] = name
    return rf"{host} has mesh_cluster_name {re.escape(name)}, which no cluster may have"


def reserved_name(inventory: Inventory, hosts: list[str]) -> str:
    host, name = hosts.pop(), random.choice(["ca", "istioctl", "reports"])
    inventory[host]["mesh_cluster_name"] = name
    return rf"{host} has mesh_cluster_name {name}, which is a folder"


def bad_network(inventory: Inventory, hosts: list[str]) -> str:
    host = hosts.pop()
    inventory[host]["mesh_network"] = random.choice(["the alps", "a/b", "-a", "n" * 64])
    return rf"{host} has mesh_network .*, which is no value of a label"


def same_name(inventory: Inventory, hosts: list[str]) -> str:
    one, other = hosts.pop(), hosts.pop()
    inventory[one]["mesh_cluster_name"] = inventory[other]["mesh_cluster_name"] = f"both-{one}"
    return rf"({one} and {other}|{other} and {one}) have the same mesh_cluster_name both-{one}"


def same_network(inventory: Inventory, hosts: list[str]) -> str:
    one, other = hosts.pop(), hosts.pop()
    inventory[one]["mesh_network"] = f"network-{other}"  # the other's default
    return rf"({one} and {other}|{other} and {one}) have the same mesh_network network-{other}"


def same_sks_cluster(inventory: Inventory, hosts: list[str]) -> str:
    one, other = hosts.pop(), hosts.pop()
    inventory[one] |= {"sks_cluster": other, "sks_zone": "at-vie-2"}
    inventory[other] |= {"sks_zone": "at-vie-2"}
    return rf"({one} and {other}|{other} and {one}) have the same SKS cluster {other} in zone at-vie-2"


def same_server(inventory: Inventory, hosts: list[str]) -> str:
    one, other = hosts.pop(), hosts.pop()
    inventory[one]["peering_server"] = inventory[other]["peering_server"] = f"https://{one}:6443"
    return rf"({one} and {other}|{other} and {one}) have the same peering_server https://{one}:6443"


def other_mesh(inventory: Inventory, hosts: list[str]) -> str:
    host = hosts.pop(0) if hosts[0] != next(iter(inventory)) else hosts.pop()
    inventory[host]["mesh_id"] = f"mesh-of-{host}"
    return rf"has mesh_id mesh1, but {host} mesh-of-{host}: a mesh has one"


def no_boolean(inventory: Inventory, hosts: list[str]) -> str:
    host = hosts.pop()
    inventory[host]["mesh_hub"] = "perhaps"
    return rf"mesh_hub of {host} is perhaps, but must be true or false"


def no_list(inventory: Inventory, hosts: list[str]) -> str:
    host = hosts.pop()
    inventory[host]["mesh_groups"] = "east"
    return rf"mesh_groups of {host} is 'east', but must be a list"


MISTAKES: tuple[Mistake, ...] = (
    bad_name,
    reserved_name,
    bad_network,
    same_name,
    same_network,
    same_sks_cluster,
    same_server,
    other_mesh,
    no_boolean,
    no_list,
)


@pytest.mark.parametrize("seed", range(60))
def test_every_mistake_of_an_inventory_is_told_and_no_other(seed: int) -> None:
    random.seed(seed)
    count = random.randint(8, 20)
    inventory: Inventory = {f"cluster{number}": {} for number in range(count)}
    for host in inventory:  # what is right is told nothing of
        if random.random() < 0.3:
            inventory[host] |= {"mesh_network": f"net-{host}", "sks_zone": "de-fra-1"}
    hosts = list(inventory)[1:]
    random.shuffle(hosts)
    for variable in ("mesh_network", "sks_zone"):  # mistakes begin with defaults
        for host in hosts:
            inventory[host].pop(variable, None)
    mistakes = random.sample(MISTAKES, random.randint(0, 3))
    wanted = [mistake(inventory, hosts) for mistake in mistakes]
    told = problems_of(mesh_of(inventory))
    for pattern in wanted:
        assert sum(bool(re.search(pattern, problem)) for problem in told) == 1, (pattern, told)
    assert len(told) == len(wanted), told


def test_what_is_right_gives_members_with_what_their_records_keep() -> None:
    inventory = {"fra": {"sks_zone": "de-fra-1", "sks_cluster": "one"}, "vie": {"mesh_hub": True}}
    mesh = members(mesh_of(inventory))
    assert [member["variables"] for member in mesh] == [inventory["fra"], inventory["vie"]]
    assert [member["peers"] for member in mesh] == [["vie"], ["fra"]]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"mesh_network": "network-fra"}, ""),
        ({"mesh_network": "alps"}, "fra has mesh_network alps in its play or role, but network-fra in the"),
        ({"mesh_topology": "hub-and-spoke"}, "fra has mesh_topology hub-and-spoke"),
        ({"mesh_kubeconfig": "/elsewhere"}, "fra has mesh_kubeconfig /elsewhere"),
        ({"mesh_cluster_name": "vie"}, "fra has mesh_cluster_name vie"),
        ({"mesh_id": "mesh2"}, "fra has mesh_id mesh2"),
        ({"mesh_hub": "yes"}, "fra has mesh_hub yes"),
        ({"mesh_hub": "no", "mesh_groups": []}, ""),
        ({"mesh_groups": ["a"]}, r"fra has mesh_groups \['a'\]"),
        ({"peering_server": "https://elsewhere"}, "fra has peering_server"),
    ],
)
def test_what_a_play_says_of_a_host_and_its_inventory_does_not(own: dict[str, Any], told: str) -> None:
    member = members(mesh_of({"fra": {}, "vie": {}}))[0]
    found = disagreements(member, own)
    assert bool(found) == bool(told)
    assert re.search(told, "".join(found))
