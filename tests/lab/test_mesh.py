"""The collection on three real clusters: what its users do with it, from the first run to repairs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from . import documents
from .copies import up_mesh
from .runs import (
    ANSIBLE_PLAYBOOK,
    PROJECT,
    RunningLab,
    all_ok,
    call,
    changes,
    run_playbook,
    silent,
    verdicts,
)

MEMBERS = ("cluster1", "cluster2", "cluster3")


@pytest.fixture(scope="module")
def mesh(mesh_of_three: RunningLab) -> RunningLab:
    return mesh_of_three


def curl(lab: RunningLab, *options: str) -> str:
    """Ask for the demo's page in cluster1, whose server is in cluster2."""
    url = "http://exo-webtest:3000/"
    words = (
        "exec",
        "-n",
        "exodemo",
        "deploy/curl",
        "-c",
        "curl",
        "--",
        "curl",
        "--silent",
        "--max-time",
        "3",
        *options,
    )
    return lab.kubectl("cluster1", *words, url, check=False)


def test_the_page_comes_from_the_other_cluster(mesh: RunningLab) -> None:
    pod = mesh.kubectl("cluster2", "get", "pods", "-n", "exodemo", "-l", "app=exo-webtest", "-o=name").strip()
    assert f"HOSTNAME: {pod.removeprefix('pod/')}" in curl(mesh)


def test_a_second_run_changes_nothing(mesh: RunningLab) -> None:
    result = run_playbook(mesh, "site.yml", "--diff")
    assert result.returncode == 0, result.stdout[-5000:]
    assert changes(result.stdout) == dict.fromkeys([*MEMBERS, "localhost"], 0)


def test_check_mode_on_a_finished_mesh_predicts_nothing(mesh: RunningLab) -> None:
    result = run_playbook(mesh, "site.yml", "--check", "--diff")
    assert result.returncode == 0, result.stdout[-5000:]
    assert changes(result.stdout) == dict.fromkeys([*MEMBERS, "localhost"], 0)


def started(lab: RunningLab, *arguments: str) -> subprocess.Popen[str]:
    """A run that goes on while others are tried, once it has the mesh."""
    words = (ANSIBLE_PLAYBOOK, "-i", lab.inventory, *arguments)
    running = subprocess.Popen(
        words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while any(f"/{running.pid}/" not in holder(lab, name) for name in MEMBERS):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.1)
    return running


def holder(lab: RunningLab, cluster: str) -> str:
    """Who has a cluster; nobody when empty."""
    words = ("get", "lease", "-n", "kube-system", "exomesh-run", "--ignore-not-found")
    return lab.kubectl(cluster, *words, "-o=jsonpath={.spec.holderIdentity}")


def test_of_two_runs_one_has_the_mesh_and_the_other_says_who_has_it(mesh: RunningLab) -> None:
    first = started(mesh, "site.yml")
    first.send_signal(signal.SIGSTOP)  # it takes as long as this test needs it to
    told = f"(playbook site, process {first.pid}) has been changing this cluster since"
    for words in (("site.yml",), ("playbooks/peering.yml", "--limit", "cluster3")):
        second = run_playbook(mesh, *words, "-e", "mesh_lock_timeout=0")
        assert second.returncode != 0
        assert told in " ".join(second.stdout.split()), second.stdout[-3000:]
        assert set(changes(second.stdout).values()) <= {0}
    with ThreadPoolExecutor() as others:
        patient = others.submit(run_playbook, mesh, "playbooks/verify.yml", "-e", "mesh_lock_timeout=300")
        first.send_signal(signal.SIGCONT)
        output = first.communicate()[0]
    assert first.returncode == 0, output[-5000:]
    waited = patient.result()
    assert waited.returncode == 0, waited.stdout[-5000:]
    assert [holder(mesh, name) for name in MEMBERS] == [""] * len(MEMBERS)


