#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report what a kubeconfig allows, and check it against its API server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeconfig_info
short_description: Report what a kubeconfig allows, and check it against its API server
version_added: 0.1.0
description:
  - Reads one context of a kubeconfig. Asks its API server who the user is, which version the server has, what
    time it is there, and which of the given rights the user has.
  - Fails with the cause if the API server cannot be reached or trusted, does not accept the credentials, or
    is too old, or if rights are missing.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.attributes.info_module
options:
  kubeconfig:
    description:
      - The kubeconfig. C(KUBECONFIG), C(~/.kube/config) and a pod's own account are never used.
    type: path
    required: true
  context:
    description:
      - Context to read. Without it, the file's current context is read.
    type: str
  cluster:
    description:
      - Name of the cluster in messages. Without it, the cluster's name in the file is used.
    type: str
  timeout:
    description:
      - Time that the whole module may take, in seconds.
    type: float
    default: 60
  istio_version:
    description:
      - Istio release for the cluster. If O(min_version) or O(max_version) is not given, the oldest or the
        newest Kubernetes that this release supports is used, as far as this collection knows.
    type: str
    version_added: 0.1.0
  min_version:
    description:
      - Oldest Kubernetes that is accepted, such as V(1.32).
    type: str
  max_version:
    description:
      - Newest Kubernetes that is known to work, such as V(1.36). A newer one gives a warning.
    type: str
  max_clock_skew:
    description:
      - Seconds by which the clocks of this machine and the API server may differ. More gives a warning.
        With V(0), the clocks may differ by any time.
    type: float
    default: 30
  rights:
    description:
      - Rights that the user must have.
    type: list
    elements: dict
    default: []
    suboptions:
      verb:
        description: Verb, or V(*) for all verbs.
        type: str
        required: true
      group:
        description: API group, or V(*) for all groups. Empty is the core group.
        type: str
        default: ""
      resource:
        description: Resource in the plural, or V(*) for all resources.
        type: str
        required: true
      namespace:
        description: Namespace; empty for all namespaces, or for a resource without a namespace.
        type: str
        default: ""
requirements:
  - Python packages C(kubernetes) >= 31, C(cryptography) >= 42 and C(PyYAML)
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Check that the cluster can be reached and used
  exomesh.istio.kubeconfig_info:
    kubeconfig: /home/me/mesh/mesh-a.kubeconfig
    min_version: "1.32"
    rights:
      - {verb: create, resource: namespaces}
      - {verb: create, group: apps, resource: deployments, namespace: istio-system}
  register: access

- name: Show who we are there
  ansible.builtin.debug:
    msg: "{{ access.username }} on Kubernetes {{ access.version }} until {{ access.not_after }}"
"""

RETURN = r"""
context:
  description: Name of the context.
  type: str
  returned: success
server:
  description: URL of the API server.
  type: str
  returned: success
authentication:
  description: How the context authenticates.
  type: str
  returned: success
  sample: client-certificate
username:
  description: Name of the user, as the API server knows it.
  type: str
  returned: success
  sample: exomesh-mesh-a
user_groups:
  description: Groups of the user, as the API server knows them.
  type: list
  elements: str
  returned: success
version:
  description: Version of Kubernetes.
  type: str
  returned: success
  sample: 1.36.3
clock_skew:
  description: Seconds by which the API server's clock is ahead of this machine's; null if it is not known.
  type: float
  returned: success
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
  returned: success
ca_not_after:
  description: When the first of these certificates expires, RFC 3339 in UTC; null without a CA.
  type: str
  returned: success
failure:
  description:
    - Why the module failed, for programs; C(details.missing_rights) has the missing rights.
    - The code of a Kubernetes that is too old is V(kubernetes-version), as in module
      M(exomesh.istio.istio_preflight).
  type: dict
  returned: failure
"""


from ..module_utils._base.check import ERROR, WARNING, Check
from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.files import real_path
from ..module_utils._base.requirements import require
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.releases import Release, kubernetes_window
from ..module_utils._kubernetes.api_server import ApiServer, Right
from ..module_utils._kubernetes.fitness import Window, check_clock, check_version
from ..module_utils._kubernetes.kubeconfig_certificates import describe
from ..module_utils._kubernetes.kubeconfig_merge import source_entry


def window_of(istio: str | None, oldest: str | None, newest: str | None) -> Window:
    """Return the accepted Kubernetes versions: those given, or else those that the Istio release supports."""
    known = kubernetes_window(Release.parse(istio)) if istio else Window()
    return Window(oldest or known.oldest, newest or known.newest) if oldest or newest else known


def refuse(check: Check, cluster: str) -> None:
    """Fail if the check found an error.

    :raises ExomeshError: with the check's code.
    """
    if check.outcome == ERROR:
        raise ExomeshError(check.message, check.code, cluster=cluster, next_step=check.next_step)


def run(task: Task) -> Result:
    """Read the kubeconfig, ask its API server, and return the module's result."""
    require("PyYAML", "cryptography")
    params = task.params
    path = real_path(params["kubeconfig"])
    try:
        window = window_of(params["istio_version"], params["min_version"], params["max_version"])
        entry = source_entry(path, None, params["context"])
        server = ApiServer(str(path), entry.name, params["cluster"], params["timeout"])
        identity = server.identity()
        if doubt := entry.doubt():
            task.warn(f"cluster {server.name}: {doubt}")
        for check in (
            check_version(identity.version, window),
            check_clock(identity.clock_skew, params["max_clock_skew"]),
        ):
            refuse(check, server.name)
            if check.outcome == WARNING:
                task.warn(f"cluster {server.name}: {check}")
        server.require_rights([Right(**right) for right in params["rights"]])
    except ExomeshError as error:
        raise error.about(cluster=params["cluster"]) from None
    result = {
        **describe(entry),
        "username": identity.username,
        "user_groups": identity.groups,
        "version": identity.version,
        "clock_skew": identity.clock_skew,
    }
    return {"changed": False, **result}


SPEC = Spec(
    argument_spec={
        "kubeconfig": {"type": "path", "required": True},
        "context": {"type": "str"},
        "cluster": {"type": "str"},
        "timeout": {"type": "float", "default": 60.0},
        "istio_version": {"type": "str"},
        "min_version": {"type": "str"},
        "max_version": {"type": "str"},
        "max_clock_skew": {"type": "float", "default": 30.0},
        "rights": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "verb": {"type": "str", "required": True},
                "group": {"type": "str", "default": ""},
                "resource": {"type": "str", "required": True},
                "namespace": {"type": "str", "default": ""},
            },
        },
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
