"""mesh_diagnose on two real clusters: the way of one request, broken at one step after the other."""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.look import look
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.walk import agrees, walk
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.way import STOP, Step, Way, lines

from .runs import ISTIO_TOOLS, PROJECT, RunningLab, call, changes, run_playbook, tool_of_istio
from .secret_values import secret_values

DEMO = ("-n", "exodemo")
SYSTEM = ("-n", "istio-system")
EXPOSE = ("gateways.networking.istio.io", "cross-network-gateway")
SERVICE = "exo-webtest.exodemo:3000"
HOST = "exo-webtest.exodemo.svc.cluster.local"
SETTLES = 40.0

Fault = Callable[["Mesh"], Any]


class Mesh:
    """The mesh under test, and the ways to harm it. What is changed is put back when a context ends."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.members = [
            Member(
                name,
                f"network-{name}",
                str(lab.path / "mesh" / name / "kubeconfig"),
                host=name,
                inventory=(str(lab.inventory),),
            )
            for name in ("cluster1", "cluster2")
        ]

    def walked(self, service: str = SERVICE, request: bool = False) -> tuple[Way, list[Step], str]:
        way = look(self.members, "cluster1", service, "cluster2", request=request)
        steps = walk(way)
        return way, steps, "\n".join(lines(way, steps))

    def stops_at(self, service: str = SERVICE) -> tuple[str, str]:
        """The step at which the way stops, and what is said of it."""
        try:
            _way, steps, told = self.walked(service)
        except ExomeshError as error:
            return error.code, str(error)
        return next((step.name for step in steps if step.state == STOP), ""), told

    def run(self, command: str) -> str:
        """What a printed command says, pasted into a shell as it stands."""
        programs = (self.lab.path / "bin", Path(sys.executable).parent, os.environ["PATH"])
        environment = {**os.environ, "PATH": ":".join(map(str, programs))}
        result = call("bash", "-c", command, cwd=PROJECT, env=environment)
        assert result.returncode == 0, (command, result.stdout[-3000:], result.stderr)
        return result.stdout

    def settled(self, expected: str, words: str = "", service: str = SERVICE) -> str:
        """What is said when the way stops where it is expected to."""
        deadline = time.monotonic() + SETTLES
        while True:
            step, told = self.stops_at(service)
            if (step == expected and words in told) or time.monotonic() > deadline:
                assert step == expected, told
                assert words in told
                return told
            time.sleep(0.5)

    @contextmanager
    def added(self, cluster: str, obj: dict[str, Any]) -> Iterator[None]:
        where = ("-n", obj["metadata"]["namespace"])
        self.lab.kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(obj))
        try:
            yield
        finally:
            self.lab.kubectl(cluster, *where, "delete", f"{obj['kind']}/{obj['metadata']['name']}")

    @contextmanager
    def removed(self, cluster: str, *words: str) -> Iterator[None]:
        held = json.loads(self.lab.kubectl(cluster, "get", *words, "-o", "json"))
        for field in ("resourceVersion", "uid", "managedFields"):
            held["metadata"].pop(field, None)
        self.lab.kubectl(cluster, "delete", *words)
        try:
            yield
        finally:
            # A command that a diagnosis advises may have made it again.
            self.lab.kubectl(cluster, "delete", *words, "--ignore-not-found")
            self.lab.kubectl(cluster, "create", "-f", "-", stdin=json.dumps(held))

    @contextmanager
    def scaled_to_none(self, cluster: str) -> Iterator[None]:
        words = (*DEMO, "scale", "deployment/exo-webtest")
        self.lab.kubectl(cluster, *words, "--replicas=0")
        try:
            yield
        finally:
            self.lab.kubectl(cluster, *words, "--replicas=1")

    @contextmanager
    def without_sidecar(self, cluster: str) -> Iterator[None]:
        def inject(value: str | None) -> None:
            template = {"metadata": {"labels": {"sidecar.istio.io/inject": value}}}
            patch = json.dumps({"spec": {"template": template}})
            self.lab.kubectl(cluster, *DEMO, "patch", "deployment/exo-webtest", "-p", patch)
            self.lab.kubectl(cluster, *DEMO, "rollout", "status", "deployment/exo-webtest", "--timeout=60s")

        inject("false")
        try:
            yield
        finally:
            inject(None)

    @contextmanager
    def relabelled(self, cluster: str, network: str) -> Iterator[None]:
        words = (*DEMO, "label", "pods", "--selector=app=exo-webtest", "--overwrite")
        self.lab.kubectl(cluster, *words, f"topology.istio.io/network={network}")
        try:
            yield
        finally:
            self.lab.kubectl(cluster, *words, f"topology.istio.io/network=network-{cluster}")


def made(kind: str, group: str, name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A manifest."""
    return {
        "apiVersion": f"{group}.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


PLAIN = made(
    "DestinationRule", "networking", "plain", "exodemo", host=HOST, trafficPolicy={"tls": {"mode": "DISABLE"}}
)
TO_NO_SUBSET = made(
    "VirtualService",
    "networking",
    "canary",
    "exodemo",
    hosts=[HOST],
    http=[{"route": [{"destination": {"host": HOST, "subset": "v9"}}]}],
)
FOR_NO_PATH = made(
    "VirtualService",
    "networking",
    "narrow",
    "exodemo",
    hosts=[HOST],
    http=[{"match": [{"uri": {"prefix": "/api"}}], "route": [{"destination": {"host": HOST}}]}],
)
HIDES = made("Sidecar", "networking", "default", "exodemo", egress=[{"hosts": ["istio-system/*"]}])
NO_MTLS = made(
    "PeerAuthentication",
    "security",
    "plain",
    "exodemo",
    selector={"matchLabels": {"app": "exo-webtest"}},
    mtls={"mode": "DISABLE"},
)
NO_GOOD_CONFIGURATION = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "EnvoyFilter",
    "metadata": {"name": "wrong", "namespace": "exodemo"},
    "spec": {
        "configPatches": [
            {
                "applyTo": "CLUSTER",
                "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"service": HOST}},
                "patch": {"operation": "MERGE", "value": {"connect_timeout": "-1s"}},
            }
        ]
    },
}
NOBODY_IN = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "closed", "namespace": "istio-system"},
    "spec": {
        "podSelector": {"matchLabels": {"istio": "eastwestgateway"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": 15021}]}],
    },
}

FAULTS: dict[str, tuple[Fault, str, str]] = {
    "a configuration that Envoy rejects": (
        lambda mesh: mesh.added("cluster1", NO_GOOD_CONFIGURATION), "configuration", "positive duration",
    ),
    "a Sidecar that hides the service": (lambda mesh: mesh.added("cluster1", HIDES), "listener", "Sidecar"),
    "a remote secret that is gone": (
        lambda mesh: mesh.removed("cluster1", *SYSTEM, "secret", "istio-remote-secret-cluster2"),
        "listener", "cluster2 as not known",
    ),
    "a route to a subset that is not there": (
        lambda mesh: mesh.added("cluster1", TO_NO_SUBSET), "route", "has a subset v9",
    ),
    "routes of which none matches": (lambda mesh: mesh.added("cluster1", FOR_NO_PATH), "route", "no route"),
    "a DestinationRule with TLS DISABLE": (
        lambda mesh: mesh.added("cluster1", PLAIN), "cluster", "DestinationRule exodemo/plain",
    ),
    "pods that are taken for near ones": (
        lambda mesh: mesh.relabelled("cluster2", "network-cluster1"), "endpoints", "past its gateway",
    ),
    "an expose Gateway that is gone": (
        lambda mesh: mesh.removed("cluster2", *SYSTEM, *EXPOSE), "gateway", "exposes",
    ),
    "a NetworkPolicy before the gateway": (
        lambda mesh: mesh.added("cluster2", NOBODY_IN), "gateway", "istio-system/closed",
    ),
    "pods scaled to 0": (lambda mesh: mesh.scaled_to_none("cluster2"), "peer", "scaled to 0"),
    "mutual TLS that is off": (
        lambda mesh: mesh.added("cluster2", NO_MTLS), "peer", "PeerAuthentication exodemo/plain",
    ),
    "pods without a sidecar": (lambda mesh: mesh.without_sidecar("cluster2"), "peer", "no sidecar"),
}  # fmt: skip


@pytest.fixture(scope="module")
def mesh(mesh_of_two: RunningLab) -> Mesh:
    return Mesh(mesh_of_two)


def test_the_playbook_walks_a_good_way_to_its_end(mesh: Mesh) -> None:
    words = ("-e", "from=cluster1", "-e", "service=exo-webtest.exodemo")
    result = run_playbook(mesh.lab, "playbooks/diagnose.yml", *words)
    assert result.returncode == 0, result.stdout
    assert "Every step is well. Not looked at:" in result.stdout
    said = " ".join(result.stdout.split())  # without the line breaks of its YAML
    assert "GET http://exo-webtest.exodemo.svc.cluster.local:3000/: status 200" in said
    assert set(changes(result.stdout).values()) == {0}


@pytest.mark.parametrize("words", ISTIO_TOOLS)
def test_tools_of_istio_work_on_a_mesh_of_two(mesh: Mesh, tmp_path: Path, words: str) -> None:
    tool_of_istio(mesh.lab, words, tmp_path)


@pytest.fixture
def a_dead_one(mesh: Mesh, tmp_path: Path) -> Path:
    """Inventory with a third member, whose API does not answer."""
    kubeconfig = yaml.safe_load(Path(mesh.members[0].kubeconfig).read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    inventory = tmp_path / "dead.yml"
    dead = {"mesh_kubeconfig": str(tmp_path / "kubeconfig")}
    inventory.write_text(yaml.safe_dump({"mesh": {"hosts": {"cluster3": dead}}}))
    return inventory


def test_a_support_bundle_has_what_helps_and_no_secret(mesh: Mesh, a_dead_one: Path, tmp_path: Path) -> None:
    values = {"env": [{"name": "SOME_PASSWORD", "value": "not-to-be-seen"}]}
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "has-secrets", "namespace": "istio-system"},
        "data": {"password": "not-to-be-seen", "values": json.dumps(values)},
    }
    folder = tmp_path / "support"
    words = ("-i", str(a_dead_one), "-e", f"support_bundle_dir={folder}")
    with mesh.added("cluster1", config):
        result = run_playbook(mesh.lab, "playbooks/support_bundle.yml", *words)
    assert result.returncode == 0, result.stdout
    (path,) = folder.iterdir()
    assert str(path) in result.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        files = {
            name.partition("/")[2]: file.read().decode()
            for name in archive.getnames()
            if (file := archive.extractfile(name))
        }
    assert list(files) == sorted(files)

    everything = "\n".join(files.values())
    for what, forms in secret_values(mesh.lab, ("cluster1", "cluster2")).items():
        assert not [form for form in forms if form in everything or form in result.stdout], what
    assert "PRIVATE KEY-----" not in everything
    assert "not-to-be-seen" not in everything
    assert json.loads(files["redactions.json"])["clusters/cluster1/istio-system/ConfigMap.json"]
    assert "redacted: " in result.stdout

    for name in ("cluster1", "cluster2"):
        held = {
            file.removeprefix(f"clusters/{name}/") for file in files if file.startswith(f"clusters/{name}/")
        }
        expected = {"version.json", "Node.json", "istio/Gateway.networking.istio.io.json"}
        expected |= {
            f"istio-system/{kind}.json" for kind in ("ConfigMap", "Event", "Pod", "Secret", "Service")
        }
        assert expected <= held
        istiod = next(file for file in held if file.endswith("/clusterz.json"))
        assert {entry["id"] for entry in json.loads(files[f"clusters/{name}/{istiod}"])} == {
            "cluster1",
            "cluster2",
        }
        dump = next(file for file in held if file.startswith("gateways/"))
        assert "outbound_.3000_._.exo-webtest" in files[f"clusters/{name}/{dump}"]
        assert any(
            file.startswith("logs/istio-system/istiod-") and files[f"clusters/{name}/{file}"] for file in held
        )
        assert any(file.startswith("logs/istio-system/istio-eastwestgateway-") for file in held)
        secrets = {row["Name"] for row in json.loads(files[f"clusters/{name}/istio-system/Secret.json"])}
        assert "cacerts" in secrets
    assert json.loads(files["verification.json"])["schema"]
    versions = json.loads(files["versions.json"])
    assert all(versions.values()), versions

    problems = json.loads(files["problems.json"])
    assert "127.0.0.1:1 does not answer" in problems.pop("cluster3")[0]
    assert not problems
    assert "Not reached: cluster3" in files["README.txt"]
    assert "not read, cluster3" in result.stdout