def test_a_killed_run_keeps_nobody_waiting_and_a_foreign_one_is_broken_by_hand(mesh: RunningLab) -> None:
    running = started(mesh, "playbooks/verify.yml")
    running.kill()
    running.communicate()
    begun = time.monotonic()
    result = run_playbook(mesh, "playbooks/peering.yml", "-e", "mesh_lock_timeout=0")
    assert result.returncode == 0, result.stdout[-5000:]
    assert time.monotonic() - begun < 60

    def held_elsewhere(seconds_ago: int) -> None:
        renewed = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - seconds_ago))
        spec = {"holderIdentity": "anna@elsewhere/7/x", "leaseDurationSeconds": 30, "renewTime": renewed}
        metadata = {"name": "exomesh-run", "namespace": "kube-system"}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        mesh.kubectl("cluster2", "apply", "-f", "-", stdin=json.dumps(lease))

    held_elsewhere(31)
    assert run_playbook(mesh, "playbooks/peering.yml", "-e", "mesh_lock_timeout=0").returncode == 0
    held_elsewhere(0)
    refused = run_playbook(mesh, "playbooks/peering.yml", "-e", "mesh_lock_timeout=0")
    assert refused.returncode != 0
    assert "cluster cluster2: anna@elsewhere/7/x has been changing" in " ".join(refused.stdout.split())
    assert run_playbook(mesh, "playbooks/peering.yml", "--check").returncode == 0
    held_elsewhere(0)
    broken = run_playbook(mesh, "playbooks/peering.yml", "-e", "mesh_break_lock=true")
    assert broken.returncode == 0, broken.stdout[-5000:]
    assert holder(mesh, "cluster2") == ""


def test_one_cluster_alone_can_be_run(mesh: RunningLab) -> None:
    result = run_playbook(mesh, "site.yml", "--limit", "cluster3")
    assert result.returncode == 0, result.stdout[-5000:]
    assert changes(result.stdout) == {"cluster3": 0}


def inventory_of(lab: RunningLab, folder: Path, change: Callable[[dict[str, Any]], None]) -> RunningLab:
    """The lab with another inventory, whose group of the mesh and its variables were changed."""
    shutil.copytree(lab.inventory, folder)
    hosts = yaml.safe_load((folder / "hosts.yml").read_text())
    change(hosts["all"]["children"])
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return RunningLab(lab.name, folder)


def test_a_cluster_is_not_taken_for_another_and_nobody_leaves_by_being_absent(
    mesh: RunningLab, tmp_path: Path
) -> None:
    """What is refused is refused before the first change, and says what to do."""
    before = {name: mesh.objects(name) for name in MEMBERS}
    state = mesh.path / "mesh"

    def mixed_up(groups: dict[str, Any]) -> None:
        groups["mesh"]["hosts"]["cluster3"]["mesh_kubeconfig"] = str(state / "cluster1" / "kubeconfig")

    def doubled(groups: dict[str, Any]) -> None:
        file = {"kubeconfig_source": "file", "kubeconfig_file": str(state / "cluster1" / "kubeconfig")}
        groups["mesh"]["hosts"]["cluster4"] = file

    def empty_state(groups: dict[str, Any]) -> None:
        groups["mesh"]["vars"] = {"mesh_state_dir": str(tmp_path / "new workspace")}

    alone = ("--limit", "cluster3")
    leaving = ("-e", "cluster=cluster3", "-e", "remove_lost_services=true")
    for name, change, words, told in (
        (
            "survivor",
            mixed_up,
            ("playbooks/remove_cluster.yml", *leaving),
            "is that of cluster cluster1 of mesh",
        ),
        ("doubled", doubled, ("site.yml",), "is that of cluster cluster1 of mesh mesh1"),
        ("workspace", empty_state, ("site.yml", *alone), "There is no root CA"),
    ):
        other = inventory_of(mesh, tmp_path / name, change)
        if name == "workspace":  # a group_vars beside the inventory would win over the inventory's own
            settings = yaml.safe_load((other.inventory / "group_vars" / "mesh.yml").read_text())
            del settings["mesh_state_dir"]
            (other.inventory / "group_vars" / "mesh.yml").write_text(yaml.safe_dump(settings))
        refused = run_playbook(other, *words)
        assert refused.returncode != 0, name
        assert told in " ".join(refused.stdout.split()), refused.stdout[-3000:]
    for name in MEMBERS:
        assert mesh.objects(name) == before[name]

    def without_cluster3(groups: dict[str, Any]) -> None:
        groups["shops"] = groups.pop("mesh")
        del groups["shops"]["hosts"]["cluster3"]
        groups["shops"]["vars"] = {"mesh_group": "shops"}

    shops = inventory_of(mesh, tmp_path / "shops", without_cluster3)
    (shops.inventory / "group_vars" / "mesh.yml").rename(shops.inventory / "group_vars" / "shops.yml")
    seen = run_playbook(shops, "playbooks/status.yml")
    assert seen.returncode == 0, seen.stdout[-3000:]
    assert "member-not-in-inventory" in seen.stdout
    assert "remove_cluster -e cluster=cluster3" in " ".join(seen.stdout.split())
    again = run_playbook(shops, "site.yml")
    assert again.returncode == 0, again.stdout[-3000:]
    assert set(changes(again.stdout).values()) == {0}
    for name in MEMBERS:
        assert mesh.objects(name) == before[name]


