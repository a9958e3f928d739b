# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: return the members of a mesh, as modules need them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mesh_members
short_description: The members of a mesh, with the defaults of the roles
version_added: 0.1.0
description:
  - Turns inventory names into what modules need to know about each cluster, with the defaults of the roles.
  - Reads only the inventory, so C(--limit) works even if the other hosts have not run.
  - Fails with a list of all faults of the mesh. Names, networks, SKS clusters and API servers must be unique.
    Names must be valid for objects and folders. Every member must have a peer.
  - Peers are members that exchange remote secrets. The variable C(mesh_topology) says which members are
    peers, and must be the same for all members.
  - With V(full), the default, all members are peers of each other. With V(hub-and-spoke), every member is a
    peer of all hubs, and the hubs are peers of each other. Hubs are the members that set C(mesh_hub). With
    V(groups), members are peers if they share one of their C(mesh_groups).
positional: _input, hostvars
options:
  _input:
    description:
      - Inventory names of the members. A text is taken as names that are separated by commas.
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
  own:
    description:
      - Values of one host's variables in its play, by variable name, with its inventory name as C(host).
      - The filter fails if they differ from the inventory, because the other clusters use the inventory.
    type: dict
  checked:
    description:
      - An earlier result of this filter in the same run. It is used again if it has the same hosts, so that
        the mesh is worked out only once.
    type: list
    elements: dict
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Set the members of the mesh
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
      description: Absolute path of the file with its credentials (C(mesh_kubeconfig)).
      type: str
    server:
      description: Address of its API for the peers (C(peering_server)); none if it is the kubeconfig's.
      type: str
    zone:
      description: Its zone (C(sks_zone)).
      type: str
    mesh:
      description: ID of the mesh (C(mesh_id)).
      type: str
    variables:
      description: Its inventory variables that the record of its cluster keeps.
      type: dict
    inventory:
      description: Sources of the inventory, as they were given to C(ansible-playbook).
      type: list
      elements: str
    peers:
      description: Names of the members with which it exchanges remote secrets, in the order of the input.
      type: list
      elements: str
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._base.mesh import Host, disagreements, members, problems_of
from ..module_utils._base.text import printable_line
from .absolute_path import absolute_path


def mesh_members(
    clusters: Iterable[str] | str,
    hostvars: Mapping[str, Mapping[str, Any]],
    state_dir: str,
    own: Mapping[str, Any] | None = None,
    checked: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Return the members of a mesh; see the documentation of the filter.

    :raises AnsibleFilterError: the mesh has faults, or a host's own variables differ from the inventory.
    """
    if isinstance(clusters, str):
        clusters = [name.strip() for name in clusters.split(",") if name.strip()]
    names = list(map(str, clusters))

    def problems(mesh: Sequence[dict[str, Any]]) -> list[str]:
        host = (own or {}).get("host")
        return [
            told for member in mesh if member["host"] == host for told in disagreements(member, own or {})
        ]

    # A task may have set a variable since the mesh was checked.
    if [member["host"] for member in checked] == names and not problems(checked):
        return list(checked)
    found = _work_out(names, hostvars, state_dir)
    if told := problems(found):
        raise AnsibleFilterError(". ".join(told))
    return found


def _work_out(
    names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], state_dir: str
) -> list[dict[str, Any]]:
    def kubeconfig(given: str, name: str) -> str:
        return absolute_path(given or f"{state_dir}/{name}/kubeconfig")

    problems = [
        f"mesh_clusters names {printable_line(name, 99)}, which is not in the inventory"
        for name in names
        if name not in hostvars
    ]
    # Read each host's variables only once, because Ansible merges them again on every access.
    mesh = [Host.of(name, hostvars[name], kubeconfig) for name in names if name in hostvars]
    problems += problems_of(mesh)
    if problems:
        raise AnsibleFilterError(". ".join(problems))
    return members(mesh)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mesh_members": mesh_members}
