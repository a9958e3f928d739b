#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move requests from one version of a service to another, step by step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: traffic_shift
short_description: Move requests from one version of a service to another in steps, and back when they fail
version_added: 0.1.0
description:
  - Changes the weights of a VirtualService or an HTTPRoute in every member. After every step, it sends real
    requests, and counts which version answered, and how.
  - If too many of them fail, or the answers do not follow the weights, all requests go back to the version
    that they came from. The module then fails, and reports what was seen.
  - Requests must be answered before the first step, or nothing is moved.
  - A run that was interrupted leaves the routes at the step that it had reached. The next run continues
    there.
  - Works for any route that has both versions in one rule, not only for those of
    M(exomesh.istio.traffic_route).
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
    details:
      - Reports the steps that would be taken. No requests are sent.
  diff_mode:
    support: full
    details:
      - Shows the share of O(canary) before and after.
  idempotent:
    support: full
options:
  namespace:
    description:
      - Namespace of the route.
    type: str
    required: true
  name:
    description:
      - Name of the route.
    type: str
    required: true
  form:
    description:
      - Kind of the route, V(istio) for a VirtualService and V(gateway-api) for an HTTPRoute.
    type: str
    choices: [istio, gateway-api]
    default: istio
  rule:
    description:
      - Name of the rule of the route. Without it, the only rule that has both versions is used.
    type: str
  stable:
    description:
      - The version that has the requests now, as a subset, or as a Service with that name or ending.
    type: str
    required: true
  canary:
    description:
      - The version that is to get the requests.
    type: str
    required: true
  steps:
    description:
      - The shares of O(canary), in percent of what both versions get together.
    type: list
    elements: int
    default: [10, 50, 100]
  requests:
    description:
      - Number of requests of one check.
    type: int
    default: 200
  seconds:
    description:
      - Seconds over which the requests of one check are spread.
    type: int
    default: 10
  max_error_percent:
    description:
      - Requests of one check that may fail, in percent. A request has failed if no answer came, or one with a
        status of 500 or more. A check ends as soon as more requests have failed.
    type: float
    default: 1.0
  settle:
    description:
      - Seconds that the proxies may take to follow a step.
    type: int
    default: 60
  pattern:
    description:
      - Regular expression whose first group finds the version in an answer. If it finds none, only failures
        count.
    type: str
    default: 'VERSION:?\s*([\w.-]+)'
  urls:
    description:
      - Addresses to request, in turn. Without them, those of the ingress gateways of all members are used.
    type: list
    elements: str
    default: []
  host:
    description:
      - Host name to request, if it is not that of the address.
    type: str
  ingress:
    description:
      - The Service of the ingress gateway, as C(namespace/name). Requests go to its address.
    type: str
    default: istio-ingress/istio-ingressgateway
  client_cluster:
    description:
      - Name of a member. Requests then come from a pod in this member, in O(namespace) and with a sidecar,
        and not from this machine. Use it for a service that no ingress serves. Needs O(urls).
    type: str
  client_image:
    description:
      - Image of that pod. It must have C(curl) 7.84 or newer, and C(sleep).
    type: str
    default: docker.io/curlimages/curl:8.16.0
  timeout:
    description:
      - Time that the whole module may take, in seconds. When the time is up, all requests go back to
        O(stable).
      - Without it, the module may take as long as O(steps), O(seconds) and O(settle) allow, and three minutes
        more.
    type: int
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Move the cart from v1 to v2
  exomesh.istio.traffic_shift:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    namespace: shop
    name: cart
    stable: v1
    canary: v2
    steps: [5, 25, 100]
    host: cart.example.com
"""

RETURN = r"""
start:
  description: The share of the canary before, in percent.
  type: int
  returned: success
steps:
  description: The steps that were taken, or would be.
  type: list
  elements: int
  returned: success
checks:
  description: The result of every check. If the module failed, the results are in C(failure.details).
  type: list
  elements: dict
  returned: success
  contains:
    percent:
      description: The share of the canary.
      type: int
    sent:
      description: Requests sent.
      type: int
    failed:
      description: Requests that failed.
      type: int
    versions:
      description: Answers by version.
      type: dict
    statuses:
      description: Answers by status, or by the error if there was no answer.
      type: dict
    problem:
      description: What was wrong; null if nothing was wrong.
      type: str
report:
  description: The checks as lines of text; also if the module failed.
  type: list
  elements: str
  returned: always
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, member_named, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._base.waiting import concurrently
from ..module_utils._istio.record import require_cluster
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._kubernetes.images import CURL_IMAGE
from ..module_utils._kubernetes.load_balancer import addresses
from ..module_utils._traffic.requests import REQUEST_SECONDS, Answer, MeshClient, ask_urls
from ..module_utils._traffic.route import GATEWAY_API, ISTIO, route_ref
from ..module_utils._traffic.shift import ClusterRoute, Limits, Shift

CLIENT_NAME = "exomesh-shift-client"
CLIENT_READY_SECONDS = 120

Ask = Callable[[int, float], Generator[Answer]]


