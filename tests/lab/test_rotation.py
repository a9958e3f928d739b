"""Another root for two real clusters, while requests cross, each with a connection of its own."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from .copies import by_api
from .runs import (
    RunningLab,
    Traffic,
    changes,
    end_playbook,
    run_playbook,
    said,
    succeed,
)

MEMBERS = ("cluster1", "cluster2")
PLAYBOOK = "playbooks/rotate_root.yml"
DEAF = {"name": "deaf", "image": "docker.io/curlimages/curl:8.16.0", "command": ["sleep", "86400"]}
ONE_REQUEST = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "one-request", "namespace": "exodemo"},
    "spec": {
        "host": "exo-webtest.exodemo.svc.cluster.local",
        "trafficPolicy": {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}},
    },
}


@pytest.fixture(scope="module")
def mesh(mesh_of_two: RunningLab) -> RunningLab:
    for cluster in MEMBERS:
        mesh_of_two.kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(ONE_REQUEST))
    return mesh_of_two


@contextmanager
def requests(lab: RunningLab, at_least: int) -> Iterator[None]:
    """Requests all the while, at least so many, of which none may fail."""
    traffic = Traffic(lab, pause=0.05)
    try:
        traffic.codes(20)
        yield
        codes = traffic.codes(at_least)
    finally:
        traffic.stop()
    assert len(codes) >= at_least
    assert set(codes) == {"200"}, [code for code in codes if code != "200"]


def trusted(lab: RunningLab, cluster: str) -> list[str]:
    """SHA-256 of the roots in secret cacerts, as often as they are there."""
    words = ("get", "secret", "cacerts", "-n", "istio-system", "-o=jsonpath={.data.root-cert\\.pem}")
    text = base64.b64decode(lab.kubectl(cluster, *words))
    return [root.fingerprint(hashes.SHA256()).hex(":") for root in x509.load_pem_x509_certificates(text)]


def signs_with_new(lab: RunningLab, cluster: str) -> bool:
    return len(trusted(lab, cluster)) == 3


def pods(lab: RunningLab) -> set[tuple[str, int]]:
    """Every pod of the mesh, with the number of its restarts."""
    return {
        (pod["metadata"]["uid"], sum(item["restartCount"] for item in pod["status"]["containerStatuses"]))
        for cluster in MEMBERS
        for namespace in ("exodemo", "istio-system")
        for pod in json.loads(lab.kubectl(cluster, "get", "pods", "-n", namespace, "-o=json"))["items"]
    }


def changed_tasks(output: str) -> list[str]:
    """What a run says of each task that changed a member."""
    return [task for task in output.split("\nTASK ") if re.search(r"(?m)^changed: \[cluster", task)]


def rotate(lab: RunningLab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_playbook(lab, PLAYBOOK, *arguments)


@contextmanager
def deaf_proxy(lab: RunningLab, cluster: str) -> Iterator[None]:
    """A workload of its own whose agent takes no news of istiod. Nobody calls it, and it calls nobody."""
    manifests: list[dict[str, object]] = [
        {"kind": "Namespace", "metadata": {"name": "exodeaf", "labels": {"istio-injection": "enabled"}}},
        {"kind": "Pod", "spec": {"containers": [DEAF]}, "metadata": {"name": "deaf", "namespace": "exodeaf"}},
    ]
    for manifest in manifests:
        lab.kubectl(cluster, "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", **manifest}))
    lab.kubectl(cluster, "wait", "--for=condition=Ready", "pod/deaf", "-n", "exodeaf", "--timeout=120s")
    uid = lab.kubectl(cluster, "get", "pod", "deaf", "-n", "exodeaf", "-o=jsonpath={.metadata.uid}")
    agents = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and is_agent_of(entry, uid)]
    assert agents
    for agent in agents:
        os.kill(agent, signal.SIGSTOP)
    try:
        yield
    finally:
        for agent in agents:
            os.kill(agent, signal.SIGCONT)
        lab.kubectl(cluster, "delete", "namespace", "exodeaf")


def is_agent_of(process: str, uid: str) -> bool:
    """Whether a process is the pilot-agent of a pod."""
    folder = Path("/proc") / process
    try:
        command = folder.joinpath("cmdline").read_text().split("\0")[0]
        groups = folder.joinpath("cgroup").read_text().replace("_", "-")
    except OSError:
        return False
    return command.endswith("pilot-agent") and uid in groups


def test_a_root_is_rotated_under_traffic_and_a_killed_run_continues(mesh: RunningLab, tmp_path: Path) -> None:
    (old,) = trusted(mesh, "cluster1")
    before = pods(mesh)
    begin = ("-e", f"rotate_old_root={old[:11]}")
    with requests(mesh, 1000):
        end_playbook(
            signal.SIGKILL,
            partial(signs_with_new, mesh, "cluster1"),
            mesh,
            PLAYBOOK,
            *begin,
            within=400,
        )
        assert [len(trusted(mesh, cluster)) for cluster in MEMBERS] == [3, 2]
        refused = run_playbook(mesh, "playbooks/certificates.yml")
        assert refused.returncode != 0
        assert "rotation_under_way" in said(refused)
        status = run_playbook(mesh, "playbooks/status.yml")
        assert "cluster1 is in phase 2 of 3" in said(status)
        assert "cluster2 is in phase 1 of 3" in said(status)
        plan = succeed(rotate(mesh, "--check"))
        assert "Next: give each cluster an intermediate CA of the new root" in said(plan)
        succeed(rotate(mesh))
    (new,) = trusted(mesh, "cluster1")
    assert new != old
    assert trusted(mesh, "cluster2") == [new]
    assert pods(mesh) == before
    again = succeed(rotate(mesh, *begin))
    # The records have the words of the inventory with which the mesh was made.
    site = succeed(run_playbook(by_api(mesh, tmp_path / "dynamic"), "site.yml"))
    for result in (again, site):
        changed = {host: changes(result.stdout)[host] for host in MEMBERS}
        assert changed == dict.fromkeys(MEMBERS, 0), changed_tasks(result.stdout)


def test_a_proxy_that_lags_is_named_and_the_rotation_returns(mesh: RunningLab) -> None:
    (old,) = trusted(mesh, "cluster1")
    before = pods(mesh)
    with requests(mesh, 500):
        with deaf_proxy(mesh, "cluster1"):
            stopped = rotate(mesh, "-e", f"rotate_old_root={old[:11]}", "-e", "certificates_timeout=60")
        assert stopped.returncode != 0
        assert "rotation_lagging" in said(stopped)
        assert "cluster1: exodeaf/deaf trusts" in said(stopped)
        end_playbook(signal.SIGKILL, partial(signs_with_new, mesh, "cluster1"), mesh, PLAYBOOK, within=400)
        succeed(rotate(mesh, "-e", "rotate_back=true"))
    assert [trusted(mesh, cluster) for cluster in MEMBERS] == [[old], [old]]
    assert pods(mesh) == before
    certificates = succeed(run_playbook(mesh, "playbooks/certificates.yml"))
    assert {host: changes(certificates.stdout)[host] for host in MEMBERS} == dict.fromkeys(MEMBERS, 0)
