#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove everything that this collection made in a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_teardown
short_description: Remove everything that this collection made in a cluster, and report what stays
version_added: 0.1.0
description:
  - Deletes load balancers first, and waits until the cloud has released them. Then deletes webhooks,
    workloads, remote secrets and the accounts of peers. After that, it deletes Istio, and then what istiod
    itself made in every namespace. Istio's kinds and the namespaces come last.
  - Two labels show what belongs to this collection. Its own objects have
    C(app.kubernetes.io/managed-by=exomesh.istio). Objects that the installer made for O(operators) have
    C(install.operator.istio.io/owning-resource).
  - What the collection installed before its IstioOperators had names of their own is recognised by what else
    it left there.
  - An Istio or a gateway of somebody else stays, with everything that it needs. Kinds stay while users have
    objects of them. A namespace stays while anything else is in it. The module reports what stays, with the
    reason.
  - Refuses to run if istiod belongs to another cluster or mesh.
  - If a run was interrupted, the next one finishes it.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Reports what would be deleted.
  diff_mode:
    support: full
    details:
      - Only names the objects.
  idempotent:
    support: full
options:
  name:
    description:
      - Name of this cluster in the mesh.
    type: str
    required: true
  mesh_id:
    description:
      - ID of the mesh.
    type: str
    required: true
  operators:
    description:
      - Names of the IstioOperators with which this collection installs.
    type: list
    elements: str
    default: [exomesh, exomesh-eastwest, exomesh-ingress]
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Remove the mesh from this cluster
  exomesh.istio.mesh_teardown:
    kubeconfig: "{{ mesh_kubeconfig }}"
    name: "{{ mesh_cluster_name }}"
    mesh_id: "{{ mesh_id }}"
"""

RETURN = r"""
objects:
  description: Names of the objects, by what happened to them or would happen.
  type: dict
  returned: success
  contains:
    create:
      description: Always empty.
      type: list
      elements: str
    change:
      description: Namespaces that stay, without the labels that this collection gave them.
      type: list
      elements: str
    delete:
      description: Objects that were deleted.
      type: list
      elements: str
    unchanged:
      description: Always empty.
      type: list
      elements: str
left:
  description: What stays in the cluster.
  type: list
  elements: dict
  returned: success
  contains:
    what:
      description: The objects.
      type: str
    why:
      description: Why they stay.
      type: str
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from dataclasses import asdict

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.names import OPERATORS
from ..module_utils._istio.record import require_cluster
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._kubernetes.objects import render_diff, summarise
from ..module_utils._lifecycle.teardown import Teardown


def run(task: Task) -> Result:
    """Delete, or report what would be deleted, and return the module's result."""
    params = task.params
    if kubeconfig_is_to_come(task):
        return {"changed": False, "objects": summarise([]), "left": []}
    client = KubernetesClient(params["kubeconfig"], params["context"], params["name"])
    require_cluster(client, params["name"], params["mesh_id"])
    teardown = Teardown(client, params["name"], params["mesh_id"], params["operators"])
    try:
        if task.check_mode:
            plan = teardown.plan()
            changes, left = plan.changes(), plan.left
        else:
            changes, left = teardown.run(params["timeout"])
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None
    return {
        "changed": bool(changes),
        "objects": summarise(changes),
        "left": [asdict(item) for item in left],
        **({"diff": render_diff(changes)} if task.diff else {}),
    }


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "name": {"type": "str", "required": True},
        "mesh_id": {"type": "str", "required": True},
        "operators": {
            "type": "list",
            "elements": "str",
            "default": list(OPERATORS),
        },
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
