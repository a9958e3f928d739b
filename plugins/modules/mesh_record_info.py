#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the record that a cluster keeps of its mesh and its peers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_record_info
short_description: Read the record that a cluster keeps of its mesh and its peers
version_added: 0.1.0
description:
  - Reads the record that the collection keeps in every cluster of a mesh, and the mesh's root certificate.
  - If the inventory and the state folder are lost, they can be made again from this. Role
    P(exomesh.istio.recover#role) does that.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.attributes.info_module
  - exomesh.istio.kubernetes
options:
  timeout:
    description:
      - Time that the whole module may take, in seconds.
    type: int
    default: 60
requirements:
  - Python package C(kubernetes) >= 31.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Read who is in the mesh of this cluster
  exomesh.istio.mesh_record_info:
    kubeconfig: frankfurt.kubeconfig
  register: record
"""

RETURN = r"""
mesh:
  description: ID of the mesh.
  type: str
  returned: success
cluster:
  description: Name of this cluster in the mesh.
  type: str
  returned: success
collection:
  description: Version of the collection that wrote the record.
  type: str
  returned: success
members:
  description: All members, including this one.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the member in the mesh.
      type: str
    network:
      description: Its network.
      type: str
    uid:
      description: UID of its namespace C(kube-system); empty if it was not known.
      type: str
    server:
      description: Address of its API; empty if it was not known.
      type: str
    variables:
      description: Variables that its host had in the inventory.
      type: dict
root_certificate:
  description: The root certificate of the mesh as PEM text; empty if the cluster has none, or several.
  type: str
  returned: success
failure:
  description: Why the module failed, for programs. Its C(code) is V(no_record) if there is no record.
  type: dict
  returned: failure
"""

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.record import RECORD_REF, read_record
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._trust.cluster import read_trust
from ..module_utils._trust.x509 import chain_pem


def run(task: Task) -> Result:
    """Read the record; return the module's result."""
    require("cryptography")
    client = KubernetesClient(task.params["kubeconfig"], task.params["context"])
    record = read_record(client)
    if record is None:
        raise ExomeshError(
            f"It has no record of a mesh: there is no {RECORD_REF}",
            "no_record",
            cluster=client.name,
            cause="It is in no mesh of this collection, or the mesh was made before there were records",
            next_step="Give the kubeconfig of another member. Where there is none, write the inventory, and "
            "run playbook peering, which writes the records",
        )
    trust = read_trust(client)
    roots = set(trust.cacerts.roots if trust.cacerts else trust.running_roots)
    return {
        "changed": False,
        "mesh": record.mesh,
        "cluster": record.cluster,
        "collection": record.version,
        "members": [record.members[name].told() for name in sorted(record.members)],
        "root_certificate": chain_pem(list(roots)) if len(roots) == 1 else "",
    }


SPEC = Spec(argument_spec={**KUBERNETES_ARGUMENT_SPEC, "timeout": {"type": "int", "default": 60}})


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
