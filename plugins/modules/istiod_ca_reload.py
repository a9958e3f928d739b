#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensure that istiod serves the intermediate CA of its cluster, and check it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istiod_ca_reload
short_description: Ensure that istiod serves the intermediate CA of its cluster, and check it
version_added: 0.1.0
description:
  - Waits until every istiod of the cluster answers its proxies with a certificate of the CA in secret
    C(cacerts). istiod loads a new CA by itself, within about a minute. It is restarted only if it has not
    done so within two minutes.
  - Then starts a proxy in C(istio-system) for a moment, and checks that its new certificate comes from that
    CA.
  - Does nothing if no istiod is installed.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Reports whether istiod does not serve that CA yet. The module does not wait, and starts no proxy.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the cluster in the mesh, for messages.
    type: str
    required: true
  probe:
    description:
      - Whether to start a proxy and check its certificate.
    type: bool
    default: true
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ensure that istiod signs with its new CA
  exomesh.istio.istiod_ca_reload:
    kubeconfig: "{{ mesh_kubeconfig }}"
    name: "{{ mesh_cluster_name }}"
"""

RETURN = r"""
installed:
  description: Whether there is an istiod.
  type: bool
  returned: success
restarted:
  description: Whether istiod had to be restarted; in check mode, whether it does not serve the CA yet.
  type: bool
  returned: success
seconds:
  description: Seconds until istiod served the CA.
  type: float
  returned: success
serial:
  description: Serial number in hex of the intermediate CA that istiod serves.
  type: str
  returned: success
leaf:
  description: The certificate that a new proxy got; empty if no proxy was started.
  type: dict
  returned: success
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""


from ..module_utils._base.certificates import serial
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.record import require_cluster
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._trust.inventory import reload_ca
from ..module_utils._trust.x509 import describe


def run(task: Task) -> Result:
    """Wait for istiod, and return the module's result."""
    params = task.params
    require("cryptography")
    nothing = {
        "changed": False,
        "installed": False,
        "restarted": False,
        "seconds": 0.0,
        "serial": "",
        "leaf": {},
    }
    if kubeconfig_is_to_come(task):
        return nothing
    client = KubernetesClient(params["kubeconfig"], params["context"], params["name"])
    require_cluster(client, params["name"])
    result = reload_ca(client, params["timeout"], params["probe"], task.check_mode)
    if result is None:
        return nothing
    return {
        "changed": result.restarted,
        "installed": True,
        "restarted": result.restarted,
        "seconds": round(result.seconds, 1),
        "serial": serial(result.intermediate),
        "leaf": describe(result.leaf) if result.leaf else {},
    }


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "name": {"type": "str", "required": True},
        "probe": {"type": "bool", "default": True},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
