#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the clusters of a mesh for this run alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_lock
short_description: Have the clusters of a mesh for this run alone
version_added: 0.2.0
description:
  - Checks that there is a mesh, and locks its clusters for this run of Ansible, so that no two runs that
    change something meet in them. Waits for another run that has one of them, and fails with its name where
    that takes too long.
  - All clusters are locked, or none, so that no two runs can wait for each other.
  - The lock is the Lease C(exomesh-run) of namespace C(kube-system). A process on the controller renews it,
    ends with the run however that ends, and deletes it then. Where it could not, as the machine is gone,
    others have the cluster 30 seconds after the last renewal; where the run is proved to have ended, at once.
  - A cluster that does not answer, or has no kubeconfig yet, is left out with a warning.
  - In check mode nothing is locked, and nobody is waited for.
extends_documentation_fragment:
  - exomesh.istio.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  hosts:
    description:
      - Inventory names of all members.
    type: list
    elements: str
    required: true
  members_least:
    description:
      - How many members there must be.
    type: int
    default: 2
  group:
    description:
      - The inventory group that has the members, for messages.
    type: str
    default: mesh
  members:
    description:
      - The clusters to lock, as P(exomesh.istio.mesh_members#filter) gives them. None when empty.
    type: list
    elements: dict
    default: []
  run:
    description:
      - In whose name, as P(exomesh.istio.this_run#lookup) gives it. Required with O(members).
    type: dict
  held:
    description:
      - What an earlier task of this run returned as RV(lock). The module fails where it was lost.
    type: dict
  break_lock:
    description:
      - Take the clusters from the run that has them, whoever that is. It fails at its next step.
      - For a run that hangs, or whose machine cannot be reached. One that has ended needs no breaking.
    type: bool
    default: false
  timeout:
    description:
      - Seconds to wait for another run.
    type: int
    default: 60
requirements:
  - Python package C(kubernetes) >= 31.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Have the mesh for this run alone
  exomesh.istio.mesh_lock:
    hosts: "{{ mesh_clusters }}"
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    run: "{{ lookup('exomesh.istio.this_run') }}"
  run_once: true
"""

RETURN = r"""
lock:
  description: What this run holds, for O(held) of later tasks.
  type: dict
  returned: when clusters were locked, by this task or by the one that O(held) is of
  contains:
    hosts:
      description: Inventory names of the members that were to be locked.
      type: list
      elements: str
    holds:
      description:
        - For each task that locked some, C(clusters) with their kubeconfigs, C(left_out) with the reasons,
          C(followed) with those who had to be waited for or were gone, and who holds them.
      type: list
      elements: dict
failure:
  description:
    - Why the module failed, for programs. Its C(code) is V(too_few_members), V(locked), with the holder in
      C(details), V(lock_lost), or another one.
  type: dict
  returned: failure
"""

from ansible_collections.exomesh.istio.plugins.module_utils._base.processes import Process
from ansible_collections.exomesh.istio.plugins.module_utils._base.task import Result, Spec, Task, run_module
from ansible_collections.exomesh.istio.plugins.module_utils._cluster_lock import Holder
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._lifecycle.run_lock import (
    GRACE_SECONDS,
    Held,
    hold,
)


def run(task: Task) -> Result:
    """Check that there is a mesh, and lock it; gives the module's result."""
    params = task.params
    if len(params["hosts"]) < params["members_least"]:
        raise ExomeshError(
            f"The inventory group {params['group']} has {len(params['hosts'])} hosts, but a mesh needs two "
            "or more",
            "too_few_members",
            next_step="Give the inventory with -i and put your clusters into that group, or name another "
            "one: -e mesh_group=...",
        )
    earlier = params["held"] or {}
    for told in earlier.get("holds") or ():
        Held.parse(told).require()
    if not params["members"] or task.check_mode:
        return {"changed": False, **({"lock": earlier} if earlier else {})}
    process = Process.parse(params["run"])
    if process is None:
        raise ExomeshError(
            "run is not what the lookup this_run gives",
            "invalid_option",
            next_step="Set it to {{ lookup('exomesh.istio.this_run') }}",
        )
    holder = Holder(process, str(params["run"].get("user")), str(params["run"].get("playbook") or ""))
    clusters = {member["name"]: member["kubeconfig"] for member in params["members"]}
    held = hold(clusters, holder, params["timeout"], params["break_lock"])
    for name, why in held.left_out.items():
        task.warn(f"Cluster {name} is not locked for this run: {why}")
    for name, who in held.followed.items():
        task.warn(f"Cluster {name} was held by {who} before: this run waited for its end, or took it over")
    hosts = [
        *earlier.get("hosts", []),
        *(member.get("host") or member["name"] for member in params["members"]),
    ]
    return {"changed": False, "lock": {"hosts": hosts, "holds": [*earlier.get("holds", []), held.told()]}}


SPEC = Spec(
    argument_spec={
        "hosts": {"type": "list", "elements": "str", "required": True},
        "members_least": {"type": "int", "default": 2},
        "group": {"type": "str", "default": "mesh"},
        "members": {"type": "list", "elements": "dict", "default": []},
        "run": {"type": "dict"},
        "held": {"type": "dict"},
        "break_lock": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 60},
    },
    time_limit=lambda params: params["timeout"] + GRACE_SECONDS,
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
