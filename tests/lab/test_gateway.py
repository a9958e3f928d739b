"""The east-west gateway on two real clusters: load balancer, address, what it lets in, and its two forms."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from exolab import build, cloud_state, layout, load_balancers

from .runs import PROJECT, RunningLab, call, changes, run_playbook

GATEWAY = ("-n", "istio-system", "service/istio-eastwestgateway")
NLB = {
    "name": "mesh-cluster2",
    "description": "east-west gateway",
    "node_pool": "second",
    "strategy": "source-hash",
    "health_check": {"mode": "http", "path": "/healthz/ready", "interval": 20, "timeout": 4, "retries": 2},
}


def configure(lab: RunningLab, **variables: Any) -> None:
    """Set variables of cluster2, in place of those before."""
    folder = lab.inventory / "host_vars"
    folder.mkdir(exist_ok=True)
    (folder / "cluster2.yml").write_text(yaml.safe_dump({"gateway_nlb": NLB, **variables}))


def gateway(lab: RunningLab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the gateway's playbook for cluster2."""
    return run_playbook(lab, "playbooks/gateway.yml", "--limit=cluster2,localhost", "--diff", *arguments)


def changed(result: subprocess.CompletedProcess[str]) -> int:
    assert result.returncode == 0, result.stdout[-5000:]
    return changes(result.stdout)["cluster2"]


def page(lab: RunningLab, host: str = "exo-webtest", seconds: int = 3) -> bool:
    """Whether a page of cluster2 comes to cluster1."""
    url = ("--max-time", str(seconds), f"http://{host}.exodemo:3000/")
    words = ("exec", "-n", "exodemo", "deploy/curl", "-c", "curl", "--", "curl", "--silent", *url)
    return "VERSION: v2" in lab.kubectl("cluster1", *words, check=False)


def end_connections(lab: RunningLab) -> None:
    """Give cluster1 a new client. Open connections go on, whatever a gateway lets in from now on."""
    lab.kubectl("cluster1", "rollout", "restart", "deploy/curl", "-n", "exodemo")
    lab.kubectl("cluster1", "rollout", "status", "deploy/curl", "-n", "exodemo", "--timeout=60s")


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def balancer(lab: RunningLab, name: str) -> load_balancers.LoadBalancer:
    (found,) = [
        entry for entry in load_balancers.LoadBalancers(lab.path / "cloud").all() if entry.name == name
    ]
    return found


def record(lab: RunningLab) -> layout.Record:
    found = layout.Record.load(lab.name)
    assert found
    return found


def healthy(lab: RunningLab) -> bool:
    result = run_playbook(lab, "playbooks/verify.yml")
    assert result.returncode == 0, result.stdout[-5000:]
    return True


@pytest.fixture(scope="module")
def mesh(mesh_of_two: RunningLab) -> RunningLab:
    """Two clusters in one mesh; the second one has two node pools, and a new gateway."""
    lab = mesh_of_two
    cloud = lab.path / "cloud"
    state = cloud_state.load(cloud)
    first, second = state.clusters
    pools = (*second.nodepools, cloud_state.NodePool("0b9ad4b8-6a4c-4f2e-9f0a-3c1b8a6a2a11", "second", 1))
    cloud_state.save(
        cloud, dataclasses.replace(state, clusters=(first, dataclasses.replace(second, nodepools=pools)))
    )
    configure(lab)
    lab.kubectl("cluster2", "delete", *GATEWAY)
    assert changed(gateway(lab)) == 1
    # A second name for the page, to tell what is exposed from what is not.
    service = lab.kubectl("cluster2", "get", "service", "-n", "exodemo", "exo-webtest", "-o=json")
    spec = {key: json.loads(service)["spec"][key] for key in ("selector", "ports")}
    other = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"}, "spec": spec}
    lab.kubectl("cluster2", "create", "-n", "exodemo", "-f", "-", stdin=json.dumps(other))
    return lab


def test_the_load_balancer_is_as_described(mesh: RunningLab) -> None:
    made = balancer(mesh, "mesh-cluster2")
    assert made.description == "east-west gateway"
    assert [service.port for service in made.services] == [15021, 15443]
    for service in made.services:
        assert service.instance_pool == "0b9ad4b8-6a4c-4f2e-9f0a-3c1b8a6a2a11"
        assert service.strategy == "source-hash"
        check = dataclasses.asdict(service.healthcheck)
        assert check.pop("port") == service.target_port
        assert check == {"mode": "http", "uri": "/healthz/ready", "interval": 20, "timeout": 4, "retries": 2}


def test_an_address_that_does_not_come_is_explained_by_what_the_cluster_says(mesh: RunningLab) -> None:
    """As the gateway of a cluster with two node pools would, where none is named."""
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "poolless"}, "spec": spec}
    mesh.kubectl("cluster2", "create", "-f", "-", stdin=json.dumps(service))
    options = f"kubeconfig={mesh.path}/mesh/cluster2/kubeconfig namespace=default name=poolless timeout=3"
    ansible = PROJECT / ".venv" / "bin" / "ansible"
    words = (
        ansible,
        "-i",
        mesh.inventory,
        "cluster2",
        "-m",
        "exomesh.istio.load_balancer_info",
        "-a",
        options,
    )
    said = " ".join(call(*words, cwd=PROJECT).stdout.split())
    assert "multiple Instance Pools detected" in said
    assert "gateway_nlb.node_pool" in said
    mesh.kubectl("cluster2", "delete", "service", "poolless", "--timeout=20s")


