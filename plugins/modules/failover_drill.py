#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drain one cluster, show that its requests are answered elsewhere, and restore it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_drill
short_description: Drain one cluster, show that its requests are answered elsewhere, and restore it
version_added: 0.1.0
description:
  - Sends requests to a service from every member all the time, from a pod with a sidecar. Meanwhile, it
    scales the Deployments behind the service in one member, and the gateways of that member, to 0.
  - Reports for each member how many requests were sent, and how many failed. Also reports after how many
    seconds another cluster answered, all requests succeeded, and the restored cluster answered again.
  - Restores the cluster in any case. A Deployment that is scaled to 0 keeps its number of replicas in the
    annotation C(exomesh.istio/drill-replicas). So the next run first restores what a killed run left.
  - Fails if requests did not move in time. The cluster is restored then, too.
  - The drill is disruptive. It must be confirmed, unless everything that is drained has the label
    C(app.kubernetes.io/managed-by=exomesh.istio), as the demo's own workload has.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
    details:
      - Reports what would be drained, and sends no requests.
  diff_mode:
    support: N/A
    details:
      - Nothing remains changed.
  idempotent:
    support: full
    details:
      - Only reports a change if it restored what an earlier run left.
options:
  state:
    description:
      - V(drilled) restores what an earlier drill left, and then does a new drill.
      - V(restored) only restores.
    type: str
    choices: [drilled, restored]
    default: drilled
  cluster:
    description:
      - Name of the member to drain.
    type: str
  namespace:
    description:
      - Namespace of the service.
    type: str
  service:
    description:
      - Name of the service. It must use HTTP, and exist in every member. Its answers must contain the name of
        the pod that sent them.
      - Its DestinationRule needs outlier detection, or requests will not move.
    type: str
  port:
    description:
      - Port of the service.
    type: int
    default: 80
  gateways:
    description:
      - Gateways of the cluster to drain as well, as C(namespace/name) of their Deployments. No other requests
        come in through them during the drill.
    type: list
    elements: str
    default: [istio-system/istio-eastwestgateway]
  confirm:
    description:
      - The name of O(cluster) once more. It is needed if something is drained that is not the demo's own.
    type: str
  client_image:
    description:
      - Image of the pods that send requests. It must have C(curl) 7.84 or newer, and C(sleep).
    type: str
    default: docker.io/curlimages/curl:8.16.0
  per_second:
    description:
      - Requests per second from each member.
    type: float
    default: 10.0
  within:
    description:
      - Seconds within which requests must have moved.
    type: int
    default: 30
  hold:
    description:
      - Seconds for which requests must then succeed.
    type: int
    default: 10
  timeout:
    description:
      - Time that the whole module may take, in seconds.
      - Each of these waits may take a third of it at most - for clients to be ready, for requests to succeed
        before the drain, for drained Deployments to be ready again, and for requests to return.
      - Nothing is drained if less time is left than O(within) and O(hold). If the time is up, what was
        drained is restored all the same.
    type: int
    default: 600
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Drain the cart in Vienna, and the gateway with it
  exomesh.istio.failover_drill:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    cluster: vienna
    confirm: vienna
    namespace: shop
    service: cart
    port: 8080

- name: Restore what a killed drill has left
  exomesh.istio.failover_drill:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    state: restored
"""

RETURN = r"""
drained:
  description: The Deployments that were drained, or would be.
  type: list
  elements: str
  returned: success
restored:
  description: The Deployments that an earlier drill left and this run restored, or would.
  type: list
  elements: str
  returned: success
figures:
  description: The figures of every member. If requests did not move, they are in C(failure.details).
  type: list
  elements: dict
  returned: success, after a drill
  contains:
    client:
      description: The member that sent the requests.
      type: str
    answered_by_before:
      description: Members that answered before the drain.
      type: list
      elements: str
    answered_by_drained:
      description: Members that answered when requests had moved.
      type: list
      elements: str
    sent:
      description: Requests that were answered or failed, from the drain until requests had moved and held.
      type: int
    failed:
      description: Requests among these that failed, with no answer or a status of 500 or more.
      type: int
    errors:
      description: Why they failed.
      type: list
      elements: str
    first_answer_elsewhere:
      description: Seconds from the drain to the first answer of a member that was not drained.
      type: float
    stable_after:
      description: Seconds from the drain to the last answer that failed or came from the drained member.
      type: float
    back_after:
      description: Seconds from the restoration to the first answer of the drained member.
      type: float
