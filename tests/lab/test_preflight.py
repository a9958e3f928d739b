"""The preflight on two real clusters without Istio: what it finds, and what a pod finds out for it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from .copies import up_empty
from .runs import RunningLab, call, changes, run_playbook

LABEL = "node.exoscale.net/nodepool-id"


@pytest.fixture(scope="module")
def two(lab: RunningLab) -> RunningLab:
    up_empty(lab, 2)
    result = run_playbook(lab, "playbooks/kubeconfig.yml")
    assert result.returncode == 0, result.stdout[-4000:]
    return lab


def preflight(
    lab: RunningLab, *arguments: str, **variables: Any
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the playbook; its output on one line, too, as Ansible wraps what it says."""
    result = run_playbook(lab, "playbooks/preflight.yml", "-v", "-e", json.dumps(variables), *arguments)
    return result, " ".join((result.stdout + result.stderr).split())


def probes(lab: RunningLab) -> str:
    """What the pods that asked have left behind."""
    kinds = "pods,secrets"
    return lab.kubectl("cluster1", "get", kinds, "-A", "-l", "exomesh.istio/probe=true", "-o", "name")


@contextmanager
def blocked(lab: RunningLab, source: str, address: str) -> Iterator[None]:
    """Pods of a cluster do not get through to an address. The node itself, and this machine, still do."""
    node = ("ip", "netns", "exec", f"exolab-{lab.name}-{source}", "iptables", "--wait")
    rule = ("FORWARD", "--source", "192.168.0.0/16", "--destination", address, "--jump", "REJECT")
    assert call(*node, "--insert", *rule).returncode == 0
    try:
        yield
    finally:
        assert call(*node, "--delete", *rule).returncode == 0


@contextmanager
def applied(lab: RunningLab, *objects: dict[str, Any]) -> Iterator[None]:
    """These objects are in cluster1."""
    manifest = yaml.safe_dump_all(objects)
    lab.kubectl("cluster1", "apply", "-f", "-", stdin=manifest)
    try:
        yield
    finally:
        lab.kubectl("cluster1", "delete", "--now", "-f", "-", stdin=manifest)


def test_pods_that_do_not_reach_a_peer_are_found(two: RunningLab) -> None:
    server = two.kubectl("cluster2", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    address = server.removeprefix("https://").rpartition(":")[0]
    with blocked(two, "cluster1", address):
        result, said = preflight(two)
        assert result.returncode != 0
        assert "cluster cluster1: 1 of" in said
        assert "[peer-api] Pods of this cluster do not reach the API server of cluster2" in said
        assert f"Saw: {server}/version: Failed to connect" in said
        assert "set peering_server of cluster2 to an address that they reach" in said
        # cluster2 looks at its own pace.
        assert "the API server of cluster1 answers pods of this cluster" in said
        assert not probes(two)
        result, said = preflight(two, "--limit", "cluster1", preflight_accept=["peer-api"])
        assert result.returncode == 0, said
        assert "[WARNING]: cluster cluster1: [peer-api]" in said
        result, said = preflight(two, "--check")
        assert result.returncode == 0, said
        assert said.count("not probed in check mode") == 2


def test_everything_that_is_in_the_way_is_named_at_once(two: RunningLab) -> None:
    node = json.loads(two.kubectl("cluster1", "get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    hook = {
        "name": "namespace.sidecar-injector.istio.io",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"service": {"namespace": "istio-system", "name": "istiod-old"}},
        "namespaceSelector": {"matchLabels": {"istio.io/rev": "old"}},
    }
    leftovers = (
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "istio-sidecar-injector-old"},
            "webhooks": [hook],
        },
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "second-pool", "labels": {LABEL: "2b"}}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "old-proxy", "namespace": "default"},
            "spec": {"containers": [{"name": "it", "image": "registry.istio.io/release/proxyv2:1.30.4"}]},
        },
    )
    two.kubectl("cluster1", "label", "node", node, f"{LABEL}=1a")
    greedy = {"istio_resources": {"requests": {"memory": "1000Gi"}}, "preflight_probe": False}
    try:
        with applied(two, *leftovers):
            result, said = preflight(two, "--limit", "cluster1", **greedy)
    finally:
        two.kubectl("cluster1", "label", "node", node, f"{LABEL}-")
    assert result.returncode != 0
    assert "cluster cluster1: 3 of" in said
    assert "[webhook-leftover]" in said
    assert "istio-sidecar-injector-old" in said
    assert "[capacity] No node has room for istiod (500m CPU and 1024000 Mi memory)" in said
    assert "[node-pools] The cluster has 2 node pools" in said
    assert "registry.istio.io/release/proxyv2:1.30.4 in default/old-proxy" in said


def test_two_good_clusters_pass_and_nothing_is_left(two: RunningLab) -> None:
    result, said = preflight(two)
    assert result.returncode == 0, said
    assert changes(result.stdout) == {"cluster1": 0, "cluster2": 0, "localhost": 0}
    assert said.count("answers pods of this cluster") == 2
    assert "WARNING" not in said
    assert not probes(two)
