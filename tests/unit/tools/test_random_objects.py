# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random objects of users are valid by Istio's schemas, and no judge ends in a Python error because of them.

`recorded/istio_schemas.json` is of the CustomResourceDefinitions of Istio 1.31. `make soak` applies such
objects to a real mesh.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from random_objects import NAMESPACES, Generator, Object, schemas_of

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
sys.path.insert(0, str(PLUGINS))

import kubernetes_api  # noqa: E402
from running_mesh import RunningMesh  # noqa: E402

SCHEMAS: dict[str, Object] = json.loads((PLUGINS / "recorded/istio_schemas.json").read_text(encoding="utf-8"))
COUNT = 400


def plural_of(kind: str) -> str:
    return f"{kind.lower().removesuffix('y')}ies" if kind.endswith("y") else f"{kind.lower()}s"


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningMesh]:
    """A mesh whose APIs have all kinds of Istio."""
    plurals = set(kubernetes_api.PLURALS)
    for what in SCHEMAS:
        api_version, _slash, kind = what.rpartition("/")
        path = f"/apis/{api_version}"
        known = kubernetes_api.RESOURCES.get(path, [])
        if kind not in {entry[0] for entry in known}:
            monkeypatch.setitem(kubernetes_api.RESOURCES, path, [*known, (kind, plural_of(kind), True)])
        plurals.add(plural_of(kind))
    monkeypatch.setattr(kubernetes_api, "PLURALS", plurals)
    mesh = RunningMesh(tmp_path)
    yield mesh
    mesh.close()


def test_objects_are_valid_by_their_schema_and_the_same_for_the_same_seed() -> None:
    made = [Generator(SCHEMAS, 1).object(0) for _ in range(2)]
    assert made[0] == made[1]
    generator = Generator(SCHEMAS, 2)
    for number in range(COUNT):
        obj = generator.object(number)
        jsonschema.Draft7Validator(SCHEMAS[f"{obj['apiVersion']}/{obj['kind']}"]).validate(obj["spec"])


def test_schemas_are_those_of_definitions() -> None:
    spec = {"type": "object", "description": "words", "properties": {"description": {"type": "string"}}}
    versions = [
        {"name": name, "served": True, "schema": {"openAPIV3Schema": {"properties": {"spec": spec}}}}
        for name in ("v1alpha3", "v1")
    ]
    names = {"kind": "Thing"}
    definitions = [
        {"spec": {"group": group, "names": names, "versions": versions}} for group in ("a.io", "b.io")
    ]
    schema = {"type": "object", "properties": {"description": {"type": "string"}}}
    assert schemas_of(definitions, ("a.io",)) == {"a.io/v1/Thing": schema}


@pytest.mark.parametrize("seed", range(3))
def test_status_judges_whatever_users_have(mesh: RunningMesh, seed: int) -> None:
    """All at once, as nobody has them; that nothing crashes is what counts."""
    generator = Generator(SCHEMAS, seed)
    for number in range(COUNT):
        obj = generator.object(number)
        place = f"{obj['metadata']['namespace']}/{plural_of(obj['kind'])}/{obj['metadata']['name']}"
        mesh["vie"].api.put(f"/apis/{obj['apiVersion']}/namespaces/{place}", obj)
    result = mesh.run("mesh_verify", read_only=True)
    assert not result.get("failed"), result
    assert result["state"] in ("healthy", "unhealthy", "unknown")
    # Nothing is left out because it could not be read.
    assert "not-told" not in {finding["code"] for finding in result["findings"]}


def test_namespaces_are_those_of_the_demo_and_of_istio() -> None:
    generator = Generator(SCHEMAS, 5)
    assert {generator.object(n)["metadata"]["namespace"] for n in range(50)} == set(NAMESPACES)
