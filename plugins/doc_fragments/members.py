# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option with which modules get the members of a mesh."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  members:
    description:
      - All members of the mesh, as P(exomesh.istio.mesh_members#filter) returns them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the member in the mesh.
        type: str
        required: true
      network:
        description:
          - Network of the member.
        type: str
        required: true
      kubeconfig:
        description:
          - File with the credentials of the member.
        type: path
        required: true
      server:
        description:
          - Address at which the peers reach the member's API. Without it, the one in its kubeconfig is used.
        type: str
      peers:
        description:
          - Names of the members with which it exchanges remote secrets. Without it, these are all others.
        type: list
        elements: str
      zone:
        description:
          - Zone of the member, for reports.
        type: str
      mesh:
        description:
          - ID of the mesh. If it is given, a cluster whose record has another mesh ID is refused.
        type: str
      variables:
        description:
          - Inventory variables of the member, for the record that its cluster keeps.
        type: dict
      uid:
        description:
          - UID of the member's namespace C(kube-system), as M(exomesh.istio.peering_info) has read it.
        type: str
      host:
        description:
          - Inventory name of the member, for the commands in a report. Without it, O(members[].name) is used.
        type: str
      inventory:
        description:
          - Sources of the inventory that has the member, for the same commands.
        type: list
        elements: str
"""
