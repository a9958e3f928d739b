#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Route requests from an ingress gateway to the versions of a service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: traffic_route
short_description: Route requests from an ingress gateway to the versions of a service
version_added: 0.1.0
description:
  - Splits requests by weight between the versions of a service. Sends requests with a certain header or
    cookie to one version (A/B). Mirrors requests to a version whose answers are thrown away.
  - Writes the route in Istio's own form or in the Gateway API's form. Deletes what the other form left.
  - The versions may run in any cluster, as long as every cluster has this route. The east-west gateways need
    the route, too.
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
  idempotent:
    support: full
options:
  cluster:
    description:
      - Name of the cluster in its mesh. If it is given, a kubeconfig of another cluster of a mesh is refused.
    type: str
  namespace:
    description:
      - Namespace of the service and of the route.
    type: str
    required: true
  service:
    description:
      - Name of the service, and of the objects of the route.
      - Its pods have the label C(app) with this name, and the label C(version).
    type: str
    required: true
  port:
    description:
      - Port of the service.
    type: int
    required: true
  state:
    description:
      - V(absent) deletes the route in either form. The service and its versions stay.
    type: str
    choices: [present, absent]
    default: present
  hosts:
    description:
      - Host names for which the route is used.
    type: list
    elements: str
    default: ["*"]
  form:
    description:
      - V(istio) writes Gateway, VirtualService and DestinationRule.
      - V(gateway-api) writes Gateway and HTTPRoute, and a Service for every version. The kinds of the Gateway
        API must be installed.
    type: str
    choices: [istio, gateway-api]
    default: istio
  versions:
    description:
      - Names of the versions of the service, which are the values of the pods' label C(version).
    type: list
    elements: str
    required: true
  weights:
    description:
      - By version, its share in percent of the requests that match no rule.
      - Without any, the route keeps the weights that it has, for example those that
        M(exomesh.istio.traffic_shift) has set. A new route sends all requests to the first version.
    type: dict
    default: {}
  rules:
    description:
      - Rules for requests that go to one version regardless of the weights. The first rule that matches is
        used.
    type: list
    elements: dict
    default: []
    suboptions:
      version:
        description:
          - Version to which these requests go.
        type: str
        required: true
      headers:
        description:
          - Headers that a request must have, all of them, with exactly these values.
        type: dict
        default: {}
      cookie:
        description:
          - A cookie that a request must have.
        type: dict
        suboptions:
          name:
            description:
              - Its name.
            type: str
            required: true
          value:
            description:
              - Its value.
            type: str
            required: true
  mirror:
    description:
      - A version that gets copies of the requests that are split by weight.
    type: dict
    suboptions:
      version:
        description:
          - The version.
        type: str
        required: true
      percent:
        description:
          - Share of these requests that is copied, in percent.
        type: int
        default: 100
  ejection:
    description:
      - The conditions for an endpoint to count as failed. Requests then go to the other endpoints of its
        locality. If all of these have failed, requests go to the next locality.
    type: dict
    default: {}
    suboptions:
      errors:
        description:
          - Errors in a row after which an endpoint counts as failed.
        type: int
        default: 5
      interval:
        description:
          - Seconds between two checks of the endpoints.
        type: int
        default: 5
      seconds:
        description:
          - Seconds for which an endpoint is taken out the first time.
        type: int
        default: 30
  ingress:
    description:
      - The ingress gateway through which requests come in.
    type: dict
    default: {}
    suboptions:
      namespace:
        description:
          - Its namespace.
        type: str
        default: istio-ingress
      service:
        description:
          - Name of its Service.
        type: str
        default: istio-ingressgateway
      selector:
        description:
          - Labels of its pods.
        type: dict
        default: {istio: ingressgateway}
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Send a tenth of the requests to v2, and all requests with a cookie
  exomesh.istio.traffic_route:
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    namespace: shop
    service: cart
    port: 8080
    hosts: [cart.example.com]
    versions: [v1, v2]
    weights: {v1: 90, v2: 10}
    rules:
      - version: v2
        cookie: {name: group, value: beta}
"""

RETURN = r"""
weights:
  description: Weight by version, as the route has it or would have it.
  type: dict
  returned: success, where there is a kubeconfig
  sample: {v1: 90, v2: 10}
objects:
  description: Names of the objects, by what happened to them or would happen, as
    M(exomesh.istio.server_side_apply) returns them.
  type: dict
  returned: success
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from collections.abc import Iterable
from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._base.waiting import concurrently
from ..module_utils._istio.record import require_cluster
from ..module_utils._kubernetes.api import ObjectRef
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import FIELD_MANAGER, KubernetesClient, is_ours
from ..module_utils._kubernetes.objects import (
    DELETE,
    UNCHANGED,
    ObjectChange,
    apply_patiently,
    compare_all,
    refuse_foreign,
    render_diff,
    summarise,
)
from ..module_utils._traffic.route import (
    GATEWAY_API,
    ISTIO,
    Ejection,
    Ingress,
    Mirror,
    Route,
    Rule,
    render,
    route_ref,
    starting_weights,
)


