# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the overlays of a user before they are installed (private to the collection)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._base.check import ERROR, OK, Check
from .._base.errors import ExomeshError
from .._istio.gateway_settings import GatewaySettings, gateway_api_objects, operator_settings
from .._istio.names import ISTIO_NAMESPACE, NETWORK_LABEL, VERIFY_NAMESPACE
from .._istio.operator import OperatorSettings, istio_operator
from .._kubernetes.api import Object
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, labels_of
from .._kubernetes.selectors import selects
from .wanted import Wanted

_NAME_LABEL = "kubernetes.io/metadata.name"


def overlay_checks(wanted: Wanted, namespaces: Sequence[Object]) -> Iterator[Check]:
    """Check what would be installed with the overlays.

    :param namespaces: the namespaces of the cluster.
    """
    try:
        settings = GatewaySettings(
            network=wanted.network,
            operator_spec=wanted.gateway_overlay,
            parameters=wanted.gateway_parameters,
        )
        gateway_api_objects(settings, True) if wanted.gateway_api else operator_settings(settings, True)
        operator = istio_operator(OperatorSettings(spec=wanted.overlay), wanted.version)
    except ExomeshError as error:
        yield Check(
            "overlay",
            ERROR,
            error.message,
            cause=error.cause or "",
            next_step=error.next_step or "Correct gateway_overlay",
            acceptable=False,
        )
        return
    mesh_config = operator["spec"].get("meshConfig")
    selectors = mesh_config.get("discoverySelectors") if isinstance(mesh_config, Mapping) else None
    if isinstance(selectors, Sequence) and not isinstance(selectors, str) and selectors:
        yield _discovery(selectors, wanted, namespaces)


def _discovery(selectors: Sequence[Any], wanted: Wanted, namespaces: Sequence[Object]) -> Check:
    """Check that istiod would see the namespaces that the mesh needs."""
    known = {namespace["metadata"]["name"]: labels_of(namespace) for namespace in namespaces}
    injected = {"istio.io/rev": wanted.revision} if wanted.revision else {"istio-injection": "enabled"}
    ours = {MANAGED_BY_LABEL: MANAGED_BY, **injected}
    needed = {
        ISTIO_NAMESPACE: {**known.get(ISTIO_NAMESPACE, {}), NETWORK_LABEL: wanted.network},
        VERIFY_NAMESPACE: {MANAGED_BY_LABEL: MANAGED_BY},  # each verification makes it anew
        **({wanted.demo: {**known.get(wanted.demo, {}), **ours}} if wanted.demo else {}),
    }
    hidden = [
        name
        for name, labels in needed.items()
        if not any(
            isinstance(selector, Mapping) and selects(selector, {**labels, _NAME_LABEL: name})
            for selector in selectors
        )
    ]
    if not hidden:
        return Check("discovery-selectors", OK, "istiod sees the namespaces that the mesh needs")
    adding = f"{{key: {_NAME_LABEL}, operator: In, values: [{', '.join(needed)}]}}"
    return Check(
        "discovery-selectors",
        ERROR,
        f"meshConfig.discoverySelectors of istio_overlay hide {', '.join(hidden)} from istiod",
        cause="istiod ignores gateways, services and pods of a namespace that no selector matches",
        next_step=f"Add a selector for them: - matchExpressions: [{adding}]",
        acceptable=ISTIO_NAMESPACE not in hidden,
    )