def test_the_request_crosses_the_gateway_of_the_other_cluster(mesh: RunningLab) -> None:
    gateway = ("-n", "istio-system", "deployment/istio-eastwestgateway")
    assert "VERSION: v2" in curl(mesh)
    mesh.kubectl("cluster2", "scale", *gateway, "--replicas=0")
    # The last pod answers until it has drained.
    pods = ("pods", "-n", "istio-system", "-l", "istio=eastwestgateway")
    mesh.kubectl("cluster2", "wait", "--for=delete", *pods, "--timeout=60s")
    try:
        assert "VERSION" not in curl(mesh)
    finally:
        mesh.kubectl("cluster2", "scale", *gateway, "--replicas=1")
        mesh.kubectl("cluster2", "rollout", "status", *gateway, "--timeout=60s")
    deadline = time.monotonic() + 60
    while "VERSION: v2" not in curl(mesh):
        assert time.monotonic() < deadline


def test_verify_names_the_pairs_whose_secret_or_gateway_is_gone_and_site_heals_them(mesh: RunningLab) -> None:
    delete = ("delete", "-n", "istio-system")
    mesh.kubectl("cluster1", *delete, "secret", "istio-remote-secret-cluster3")
    mesh.kubectl("cluster2", *delete, "deployment,service", "istio-eastwestgateway")
    result = run_playbook(mesh, "playbooks/verify.yml")
    assert result.returncode != 0
    failed = {pair for pair, verdict in verdicts(result.stdout).items() if verdict != "ok"}
    assert failed == {("cluster1", "cluster3"), ("cluster1", "cluster2"), ("cluster3", "cluster2")}
    assert "cluster1 -> cluster3" in result.stdout
    healed = run_playbook(mesh, "site.yml")
    assert healed.returncode == 0, healed.stdout[-5000:]
    assert set(verdicts(healed.stdout).values()) == {"ok"}


