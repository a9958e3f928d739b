#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply Kubernetes objects by server-side apply, or delete them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server_side_apply
short_description: Ensure Kubernetes objects by server-side apply, or remove them
version_added: 0.1.0
description:
  - Compares every object with the result of a server-side dry run, and applies the objects that differ.
  - Unlike M(kubernetes.core.k8s), it predicts the first run against an empty cluster, in which the namespace
    or the kind does not exist yet. It waits for an admission webhook that is about to start. It never shows
    the data of a Secret.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Also works if namespaces and kinds of the objects do not exist yet.
  diff_mode:
    support: full
    details:
      - The data of Secrets is shown as hashes.
  idempotent:
    support: full
options:
  cluster:
    description:
      - Name of the cluster in its mesh. If it is given, a kubeconfig of another cluster of a mesh is refused.
    type: str
  definitions:
    description:
      - The objects, each with C(apiVersion), C(kind) and C(metadata.name). An object of a namespaced kind
        also has C(metadata.namespace).
      - They are applied in this order, and deleted in the opposite order.
      - An object with the label C(app.kubernetes.io/managed-by=exomesh.istio) is the collection's own. If an
        object of its name exists without that label, V(state=present) fails, and V(state=absent) leaves it.
    type: list
    elements: dict
    required: true
  state:
    description:
      - V(present) makes the objects as given. V(absent) deletes them and waits until they are gone.
    type: str
    choices: [present, absent]
    default: present
  unless_selected_by:
    description:
      - With V(state=absent), fail and delete nothing while another object of this kind selects pods with
        these labels. The collection's own objects do not count.
    type: dict
    suboptions:
      api_version:
        description: Its C(apiVersion).
        type: str
        required: true
      kind:
        description: Its kind, which must select by C(spec.selector), such as a Gateway or a Service.
        type: str
        required: true
      labels:
        description: Labels of the pods that it must not select.
        type: dict
        required: true
  wait:
    description:
      - Whether to wait until every Deployment among the objects is ready.
    type: bool
    default: true
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Expose the services of the mesh to other networks
  exomesh.istio.server_side_apply:
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    definitions:
      - apiVersion: networking.istio.io/v1
        kind: Gateway
        metadata:
          name: cross-network-gateway
          namespace: istio-system
        spec:
          selector:
            istio: eastwestgateway
          servers:
            - port: {number: 15443, name: tls, protocol: TLS}
              tls: {mode: AUTO_PASSTHROUGH}
              hosts: ["*.local"]
"""

RETURN = r"""
objects:
  description: Names of the objects, by what happened to them or would happen.
  type: dict
  returned: success
  contains:
    create:
      description: Objects that did not exist.
      type: list
      elements: str
    change:
      description: Objects with fields that differed.
      type: list
      elements: str
    delete:
      description: Objects that were deleted.
      type: list
      elements: str
    unchanged:
      description: Objects that were as they should be.
      type: list
      elements: str
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._base.waiting import concurrently
from ..module_utils._istio.record import require_cluster
from ..module_utils._kubernetes.api import Object, ObjectRef
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import FIELD_MANAGER, KubernetesClient, is_ours
from ..module_utils._kubernetes.objects import (
    DELETE,
    UNCHANGED,
    ObjectChange,
    apply_patiently,
    compare_all,
    refuse_foreign,
    refuse_selected,
    render_diff,
    summarise,
)
from ..module_utils._kubernetes.readiness import wait_ready
from ..module_utils._kubernetes.removal import wait_until_gone


def present(client: KubernetesClient, definitions: list[Object], task: Task) -> list[ObjectChange]:
    """Apply the objects that differ, and return what changed or would change."""
    own = refuse_foreign(client, definitions)
    changes = compare_all(client, definitions, FIELD_MANAGER, known=own)
    if task.check_mode:
        return changes
    timeout = task.params["timeout"]
    for obj, change in zip(definitions, changes, strict=True):
        if change.action != UNCHANGED:
            apply_patiently(client, obj, FIELD_MANAGER, timeout)
    if task.params["wait"]:
        wait_ready(client, [change.ref for change in changes if change.ref.kind == "Deployment"], timeout)
    return changes


def absent(client: KubernetesClient, definitions: list[Object], task: Task) -> list[ObjectChange]:
    """Delete the objects, wait until they are gone, and return what changed or would change."""
    if users := task.params["unless_selected_by"]:
        refuse_selected(client, users["api_version"], users["kind"], users["labels"])
    definitions = definitions[::-1]
    refs = [ObjectRef.of(obj) for obj in definitions]
    exist = concurrently(client.get, refs)
    going = [
        live is not None and (is_ours(live) or not is_ours(obj))
        for live, obj in zip(exist, definitions, strict=True)
    ]
    changes = [
        ObjectChange(ref, DELETE if goes else UNCHANGED, {}, {})
        for ref, goes in zip(refs, going, strict=True)
    ]
    if task.check_mode:
        return changes
    deleted = [change.ref for change in changes if change.action == DELETE]
    for ref in deleted:
        client.delete(ref)

    wait_until_gone(client, deleted, task.params["timeout"])
    return changes


def check_definitions(definitions: list[Any]) -> None:
    """Check that each definition names an object.

    :raises ExomeshError: ``invalid_definition``.
    """
    for number, definition in enumerate(definitions, 1):
        metadata = definition.get("metadata")
        named = isinstance(metadata, dict) and metadata.get("name")
        if not (definition.get("apiVersion") and definition.get("kind") and named):
            raise ExomeshError(
                f"Every definition needs apiVersion, kind and metadata.name; number {number} lacks one",
                "invalid_definition",
                next_step="Complete the definition",
            )


def run(task: Task) -> Result:
    """Make the objects present or absent, and return the module's result."""
    check_definitions(task.params["definitions"])
    if kubeconfig_is_to_come(task):
        return {"changed": task.params["state"] == "present", "objects": summarise([])}
    client = KubernetesClient(task.params["kubeconfig"], task.params["context"], task.params["cluster"])
    require_cluster(client, task.params["cluster"])
    definitions = task.params["definitions"]
    try:
        work = present if task.params["state"] == "present" else absent
        changes = work(client, definitions, task)
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None
    return {
        "changed": any(change.action != UNCHANGED for change in changes),
        "objects": summarise(changes),
        **({"diff": render_diff(changes)} if task.diff else {}),
    }


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "cluster": {"type": "str"},
        "definitions": {"type": "list", "elements": "dict", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "unless_selected_by": {
            "type": "dict",
            "options": {
                "api_version": {"type": "str", "required": True},
                "kind": {"type": "str", "required": True},
                "labels": {"type": "dict", "required": True},
            },
        },
        "wait": {"type": "bool", "default": True},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
