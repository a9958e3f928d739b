#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that a mesh works, for every ordered pair of clusters."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_verify
short_description: Prove that a mesh works, for every ordered pair of clusters
version_added: 0.1.0
description:
  - Looks in every member, concurrently, for istiod, for its east-west gateway, for its remote secrets, and
    for what each replica of istiod says of its peers.
  - Then starts a small workload of its own in every member and sends a request from each to each. The
    endpoints that the sidecars know must be the peers' gateways, and the right cluster must answer.
  - The workload is removed again, also after a failure. What a killed run left behind is removed first.
  - Does not fail when the mesh is not healthy, but says so in RV(healthy) and RV(findings).
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: partial
    details:
      - Only reads there. There is no test workload, so no requests are sent and sidecars are not looked at.
  diff_mode:
    support: N/A
    details:
      - Nothing remains changed.
  idempotent:
    support: full
options:
  server_image:
    description:
      - Image of the test server. It must serve HTTP on port 3000. Where its page holds the pod's host name,
        that proves which cluster answered.
    type: str
    default: exo.container-registry.com/exoscale-images/exo-webtest:v2
  client_image:
    description:
      - Image of the test client. It must have C(curl) and C(sleep).
    type: str
    default: docker.io/curlimages/curl:8.16.0
  timeout:
    description:
      - How long the mesh may take to be found healthy, in seconds. Removing the workload comes on top.
    type: int
    default: 120
requirements:
  - Python package C(kubernetes) >= 31.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Verify the mesh
  exomesh.istio.mesh_verify:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
  register: mesh

- name: Fail when it is not healthy
  ansible.builtin.assert:
    that: mesh.healthy
    fail_msg: "{{ mesh.report }}"
"""

RETURN = r"""
healthy:
  description: Whether there are no findings.
  type: bool
  returned: success
read_only:
  description: Whether only the reading checks were made (check mode).
  type: bool
  returned: success
pairs:
  description: What was seen of every ordered pair.
  type: list
  elements: dict
  returned: success
  contains:
    source:
      description: Where requests come from.
      type: str
    destination:
      description: Where they go.
      type: str
    ok:
      description: Whether every check of the pair was good.
      type: bool
    secret:
      description: Whether the source has a remote secret for the destination.
      type: bool
    synced:
      description: Whether every istiod of the source has read the destination.
      type: bool
    endpoints:
      description: Addresses that the source's sidecar knows for the destination's service.
      type: list
      elements: str
    answered_by:
      description: The cluster that answered, as far as its page tells.
      type: str
    seconds:
      description: How long the request took.
      type: float
findings:
  description: What is wrong.
  type: list
  elements: dict
  returned: success
  contains:
    code:
      description: Kind of the finding, stable across releases.
      type: str
    severity:
      description: V(error) or V(warning).
      type: str
    cluster:
      description: The cluster it is about, if it is about one.
      type: str
    source:
      description: Where the way begins that it is about.
      type: str
    destination:
      description: Where that way ends.
      type: str
    message:
      description: What is wrong.
      type: str
    evidence:
      description: What was seen.
      type: list
      elements: str
    cause:
      description: The likely cause.
      type: str
    next_step:
      description: What to do.
      type: str
failed_pairs:
  description: Pairs that are not good, as C(source -> destination).
  type: list
  elements: str
  returned: success
report:
  description: Matrix of the pairs and the findings, as lines for people.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._members import MEMBERS_ARGUMENT_SPEC, members_of
from ansible_collections.exomesh.istio.plugins.module_utils._mesh_verify import (
    Verification,
    Workload,
    matrix,
)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Verify the mesh; gives the module's result."""
    params = module.params
    members = members_of(params)
    workload = None if module.check_mode else Workload(params["server_image"], params["client_image"])
    verdict = Verification(members, workload, params["timeout"]).run()
    for warning in verdict.warnings:
        module.warn(warning)
    names = [member.name for member in members]
    report = matrix(names, verdict.failed_pairs, asked=workload is not None)
    if module.check_mode:
        report += ["", "Check mode: only what can be read was looked at, and no requests were sent."]
    for finding in verdict.findings:
        report += ["", *finding.lines()]
    return {
        "changed": False,
        "healthy": verdict.healthy,
        "read_only": module.check_mode,
        "pairs": [
            {
                "source": pair.source,
                "destination": pair.destination,
                "ok": (pair.source, pair.destination) not in verdict.failed_pairs,
                "secret": pair.secret,
                "synced": pair.synced,
                "endpoints": pair.endpoints,
                "answered_by": pair.answered_by,
                "seconds": pair.seconds,
            }
            for pair in verdict.pairs
        ],
        "findings": [finding.as_dict() for finding in verdict.findings],
        "failed_pairs": [f"{source} -> {destination}" for source, destination in verdict.failed_pairs],
        "report": report,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **MEMBERS_ARGUMENT_SPEC,
            "server_image": {
                "type": "str",
                "default": "exo.container-registry.com/exoscale-images/exo-webtest:v2",
            },
            "client_image": {"type": "str", "default": "docker.io/curlimages/curl:8.16.0"},
            "timeout": {"type": "int", "default": 120},
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