def test_one_silent_cluster_costs_one_time_out_and_keeps_nobody_from_being_a_mesh(mesh: RunningLab) -> None:
    secret = ("secret", "-n", "istio-system", "istio-remote-secret-cluster3")
    tie = ("get", *secret, "--ignore-not-found", "--output=name")
    mesh.kubectl("cluster2", "delete", *secret)
    with silent(mesh, "cluster3"):
        begun = time.monotonic()
        status = run_playbook(mesh, "playbooks/status.yml")
        assert time.monotonic() - begun < 40, "one time-out of 15 s"
        assert "error [cluster3] cluster-unreachable" in status.stdout
        assert status.returncode != 0

        stopped = run_playbook(mesh, "site.yml")
        words = " ".join(stopped.stdout.split())
        assert stopped.returncode != 0
        assert "1 of 3 members cannot take part, so nothing was changed in any cluster." in words
        assert "(1) cluster3: cluster cluster3" in words
        assert set(changes(stopped.stdout).values()) == {0}

        begun = time.monotonic()
        skipped = run_playbook(mesh, "site.yml", "-e", "mesh_on_failure=skip")
        lasted = time.monotonic() - begun
        words = " ".join(skipped.stdout.split())
        assert skipped.returncode != 0
        assert verdicts(skipped.stdout) == all_ok(MEMBERS[:2]), skipped.stdout[-5000:]
        assert "VERSION: v2" in skipped.stdout
        assert "This was done without cluster3, as mesh_on_failure is skip." in words
        assert "member-not-in-inventory" not in words
        assert mesh.kubectl("cluster1", *tie), "nothing of its ties is pruned"
    begun = time.monotonic()
    healed = run_playbook(mesh, "site.yml", "-e", "mesh_on_failure=skip")
    assert healed.returncode == 0, healed.stdout[-5000:]
    assert lasted < 15 + 1.5 * (time.monotonic() - begun), "it costs its time-out, once"
    assert verdicts(healed.stdout) == all_ok(MEMBERS)
    assert mesh.kubectl("cluster2", *tie)


@pytest.mark.parametrize(
    ("inventory", "said"),
    [
        ("mesh: {hosts: {}}", "a mesh needs two or more"),
        ("mesh: {hosts: {only: {}}}", "a mesh needs two or more"),
    ],
)
def test_an_inventory_without_a_mesh_is_refused(tmp_path: Path, inventory: str, said: str) -> None:
    (tmp_path / "hosts.yml").write_text(f"all: {{children: {{{inventory}}}}}")
    result = run_playbook(RunningLab("none", tmp_path), "site.yml")
    assert result.returncode != 0
    assert said in " ".join(result.stdout.split())


def test_a_cluster_that_exoscale_does_not_know_is_named(mesh: RunningLab) -> None:
    result = run_playbook(
        mesh, "playbooks/kubeconfig.yml", "-e", "sks_cluster=nope", "-e", "kubeconfig_force=true"
    )
    assert result.returncode != 0
    assert "nope" in result.stdout
    assert "de-fra-1" in result.stdout


def test_what_documents_show_for_the_lab_is_run_here_or_elsewhere() -> None:
    commands = [command.text for command in documents.shown()]
    assert len(commands) > 30
    assert set(documents.NOT_RUN) <= set(commands)
    assert {command.text for command in documents.to_run()} == set(commands) - set(documents.NOT_RUN)


def test_documents_say_what_happens_in_the_lab(lab: RunningLab) -> None:
    """Their commands word for word, on a mesh of two clusters."""
    lab.down()
    up_mesh(lab, 2)
    by_make = ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")  # "make lab-test ARGS=..." is not for their make
    environment = {
        **{name: value for name, value in os.environ.items() if name not in by_make},
        "EXOLAB_NAME": lab.name,
        "LAB_INVENTORY": str(lab.inventory),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT / "lab"),
    }

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return call("bash", "-c", text, cwd=PROJECT, env=environment, timeout=1800)

    broken_by = None
    for command in documents.to_run():
        begun = time.monotonic()
        result = run(command.on(lab))
        if command.finding and command.text == "make status":
            # An API server remembers a token for some seconds.
            while f"] {command.finding}:" not in result.stdout and time.monotonic() < begun + 60:
                result = run(command.on(lab))
            assert f"] {command.finding}:" in result.stdout, (command, result.stdout[-5000:])
            assert result.returncode != 0, command
        elif broken_by and "exomesh.istio.diagnose" in command.text:
            assert result.returncode != 0, command
            assert "saw: DestinationRule exodemo/plain" in result.stdout, result.stdout[-5000:]
        else:
            assert result.returncode == 0, (command, result.stdout[-5000:], result.stderr)
        broken_by = command if command.text.startswith("printf ") else None
        if command.text == "make demo":
            assert "VERSION: v2" in result.stdout.rpartition("answered by the pod in cluster2:")[2]
        print(f"{time.monotonic() - begun:5.1f} s  {command.where}  {command.text}")
    assert not lab.path.exists()