def test_check_mode_tells_where_a_support_bundle_would_be(mesh: Mesh, tmp_path: Path) -> None:
    words = ("--check", "-e", f"support_bundle_dir={tmp_path / 'support'}")
    result = run_playbook(mesh.lab, "playbooks/support_bundle.yml", *words)
    assert result.returncode == 0, result.stdout
    assert "would be written" in result.stdout
    assert sum(changes(result.stdout).values()) == 1
    assert not (tmp_path / "support").exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_way_stops_where_it_is_broken(mesh: Mesh, fault: str) -> None:
    harm, step, words = FAULTS[fault]
    mesh.settled("")
    with ExitStack() as stack:
        stack.enter_context(harm(mesh))
        told = mesh.settled(step, words)
        (command,) = [line.partition("next: ")[2] for line in told.splitlines() if "next: " in line]
        said = mesh.run(command)
    print(f"\n{fault}:\n{told}\n{said}")
    mesh.settled("")


def test_the_playbook_fails_where_the_way_stops(mesh: Mesh) -> None:
    mesh.settled("")
    with mesh.added("cluster1", PLAIN):
        mesh.settled("cluster")
        words = ("-e", "from=cluster1", "-e", "to=cluster2", "-e", f"service={SERVICE}")
        result = run_playbook(mesh.lab, "playbooks/diagnose.yml", *words)
    assert result.returncode != 0
    said = " ".join(result.stdout.split())  # without the line breaks of its YAML
    assert "request GET http://exo-webtest.exodemo.svc.cluster.local:3000/: status 503" in said
    assert "The way stops at cluster" in said
    assert "-n exodemo get destinationrule plain -o yaml" in said


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (("cluster9", SERVICE), "unknown_member", "cluster1, cluster2"),
        (("cluster1", "nobody.exodemo"), "unknown_service", "exo-webtest"),
        (("cluster1", "exo-webtest.exodemo:80"), "unknown_port", "3000"),
        (("cluster1", "http://x"), "unknown_service", "NAME.NAMESPACE"),
        (("cluster1", SERVICE, "", "exodemo/nobody"), "no_sidecar", "no such pod"),
    ],
)
def test_what_is_not_there_is_said(mesh: Mesh, asked: tuple[str, ...], code: str, words: str) -> None:
    with pytest.raises(ExomeshError) as caught:
        look(mesh.members, *asked)
    assert caught.value.code == code
    assert words in str(caught.value)


