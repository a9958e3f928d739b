#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensure the one root CA of a mesh."""

from __future__ import annotations

DOCUMENTATION = r"""
module: root_ca
short_description: Create the one root CA of a mesh, or check yours, against the roots that the clusters trust
version_added: 0.1.0
description:
  - Creates the root CA of a mesh once, in files on the controller, or checks the one that is given in
    O(certificate).
  - Looks at every member first. Never creates a root if a cluster already has one, in secret C(cacerts) or in
    config map C(istio-ca-root-cert). Fails if a cluster trusts another root than this one.
  - A member that does not answer, or has no kubeconfig yet, may have a root. So it is an error if a root has
    to be created, and only then.
  - Never changes a root. Encrypts a key in clear text if there is a passphrase.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state_dir:
    description:
      - Folder of the mesh's state. In it, the root is in C(ca/root-cert.pem) and C(ca/root-key.pem), with
        mode 0600.
      - Exactly one of O(state_dir) and O(certificate) is required.
    type: path
  certificate:
    description:
      - A root that is kept elsewhere, as PEM text. If an intermediate of this root signs for the clusters,
        the intermediate comes first and the root last.
    type: str
  key_path:
    description:
      - File with the private key of O(certificate), to check that the two belong together.
    type: path
  key_content:
    description:
      - The private key of O(certificate) as PEM text, instead of O(key_path).
    type: str
  passphrase:
    description:
      - Passphrase of the key. A new key without a passphrase is stored in clear text, with a warning.
    type: str
  organization:
    description:
      - Organization (O) in the subject of a new root.
    type: str
    default: Istio
  key_type:
    description:
      - Type of a new root's key.
    type: str
    choices: [rsa, ecdsa-p256, ecdsa-p384]
    default: rsa
  key_size:
    description:
      - Size of a new RSA key in bits.
    type: int
    default: 4096
  lifetime:
    description:
      - Lifetime of a new root, in days.
    type: int
    default: 3650
  intermediate_lifetime:
    description:
      - Lifetime of an intermediate CA, in days. A root with fewer days left gives a warning.
    type: int
    default: 365
  intermediate_renew_before:
    description:
      - An intermediate CA with fewer days left is renewed.
    type: int
    default: 30
  intermediate_renew:
    description:
      - Whether intermediate CAs are renewed even if they are not due.
    type: bool
    default: false
  signs_for:
    description:
      - Names of the members for which the root of O(state_dir) signs in this run. If one of them needs a new
        intermediate CA, the module must be able to open the root's key, before anything changes.
    type: list
    elements: str
    default: []
  new_mesh:
    description:
      - ID of the mesh, if the mesh is new. Then a root is created even if a member could not be read, or says
        that it is in a mesh.
    type: str
  timeout:
    description:
      - Time that the whole module may take, in seconds.
    type: int
    default: 120
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ensure the root CA
  exomesh.istio.root_ca:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    state_dir: "{{ mesh_state_dir }}"
    passphrase: "{{ lookup('ansible.builtin.env', 'EXOMESH_ROOT_PASSPHRASE') }}"
  run_once: true
"""

RETURN = r"""
certificate:
  description:
    - The CA that signs for the clusters, with its chain up to the root, as PEM text; empty in check mode
      while there is none.
  type: str
  returned: success
fingerprint:
  description: SHA-256 of the root; empty in check mode while there is none.
  type: str
  returned: success
  sample: "4f:53:cd:a1:..."
not_after:
  description: When the root expires; empty in check mode while there is none.
  type: str
  returned: success
  sample: "2036-11-20T04:40:00Z"
changes:
  description: What was changed, or would be.
  type: list
  elements: str
  returned: success
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from datetime import timedelta

from ..module_utils._base.files import real_path
from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_of
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._trust.root_ca import (
    Intermediates,
    LocalRoot,
    RootProfile,
    judge_given_root,
    load_authority,
)
from ..module_utils._trust.x509 import KEY_TYPES, KeyKind, chain_pem, describe


def run(task: Task) -> Result:
    """Ensure the root; return the module's result."""
    params = task.params
    require("cryptography")
    members = members_of(params)
    renew_within = timedelta(days=params["intermediate_lifetime"])
    if params["state_dir"]:
        profile = RootProfile(
            params["organization"],
            KeyKind(params["key_type"], params["key_size"]),
            timedelta(days=params["lifetime"]),
        )
        intermediates = Intermediates(
            params["organization"],
            profile.key,
            renew_within,
            timedelta(days=params["intermediate_renew_before"]),
            params["intermediate_renew"],
            params["signs_for"],
        )
        root = LocalRoot(real_path(params["state_dir"]), params["passphrase"], params["new_mesh"])
        outcome = root.ensure(members, profile, intermediates, task.check_mode)
    else:
        authority = None
        if params["key_path"] or params["key_content"]:
            authority = load_authority(
                params["certificate"], params["key_path"], params["key_content"], params["passphrase"]
            )
        outcome = judge_given_root(members, params["certificate"], renew_within, authority)
    for warning in outcome.warnings:
        task.warn(warning)
    told = describe(outcome.chain[-1]) if outcome.chain else {}
    after = "".join(f"{change}\n" for change in outcome.changes)
    return {
        "changed": bool(outcome.changes),
        "changes": outcome.changes,
        "certificate": chain_pem(outcome.chain),
        "fingerprint": told.get("fingerprint", ""),
        "not_after": told.get("not_after", ""),
        **({"diff": {"before": "", "after": after}} if task.diff else {}),
    }


SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "state_dir": {"type": "path"},
        "certificate": {"type": "str"},
        "key_path": {"type": "path", "no_log": False},
        "key_content": {"type": "str", "no_log": True},
        "passphrase": {"type": "str", "no_log": True},
        "organization": {"type": "str", "default": "Istio"},
        "key_type": {"type": "str", "choices": list(KEY_TYPES), "default": "rsa", "no_log": False},
        "key_size": {"type": "int", "default": 4096, "no_log": False},
        "lifetime": {"type": "int", "default": 3650},
        "intermediate_lifetime": {"type": "int", "default": 365},
        "intermediate_renew_before": {"type": "int", "default": 30},
        "intermediate_renew": {"type": "bool", "default": False},
        "signs_for": {"type": "list", "elements": "str", "default": []},
        "new_mesh": {"type": "str"},
        "timeout": {"type": "int", "default": 120},
    },
    mutually_exclusive=[("state_dir", "certificate"), ("key_path", "key_content")],
    required_one_of=[("state_dir", "certificate")],
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
