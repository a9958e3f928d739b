# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that become one are told before clusters become peers, and not again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubeconfigs import run_module
from kubernetes_api import Object, status
from running_mesh import NAMES, RunningMesh


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """Two clusters that are no peers yet, each with a database of its own."""
    mesh = RunningMesh(tmp_path)
    for name, peer in (NAMES, NAMES[::-1]):
        cluster = mesh[name]
        del cluster.api.objects[f"/api/v1/namespaces/istio-system/secrets/istio-remote-secret-{peer}"]
        for namespace, service in (
            ("data", "postgres"),
            ("default", "kubernetes"),
            ("kube-system", "kube-dns"),
            ("istio-system", "istiod"),
            ("exomesh-verify", "verify"),
            ("only", name),
        ):
            cluster.put("Service", service, namespace=namespace, spec={"ports": [{"port": 5432}]})
        ours = {"app.kubernetes.io/managed-by": "exomesh.istio"}
        cluster.put("Service", "exo-webtest", ours, "exodemo", spec={})
    yield mesh
    mesh.close()


def members(mesh: RunningMesh) -> list[Object]:
    return [
        {**member, "mesh": "mesh1", "server": f"https://{member['name']}.example:6443"}
        for member in mesh.members
    ]


def look(mesh: RunningMesh) -> Object:
    return run_module("peering_info", members=members(mesh), prune=True, _ansible_check_mode=True)


def warnings(result: Object) -> list[str]:
    return [
        str(warning["event"]["msg"]) if isinstance(warning, dict) else str(warning)
        for warning in result.get("warnings", [])
    ]


def keep_apart(mesh: RunningMesh, name: str) -> None:
    settings = [{"settings": {"clusterLocal": True}, "hosts": ["postgres.data.svc.cluster.local"]}]
    mesh[name].put("ConfigMap", "istio", data={"mesh": yaml.safe_dump({"serviceSettings": settings})})


def test_services_of_one_name_are_told_with_the_way_to_keep_them_apart(mesh: RunningMesh) -> None:
    result = look(mesh)
    assert result["merging"] == {"postgres.data.svc.cluster.local": ["vie", "fra"]}
    (told,) = warnings(result)
    assert told.startswith("vie, fra: Each of these clusters has the Services data/postgres. ")
    assert "clusterLocal: true}, hosts: [postgres.data.svc.cluster.local]" in told


def test_only_some_of_many_are_named(mesh: RunningMesh) -> None:
    for cluster in mesh.clusters.values():
        for number in range(9):
            cluster.put("Service", f"s{number}", namespace="shop", spec={})
    (told,) = warnings(look(mesh))
    assert "data/postgres, shop/s0, shop/s1, shop/s2, shop/s3, shop/s4 and 4 more. " in told


def test_services_that_both_keep_apart_are_not_told(mesh: RunningMesh) -> None:
    keep_apart(mesh, "vie")
    assert look(mesh)["merging"] != {}
    keep_apart(mesh, "fra")
    assert look(mesh)["merging"] == {}


def test_headless_services_stay_apart_by_themselves(mesh: RunningMesh) -> None:
    for name in NAMES:
        mesh[name].put("Service", "postgres", namespace="data", spec={"clusterIP": "None"})
    assert look(mesh)["merging"] == {}


def test_clusters_that_are_peers_are_told_nothing(mesh: RunningMesh) -> None:
    for name in NAMES:
        known = {"kubeconfig": str(mesh[name].api.kubeconfig), "name": name, "timeout": 20}
        result = mesh.run("remote_secrets", **{**known, "members": members(mesh), "probe": False})
        assert result["changed"], result
    result = look(mesh)
    assert (result["gaps"], result["merging"], result.get("warnings", [])) == ({}, {}, [])


def test_what_could_not_be_read_is_told(mesh: RunningMesh) -> None:
    mesh["fra"].api.failures["GET", "/api/v1/services"] = [status(403, "Forbidden", "no Services for you")]
    result = look(mesh)
    assert result["merging"] == {}
    (told,) = warnings(result)
    assert told.startswith("fra: Whether its Services become one with those of peers could not be told: ")