# Ways that are split, answered on the way, or made by hand

HOME = "home.exodemo.svc.cluster.local"


def port_of(name: str, **spec: Any) -> dict[str, Any]:
    """A Service in the demo's namespace, at the port of its page."""
    ports = [{"name": "http", "port": 3000, **spec.pop("port", {})}]
    metadata = {"name": name, "namespace": "exodemo"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, **spec}}


def routed(*http: dict[str, Any]) -> dict[str, Any]:
    return made("VirtualService", "networking", "routed", "exodemo", hosts=[HOST], http=list(http))


@pytest.fixture(scope="module")
def home(mesh: Mesh) -> Iterator[None]:
    """The page once more, in cluster1 and under another name."""
    found = json.loads(mesh.lab.kubectl("cluster2", *DEMO, "get", "deployment/exo-webtest", "-o=json"))
    labels = {"app": "home"}
    found["spec"]["selector"] = {"matchLabels": labels}
    found["spec"]["template"]["metadata"]["labels"] = labels
    page = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "home", "namespace": "exodemo"},
        "spec": found["spec"],
    }
    with mesh.added("cluster1", port_of("home", selector=labels)), mesh.added("cluster1", page):
        mesh.lab.kubectl("cluster1", *DEMO, "rollout", "status", "deployment/home", "--timeout=60s")
        yield


