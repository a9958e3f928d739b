#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensure that a cluster has the remote secrets of its peers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remote_secrets
short_description: Ensure the remote secrets of a cluster's peers, and check that istiod has read them
version_added: 0.1.0
description:
  - Creates the remote secrets with which istiod of this cluster reads the endpoints of its peers, all in one
    call and concurrently. In everything that matters, they are the secrets of
    C(istioctl create-remote-secret).
  - Each peer has an account and a token for this cluster alone, with the rights that istiod needs. Or all
    clusters share the one account that Istio makes. Changing from one form to the other does not interrupt
    the mesh.
  - Tokens that work are reused. A token that is not accepted any more is replaced.
  - Before a secret is written, a pod of this cluster asks the peer's API, without a token, and accepts only
    the CA of the secret. A secret that fails this check is not written, but the others are.
  - Then every replica of istiod must have read every peer, and know the addresses of its gateways. If the
    peers answer and an istiod still does not know them, it is restarted without a gap.
  - Notices and repairs secrets that were edited. Deletes what it made for clusters that left.
  - Tokens never leave the module. Results and diffs only have hashes.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
    details:
      - Also works if Istio is not installed yet. No pod is started, and istiod is not checked.
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
  timeout:
    description:
      - Time that the whole module may take, in seconds.
      - Each wait may take a fifth of it at most - for a token, for the check by a pod, and for istiod to read
        a peer. The last wait may come twice, because an istiod that has not read a peer is restarted.
    type: int
    default: 600
  own_accounts:
    description:
      - Whether each peer has an account and a token for this cluster alone. They can be taken away without
        cutting off others. Otherwise, all share Istio's C(istio-reader-service-account).
    type: bool
    default: true
  least_privilege:
    description:
      - Whether to deny the accounts the right to read Secrets. Needs O(own_accounts), and an istiod that can
        do without that right.
      - It is refused for Istio up to 1.31.1, because its istiod then ends with a panic.
    type: bool
    default: false
  probe:
    description:
      - Whether a pod of this cluster checks the secrets before they are written.
    type: bool
    default: true
  probe_image:
    description:
      - Image of that pod. It must have C(curl).
    type: str
    default: docker.io/curlimages/curl:8.16.0
  reached:
    description:
      - RV(ignore:reached) of module M(exomesh.istio.istio_preflight) in the same run. It stands for the APIs
        that a pod of this cluster has just reached, with the CA that the secret will hold. No other pod asks
        these APIs again.
    type: list
    elements: str
    default: []
  before_istiod:
    description:
      - Whether istiod is not installed yet. Then only the secrets for O(reached) are written, without a wait.
        istiod reads them when it starts.
    type: bool
    default: false
  reciprocal:
    description:
      - Whether to also give each peer its secret for this cluster. This one call then joins the cluster to a
        mesh.
    type: bool
    default: false
  prune:
    description:
      - Whether to delete remote secrets that this module made for members that are not peers, and the
        accounts that it made here for them.
      - What it made for a cluster that is not a member stays. M(exomesh.istio.mesh_leave) removes that.
    type: bool
    default: false
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Create the remote secrets of this cluster
  exomesh.istio.remote_secrets:
    kubeconfig: "{{ mesh_kubeconfig }}"
    name: "{{ mesh_cluster_name }}"
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    prune: true
"""

RETURN = r"""
objects:
  description:
    - Objects, by what happened to them or would happen. Objects in other clusters are named with their
      cluster.
  type: dict
  returned: success
  contains:
    create:
      description: Objects that did not exist.
      type: list
      elements: str
    change:
      description: Objects that differed, and tokens that were not accepted any more.
      type: list
      elements: str
    delete:
      description: Objects of clusters that left, and objects that were not used any more.
      type: list
      elements: str
    unchanged:
      description: Secrets that were as they should be.
      type: list
      elements: str
restarted:
  description: Clusters whose istiod had to be restarted, because it had not read its remote secrets.
  type: list
  elements: str
  returned: success
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""


from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._kubernetes.images import CURL_IMAGE
from ..module_utils._kubernetes.objects import UNCHANGED, render_diff, summarise
from ..module_utils._peering.peering import Options, Peering

_EACH_WAIT = 0.2
"""The share of the time for each wait. The wait for istiod may come twice, with a restart in between."""


def run(task: Task) -> Result:
    """Ensure the secrets, and return the module's result."""
    params = task.params
    if params["least_privilege"] and not params["own_accounts"]:
        raise ExomeshError(
            "The account that all readers share may read Secrets, so there is no least privilege with it",
            "least_privilege_impossible",
            cluster=params["name"],
            next_step="Set peering_own_accounts to true, or mesh_least_privilege to false",
        )
    if kubeconfig_is_to_come(task):
        return {"changed": True, "objects": summarise([]), "restarted": []}
    client = KubernetesClient(params["kubeconfig"], params["context"], params["name"])
    options = Options(
        own_accounts=params["own_accounts"],
        least_privilege=params["least_privilege"],
        prune=params["prune"],
        reciprocal=params["reciprocal"],
        probe_image=params["probe_image"] if params["probe"] else None,
        reached=frozenset(params["reached"]),
        before_istiod=params["before_istiod"],
        timeout=params["timeout"] * _EACH_WAIT,
        check_mode=task.check_mode,
    )
    outcome = Peering(client, members_of(params), options).run()
    for warning in outcome.warnings:
        task.warn(warning)
    for cluster in outcome.restarted:
        task.warn(f"istiod of {cluster} had not taken up its remote secrets, and was restarted")
    changes = outcome.changes
    return {
        "changed": bool(outcome.restarted) or any(change.action != UNCHANGED for change in changes),
        "objects": summarise(changes),
        "restarted": outcome.restarted,
        **({"diff": render_diff(changes)} if task.diff else {}),
    }


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "name": {"type": "str", "required": True},
        **MEMBERS_ARGUMENT_SPEC,
        "timeout": {"type": "int", "default": 600},
        "own_accounts": {"type": "bool", "default": True},
        "least_privilege": {"type": "bool", "default": False},
        "probe": {"type": "bool", "default": True},
        "probe_image": {"type": "str", "default": CURL_IMAGE},
        "reached": {"type": "list", "elements": "str", "default": []},
        "before_istiod": {"type": "bool", "default": False},
        "reciprocal": {"type": "bool", "default": False},
        "prune": {"type": "bool", "default": False},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
