#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove a cluster from a mesh that stays."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_leave
short_description: Remove a cluster from a mesh that stays
version_added: 0.1.0
description:
  - Deletes the remote secret for the leaving cluster in all other members at once. Waits until every replica
    of istiod, and the sidecars, have forgotten the endpoints of that cluster.
  - Then leaves time for requests in flight, and deletes the accounts with which the leaving cluster read the
    others. If the leaving cluster answers, what it has of the others is deleted, too.
  - Refuses, before anything is changed, if services have endpoints only in that cluster, or if something else
    made a remote secret for it.
  - Some releases of Istio lose other clusters when one is removed. An istiod that loses others is restarted.
  - The leaving cluster does not have to answer, nor to be among O(members) any more. If a run was
    interrupted, the next one finishes it.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
    details:
      - Refuses as a real run does. It cannot tell whether istiod will have to be restarted.
  diff_mode:
    support: full
    details:
      - Only names the objects.
  idempotent:
    support: full
options:
  name:
    description:
      - Name in the mesh of the cluster that leaves.
    type: str
    required: true
  kubeconfig:
    description:
      - File with the credentials of the leaving cluster. It may be missing or useless. Then that cluster
        itself is left as it is.
    type: path
    required: true
  lost_services:
    description:
      - Whether to go on even if services have endpoints only in that cluster.
    type: bool
    default: false
  foreign_secrets:
    description:
      - Whether to also delete remote secrets for that cluster that something else made.
    type: bool
    default: false
  drain:
    description:
      - Seconds that requests in flight may take to end.
    type: int
    default: 10
  timeout:
    description:
      - Time that the whole module may take, in seconds.
      - At most a sixth of it is for istiod to forget the cluster by itself, before it is restarted.
    type: int
    default: 600
requirements:
  - Python package C(kubernetes) >= 31.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Remove vienna from the mesh
  exomesh.istio.mesh_leave:
    name: vienna
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
"""

RETURN = r"""
objects:
  description: Names of the objects that were deleted, or would be, by cluster.
  type: dict
  returned: success
  sample:
    frankfurt: ["Secret istio-system/istio-remote-secret-vienna"]
lost_services:
  description: Services that had endpoints only in the leaving cluster, by the cluster that may call them.
  type: dict
  returned: success
restarted:
  description: Clusters whose istiod was restarted.
  type: list
  elements: str
  returned: success
report:
  description: What was done or would be done, and what people have to know, as lines.
  type: list
  elements: str
  returned: success
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""


from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._kubernetes.objects import render_diff
from ..module_utils._lifecycle.leave import Choices, Departure


def run(task: Task) -> Result:
    """Remove the cluster, or report what would be removed, and return the module's result."""
    params = task.params
    choices = Choices(params["lost_services"], params["foreign_secrets"], params["drain"], params["timeout"])
    departure = Departure(params["name"], params["kubeconfig"], members_of(params), choices)
    outcome = departure.run(task.check_mode)
    changed = {cluster: changes for cluster, changes in outcome.changes.items() if changes}
    diff = [
        {"before_header": cluster, "after_header": cluster, **render_diff(changes)}
        for cluster, changes in changed.items()
    ]
    return {
        "changed": bool(changed or outcome.restarted),
        "objects": {cluster: [str(change.ref) for change in changes] for cluster, changes in changed.items()},
        "lost_services": outcome.lost_services,
        "restarted": outcome.restarted,
        "report": outcome.report(params["name"]),
        **({"diff": diff} if task.diff else {}),
    }


SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "name": {"type": "str", "required": True},
        "kubeconfig": {"type": "path", "required": True},
        "lost_services": {"type": "bool", "default": False},
        "foreign_secrets": {"type": "bool", "default": False},
        "drain": {"type": "int", "default": 10},
        "timeout": {"type": "int", "default": 600},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
