"""Kubeconfigs of real clusters that look after themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .copies import up_empty
from .runs import PROJECT, RunningLab, call, changes, run_playbook

CLUSTERS = ("cluster1", "cluster2")


@pytest.fixture(scope="module")
def two(lab: RunningLab) -> RunningLab:
    up_empty(lab, len(CLUSTERS))
    assert role(lab).returncode == 0
    return lab


def role(lab: RunningLab, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role for both clusters."""
    return run_playbook(lab, "playbooks/kubeconfig.yml", "--diff", "-v", "-e", json.dumps(variables))


def changed(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    assert result.returncode == 0, result.stdout[-4000:]
    return {host: count for host, count in changes(result.stdout).items() if host in CLUSTERS}


def minted(lab: RunningLab) -> int:
    """How many kubeconfigs Exoscale has given out."""
    lines = (lab.path / "cloud" / "requests.jsonl").read_text().splitlines()
    return sum(json.loads(line)["method"] == "POST" for line in lines)


def kubeconfig(lab: RunningLab, cluster: str) -> Path:
    return lab.path / "mesh" / cluster / "kubeconfig"


def test_a_valid_kubeconfig_is_kept_and_nobody_is_asked_for_another(two: RunningLab) -> None:
    before, content = minted(two), kubeconfig(two, "cluster1").read_bytes()
    assert changed(role(two)) == dict.fromkeys(CLUSTERS, 0)
    assert minted(two) == before
    assert kubeconfig(two, "cluster1").read_bytes() == content
    assert kubeconfig(two, "cluster1").stat().st_mode & 0o777 == 0o600


def test_one_that_ends_soon_is_renewed(two: RunningLab) -> None:
    short = {"kubeconfig_ttl": "60", "kubeconfig_renew_before": "120"}
    assert changed(role(two, **short, kubeconfig_force=True)) == dict.fromkeys(CLUSTERS, 1)
    before = minted(two)
    result = role(two, **short)
    assert changed(result) == dict.fromkeys(CLUSTERS, 1)
    assert minted(two) == before + len(CLUSTERS)
    assert "expires" in result.stdout
    role(two, kubeconfig_force=True)


def test_one_of_another_cluster_in_its_place_is_replaced_and_said(two: RunningLab) -> None:
    right, wrong = kubeconfig(two, "cluster1"), kubeconfig(two, "cluster2")
    right.write_bytes(wrong.read_bytes())
    result = role(two)
    assert changed(result) == {"cluster1": 1, "cluster2": 0}
    assert yaml.safe_load(right.read_text())["clusters"][0]["name"] == "cluster1"
    assert "cluster2" in result.stdout.split("TASK [exomesh.istio.kubeconfig : Check that the cluster")[0]


def test_a_shared_file_keeps_what_is_not_ours(two: RunningLab, tmp_path: Path) -> None:
    shared = tmp_path / "config"
    foreign = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "mine",
        "preferences": {"colors": True},
        "clusters": [{"name": "mine", "cluster": {"server": "https://192.0.2.1:6443"}}],
        "users": [
            {
                "name": "mine",
                "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "x"}},
            }
        ],
        "contexts": [{"name": "mine", "context": {"cluster": "mine", "user": "mine", "namespace": "web"}}],
    }
    shared.write_text(yaml.safe_dump(foreign))
    assert changed(role(two, kubeconfig_merged_file=str(shared))) == dict.fromkeys(CLUSTERS, 1)
    merged = yaml.safe_load(shared.read_text())
    for kind in ("clusters", "users", "contexts"):
        assert merged[kind][0] == foreign[kind][0]
        assert len(merged[kind]) == 1 + len(CLUSTERS)
    assert (merged["current-context"], merged["preferences"]) == ("mine", {"colors": True})
    for cluster in CLUSTERS:
        words = (f"--kubeconfig={shared}", f"--context={cluster}", "get", "nodes", "--output=name")
        assert cluster in call(two.path / "bin" / "kubectl", *words).stdout
    assert changed(role(two, kubeconfig_merged_file=str(shared))) == dict.fromkeys(CLUSTERS, 0)


@pytest.mark.parametrize("backend", ["exo", "api"])
def test_a_refusal_names_the_cluster_and_what_is_missing(two: RunningLab, backend: str) -> None:
    faults = ("-m", "exolab.faults", "--state", two.path / "cloud")
    environment = {"PYTHONPATH": str(PROJECT / "lab")}
    operation = ("--operation", "generate-sks-cluster-kubeconfig")
    assert call(sys.executable, *faults, "set", "403", *operation, env=environment).returncode == 0
    try:
        result = role(two, kubeconfig_force=True, kubeconfig_backend=backend)
    finally:
        call(sys.executable, *faults, "clear", env=environment)
    words = " ".join(result.stdout.split())
    assert result.returncode != 0
    assert "cluster cluster1" in words
    assert "generate-sks-cluster-kubeconfig" in words
