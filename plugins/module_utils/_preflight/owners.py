# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether somebody else owns what is to be installed (private to the collection)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._base.check import ERROR, OK, WARNING, Check
from .._istio.former import former_istiods, former_objects
from .._istio.gateway_settings import NAME
from .._istio.names import CONTROL_PLANE, EASTWEST_GATEWAY, ISTIO_NAMESPACE
from .._istio.operator import DEFAULT_REVISION
from .._istio.ownership import TWO_OWNERS, foreign_owner, revision_of, ways_on
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient
from .wanted import Wanted

_GATEWAY = ObjectRef("apps/v1", "Deployment", NAME, ISTIO_NAMESPACE)


class Owners:
    """The owners of the istiods and of the east-west gateway of a cluster."""

    def __init__(
        self, client: KubernetesClient, wanted: Wanted, namespace: Object | None, istiods: Sequence[Object]
    ) -> None:
        self._client = client
        self._wanted = wanted
        former = (
            former_istiods(client, namespace, istiods, wanted.mesh_id, wanted.cluster)
            if wanted.owner == CONTROL_PLANE
            else []
        )
        self._former = {ObjectRef.of(istiod) for istiod in former}

    def istiod(self, istiod: Object) -> Check:
        """Check the owner of an istiod."""
        ref, wanted = ObjectRef.of(istiod), self._wanted
        if ref in self._former:
            return Check(
                "istio-owner", OK, f"{ref} is ours; it will be marked as of IstioOperator {wanted.owner}"
            )
        owner = foreign_owner(istiod, wanted.owner)
        if owner is None:
            return Check("istio-owner", OK, f"{ref} is of IstioOperator {wanted.owner}")
        revision = revision_of(istiod)
        if revision != (wanted.revision or DEFAULT_REVISION):
            return Check(
                "istio-owner",
                WARNING,
                f"{ref}, revision {revision}, belongs to {owner}; it stays beside what is installed",
                next_step="Remove it when no workload uses it any more",
            )
        return Check(
            "istio-owner",
            ERROR,
            f"In cluster {wanted.cluster}, {ref} belongs to {owner}",
            cause=TWO_OWNERS,
            next_step=ways_on(wanted.owner),
        )

    def gateway(self) -> Iterator[Check]:
        """Check the owner of the east-west gateway, if one of the same name is to be installed."""
        if NAME not in [workload.name for workload in self._wanted.workloads]:
            return
        live = self._client.get(_GATEWAY)
        owner = foreign_owner(live, EASTWEST_GATEWAY) if live else None
        if owner is None or _GATEWAY in map(ObjectRef.of, former_objects(self._client, EASTWEST_GATEWAY)):
            return
        yield Check(
            "gateway-owner",
            ERROR,
            f"In cluster {self._wanted.cluster}, {_GATEWAY} belongs to {owner}",
            cause=TWO_OWNERS,
            next_step=ways_on(EASTWEST_GATEWAY),
        )
