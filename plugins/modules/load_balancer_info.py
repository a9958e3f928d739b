#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for the address of a Service of type LoadBalancer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: load_balancer_info
short_description: Wait for the address of a Service of type LoadBalancer, and say what is in the way
version_added: 0.1.0
description:
  - Waits until a load balancer has given the Service an address, and returns it.
  - If no address comes in time, reports what the cluster's Events say about it, and the likely cause.
  - Finds an east-west gateway of either form by its network, as the peers do, or a Service by its name.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.attributes.info_module
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    details:
      - Does not wait and does not fail, as the Service may not exist yet. RV(address) may be empty then.
options:
  namespace:
    description:
      - Namespace of the Service.
    type: str
    default: istio-system
  name:
    description:
      - Name of the Service. Give this or O(network).
    type: str
  network:
    description:
      - Name of the network. The Service is its gateway, by the label C(topology.istio.io/network).
    type: str
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Wait for the address of the east-west gateway
  exomesh.istio.load_balancer_info:
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    network: network-vienna
    timeout: 180
  register: gateway

- name: Show the address of the load balancer
  ansible.builtin.debug:
    var: gateway.address
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
name:
  description: Name of the Service; empty in check mode if there is none yet.
  type: str
  returned: success
failure:
  description: Why the module failed, for programs; C(details.events) has the Events of the Service.
  type: dict
  returned: failure
"""


from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.gateway_service import gateway_service
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._kubernetes.load_balancer import addresses, wait_for_addresses


def run(task: Task) -> Result:
    """Wait for the address, or only look in check mode, and return the module's result."""
    params = task.params
    if kubeconfig_is_to_come(task):
        return {"changed": False, "address": "", "addresses": [], "name": params["name"] or ""}
    client = KubernetesClient(params["kubeconfig"], params["context"])
    namespace = params["namespace"]
    try:
        name = params["name"] or gateway_service(client, namespace, params["network"])
        if task.check_mode:
            found = addresses(client, namespace, name) if name else []
        elif name:
            found = wait_for_addresses(client, namespace, name, params["timeout"])
        else:
            raise ExomeshError(
                f"No Service of namespace {namespace} is the gateway of network {params['network']}",
                "gateway_missing",
                next_step="Run playbook exomesh.istio.gateway, or correct the network's name",
            )
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None
    return {"changed": False, "address": found[0] if found else "", "addresses": found, "name": name or ""}


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "namespace": {"type": "str", "default": "istio-system"},
        "name": {"type": "str"},
        "network": {"type": "str"},
    },
    required_one_of=[("name", "network")],
    mutually_exclusive=[("name", "network")],
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
