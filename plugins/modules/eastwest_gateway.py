#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensure the east-west gateway of a cluster, ready and with an address."""

from __future__ import annotations

DOCUMENTATION = r"""
module: eastwest_gateway
short_description: Ensure the east-west gateway of a cluster, ready and with an address
version_added: 0.1.0
description:
  - Creates the gateway through which other networks reach this cluster's services, and exposes services by
    it. The gateway has only the ports 15021 (health) and 15443 (mutual TLS).
  - Waits until it is ready and its load balancer has an address. If no address comes, the module reports what
    the cluster's Events say about it, and the likely cause.
  - Replaces a gateway of the other O(form) without an outage. The new one is ready before peers use it, and
    the old one is deleted when they do not use it any more.
  - Notes the address on the Service, and reports if it is another one than at the last run.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Also works against a cluster without Istio, its namespace and its kinds. RV(address) is then empty.
  diff_mode:
    support: full
    details:
      - Shows the fields that change. Objects that are created are only named.
  idempotent:
    support: full
options:
  cluster:
    description:
      - Name of the cluster in its mesh. If it is given, a kubeconfig of another cluster of a mesh is refused.
    type: str
  form:
    description:
      - V(istio-operator) is installed by istioctl.
      - V(gateway-api) is a Gateway of the Kubernetes Gateway API. istiod makes its Deployment and Service,
        with images from the registry in istiod's own settings. The kinds of the Gateway API must be
        installed.
    type: str
    choices: [istio-operator, gateway-api]
    default: istio-operator
  istioctl:
    description:
      - The istioctl program. It installs the gateway of its own release. Needed for O(form=istio-operator).
    type: path
  cache_file:
    description:
      - File on the controller that keeps istioctl's last answers. The next run uses an answer again if
        nothing has changed that it was made from.
      - In check mode, the file is only read.
    type: path
    version_added: 0.1.0
  adopt:
    description:
      - With O(form=istio-operator), take over a gateway of the same name that somebody else installed, and
        mark it as the collection's own. First look at what that changes, in check mode with a diff.
      - Without it, such a gateway is refused.
    type: bool
    default: false
    version_added: 0.1.0
  network:
    description:
      - Name of the cluster's network in the mesh.
    type: str
    required: true
  hosts:
    description:
      - Services that other networks may reach, by full name, or by V(*.) and the end of the name.
    type: list
    elements: str
    default: ["*.local"]
  source_ranges:
    description:
      - Networks in CIDR notation from which the load balancer accepts connections. If empty, it accepts them
        from everywhere. The networks must include the addresses from which each peer connects, or that peer
        is cut off.
    type: list
    elements: str
    default: []
  nlb:
    description:
      - Settings of Exoscale's network load balancer. Exoscale's cloud controller decides what is not given.
    type: dict
    suboptions:
      name:
        description:
          - Its name. Without it, the name is C(k8s-) and the UID of the Service.
        type: str
      description:
        description:
          - Its description. The cloud controller sets it only when it makes the load balancer.
        type: str
      id:
        description:
          - UUID of a load balancer that exists already.
        type: str
      external:
        description:
          - Whether the load balancer is managed elsewhere. The cloud controller then only changes its
            services, and does not delete it. Needs O(nlb.id) or O(nlb.name).
        type: bool
        default: false
      node_pool:
        description:
          - Name of the node pool that it serves. A load balancer serves one node pool, so a cluster with
            several needs this option or O(nlb.instance_pool_id).
        type: str
      sks_cluster:
        description:
          - Name or ID of the SKS cluster that has O(nlb.node_pool).
        type: str
      instance_pool_id:
        description:
          - UUID of the instance pool that it serves, instead of O(nlb.node_pool).
        type: str
      strategy:
        description:
          - How it chooses a node. Without it, the cloud controller uses V(round-robin).
        type: str
        choices: [round-robin, source-hash]
      health_check:
        description:
          - How it checks which nodes work.
        type: dict
        suboptions:
          mode:
            description:
              - Protocol of the check. Without it, the cloud controller uses V(tcp).
            type: str
            choices: [tcp, http, https]
          port:
            description:
              - Port of the nodes to check, from 1 to 65535. Without it, the node port of each port of the
                Service is checked.
            type: int
          path:
            description:
              - Path to request. The modes V(http) and V(https) need it.
            type: str
          interval:
            description:
              - Seconds between two checks, from 5 to 300. Without it, 10.
            type: int
          timeout:
            description:
              - Seconds that an answer may take, from 2 to 60, and not longer than the interval. Without it,
                5.
            type: int
          retries:
            description:
              - Failures in a row after which a node counts as down, from 1 to 20. Without it, 1.
            type: int
  annotations:
    description:
      - Annotations of the gateway's Service. They take precedence over those that result from O(nlb).
    type: dict
    default: {}
  hub:
    description:
      - Registry and folder of Istio's images, for O(form=istio-operator).
    type: str
    default: docker.io/istio
  image_pull_secrets:
    description:
      - Names of Secrets in namespace C(istio-system) with which the images are pulled, for a mirror.
    type: list
    elements: str
    default: []
  revision:
    description:
      - Revision of the control plane. Empty for a control plane without a revision.
    type: str
    default: ""
  ha:
    description:
      - Whether to start from the preset for high availability. It has at least two replicas, on different
        nodes if possible, a PodDisruptionBudget, and resource requests. O(spec) and O(parameters) take
        precedence over it.
    type: bool
    default: false
  spec:
    description:
      - Merged over the C(spec) of the IstioOperator, for O(form=istio-operator).
      - Mappings are merged. Lists whose entries have names, ports or other keys are merged by these, as
        Kubernetes does it. Everything else is replaced. A list of texts must have what is below it.
      - Labels and the port by which peers find and reach the gateway cannot be changed.
    type: dict
    default: {}
  parameters:
    description:
      - Merged over the parameters of the Gateway, for O(form=gateway-api). Each key, such as C(deployment),
        C(service) or C(horizontalPodAutoscaler), has a patch for the object of that kind that istiod makes.
    type: dict
    default: {}
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ensure the gateway of a cluster with several node pools
  exomesh.istio.eastwest_gateway:
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    istioctl: /usr/local/bin/istioctl
    network: network-vienna
    nlb:
      name: mesh-vienna
      node_pool: workers
      sks_cluster: vienna
      health_check:
        interval: 5
        timeout: 2
  register: gateway

- name: Ensure a Gateway of the Gateway API, for one namespace and two source networks
  exomesh.istio.eastwest_gateway:
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    network: network-vienna
    form: gateway-api
    hosts: ["*.shop.svc.cluster.local"]
    source_ranges: [203.0.113.7/32, 198.51.100.0/28]
"""

