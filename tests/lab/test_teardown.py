"""A mesh that goes and leaves nothing; one that comes after runs that were ended."""

from __future__ import annotations

import itertools
import re
import signal
import time

import pytest

from .copies import Making
from .runs import RunningLab, all_ok, changes, end, run_playbook, said, started_playbook, succeed, verdicts

NAMES = ("cluster1", "cluster2")
CONFIRM = ("-e", "teardown_confirm=mesh1")
ENDS = (
    (3, signal.SIGKILL, {}),
    (12, signal.SIGINT, {"EXOMESH_MODULE_PROCESSES": "1"}),
    (24, signal.SIGTERM, {}),
)
"""After how many tasks a run is ended, and in which way; `make soak` ends more, anywhere."""


@pytest.fixture(scope="module")
def mesh(mesh_of_two: RunningLab) -> RunningLab:
    return mesh_of_two


def test_teardown_wants_the_id_of_the_mesh(mesh: RunningLab) -> None:
    for given in ((), ("-e", "teardown_confirm=yes")):
        refused = run_playbook(mesh, "playbooks/teardown.yml", *given)
        assert refused.returncode != 0
        assert "-e teardown_confirm=mesh1" in said(refused)
    other = run_playbook(
        mesh, "playbooks/teardown.yml", "-e", "mesh_id=mesh2", "-e", "teardown_confirm=mesh2"
    )
    assert other.returncode != 0
    assert re.search(r"of mesh mesh1 .*, not of .*mesh mesh2\. Nothing was changed", said(other))


def test_what_users_have_is_left_and_told(mesh: RunningLab) -> None:
    manifest = (
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, "
        "metadata: {name: mine, namespace: default}, "
        "spec: {hosts: [mine], http: [{route: [{destination: {host: mine}}]}]}}"
    )
    mesh.kubectl("cluster1", "create", "-f", "-", stdin=manifest)
    mesh.kubectl("cluster1", "create", "configmap", "mine", "-n", "exodemo")
    before = {name: mesh.objects(name) for name in NAMES}
    result = succeed(run_playbook(mesh, "playbooks/teardown.yml", "--check", "--diff"))
    assert "VirtualService default/mine: Istio objects of users" in said(result)
    assert "Namespace exodemo: it holds what is not ours: ConfigMap exodemo/mine" in said(result)
    assert "-Service istio-system/istio-eastwestgateway: deleted" in result.stdout
    assert {name: mesh.objects(name) for name in NAMES} == before
    mesh.kubectl("cluster1", "delete", "virtualservice", "mine", "-n", "default")
    mesh.kubectl("cluster1", "delete", "configmap", "mine", "-n", "exodemo")


def test_teardown_leaves_nothing(mesh: RunningLab, making: Making) -> None:
    predicted = succeed(run_playbook(mesh, "playbooks/teardown.yml", "--check", "--diff"))
    begun = time.monotonic()
    done = succeed(run_playbook(mesh, "playbooks/teardown.yml", "--diff", *CONFIRM))
    print(f"\nTeardown of {len(NAMES)} clusters: {time.monotonic() - begun:.0f} s")
    assert changes(done.stdout) == {**dict.fromkeys(NAMES, 1), "localhost": 0}
    deleted = [re.findall(r"^-(\w+ \S+): deleted$", run.stdout, re.M) for run in (predicted, done)]
    assert set(deleted[0]) == set(deleted[1])
    deadline = time.monotonic() + 30
    # Kubernetes takes away the APIService of a kind a moment after the kind.
    while (
        any(mesh.objects(name) != set(making.empty[name]) for name in NAMES) and time.monotonic() < deadline
    ):
        time.sleep(1)
    for name in NAMES:
        assert mesh.objects(name) == set(making.empty[name])
    again = succeed(run_playbook(mesh, "playbooks/teardown.yml", *CONFIRM))
    assert set(changes(again.stdout).values()) == {0}


def test_after_runs_that_were_ended_site_makes_the_mesh(mesh: RunningLab) -> None:
    for tasks, number, environment in ENDS:
        with started_playbook(mesh, "site.yml", **environment) as (run, found):
            assert run.stdout
            begun = (line for line in run.stdout if line.startswith("TASK ["))
            for _task in itertools.islice(begun, tasks):
                pass
            time.sleep(0.5)
            end(run, found, number)
    made = succeed(run_playbook(mesh, "site.yml"))
    assert verdicts(made.stdout) == all_ok(NAMES)
