# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: find the inventory group that has the members of the mesh."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mesh_group
short_description: The inventory group of the mesh, as an inventory names it
version_added: 0.1.0
description:
  - Returns the value of the variable C(mesh_group) of an inventory's hosts, or V(mesh) if no host has it.
  - Fails if an inventory has several meshes, because it is not known which one is meant.
  - Also fails if only some hosts of the group have the variable.
positional: _input, groups
options:
  _input:
    description:
      - Ansible's C(hostvars).
    type: dict
    required: true
  groups:
    description:
      - Ansible's C(groups).
    type: dict
    required: true
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Show the members
  ansible.builtin.debug:
    msg: "{{ groups[hostvars | exomesh.istio.mesh_group(groups)] }}"
"""

RETURN = r"""
_value:
  description:
    - Name of the group.
  type: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._base.text import printable_line

DEFAULT_GROUP = "mesh"


def mesh_group(hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> str:
    """Return the group that has the members; see the documentation of the filter.

    :raises AnsibleFilterError: the hosts name several groups, or only some hosts of the group name it.
    """
    named: dict[str, list[str]] = {}
    for host in groups.get("all", ()):
        if value := hostvars[host].get("mesh_group"):
            named.setdefault(str(value), []).append(host)
    unnamed = set(groups.get(DEFAULT_GROUP, ())).difference(*named.values())
    found = sorted({*named, *([DEFAULT_GROUP] if unnamed else [])})
    if len(found) > 1:
        shown = ", ".join(printable_line(group, 99) for group in found)
        raise AnsibleFilterError(
            f"The inventory has several meshes: {shown}. Say which one is meant: -e mesh_group=NAME"
        )
    group = found[0] if found else DEFAULT_GROUP
    if named and (others := set(groups.get(group, ())).difference(named[group])):
        shown = ", ".join(printable_line(host, 99) for host in sorted(others))
        raise AnsibleFilterError(
            f"mesh_group is {printable_line(group, 99)} for some hosts, but not for {shown} of that group: "
            "set it for all hosts of the inventory, or for the group"
        )
    return group


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mesh_group": mesh_group}