def checked(mesh: Mesh, service: str = SERVICE) -> tuple[int, str]:
    """The status of a real request that agrees with all steps. Old connections end after a moment."""
    deadline = time.monotonic() + SETTLES
    while True:
        way, steps, told = mesh.walked(service, request=True)
        if agrees(way, steps) or time.monotonic() > deadline:
            assert agrees(way, steps), told
            return way.sent.status, told
        time.sleep(0.5)


@pytest.mark.usefixtures("home")
def test_a_share_that_is_answered_at_home_does_not_stop_the_way(mesh: Mesh) -> None:
    shares = [{"destination": {"host": host}, "weight": 50} for host in (HOST, HOME)]
    with mesh.added("cluster1", routed({"route": shares})):
        told = mesh.settled("", f"50 % to outbound|3000||{HOME}")
        assert "50 % to home.exodemo.svc.cluster.local, cluster1" in told
        assert checked(mesh)[0] == 200


@pytest.mark.usefixtures("home")
def test_a_redirect_is_followed(mesh: Mesh) -> None:
    with mesh.added("cluster1", routed({"redirect": {"authority": f"{HOME}:3000", "redirectCode": 302}})):
        mesh.settled("", f"the sidecar answers with 302 to http://{HOME}:3000/")
        assert checked(mesh)[0] == 200


