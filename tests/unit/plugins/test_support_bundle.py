# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of a mesh has none of the secrets that were planted in it, and the ordinary values around them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import planted_secrets as planted
import pytest
from kubernetes_api import RESOURCES, Object
from running_mesh import GATEWAY, PLURALS, RunningMesh

KINDS = {
    "VirtualService": ("networking.istio.io/v1", "virtualservices"),
    "EnvoyFilter": ("networking.istio.io/v1alpha3", "envoyfilters"),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", "httproutes"),
    "WasmPlugin": ("extensions.istio.io/v1alpha1", "wasmplugins"),
    "AuthorizationPolicy": ("security.istio.io/v1", "authorizationpolicies"),
    "RequestAuthentication": ("security.istio.io/v1", "requestauthentications"),
}


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningMesh]:
    for kind, (group, plural) in KINDS.items():
        monkeypatch.setitem(PLURALS, kind, f"/apis/{group}/namespaces/{{}}/{plural}")
        known = [entry for entry in RESOURCES.get(f"/apis/{group}", []) if entry[0] != kind]
        monkeypatch.setitem(RESOURCES, f"/apis/{group}", [*known, (kind, plural, True)])
    monkeypatch.setattr(
        "kubernetes_api.PLURALS", {entry[1] for found in RESOURCES.values() for entry in found}
    )
    mesh = RunningMesh(tmp_path)
    yield mesh
    mesh.close()


def bundle(mesh: RunningMesh, folder: Path, **options: Object) -> tuple[Object, dict[str, str]]:
    """The module's result, and the files of its archive."""
    result = mesh.run("support_bundle", directory=str(folder), mesh_id="mesh1", timeout=1, **options)
    with tarfile.open(result["path"]) as archive:
        files = {
            name: stream.read().decode()
            for name in archive.getnames()
            if (stream := archive.extractfile(name))
        }
    return result, files


def plant(mesh: RunningMesh) -> planted.Planted:
    new = planted.Planted()
    cluster = mesh["vie"]
    for kind, name, rest in planted.objects(new):
        annotations = rest.pop("annotations", None)
        stored = cluster.put(kind, name, **rest)
        if annotations:
            stored["metadata"]["annotations"] = annotations
    cluster.api.pod_log = planted.log(new)
    cluster.api.listen(GATEWAY, 15000, {"/config_dump?include_eds": planted.config_dump(new)})
    return new


def test_no_planted_secret_is_in_the_archive_and_what_is_ordinary_stays(
    mesh: RunningMesh, tmp_path: Path
) -> None:
    new = plant(mesh)
    assert len(new.secrets) == len(set(new.secrets.values())) >= 60
    result, files = bundle(mesh, tmp_path / "out")
    everything = "\n".join([*files, *files.values(), str(result)])
    leaked = new.leaked(everything)
    missed = [ordinary for ordinary in planted.ORDINARY if not found(ordinary, everything)]
    assert not leaked, f"{len(leaked)} of {len(new.secrets)} planted secrets leaked: {leaked}"
    assert not missed, f"{len(missed)} of {len(planted.ORDINARY)} ordinary values are gone: {missed}"


def found(ordinary: str, everything: str) -> bool:
    return ordinary in everything or ordinary.replace('"', '\\"') in everything
