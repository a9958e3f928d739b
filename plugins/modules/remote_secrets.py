#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a cluster the remote secrets of its peers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remote_secrets
short_description: Give a cluster the remote secrets of its peers
version_added: 0.1.0
description:
  - Makes the remote secrets by which istiod of this cluster reads the endpoints of every other member, all in
    one call and concurrently.
  - The secrets are those of C(istioctl create-remote-secret), to the letter that counts. The token of the
    reader account of each peer is reused, or made where there is none.
  - Notices and repairs secrets that were edited. Deletes those of clusters that left, if it made them.
  - Tokens never leave the module. Results and diffs have hashes.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
    details:
      - Works where Istio is not installed yet, too.
  diff_mode:
    support: full
    details:
      - Tokens and certificates are shown as hashes.
  idempotent:
    support: full
options:
  name:
    description:
      - Name of this cluster in the mesh.
    type: str
    required: true
  prune:
    description:
      - Delete remote secrets that this module made for clusters that are not in O(members).
    type: bool
    default: false
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Let this cluster reach every other member
  exomesh.istio.remote_secrets:
    kubeconfig: "{{ mesh_kubeconfig }}"
    name: "{{ mesh_cluster_name }}"
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    prune: true
"""

RETURN = r"""
objects:
  description: Names of the Secrets by what happened to them, or would.
  type: dict
  returned: success
  contains:
    create:
      description: Secrets that did not exist, token Secrets in peers among them.
      type: list
      elements: str
    update:
      description: Secrets that differed.
      type: list
      elements: str
    delete:
      description: Secrets of clusters that left.
      type: list
      elements: str
    unchanged:
      description: Secrets that were as they should be.
      type: list
      elements: str
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import (
    KUBERNETES_ARGUMENT_SPEC,
    KubernetesClient,
    kubeconfig_is_to_come,
)
from ansible_collections.exomesh.istio.plugins.module_utils._members import MEMBERS_ARGUMENT_SPEC, members_of
from ansible_collections.exomesh.istio.plugins.module_utils._objects import (
    UNCHANGED,
    render_diff,
    summarise,
)
from ansible_collections.exomesh.istio.plugins.module_utils._remote_secrets import Peer, synchronise


def run(module: AnsibleModule) -> dict[str, Any]:
    """Make the secrets; gives the module's result."""
    params = module.params
    if kubeconfig_is_to_come(module):
        return {"changed": True, "objects": summarise([])}
    client = KubernetesClient(params["kubeconfig"], params["context"], params["name"])
    peers = [
        Peer(member.name, member.kubeconfig, member.server)
        for member in members_of(params)
        if params["name"] in member.peers
    ]
    changes = synchronise(client, peers, params["timeout"], params["prune"], module.check_mode)
    return {
        "changed": any(change.action != UNCHANGED for change in changes),
        "objects": summarise(changes),
        **({"diff": render_diff(changes)} if module._diff else {}),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **KUBERNETES_ARGUMENT_SPEC,
            "name": {"type": "str", "required": True},
            **MEMBERS_ARGUMENT_SPEC,
            "prune": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except ExomeshError as error:
        module.fail_json(**error.fail_arguments())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
