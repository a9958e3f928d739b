# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the overlays of a user before they are installed (private to the collection)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .._base.check import ERROR, OK, Check
from .._base.errors import ExomeshError
from .._istio.discovery import NAME_LABEL, hidden, selectors_of
from .._istio.gateway_settings import GatewaySettings, gateway_api_objects, operator_settings
from .._istio.names import (
    INJECTION_LABEL,
    ISTIO_NAMESPACE,
    NETWORK_LABEL,
    REVISION_LABEL,
    VERIFY_NAMESPACE,
)
from .._istio.operator import OperatorSettings, istio_operator
from .._kubernetes.api import Object
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, labels_of
from .wanted import Wanted


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
    if selectors := selectors_of(operator["spec"].get("meshConfig")):
        yield _discovery(selectors, wanted, namespaces)


def _discovery(selectors: Sequence[Any], wanted: Wanted, namespaces: Sequence[Object]) -> Check:
    """Check that istiod would see the namespaces that the mesh needs."""
    known = {namespace["metadata"]["name"]: labels_of(namespace) for namespace in namespaces}
    injected = {REVISION_LABEL: wanted.revision} if wanted.revision else {INJECTION_LABEL: "enabled"}
    ours = {MANAGED_BY_LABEL: MANAGED_BY, **injected}
    needed = {
        ISTIO_NAMESPACE: {**known.get(ISTIO_NAMESPACE, {}), NETWORK_LABEL: wanted.network},
        # Each verification makes it anew.
        VERIFY_NAMESPACE: {MANAGED_BY_LABEL: MANAGED_BY, INJECTION_LABEL: "enabled"},
        **({wanted.demo: {**known.get(wanted.demo, {}), **ours}} if wanted.demo else {}),
    }
    unseen = hidden(selectors, needed)
    if not unseen:
        return Check("discovery-selectors", OK, "istiod sees the namespaces that the mesh needs")
    adding = f"{{key: {NAME_LABEL}, operator: In, values: [{', '.join(needed)}]}}"
    return Check(
        "discovery-selectors",
        ERROR,
        f"meshConfig.discoverySelectors of istio_overlay hide {', '.join(unseen)} from istiod",
        cause="istiod ignores gateways, services and pods of a namespace that no selector matches",
        next_step=f"Add a selector for them: - matchExpressions: [{adding}]",
        acceptable=ISTIO_NAMESPACE not in unseen,
    )
