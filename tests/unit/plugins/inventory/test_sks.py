"""Clusters listed by the module sks_cluster_info and by the inventory plugin, over the lab's API."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_runs import run_ansible
from kubeconfigs import run_module

BACKENDS = ["exo", "api"]
Listing = Callable[..., dict[str, Any]]


@pytest.fixture(params=BACKENDS)
def info(request: pytest.FixtureRequest, exoscale_api: Any, exo_path: Path) -> Listing:
    def call(**options: Any) -> dict[str, Any]:
        backend = {"backend": request.param, "exo_path": str(exo_path)}
        return run_module(
            "sks_cluster_info", environment=exoscale_api.environment(), **{**backend, **options}
        )

    return call


@pytest.fixture
def inventory(exoscale_api: Any, exo_path: Path, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs ansible-inventory on a configuration; gives its list and what it says on standard error."""

    def call(**configuration: Any) -> tuple[dict[str, Any], str]:
        # Two clusters of one name are an error by default.
        exoscale_api.write([cluster for cluster in exoscale_api.clusters if cluster.name != "twin"])
        file = tmp_path / "mesh.sks.yml"
        defaults = {"plugin": "exomesh.istio.sks", "exo_path": str(exo_path)}
        file.write_text(yaml.safe_dump({**defaults, **configuration}))
        finished = run_ansible(
            "ansible-inventory",
            *("-i", file, "--list"),
            environment={
                **exoscale_api.environment(),
                "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            },
        )
        return json.loads(finished.stdout or "{}", object_hook=_plain), finished.stderr

    return call


def _plain(value: dict[str, Any]) -> Any:
    """ansible-inventory marks what is no template as unsafe."""
    return value.get("__ansible_unsafe", value)


def test_info_of_all_zones(info: Listing, exoscale_api: Any) -> None:
    result = info()
    assert [found["name"] for found in result["clusters"]] == ["beta", "twin", "twin", "gamma", "alpha"]
    alpha = result["clusters"][-1]
    assert (alpha["zone"], alpha["version"], alpha["cni"]) == ("de-fra-1", "1.36.3", "calico")
    assert alpha["labels"] == {"mesh": "m1"}
    assert [pool["name"] for pool in alpha["nodepools"]] == ["default"]
    assert result["failed_zones"] == {}


def test_info_of_one_cluster(info: Listing) -> None:
    result = info(zones=["de-fra-1", "at-vie-2"], cluster="alpha")
    assert [found["name"] for found in result["clusters"]] == ["alpha"]


def test_info_with_a_failed_zone(info: Listing, exoscale_api: Any) -> None:
    exoscale_api.faults.set("403", zone="at-vie-2")
    result = info(zones=["de-fra-1", "at-vie-2"])
    assert [found["name"] for found in result["clusters"]] == ["alpha"]
    assert result["failed_zones"]["at-vie-2"]["code"] == "forbidden"
    assert "zone at-vie-2: " in str(result["warnings"])
    assert info(zones=["at-vie-2"])["failure"]["code"] == "forbidden", "no zone answered"


@pytest.mark.parametrize("backend", BACKENDS)
def test_hosts_are_clusters(inventory: Any, exoscale_api: Any, backend: str) -> None:
    listed, _errors = inventory(
        backend=backend,
        labels={"mesh": "m1"},
        keyed_groups=[
            {"prefix": "zone", "key": "sks_zone"},
            {"prefix": "kubernetes", "key": "sks_version"},
            {"prefix": "label", "key": "sks_labels"},
        ],
        groups={"vienna": "sks_zone.startswith('at-vie')"},
        compose={"mesh_network": "'net-' ~ sks_zone", "pools": "sks_nodepools | map(attribute='name')"},
        strict=True,
    )
    hosts = listed["_meta"]["hostvars"]
    assert set(hosts) == set(listed["mesh"]["hosts"]) == {"alpha", "beta"}
    alpha = hosts["alpha"]
    assert (alpha["sks_cluster"], alpha["sks_zone"]) == (exoscale_api.cluster("alpha").id, "de-fra-1")
    assert (alpha["mesh_network"], alpha["pools"]) == ("net-de-fra-1", ["default"])
    assert alpha["ansible_connection"] == "local"
    assert listed["zone_de_fra_1"]["hosts"] == ["alpha"]
    assert listed["vienna"]["hosts"] == ["beta"]
    assert (
        set(listed["label_mesh_m1"]["hosts"])
        == set(listed["kubernetes_1_36_3"]["hosts"])
        == {"alpha", "beta"}
    )


@pytest.mark.parametrize(
    ("configuration", "hosts"),
    [
        ({"zones": ["at-vie-2"]}, {"beta"}),
        ({"names": ["al*", "gamma"]}, {"alpha", "gamma"}),
        ({"labels": {"mesh": "*"}}, {"alpha", "beta"}),
        ({"labels": {"mesh": "m2"}}, set()),
        ({"states": ["creating"]}, set()),
        ({"hostname": "{{ sks_name }}.{{ sks_zone }}", "names": ["alpha"]}, {"alpha.de-fra-1"}),
    ],
)
def test_selection(inventory: Any, configuration: dict[str, Any], hosts: set[str]) -> None:
    listed, errors = inventory(**configuration)
    assert set(listed["_meta"]["hostvars"]) == hosts, errors


def test_a_prefix(inventory: Any) -> None:
    listed, _errors = inventory(prefix="exo_", group="clusters", names=["alpha"])
    alpha = listed["_meta"]["hostvars"]["alpha"]
    assert (alpha["exo_version"], alpha["sks_zone"]) == ("1.36.3", "de-fra-1")
    assert "sks_version" not in alpha
    assert listed["clusters"]["hosts"] == ["alpha"]


def test_clusters_of_one_name_are_an_error(inventory: Any, exoscale_api: Any) -> None:
    exoscale_api.clusters.append(
        dataclasses.replace(exoscale_api.cluster("alpha"), id="0f3c", zone="ch-gva-2")
    )
    _listed, errors = inventory()
    assert "would both be the host alpha" in errors
    listed, _errors = inventory(hostname="{{ sks_name }}-{{ sks_zone }}", names=["alpha"])
    assert set(listed["_meta"]["hostvars"]) == {"alpha-ch-gva-2", "alpha-de-fra-1"}


def test_a_failed_zone_is_an_error_or_a_warning(inventory: Any, exoscale_api: Any) -> None:
    exoscale_api.faults.set("403", zone="at-vie-2")
    _listed, errors = inventory()
    assert "zone at-vie-2: Exoscale refused the request (403)" in " ".join(errors.split())
    assert "on_failed_zone: warn" in " ".join(errors.split())
    listed, errors = inventory(on_failed_zone="warn")
    assert set(listed["_meta"]["hostvars"]) == {"alpha", "gamma"}
    assert "zone at-vie-2" in " ".join(errors.split())


def test_the_cache_holds_no_secret_and_saves_the_questions(
    inventory: Any, exoscale_api: Any, tmp_path: Path
) -> None:
    cache = {
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(tmp_path / "cache"),
    }
    credentials = {"api_key": exoscale_api.key, "api_secret": exoscale_api.secret}
    first, _errors = inventory(**cache, **credentials)
    asked = len(exoscale_api.requests())
    second, _errors = inventory(**cache, **credentials)
    assert second == first
    assert len(exoscale_api.requests()) == asked
    cached = [file.read_text() for file in (tmp_path / "cache").iterdir()]
    assert cached
    assert not [text for text in cached if exoscale_api.secret in text or exoscale_api.key in text]
    assert all(json.loads(text) for text in cached)


def test_half_an_answer_is_not_cached(inventory: Any, exoscale_api: Any, tmp_path: Path) -> None:
    cache = {
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(tmp_path / "cache"),
    }
    exoscale_api.faults.set("403", zone="at-vie-2")
    inventory(on_failed_zone="warn", **cache)
    exoscale_api.faults.clear()
    listed, _errors = inventory(on_failed_zone="warn", **cache)
    assert "beta" in listed["_meta"]["hostvars"]


def test_what_others_put_into_the_cache_runs_nothing(
    inventory: Any, exoscale_api: Any, tmp_path: Path
) -> None:
    folder, proof = tmp_path / "cache", tmp_path / "proof"
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(folder)}
    inventory(**cache)
    (file,) = folder.iterdir()
    command = f"{{{{ lookup('ansible.builtin.pipe', 'touch {proof}') }}}}"
    marked = {
        "__ansible_type": "_AnsibleTaggedStr",
        "value": command,
        "tags": [{"__ansible_type": "TrustedAsTemplate"}],
    }
    content = json.loads(json.loads(file.read_text())["__payload__"])

    def planted(value: Any) -> Any:
        if isinstance(value, dict) and "clusters" not in value and "name" in value and "zone" in value:
            return {**value, "description": marked}
        if isinstance(value, dict):
            return {name: planted(item) for name, item in value.items()}
        return [planted(item) for item in value] if isinstance(value, list) else value

    file.write_text(json.dumps({"__payload__": json.dumps(planted(content))}))
    assert "touch" in file.read_text()
    listed, errors = inventory(
        **cache, hostname="{{ sks_name }}", compose={"told": "sks_description"}, names=["alpha"]
    )
    assert listed["_meta"]["hostvars"]["alpha"]["sks_description"] == command, errors
    assert not proof.exists()
    assert folder.stat().st_mode & 0o777 == 0o700
    for path, mode in ((file, 0o666), (folder, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        _listed, errors = inventory(**cache)
        assert f"cache {path} is refused: others may write it, its mode is {mode:04o}" in " ".join(
            errors.split()
        )
        path.chmod(before)


def test_a_cluster_whose_name_is_a_path_is_no_host(inventory: Any, exoscale_api: Any) -> None:
    hostile = dataclasses.replace(exoscale_api.cluster("alpha"), name="../../\x1b[2Jetc")
    exoscale_api.write([hostile])
    listed, errors = inventory(backend="api")
    assert "is no name for one" in " ".join(errors.split())
    assert "\x1b[2J" not in errors
    assert not listed.get("_meta", {}).get("hostvars")


def test_other_files_are_not_ours(tmp_path: Path) -> None:
    from ansible_collections.exomesh.istio.plugins.inventory.sks import InventoryModule

    plugin = InventoryModule()
    for name, ours in (("mesh.sks.yml", True), ("sks.yaml", True), ("mesh.yml", False)):
        (tmp_path / name).write_text("plugin: exomesh.istio.sks\n")
        assert plugin.verify_file(str(tmp_path / name)) is ours


def test_the_inventory_for_awx(inventory: Callable[..., Any], exoscale_api: Any) -> None:
    """A cluster gets into the mesh by its label only."""
    shipped = Path(__file__).resolve().parents[4] / "inventories/awx/mesh.sks.yml"
    member = dataclasses.replace(exoscale_api.cluster("beta"), labels={"mesh": "mesh1"})
    exoscale_api.write([exoscale_api.cluster("alpha"), member])
    found, _ = inventory(**yaml.safe_load(shipped.read_text()))
    assert found["mesh"]["hosts"] == ["beta"]


def test_a_name_that_no_cluster_has_is_told(inventory: Any) -> None:
    listed, errors = inventory(names="alpha,gama,be*")
    assert set(listed["_meta"]["hostvars"]) == {"alpha", "beta"}
    told = " ".join(errors.split())
    assert "names has gama, but no SKS cluster of the zones has such a name" in told
    assert "The clusters are alpha, beta, gamma" in told
    assert "names has be*" not in told
