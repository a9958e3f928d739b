#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensure the intermediate CA of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: intermediate_ca
short_description: Ensure the intermediate CA of a cluster, and request a new one only when it is due
version_added: 0.1.0
description:
  - Ensures an intermediate CA of the mesh's root in secret C(cacerts) of namespace C(istio-system), where
    istiod looks for it. Also ensures the label C(topology.istio.io/network) on that namespace.
  - Makes a new one only if the cluster's own ends soon, or is not what is asked for. RV(reason) says why.
    istiod loads it without a restart.
  - The private key is made here and goes into the cluster. It is never in a result. While another CA is asked
    to sign, the key waits in secret C(cacerts-request) of the same namespace.
  - Checks everything before it writes anything. It refuses to replace a CA of another root, a C(cacerts) that
    something else made, and an incomplete one. It also refuses to issue a certificate if the cluster's clock
    differs by more than five minutes.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Also works if the root, the cluster's kubeconfig or its namespace does not exist yet.
  diff_mode:
    support: full
    details:
      - Certificates are shown by subject, serial number, dates and fingerprint.
  idempotent:
    support: full
    details:
      - Except with O(renew=true).
options:
  name:
    description:
      - Name of this cluster in the mesh. It becomes the locality (L) of the intermediate CA.
    type: str
    required: true
  network:
    description:
      - Network of this cluster in the mesh. Without it, the namespace's label is left alone.
    type: str
  source:
    description:
      - V(request) makes a key in the cluster and a request to sign it. O(signed) takes the answer.
      - V(given) uses O(chain) and its key as they are.
    type: str
    choices: [request, given]
    default: request
  issuer:
    description:
      - The mesh's CA as PEM text. If an intermediate of the root signs, that one comes first and the root
        last.
      - It may be empty in check mode only, while the root does not exist yet.
    type: str
    required: true
  issuer_has_limits:
    description:
      - Whether O(issuer) has its own rules for the lifetime of a certificate, as a CA elsewhere may have. A
        certificate that it made shorter is then renewed when a third of its life is left.
    type: bool
    default: false
  chain:
    description:
      - Chain of this cluster as PEM text, for O(source=given). The intermediate CA comes first and the root
        last.
    type: str
  key_path:
    description:
      - File with the private key of O(chain).
    type: path
  key_content:
    description:
      - The private key of O(chain) as PEM text, instead of O(key_path).
    type: str
  key_passphrase:
    description:
      - Passphrase of the key of O(chain). In the cluster, the key is in clear text, because istiod needs it
        so.
    type: str
  signed:
    description:
      - The answer to RV(request), as PEM text, with or without the chain behind it, for O(source=request).
      - An answer to an older request is ignored.
    type: str
  organization:
    description:
      - Organization (O) in the subject.
    type: str
    default: Istio
  key_type:
    description:
      - Type of the key.
    type: str
    choices: [rsa, ecdsa-p256, ecdsa-p384]
    default: rsa
  key_size:
    description:
      - Size of an RSA key in bits.
    type: int
    default: 4096
  lifetime:
    description:
      - Lifetime of the intermediate CA in days. It ends no later than its issuer.
    type: int
    default: 365
  renew_before:
    description:
      - An intermediate CA with fewer days left is renewed.
    type: int
    default: 30
  renew:
    description:
      - Whether to renew it even if it is not due.
    type: bool
    default: false
  old_root:
    description:
      - Root as PEM text that the mesh leaves for that of O(issuer), while the root is rotated. The cluster
        must already trust both, and it goes on to trust both. A copy of its former intermediate CA stays in
        the cluster, as secret C(cacerts-before-rotation).
      - Without it, the module refuses a cluster whose root is being rotated.
    type: str
    version_added: 0.1.0
  adopt:
    description:
      - Whether to replace a C(cacerts) of the same root that something else made, if it has to change. A copy
        of it stays in the cluster, as secret RV(backup).
    type: bool
    default: false
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Create a key and a signing request in the cluster
  exomesh.istio.intermediate_ca: &options
    kubeconfig: "{{ mesh_kubeconfig }}"
    name: "{{ mesh_cluster_name }}"
    network: "{{ mesh_network }}"
    issuer: "{{ root.certificate }}"
  register: asked

- name: Sign the request with the key of the root CA
  community.crypto.x509_certificate_pipe:
    provider: ownca
    csr_content: "{{ asked.request }}"
    ownca_content: "{{ root.certificate }}"
    ownca_privatekey_path: "{{ mesh_state_dir }}/ca/root-key.pem"
    ownca_not_after: +365d
  register: answer
  when: asked.request | length > 0

