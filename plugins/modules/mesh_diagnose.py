#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walk the way of one request, and say where it stops."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_diagnose
short_description: Follow one request through the mesh, and report where it stops
version_added: 0.1.0
description:
  - Looks at how the proxies on the way of a request were really configured, from a sidecar in one cluster to
    the pods of a service in another.
  - The steps are certificates, configuration that was rejected, listener, route, cluster, endpoints, the
    gateway of the destination, and the pods there. The first step that fails is reported with its evidence, a
    likely cause, and the next command.
  - Follows every target of the route with its share of the requests, faults that a VirtualService injects,
    and redirects. Names retries, time-outs, copies (mirrors), and routes that need further headers.
  - The request is assumed to be C(GET /) without further headers. With O(request), such a request is also
    sent from the pod, and compared with the steps.
  - Does not fail if the way stops, but says so in RV(stops_at). What could not be told is in RV(untold).
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
    details:
      - In check mode it sends no request.
  diff_mode:
    support: N/A
    details:
      - It changes nothing.
  idempotent:
    support: full
options:
  source:
    description:
      - The member in which the request begins.
    type: str
    required: true
  service:
    description:
      - The service that gets the request, as C(NAME.NAMESPACE) or C(NAME.NAMESPACE:PORT). Without a port, the
        first one is used.
    type: str
    required: true
  destination:
    description:
      - The member that should answer. Without it, this is the first other member that has the service, or
        else O(source).
    type: str
    default: ""
  pod:
    description:
      - The pod that sends the request, as C(NAMESPACE/NAME). Without it, a pod with a sidecar is used, if
        possible one in the service's own namespace.
    type: str
    default: ""
  request:
    description:
      - Whether to send one real request to the service, by C(curl) or C(wget) in a container of the pod. It
        is a C(GET /) without a body, within 10 seconds. No request is sent in check mode, to a port that is
        not HTTP, or if no container has a shell and one of these programs.
    type: bool
    default: true
  timeout:
    description:
      - Time that the whole module may take, in seconds.
    type: int
    default: 120
requirements:
  - Python package C(kubernetes) >= 31.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Find out why the page of cluster2 does not come up in cluster1
  exomesh.istio.mesh_diagnose:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    source: cluster1
    service: exo-webtest.exodemo:3000
    destination: cluster2
"""

RETURN = r"""
stops_at:
  description: The step at which the way stops; empty if it does not stop.
  type: str
  returned: success
  sample: gateway
untold:
  description:
    - Names of steps of which nobody can tell whether they are well. It is empty if the way stops, or if a
      real request was answered.
  type: list
  elements: str
  returned: success
request:
  description: The real request.
  type: dict
  returned: success
  contains:
    made:
      description: Whether it was sent.
      type: bool
    why_not:
      description: Why it was not sent.
      type: str
    status:
      description: HTTP status of the answer; V(0) if there was none.
      type: int
    text:
      description: Beginning of the page of an error, or what the client said if there was no answer.
      type: str
    agrees:
      description: Whether it agrees with the steps; null if it was not sent, or if that cannot be told.
      type: bool
pod:
  description: The pod that sends the request.
  type: str
  returned: success
destination:
  description: The member that should answer.
  type: str
  returned: success
steps:
  description: Every step, in order.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the step.
      type: str
    state:
      description: >-
        V(ok), V(stop), V(follows) if another step is the cause, V(untold) if it could not be told, or
        V(unknown) if nobody looked, as behind a stop.
      type: str
    told:
      description: What was seen, in a few words.
      type: str
    evidence:
      description: What was seen, in detail.
      type: list
      elements: str
    cause:
      description: The likely cause if the request stops at this step.
      type: str
    next_step:
      description: What to do if the request stops at this step.
      type: str
    share:
      description: The share of the requests, in percent, that a stop concerns.
      type: float
report:
  description: The steps as lines of text.
  type: list
  elements: str
  returned: success
"""

from dataclasses import asdict

from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._diagnose.look import look
from ..module_utils._diagnose.walk import agrees, walk
from ..module_utils._diagnose.way import STOP, lines, untold


def run(task: Task) -> Result:
    """Walk the way, and return the module's result."""
    params = task.params
    why_not = "check mode" if task.check_mode else "it was switched off"
    way = look(
        members_of(params),
        params["source"],
        params["service"],
        params["destination"],
        params["pod"],
        request=params["request"] and not task.check_mode,
        why_not=why_not,
    )
    steps = walk(way)
    sent = way.sent
    return {
        "changed": False,
        "stops_at": next((step.name for step in steps if step.state == STOP), ""),
        "untold": untold(steps),
        "request": {
            "made": sent.made,
            "why_not": sent.why_not,
            "status": sent.status,
            "text": sent.text,
            "agrees": agrees(way, steps),
        },
        "pod": way.pod,
        "destination": way.destination.name,
        "steps": [asdict(step) for step in steps],
        "report": lines(way, steps),
    }


SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "source": {"type": "str", "required": True},
        "service": {"type": "str", "required": True},
        "destination": {"type": "str", "default": ""},
        "pod": {"type": "str", "default": ""},
        "request": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 120},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
