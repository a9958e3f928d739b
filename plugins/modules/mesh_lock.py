#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock the clusters of a mesh for this run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_lock
short_description: Check the clusters of a mesh, and lock them for this run
version_added: 0.1.0
description:
  - Checks that there is a mesh, and that each kubeconfig is the one of its cluster, by the record that the
    cluster keeps and by the UID of its namespace C(kube-system). A cluster that has no kubeconfig yet, or
    does not answer, is passed over.
  - Then locks its clusters for this run of Ansible, so that no two runs that
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
  least:
    description:
      - How many members there must be.
    type: int
    default: 2
  group:
    description:
      - The inventory group that has the members.
    type: str
    default: mesh
  members:
    description:
      - The clusters, as P(exomesh.istio.mesh_members#filter) gives them. They are returned for later tasks.
    type: list
    elements: dict
    default: []
  identify:
    description:
      - Whether to ask the clusters who they are. It is done once for each that has a kubeconfig.
    type: bool
    default: true
  lock:
    description:
      - For whom to lock the clusters. Without it, nothing is locked, and O(held) is checked.
    type: dict
    suboptions:
      run:
        description:
          - In whose name, as P(exomesh.istio.this_run#lookup) gives it.
        type: dict
        required: true
      break:
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
  held:
    description:
      - What an earlier task of this run returned as RV(held). The module fails where it was lost.
    type: dict
requirements:
  - Python package C(kubernetes) >= 31.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Lock the mesh for this run
  exomesh.istio.mesh_lock:
    hosts: "{{ mesh_clusters }}"
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    lock:
      run: "{{ lookup('exomesh.istio.this_run') }}"
  register: mesh
  run_once: true

- name: See whether it is still so
  exomesh.istio.mesh_lock:
    hosts: "{{ mesh_clusters }}"
    held: "{{ mesh.held }}"
  run_once: true
"""

RETURN = r"""
group:
  description: The inventory group.
  type: str
  returned: success
hosts:
  description: Inventory names of all members.
  type: list
  elements: str
  returned: success
members:
  description: The members, as they were given, with the C(uid) of those that answered.
  type: list
  elements: dict
  returned: success
held:
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

from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.members import Member
from ..module_utils._base.processes import Process
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.identity import IDENTIFY_SECONDS, identify
from ..module_utils._kubernetes.lease import Holder
from ..module_utils._lifecycle.run_lock import GRACE_SECONDS, Held, hold


def run(task: Task) -> Result:
    """Check that there is a mesh, and lock it; gives the module's result."""
    params = task.params
    if len(params["hosts"]) < params["least"]:
        raise ExomeshError(
            f"The inventory group {params['group']} has {len(params['hosts'])} hosts, but a mesh needs two "
            "or more",
            "too_few_members",
            next_step="Give the inventory with -i and put your clusters into that group, or name another "
            "one: -e mesh_group=...",
        )
    members = _identified(params["members"]) if params["identify"] else params["members"]
    held = params["held"] or {}
    for told in held.get("holds") or ():
        Held.parse(told).require()
    if params["lock"] and not task.check_mode:
        held = _lock(task, params["lock"], held)
    mesh = {"group": params["group"], "hosts": params["hosts"], "members": members}
    return {"changed": False, **mesh, **({"held": held} if held else {})}


def _identified(members: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the members with their UIDs; all are asked where one was not, as it may be another's double."""
    if all(member.get("uid") is not None for member in members):
        return members
    uids = identify([Member.of(member) for member in members])
    return [{**member, "uid": uids.get(member["name"])} for member in members]


def _lock(task: Task, wanted: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    """Lock what is not held yet; gives all that is."""
    process = Process.parse(wanted["run"])
    if process is None:
        raise ExomeshError(
            "lock.run is not what the lookup this_run gives",
            "invalid_option",
            next_step="Set it to {{ lookup('exomesh.istio.this_run') }}",
        )
    holder = Holder(process, str(wanted["run"].get("user")), str(wanted["run"].get("playbook") or ""))
    names = {member.get("host") or member["name"]: member for member in task.params["members"]}
    clusters = {
        member["name"]: member["kubeconfig"]
        for host, member in names.items()
        if host not in held.get("hosts", ())
    }
    if not clusters:
        return held
    got = hold(clusters, holder, wanted["timeout"], wanted["break"])
    for name, why in got.left_out.items():
        task.warn(f"Cluster {name} is not locked for this run: {why}")
    for name, who in got.followed.items():
        task.warn(f"Cluster {name} was held by {who} before: this run waited for its end, or took it over")
    return {
        "hosts": [*held.get("hosts", ()), *names],
        "holds": [*held.get("holds", ()), got.told()],
    }


SPEC = Spec(
    argument_spec={
        "hosts": {"type": "list", "elements": "str", "required": True},
        "least": {"type": "int", "default": 2},
        "group": {"type": "str", "default": "mesh"},
        "members": {"type": "list", "elements": "dict", "default": []},
        "identify": {"type": "bool", "default": True},
        "lock": {
            "type": "dict",
            "options": {
                "run": {"type": "dict", "required": True},
                "break": {"type": "bool", "default": False},
                "timeout": {"type": "int", "default": 60},
            },
        },
        "held": {"type": "dict"},
    },
    time_limit=lambda params: (
        (params["lock"] or {"timeout": 0})["timeout"] + GRACE_SECONDS + IDENTIFY_SECONDS
    ),
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
