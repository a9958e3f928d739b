#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report which members of a mesh lack something of their peers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: peering_info
short_description: Report which members of a mesh lack something of their peers
version_added: 0.1.0
description:
  - Reports for every member whether M(exomesh.istio.remote_secrets) with the same options would find
    something to do. That module asks every peer for every pair. A run that changes nothing can skip it.
  - Reads each cluster once, concurrently, in about a dozen requests, no matter how many members there are.
    The same code judges what was read.
  - A member that does not answer is named as well, and so are its peers. A member is also named if it uses
    objects that others made, such as secrets of C(istioctl) or the account that all readers share. The reason
    is that the module only reads what this collection made.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.attributes.info_module
  - exomesh.istio.members
options:
  own_accounts:
    description:
      - See the same option of M(exomesh.istio.remote_secrets).
    type: bool
    default: true
  least_privilege:
    description:
      - See the same option of M(exomesh.istio.remote_secrets).
    type: bool
    default: false
  reciprocal:
    description:
      - See the same option of M(exomesh.istio.remote_secrets).
    type: bool
    default: false
  prune:
    description:
      - See the same option of M(exomesh.istio.remote_secrets).
    type: bool
    default: false
  left_out:
    description:
      - Names of clusters that are members, but are not among O(members) in this run. They are not reported as
        strangers.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Time that the whole module may take, in seconds.
    type: int
    default: 120
requirements:
  - Python package C(kubernetes) >= 31.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Find the clusters that need changes of their remote secrets
  exomesh.istio.peering_info:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    prune: true
  register: peering
  run_once: true

- name: Create the remote secrets of these clusters
  exomesh.istio.remote_secrets:
    kubeconfig: "{{ mesh_kubeconfig }}"
    name: "{{ mesh_cluster_name }}"
    members: "{{ peering.members }}"
    prune: true
  when: mesh_cluster_name in peering.gaps
"""

RETURN = r"""
gaps:
  description: Members that lack something, each with the first gap that was found.
  type: dict
  returned: always
  sample:
    frankfurt: create Secret istio-system/istio-remote-secret-vienna
strangers:
  description:
    - Clusters that are not members, by the member that still knows them. That member has them in its record,
      or has remote secrets or accounts for them. Nothing is done about them here, because a cluster that is
      missing in the inventory has not left the mesh.
  type: dict
  returned: always
  sample:
    frankfurt: [sofia]
merging:
  description:
    - Services that several clusters have, and that become one when these clusters are peers. By host, the
      clusters. They are named in a warning, too.
    - It is empty for clusters that are peers already.
  type: dict
  returned: always
  sample:
    postgres.data.svc.cluster.local: [vienna, frankfurt]
members:
  description:
    - The members as they were given, with C(uid) and C(server) of those that answer, for
      M(exomesh.istio.remote_secrets).
  type: list
  elements: dict
  returned: always
"""

from typing import Any

from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._peering.gaps import find_gaps
from ..module_utils._peering.peering import Options

OPTIONS_SPEC: dict[str, dict[str, Any]] = {
    "own_accounts": {"type": "bool", "default": True},
    "least_privilege": {"type": "bool", "default": False},
    "reciprocal": {"type": "bool", "default": False},
    "prune": {"type": "bool", "default": False},
}


def run(task: Task) -> Result:
    """Read every cluster once, and return the module's result."""
    options = Options(**{name: task.params[name] for name in OPTIONS_SPEC})
    members = members_of(task.params)
    found = find_gaps(members, options)
    left_out = set(task.params["left_out"])
    strangers = {
        member: sorted(unknown)
        for member, those in found.strangers.items()
        if (unknown := set(those) - left_out)
    }
    for name in sorted({stranger for those in strangers.values() for stranger in those}):
        holders = [member for member, those in strangers.items() if name in those]
        task.warn(
            f"{', '.join(holders)}: {name} is a member by the record, a remote secret or an account there, "
            f"but not in this inventory. What is there for it stays. Put {name} back into the inventory, or "
            "remove it from the mesh: "
            f"{members[0].playbook}.remove_cluster -e cluster={name}"
        )
    for warning in found.merging.warnings():
        task.warn(warning)
    known = [
        {**given, "uid": member.uid, "server": member.server}
        for given, member in zip(task.params["members"], found.members, strict=True)
    ]
    return {
        "changed": False,
        "gaps": found.reasons,
        "strangers": strangers,
        "merging": found.merging.services,
        "members": known,
    }


SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        **OPTIONS_SPEC,
        "left_out": {"type": "list", "elements": "str", "default": []},
        "timeout": {"type": "int", "default": 120},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
