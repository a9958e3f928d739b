#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the kubeconfig of an SKS cluster valid."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sks_kubeconfig
short_description: Keep the kubeconfig of an Exoscale SKS cluster valid
version_added: 0.1.0
description:
  - Writes a file with a kubeconfig for one SKS cluster, and keeps it as long as it is valid.
  - The kubeconfig is renewed if it is missing or unreadable, if it is for another cluster, CA, user or
    groups, or if its client certificate or its CA ends within O(renew_before). RV(renewal) says why.
  - Cluster, user and context in it are all named O(context), so that files of several clusters can be merged.
  - The file has mode 0600 and is replaced in one step. Directories that are created have mode 0700.
  - Before a file of somebody else is replaced, it is kept as a backup. A file with several contexts is
    refused.
  - A kubeconfig stays valid until its end, because Exoscale offers no way to revoke a kubeconfig.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.exoscale
attributes:
  check_mode:
    support: full
    details:
      - Asks Exoscale about the cluster, but creates no kubeconfig, except with O(held_for).
  diff_mode:
    support: full
    details:
      - Shows server, subject, validity and fingerprints, never a key.
  idempotent:
    support: full
    details:
      - Not if O(force) is set, or if O(ttl) is shorter than O(renew_before).
options:
  cluster:
    description:
      - Name or ID of the SKS cluster. Required for O(state=present).
    type: str
  zone:
    description:
      - Zone of the cluster. Required for O(state=present).
    type: str
  kubeconfig:
    description:
      - File to write. It is for this cluster alone. Use M(exomesh.istio.kubeconfig_merge) for a shared file.
    type: path
    required: true
    aliases: [dest]
  state:
    description:
      - Whether the file should exist. V(absent) does not ask Exoscale, and does not revoke the certificate.
    type: str
    choices: [present, absent]
    default: present
  context:
    description:
      - Name of the context, cluster and user in the file. Without it, the value of O(cluster) is used.
    type: str
  user:
    description:
      - User that the client certificate names (its CN). Without it, this is C(exomesh-) and O(context).
    type: str
  groups:
    description:
      - Groups that the client certificate names (its O). V(system:masters) may do everything.
    type: list
    elements: str
    default: ["system:masters"]
  ttl:
    description:
      - Lifetime of a new client certificate, in seconds or as V(30d), V(12h), V(1d12h).
      - Without it, Exoscale's own default of 30 days is used. An existing certificate is not renewed because
        of this option.
    type: str
  renew_before:
    description:
      - Renew a certificate that ends within this time, in seconds or as V(7d).
      - Without it, this is a third of the client certificate's lifetime.
    type: str
  verify:
    description:
      - Whether to ask the cluster's API server if it accepts the kubeconfig. A rejected one is renewed.
      - Needs the Python package C(kubernetes).
    type: bool
    default: false
  backup:
    description:
      - Whether to keep a copy of the file that is replaced or removed.
    type: bool
    default: false
  force:
    description:
      - Renew in any case. Replace or remove the file even if it holds several contexts. A backup is kept.
    type: bool
    default: false
  held_for:
    description:
      - The run for which a kubeconfig is held in memory, as P(exomesh.istio.this_run#lookup) returns it.
      - In check mode, if no usable kubeconfig exists yet, one is created that ends within half an hour. Later
        tasks of the run can then look into the cluster. It is on no disk. It is gone when the run ends, no
        matter how the run ends.
      - On a system without files in memory, such as macOS, it is in a private folder for temporary files.
    type: dict
requirements:
  - Python packages C(cryptography) >= 42 and C(PyYAML)
seealso:
  - module: exomesh.istio.kubeconfig_merge
  - module: exomesh.istio.sks_cluster_info
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ensure a kubeconfig of the cluster in Frankfurt
  exomesh.istio.sks_kubeconfig:
    cluster: mesh-a
    zone: de-fra-1
    kubeconfig: /home/me/mesh/mesh-a.kubeconfig

- name: Ensure one for a day that works, and renew it when less than 6 hours are left
  exomesh.istio.sks_kubeconfig:
    cluster: mesh-a
    zone: de-fra-1
    kubeconfig: /home/me/mesh/mesh-a.kubeconfig
    user: ci
    groups: [deployers]
    ttl: 24h
    renew_before: 6h
    verify: true

- name: Ensure one where there is no exo CLI
  exomesh.istio.sks_kubeconfig:
    cluster: mesh-b
    zone: at-vie-2
    kubeconfig: /home/me/mesh/mesh-b.kubeconfig
    backend: api
    api_key: "{{ vault_exoscale_key }}"
    api_secret: "{{ vault_exoscale_secret }}"

- name: Remove the kubeconfig
  exomesh.istio.sks_kubeconfig:
    kubeconfig: /home/me/mesh/mesh-a.kubeconfig
    context: mesh-a
    state: absent
"""

RETURN = r"""
kubeconfig:
  description: Path of the file.
  type: str
  returned: success
  sample: /home/me/mesh/mesh-a.kubeconfig
context:
  description: Name of the context in it.
  type: str
  returned: success
  sample: mesh-a
renewal:
  description: Why the kubeconfig was renewed (in check mode, would be); null if it was kept.
  type: dict
  returned: state is present
  contains:
    code:
      description:
        - One of C(missing), C(unreadable), C(other_context), C(other_cluster), C(other_ca),
          C(no_certificate), C(other_user), C(other_groups), C(expired), C(expires_soon), C(rejected),
          C(forced).
      type: str
    text:
      description: The same in words.
      type: str
  sample: {code: expires_soon, text: "its client certificate expires at 2026-11-30T09:00:00Z"}
cluster_id:
  description: ID of the cluster.
  type: str
  returned: state is present
zone:
  description: Zone of the cluster.
  type: str
  returned: state is present
server:
  description: URL of the cluster's API server.
  type: str
  returned: state is present
user:
  description: User that the client certificate names.
  type: str
  returned: state is present
groups:
  description: Groups that the client certificate names.
  type: list
  elements: str
  returned: state is present
authentication:
  description: How the kubeconfig authenticates, C(client-certificate).
  type: str
  returned: state is present, unless check mode would renew
subject:
  description: Subject of the client certificate.
  type: str
  returned: state is present, unless check mode would renew
  sample: CN=exomesh-mesh-a,O=system:masters
not_before:
  description: Start of the client certificate's validity, RFC 3339 in UTC.
  type: str
  returned: state is present, unless check mode would renew
not_after:
  description: End of the client certificate's validity, RFC 3339 in UTC.
  type: str
  returned: state is present, unless check mode would renew
serial:
  description: Serial number of the client certificate, in hex.
  type: str
  returned: state is present, unless check mode would renew
fingerprint:
  description: SHA-256 of the client certificate.
  type: str
  returned: state is present, unless check mode would renew
ca_fingerprints:
  description: SHA-256 of the certificates of the CA bundle.
  type: list
  elements: str
  returned: state is present, unless check mode would renew
ca_not_after:
  description: When the first of these certificates expires, RFC 3339 in UTC.
  type: str
  returned: state is present, unless check mode would renew
held:
  description: The kubeconfig that was created for a check, and is held in memory.
  type: dict
  returned: in check mode, with O(held_for), if no usable kubeconfig exists yet
  contains:
    kubeconfig:
      description: Path at which it can be read until the run ends.
      type: str
    not_after:
      description: When it expires, RFC 3339 in UTC.
      type: str
backup_file:
  description: Copy of the file that was replaced or removed.
  type: str
  returned: when one was made
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from pathlib import Path

from ..module_utils._base.files import real_path
from ..module_utils._base.held_text import hold_text
from ..module_utils._base.processes import Process
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._exoscale.backend import EXOSCALE_ARGUMENTS, connect
from ..module_utils._exoscale.kubeconfig import Outcome, Request, ensure_absent, ensure_present
from ..module_utils._kubernetes.kubeconfig_renewal import parse_duration


def run(task: Task) -> Result:
    """Do what the options ask for, and return the module's result."""
    outcome = ensure(task)
    for warning in outcome.warnings:
        task.warn(warning)
    return outcome.result


def ensure(task: Task) -> Outcome:
    """Ensure that the kubeconfig is present or absent, as the options say."""
    require("PyYAML", "cryptography")
    params = task.params
    context = params["context"] or params["cluster"]
    durations = {
        option: parse_duration(params[option], option) if params[option] else None
        for option in ("ttl", "renew_before")
    }
    held_for = Process.parse(params["held_for"])
    request = Request(
        path=real_path(params["kubeconfig"]),
        context=context,
        cluster=params["cluster"] or context,
        zone=params["zone"] or "",
        user=params["user"] or f"exomesh-{context}",
        groups=tuple(params["groups"]),
        ttl=durations["ttl"],
        renew_before=durations["renew_before"],
        backup=params["backup"],
        force=params["force"],
        check_mode=task.check_mode,
        hold=(lambda text: hold_text(text, held_for)) if held_for else None,
    )
    if params["state"] == "absent":
        return ensure_absent(request)

    def prove(path: Path, name: str) -> None:
        # Imported only here, because the import takes a third of a second.
        from ..module_utils._kubernetes.api import LOOK_SECONDS
        from ..module_utils._kubernetes.api_server import ApiServer

        patience = min(params["timeout"], LOOK_SECONDS)
        ApiServer(str(path), name, request.cluster, patience).identity()

    return ensure_present(connect(params), request, prove if params["verify"] else None)


SPEC = Spec(
    argument_spec={
        **EXOSCALE_ARGUMENTS,
        "cluster": {"type": "str"},
        "zone": {"type": "str"},
        "kubeconfig": {"type": "path", "required": True, "aliases": ["dest"]},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "context": {"type": "str"},
        "user": {"type": "str"},
        "groups": {"type": "list", "elements": "str", "default": ["system:masters"]},
        "ttl": {"type": "str"},
        "renew_before": {"type": "str"},
        "verify": {"type": "bool", "default": False},
        "backup": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": False},
        "held_for": {"type": "dict"},
    },
    required_if=[
        ("state", "present", ("cluster", "zone")),
        ("state", "absent", ("context", "cluster"), True),
    ],
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
