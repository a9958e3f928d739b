# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which PeerAuthentication holds for a port of a pod."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._verify.mtls import mtls_mode
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import ClusterState

POD = {"metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}}}


def policy(name: str, namespace: str, mode: str, made: str = "2026-01-01", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": made}
    return {"metadata": metadata, "spec": {"mtls": {"mode": mode}, **spec}}


WEB = {"matchLabels": {"app": "web"}}
MESH, HERE = policy("mesh", "istio-system", "DISABLE"), policy("here", "shop", "STRICT")
OURS = policy("ours", "shop", "UNSET", selector=WEB, portLevelMtls={"8080": {"mode": "DISABLE"}})


@pytest.mark.parametrize(
    ("policies", "port", "found"),
    [
        ([], 80, ("PERMISSIVE", "")),
        ([MESH], 80, ("DISABLE", "istio-system/mesh")),
        ([MESH, HERE], 80, ("STRICT", "shop/here")),
        ([MESH, HERE, OURS], 80, ("STRICT", "shop/here")),
        ([MESH, HERE, OURS], 8080, ("DISABLE", "shop/ours")),
        ([HERE, policy("older", "shop", "DISABLE", "2025-01-01")], 80, ("DISABLE", "shop/older")),
        (
            [policy("theirs", "shop", "DISABLE", selector={"matchLabels": {"app": "db"}})],
            80,
            ("PERMISSIVE", ""),
        ),
        ([policy("elsewhere", "pay", "DISABLE")], 80, ("PERMISSIVE", "")),
    ],
)
def test_the_nearest_policy_holds(policies: list[dict[str, Any]], port: int, found: tuple[str, str]) -> None:
    state = ClusterState(Member("vie", "network-vie", "kubeconfig"), peer_authentications=policies)
    assert mtls_mode(state, POD, port) == found
