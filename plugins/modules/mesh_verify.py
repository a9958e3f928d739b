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
  - Looks at all members concurrently. In each member, it checks the clock, trust, istiod and what each of its
    replicas knows, the east-west gateway, the remote secrets, and what their accounts may do in the peers. It
    also finds services that silently do not cross networks.
  - Asks one running proxy of each workload, and all proxies of the east-west gateway, for the root that they
    trust, their certificate, and the configuration that they rejected. Judges whether NetworkPolicies refuse
    what the mesh needs.
  - Then starts a small workload of its own in every member and sends requests from each to each, over the way
    that all requests of the mesh take. The two proxies of a request write into its answer which identity they
    verified on the other side, and which cluster answered.
  - Removes the workload again, also after a failure. If a run was killed, its workload ends by itself after
    half an hour, and the next run removes it.
  - A proof by requests can be kept in O(proof_file). Later calls only read while the proof is younger than
    O(proof_hours), and nothing has changed that the requests depended on. RV(verification.mesh) then says
    when the requests succeeded.
  - Does not fail if the mesh is not healthy, but says so in RV(healthy) and RV(findings). All kinds of
    findings are described in R(Findings, ansible_collections.exomesh.istio.docsite.findings).
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: partial
    details:
      - Works as with O(read_only=true), and writes no file.
  diff_mode:
    support: N/A
    details:
      - Nothing remains changed.
  idempotent:
    support: full
