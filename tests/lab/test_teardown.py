"""A mesh that goes and leaves nothing; one that comes after runs that were ended."""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from .copies import Making
from .former_names import OWNER, RENAMED_LAST, by_the_names_of_before
from .outcomes import run
from .runs import (
    RunningLab,
    all_ok,
    call,
    changes,
    end,
    run_playbook,
    said,
    started_playbook,
    succeed,
    verdicts,
)

NAMES = ("cluster1", "cluster2")
CONFIRM = ("-e", "teardown_confirm=mesh1")
ENDS = (
    (3, signal.SIGKILL, {}),
    (12, signal.SIGINT, {"EXOMESH_MODULE_PROCESSES": "1"}),
    (24, signal.SIGTERM, {}),
)
"""After how many tasks a run is ended, and in which way; `make soak` ends more, anywhere."""


def pods_and_services(lab: RunningLab, cluster: str) -> dict[str, Any]:
    """What is made anew where something is interrupted, by its UID; and how often it was restarted."""
    found = json.loads(lab.kubectl(cluster, "get", "pods,services", "--all-namespaces", "-o=json"))["items"]
    return {
        obj["metadata"]["uid"]: [one["restartCount"] for one in obj["status"].get("containerStatuses", [])]
        for obj in found
    }


def install_own_gateway(lab: RunningLab, cluster: str) -> set[str]:
    """Install a gateway as Istio's documents say; return what that made."""
    before = lab.objects(cluster)
    lab.kubectl(cluster, "create", "namespace", "mine")
    gateway = {"name": "istio-ingressgateway", "namespace": "mine", "enabled": True}
    operator = {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"name": "ingress"},
        "spec": {
            "profile": "empty",
            "components": {"ingressGateways": [gateway]},
            "values": {
                "gateways": {"istio-ingressgateway": {"injectionTemplate": "gateway"}},
                "global": {"imagePullPolicy": "IfNotPresent"},
            },
        },
    }
    kubeconfig = f"--kubeconfig={lab.path}/mesh/{cluster}/kubeconfig"
    words = ("install", "--skip-confirmation", kubeconfig, "--filename=-")
    installed = call(lab.path / "bin" / "istioctl", *words, input=yaml.safe_dump(operator))
    assert installed.returncode == 0, installed.stderr
    # istiod writes its root into every namespace, and so that is the mesh's.
    of_istiod = {f"ConfigMap mine/{name}" for name in ("istio-ca-root-cert", "istio-ca-crl")}
    return lab.objects(cluster) - before - of_istiod


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


def test_a_mesh_by_the_names_of_before_is_taken_over_and_nothing_interrupted(
    mesh: RunningLab, tmp_path: Path
) -> None:
    for name in NAMES:
        by_the_names_of_before(mesh, name)
    before = {name: pods_and_services(mesh, name) for name in NAMES}
    predicted = run(mesh, "playbooks/install.yml", tmp_path, "playbooks/preflight.yml", "--check", "--diff")
    done = run(mesh, "playbooks/install.yml", tmp_path, "playbooks/preflight.yml")
    assert done.objects() == predicted.objects()
    for name in NAMES:
        for role in ("istio", "gateway"):
            happened = done.objects()[name, f"exomesh.istio.{role}"]
            assert (happened["create"], happened["delete"]) == ([], [])
            assert len(happened["change"]) > 5
        fields = {path for change in predicted.differences(name).values() for path in change["after"]}
        assert fields == {f"metadata.labels['{OWNER}']"}
    assert {name: pods_and_services(mesh, name) for name in NAMES} == before
    assert run(mesh, "playbooks/install.yml", tmp_path).changed == set()


def test_teardown_leaves_nothing_but_what_is_of_users(mesh: RunningLab, making: Making) -> None:
    """One cluster has the names of before, the other the last of them, and a gateway of a user's."""
    by_the_names_of_before(mesh, "cluster1", RENAMED_LAST)
    by_the_names_of_before(mesh, "cluster2")
    theirs = {"cluster1": install_own_gateway(mesh, "cluster1"), "cluster2": set[str]()}
    left = {name: set(making.empty[name]) | theirs[name] for name in NAMES}
    predicted = succeed(run_playbook(mesh, "playbooks/teardown.yml", "--check", "--diff"))
    begun = time.monotonic()
    done = succeed(run_playbook(mesh, "playbooks/teardown.yml", "--diff", *CONFIRM))
    print(f"\nTeardown of {len(NAMES)} clusters: {time.monotonic() - begun:.0f} s")
    assert changes(done.stdout) == {**dict.fromkeys(NAMES, 1), "localhost": 0}
    deleted = [re.findall(r"^-(\w+ \S+): deleted$", run.stdout, re.M) for run in (predicted, done)]
    assert set(deleted[0]) == set(deleted[1])
    deadline = time.monotonic() + 30
    # Kubernetes takes away the APIService of a kind a moment after the kind.
    while any(mesh.objects(name) != left[name] for name in NAMES) and time.monotonic() < deadline:
        time.sleep(1)
    for name in NAMES:
        assert mesh.objects(name) == left[name]
    assert "Deployment mine/istio-ingressgateway of somebody else's installation by istioctl" in said(done)
    again = succeed(run_playbook(mesh, "playbooks/teardown.yml", *CONFIRM))
    assert set(changes(again.stdout).values()) == {0}
    mesh.kubectl("cluster1", "delete", "namespace", "mine")


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
