#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotate the root CA of a running mesh, phase by phase."""

from __future__ import annotations

DOCUMENTATION = r"""
module: root_rotation
short_description: Rotate the root CA of a running mesh, phase by phase, each proved at every proxy
version_added: 0.1.0
description:
  - Does one step of a rotation for all members at once. Every member must answer, or nothing is changed.
  - Secret C(cacerts) of each cluster tells how far that cluster is. So a rotation that is interrupted
    anywhere continues with the next call.
  - Needs only the certificate of the old root, which the clusters have, and never its key.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
    details:
      - Reports what the step would write, and waits for nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  step:
    description:
      - V(plan) tells the phase of every cluster, and fails if something would make the rotation drop
        requests. Before a rotation begins, it asks every proxy. It makes the new root in O(state_dir), if
        there is none yet. It changes no cluster.
      - V(trust) lets every cluster trust both roots, and waits until every proxy does.
      - V(prove) waits until every proxy of the clusters in O(only) has taken the phase of its cluster.
      - V(finish) takes the old root away, if each cluster signs with the new one, and ends the rotation.
      - V(back) returns to the old root, from any phase before that.
    type: str
    required: true
    choices: [plan, trust, prove, finish, back]
  state_dir:
    description:
      - Folder of the mesh's state. The new root waits in its folder C(ca/next), and moves to C(ca).
        The former one moves to C(ca/former-FINGERPRINT).
      - Without it, O(certificate) is kept elsewhere.
    type: path
  old_root:
    description:
      - The beginning of the SHA-256 of the root that is to go, at least eight hex digits, with or without
        colons. A rotation to a root that the module makes begins only with it, so that a second call rotates
        nothing.
    type: str
  certificate:
    description:
      - The new root as PEM text. If an intermediate of it signs for the clusters, that one comes first and
        the root last. Without it, the module makes a root in O(state_dir).
    type: str
  key_path:
    description:
      - File with the private key of O(certificate).
    type: path
  key_content:
    description:
      - The private key of O(certificate) as PEM text, instead of O(key_path).
    type: str
  passphrase:
    description:
      - Passphrase of the new root's key.
    type: str
  organization:
    description:
      - Organization (O) in the subject of a root that is made.
    type: str
    default: Istio
  key_type:
    description:
      - Type of the key of a root that is made.
    type: str
    choices: [rsa, ecdsa-p256, ecdsa-p384]
    default: rsa
  key_size:
    description:
      - Size of its RSA key in bits.
    type: int
    default: 4096
  lifetime:
    description:
      - Its lifetime in days.
    type: int
    default: 3650
  only:
    description:
      - Names of the members whose proxies V(prove) asks.
    type: list
    elements: str
    default: []
  back:
    description:
      - Whether V(plan) is for V(back). Then it checks only what that needs.
    type: bool
    default: false
  timeout:
    description:
      - Time that the step may take, in seconds.
    type: int
    default: 600
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See how far the rotation is, and what the next step is
  exomesh.istio.root_rotation:
    step: plan
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    state_dir: "{{ mesh_state_dir }}"
    old_root: 4f:53:cd:a1
  register: plan
  run_once: true

- name: Let every cluster trust both roots
  exomesh.istio.root_rotation:
    step: trust
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    certificate: "{{ plan.certificate }}"
  run_once: true
  when: not plan.done
"""

RETURN = r"""
done:
  description: Whether there is nothing to do, because the mesh has the wanted root already.
  type: bool
  returned: success
phase:
  description:
    - The phase that every cluster has reached. 0 is the old root only, 1 is both roots, 2 is both roots and
      signing with the new one, 3 is the new root only.
  type: int
  returned: success
clusters:
  description: The phase of each cluster, by its name.
  type: dict
  returned: success
certificate:
  description: The new root with its chain, as PEM text; empty in check mode while there is none.
  type: str
  returned: success
old_certificate:
  description: The old root as PEM text; empty if no cluster has it any more.
  type: str
  returned: success
proxies:
  description: Number of proxies that are to take a phase, or have taken it.
  type: int
  returned: success
report:
  description: The same for people, line by line.
  type: list
  elements: str
  returned: success
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from typing import Any

from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._trust.rotation_steps import STEPS
from ..module_utils._trust.x509 import KEY_TYPES


def run(task: Task) -> Result:
    """Do the step; return the module's result."""
    require("cryptography")
    outcome = STEPS[task.params["step"]](task.params, task.check_mode)
    for warning in outcome.warnings:
        task.warn(warning)
    return outcome.told()


SPEC_OF_ROOT: dict[str, dict[str, Any]] = {
    "organization": {"type": "str", "default": "Istio"},
    "key_type": {"type": "str", "choices": list(KEY_TYPES), "default": "rsa", "no_log": False},
    "key_size": {"type": "int", "default": 4096, "no_log": False},
    "lifetime": {"type": "int", "default": 3650},
}

SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "step": {"type": "str", "required": True, "choices": list(STEPS)},
        "state_dir": {"type": "path"},
        "old_root": {"type": "str"},
        "certificate": {"type": "str"},
        "key_path": {"type": "path", "no_log": False},
        "key_content": {"type": "str", "no_log": True},
        "passphrase": {"type": "str", "no_log": True},
        **SPEC_OF_ROOT,
        "only": {"type": "list", "elements": "str", "default": []},
        "back": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 600},
    },
    mutually_exclusive=[("key_path", "key_content")],
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