def test_an_injected_fault_stops_the_way(mesh: Mesh) -> None:
    abort = {"httpStatus": 503, "percentage": {"value": 100}}
    with mesh.added(
        "cluster1", routed({"fault": {"abort": abort}, "route": [{"destination": {"host": HOST}}]})
    ):
        mesh.settled("route", "fault.abort")
        assert checked(mesh)[0] == 503


def test_a_service_whose_endpoints_were_made_by_hand_works(mesh: Mesh) -> None:
    words = ("get", "pods", "-l=app=exo-webtest", "-o=jsonpath={.items[0].status.podIP}")
    address = mesh.lab.kubectl("cluster2", *DEMO, *words)
    by_hand = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "by-hand-1",
            "namespace": "exodemo",
            "labels": {"kubernetes.io/service-name": "by-hand"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 3000}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }
    service = "by-hand.exodemo:3000"
    with mesh.added("cluster2", port_of("by-hand")), mesh.added("cluster2", by_hand):
        mesh.settled("", f"its endpoints were made by hand: {address}:3000", service)
        assert checked(mesh, service)[0] == 200


def test_a_policy_that_refuses_the_request_is_named(mesh: Mesh) -> None:
    here = [{"from": [{"source": {"namespaces": ["exodemo"]}}]}]
    closed = made("AuthorizationPolicy", "security", "closed", "exodemo", action="DENY", rules=here)
    with mesh.added("cluster2", closed):
        mesh.settled("peer", "AuthorizationPolicy exodemo/closed denies it")
        status, told = checked(mesh)
        assert status == 403
        assert "RBAC: access denied" in told


def test_a_real_request_that_disagrees_stops_the_way(mesh: Mesh) -> None:
    """A Service that names a port at which nobody listens: no proxy knows that."""
    service = "deaf.exodemo:3000"
    deaf = port_of("deaf", selector={"app": "exo-webtest"}, port={"targetPort": 9999})
    with mesh.added("cluster2", deaf):
        mesh.settled("", service=service)
        way, steps, told = mesh.walked(service, request=True)
        assert steps[-1].state == STOP, told
        assert agrees(way, steps) is False
        assert "which disagrees with the steps above" in told
        mesh.run(steps[-1].next_step)
