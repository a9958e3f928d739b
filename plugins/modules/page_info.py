#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch a page from inside a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: page_info
short_description: Fetch a page from inside a cluster
version_added: 0.1.0
description:
  - Runs C(curl) in an existing pod, until a page comes or the time is up.
  - Proves that a request from that pod finds its way through the mesh. A browser on the controller cannot
    prove that.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.attributes.info_module
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    details:
      - Sends no request, as the pod may not exist yet.
options:
  namespace:
    description:
      - Namespace of the pod.
    type: str
    required: true
  labels:
    description:
      - Label selector of the pod. Any ready pod that it selects is used.
    type: str
    required: true
  container:
    description:
      - Container of the pod that has C(curl).
    type: str
    default: curl
  url:
    description:
      - Address of the page, as the pod sees it.
    type: str
    required: true
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Fetch the tutorial's page
  exomesh.istio.page_info:
    kubeconfig: /home/me/mesh/frankfurt.kubeconfig
    namespace: exodemo
    labels: app=curl
    url: http://exo-webtest:3000/
    timeout: 60
  register: page
"""

RETURN = r"""
pod:
  description: The pod that sent the request.
  type: str
  returned: success, except in check mode
page:
  description: The page, line by line.
  type: list
  elements: str
  returned: success, except in check mode
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

import time
from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._base.text import printable
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC
from ..module_utils._kubernetes.causes import cause_in, wait_unless_it_lasts
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._kubernetes.readiness import pod_unmet

REQUEST_SECONDS = 5
PAGE_CHARACTERS = 65536
_SAID = 300
"""Characters of an answer that is not the page."""


def fetch(client: KubernetesClient, params: dict[str, Any]) -> dict[str, Any]:
    """Request the page until it comes.

    :raises ExomeshError: ``no_page``, with the result of the last attempt.
    """
    namespace, url = params["namespace"], params["url"]
    command = ["curl", "--silent", "--show-error", "--fail-with-body"]
    command += ["--max-time", str(REQUEST_SECONDS), url]
    fetched: dict[str, Any] = {}

    def unmet() -> str | None:
        pods = client.list_objects("v1", "Pod", namespace, labels=params["labels"])
        ready = [
            pod["metadata"]["name"]
            for pod in pods
            if pod_unmet(pod) is None and "deletionTimestamp" not in pod["metadata"]
        ]
        if not ready:
            return f"no pod with {params['labels']} in namespace {namespace} is ready"
        try:
            answer = client.exec(namespace, ready[0], params["container"], command, REQUEST_SECONDS * 2)
        except ExomeshError as error:
            return error.message
        if answer.exit_code != 0:
            said = f"{answer.stderr.strip()} {answer.stdout.strip()[:_SAID]}".strip()
            return said or f"curl ended with {answer.exit_code}"
        fetched.update(pod=ready[0], page=printable(answer.stdout, PAGE_CHARACTERS).splitlines())
        return None

    started = time.monotonic()
    missing = wait_unless_it_lasts(unmet, params["timeout"], interval=1)
    if missing:
        cause = cause_in(missing, namespace)
        raise ExomeshError(
            f"No page came from {url} within {time.monotonic() - started:.0f} s",
            "no_page",
            cause=f"{cause.told}: {missing}" if cause else missing,
            next_step=cause.next_step()
            if cause
            else "Run playbook exomesh.istio.verify to see which part of the mesh does not work",
        )
    return fetched


def run(task: Task) -> Result:
    """Fetch the page, and return the module's result."""
    if task.check_mode:
        return {"changed": False}
    client = KubernetesClient(task.params["kubeconfig"], task.params["context"])
    try:
        return {"changed": False, **fetch(client, task.params)}
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "namespace": {"type": "str", "required": True},
        "labels": {"type": "str", "required": True},
        "container": {"type": "str", "default": "curl"},
        "url": {"type": "str", "required": True},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
