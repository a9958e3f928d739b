"""A mesh that clusters enter and leave while requests go on; one dies."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .copies import up_mesh
from .runs import (
    RunningLab,
    Traffic,
    all_ok,
    call,
    changes,
    end_playbook,
    run_playbook,
    said,
    succeed,
    verdicts,
)

BEFORE = ("cluster1", "cluster2", "cluster3")
AFTER = ("cluster1", "cluster3", "cluster4")
CALLS = (("cluster1", "cluster3"), ("cluster3", "cluster1"))

_WRITE = r'verb="(POST|PUT|PATCH|APPLY|DELETE)"'
_SIGN_OF_LIFE = r'resource="(leases|events|nodes|endpointslices|tokenreviews|pods)"'


def with_members(lab: RunningLab, folder: Path, names: tuple[str, ...]) -> RunningLab:
    """The lab with an inventory of these members."""
    folder.mkdir(exist_ok=True)
    hosts = yaml.safe_load((lab.inventory / "hosts.yml").read_text())
    mesh = hosts["all"]["children"]["mesh"]
    mesh["hosts"] = {name: mesh["hosts"][name] for name in names}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    shutil.copytree(lab.inventory / "group_vars", folder / "group_vars", dirs_exist_ok=True)
    return RunningLab(lab.name, folder)


def writes(lab: RunningLab, cluster: str) -> int:
    """Writes that the API server has seen, but for those by which nodes and leaders say that they live."""
    total = 0
    for line in lab.kubectl(cluster, "get", "--raw", "/metrics").splitlines():
        counts = line.startswith("apiserver_request_total") and re.search(_WRITE, line)
        if counts and not re.search(_SIGN_OF_LIFE, line):
            total += int(float(line.rpartition(" ")[2]))
    return total


def pairs(result: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], str]:
    return verdicts(succeed(result).stdout)


@pytest.fixture(scope="module")
def mesh(lab: RunningLab, tmp_path_factory: pytest.TempPathFactory) -> RunningLab:
    """A mesh of three, in a lab of four, with services that call each other across clusters."""
    up_mesh(lab, len(BEFORE))
    lab.up(len(BEFORE) + 1)
    three = with_members(lab, tmp_path_factory.mktemp("three") / "inventory", BEFORE)
    for client, server in CALLS:
        where = {
            "demo_namespace": f"from-{client}",
            "demo_client_cluster": client,
            "demo_server_cluster": server,
        }
        succeed(run_playbook(three, "playbooks/demo.yml", "-e", json.dumps(where)))
    return lab


@pytest.fixture(scope="module")
def recovered(mesh: RunningLab, tmp_path_factory: pytest.TempPathFactory) -> RunningLab:
    """The lab with inventory and state that were lost, and written anew from the record of one cluster."""
    folder = tmp_path_factory.mktemp("recovered") / "inventory"
    settings = yaml.safe_load((mesh.inventory / "group_vars" / "mesh.yml").read_text())
    del settings["mesh_state_dir"]
    (folder / "group_vars").mkdir(parents=True)
    (folder / "group_vars" / "mesh.yml").write_text(yaml.safe_dump(settings))
    found = RunningLab(mesh.name, folder)
    given = {
        "recover_kubeconfig": str(mesh.path / "mesh" / "cluster2" / "kubeconfig"),
        "recover_inventory": str(folder / "hosts.yml"),
        **{name: value for name, value in settings.items() if name.startswith("kubeconfig_")},
    }
    begun = time.monotonic()
    (folder.parent / "given.json").write_text(json.dumps(given))
    words = ("playbooks/recover_state.yml", "-e", f"@{folder.parent / 'given.json'}")
    planned = succeed(run_playbook(found, words[0], *words[1:], "--check"))
    assert not (folder / "hosts.yml").exists()
    assert not (folder / ".exomesh").exists(), said(planned)
    told = said(succeed(run_playbook(found, *words)))
    print(f"\nRecovering inventory and state, with a plan before: {time.monotonic() - begun:.0f} s")
    assert "root-key.pem" in told
    again = run_playbook(found, *words)
    assert again.returncode != 0
    assert "is there already, and is not overwritten" in said(again)
    return found


@pytest.fixture(scope="module")
def traffic(mesh: RunningLab) -> Iterator[list[Traffic]]:
    """Requests that go on while clusters come and go."""
    running = [Traffic(mesh, client, f"from-{client}") for client, _server in CALLS]
    yield running
    for one in running:
        one.stop()


def test_an_inventory_and_a_state_that_were_lost_are_those_of_the_mesh(
    mesh: RunningLab, recovered: RunningLab
) -> None:
    hosts = yaml.safe_load((mesh.inventory / "hosts.yml").read_text())["all"]["children"]["mesh"]["hosts"]
    written = yaml.safe_load((recovered.inventory / "hosts.yml").read_text())["mesh"]
    assert written["hosts"] == {name: hosts[name] for name in BEFORE}
    assert changes(succeed(run_playbook(recovered, "site.yml", "--check")).stdout) == {
        "localhost": 0,
        **dict.fromkeys(BEFORE, 0),
    }
    # The root's key is what its user has kept.
    key = mesh.path / "mesh" / "ca" / "root-key.pem"
    shutil.copy(key, recovered.inventory / ".exomesh" / "ca" / "root-key.pem")
    written["hosts"]["cluster4"] = hosts["cluster4"]
    (recovered.inventory / "hosts.yml").write_text(yaml.safe_dump({"mesh": written}))


def test_one_cluster_comes_and_one_goes_without_a_failed_request(
    mesh: RunningLab, recovered: RunningLab, traffic: list[Traffic], tmp_path: Path
) -> None:
    others = [name for name in BEFORE if name != "cluster2"]
    held = {name: mesh.objects(name) for name in BEFORE}
    count = {name: writes(mesh, name) for name in BEFORE}
    begun = time.monotonic()
    added = run_playbook(recovered, "playbooks/add_cluster.yml", "-e", "cluster=cluster4")
    print(f"\nAdding a fourth cluster: {time.monotonic() - begun:.0f} s")
    new = {pair for pair in itertools.permutations((*BEFORE, "cluster4"), 2) if "cluster4" in pair}
    found = pairs(added)
    assert {pair for pair, verdict in found.items() if verdict == "ok"} == new
    done = changes(added.stdout)
    assert {name: done[name] for name in BEFORE} == dict.fromkeys(BEFORE, 0)
    for name in BEFORE:
        made = mesh.objects(name) - held[name]
        number = writes(mesh, name) - count[name]
        print(f"{name}: {number} writes, made {', '.join(sorted(made)) or 'nothing'}")
        assert "Secret istio-system/istio-remote-secret-cluster4" in made
        assert all("cluster4" in obj or "exomesh-reader" in obj for obj in made), made

    refused = run_playbook(mesh, "playbooks/remove_cluster.yml", "-e", "cluster=cluster2")
    assert refused.returncode != 0
    assert "exodemo/exo-webtest" in said(refused)
    assert "remove_lost_services" in said(refused)

    leaving = ("-e", "cluster=cluster2", "-e", "remove_lost_services=true", "-e", "remove_uninstall=true")
    begun = time.monotonic()
    removed = run_playbook(mesh, "playbooks/remove_cluster.yml", *leaving)
    print(f"Removing the second, with uninstallation: {time.monotonic() - begun:.0f} s")
    assert pairs(removed) == all_ok(AFTER)
    for name in AFTER:
        left = [obj for obj in mesh.objects(name) if re.search(r"(secret|reader)-cluster2\b", obj)]
        assert not left
    assert not [obj for obj in mesh.objects("cluster2") if "istio" in obj]

    codes = [code for one in traffic for code in one.codes(at_least=300)]
    failed = [code for code in codes if code != "200"]
    print(f"requests between {', '.join(others)} meanwhile: {len(codes)}, failed: {len(failed)}")
    assert not failed, sorted(set(failed))


def test_adding_a_member_changes_nothing(mesh: RunningLab, tmp_path: Path) -> None:
    inventory = with_members(mesh, tmp_path / "inventory", AFTER)
    result = succeed(run_playbook(inventory, "playbooks/add_cluster.yml", "-e", "cluster=cluster4"))
    assert set(changes(result.stdout).values()) == {0}
    for given, told in (
        (("-e", "cluster=clutser4"), "clutser4 is not in the inventory group mesh"),
        ((), "-e cluster=NAME"),
    ):
        refused = run_playbook(inventory, "playbooks/add_cluster.yml", *given)
        assert refused.returncode != 0
        assert told in said(refused)


def test_a_cluster_that_is_dead_and_out_of_the_inventory_leaves(mesh: RunningLab, tmp_path: Path) -> None:
    """Its name in the mesh is all that is left of it; a run that is killed is finished by the next."""
    members = tuple(name for name in AFTER if name != "cluster3")
    inventory = with_members(mesh, tmp_path / "inventory", members)
    supervisor = Path(sys.executable).parent / "supervisorctl"
    node = ("--configuration", mesh.path / "supervisord.conf", "stop", "node-cluster3")
    assert call(supervisor, *node).returncode == 0
    nameless = run_playbook(inventory, "playbooks/remove_cluster.yml")
    assert nameless.returncode != 0
    assert "-e cluster=NAME" in said(nameless)
    misspelt = run_playbook(inventory, "playbooks/remove_cluster.yml", "-e", "cluster=clutser1")
    assert misspelt.returncode != 0
    assert "did you mean cluster1" in said(misspelt)
    leaving = ("-e", "cluster=cluster3", "-e", "remove_lost_services=true")

    def is_cut() -> bool:
        there = mesh.kubectl("cluster1", "get", "secrets", "-n", "istio-system")
        return "istio-remote-secret-cluster3" not in there

    end_playbook(signal.SIGKILL, is_cut, inventory, "playbooks/remove_cluster.yml", *leaving)
    removed = run_playbook(inventory, "playbooks/remove_cluster.yml", *leaving)
    assert pairs(removed) == all_ok(members)
    assert "cannot be spoken to" in said(removed)
    for name in members:
        assert not [obj for obj in mesh.objects(name) if re.search(r"cluster3\b", obj) and "from-" not in obj]
