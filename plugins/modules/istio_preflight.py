#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what would make an installation of Istio fail, before anything changes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_preflight
short_description: Find what would make an installation of Istio fail, before anything changes
version_added: 0.1.0
description:
  - Reads one cluster, and reports what would make the installation fail, or break what runs there.
  - Fails with a list of everything that is in the way, each with its cause and what to do. What is only
    doubtful gives a warning.
  - A short-lived pod in the cluster shows whether its pods reach the API servers and gateways of the peers.
    The pod is deleted again.
  - The pod is started only for peers that were never shown to be reached. These are all peers if istiod does
    not run yet, and otherwise the peers for which the cluster has no remote secret.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.attributes.info_module
  - exomesh.istio.kubernetes
  - exomesh.istio.members
attributes:
  check_mode:
    details:
      - Starts no pod, so peers are not asked.
options:
  cluster:
    description:
      - Name of the cluster in the mesh.
    type: str
    required: true
  network:
    description:
      - Network of the cluster.
    type: str
    required: true
  mesh_id:
    description:
      - Name of the mesh.
    type: str
    required: true
  trust_domain:
    description:
      - Trust domain of the mesh.
    type: str
    default: cluster.local
  trust_domains:
    description:
      - Trust domain of every member, by its inventory name. They must be the same. An empty one is
        V(cluster.local).
    type: dict
    default: {}
  version:
    description:
      - Istio release to be installed.
    type: str
    required: true
  revision:
    description:
      - Revision to be installed; empty for an istiod without a revision.
    type: str
    default: ""
  name:
    description:
      - Name of istiod's IstioOperator. An istiod of any other owner is refused.
    type: str
    default: exomesh
  workloads:
    description:
      - Deployments in C(istio-system) that need room for their pods.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the Deployment.
        type: str
        required: true
      replicas:
        description:
          - Number of its pods.
        type: int
        default: 1
      cpu:
        description:
          - CPU that each pod requests.
        type: str
        required: true
      memory:
        description:
          - Memory that each pod requests.
        type: str
        required: true
  resources:
    description:
      - Requests and limits of istiod, in the form that a container has.
    type: dict
    default: {}
  overlay:
    description:
      - Settings that are merged over the C(spec) of istiod's IstioOperator. Requests, tolerations and node
        selectors in it decide which nodes have room.
    type: dict
    default: {}
  gateway_overlay:
    description:
      - Settings that are merged over the C(spec) of the east-west gateway's IstioOperator.
    type: dict
    default: {}
  gateway_parameters:
    description:
      - Settings that are merged over the objects of a gateway of the Gateway API, as in
        O(exomesh.istio.eastwest_gateway#module:parameters).
    type: dict
    default: {}
  gateway_api:
    description:
      - Whether the east-west gateway is one of the Gateway API, whose kinds the cluster must then have.
    type: bool
    default: false
  demo:
    description:
      - Namespace of the demo, which istiod must see. Without it, no demo is wanted.
    type: str
    default: ""
  nlb:
    description:
      - Settings of the gateway's Exoscale load balancer, as in the same option of module
        M(exomesh.istio.eastwest_gateway). Settings that the cloud would refuse fail here.
    type: dict
    default: {}
  annotations:
    description:
      - Further annotations of the gateway's Service.
    type: dict
    default: {}
  max_clock_skew:
    description:
      - Seconds by which the clocks of this machine and the API server may differ. More gives a warning.
        With V(0), the clocks may differ by any time.
    type: float
    default: 30
  accept:
    description:
      - Codes of checks that only give a warning where they would fail. An error with which no installation
        can work stays an error.
    type: list
    elements: str
    default: []
  probe:
    description:
      - Whether a pod may try to reach the peers.
    type: bool
    default: true
  probe_image:
    description:
      - Image of that pod. It must have C(curl).
    type: str
    default: docker.io/curlimages/curl:8.16.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Check before installing
  exomesh.istio.istio_preflight:
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    cluster: vienna
    network: network-vienna
    mesh_id: mesh1
    version: 1.31.1
    workloads:
      - {name: istiod, cpu: 500m, memory: 2Gi}
      - {name: istio-eastwestgateway, cpu: 100m, memory: 128Mi}
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
  register: preflight

- name: Show the checks
  ansible.builtin.debug:
    var: preflight.checks
"""

RETURN = r"""
checks:
  description: Every check that was made. If the module fails, C(failure.details.checks) has them.
  type: list
  elements: dict
  returned: success, where there is a kubeconfig
  contains:
    code:
      description: Name of the check, such as V(kubernetes-version). O(accept) takes these names.
      type: str
    ok:
      description: Whether the check found no fault.
      type: bool
    outcome:
      description: V(error), V(warning), V(note) or V(ok).
      type: str
    message:
      description: What was found.
      type: str
    evidence:
      description: What was seen.
      type: list
      elements: str
    cause:
      description: The likely cause, or the effect.
      type: str
    next_step:
      description: What to do about it.
      type: str
  sample:
    - code: capacity
      ok: true
      outcome: ok
      message: There is room for 2 pods to come
      evidence: [node pool-1a has 1320m CPU and 5210 Mi memory and 98 pods left]
      cause: ""
      next_step: ""
new:
  description: Whether there is no istiod in the cluster yet.
  type: bool
  returned: success, where there is a kubeconfig
reached:
  description:
    - Hashes of address and CA of the APIs that a pod of the cluster has now reached, for module
      M(exomesh.istio.remote_secrets).
  type: list
  elements: str
  returned: success
probed:
  description: Names of the peers for which a pod was started.
  type: list
  elements: str
  returned: success
not_probed:
  description: Why no pod tried to reach the peers; empty if one did.
  type: str
  returned: success
failure:
  description: Why the module failed, for programs; C(details.checks) has all checks.
  type: dict
  returned: failure
"""

from typing import Any

from ..module_utils._base.check import ERROR, WARNING, Check
from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._exoscale.nlb import nlb_annotations
from ..module_utils._istio.gateway_settings import NAME as GATEWAY
from ..module_utils._istio.names import CONTROL_PLANE, TRUST_DOMAIN
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._kubernetes.images import CURL_IMAGE
from ..module_utils._preflight.acceptance import require_acceptable
from ..module_utils._preflight.checks import Preflight
from ..module_utils._preflight.overlays import gateway_of, istiod_of
from ..module_utils._preflight.wanted import Wanted, Workload

_KUBECONFIG_TO_COME = "the kubeconfig is still to come"


def wanted_of(params: dict[str, Any]) -> Wanted:
    """Return what is to be installed, from the module's parameters."""
    return Wanted(
        version=params["version"],
        revision=params["revision"],
        owner=params["name"],
        mesh_id=params["mesh_id"],
        cluster=params["cluster"],
        network=params["network"],
        trust_domain=params["trust_domain"],
        trust_domains={name: domain or TRUST_DOMAIN for name, domain in params["trust_domains"].items()},
        workloads=[workload_of(workload, params) for workload in params["workloads"]],
        annotations={**nlb_annotations(params["nlb"]), **params["annotations"]},
        max_clock_skew=params["max_clock_skew"],
        accepted=require_acceptable(params["accept"]),
        overlay=params["overlay"],
        gateway_overlay=params["gateway_overlay"],
        gateway_parameters=params["gateway_parameters"],
        gateway_api=params["gateway_api"],
        demo=params["demo"],
    )


def workload_of(told: dict[str, Any], params: dict[str, Any]) -> Workload:
    """Return a Deployment to be installed, with what the overlays say of its pods."""
    name, replicas = told["name"], told["replicas"]
    request = {"cpu": told["cpu"], "memory": told["memory"]}
    if name.startswith(GATEWAY):
        return gateway_of(name, replicas, request, params["gateway_overlay"], params["gateway_parameters"])
    return istiod_of(name, replicas, request, params["resources"], params["overlay"])


def run(task: Task) -> Result:
    """Run the checks, try to reach the peers, and return the module's result."""
    params = task.params
    require_acceptable(params["accept"])
    if kubeconfig_is_to_come(task):
        return {"changed": False, "reached": [], "probed": [], "not_probed": _KUBECONFIG_TO_COME}
    try:
        client = KubernetesClient(params["kubeconfig"], params["context"], params["cluster"])
        preflight = Preflight(client, wanted_of(params), members_of(params))
        checks = preflight.checks()
        unproven = [peer.name for peer in preflight.unproven_peers()]
        not_probed = why_not_probed(task.check_mode, params["probe"], unproven)
        if not not_probed:
            checks += preflight.probe(params["probe_image"], params["timeout"])
    except ExomeshError as error:
        raise error.about(cluster=params["cluster"]) from None
    for check in checks:
        if check.outcome == WARNING:
            task.warn(f"cluster {params['cluster']}: {check}")
    refuse(checks, params["cluster"])
    return {
        "changed": False,
        "checks": [check.as_dict() for check in checks],
        "new": preflight.is_new,
        "reached": preflight.reached,
        "probed": [] if not_probed else unproven,
        "not_probed": not_probed,
    }


def why_not_probed(check_mode: bool, allowed: bool, unproven: list[str]) -> str:
    """Return why no pod tries to reach the peers; empty if one does."""
    if not unproven:
        return "every peer was reached before"
    if check_mode:
        return "not probed in check mode, as a pod is a change"
    return "" if allowed else "probe is false"


def refuse(checks: list[Check], cluster: str) -> None:
    """Fail if a check found an error.

    :raises ExomeshError: ``preflight_failed``, with all errors.
    """
    errors = [check for check in checks if check.outcome == ERROR]
    if not errors:
        return
    raise ExomeshError(
        f"{len(errors)} of {len(checks)} checks before the installation failed",
        "preflight_failed",
        cluster=cluster,
        cause=" ".join(f"({number}) {check}" for number, check in enumerate(errors, 1)),
        next_step=f"Nothing was changed. {_to_accept(errors)}",
        details={"checks": [check.as_dict() for check in checks]},
    )


def _to_accept(errors: list[Check]) -> str:
    codes = sorted({check.code for check in errors if check.acceptable})
    if not codes:
        return "No installation can work with this"
    return f"What may stay can be accepted: preflight_accept: [{', '.join(codes)}]"


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        **MEMBERS_ARGUMENT_SPEC,
        "cluster": {"type": "str", "required": True},
        "network": {"type": "str", "required": True},
        "mesh_id": {"type": "str", "required": True},
        "trust_domain": {"type": "str", "default": TRUST_DOMAIN},
        "trust_domains": {"type": "dict", "default": {}},
        "version": {"type": "str", "required": True},
        "revision": {"type": "str", "default": ""},
        "name": {"type": "str", "default": CONTROL_PLANE},
        "workloads": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "replicas": {"type": "int", "default": 1},
                "cpu": {"type": "str", "required": True},
                "memory": {"type": "str", "required": True},
            },
        },
        "resources": {"type": "dict", "default": {}},
        "overlay": {"type": "dict", "default": {}},
        "gateway_overlay": {"type": "dict", "default": {}},
        "gateway_parameters": {"type": "dict", "default": {}},
        "gateway_api": {"type": "bool", "default": False},
        "demo": {"type": "str", "default": ""},
        "nlb": {"type": "dict", "default": {}},
        "annotations": {"type": "dict", "default": {}},
        "max_clock_skew": {"type": "float", "default": 30.0},
        "accept": {"type": "list", "elements": "str", "default": []},
        "probe": {"type": "bool", "default": True},
        "probe_image": {"type": "str", "default": CURL_IMAGE},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