@contextmanager
def requests(params: dict[str, Any], clients: dict[str, KubernetesClient]) -> Iterator[Ask]:
    """Yield the function that sends the requests of a check.

    :raises ExomeshError: there is no address to request, or the pod that sends the requests does not start.
    """
    headers = {"Host": params["host"]} if params["host"] else {}
    if not params["client_cluster"]:
        urls = params["urls"] or ingress_urls(params["ingress"], clients)
        yield lambda count, seconds: ask_urls(urls, headers, count, seconds)
        return
    pod = MeshClient(
        clients[params["client_cluster"]], params["namespace"], CLIENT_NAME, params["client_image"]
    )

    def ask(count: int, seconds: float) -> Generator[Answer]:
        return pod.ask(params["urls"][0], count / seconds, count)

    with pod.running(CLIENT_READY_SECONDS):
        yield ask


def ingress_urls(ingress: str, clients: dict[str, KubernetesClient]) -> list[str]:
    """Return the addresses of the ingress gateways that exist.

    :raises ExomeshError: ``no_ingress``.
    """
    namespace, _slash, name = ingress.partition("/")
    found = concurrently(lambda client: addresses(client, namespace, name), clients.values())
    urls = [f"http://{every[0]}/" for every in found if every]
    if not urls:
        raise ExomeshError(
            f"No member has an ingress gateway {ingress} with an address",
            "no_ingress",
            next_step="Install one (playbook exomesh.istio.traffic), or give urls",
        )
    return urls


def run(task: Task) -> Result:
    """Take the steps, or only report them in check mode, and return the module's result."""
    params = task.params
    check(params)
    members = members_of(params)
    if params["client_cluster"]:
        params["client_cluster"] = member_named(members, "client_cluster", params["client_cluster"]).name
    clients = {member.name: KubernetesClient(member.kubeconfig, name=member.name) for member in members}
    for member in members:
        require_cluster(clients[member.name], member.name, member.mesh)
    shift = shift_of(params, clients)
    steps = shift.plan()
    done = not steps and not shift.under_way
    if not task.check_mode and not done:
        try:
            with requests(params, clients) as shift.ask:
                shift.run()
        finally:
            task.on_failure["report"] = shift.report()
    end = steps[-1] if steps else shift.start
    where = f"{shift.canary} has {shift.start} %"
    told = ", ".join(f"{step} %" for step in steps)
    return {
        "changed": not done,
        "start": shift.start,
        "steps": steps,
        "checks": [check.as_dict() for check in shift.checks],
        "report": [
            f"{where}: nothing is left to do" if done else f"{where}, then: {told or 'one more check'}",
            *shift.report(),
        ],
        "diff": {
            "before": f"{shift.canary}: {shift.start} %\n",
            "after": f"{shift.canary}: {end} %\n",
        },
    }


def check(params: dict[str, Any]) -> None:
    """Check the options for faults that their types do not show.

    :raises ExomeshError: ``invalid_option``.
    """
    steps = params["steps"]
    wrong = None
    if not steps or sorted(set(steps)) != steps or not 0 < steps[0] <= steps[-1] <= 100:
        wrong = f"steps must rise, between 1 and 100: {steps}"
    elif params["requests"] < 1 or params["seconds"] < 1:
        wrong = "requests and seconds must be 1 or more"
    elif params["client_cluster"] and not params["urls"]:
        wrong = "client_cluster needs urls: what shall the pod ask?"
    if wrong:
        raise ExomeshError(wrong, "invalid_option")


def shift_of(params: dict[str, Any], clients: dict[str, KubernetesClient]) -> Shift:
    """Return the shift in the module's parameters.

    :raises ExomeshError: pattern is not a regular expression.
    """
    ref = route_ref(params["form"], params["namespace"], params["name"])
    versions = params["stable"], params["canary"]
    limits = (params[name] for name in ("requests", "seconds", "max_error_percent", "settle"))
    try:
        pattern = re.compile(params["pattern"])
    except re.error as error:
        raise ExomeshError(f"pattern is no regular expression: {error}", "invalid_option") from None
    routes = [ClusterRoute(client, ref, *versions, params["rule"]) for client in clients.values()]
    return Shift(routes, *versions, params["steps"], Limits(*limits), pattern)


def time_limit(params: Mapping[str, Any]) -> float:
    """Return the seconds for the whole shift: those given, or else the most that its checks may take."""
    each = params["settle"] + 2 * (params["seconds"] + REQUEST_SECONDS)
    checks = len(params["steps"]) + 2  # one before the first step, one after a roll-back
    return float(params["timeout"] or checks * each + CLIENT_READY_SECONDS + 60)


string = {"type": "str", "required": True}
SPEC = Spec(
    time_limit=time_limit,
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "namespace": string,
        "name": string,
        "form": {"type": "str", "choices": [ISTIO, GATEWAY_API], "default": ISTIO},
        "rule": {"type": "str"},
        "stable": string,
        "canary": string,
        "steps": {"type": "list", "elements": "int", "default": [10, 50, 100]},
        "requests": {"type": "int", "default": 200},
        "seconds": {"type": "int", "default": 10},
        "max_error_percent": {"type": "float", "default": 1.0},
        "settle": {"type": "int", "default": 60},
        "pattern": {"type": "str", "default": r"VERSION:?\s*([\w.-]+)"},
        "urls": {"type": "list", "elements": "str", "default": []},
        "host": {"type": "str"},
        "ingress": {"type": "str", "default": "istio-ingress/istio-ingressgateway"},
        "client_cluster": {"type": "str"},
        "client_image": {"type": "str", "default": CURL_IMAGE},
        "timeout": {"type": "int"},
    },
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