report:
  description: The figures as lines of text; also if the module failed.
  type: list
  elements: str
  returned: always
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""


from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, member_named, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._base.waiting import concurrently
from ..module_utils._istio.record import require_cluster
from ..module_utils._kubernetes.api import Object, ObjectRef
from ..module_utils._kubernetes.client import KubernetesClient, is_ours
from ..module_utils._kubernetes.images import CURL_IMAGE
from ..module_utils._traffic.drill import Drill, Limits, Service, left_behind, restore, targets


def run(task: Task) -> Result:
    """Restore, then drill, and return the module's result. The report is also there if the drill fails."""
    report: list[str] = []
    task.on_failure["report"] = report
    params = task.params
    members = members_of(params)
    drills = params["state"] == "drilled"
    cluster = member_named(members, "cluster", params["cluster"] or "").name if drills else ""
    clients = {member.name: KubernetesClient(member.kubeconfig, name=member.name) for member in members}
    for member in members:
        require_cluster(clients[member.name], member.name, member.mesh)
    restored = restore_all(task, clients)
    report += [f"restored, left by an earlier drill: {name}" for name in restored]
    result: Result = {
        "changed": bool(restored),
        "restored": restored,
        "drained": [],
        "report": report,
    }
    if not drills:
        return result
    service = Service(params["namespace"], params["service"], params["port"])
    drained = targets(clients[cluster], service, params["gateways"])
    refs = [ObjectRef.of(deployment) for deployment in drained]
    check_confirmed(cluster, params["confirm"], drained)
    result["drained"] = [str(ref) for ref in refs]
    if task.check_mode:
        report += [f"would drain in {cluster}: {ref}" for ref in refs]
        return result
    limits = Limits(params["within"], params["hold"], params["timeout"] / 3, params["per_second"])
    drill = Drill(clients, cluster, refs, service, params["client_image"], limits)
    try:
        drill.run()
    finally:
        report += drill.report()
    return {**result, "figures": [figures.as_dict() for figures in drill.figures]}


def restore_all(task: Task, clients: dict[str, KubernetesClient]) -> list[str]:
    """Restore what an earlier drill left in any member, or only look in check mode. Return what that was."""

    def one(item: tuple[str, KubernetesClient]) -> list[str]:
        name, client = item
        refs = left_behind(client) if task.check_mode else restore(client, task.params["timeout"] / 3)
        return [f"{ref} in {name}" for ref in refs]

    return [line for lines in concurrently(one, clients.items()) for line in lines]


def check_confirmed(cluster: str, confirmed: str | None, drained: list[Object]) -> None:
    """Check that the user has confirmed the drill, or that it drains only what this collection made.

    :raises ExomeshError: ``not_confirmed``.
    """
    foreign = [str(ObjectRef.of(deployment)) for deployment in drained if not is_ours(deployment)]
    if foreign and confirmed != cluster:
        raise ExomeshError(
            f"This drill would scale {', '.join(foreign)} to 0 for a while",
            "not_confirmed",
            cluster=cluster,
            next_step=(
                f"If that is what you want, say so: -e failover_drill_confirm={cluster}. The demo's own "
                "workload alone needs no confirmation: -e '{\"failover_drill_gateways\": []}'"
            ),
        )


SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "state": {"type": "str", "choices": ["drilled", "restored"], "default": "drilled"},
        "cluster": {"type": "str"},
        "namespace": {"type": "str"},
        "service": {"type": "str"},
        "port": {"type": "int", "default": 80},
        "gateways": {
            "type": "list",
            "elements": "str",
            "default": ["istio-system/istio-eastwestgateway"],
        },
        "confirm": {"type": "str"},
        "client_image": {"type": "str", "default": CURL_IMAGE},
        "per_second": {"type": "float", "default": 10.0},
        "within": {"type": "int", "default": 30},
        "hold": {"type": "int", "default": 10},
        "timeout": {"type": "int", "default": 600},
    },
    required_if=[("state", "drilled", ("cluster", "namespace", "service"))],
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
