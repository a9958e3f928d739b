# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check what extends a cluster: the Gateway API, APIServices and Cilium (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .._base.check import ERROR, NOTE, OK, WARNING, Check
from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .._istio.eastwest_gateway import GATEWAY_CRD, without_gateway_api
from .._istio.releases import Release
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.cilium import BYPASSED, BYPASSED_CAUSE, BYPASSED_NEXT, CILIUM_REF, bypassing
from .._kubernetes.client import KubernetesClient
from .wanted import Wanted

_GROUP = "gateway.networking.k8s.io"
_BUNDLE = f"{_GROUP}/bundle-version"

_OLDEST = {
    "grpcroutes": ((1, 0), (1, 1)),
    "backendtlspolicies": ((1, 30), (1, 4)),
    "tlsroutes": ((1, 30), (1, 5)),
}
"""The oldest release of the Gateway API whose kind istiod reads, and the first Istio with this limit."""


def api_checks(client: KubernetesClient, wanted: Wanted) -> Iterator[Check]:
    """Check the extensions of the cluster."""
    yield _gateway_api(client, wanted)
    yield _api_services(client)
    yield _socket_load_balancing(client)


def _gateway_api(client: KubernetesClient, wanted: Wanted) -> Check:
    code = "gateway-api"
    missing = without_gateway_api(client.get(GATEWAY_CRD)) if wanted.gateway_api else None
    if missing:
        return Check(code, ERROR, missing.message, next_step=missing.next_step or "", acceptable=False)
    release = Release.parse(wanted.version)
    refs = [ObjectRef(GATEWAY_CRD.api_version, GATEWAY_CRD.kind, f"{plural}.{_GROUP}") for plural in _OLDEST]
    unread = []
    for definition, (plural, (since, oldest)) in zip(
        concurrently(client.get, refs), _OLDEST.items(), strict=True
    ):
        if definition is None or (release.major, release.minor) < since:
            continue
        bundle = (definition["metadata"].get("annotations") or {}).get(_BUNDLE, "")
        found = re.match(r"v?(\d+)\.(\d+)", bundle)
        if not found or (int(found[1]), int(found[2])) < oldest:
            needed = ".".join(map(str, oldest))
            unread.append(f"{plural}: release {bundle or 'unknown'}, {needed} or newer is needed")
    if not unread:
        return Check(code, OK, "istiod reads the Gateway API of the cluster, or there is none")
    return Check(
        code,
        WARNING,
        f"Istio {wanted.version} takes no notice of kinds of the Gateway API that are too old for it",
        unread,
        "Routes of these kinds are there, but no gateway serves them",
        "Install a newer release of the Gateway API, if anybody uses these kinds",
    )


def _api_services(client: KubernetesClient) -> Check:
    code = "api-service"
    try:
        services = client.list_objects("apiregistration.k8s.io/v1", "APIService", None, None)
    except ExomeshError as error:
        return Check(code, NOTE, "Whether all APIServices answer is not known", [error.message])
    silent = [told for service in services if (told := _why_silent(service))]
    if not silent:
        return Check(code, OK, "Every APIService answers")
    return Check(
        code,
        WARNING,
        "APIServices do not answer",
        silent,
        "While one is silent, a deleted namespace stays in Terminating, also that of the verification",
        "Start what answers for it. If nobody uses it: kubectl delete apiservice NAME",
    )


def _socket_load_balancing(client: KubernetesClient) -> Check:
    code = "socket-load-balancing"
    found = bypassing(client.get(CILIUM_REF))
    if not found:
        return Check(code, OK, "No Cilium leads connections of pods past their sidecars")
    return Check(code, WARNING, BYPASSED, found, BYPASSED_CAUSE, BYPASSED_NEXT)


def _why_silent(service: Object) -> str:
    for condition in service.get("status", {}).get("conditions") or []:
        if condition["type"] == "Available" and condition["status"] != "True":
            said = condition.get("message") or condition.get("reason") or "no reason"
            return f"{service['metadata']['name']}: {said}"
    return ""
