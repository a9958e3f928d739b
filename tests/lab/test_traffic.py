"""Requests from outside and within, on two real clusters: split, moved, mirrored, while a cluster is away."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
from exolab import build

from .runs import RunningLab, changes, end_playbook, run_playbook, wait_for

MEMBERS = ("cluster1", "cluster2")
CLUSTERS = {"v1": "cluster1", "v2": "cluster2", "v3": "cluster2"}
RULES = [
    {"version": "v2", "headers": {"x-beta": "yes"}},
    {"version": "v2", "cookie": {"name": "group", "value": "beta"}},
]
SERVICE = "http://exo-webtest.exotraffic:3000/"


def extra(**variables: object) -> tuple[str, str]:
    return "-e", json.dumps(variables)


def route(
    lab: RunningLab,
    weights: dict[str, int] | None = None,
    *options: str,
    failing: str = "",
    check: bool = True,
    **variables: object,
) -> subprocess.CompletedProcess[str]:
    """The versions with these weights, or those that they have; no rules and no mirror but those given.

    :param failing: a version that is ready, and yet every request to it fails.
    """
    versions: list[dict[str, Any]] = [{"name": name, "clusters": [where]} for name, where in CLUSTERS.items()]
    for version in versions:
        if weights:
            version["weight"] = weights.get(version["name"], 0)
        if version["name"] == failing:
            version["environment"] = {"FAIL_PERCENT": "100"}
    given = extra(traffic_versions=versions, **variables)
    result = run_playbook(lab, "playbooks/traffic.yml", *given, *options)
    assert not check or result.returncode == 0, result.stdout[-5000:]
    return result


def weights_of(lab: RunningLab, cluster: str) -> dict[str, int]:
    found = json.loads(
        lab.kubectl(cluster, "get", "virtualservice", "-n", "exotraffic", "exo-webtest", "-o=json")
    )
    return {
        entry["destination"]["subset"]: entry.get("weight", 0) for entry in found["spec"]["http"][-1]["route"]
    }


class Ingress:
    """The ingress gateways of the members, as a client outside sees them."""

    def __init__(self, lab: RunningLab) -> None:
        path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}"
        service = ("get", "service", "-n", "istio-ingress", "istio-ingressgateway", path)
        self.addresses = [lab.kubectl(name, *service) for name in MEMBERS]

    def ask(self, number: int, headers: dict[str, str] | None = None) -> str:
        """The version that answered, or what went wrong."""
        connection = HTTPConnection(self.addresses[number % len(self.addresses)], timeout=10)
        try:
            connection.request("GET", "/", headers=headers or {})
            answer = connection.getresponse()
            version = re.search(r"VERSION: (\w+)", answer.read().decode())
            return version[1] if version and answer.status == 200 else f"status {answer.status}"
        except (OSError, HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()

    def ask_often(self, count: int, headers: dict[str, str] | None = None) -> Counter[str]:
        with ThreadPoolExecutor(4) as pool:
            return Counter(pool.map(lambda number: self.ask(number, headers), range(count)))

    @contextmanager
    def load(self) -> Iterator[Counter[str]]:
        """Requests that go on all the while; who answered them is known at the end."""
        answers: Counter[str] = Counter()
        stop = threading.Event()

        def ask() -> None:
            number = 0
            while not stop.wait(0.02):
                answers[self.ask(number := number + 1)] += 1

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield answers
        finally:
            stop.set()
            thread.join()


def replicas(lab: RunningLab, namespace: str, name: str) -> int:
    path = "-o=jsonpath={.spec.replicas}"
    return int(lab.kubectl("cluster1", "get", "deployment", "-n", namespace, name, path))


@pytest.fixture(scope="module")
def mesh(mesh_of_two: RunningLab) -> RunningLab:
    return mesh_of_two


@pytest.fixture(scope="module")
def ingress(mesh: RunningLab) -> Ingress:
    """v1 in one cluster and v2 in the other at 80 and 20 %, A/B for v2, and every request mirrored to v3."""
    route(mesh, {"v1": 80, "v2": 20}, traffic_rules=RULES, traffic_mirror={"version": "v3"})
    ingress = Ingress(mesh)
    wait_for(lambda: set(ingress.ask_often(40)) == {"v1", "v2"}, 60)
    return ingress


def test_the_demo_works_for_any_pair_and_without_dns_capture_of_the_mesh(mesh: RunningLab) -> None:
    pair = extra(demo_server_cluster="cluster2", demo_client_cluster="cluster1", istio_dns_capture=False)
    result = run_playbook(mesh, "playbooks/demo.yml", *pair)
    assert result.returncode == 0, result.stdout[-5000:]
    assert "VERSION: v2" in result.stdout
    assert "DEPRECATION" not in result.stdout + result.stderr


def test_a_thousand_requests_are_split_by_weight(ingress: Ingress) -> None:
    answers = ingress.ask_often(1000)
    print(f"\n80/20: {dict(answers)}")
    assert answers["v1"] + answers["v2"] == 1000
    # 99.9 % of fair splits are within 3.29 standard deviations.
    assert abs(answers["v2"] - 200) <= 3.29 * math.sqrt(1000 * 0.2 * 0.8)


@pytest.mark.parametrize(
    "headers", [{"X-Beta": "yes"}, {"Cookie": "a=1; group=beta; z=2"}], ids=["header", "cookie"]
)
def test_a_header_or_a_cookie_chooses_the_version(ingress: Ingress, headers: dict[str, str]) -> None:
    assert ingress.ask_often(40, headers) == {"v2": 40}


@pytest.mark.parametrize("headers", [{"X-Beta": "no"}, {"Cookie": "group=betamax"}], ids=["header", "cookie"])
def test_another_value_does_not(ingress: Ingress, headers: dict[str, str]) -> None:
    assert ingress.ask_often(60, headers)["v1"] > 20


def test_the_shadow_gets_every_request_and_nobody_its_answers(mesh: RunningLab, ingress: Ingress) -> None:
    def mirrored() -> int:
        words = ("logs", "-n", "exotraffic", "deploy/exo-webtest-v3", "-c", "server", "--tail=-1")
        return mesh.kubectl("cluster2", *words).count("GET ")  # its weight is 0: there are no others

    before = mirrored()
    answers = ingress.ask_often(200)
    assert answers["v1"] + answers["v2"] == 200
    wait_for(lambda: mirrored() - before >= 200, 10)
    assert mirrored() - before == 200


def test_a_shift_loses_no_request(mesh: RunningLab, ingress: Ingress) -> None:
    route(mesh, {"v1": 100}, failing="v3")
    shift = ("playbooks/shift_traffic.yml", *extra(traffic_shift_seconds=3))
    plan = run_playbook(mesh, *shift, "--check")
    assert "then: 10 %, 50 %, 100 %" in plan.stdout
    assert weights_of(mesh, "cluster1") == {"v1": 100, "v2": 0, "v3": 0}
    with ingress.load() as answers:
        result = run_playbook(mesh, *shift)
    assert result.returncode == 0, result.stdout[-5000:]
    print(
        "\n0 to 100 %:",
        *re.findall(r"v2 at +\d+ %: .*", result.stdout),
        f"load meanwhile: {dict(answers)}",
        sep="\n  ",
    )
    assert set(answers) == {"v1", "v2"}
    assert [weights_of(mesh, name) for name in MEMBERS] == [{"v1": 0, "v2": 100, "v3": 0}] * 2
    again = run_playbook(mesh, *shift)
    assert changes(again.stdout)["cluster1"] == 0
    assert "nothing is left to do" in again.stdout


def test_the_route_keeps_what_a_shift_did(mesh: RunningLab, ingress: Ingress) -> None:
    result = route(mesh, None, "--diff", failing="v3")
    assert changes(result.stdout) == dict.fromkeys([*MEMBERS, "localhost"], 0)
    assert weights_of(mesh, "cluster2") == {"v1": 0, "v2": 100, "v3": 0}


def test_a_version_that_fails_is_rolled_back(mesh: RunningLab, ingress: Ingress) -> None:
    variables = extra(traffic_shift_from="v2", traffic_shift_to="v3", traffic_shift_seconds=3)
    result = run_playbook(mesh, "playbooks/shift_traffic.yml", *variables)
    assert result.returncode != 0
    output = " ".join(result.stdout.split())
    assert "Rolled back to v2, as with v3 at 10 %" in output
    assert "requests are answered again" in output
    print("\nv3:", *re.findall(r"v3 at +\d+ %: .*", result.stdout), sep="\n  ")
    assert [weights_of(mesh, name) for name in MEMBERS] == [{"v1": 0, "v2": 100, "v3": 0}] * 2
    assert ingress.ask_often(50) == {"v2": 50}


def test_a_shift_that_is_killed_goes_on_where_it_was(mesh: RunningLab, ingress: Ingress) -> None:
    route(mesh, {"v2": 100})
    variables = extra(traffic_shift_from="v2", traffic_shift_to="v1", traffic_shift_seconds=4)
    moved = lambda: weights_of(mesh, "cluster2")["v1"] >= 10  # noqa: E731
    end_playbook(signal.SIGKILL, moved, mesh, "playbooks/shift_traffic.yml", *variables)
    plan = run_playbook(mesh, "playbooks/shift_traffic.yml", *variables, "--check")
    assert "v1 has 10 %, then: 50 %, 100 %" in plan.stdout
    result = run_playbook(mesh, "playbooks/shift_traffic.yml", *variables)
    assert result.returncode == 0, result.stdout[-5000:]
    assert "v1 at   0 %" not in result.stdout
    assert [weights_of(mesh, name) for name in MEMBERS] == [{"v1": 100, "v2": 0, "v3": 0}] * 2


def test_requests_leave_a_cluster_whose_pods_are_ready_and_fail(mesh: RunningLab, ingress: Ingress) -> None:
    """Nobody removes these endpoints: outlier detection has to find them, and locality to choose the next."""
    route(mesh, failing="v1")
    asked = ("--silent", "--max-time", "5", "--rate", "600/m", "--output", "/dev/null")
    words = ("exec", "-n", "exodemo", "deploy/curl", "-c", "curl", "--", "curl", *asked)
    output = mesh.kubectl(
        "cluster1", *words, "--write-out", "%{http_code} ", f"{SERVICE}#[1-60]", check=False
    )
    statuses = output.split()
    print(f"\nailing pods in cluster1: {statuses.count('500')} of {len(statuses)} requests got 500")
    assert statuses[-20:] == ["200"] * 20
    assert statuses.count("200") > 30


@pytest.fixture(scope="module")
def well(mesh: RunningLab, ingress: Ingress) -> None:
    """Every version works."""
    route(mesh)


def test_the_gateway_api_is_another_form_of_the_same(mesh: RunningLab, ingress: Ingress) -> None:
    form = {"traffic_form": "gateway-api", "traffic_rules": RULES}
    refused = route(mesh, check=False, **form)
    assert "does not have the kinds of the Gateway API" in " ".join(refused.stdout.split())
    for name in MEMBERS:
        crds = f"--filename={build.gateway_api_crds()}"
        mesh.kubectl(name, "apply", "--server-side", "--force-conflicts", crds)
    route(mesh, {"v1": 50, "v2": 50}, **form)
    assert not mesh.kubectl("cluster1", "get", "virtualservices", "-n", "exotraffic", "-o=name")
    beta = {"Cookie": "group=beta"}
    wait_for(
        lambda: set(ingress.ask_often(40)) == {"v1", "v2"} and set(ingress.ask_often(40, beta)) == {"v2"}, 60
    )
    shift = extra(traffic_form="gateway-api", traffic_shift_seconds=2)
    result = run_playbook(mesh, "playbooks/shift_traffic.yml", *shift)
    assert result.returncode == 0, result.stdout[-5000:]
    assert "v2 has 50 %, then: 100 %" in result.stdout
    assert ingress.ask_often(40) == {"v2": 40}
    route(mesh, {"v1": 100})
    assert not mesh.kubectl("cluster1", "get", "httproutes", "-n", "exotraffic", "-o=name")
    wait_for(lambda: set(ingress.ask_often(40)) == {"v1"}, 60)


DRILL = extra(failover_drill_cluster="cluster1", failover_drill_confirm="cluster1", failover_drill_hold=5)


@pytest.mark.usefixtures("well")
def test_a_drill_moves_requests_and_restores_the_cluster(mesh: RunningLab) -> None:
    refused = run_playbook(mesh, "playbooks/failover_drill.yml")
    assert refused.returncode != 0
    assert "failover_drill_confirm=cluster1" in " ".join(refused.stdout.split())
    result = run_playbook(mesh, "playbooks/failover_drill.yml", *DRILL)
    assert result.returncode == 0, result.stdout[-5000:]
    said = " ".join(result.stdout.split())
    print("\nfailover drill:", *re.findall(r"asked from .*?(?=' - |' PLAY)", said), sep="\n  ")
    assert "asked from cluster1: answered by cluster1, drained by cluster2" in said
    assert re.search(
        r"asked from cluster2: answered by cluster2, drained by cluster2; \d+ requests, 0 failed", said
    )
    assert replicas(mesh, "exotraffic", "exo-webtest-v1") == 1
    assert replicas(mesh, "istio-system", "istio-eastwestgateway") == 1


def end_drained(mesh: RunningLab, number: signal.Signals, **environment: str) -> str:
    """A drill that is ended while the cluster is drained; what it said."""

    def drained() -> bool:
        return replicas(mesh, "istio-system", "istio-eastwestgateway") == 0

    return end_playbook(number, drained, mesh, "playbooks/failover_drill.yml", *DRILL, **environment)


def is_restored(mesh: RunningLab) -> bool:
    annotations = mesh.kubectl(
        "cluster1", "get", "deployment", "-A", "-o=jsonpath={.items[*].metadata.annotations}"
    )
    return (
        replicas(mesh, "istio-system", "istio-eastwestgateway") == 1
        and replicas(mesh, "exotraffic", "exo-webtest-v1") == 1
        and "drill" not in annotations
    )


@pytest.mark.usefixtures("well")
def test_a_drill_that_is_killed_is_restored_by_the_next_run(mesh: RunningLab) -> None:
    end_drained(mesh, signal.SIGKILL)
    assert not is_restored(mesh)
    result = run_playbook(mesh, "playbooks/failover_drill.yml", *extra(failover_drill_state="restored"))
    assert result.returncode == 0, result.stdout[-5000:]
    assert changes(result.stdout)["cluster1"] == 1
    assert is_restored(mesh)


@pytest.mark.usefixtures("well")
@pytest.mark.parametrize(
    ("number", "environment"),
    [(signal.SIGINT, {}), (signal.SIGTERM, {"EXOMESH_MODULE_PROCESSES": "1"})],
    ids=["Ctrl-C in the process of the task", "SIGTERM in a process of its own"],
)
def test_a_drill_that_is_ended_restores_the_cluster(
    mesh: RunningLab, number: signal.Signals, environment: dict[str, str]
) -> None:
    end_drained(mesh, number, **environment)
    assert is_restored(mesh)
    for member in MEMBERS:
        listed = partial(mesh.kubectl, member, "get", "deployments,pods", "-A", "-o=name")
        wait_for(lambda listed=listed: "exomesh-drill-client" not in listed(), 30)


def test_one_variable_removes_it_all(mesh: RunningLab, ingress: Ingress) -> None:
    removal = ("playbooks/demo.yml", *extra(demo_state="absent"))
    result = run_playbook(mesh, *removal)
    assert result.returncode == 0, result.stdout[-5000:]
    for name in MEMBERS:
        everything = mesh.kubectl(
            name,
            "get",
            "namespaces,services,deployments,virtualservices,destinationrules,gateways.networking.istio.io,"
            "peerauthentications,clusterroles,clusterrolebindings",
            "--all-namespaces",
            "-o=name",
        )
        assert not re.findall(r"exodemo|exotraffic|exo-webtest|istio-ingress|curl", everything)
    again = run_playbook(mesh, *removal)
    assert changes(again.stdout) == dict.fromkeys([*MEMBERS, "localhost"], 0)
