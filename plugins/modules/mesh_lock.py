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
  - Checks that there is a mesh, and that each kubeconfig belongs to its cluster. The record that the cluster
    keeps, and the UID of its namespace C(kube-system), show that. A cluster that has no kubeconfig yet, or
    does not answer, is skipped.
  - Then locks the clusters for this run of Ansible, so that two runs never change the same cluster at once.
    Waits for another run that has one of the clusters, and fails with its name if that takes too long.
  - Locks all clusters or none, so that no two runs can wait for each other.
  - The lock is the Lease C(exomesh-run) in namespace C(kube-system). A process on the controller renews it.
    The process ends with the run, no matter how the run ends, and then deletes the Lease.
  - If the process could not delete the Lease, because the machine is gone, others get the cluster 30 seconds
    after the last renewal. If the run is proved to have ended, they get it at once.
  - A cluster that does not answer, or has no kubeconfig yet, is not locked, and gives a warning. With
    O(look), all clusters are first asked at once, so that a silent one costs one time-out in the whole run.
  - In check mode, the module locks nothing and waits for nobody.
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
      - The smallest number of members that a mesh must have.
    type: int
    default: 2
  group:
    description:
      - The inventory group that has the members.
    type: str
    default: mesh
  members:
    description:
      - The clusters, as P(exomesh.istio.mesh_members#filter) returns them. They are returned for later tasks.
    type: list
    elements: dict
    default: []
  lock:
    description:
      - The run for which the clusters are locked. Without it, nothing is locked, and O(held) is checked.
    type: dict
    suboptions:
      run:
        description:
          - The run, as P(exomesh.istio.this_run#lookup) returns it.
        type: dict
        required: true
      break:
        description:
          - Take the clusters from the run that has them, whichever run that is. That run fails at its next
            step.
          - Use it for a run that hangs, or whose machine cannot be reached. It is not needed for a run that
            has ended.
        type: bool
        default: false
      timeout:
        description:
          - Seconds to wait for another run.
        type: int
        default: 60
  held:
    description:
      - RV(held) of an earlier task of this run. The module fails if that lock was lost.
    type: dict
  look:
    description:
      - Whether to ask all members at once if they answer. This is done only once in a run, see O(seen).
    type: bool
    default: false
  play:
    description:
      - Inventory names of the hosts of this play. Only these members are left out or judged. Other members
        may be missing from the play because of C(--limit). The tasks that need them report their faults.
    type: list
    elements: str
    default: []
  troubles:
    description:
      - Why members have failed in this run, by inventory name.
    type: dict
    default: {}
  treatment:
    description:
      - What to do with members that do not answer or have failed. V(tell) only reports them, for playbooks
        that can work without them. V(collect) leaves them out. V(judge) then decides by O(on_failure) whether
        the run goes on.
    type: str
    choices: [tell, collect, judge]
    default: tell
  on_failure:
    description:
      - With O(treatment=judge), V(stop) fails with a list of all faults, unless an earlier task has judged.
      - V(skip) leaves out the members in trouble, as long as two members remain.
    type: str
    default: stop
  seen:
    description:
      - RV(seen) of an earlier task of this run.
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

- name: Check that the run still has the lock
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
  description: Inventory names of all members that are not left out.
  type: list
  elements: str
  returned: success
members:
  description: The same members, as they were given, with the C(uid) of those that answered.
  type: list
  elements: dict
  returned: success
missing:
  description: Why members are left out, by inventory name.
  type: dict
  returned: success
left_out:
  description: Names in the mesh of the members that are left out.
  type: list
  elements: str
  returned: success
silent:
  description: Why other members are known not to answer, by name in the mesh.
  type: dict
  returned: success
seen:
  description: What is known about the members, for O(seen) of later tasks.
  type: dict
  returned: success
  contains:
    troubles:
      description: Why members do not answer or have failed, by inventory name.
      type: dict
    missing:
      description: The same as RV(missing).
      type: dict
    looked:
      description: Whether all members were asked.
      type: bool
    judged:
      description: Whether a task has decided that the run can go on.
      type: bool
held:
  description: The locks that this run holds, for O(held) of later tasks.
  type: dict
  returned: when clusters were locked, by this task or by the task that returned O(held)
  contains:
    hosts:
      description: Inventory names of the members that were to be locked.
      type: list
      elements: str
    holds:
      description:
        - For each task that locked clusters, C(clusters) with their kubeconfigs, C(left_out) with the
          reasons, C(followed) with the former holder of each cluster, and who holds the clusters now.
      type: list
      elements: dict
failure:
  description:
    - Why the module failed, for programs. Its C(code) is V(too_few_members), V(members_in_trouble), with the
      causes in C(details), V(locked), with the holder in C(details), V(lock_lost), or another one.
  type: dict
  returned: failure
"""

from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.processes import Process
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._kubernetes.api import LOOK_SECONDS
from ..module_utils._kubernetes.lease import Holder
from ..module_utils._lifecycle.attendance import Attendance, attend
from ..module_utils._lifecycle.run_lock import GRACE_SECONDS, Held, hold


def run(task: Task) -> Result:
    """Check that there is a mesh, lock it, and return the module's result."""
    params = task.params
    if len(params["hosts"]) < params["least"]:
        raise ExomeshError(
            f"The inventory group {params['group']} has {len(params['hosts'])} hosts, but a mesh needs two "
            "or more",
            "too_few_members",
            next_step="Give the inventory with -i and put your clusters into that group, or name another "
            "one: -e mesh_group=NAME",
        )
    there = attend(params, task.check_mode)
    held = params["held"] or {}
    for told in held.get("holds") or ():
        Held.parse(told).require()
    if params["lock"] and not task.check_mode:
        held = _lock(task, params["lock"], held, there)
    return {
        "changed": False,
        "group": params["group"],
        "hosts": there.hosts,
        "members": there.members,
        **there.told(),
        **({"held": held} if held else {}),
    }


def _lock(task: Task, wanted: dict[str, Any], held: dict[str, Any], there: Attendance) -> dict[str, Any]:
    """Lock the clusters that are not held yet, and return all locks that are held."""
    process = Process.parse(wanted["run"])
    if process is None:
        raise ExomeshError(
            "lock.run is not what the lookup this_run gives",
            "invalid_option",
            next_step="Set it to {{ lookup('exomesh.istio.this_run') }}",
        )
    holder = Holder(process, str(wanted["run"].get("user")), str(wanted["run"].get("playbook") or ""))
    names = {member.get("host") or member["name"]: member for member in there.members}
    to_lock = [member for host, member in names.items() if host not in held.get("hosts", ())]
    for member in to_lock:
        if why := there.silent.get(member["name"]):
            task.warn(f"Cluster {member['name']} is not locked for this run: {why}")
    clusters = {
        member["name"]: member["kubeconfig"] for member in to_lock if member["name"] not in there.silent
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
        "lock": {
            "type": "dict",
            "options": {
                "run": {"type": "dict", "required": True},
                "break": {"type": "bool", "default": False},
                "timeout": {"type": "int", "default": 60},
            },
        },
        "held": {"type": "dict"},
        "look": {"type": "bool", "default": False},
        "play": {"type": "list", "elements": "str", "default": []},
        "troubles": {"type": "dict", "default": {}},
        "treatment": {"type": "str", "choices": ["tell", "collect", "judge"], "default": "tell"},
        "on_failure": {"type": "str", "default": "stop"},
        "seen": {"type": "dict"},
    },
    time_limit=lambda params: (params["lock"] or {"timeout": 0})["timeout"] + GRACE_SECONDS + LOOK_SECONDS,
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
