# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who lacks something of its peers is known from a few reads; it must be what the peering itself finds."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._peering.gaps import ClusterReadOnce
from kubeconfigs import run_module
from kubernetes_api import ApiServer, Object
from running_mesh import ISTIOD, NAMES, RunningMesh

SYSTEM = "/api/v1/namespaces/istio-system"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """Two clusters that are peers already."""
    mesh = RunningMesh(tmp_path)
    for name in NAMES:
        peer(mesh, name, probe=False)
    yield mesh
    mesh.close()


def members(mesh: RunningMesh) -> list[Object]:
    return [{**member, "server": f"https://{member['name']}.example:6443"} for member in mesh.members]


def peer(mesh: RunningMesh, name: str, **options: Any) -> Object:
    known = {"kubeconfig": str(mesh[name].api.kubeconfig), "name": name, "timeout": 20, "prune": True}
    result = mesh.run("remote_secrets", **{**known, "members": members(mesh), **options})
    assert "changed" in result, result
    return result


def gaps(mesh: RunningMesh, **options: Any) -> dict[str, str]:
    result = run_module("peering_info", **{"members": members(mesh), "prune": True, **options})
    assert result["changed"] is False
    found: dict[str, str] = result["gaps"]
    return found


def test_a_mesh_that_is_complete_has_no_gaps_and_is_only_read_a_few_times(mesh: RunningMesh) -> None:
    for cluster in mesh.clusters.values():
        cluster.api.requests.clear()
    assert gaps(mesh) == {}
    for cluster in mesh.clusters.values():
        assert len(cluster.api.requests) < 12, cluster.api.requests
        assert all(request.startswith("GET") for request in cluster.api.requests)


def lose(cluster: str, path: str) -> Callable[[RunningMesh], Any]:
    return lambda mesh: mesh[cluster].api.objects.pop(path)


def another_role(mesh: RunningMesh) -> None:
    mesh["fra"].api.objects[f"{RBAC}/clusterroles/exomesh-reader"]["rules"] = []


def another_account(mesh: RunningMesh) -> None:
    account = mesh["fra"].api.objects[f"{SYSTEM}/serviceaccounts/exomesh-reader-vie"]
    account["metadata"]["uid"] = "of the second"
    token = mesh["fra"].api.objects[f"{SYSTEM}/secrets/exomesh-reader-vie-token"]
    token["metadata"]["annotations"]["kubernetes.io/service-account.uid"] = "of the first"


def another_token(mesh: RunningMesh) -> None:
    token = mesh["fra"].api.objects[f"{SYSTEM}/secrets/exomesh-reader-vie-token"]
    token["data"]["token"] = base64.b64encode(b"another").decode()


def a_rejected_token(mesh: RunningMesh) -> None:
    mesh["fra"].api.rejected_tokens.add("token-of-fra-alone")


def test_a_cluster_that_the_inventory_lacks_is_told_and_is_no_gap(mesh: RunningMesh) -> None:
    an_account_for_nobody(mesh)
    result = run_module("peering_info", members=members(mesh), prune=True)
    assert result["gaps"] == {}
    assert result["strangers"] == {"vie": ["gone"]}
    told = str(result["warnings"])
    assert "vie: gone is a member by the record, a remote secret or an account there, but not in this" in told
    assert "exomesh.istio.remove_cluster -e cluster=gone" in told


def an_account_for_nobody(mesh: RunningMesh) -> None:
    api = mesh["vie"].api
    account = api.objects[f"{SYSTEM}/serviceaccounts/exomesh-reader-fra"]
    labels = {**account["metadata"]["labels"], "exomesh.istio/reader": "gone"}
    metadata = {**account["metadata"], "name": "exomesh-reader-gone", "labels": labels}
    api.put(f"{SYSTEM}/serviceaccounts/exomesh-reader-gone", {**account, "metadata": metadata})


@pytest.mark.parametrize(
    "damage",
    [
        lose("vie", f"{SYSTEM}/secrets/istio-remote-secret-fra"),
        lose("fra", f"{SYSTEM}/serviceaccounts/exomesh-reader-vie"),
        lose("fra", f"{SYSTEM}/secrets/exomesh-reader-vie-token"),
        lose("fra", f"{RBAC}/clusterrolebindings/exomesh-reader-vie:secrets"),
        lose("fra", f"{RBAC}/namespaces/istio-system/rolebindings/exomesh-reader-vie"),
        another_role,
        another_account,
        another_token,
        a_rejected_token,
    ],
)
def test_what_peering_would_change_for_a_member_is_a_gap(
    mesh: RunningMesh, damage: Callable[[RunningMesh], Any]
) -> None:
    damage(mesh)
    found = gaps(mesh)
    assert set(found) == {"vie"}
    predicted = peer(mesh, "vie", check=True)
    told = {f"{action} {title}" for action, titles in predicted["objects"].items() for title in titles}
    assert found["vie"] in told
    assert not peer(mesh, "fra", check=True)["changed"]


def test_what_istiod_has_not_read_is_a_gap(mesh: RunningMesh) -> None:
    states = [{"id": "vie", "syncStatus": "synced"}, {"id": "fra", "syncStatus": "timeout"}]
    mesh["vie"].api.listen(ISTIOD, 15014, {"/debug/clusterz": states})
    assert gaps(mesh) == {"vie": f"{ISTIOD} says timeout"}
    assert set(gaps(mesh, reciprocal=True)) == {"vie", "fra"}


def test_a_member_that_does_not_answer_is_a_gap_of_all(mesh: RunningMesh) -> None:
    for kind in ("secrets", "serviceaccounts"):
        mesh["fra"].api.failures["GET", f"{SYSTEM}/{kind}"] = [(403, {"reason": "Forbidden"})] * 9
    found = gaps(mesh)
    assert set(found) == {"vie", "fra"}
    assert "Forbidden" in found["vie"]


def test_a_member_without_a_kubeconfig_is_a_gap(mesh: RunningMesh) -> None:
    here, there = members(mesh)
    found = gaps(mesh, members=[here, {**there, "kubeconfig": "/nonexistent"}])
    assert set(found) == {"vie", "fra"}


def test_one_token_of_a_signing_key_is_tried_for_all(tmp_path: Path) -> None:
    def token(key: str, number: int) -> str:
        header = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": key}).encode()).decode()
        return f"{header.rstrip('=')}.account-{number}.signature"

    api = ApiServer(tmp_path, "vie")
    api.rejected_tokens.add(token("old", 1))
    cluster = ClusterReadOnce(Member("vie", "network-vie", str(api.kubeconfig)))
    api.requests.clear()
    assert [cluster.accepts(token("new", number)) for number in range(5)] == [True] * 5
    assert api.requests == ["GET /version"]
    assert not cluster.accepts(token("old", 1))
    api.close()
