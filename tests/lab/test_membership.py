"""A mesh that clusters enter and leave: killed runs, traffic that goes on, and nothing left at the end."""

from __future__ import annotations

import itertools
import json
import random
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

from .conftest import RunningLab, Traffic, call, changes, end, end_playbook, run_playbook, started_playbook
from .test_mesh import verdicts

SEED = 6
PLACES = ({}, {"EXOMESH_MODULE_PROCESSES": "1"})
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
KILLS = 5
"""In each of two series: a first installation, and one after a teardown."""

FIRST = ("cluster1", "cluster2")
BEFORE = ("cluster1", "cluster2", "cluster3", "cluster4")
AFTER = ("cluster1", "cluster3", "cluster4", "cluster5")
CONFIRM = ("-e", "teardown_confirm=mesh1")

_WRITE = r'verb="(POST|PUT|PATCH|APPLY|DELETE)"'
_SIGN_OF_LIFE = r'resource="(leases|events|nodes|endpointslices|tokenreviews|pods)"'
_VOLATILE = ("Event", "Pod", "EndpointSlice", "Endpoints", "ReplicaSet", "IPAddress", "PodMetrics")


def said(result: subprocess.CompletedProcess[str]) -> str:
    """The output without the line breaks of its YAML."""
    return re.sub(r"\s+", " ", result.stdout.replace("''", "'"))


def with_members(lab: RunningLab, folder: Path, names: tuple[str, ...]) -> RunningLab:
    """The lab with an inventory of these members."""
    folder.mkdir(exist_ok=True)
    hosts = yaml.safe_load((lab.inventory / "hosts.yml").read_text())
    mesh = hosts["all"]["children"]["mesh"]
    mesh["hosts"] = {name: mesh["hosts"][name] for name in names}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    shutil.copytree(lab.inventory / "group_vars", folder / "group_vars", dirs_exist_ok=True)
    return RunningLab(lab.name, folder)


def objects(lab: RunningLab, cluster: str) -> set[str]:
    """Names of all objects of a cluster but those that come and go by themselves."""
    kinds = lab.kubectl(cluster, "api-resources", "--verbs=list,delete", "-o=name").split()
    answer = lab.kubectl(cluster, "get", ",".join(kinds), "--all-namespaces", "--output=json")
    there = [item["metadata"] | {"kind": item["kind"]} for item in json.loads(answer)["items"]]
    # The namespace of the last verification may be on its way out.
    going = {item["name"] for item in there if item["kind"] == "Namespace" and "deletionTimestamp" in item}
    return {
        f"{item['kind']} {item.get('namespace', '')}/{item['name']}"
        for item in there
        if item["kind"] not in _VOLATILE and not going & {item["name"], item.get("namespace")}
    }


def writes(lab: RunningLab, cluster: str) -> int:
    """Writes that the API server has seen, but for those by which nodes and leaders say that they live."""
    total = 0
    for line in lab.kubectl(cluster, "get", "--raw", "/metrics").splitlines():
        counts = line.startswith("apiserver_request_total") and re.search(_WRITE, line)
        if counts and not re.search(_SIGN_OF_LIFE, line):
            total += int(float(line.rpartition(" ")[2]))
    return total


def run_and_end(
    lab: RunningLab, tasks: int, seconds: float, number: signal.Signals, environment: dict[str, str]
) -> None:
    """site.yml, ended some seconds after that many tasks have begun."""
    with started_playbook(lab, "site.yml", **environment) as (run, found):
        assert run.stdout
        begun = (line for line in run.stdout if line.startswith("TASK ["))
        for _task in itertools.islice(begun, tasks):
            pass
        time.sleep(seconds)
        end(run, found, number)


def end_runs(lab: RunningLab, seed: int) -> None:
    """Runs that are ended further and further on, at points and in ways that the seed tells."""
    chance = random.Random(seed)
    ways = itertools.cycle(itertools.product(PLACES, SIGNALS))
    for tasks in sorted(chance.sample(range(2, 40), KILLS)):
        (place, number), seconds = next(ways), chance.uniform(0, 4)
        print(f"seed {seed}: {number.name} after task {tasks} + {seconds:.1f} s, {place or 'in the worker'}")
        run_and_end(lab, tasks, seconds, number, place)


def succeed(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert result.returncode == 0, result.stdout[-6000:]
    return result


def pairs(result: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], str]:
    return verdicts(succeed(result).stdout)


def all_ok(members: tuple[str, ...]) -> dict[tuple[str, str], str]:
    return dict.fromkeys(itertools.permutations(members, 2), "ok")