options:
  only:
    description:
      - Names of members, in the inventory or in the mesh. Only pairs with one of them are looked at. The work
        for one member then does not grow with the square of the number of members. Without it, all pairs are
        looked at.
    type: list
    elements: str
    default: []
  read_only:
    description:
      - Whether to look only at what can be read. There is then no test workload, so no requests are sent, and
        its sidecars are not checked.
    type: bool
    default: false
  left_out:
    description:
      - Names of clusters that are members, but are not among O(members) in this run. Nothing is reported
        about them.
    type: list
    elements: str
    default: []
  silent:
    description:
      - Why members are known not to answer, by name. These members are not asked again.
    type: dict
    default: {}
  proof_file:
    description:
      - File that keeps the proof that requests of every pair succeeded in a healthy mesh. It has a hash of
        what they depended on - istiods, gateways and their addresses, remote secrets, CAs, and policies and
        settings of the whole mesh. It holds no secret.
    type: path
  proof_hours:
    description:
      - Hours for which such a proof is valid. With V(0), requests are sent in any case. A fault that the
        clusters' APIs do not show, such as a firewall between them, is noticed after that time at the latest.
    type: int
    default: 0
  least_privilege:
    description:
      - Whether it is a finding if the account of a remote secret may read Secrets.
    type: bool
    default: false
  output_dir:
    description:
      - Folder in which the verification is written as C(verification.json) and C(junit.xml). The form of the
        first is that of C(docs/schema/verification.schema.json). The folder is created if it does not exist.
      - The filter P(exomesh.istio.verification_page#filter) makes a page of the first file.
    type: path
  workload:
    description:
      - V(own) starts the workload, and removes it.
      - V(start) only starts the workload, in the members of O(only) or in all members. The module does not
        wait, so that the pods can start while something else goes on.
      - V(started) uses a workload that V(start) has started, if it still exists, and removes it.
    type: str
    choices: [own, start, started]
    default: own
  server_image:
    description:
      - Image of the test server. It must serve HTTP on port 3000.
    type: str
    default: exo.container-registry.com/exoscale-images/exo-webtest:v2
  server_user:
    description:
      - User ID as which the test server runs. Without it, the server runs as the image's user.
      - Where Pod Security enforces level V(restricted), the cluster admits the pod only with such a user.
    type: int
  client_image:
    description:
      - Image of the test client. It must have C(sleep) and C(curl), 7.84 or newer.
    type: str
    default: docker.io/curlimages/curl:8.16.0
  timeout:
    description:
      - Time that the whole module may take, in seconds.
      - Two fifths of it are for the mesh to be found healthy. If one cluster is silent, the findings about
        the others are reported all the same.
    type: int
    default: 300
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

- name: Fail if it is not healthy
  ansible.builtin.assert:
    that: mesh.healthy
    fail_msg: "{{ mesh.report }}"
"""

RETURN = r"""
healthy:
  description: Whether there is no finding of severity V(error) or V(unknown).
  type: bool
  returned: success, except with O(workload=start)
state:
  description:
    - V(unhealthy) with a finding of severity V(error). V(unknown) if there is none, but something could not
      be looked at. Otherwise V(healthy).
  type: str
  returned: success, except with O(workload=start)
verification:
  description:
    - Everything that was seen and found, in the form of C(docs/schema/verification.schema.json).
  type: dict
  returned: success, except with O(workload=start)
  contains:
    schema:
      description: Version of that form.
      type: int
    mesh:
      description: Whether it is healthy, how and when it was looked at, its roots and trust domains.
      type: dict
    clusters:
      description: Versions, gateways, istiods, certificates and clock of every member.
      type: list
      elements: dict
    pairs:
      description: State, checks, identities, latency and rights of every ordered pair.
      type: list
      elements: dict
    findings:
      description: The same as RV(findings).
      type: list
      elements: dict
findings:
  description: What is wrong, worst first.
  type: list
  elements: dict
  returned: success, except with O(workload=start)
  contains:
    code:
      description:
        - Kind of the finding, which stays the same across releases; see
          R(Findings, ansible_collections.exomesh.istio.docsite.findings).
      type: str
    severity:
      description:
        - V(error) if it is wrong; V(unknown) if it could not be looked at; V(warning) if it works.
      type: str
    cluster:
      description: The cluster that the finding is about, if it is about one cluster.
      type: str
    source:
      description: Source of the pair that the finding is about, if it is about a pair.
      type: str
    destination:
      description: Destination of that pair.
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
      description: The next command to run.
      type: str
    link:
      description: Where to read more.
      type: str
failed_pairs:
  description: Pairs that do not work, as C(source -> destination).
  type: list
  elements: str
  returned: success, except with O(workload=start)
report:
  description: Matrix of the pairs, latencies and findings, as lines for people.
  type: list
  elements: str
  returned: success, except with O(workload=start)
"""

import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.files import FileError, make_private_directory
from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_named, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._kubernetes.images import CURL_IMAGE
from ..module_utils._verify import report
from ..module_utils._verify.judge import Verdict
from ..module_utils._verify.proof import ProofFile
from ..module_utils._verify.state import MeshState
from ..module_utils._verify.verification import Verification, start_only
from ..module_utils._verify.workload import Workload

_TO_SETTLE = 0.4
"""The share of the time in which the mesh must be found healthy. The rest is to look and to clean up."""


def run(task: Task) -> Result:
    """Verify the mesh, and return the module's result."""
    params = task.params
    begun = time.monotonic()
    settle = params["timeout"] * _TO_SETTLE
    reads = params["read_only"] or task.check_mode
    # Half an hour after the time limit, nobody waits for the workload any more.
    lifetime = params["timeout"] + 1800
    images = (params["server_image"], params["client_image"])
    workload = None if reads else Workload(*images, lifetime, params["server_user"])
    members = members_of(params)
    only = [member.name for member in members_named(members, "only", params["only"])]
    to_come = [member.name for member in members if not Path(member.kubeconfig).exists()]
    if task.check_mode and to_come:
        return _not_looked_at(to_come)
    if params["workload"] == "start":
        here = [member for member in members if not only or member.name in only]
        if workload:
            answering = [member for member in here if member.name not in params["silent"]]
            start_only(answering, workload, params["timeout"])
        return {"changed": False}
    # A proof is about all pairs.
    proof_file = None if only or not params["proof_file"] else ProofFile(Path(params["proof_file"]))

    def look(workload: Workload | None, timeout: float) -> tuple[MeshState, Verdict]:
        verification = Verification(
            members,
            workload,
            timeout,
            only,
            params["least_privilege"],
            started=params["workload"] == "started",
            policies=proof_file is not None,
            silent=params["silent"],
            left_out=params["left_out"],
        )
        with verification:
            seen = verification.look()
        for warning in verification.warnings:
            task.warn(warning)
        return seen

    kept = proof_file.read() if proof_file and params["proof_hours"] else None
    # The first look does not wait. If the mesh is not healthy at once, requests are sent.
    mesh, verdict = look(None, 0) if kept and workload else look(workload, settle)
    if kept and kept.holds(mesh, timedelta(hours=params["proof_hours"])):
        mesh = replace(mesh, proved=kept.proved)
    if kept and workload and not (mesh.proved and verdict.healthy):
        mesh, verdict = look(workload, settle)
    if proof_file and mesh.full:
        if verdict.healthy:  # what is only a warning does not concern these requests
            proof_file.keep(mesh)
        else:
            proof_file.forget()
    told = report.result(mesh, verdict, time.monotonic() - begun, only)
    if params["output_dir"] and not task.check_mode:
        write(Path(params["output_dir"]), told)
    return {
        "changed": False,
        "healthy": verdict.healthy,
        "state": verdict.state,
        "verification": told,
        "findings": told["findings"],
        "failed_pairs": [
            f"{pair['source']} -> {pair['destination']}"
            for pair in told["pairs"]
            if pair["state"] == "failed"
        ],
        "report": report.lines(told),
    }


def _not_looked_at(names: list[str]) -> Result:
    """Return the result of check mode before the first run: nothing is found, and nothing is proved."""
    told = f"The mesh was not looked at, as kubeconfigs are still to come: {', '.join(names)}"
    nothing: Result = {"findings": [], "failed_pairs": [], "report": [told]}
    return {"changed": False, "healthy": False, "state": "unknown", **nothing}


def write(folder: Path, told: report.Result) -> None:
    """Write the verification as files.

    :raises ExomeshError: the folder cannot be written to.
    """
    files = {
        "verification.json": json.dumps(told, indent=2) + "\n",
        "junit.xml": report.junit(told),
    }
    try:
        make_private_directory(folder)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (OSError, FileError) as error:
        raise ExomeshError(
            f"The report cannot be written to {folder}",
            "report_not_written",
            cause=error.strerror if isinstance(error, OSError) else error.message,
            next_step="Name another output_dir",
        ) from None


SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "only": {"type": "list", "elements": "str", "default": []},
        "read_only": {"type": "bool", "default": False},
        "left_out": {"type": "list", "elements": "str", "default": []},
        "silent": {"type": "dict", "default": {}},
        "proof_file": {"type": "path"},
        "proof_hours": {"type": "int", "default": 0},
        "least_privilege": {"type": "bool", "default": False},
        "output_dir": {"type": "path"},
        "workload": {"type": "str", "choices": ["own", "start", "started"], "default": "own"},
        "server_image": {
            "type": "str",
            "default": "exo.container-registry.com/exoscale-images/exo-webtest:v2",
        },
        "server_user": {"type": "int"},
        "client_image": {"type": "str", "default": CURL_IMAGE},
        "timeout": {"type": "int", "default": 300},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
