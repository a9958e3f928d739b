#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install Istio with istioctl, only where the cluster differs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_install
short_description: Install Istio with istioctl, only where the cluster differs
version_added: 0.1.0
description:
  - Renders what C(istioctl install) would apply, compares it with the cluster by a server-side dry run, and
    runs the installer only where something differs. A run that changes nothing only reads.
  - Waits until the Deployments of the installation are ready. On a time-out it says which is not, and why.
  - Works for istiod and for gateways alike, as the IstioOperator says.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Works against a cluster without Istio, its namespace and its kinds, too.
  diff_mode:
    support: full
    details:
      - Shows the fields that change; objects that are created are named only.
  idempotent:
    support: full
options:
  istioctl:
    description:
      - The istioctl program. Its release is the release that is installed.
    type: path
    required: true
  name:
    description:
      - Name of the IstioOperator. Objects of an earlier installation of this name that are not rendered any
        more are deleted, as C(istioctl install) does.
    type: str
    default: installed-state
  spec:
    description:
      - The C(spec) of the IstioOperator.
    type: dict
    required: true
  overlay:
    description:
      - Merged over O(spec). Mappings are merged, everything else is replaced.
    type: dict
    default: {}
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Install istiod
  exomesh.istio.istio_install:
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    istioctl: /usr/local/bin/istioctl
    spec:
      profile: minimal
      hub: docker.io/istio
      values:
        global:
          meshID: mesh1
          multiCluster:
            clusterName: vienna
          network: network-vienna
    timeout: 300
"""

RETURN = r"""
version:
  description: Istio release that is installed, or would be.
  type: str
  returned: success, where there is a kubeconfig
  sample: 1.31.1
objects:
  description: Names of the objects by what happened to them, or would.
  type: dict
  returned: success
  contains:
    create:
      description: Objects that did not exist.
      type: list
      elements: str
    update:
      description: Objects of which fields differed.
      type: list
      elements: str
    delete:
      description: Objects of an earlier installation that are not needed any more.
      type: list
      elements: str
    unchanged:
      description: Objects that were as they should be.
      type: list
      elements: str
readiness:
  description: Deployments of the installation, each V(ready) or what is missing.
  type: dict
  returned: success
  sample:
    istio-system/istiod: ready
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._istio_install import (
    Istioctl,
    install,
    istio_operator,
    plan,
    readiness,
    wait_ready,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import (
    KUBERNETES_ARGUMENT_SPEC,
    KubernetesClient,
    kubeconfig_is_to_come,
)
from ansible_collections.exomesh.istio.plugins.module_utils._objects import render_diff, summarise


def run(module: AnsibleModule) -> dict[str, Any]:
    """Compare, install where needed, wait; gives the module's result."""
    params = module.params
    if kubeconfig_is_to_come(module):
        return {"changed": True, "objects": summarise([]), "readiness": {}}
    client = KubernetesClient(params["kubeconfig"], params["context"])
    istioctl = Istioctl(params["istioctl"], params["kubeconfig"], params["context"])
    operator = istio_operator(params["name"], params["spec"], params["overlay"])
    try:
        installation = plan(client, istioctl, operator)
        if not module.check_mode:
            if installation.differs:
                install(client, istioctl, operator, installation, params["timeout"])
            ready = wait_ready(client, installation.deployments, params["timeout"])
        else:
            ready = readiness(client, installation.deployments)
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None
    return {
        "changed": installation.differs,
        "version": installation.version,
        "objects": summarise(installation.changes),
        "readiness": ready,
        **({"diff": render_diff(installation.changes)} if module._diff else {}),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **KUBERNETES_ARGUMENT_SPEC,
            "istioctl": {"type": "path", "required": True},
            "name": {"type": "str", "default": "installed-state"},
            "spec": {"type": "dict", "required": True},
            "overlay": {"type": "dict", "default": {}},
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
