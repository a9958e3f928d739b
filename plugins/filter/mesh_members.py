# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the members of a mesh, as modules want them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mesh_members
short_description: The members of a mesh, with the defaults of the roles
version_added: 0.1.0
description:
  - Turns inventory names into what modules need to know of each cluster, with the defaults of the roles.
  - Reads only the inventory, so C(--limit) works without the other hosts having run.
  - Which members are peers, that is, exchange remote secrets, is said by the variable C(mesh_topology), the
    same for all members. V(full), the default, is everyone with everyone. V(hub-and-spoke) is everyone with
    those that set C(mesh_hub), and the hubs with each other. V(groups) is everyone with those that share one
    of its C(mesh_groups).
positional: _input, hostvars
options:
  _input:
    description:
      - Inventory names of the members.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - Ansible's C(hostvars).
    type: dict
    required: true
  state_dir:
    description:
      - Directory of the kubeconfigs, for members that do not set C(mesh_kubeconfig).
    type: str
    required: true
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: The members of the mesh
  ansible.builtin.set_fact:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
"""

RETURN = r"""
_value:
  description:
    - One entry for each member, in the order of the input.
  type: list
  elements: dict
  contains:
    host:
      description: Its inventory name.
      type: str
    name:
      description: Its name in the mesh (C(mesh_cluster_name)).
      type: str
    network:
      description: Its network (C(mesh_network)).
      type: str
    kubeconfig:
      description: File with its credentials (C(mesh_kubeconfig)), its absolute path.
      type: str
    server:
      description: Address of its API for the peers (C(peering_server)); none where it is the kubeconfig's.
      type: str
    zone:
      description: Its zone (C(sks_zone)).
      type: str
    inventory:
      description: Sources of the inventory, as C(ansible-playbook) was given them.
      type: list
      elements: str
    peers:
      description: Names of the members with which it exchanges remote secrets, in the order of the input.
      type: list
      elements: str
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean

from ..module_utils._base.names import CLUSTER_NAME, LABEL_VALUE, RESERVED_NAMES
from ..module_utils._base.text import printable_line
from .absolute_path import absolute_path

TOPOLOGIES = ("full", "hub-and-spoke", "groups")


def mesh_members(
    clusters: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], state_dir: str
) -> list[dict[str, Any]]:
    """The members of a mesh; see the documentation of the filter.

    :raises AnsibleFilterError: a name is not in the inventory, or none; two members share a mesh name; or
        the topology leaves a member without peers.
    """
    members: list[dict[str, Any]] = []
    variables_of: dict[str, Mapping[str, Any]] = {}
    problems: list[str] = []
    for host in clusters:
        if host not in hostvars:
            problems.append(
                f"mesh_clusters names {printable_line(str(host), 99)}, which is not in the inventory"
            )
            continue
        # Once for each host: Ansible puts its variables together anew whenever they are asked for.
        variables = variables_of[host] = hostvars[host]
        name = str(variables.get("mesh_cluster_name") or host)
        network = str(variables.get("mesh_network") or f"network-{name}")
        problems += _bad_names(printable_line(str(host), 99), name, network)
        members.append(
            {
                "host": str(host),
                "name": name,
                "network": network,
                "kubeconfig": absolute_path(
                    str(variables.get("mesh_kubeconfig") or f"{state_dir}/{name}/kubeconfig")
                ),
                "server": str(variables.get("peering_server") or "") or None,
                "zone": str(variables.get("sks_zone") or "") or None,
                "inventory": [str(source) for source in variables.get("ansible_inventory_sources") or []],
            }
        )
    problems += _shared(members, variables_of)
    if problems:
        raise AnsibleFilterError(". ".join(problems))
    for member, peers in zip(members, _peers(members, variables_of), strict=True):
        member["peers"] = peers
    return members


