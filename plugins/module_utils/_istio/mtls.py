# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether workloads of a cluster take nothing but mutual TLS (private to the collection)."""

from __future__ import annotations

from collections.abc import Sequence

from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient, is_ours
from .._kubernetes.objects import (
    DELETE,
    UNCHANGED,
    ObjectChange,
    apply_patiently,
    compare_all,
    refuse_foreign,
)
from .names import ISTIO_NAMESPACE

PLAIN_TEXT_REFUSED: Object = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {
        "name": "default",
        "namespace": ISTIO_NAMESPACE,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY},
    },
    "spec": {"mtls": {"mode": "STRICT"}},
}
"""The policy of a mesh whose workloads take mutual TLS only."""


def compare_mtls(client: KubernetesClient, strict: bool) -> list[ObjectChange]:
    """What it takes that workloads refuse plain text, or take it as Istio has it by default.

    :raises ExomeshError: ``foreign_object``, where the policy that is wanted is there, but somebody else's.
    """
    if strict:
        own = refuse_foreign(client, [PLAIN_TEXT_REFUSED])
        return compare_all(client, [PLAIN_TEXT_REFUSED], FIELD_MANAGER, known=own)
    ref = ObjectRef.of(PLAIN_TEXT_REFUSED)
    live = client.get(ref)
    return [ObjectChange(ref, DELETE if live and is_ours(live) else UNCHANGED, {}, {})]


def apply_mtls(client: KubernetesClient, changes: Sequence[ObjectChange], timeout: float) -> None:
    """Do what :func:`compare_mtls` says; istiod, which validates the policy, should be up."""
    for change in changes:
        if change.action == DELETE:
            client.delete(change.ref)
        elif change.action != UNCHANGED:
            apply_patiently(client, PLAIN_TEXT_REFUSED, FIELD_MANAGER, timeout)
