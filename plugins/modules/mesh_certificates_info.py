#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report every certificate of a mesh, and when it ends."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_certificates_info
short_description: Report every certificate of a mesh, and when it ends
version_added: 0.1.0
description:
  - Reads from all members concurrently the root and the intermediate CA of secret C(cacerts), the certificate
    with which each istiod answers its proxies, and the one of the newest proxy in C(istio-system).
  - Reports whether all members have the same root, and whether istiod serves the CA of its secret.
  - A member that does not answer is a problem in RV(problems). The module does not fail because of it.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.attributes.info_module
  - exomesh.istio.members
options:
  thresholds:
    description:
      - Days left at which a CA gets a notice, a warning, and an alarm.
      - Certificates of istiod and of proxies live for a day and renew themselves. They get a warning if less
        than a tenth of their life is left.
    type: list
    elements: int
    default: [60, 30, 7]
  timeout:
    description:
      - Time that the whole module may take, in seconds.
    type: int
    default: 120
requirements:
  - Python package C(kubernetes) >= 31.0.0
  - Python package C(cryptography) >= 42.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Read the certificates
  exomesh.istio.mesh_certificates_info:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
  register: certificates

- name: Fail if roots differ, or a certificate ends soon
  ansible.builtin.assert:
    that:
      - certificates.same_root
      - certificates.worst in ['ok', 'notice']
"""

RETURN = r"""
certificates:
  description: Every certificate that was seen.
  type: list
  elements: dict
  returned: success
  contains:
    cluster:
      description: Name of the cluster in the mesh.
      type: str
    role:
      description: One of V(root), V(intermediate), V(istiod) and V(workload).
      type: str
    where:
      description: Secret or pod in which it was seen.
      type: str
    subject:
      description: Its subject; empty for workloads, whose identity is in their names.
      type: str
    issuer:
      description: Subject of the CA that signed it.
      type: str
    serial:
      description: Its serial number in hex.
      type: str
    fingerprint:
      description: Its SHA-256 fingerprint.
      type: str
    not_before:
      description: When its validity begins.
      type: str
    not_after:
      description: When it expires.
      type: str
    key:
      description: Type and size of its key.
      type: str
    days_left:
      description: Whole days until it expires; negative if it has expired.
      type: int
    severity:
      description: One of V(ok), V(notice), V(warning), V(critical) and V(expired).
      type: str
same_root:
  description: Whether every member has a root, and all have the same one.
  type: bool
  returned: success
worst:
  description: The worst severity of all certificates.
  type: str
  returned: success
problems:
  description: What does not fit together, or could not be seen.
  type: list
  elements: str
  returned: success
report:
  description: The same as a table, line by line.
  type: list
  elements: str
  returned: success
prometheus:
  description: The same in Prometheus' text format.
  type: str
  returned: success
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from datetime import UTC, datetime

from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_of
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._base.waiting import sparing
from ..module_utils._trust.inventory import SEVERITIES, look_at_mesh, prometheus, same_root, table


def run(task: Task) -> Result:
    """Read the certificates, and return the module's result."""
    require("cryptography")
    now = datetime.now(UTC)
    thresholds = sorted(task.params["thresholds"], reverse=True)
    with sparing():
        clusters = look_at_mesh(members_of(task.params))
    seen = [item for cluster in clusters for item in cluster.seen]
    return {
        "changed": False,
        "certificates": [item.as_dict(now, thresholds) for item in seen],
        "same_root": same_root(clusters),
        "worst": max((item.severity(now, thresholds) for item in seen), key=SEVERITIES.index, default="ok"),
        "problems": [problem for cluster in clusters for problem in cluster.problems],
        "report": table(clusters, thresholds, now),
        "prometheus": prometheus(clusters),
    }


SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "timeout": {"type": "int", "default": 120},
        "thresholds": {"type": "list", "elements": "int", "default": [60, 30, 7]},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