def route_of(params: dict[str, Any]) -> Route:
    """Return the route in the module's parameters.

    :raises ExomeshError: a rule or the mirror names a version that does not exist.
    """
    rules = [
        Rule(
            rule["version"],
            {name: str(value) for name, value in rule["headers"].items()},
            (rule["cookie"]["name"], rule["cookie"]["value"]) if rule["cookie"] else None,
        )
        for rule in params["rules"]
    ]
    return Route(
        params["namespace"],
        params["service"],
        params["port"],
        params["hosts"],
        params["versions"],
        rules,
        Mirror(**params["mirror"]) if params["mirror"] else None,
        Ejection(**params["ejection"]),
        Ingress(**params["ingress"]),
    )


def run(task: Task) -> Result:
    """Ensure the route as given, and return the module's result."""
    params = task.params
    route = route_of(params)
    if kubeconfig_is_to_come(task):
        return {"changed": params["state"] == "present", "objects": summarise([])}
    client = KubernetesClient(params["kubeconfig"], params["context"], params["cluster"])
    require_cluster(client, params["cluster"])
    form, other = (ISTIO, GATEWAY_API) if params["form"] == ISTIO else (GATEWAY_API, ISTIO)
    # A route that changes its form keeps its weights.
    live = [client.get(route_ref(each, route.namespace, route.service)) for each in (form, other)]
    weights = starting_weights(route.versions, params["weights"], live[0] or live[1])
    objects, surplus = render(form, route, weights), render(other, route, weights)
    if params["state"] == "absent":
        objects, surplus = [], [*objects, *surplus]
    try:
        refuse_foreign(client, objects)
        changes = compare_all(client, objects, FIELD_MANAGER)
        deletions = _ours_among(client, {ObjectRef.of(obj) for obj in surplus} - {c.ref for c in changes})
        if not task.check_mode:
            if objects and form == GATEWAY_API:
                require_gateway_api(client)
            for obj, change in zip(objects, changes, strict=True):
                if change.action != UNCHANGED:
                    apply_patiently(client, obj, FIELD_MANAGER, params["timeout"])
            for change in deletions:
                client.delete(change.ref)
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None
    changes += deletions
    return {
        "changed": any(change.action != UNCHANGED for change in changes),
        "weights": weights,
        "objects": summarise(changes),
        **({"diff": render_diff(changes)} if task.diff else {}),
    }


def require_gateway_api(client: KubernetesClient) -> None:
    """Check that the cluster has the kinds of the Gateway API.

    :raises ExomeshError: ``no_gateway_api``.
    """
    crd = "httproutes.gateway.networking.k8s.io"
    if client.get(ObjectRef("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd)) is None:
        raise ExomeshError(
            "The cluster does not have the kinds of the Gateway API",
            "no_gateway_api",
            next_step="Install them (README of role gateway), or use traffic_form=istio",
        )


def _ours_among(client: KubernetesClient, refs: Iterable[ObjectRef]) -> list[ObjectChange]:
    """Return the deletions of the objects that exist and were made by this collection."""
    ordered = sorted(refs)
    live = concurrently(client.get, ordered)
    return [
        ObjectChange(ref, DELETE, {}, {})
        for ref, obj in zip(ordered, live, strict=True)
        if obj and is_ours(obj)
    ]


def _defaults(options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return an option whose suboptions have their defaults even if the option is not given."""
    return {"type": "dict", "default": {}, "apply_defaults": True, "options": options}


string: dict[str, Any] = {"type": "str", "required": True}
cookie = {"name": string, "value": string}
rule = {
    "version": string,
    "headers": {"type": "dict", "default": {}},
    "cookie": {"type": "dict", "options": cookie},
}
ejection = {
    "errors": {"type": "int", "default": 5},
    "interval": {"type": "int", "default": 5},
    "seconds": {"type": "int", "default": 30},
}
ingress: dict[str, dict[str, Any]] = {
    "namespace": {"type": "str", "default": "istio-ingress"},
    "service": {"type": "str", "default": "istio-ingressgateway"},
    "selector": {"type": "dict", "default": {"istio": "ingressgateway"}},
}
SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "cluster": {"type": "str"},
        "namespace": string,
        "service": string,
        "port": {"type": "int", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "hosts": {"type": "list", "elements": "str", "default": ["*"]},
        "form": {"type": "str", "choices": [ISTIO, GATEWAY_API], "default": ISTIO},
        "versions": {"type": "list", "elements": "str", "required": True},
        "weights": {"type": "dict", "default": {}},
        "rules": {"type": "list", "elements": "dict", "default": [], "options": rule},
        "mirror": {
            "type": "dict",
            "options": {"version": string, "percent": {"type": "int", "default": 100}},
        },
        "ejection": _defaults(ejection),
        "ingress": _defaults(ingress),
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