def _bad_names(host: str, name: str, network: str) -> Iterator[str]:
    """What Kubernetes or the state folder would not take."""
    if not CLUSTER_NAME.fullmatch(name):
        yield (
            f"{host} has mesh_cluster_name {printable_line(name, 99)}, which no cluster may have, as folders "
            "and objects are named after it: set mesh_cluster_name of that host to up to 50 small letters, "
            "digits and dashes, with a letter or digit at both ends"
        )
    elif name in RESERVED_NAMES:
        yield f"{host} has mesh_cluster_name {name}, which is a folder of the mesh's state: set another one"
    if not LABEL_VALUE.fullmatch(network):
        yield (
            f"{host} has mesh_network {printable_line(network, 99)}, which is no value of a label: use up to "
            "63 letters, digits, dots, dashes and underscores, with a letter or digit at both ends"
        )


def _shared(members: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What two members have that only one may have."""

    def cluster_of(member: Mapping[str, Any]) -> str:
        variables = hostvars[member["host"]]
        if not member["zone"]:
            return ""
        return f"{variables.get('sks_cluster') or member['host']} in zone {member['zone']}"

    why: dict[str, tuple[Callable[[Mapping[str, Any]], str], str]] = {
        "the same mesh_cluster_name": (lambda member: str(member["name"]), "names must be unique in a mesh"),
        "the same mesh_network": (
            lambda member: str(member["network"]),
            "each cluster is a network of its own, and is reached by its gateway",
        ),
        "the same SKS cluster": (cluster_of, "a cluster is one host"),
    }
    for what, (value_of, reason) in why.items():
        hosts: dict[str, str] = {}
        for member in members:
            value = value_of(member)
            other = hosts.setdefault(value, member["host"])
            if value and other != member["host"]:
                yield f"{other} and {member['host']} have {what} {printable_line(value, 99)}: {reason}"


def _peers(
    members: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[list[str]]:
    """Names of every member's peers, by the topology that all of them name."""
    topology = _topology([member["host"] for member in members], hostvars)
    hubs = {m["host"] for m in members if boolean(hostvars[m["host"]].get("mesh_hub", False))}
    groups = {m["host"]: _groups_of(m["host"], hostvars) for m in members}
    if topology == "hub-and-spoke" and not hubs:
        names = ", ".join(member["host"] for member in members)
        raise AnsibleFilterError(
            f"mesh_topology is hub-and-spoke, but none of {names} is a hub: set mesh_hub: true for one"
        )

    def are_peers(one: str, other: str) -> bool:
        if topology == "hub-and-spoke":
            return one in hubs or other in hubs
        return topology == "full" or not groups[one].isdisjoint(groups[other])

    peers = [
        [
            other["name"]
            for other in members
            if other is not member and are_peers(member["host"], other["host"])
        ]
        for member in members
    ]
    if topology == "groups":
        for host, its_groups in groups.items():
            if not its_groups:
                raise AnsibleFilterError(
                    f"mesh_topology is groups, but {host} is in none: set its mesh_groups"
                )
        for (host, its_groups), found in zip(groups.items(), peers, strict=True):
            if not found:
                raise AnsibleFilterError(
                    f"mesh_topology is groups, but {host} is alone in {', '.join(sorted(its_groups))}: "
                    "no other member has one of its mesh_groups"
                )
    return peers


def _topology(hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    chosen = {host: str(hostvars[host].get("mesh_topology") or TOPOLOGIES[0]) for host in hosts}
    for host, topology in chosen.items():
        if topology not in TOPOLOGIES:
            raise AnsibleFilterError(
                f"{host} has the unknown mesh_topology {topology}: it is one of {', '.join(TOPOLOGIES)}"
            )
        if topology != chosen[hosts[0]]:
            raise AnsibleFilterError(
                f"{hosts[0]} has mesh_topology {chosen[hosts[0]]}, but {host} {topology}: a mesh has one, so "
                "set it for the group"
            )
    return chosen[hosts[0]] if hosts else TOPOLOGIES[0]


def _groups_of(host: str, hostvars: Mapping[str, Mapping[str, Any]]) -> set[str]:
    groups = hostvars[host].get("mesh_groups") or []
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise AnsibleFilterError(f"mesh_groups of {host} is {groups!r}, but must be a list of names")
    return {str(group) for group in groups}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mesh_members": mesh_members}
