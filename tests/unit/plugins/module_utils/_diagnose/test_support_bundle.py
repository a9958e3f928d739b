# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of a mesh has none of the secrets planted in it, and the ordinary values around them."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import planted_secrets as planted
import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import members_of
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose import support_bundle as support
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
    result = mesh.run("support_bundle", directory=str(folder), mesh_id="mesh1", timeout=60, **options)
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


HOSTILE = (
    "..",
    "../../etc/x",
    "/etc/passwd",
    "a/b",
    "x\n\x1b[31my\x07",
    "\u202egnp",
    "-rf",
    ".hidden",
    "",
    "a" * 5000,
    "a\\b",
)


def test_names_of_a_cluster_are_no_paths(mesh: RunningMesh, tmp_path: Path) -> None:
    pods = mesh["vie"]
    for number, name in enumerate(HOSTILE):
        pods.put("Pod", f"p{number}", {"istio": "ingress"}, spec={"containers": []})
        pod = pods.api.objects[f"/api/v1/namespaces/istio-system/pods/p{number}"]
        pod["metadata"]["name"] = pod["metadata"]["namespace"] = name
        pod["status"]["containerStatuses"] = [{"name": name, "restartCount": 1}]
    result, _files = bundle(mesh, tmp_path / "out")
    with tarfile.open(result["path"]) as archive:
        names = archive.getnames()
        assert all(member.isreg() and member.mode == 0o600 for member in archive.getmembers())
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert len(names) == len(set(names))
    for name in names:
        assert name.isascii()
        assert name.isprintable()
        assert len(name) < 500
        assert all(part and part[0] not in ".-" and len(part) <= 120 for part in name.split("/")), name
    # Kubernetes has no such names: what gives them is told, and not followed.
    assert "no object of Kubernetes" in str(result["problems"]["vie"])


def test_whatever_is_added_has_a_plain_name() -> None:
    made = support.Bundle()
    for name in HOSTILE:
        made.add(f"clusters/{name}/x.json", {})
    assert len(made.files) == len(HOSTILE)
    assert not [path for path in made.files if ".." in path or path.startswith("/") or not path.isprintable()]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a sixteenth of their size, so that this takes no minutes."""
    monkeypatch.setattr(support, "MAX_FILE", support.MAX_FILE // 16)
    monkeypatch.setattr(support, "MAX_TEXT", support.MAX_TEXT // 16)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.log", "a line of words\n" * 2_000_000),
        ("a.log", "x" * 30_000_000),
        (
            "a.json",
            [{"metadata": {"name": "x"}, "data": {"y": "z" * 30_000_000}}, {"metadata": {"name": "other"}}],
        ),
        ("a.json", [{"metadata": {"name": f"x{number}"}, "spec": ["ab"] * 50} for number in range(50_000)]),
        ("a.json", {f"key{number}": "value" for number in range(500_000)}),
        ("a.json", {"list": ["é" * 30] * 400_000}),
    ],
    ids=["lines", "one line", "one text", "many objects", "many keys", "a long list"],
)
def test_what_is_too_large_is_left_out_and_said(small: None, path: str, content: Any) -> None:
    made = support.Bundle()
    begun = time.process_time()
    made.add(path, content)
    assert time.process_time() - begun < 20
    text = made.files[path]
    assert len(text.encode()) < 1.1 * support.MAX_FILE
    assert "characters" in text or "more]" in text or " more" in text
    if path == "a.json" and isinstance(content, list) and len(content) == 2:
        assert json.loads(text)[1] == content[1]


def test_the_newest_lines_of_a_log_are_kept(small: None) -> None:
    made = support.Bundle()
    made.add("a.log", "".join(f"line {number}\n" for number in range(100_000)))
    lines = made.files["a.log"].splitlines()
    assert lines[-1] == "line 99999"
    assert lines[0].endswith("more characters were here]")
    assert lines[1].startswith("line ")


def test_a_cluster_has_no_more_than_its_share(
    mesh: RunningMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh["vie"].api.pod_log = "a line of words\n" * 1000
    monkeypatch.setattr(support, "MAX_CLUSTER", 20_000)
    made = support.collect(request(mesh))
    size = sum(len(text) for path, text in made.files.items() if path.startswith("clusters/vie/"))
    assert 0 < size <= 20_000
    assert any("left out, as more than 20000 bytes came before it" in told for told in made.problems["vie"])


@pytest.mark.parametrize("secret", ["JEjxMNfxOLuJJcsinzKopgdv", "fq7RzLw0aVbXk3eTn9Yd", "0b5e1c9ad77f40d2a1"])
def test_a_secret_that_is_known_from_an_object_is_found_in_a_log(mesh: RunningMesh, secret: str) -> None:
    mesh["vie"].put("ConfigMap", "has-a-secret", data={"api-key": secret})
    mesh["vie"].api.pod_log = f"somebody sent {secret} as it is\n"
    made = support.collect(request(mesh))
    everything = "".join(made.files.values())
    assert secret not in everything
    assert "somebody sent [REDACTED secret found elsewhere] as it is" in everything


def request(mesh: RunningMesh) -> support.Request:
    nothing = dict.fromkeys(("server", "zone", "host", "inventory"))
    members = members_of({"members": [{**nothing, **member} for member in mesh.members]})
    return support.Request(members, "mesh1", datetime.now(UTC), {}, 10, False)
