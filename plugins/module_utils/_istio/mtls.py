# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy that workloads of a cluster accept only mutual TLS (private to the collection)."""

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
"""The policy of a mesh whose workloads accept only mutual TLS."""


def compare_mtls(client: KubernetesClient, strict: bool) -> list[ObjectChange]:
    """Return the changes after which workloads refuse plain text, or accept it, which is Istio's default.

    :param strict: whether workloads are to refuse plain text.
    :raises ExomeshError: ``foreign_object``: the wanted policy exists, but belongs to somebody else.
    """
    if strict:
        own = refuse_foreign(client, [PLAIN_TEXT_REFUSED])
        return compare_all(client, [PLAIN_TEXT_REFUSED], FIELD_MANAGER, known=own)
    ref = ObjectRef.of(PLAIN_TEXT_REFUSED)
    live = client.get(ref)
    return [ObjectChange(ref, DELETE if live and is_ours(live) else UNCHANGED, {}, {})]


def apply_mtls(client: KubernetesClient, changes: Sequence[ObjectChange], timeout: float) -> None:
    """Make the changes of :func:`compare_mtls`. istiod should be running, because it validates the policy."""
    for change in changes:
        if change.action == DELETE:
            client.delete(change.ref)
        elif change.action != UNCHANGED:
            apply_patiently(client, PLAIN_TEXT_REFUSED, FIELD_MANAGER, timeout)