- name: Store the signed intermediate CA
  exomesh.istio.intermediate_ca:
    <<: *options
    signed: "{{ answer.certificate }}"
  when: asked.request | length > 0
"""

RETURN = r"""
reason:
  description: Why there is, or would be, a new intermediate CA; empty if the cluster keeps its own.
  type: str
  returned: success
  sample: its own ends at 2026-12-01T00:00:00Z, with 8 days left
certificate:
  description: The intermediate CA as it is now; empty while there is none.
  type: dict
  returned: success
  contains:
    subject:
      description: Its subject.
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
request:
  description: The request that waits to be signed, as PEM text; empty if there is none.
  type: str
  returned: success
request_lifetime:
  description: Lifetime in seconds of the certificate to sign for RV(request), at most until its issuer ends.
  type: int
  returned: success
backup:
  description: Secret in C(istio-system) that keeps what was adopted; empty if nothing was adopted.
  type: str
  returned: success
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.record import require_cluster
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._trust.intermediate_ca import Given, IntermediateCa, Requested, Source
from ..module_utils._trust.root_ca import load_authority
from ..module_utils._trust.x509 import KEY_TYPES, KeyKind, Profile, describe, read_chain

with suppress(ImportError):  # require("kubernetes") reports it
    import yaml


def run(task: Task) -> Result:
    """Ensure the intermediate CA; return the module's result."""
    params = task.params
    require("cryptography")
    if kubeconfig_is_to_come(task):
        return {
            "changed": True,
            "reason": "it has none",
            "certificate": {},
            "request": "",
            "request_lifetime": 0,
            "backup": "",
        }
    if not params["issuer"] and not task.check_mode:
        raise ExomeshError(
            "issuer is empty",
            "no_issuer",
            cluster=params["name"],
            next_step="Create the root CA first (exomesh.istio.root_ca)",
        )
    client = KubernetesClient(params["kubeconfig"], params["context"], params["name"])
    require_cluster(client, params["name"], network=params["network"])
    profile = Profile(
        params["name"],
        params["organization"],
        KeyKind(params["key_type"], params["key_size"]),
        timedelta(days=params["lifetime"]),
        timedelta(days=params["renew_before"]),
    )
    work = IntermediateCa(
        client,
        profile,
        read_chain(params["issuer"], "issuer") if params["issuer"] else (),
        params["network"],
        adopt=params["adopt"],
        renew=params["renew"],
        timeout=params["timeout"],
        check_mode=task.check_mode,
        old_root=read_chain(params["old_root"], "old_root")[-1] if params["old_root"] else None,
    )
    outcome = work.ensure(_source(params))
    for warning in outcome.warnings:
        task.warn(warning)
    result = {
        "changed": outcome.changed,
        "reason": outcome.reason or "",
        "certificate": describe(outcome.chain[0]) if outcome.chain else {},
        "request": outcome.request or "",
        "request_lifetime": int(outcome.request_lifetime.total_seconds()),
        "backup": outcome.backup or "",
    }
    if task.diff:
        result["diff"] = {"before": _text(outcome.before), "after": _text(outcome.after)}
    return result


def _source(params: dict[str, Any]) -> Source:
    if params["source"] == "request":
        return Requested(params["signed"], params["issuer_has_limits"])
    return Given(
        load_authority(
            params["chain"],
            params["key_path"],
            params["key_content"],
            params["key_passphrase"],
            params["issuer"],
        )
    )


def _text(fields: dict[str, Any]) -> str:
    return yaml.safe_dump(fields, sort_keys=False, width=160) if fields else ""


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "name": {"type": "str", "required": True},
        "network": {"type": "str"},
        "source": {"type": "str", "choices": ["request", "given"], "default": "request"},
        "issuer": {"type": "str", "required": True},
        "issuer_has_limits": {"type": "bool", "default": False},
        "chain": {"type": "str"},
        "key_path": {"type": "path", "no_log": False},
        "key_content": {"type": "str", "no_log": True},
        "key_passphrase": {"type": "str", "no_log": True},
        "signed": {"type": "str"},
        "organization": {"type": "str", "default": "Istio"},
        "key_type": {"type": "str", "choices": list(KEY_TYPES), "default": "rsa", "no_log": False},
        "key_size": {"type": "int", "default": 4096, "no_log": False},
        "lifetime": {"type": "int", "default": 365},
        "renew_before": {"type": "int", "default": 30},
        "renew": {"type": "bool", "default": False},
        "old_root": {"type": "str"},
        "adopt": {"type": "bool", "default": False},
    },
    mutually_exclusive=[("key_path", "key_content")],
    required_if=[
        ("source", "given", ("chain",)),
        ("source", "given", ("key_path", "key_content"), True),
    ],
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
