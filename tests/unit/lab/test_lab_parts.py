"""What the lab computes beforehand: addresses, control groups, images, supervisor files."""

from __future__ import annotations

import configparser
import itertools
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from exolab import build, cgroups, cloud_state, images, layout, limits, pki, supervision
from exolab.errors import LabError
from kubernetes import config


def test_no_two_clusters_of_any_lab_share_an_address() -> None:
    labs = [layout.Lab(f"lab{number}", number) for number in range(layout.MAX_LABS)]
    clusters = [lab.cluster(number) for lab in labs for number in range(1, layout.MAX_CLUSTERS + 1)]
    networks = [cluster.network for cluster in clusters]
    assert len(set(networks)) == len(networks)
    for cluster in clusters:
        assert cluster.network.subnet_of(cluster.lab.network)
        assert cluster.address not in cluster.load_balancers
        assert cluster.lab.host_address not in cluster.network
    assert not any(a.overlaps(b) for a, b in itertools.combinations([lab.network for lab in labs], 2))


def test_zones_are_the_tutorials_two_and_then_the_others_round_and_round() -> None:
    lab = layout.Lab("lab", 0)
    zones = [lab.cluster(number).zone for number in range(1, 11)]
    assert zones[:2] == ["de-fra-1", "at-vie-2"]
    assert set(zones[:8]) == set(cloud_state.ZONES)
    assert zones[8:] == zones[:2]


def test_a_socket_of_the_longest_name_fits_into_its_address() -> None:
    lab = layout.Lab("a" * 24, 0)
    assert layout.valid_name(lab.name)
    assert len(str(lab.cluster(layout.MAX_CLUSTERS).containerd_socket)) < 108


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a-", "a" * 25, "../a"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        layout.valid_name(name)


def test_versions_come_from_the_go_modules() -> None:
    assert build.kubernetes_version().startswith("1.36.")
    assert build.istio_version().startswith("1.31.")
    with pytest.raises(LabError, match="does not require"):
        build.module_version("etcd", "example.org/other")


def test_groups_of_cgroup_v2_pass_their_controllers_down_but_hold_processes_only_in_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path])
    cgroups.check()
    cgroups.create("lab/cluster1/daemons")
    for parent in ("", "lab", "lab/cluster1"):
        assert (tmp_path / parent / "cgroup.subtree_control").read_text() == "+cpu +cpuset +memory +pids"
    assert not (tmp_path / "lab/cluster1/daemons/cgroup.subtree_control").exists()


def test_a_cpuset_of_cgroup_v1_is_filled_from_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path])
    (tmp_path / "lab").mkdir()
    for name, parent in (("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")):
        (tmp_path / name).write_text(parent)
        (tmp_path / "lab" / name).write_text("\n")
    cgroups.create("lab")
    assert (tmp_path / "lab" / "cpuset.cpus").read_text() == "0-1\n"
    assert (tmp_path / "lab" / "cpuset.mems").read_text() == "0\n"


def test_missing_controllers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("io memory")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    with pytest.raises(LabError, match="cpu, cpuset, pids"):
        cgroups.check()


def test_a_limit_that_is_too_low_is_raised_while_there_is_a_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, home = tmp_path / "max_user_instances", tmp_path / "home"
    setting.write_text("128\n")
    monkeypatch.setattr(limits, "MACHINES", tmp_path / "machines")
    limits.raise_limit(setting, home)
    limits.raise_limit(setting, home)
    assert setting.read_text() == str(limits.NEEDED)
    monkeypatch.setattr(limits.Record, "all", lambda: ["another lab"])
    limits.restore_limit(setting, home)
    assert setting.read_text() == str(limits.NEEDED)
    monkeypatch.setattr(limits.Record, "all", list)
    limits.MACHINES.mkdir()
    limits.restore_limit(setting, home)
    assert setting.read_text() == str(limits.NEEDED)
    limits.MACHINES.rmdir()
    limits.restore_limit(setting, home)
    assert setting.read_text().strip() == "128"
    assert not list(home.iterdir())


def test_the_image_archive_has_every_name_and_each_layer_once(tmp_path: Path) -> None:
    parts = {}
    for product, files in {
        "rootfs": ["rootfs.tar"],
        "istio": ["pilot-discovery", "pilot-agent"],
        "envoy": ["envoy"],
        "webtest": ["exo-webtest"],
    }.items():
        parts[product] = tmp_path / product
        parts[product].mkdir()
        for file in files:
            (parts[product] / file).write_bytes(file.encode())
    bootstrap = tmp_path / "bootstrap.json"
    bootstrap.write_text("{}")
    archives = [tmp_path / "one.tar", tmp_path / "two.tar"]
    for target in archives:
        images.write_archive(target, parts, bootstrap, "1.31.1")
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as archive:
        names = archive.getnames()
        assert len(set(names)) == len(names)
        manifest = archive.extractfile("manifest.json")
        assert manifest
        entries = json.load(manifest)
    tags = {tag for entry in entries for tag in entry["RepoTags"]}
    assert {"docker.io/istio/pilot:1.31.1", "docker.io/istio/proxyv2:1.31.1", images.PAUSE} <= tags
    assert {f"{images.WEBTEST}:v{number}" for number in (1, 2, 3)} <= tags
    assert {layer for entry in entries for layer in entry["Layers"]} <= set(names)


def test_a_supervisor_reads_back_what_was_written_for_it(tmp_path: Path) -> None:
    program = supervision.Program("daemon", ["/bin/daemon", "--format=%d"], {"A": "50%"}, stop_signal="KILL")
    supervision.write_config(tmp_path / "supervisord.conf", tmp_path / "sock", tmp_path, [program])
    parser = configparser.RawConfigParser()
    parser.read(tmp_path / "supervisord.conf")
    section = parser["program:daemon"]
    assert section["command"] == "/bin/daemon --format=%%d"
    assert section["environment"] == 'A="50%%"'
    assert (section["autorestart"], section["stopsignal"]) == ("true", "KILL")


def test_a_group_that_goes_away_while_we_look_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path])
    (tmp_path / "lab" / "pod").mkdir(parents=True)
    (tmp_path / "lab" / "cgroup.procs").write_text("7\n")
    real = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "pod":
            raise FileNotFoundError(path)
        return real(path)

    with monkeypatch.context() as patched:  # pytest itself looks into folders before it undoes a patch
        patched.setattr(os, "scandir", scandir)
        assert cgroups.processes("lab") == {7}


def test_the_cloud_controllers_library_makes_no_file_of_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(layout, "HOME", tmp_path / "home")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    cluster = layout.Lab("lab", 0).cluster(1)
    pki.prepare(cluster)
    config.new_client_from_config(str(cluster.etc / "cloud-controller-manager.kubeconfig"))
    assert not list(temporary.iterdir())
