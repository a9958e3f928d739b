"""Peering on three real clusters: who may read what, proofs from inside, repairs, changing over."""

from __future__ import annotations

import base64
import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ApiError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient

from .runs import RunningLab, call, changes, run_playbook, wait_for

MEMBERS = ("cluster1", "cluster2", "cluster3")
PAIRS = list(itertools.permutations(MEMBERS, 2))
REMOTE = "istio-remote-secret-"
SHARED_TOKEN = "istio-reader-service-account-istio-remote-secret-token"


def peering(lab: RunningLab, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    words = ("-v", "-e", json.dumps(variables), *arguments)
    return run_playbook(lab, "playbooks/peering.yml", *words, ANSIBLE_CALLBACK_RESULT_FORMAT="json")


def done(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """What the module told, by cluster, after a run that must have succeeded."""
    assert result.returncode == 0, result.stdout[-5000:]
    told = re.findall(r"^(?:ok|changed): \[(\w+)\] => (\{.*\})$", result.stdout, re.M)
    return {name: answer for name, text in told if "objects" in (answer := json.loads(text))}


def acted(result: subprocess.CompletedProcess[str]) -> dict[str, set[str]]:
    """Every object that changed or would, wherever, by what happens to it."""
    actions: dict[str, set[str]] = {}
    for cluster, told in done(result).items():
        for action, titles in told["objects"].items():
            named = {title if " in " in title else f"{title} in {cluster}" for title in titles}
            actions.setdefault(action, set()).update(named)
    actions.pop("unchanged")
    return actions


def said(result: subprocess.CompletedProcess[str]) -> str:
    return " ".join(result.stdout.split())


def in_istio(lab: RunningLab, cluster: str, kind: str, prefix: str) -> dict[str, Any]:
    """Objects in istio-system, or of the whole cluster, whose names begin like this."""
    items = json.loads(lab.kubectl(cluster, "get", kind, "-n", "istio-system", "-o=json"))["items"]
    return {item["metadata"]["name"]: item for item in items if item["metadata"]["name"].startswith(prefix)}


def client(lab: RunningLab, cluster: str) -> KubernetesClient:
    return KubernetesClient(str(lab.path / "mesh" / cluster / "kubeconfig"), name=cluster)


def token(lab: RunningLab, reader: str, peer: str) -> str:
    secret = in_istio(lab, reader, "secrets", REMOTE)[REMOTE + peer]
    kubeconfig = yaml.safe_load(base64.b64decode(secret["data"][peer]))
    return str(kubeconfig["users"][0]["user"]["token"])


def as_reader(lab: RunningLab, reader: str, peer: str) -> KubernetesClient:
    """A peer's API with the token that a reader has for it."""
    return client(lab, peer).with_token(token(lab, reader, peer))


def may(reader: KubernetesClient, verb: str, resource: str, namespace: str = "") -> bool:
    """Whether a reader's token may do that, as the peer itself says."""
    group, _slash, plural = resource.rpartition("/")
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
    review = reader.create(
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {"name": ""},
            "spec": {"resourceAttributes": attributes},
        }
    )
    return bool(review["status"]["allowed"])


def reads_secrets(reader: KubernetesClient) -> bool:
    """Whether a reader's token may read Secrets anywhere."""
    namespaces = ("", "default", "istio-system", "kube-system")
    return any(
        may(reader, verb, "secrets", namespace)
        for verb, namespace in itertools.product(("get", "list", "watch"), namespaces)
    )


def states(lab: RunningLab, cluster: str) -> dict[str, str]:
    """What istiod of a cluster says of the others."""
    command = ("pilot-discovery", "request", "GET", "/debug/clusterz")
    answer = lab.kubectl(cluster, "exec", "-n", "istio-system", "deploy/istiod", "--", *command)
    return {entry["id"]: entry["syncStatus"] for entry in json.loads(answer[answer.index("[") :])}


@pytest.fixture(scope="module")
def installed(mesh_of_three: RunningLab) -> RunningLab:
    """Three clusters with Istio and gateways, which do not know each other any more."""
    kinds = "secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings"
    ours = ("-n", "istio-system", "-l", "app.kubernetes.io/managed-by=exomesh.istio")
    for name in MEMBERS:
        there = mesh_of_three.kubectl(name, "get", kinds, *ours, "-o=name").split()
        ties = [each for each in there if re.search(r"reader|remote-secret", each)]
        mesh_of_three.kubectl(name, "delete", "-n", "istio-system", *ties)
        mesh_of_three.kubectl(name, "rollout", "restart", "deployment/istiod", "-n", "istio-system")
    for name in MEMBERS:
        words = ("rollout", "status", "deployment/istiod", "-n", "istio-system", "--timeout=90s")
        mesh_of_three.kubectl(name, *words)
    return mesh_of_three


@pytest.fixture(scope="module")
def first_runs(installed: RunningLab) -> list[subprocess.CompletedProcess[str]]:
    """The first run: predicted, done, and once more."""
    return [peering(installed, "--check"), peering(installed), peering(installed)]


@pytest.fixture(scope="module")
def mesh(installed: RunningLab, first_runs: list[subprocess.CompletedProcess[str]]) -> RunningLab:
    assert first_runs[1].returncode == 0, first_runs[1].stdout[-5000:]
    return installed


@pytest.fixture
def cluster2(mesh: RunningLab) -> Iterator[Path]:
    """The variables of cluster2, a file that is gone afterwards."""
    path = mesh.inventory / "host_vars" / "cluster2.yml"
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink()


def test_the_first_run_does_what_was_predicted_and_the_second_nothing(
    first_runs: list[subprocess.CompletedProcess[str]],
) -> None:
    predicted, first, second = first_runs
    assert acted(first) == acted(predicted)
    assert len(acted(first)["create"]) == len(PAIRS) * (1 + 5) + len(MEMBERS) * 3
    assert changes(second.stdout) == dict.fromkeys((*MEMBERS, "localhost"), 0)
    assert done(second) == {}, "no cluster needed to be looked at pair by pair"


def test_every_istiod_has_read_its_peers_and_no_probe_is_left(mesh: RunningLab) -> None:
    for name in MEMBERS:
        assert states(mesh, name) == dict.fromkeys(MEMBERS, "synced")
        assert in_istio(mesh, name, "pods,secrets", "exomesh-probe") == {}


def test_tokens_are_of_each_pair_and_let_do_what_istiod_does(mesh: RunningLab) -> None:
    assert len({token(mesh, *pair) for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        reader = as_reader(mesh, *pair)
        for resource in ("pods", "services", "nodes", "namespaces", "discovery.k8s.io/endpointslices"):
            assert may(reader, "watch", resource), (pair, resource)
        assert may(reader, "list", "configmaps", "istio-system"), pair
        assert not may(reader, "list", "configmaps", "kube-system"), pair
        for verb, resource in (("create", "pods"), ("delete", "services"), ("patch", "nodes")):
            assert not may(reader, verb, resource), (pair, verb, resource)


def test_one_binding_lets_read_secrets_and_without_it_no_token_can(mesh: RunningLab) -> None:
    everyone = [as_reader(mesh, *pair) for pair in PAIRS]
    assert all(map(reads_secrets, everyone))
    for reader, peer in PAIRS:
        mesh.kubectl(peer, "delete", "clusterrolebinding", f"exomesh-reader-{reader}:secrets")
    deadline = time.monotonic() + 10
    while any(map(reads_secrets, everyone)):
        assert time.monotonic() < deadline
    assert all(may(reader, "list", "services") for reader in everyone)
    assert acted(peering(mesh))["create"] == {
        f"ClusterRoleBinding exomesh-reader-{reader}:secrets in {peer}" for reader, peer in PAIRS
    }


def test_least_privilege_is_refused_for_an_istiod_that_would_die_of_it(mesh: RunningLab) -> None:
    result = peering(mesh, mesh_least_privilege=True)
    assert result.returncode != 0
    assert "cannot do without the Secrets of other clusters" in said(result)
    assert set(changes(result.stdout).values()) == {0}


def test_an_account_that_is_taken_away_cuts_off_one_peer_and_comes_back(mesh: RunningLab) -> None:
    tokens = {reader: token(mesh, reader, "cluster2") for reader in ("cluster1", "cluster3")}
    mesh.kubectl("cluster2", "delete", "serviceaccount", "-n", "istio-system", "exomesh-reader-cluster1")
    api = client(mesh, "cluster2")
    deadline = time.monotonic() + 30
    with pytest.raises(ApiError, match="does not accept"):  # noqa: PT012 - the API remembers tokens for 10 s
        while time.monotonic() < deadline:
            api.with_token(tokens["cluster1"]).version()
            time.sleep(0.5)
    assert api.with_token(tokens["cluster3"]).list_objects("v1", "Service", "istio-system")
    assert states(mesh, "cluster3")["cluster2"] == "synced"
    told = acted(peering(mesh))
    assert "ServiceAccount istio-system/exomesh-reader-cluster1 in cluster2" in told["create"]
    assert told["change"] == {f"Secret istio-system/{REMOTE}cluster2 in cluster1"}
    assert token(mesh, "cluster1", "cluster2") != tokens["cluster1"]
    assert token(mesh, "cluster3", "cluster2") == tokens["cluster3"]


def test_an_address_of_another_cluster_is_found_out_from_inside(mesh: RunningLab, cluster2: Path) -> None:
    before = {name: in_istio(mesh, name, "secrets", REMOTE) for name in MEMBERS}
    address = client(mesh, "cluster3").server
    cluster2.write_text(yaml.safe_dump({"peering_server": address}))
    result = peering(mesh)
    assert result.returncode != 0
    for reader in ("cluster1", "cluster3"):
        assert (
            f"cluster {reader}: It does not get a secret for cluster2: its pods cannot use {address}"
            in said(result)
        )
    assert "curl says:" in said(result)
    assert "Set peering_server of cluster2" in said(result)
    assert {name: in_istio(mesh, name, "secrets", REMOTE) for name in MEMBERS} == before


def test_an_istiod_that_missed_a_secret_is_restarted(mesh: RunningLab) -> None:
    """Someone else's secret for the cluster comes first, so istiod ignores ours, also when theirs is gone."""
    ours = in_istio(mesh, "cluster1", "secrets", REMOTE)[f"{REMOTE}cluster2"]
    metadata = {"namespace": "istio-system", "labels": ours["metadata"]["labels"]}
    metadata["annotations"] = ours["metadata"]["annotations"]
    secrets = {
        name: json.dumps({**ours, "metadata": {**metadata, "name": name}})
        for name in ("theirs", f"{REMOTE}cluster2")
    }
    delete = ("delete", "secret", "-n", "istio-system")
    mesh.kubectl("cluster1", *delete, f"{REMOTE}cluster2")
    wait_for(lambda: "cluster2" not in states(mesh, "cluster1"), 60)
    mesh.kubectl("cluster1", "create", "-f", "-", stdin=secrets["theirs"])
    wait_for(lambda: "cluster2" in states(mesh, "cluster1"), 60)
    mesh.kubectl("cluster1", "create", "-f", "-", stdin=secrets[f"{REMOTE}cluster2"])
    mesh.kubectl("cluster1", *delete, "theirs")
    wait_for(lambda: "cluster2" not in states(mesh, "cluster1"), 60)
    told = done(peering(mesh, peering_timeout=20))
    assert {name: answer["restarted"] for name, answer in told.items() if answer["restarted"]} == {
        "cluster1": ["cluster1"]
    }
    assert states(mesh, "cluster1")["cluster2"] == "synced"


def test_accounts_change_over_and_back_without_a_lost_request(mesh: RunningLab) -> None:
    curl = "curl -s -o /dev/null -w '%{http_code}\\n' --max-time 5 http://exo-webtest:3000/"
    loop = f"while :; do {curl}; sleep 0.1; done"
    kubeconfig = mesh.path / "nodes" / "cluster1" / "etc" / "admin.kubeconfig"
    words = (
        mesh.path / "bin" / "kubectl",
        f"--kubeconfig={kubeconfig}",
        "exec",
        "-n",
        "exodemo",
        "deploy/curl",
    )
    with subprocess.Popen(
        [*words, "-c", "curl", "--", "sh", "-c", loop], stdout=subprocess.PIPE, text=True
    ) as traffic:
        to_shared = peering(mesh, peering_own_accounts=False)
        with_shared = {name: in_istio(mesh, name, "serviceaccounts", "exomesh-reader") for name in MEMBERS}
        to_own = peering(mesh)
        traffic.terminate()
        statuses = traffic.communicate()[0].split()
    assert len(statuses) > 20
    assert set(statuses) == {"200"}
    assert not any(with_shared.values())
    shared = {f"Secret istio-system/{SHARED_TOKEN} in {name}" for name in MEMBERS}
    assert acted(to_shared)["create"] == shared
    assert acted(to_own)["delete"] == shared
    assert changes(peering(mesh).stdout) == dict.fromkeys((*MEMBERS, "localhost"), 0)


def test_spokes_have_only_their_hub_and_a_limited_run_joins_one_to_all(
    mesh: RunningLab, cluster2: Path
) -> None:
    cluster2.write_text("mesh_hub: true\n")
    topology = ("-e", "mesh_topology=hub-and-spoke")
    assert peering(mesh, *topology).returncode == 0
    assert set(in_istio(mesh, "cluster1", "secrets", REMOTE)) == {f"{REMOTE}cluster2"}
    assert set(in_istio(mesh, "cluster3", "serviceaccounts", "exomesh-reader")) == {"exomesh-reader-cluster2"}
    assert set(in_istio(mesh, "cluster2", "secrets", REMOTE)) == {f"{REMOTE}cluster1", f"{REMOTE}cluster3"}
    verified = run_playbook(mesh, "playbooks/verify.yml", *topology)
    assert verified.returncode == 0, verified.stdout[-5000:]
    told = done(peering(mesh, "--limit", "cluster3"))
    assert list(told) == ["cluster3"]
    for reader, peer in (("cluster1", "cluster3"), ("cluster3", "cluster1")):
        assert states(mesh, reader)[peer] == "synced"


def test_istioctl_takes_the_secrets_for_its_own(mesh: RunningLab) -> None:
    kubeconfig = mesh.path / "nodes" / "cluster1" / "etc" / "admin.kubeconfig"
    listed = call(mesh.path / "bin" / "istioctl", f"--kubeconfig={kubeconfig}", "remote-clusters")
    assert listed.returncode == 0, listed.stderr
    assert len(re.findall(r"^cluster[23] .*synced", listed.stdout, re.M)) == 2
