#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merge a context into a shared kubeconfig, or remove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeconfig_merge
short_description: Merge a context into a shared kubeconfig, or remove it, and leave the others alone
version_added: 0.1.0
description:
  - Copies one context with its cluster and user from one kubeconfig into another. All three get the same
    name. Files that they refer to are embedded, as C(kubectl config view --flatten) does.
  - Other contexts, clusters and users keep their meaning, and so does the current context unless
    O(make_current) is set. Comments are lost, as kubectl loses them.
  - Entries of that name that belong to somebody else are replaced only with O(force).
  - The file is locked while it is changed, so that parallel runs lose nothing. It is replaced in one step,
    with mode 0600.
extends_documentation_fragment:
  - exomesh.istio.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows servers, subjects, validity and fingerprints, but never a key. Of a token, it shows a part of
        the hash.
  idempotent:
    support: full
options:
  dest:
    description:
      - The shared kubeconfig. If it is missing, it is created, in directories of mode 0700.
    type: path
    required: true
  kubeconfig:
    description:
      - File to take the context from. This or O(content) is required for O(state=present).
    type: path
  content:
    description:
      - Content of a kubeconfig to take the context from.
    type: str
  context:
    description:
      - Context to take. Without it, the current context of O(kubeconfig) or O(content) is taken.
    type: str
  name:
    description:
      - Name of the context, cluster and user in O(dest). Without it, the name of the taken context is used.
      - Required for O(state=absent).
    type: str
  state:
    description:
      - Whether the context should be in O(dest).
    type: str
    choices: [present, absent]
    default: present
  make_current:
    description:
      - Whether to make it the current context. A file without a current context gets it in any case.
    type: bool
    default: false
  backup:
    description:
      - Whether to keep a copy of O(dest) before it is changed.
    type: bool
    default: false
  force:
    description:
      - Whether to replace entries of the same name that belong to another server and that this module did not
        write.
    type: bool
    default: false
  held_for:
    description:
      - The run for which O(dest) is held in memory, as P(exomesh.istio.this_run#lookup) returns it. This
        happens only in check mode, if O(dest) does not exist yet. Later tasks of the run can then look into
        the cluster. The held content is gone when the run ends.
    type: dict
requirements:
  - Python packages C(cryptography) >= 42 and C(PyYAML)
seealso:
  - module: exomesh.istio.sks_kubeconfig
notes:
  - The module ends within a minute, even if another process holds the lock of the folder.
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Merge a cluster's context into the usual kubeconfig
  exomesh.istio.kubeconfig_merge:
    kubeconfig: /home/me/mesh/mesh-a.kubeconfig
    dest: ~/.kube/config
    backup: true

- name: Create a separate file from a kubeconfig in a vault
  exomesh.istio.kubeconfig_merge:
    content: "{{ vault_kubeconfig }}"
    name: mesh-b
    dest: /home/me/mesh/mesh-b.kubeconfig

- name: Remove the context again
  exomesh.istio.kubeconfig_merge:
    name: mesh-a
    dest: ~/.kube/config
    state: absent
"""

RETURN = r"""
dest:
  description: Path of the shared file, with links followed.
  type: str
  returned: success
context:
  description: Name of the context in it.
  type: str
  returned: success
contexts:
  description: Names of all contexts in it.
  type: list
  elements: str
  returned: success
current_context:
  description: Name of its current context.
  type: str
  returned: success
server:
  description: URL of the API server.
  type: str
  returned: state is present
authentication:
  description: How the context authenticates.
  type: str
  returned: state is present
  sample: client-certificate
user:
  description: User that the client certificate names.
  type: str
  returned: with a client certificate
groups:
  description: Groups that the client certificate names.
  type: list
  elements: str
  returned: with a client certificate
subject:
  description: Subject of the client certificate.
  type: str
  returned: with a client certificate
not_before:
  description: Start of the client certificate's validity, RFC 3339 in UTC.
  type: str
  returned: with a client certificate
not_after:
  description: End of the client certificate's validity, RFC 3339 in UTC.
  type: str
  returned: with a client certificate
serial:
  description: Serial number of the client certificate, in hex.
  type: str
  returned: with a client certificate
fingerprint:
  description: SHA-256 of the client certificate.
  type: str
  returned: with a client certificate
token_sha256:
  description: Beginning of the SHA-256 of the token.
  type: str
  returned: with a token
ca_fingerprints:
  description: SHA-256 of the certificates of the CA bundle.
  type: list
  elements: str
  returned: state is present
ca_not_after:
  description: When the first of these certificates expires, RFC 3339 in UTC; null without a CA.
  type: str
  returned: state is present
held:
  description: The content that O(dest) would get, held in memory.
  type: dict
  returned: in check mode, with O(held_for), if O(dest) does not exist yet
  contains:
    kubeconfig:
      description: Path at which it can be read until the run ends.
      type: str
backup_file:
  description: Copy of the file before the change.
  type: str
  returned: when one was made
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""


from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.files import real_path
from ..module_utils._base.held_text import hold_text
from ..module_utils._base.processes import Process
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._kubernetes.kubeconfig_merge import Target, alone, merge, remove, source_entry


def run(task: Task) -> Result:
    """Do what the options ask for, and return the module's result."""
    require("PyYAML", "cryptography")
    params = task.params
    target = Target(real_path(params["dest"]), params["backup"], task.check_mode)
    if params["state"] == "absent":
        return remove(target, params["name"])
    source = real_path(params["kubeconfig"]) if params["kubeconfig"] else None
    entry = source_entry(source, params["content"], params["context"])
    name = params["name"] or entry.name
    try:
        result = merge(target, entry, name, make_current=params["make_current"], force=params["force"])
        run_of = Process.parse(params["held_for"])
        if task.check_mode and run_of and not target.path.exists():
            result["held"] = {"kubeconfig": hold_text(alone(entry, name), run_of)}
    except ExomeshError as error:
        raise error.about(cluster=name) from None
    return result


SPEC = Spec(
    argument_spec={
        "dest": {"type": "path", "required": True},
        "kubeconfig": {"type": "path"},
        "content": {"type": "str", "no_log": True},
        "context": {"type": "str"},
        "name": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "make_current": {"type": "bool", "default": False},
        "backup": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": False},
        "held_for": {"type": "dict"},
    },
    required_if=[
        ("state", "present", ("kubeconfig", "content"), True),
        ("state", "absent", ("name",)),
    ],
    mutually_exclusive=[("kubeconfig", "content")],
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
