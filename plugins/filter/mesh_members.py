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
  - Fails with all that is wrong with the mesh, at once. Names, networks, SKS clusters and API servers are
    unique, names can be names of objects and folders, and nobody is without a peer.
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
  own:
    description:
      - What holds for one host in its play, by the names of the variables, and its inventory name as C(host).
      - Where it is not what the inventory says of that host, the filter fails, as the other clusters go
        by the inventory.
    type: dict
  checked:
    description:
      - What the filter gave before in the same run. It is taken where it is of the same hosts, so that the
        mesh is worked out once.
    type: list
    elements: dict
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
    mesh:
      description: ID of the mesh (C(mesh_id)).
      type: str
    variables:
      description: Those of its inventory variables that its cluster's record keeps.
      type: dict
    inventory:
      description: Sources of the inventory, as C(ansible-playbook) was given them.
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
    clusters: Iterable[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    state_dir: str,
    own: Mapping[str, Any] | None = None,
    checked: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """The members of a mesh; see the documentation of the filter.

    :raises AnsibleFilterError: all that is wrong with the mesh, or what a host is told of itself differs.
    """
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
    # Once for each host: Ansible puts its variables together anew whenever they are asked for.
    mesh = [Host.of(name, hostvars[name], kubeconfig) for name in names if name in hostvars]
    problems += problems_of(mesh)
    if problems:
        raise AnsibleFilterError(". ".join(problems))
    return members(mesh)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mesh_members": mesh_members}
