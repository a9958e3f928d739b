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
      description: File with its credentials (C(mesh_kubeconfig)).
      type: str
    server:
      description: Address of its API for the peers (C(peering_server)); none where it is the kubeconfig's.
      type: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def mesh_members(
    clusters: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], state_dir: str
) -> list[dict[str, str | None]]:
    """The members of a mesh; see the documentation of the filter.

    :raises AnsibleFilterError: a name is not in the inventory, or two members share a mesh name.
    """
    members = []
    for host in clusters:
        if host not in hostvars:
            raise AnsibleFilterError(f"mesh_clusters names {host}, which is not in the inventory")
        variables = hostvars[host]
        name = str(variables.get("mesh_cluster_name") or host)
        members.append(
            {
                "host": str(host),
                "name": name,
                "network": str(variables.get("mesh_network") or f"network-{name}"),
                "kubeconfig": str(variables.get("mesh_kubeconfig") or f"{state_dir}/{name}/kubeconfig"),
                "server": str(variables.get("peering_server") or "") or None,
            }
        )
    hosts: dict[str | None, str | None] = {}
    for member in members:
        other = hosts.setdefault(member["name"], member["host"])
        if other != member["host"]:
            raise AnsibleFilterError(
                f"{other} and {member['host']} have the same mesh_cluster_name {member['name']}: "
                "names must be unique in a mesh"
            )
    return members


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mesh_members": mesh_members}