# Two clusters: killed runs, and a teardown


@pytest.fixture(scope="module")
def empty(lab: RunningLab) -> dict[str, set[str]]:
    """What two clusters hold before the mesh."""
    lab.up(len(FIRST))
    return {name: objects(lab, name) for name in FIRST}


@pytest.fixture(scope="module")
def pair(lab: RunningLab, empty: dict[str, set[str]]) -> RunningLab:
    """A mesh of two, made by the run after five that were killed."""
    end_runs(lab, SEED)
    assert pairs(run_playbook(lab, "site.yml")) == all_ok(FIRST)
    return lab


def test_teardown_wants_the_id_of_the_mesh(pair: RunningLab) -> None:
    for given in ((), ("-e", "teardown_confirm=yes")):
        refused = run_playbook(pair, "playbooks/teardown.yml", *given)
        assert refused.returncode != 0
        assert "-e teardown_confirm=mesh1" in said(refused)
    other = run_playbook(
        pair, "playbooks/teardown.yml", "-e", "mesh_id=mesh2", "-e", "teardown_confirm=mesh2"
    )
    assert other.returncode != 0
    assert "that of mesh mesh1, not of mesh2. Nothing was deleted" in said(other)


def test_what_users_have_is_left_and_told(pair: RunningLab) -> None:
    manifest = (
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, "
        "metadata: {name: mine, namespace: default}, "
        "spec: {hosts: [mine], http: [{route: [{destination: {host: mine}}]}]}}"
    )
    pair.kubectl("cluster1", "create", "-f", "-", stdin=manifest)
    pair.kubectl("cluster1", "create", "configmap", "mine", "-n", "exodemo")
    before = {name: objects(pair, name) for name in FIRST}
    result = succeed(run_playbook(pair, "playbooks/teardown.yml", "--check", "--diff"))
    assert "VirtualService default/mine: Istio objects of users" in said(result)
    assert "Namespace exodemo: it holds what is not ours: ConfigMap exodemo/mine" in said(result)
    assert "-Service istio-system/istio-eastwestgateway: deleted" in result.stdout
    assert {name: objects(pair, name) for name in FIRST} == before
    pair.kubectl("cluster1", "delete", "virtualservice", "mine", "-n", "default")
    pair.kubectl("cluster1", "delete", "configmap", "mine", "-n", "exodemo")


def test_teardown_leaves_nothing_and_site_works_again(pair: RunningLab, empty: dict[str, set[str]]) -> None:
    predicted = succeed(run_playbook(pair, "playbooks/teardown.yml", "--check", "--diff"))
    begun = time.monotonic()
    done = succeed(run_playbook(pair, "playbooks/teardown.yml", "--diff", *CONFIRM))
    print(f"\nTeardown of {len(FIRST)} clusters: {time.monotonic() - begun:.0f} s")
    assert changes(done.stdout) == {**dict.fromkeys(FIRST, 1), "localhost": 0}
    deleted = [re.findall(r"^-(\w+ \S+): deleted$", run.stdout, re.M) for run in (predicted, done)]
    assert set(deleted[0]) == set(deleted[1])
    deadline = time.monotonic() + 30
    # Kubernetes takes away the APIService of a kind a moment after the kind.
    while any(objects(pair, name) != empty[name] for name in FIRST) and time.monotonic() < deadline:
        time.sleep(1)
    for name in FIRST:
        assert objects(pair, name) == empty[name]
    again = succeed(run_playbook(pair, "playbooks/teardown.yml", *CONFIRM))
    assert set(changes(again.stdout).values()) == {0}

    end_runs(pair, SEED + 1)
    assert pairs(run_playbook(pair, "site.yml")) == all_ok(FIRST)


# Five clusters: one comes, one goes, one dies


@pytest.fixture(scope="module")
def mesh(pair: RunningLab, tmp_path_factory: pytest.TempPathFactory) -> RunningLab:
    """A mesh of four, in a lab of five, with services that call each other across clusters."""
    pair.up(5)
    four = with_members(pair, tmp_path_factory.mktemp("four") / "inventory", BEFORE)
    assert pairs(run_playbook(four, "site.yml")) == all_ok(BEFORE)
    for client, server in CALLS:
        where = {
            "demo_namespace": f"from-{client}",
            "demo_client_cluster": client,
            "demo_server_cluster": server,
        }
        succeed(run_playbook(four, "playbooks/demo.yml", "-e", json.dumps(where)))
    return pair


