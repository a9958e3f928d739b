# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy of mutual TLS, against a small API of real HTTP."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._istio.mtls import (
    PLAIN_TEXT_REFUSED,
    apply_mtls,
    compare_mtls,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubernetes_api import ApiServer

PATH = "/apis/security.istio.io/v1/namespaces/istio-system/peerauthentications/default"
REF = ObjectRef.of(PLAIN_TEXT_REFUSED)


def act(client: KubernetesClient, strict: bool) -> list[str]:
    changes = compare_mtls(client, strict)
    apply_mtls(client, changes, 5)
    return [change.action for change in changes]


def test_it_comes_stays_and_goes(client: KubernetesClient) -> None:
    assert [act(client, strict=True), act(client, strict=True)] == [["create"], ["unchanged"]]
    found = client.get(REF)
    assert found
    assert found["spec"] == {"mtls": {"mode": "STRICT"}}
    assert [act(client, strict=False), act(client, strict=False)] == [["delete"], ["unchanged"]]
    assert client.get(REF) is None


def test_that_of_somebody_else_stays(client: KubernetesClient, api: ApiServer) -> None:
    theirs = {**PLAIN_TEXT_REFUSED, "metadata": {"name": "default", "namespace": "istio-system"}}
    api.put(PATH, theirs)
    assert act(client, strict=False) == ["unchanged"]
    with pytest.raises(ExomeshError) as refused:
        compare_mtls(client, strict=True)
    assert refused.value.code == "foreign_object"
    assert client.get(REF)