def test_only_what_is_exposed_answers_and_only_from_where_it_may(mesh: RunningLab) -> None:
    assert eventually(lambda: page(mesh) and page(mesh, "other"))
    peer = record(mesh).members[0].address
    configure(
        mesh,
        gateway_expose_hosts=["exo-webtest.exodemo.svc.cluster.local"],
        gateway_source_ranges=[f"{peer}/32"],
    )
    assert changed(gateway(mesh)) == 1
    end_connections(mesh)
    assert eventually(lambda: not page(mesh, "other"))
    assert page(mesh)
    # Somebody forgets a peer.
    forgotten = {"spec": {"loadBalancerSourceRanges": ["203.0.113.0/24"]}}
    mesh.kubectl("cluster2", "patch", *GATEWAY, f"--patch={json.dumps(forgotten)}")
    end_connections(mesh)
    assert eventually(lambda: not page(mesh))
    assert changed(gateway(mesh)) == 1
    assert eventually(lambda: page(mesh))
    configure(mesh)
    assert changed(gateway(mesh)) == 1
    assert eventually(lambda: page(mesh) and page(mesh, "other"))


def test_an_address_that_changes_is_noticed_and_told(mesh: RunningLab) -> None:
    former = balancer(mesh, "mesh-cluster2").ip
    new = str(list(record(mesh).members[1].load_balancers.hosts())[70])
    mesh.kubectl("cluster2", "patch", *GATEWAY, f'--patch={{"spec": {{"loadBalancerIP": "{new}"}}}}')
    assert eventually(lambda: balancer(mesh, "mesh-cluster2").ip == new)
    result = gateway(mesh)
    assert changed(result) == 1
    assert f"has the address {new} now, no longer {former}" in words_of(result)
    assert changed(gateway(mesh)) == 0
    assert healthy(mesh)


@pytest.fixture
def named(mesh: RunningLab) -> Iterator[str]:
    """cluster2's gateway has a name in place of an address."""
    name = "gateway.cluster2.example"
    mesh.kubectl("cluster2", "annotate", *GATEWAY, f"exolab/hostname={name}")
    yield name
    mesh.kubectl("cluster2", "annotate", *GATEWAY, "exolab/hostname-")


def test_a_gateway_that_is_known_by_a_name_serves_its_peers(mesh: RunningLab, named: str) -> None:
    ingress = "-o=jsonpath={.status.loadBalancer.ingress}"
    told = f'[{{"hostname":"{named}"}}]'
    assert eventually(lambda: told in mesh.kubectl("cluster2", "get", *GATEWAY, ingress))
    result = gateway(mesh)
    assert changed(result) == 1
    assert f"has the address {named} now" in words_of(result)
    assert healthy(mesh)


def test_gateway_api_takes_the_gateways_place_without_an_outage_and_gives_it_back(mesh: RunningLab) -> None:
    for name in ("cluster1", "cluster2"):
        crds = f"--filename={build.gateway_api_crds()}"
        mesh.kubectl(name, "apply", "--server-side", "--force-conflicts", crds)
    predicted = gateway(mesh, "--check", "-e", "gateway_api=true")
    assert eventually(lambda: page(mesh))
    with requests_going_on(mesh) as answers:
        configure(mesh, gateway_api=True)
        result = gateway(mesh)
        assert changed(result) == changed(predicted) == 1
        assert diff_of(result) == diff_of(predicted)
        assert changed(gateway(mesh)) == 0
        assert healthy(mesh)
        services = mesh.kubectl("cluster2", "get", "services", "-n", "istio-system", "-o=name").split()
        assert "service/istio-eastwestgateway-istio" in services
        assert "service/istio-eastwestgateway" not in services
        configure(mesh)
        assert changed(gateway(mesh)) == 1
    assert answers["200"] > 100
    assert set(answers) == {"200"}
    assert mesh.kubectl("cluster2", "get", "gateways.gateway.networking.k8s.io", "-A", "-o=name") == ""


@contextmanager
def requests_going_on(lab: RunningLab) -> Iterator[Counter[str]]:
    """Requests one after the other from cluster1 to cluster2; afterwards how many had which status."""
    request = "curl -s -m 10 -o /dev/null -w '%{http_code}\\n' http://exo-webtest:3000/"
    loop = f"while sleep 0.1; do {request}; done"
    kubeconfig = lab.path / "nodes" / "cluster1" / "etc" / "admin.kubeconfig"
    command = [str(lab.path / "bin" / "kubectl"), f"--kubeconfig={kubeconfig}", "exec", "-n", "exodemo"]
    command += ["deploy/curl", "-c", "curl", "--", "timeout", "600", "sh", "-c", loop]
    answers: Counter[str] = Counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield answers
        finally:
            process.terminate()
            answers.update(process.communicate()[0].split())


def words_of(result: subprocess.CompletedProcess[str]) -> str:
    return " ".join((result.stdout + result.stderr).split())


def diff_of(result: subprocess.CompletedProcess[str]) -> list[str]:
    return sorted(line for line in result.stdout.splitlines() if line.startswith(("+", "-")))