CALLS = (("cluster1", "cluster3"), ("cluster3", "cluster4"), ("cluster4", "cluster1"))


@pytest.fixture(scope="module")
def traffic(mesh: RunningLab) -> Iterator[list[Traffic]]:
    """Requests that go on while clusters come and go."""
    running = [Traffic(mesh, client, f"from-{client}") for client, _server in CALLS]
    yield running
    for one in running:
        one.stop()


def test_one_cluster_comes_and_one_goes_without_a_failed_request(
    mesh: RunningLab, traffic: list[Traffic], tmp_path: Path
) -> None:
    others = [name for name in BEFORE if name != "cluster2"]
    held = {name: objects(mesh, name) for name in BEFORE}
    count = {name: writes(mesh, name) for name in BEFORE}
    begun = time.monotonic()
    added = run_playbook(mesh, "playbooks/add_cluster.yml", "-e", "cluster=cluster5")
    print(f"\nAdding a fifth cluster: {time.monotonic() - begun:.0f} s")
    new = {pair for pair in itertools.permutations((*BEFORE, "cluster5"), 2) if "cluster5" in pair}
    found = pairs(added)
    assert {pair for pair, verdict in found.items() if verdict == "ok"} == new
    done = changes(added.stdout)
    assert {name: done[name] for name in BEFORE} == dict.fromkeys(BEFORE, 0)
    for name in BEFORE:
        made = objects(mesh, name) - held[name]
        number = writes(mesh, name) - count[name]
        print(f"{name}: {number} writes, made {', '.join(sorted(made)) or 'nothing'}")
        assert "Secret istio-system/istio-remote-secret-cluster5" in made
        assert all("cluster5" in obj or "exomesh-reader" in obj for obj in made), made

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
        left = [obj for obj in objects(mesh, name) if re.search(r"(secret|reader)-cluster2\b", obj)]
        assert not left
    assert not [obj for obj in objects(mesh, "cluster2") if "istio" in obj]

    codes = [code for one in traffic for code in one.codes(at_least=300)]
    failed = [code for code in codes if code != "200"]
    print(f"requests between {', '.join(others)} meanwhile: {len(codes)}, failed: {len(failed)}")
    assert not failed, sorted(set(failed))


def test_adding_a_member_changes_nothing(mesh: RunningLab, tmp_path: Path) -> None:
    inventory = with_members(mesh, tmp_path / "inventory", AFTER)
    result = succeed(run_playbook(inventory, "playbooks/add_cluster.yml", "-e", "cluster=cluster5"))
    assert set(changes(result.stdout).values()) == {0}
    for given, told in (
        (("-e", "cluster=clutser5"), "clutser5 is not in the inventory group mesh"),
        ((), "-e cluster=NAME"),
    ):
        refused = run_playbook(inventory, "playbooks/add_cluster.yml", *given)
        assert refused.returncode != 0
        assert told in said(refused)


def test_a_cluster_that_is_dead_and_out_of_the_inventory_leaves(mesh: RunningLab, tmp_path: Path) -> None:
    """Its name in the mesh is all that is left of it; a run that is killed is finished by the next."""
    members = tuple(name for name in AFTER if name != "cluster4")
    inventory = with_members(mesh, tmp_path / "inventory", members)
    supervisor = Path(sys.executable).parent / "supervisorctl"
    node = ("--configuration", mesh.path / "supervisord.conf", "stop", "node-cluster4")
    assert call(supervisor, *node).returncode == 0
    nameless = run_playbook(inventory, "playbooks/remove_cluster.yml")
    assert nameless.returncode != 0
    assert "-e cluster=NAME" in said(nameless)
    misspelt = run_playbook(inventory, "playbooks/remove_cluster.yml", "-e", "cluster=clutser3")
    assert misspelt.returncode != 0
    assert "did you mean cluster3" in said(misspelt)
    leaving = ("-e", "cluster=cluster4", "-e", "remove_lost_services=true")

    def is_cut() -> bool:
        there = mesh.kubectl("cluster1", "get", "secrets", "-n", "istio-system")
        return "istio-remote-secret-cluster4" not in there

    end_playbook(signal.SIGKILL, is_cut, inventory, "playbooks/remove_cluster.yml", *leaving)
    removed = run_playbook(inventory, "playbooks/remove_cluster.yml", *leaving)
    assert pairs(removed) == all_ok(members)
    assert "cannot be spoken to" in said(removed)
    for name in members:
        assert not [
            obj for obj in objects(mesh, name) if re.search(r"cluster4\b", obj) and "from-" not in obj
        ]
