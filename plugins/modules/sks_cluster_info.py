#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List SKS clusters."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sks_cluster_info
short_description: List Exoscale SKS clusters of one, several or all zones
version_added: 0.1.0
description:
  - Lists the SKS clusters of one, several or all zones.
  - A zone that fails does not hide the others. It is in RV(failed_zones) and gives a warning.
  - The Python client gets all details with one request for each zone. The exo CLI needs one more for each
    cluster. So O(backend=auto) prefers the client here if it is installed and a key is known.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.attributes.info_module
  - exomesh.istio.exoscale
options:
  zones:
    description:
      - Zones to look in. Without it, all zones are used.
    type: list
    elements: str
  cluster:
    description:
      - Name or ID of the clusters to return. Without it, all clusters are returned.
    type: str
seealso:
  - module: exomesh.istio.sks_kubeconfig
  - plugin: exomesh.istio.sks
    plugin_type: inventory
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: List all clusters
  exomesh.istio.sks_cluster_info:
  register: sks

- name: Show their versions
  ansible.builtin.debug:
    msg: "{{ item.name }} in {{ item.zone }} runs {{ item.version }}"
  loop: "{{ sks.clusters }}"
  loop_control:
    label: "{{ item.name }}"

- name: Find one cluster in two zones
  exomesh.istio.sks_cluster_info:
    zones: [de-fra-1, at-vie-2]
    cluster: mesh-a
"""

RETURN = r"""
clusters:
  description: The clusters, in the order of the zones and by name.
  type: list
  elements: dict
  returned: success
  contains:
    id:
      description: ID of the cluster.
      type: str
    name:
      description: Name of the cluster.
      type: str
    zone:
      description: Zone of the cluster.
      type: str
    state:
      description: State of the cluster.
      type: str
      sample: running
    version:
      description: Kubernetes version of the control plane.
      type: str
      sample: 1.36.3
    cni:
      description: Network plugin, C(calico) or C(cilium); empty without one.
      type: str
    level:
      description: Service level, C(pro) or C(starter).
      type: str
    description:
      description: Description of the cluster.
      type: str
    endpoint:
      description: URL of the API server, without a port.
      type: str
    created_at:
      description: When it was created, RFC 3339 in UTC.
      type: str
    auto_upgrade:
      description: Whether the control plane is upgraded to new patch releases.
      type: bool
    addons:
      description: Addons of the cluster.
      type: list
      elements: str
    labels:
      description: Labels of the cluster.
      type: dict
    nodepools:
      description: ID and name of every node pool.
      type: list
      elements: dict
failed_zones:
  description: By zone that did not answer, the reason with its C(code) and C(message).
  type: dict
  returned: success
  sample: {}
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""


from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._exoscale.backend import EXOSCALE_ARGUMENTS, connect


def run(task: Task) -> Result:
    """Ask the zones, and return the module's result.

    :raises ExomeshError: every zone failed.
    """
    params = task.params
    answer = connect(params, prefer="api").clusters_of(params["zones"])
    if answer.failed_zones and not answer.answered_zones:
        raise next(iter(answer.failed_zones.values()))
    wanted = params["cluster"]
    for error in answer.failed_zones.values():
        task.warn(str(error))
    return {
        "changed": False,
        "clusters": [found.as_dict() for found in answer.clusters if wanted in (None, found.name, found.id)],
        "failed_zones": {zone: error.failure() for zone, error in answer.failed_zones.items()},
    }


SPEC = Spec(
    argument_spec={
        **EXOSCALE_ARGUMENTS,
        "zones": {"type": "list", "elements": "str"},
        "cluster": {"type": "str"},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
