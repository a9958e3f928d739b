# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's overlays say about the pods to come (private to the collection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._istio.gateway_settings import NAME
from .capacity import Amount
from .wanted import Workload

Tree = Mapping[str, Any]


def istiod_of(name: str, replicas: int, request: Tree, resources: Tree, overlay: Tree) -> Workload:
    """Return istiod as a workload.

    :param request: its CPU and memory without settings.
    :param resources: its requests and limits by the role's variable.
    :param overlay: merged over the ``spec`` of its IstioOperator.
    """
    pilot = _at(overlay, "values", "pilot")
    k8s = _at(overlay, "components", "pilot", "k8s")
    return _workload(name, replicas, request, [{"resources": resources}, _shared(overlay), pilot, k8s])


def gateway_of(name: str, replicas: int, request: Tree, overlay: Tree, parameters: Tree) -> Workload:
    """Return the east-west gateway as a workload, in either form.

    :param overlay: merged over the ``spec`` of its IstioOperator; empty for the Gateway API.
    :param parameters: merged over the objects of the Gateway API; empty for the IstioOperator.
    """
    values = _at(overlay, "values", "gateways", "istio-ingressgateway")
    component = _entry(_at(overlay, "components").get("ingressGateways"), NAME)
    pod = _at(parameters, "deployment", "spec", "template", "spec")
    container = _entry(pod.get("containers"), "istio-proxy")
    layers = [_shared(overlay), values, _at(component, "k8s"), pod, {"resources": container.get("resources")}]
    return _workload(name, replicas, request, layers)


def _workload(name: str, replicas: int, request: Tree, layers: Sequence[Tree]) -> Workload:
    """Return a workload by its layers of settings, of which a later one goes before."""
    wanted = dict(request)
    tolerations: Sequence[Tree] = ()
    selector: Tree = {}
    for layer in layers:
        wanted |= _at(layer, "resources", "requests")
        tolerations = layer.get("tolerations") or tolerations
        selector = {**selector, **_at(layer, "nodeSelector")}
        replicas = _at(layer, "hpaSpec").get("minReplicas") or layer.get("autoscaleMin") or replicas
    return Workload(name, int(replicas), Amount.of(wanted), tolerations, selector)


def _shared(overlay: Tree) -> Tree:
    """Return what an overlay says for all pods of Istio."""
    shared = _at(overlay, "values", "global")
    return {
        "resources": shared.get("defaultResources"),
        "tolerations": shared.get("defaultTolerations"),
        "nodeSelector": shared.get("defaultNodeSelector"),
    }


def _at(tree: Any, *path: str) -> dict[str, Any]:
    """Return the mapping at a path; empty if there is none."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return dict(tree) if isinstance(tree, Mapping) else {}


def _entry(entries: Any, name: str) -> Tree:
    """Return the entry of that name in a list; empty if there is none."""
    found = entries if isinstance(entries, Sequence) else ()
    return next((entry for entry in found if isinstance(entry, Mapping) and entry.get("name") == name), {})