RETURN = r"""
address:
  description: The first address, an IP address or a host name; empty in check mode if there is none yet.
  type: str
  returned: success
  sample: 194.182.160.10
addresses:
  description: All addresses, IP addresses before host names.
  type: list
  elements: str
  returned: success
former_address:
  description: The address at the last run; empty if it is still an address, or there was no run before.
  type: str
  returned: success
service:
  description: Name of the gateway's Service, in namespace C(istio-system).
  type: str
  returned: success, where there is a kubeconfig
objects:
  description: Names of the objects, by what happened to them or would happen.
  type: dict
  returned: success
  contains:
    create:
      description: Objects that did not exist.
      type: list
      elements: str
    change:
      description: Objects with fields that differed.
      type: list
      elements: str
    delete:
      description: Objects that are not needed any more, such as those of the other form.
      type: list
      elements: str
    unchanged:
      description: Objects that were as they should be.
      type: list
      elements: str
failure:
  description: Why the module failed, for programs; C(details.events) has the Events of the Service.
  type: dict
  returned: failure
"""

from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._exoscale.nlb import NLB_ARGUMENT_SPEC, nlb_annotations
from ..module_utils._istio.eastwest_gateway import Form, GatewayApiForm, OperatorForm, ensure
from ..module_utils._istio.gateway_settings import GatewaySettings
from ..module_utils._istio.record import require_cluster
from ..module_utils._istio.rendering import AnswerCache, Istioctl
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._kubernetes.objects import UNCHANGED, render_diff, summarise


def run(task: Task) -> Result:
    """Ensure the gateway, and return the module's result."""
    params = task.params
    settings = GatewaySettings(
        network=params["network"],
        hosts=params["hosts"],
        annotations={
            **nlb_annotations(params["nlb"] or {}),
            **{key: str(value) for key, value in params["annotations"].items()},
        },
        source_ranges=params["source_ranges"],
        hub=params["hub"],
        image_pull_secrets=params["image_pull_secrets"],
        revision=params["revision"],
        ha=params["ha"],
        operator_spec=params["spec"],
        parameters=params["parameters"],
    )
    settings.check()
    if kubeconfig_is_to_come(task):
        nothing = {"address": "", "addresses": [], "former_address": ""}
        return {"changed": True, "objects": summarise([]), **nothing}
    client = KubernetesClient(params["kubeconfig"], params["context"], params["cluster"])
    require_cluster(client, params["cluster"], network=params["network"])
    try:
        if params["form"] == "gateway-api":
            client.version()  # as an installation does, for the clearest error if the cluster is away
        wanted, other = _forms(params, client, settings, task.check_mode)
        outcome = ensure(client, wanted, other, params["timeout"], task.check_mode)
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None
    address = outcome.addresses[0] if outcome.addresses else ""
    if outcome.former_address:
        task.warn(
            f"{client.name}: its gateway has the address {address} now, no longer {outcome.former_address}. "
            "The peers find it by themselves; change what else names the old one, such as firewalls and DNS"
        )
    return {
        "changed": any(change.action != UNCHANGED for change in outcome.changes),
        "address": address,
        "addresses": outcome.addresses,
        "former_address": outcome.former_address or "",
        "service": outcome.service,
        "objects": summarise(outcome.changes),
        **({"diff": render_diff(outcome.changes)} if task.diff else {}),
    }


def _forms(
    params: dict[str, Any], client: KubernetesClient, settings: GatewaySettings, check_mode: bool
) -> tuple[Form, Form]:
    """Return the form that is wanted, and the other one."""
    gateway_api = GatewayApiForm(client, settings)
    if params["form"] == "gateway-api":
        return gateway_api, OperatorForm(client, settings)
    cache = AnswerCache(params["cache_file"], writable=not check_mode)
    istioctl = Istioctl(params["istioctl"], params["kubeconfig"], params["context"], cache)
    return OperatorForm(client, settings, istioctl, params["adopt"]), gateway_api


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "cluster": {"type": "str"},
        "form": {
            "type": "str",
            "choices": ["istio-operator", "gateway-api"],
            "default": "istio-operator",
        },
        "istioctl": {"type": "path"},
        "cache_file": {"type": "path"},
        "adopt": {"type": "bool", "default": False},
        "network": {"type": "str", "required": True},
        "hosts": {"type": "list", "elements": "str", "default": ["*.local"]},
        "source_ranges": {"type": "list", "elements": "str", "default": []},
        "nlb": {"type": "dict", "options": NLB_ARGUMENT_SPEC},
        "annotations": {"type": "dict", "default": {}},
        "hub": {"type": "str", "default": "docker.io/istio"},
        "image_pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
        "revision": {"type": "str", "default": ""},
        "ha": {"type": "bool", "default": False},
        "spec": {"type": "dict", "default": {}},
        "parameters": {"type": "dict", "default": {}},
    },
    required_if=[("form", "istio-operator", ["istioctl"])],
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
