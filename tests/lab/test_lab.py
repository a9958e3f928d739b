"""The lab itself: what it gives, what it survives, and that nothing of it stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from exolab import cgroups, layout

from .runs import PROGRAM, RunningLab, call


def traces(name: str) -> dict[str, list[str]]:
    """Everything on this machine that belongs to lab `name`, by kind."""
    return {
        "processes": sorted(map(str, cgroups.processes(f"exolab-{name}"))),
        "namespaces": [path.name for path in Path("/run/netns").glob(f"exolab-{name}-*")],
        "control groups": [str(path) for path in Path("/sys/fs/cgroup").rglob(f"exolab-{name}")],
        "mounts": [
            line for line in Path("/proc/mounts").read_text().splitlines() if f"/exolab/{name}/" in line
        ],
        "files": [str(path) for path in Path("/var/lib/exolab").glob(name)],
        "routes and interfaces": [
            line for line in call("ip", "-4", "route").stdout.splitlines() if "198.18." in line
        ],
    }


def daemons(lab: RunningLab) -> dict[int, str]:
    """Process ids of the lab's daemons and what they run; what these start and end is not among them."""
    found = {}
    for process in cgroups.processes(f"exolab-{lab.name}"):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
            if f"/exolab/{lab.name}/" in command:
                found[process] = command
    return found


def kill_all(lab: RunningLab) -> None:
    """Kill whatever belongs to the lab, without a word to it."""
    for process in cgroups.processes(f"exolab-{lab.name}"):
        with contextlib.suppress(ProcessLookupError):  # it died with one before it
            os.kill(process, signal.SIGKILL)


def eventually(check: Callable[[], bool], timeout: float = 60) -> bool:
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


@pytest.fixture(scope="module")
def two(lab: RunningLab) -> RunningLab:
    lab.up(2)
    return lab


def service(name: str, ports: int) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {
                "type": "LoadBalancer",
                "ports": [{"name": f"p{port}", "port": port} for port in range(8000, 8000 + ports)],
            },
        }
    )


def test_clusters_look_like_sks(two: RunningLab) -> None:
    status = two.status()
    assert [cluster["zone"] for cluster in status["clusters"]] == ["de-fra-1", "at-vie-2"]
    assert all(cluster["ready"] for cluster in status["clusters"])
    for cluster in status["clusters"]:
        assert set(cluster["daemons"].values()) == {"RUNNING"}
        node = json.loads(two.kubectl(cluster["name"], "get", "nodes", "--output=json"))["items"][0]
        assert node["spec"]["podCIDR"] == "192.168.0.0/24"
        assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == cluster["zone"]
        assert (
            two.kubectl(cluster["name"], "get", "svc", "kubernetes", "-o=jsonpath={.spec.clusterIP}")
            == "10.96.0.1"
        )


def test_a_kubeconfig_from_exo_has_the_rights_of_its_groups(two: RunningLab, tmp_path: Path) -> None:
    settings = yaml.safe_load((two.inventory / "group_vars" / "mesh.yml").read_text())
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "EXOSCALE_API_KEY": settings["kubeconfig_api_key"],
        "EXOSCALE_API_SECRET": settings["kubeconfig_api_secret"],
        "EXOSCALE_API_ENDPOINT": settings["kubeconfig_api_endpoint"],
    }
    for groups, allowed in (("system:masters", "yes"), ("nobody", "no")):
        words = ("compute", "sks", "kubeconfig", "cluster2", "me", "-z", "at-vie-2", "-g", groups)
        made = call(two.path / "bin" / "exo", *words, env=environment)
        assert made.returncode == 0, made.stderr
        (tmp_path / "config").write_text(made.stdout)
        kubectl = two.path / "bin" / "kubectl"
        answer = call(kubectl, f"--kubeconfig={tmp_path}/config", "auth", "can-i", "create", "namespaces")
        assert answer.stdout.strip() == allowed


def test_a_second_up_changes_nothing(two: RunningLab) -> None:
    before = daemons(two)
    two.up(2)
    assert daemons(two) == before


def test_a_load_balancer_gets_an_address_and_gives_it_back(two: RunningLab) -> None:
    def address() -> str:
        path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}"
        return two.kubectl("cluster1", "get", "service", "some", path)

    two.kubectl("cluster1", "create", "-f", "-", stdin=service("some", ports=10))
    assert eventually(lambda: bool(address()))
    first = address()
    record = layout.Record.load(two.name)
    assert record
    assert first == str(next(record.members[0].load_balancers.hosts()))
    events = two.kubectl("cluster1", "get", "events", "--field-selector=involvedObject.name=some", "-o=json")
    reasons = [event["reason"] for event in json.loads(events)["items"]]
    assert sorted(reasons) == ["EnsuredLoadBalancer", "EnsuringLoadBalancer"]
    two.kubectl("cluster1", "delete", "service", "some", "--timeout=20s")
    two.kubectl("cluster1", "create", "-f", "-", stdin=service("some", ports=1))
    assert eventually(lambda: address() == first)
    two.kubectl("cluster1", "delete", "service", "some", "--timeout=20s")


def test_an_eleventh_port_is_refused_with_an_event(two: RunningLab) -> None:
    two.kubectl("cluster1", "create", "-f", "-", stdin=service("large", ports=11))

    def refusals() -> str:
        return two.kubectl("cluster1", "get", "events", "--field-selector=reason=SyncLoadBalancerFailed")

    assert eventually(lambda: "at most 10" in refusals())
    two.kubectl("cluster1", "delete", "service", "large", "--timeout=20s")


def test_a_killed_daemon_is_started_again(two: RunningLab) -> None:
    def pid() -> str:
        return call("pgrep", "-f", f"kube-scheduler --kubeconfig={two.path}/nodes/cluster1/").stdout.strip()

    before = pid()
    os.kill(int(before), signal.SIGKILL)
    assert eventually(lambda: pid() not in ("", before))


def test_another_lab_is_not_touched(two: RunningLab, tmp_path: Path) -> None:
    before, running = traces(two.name), daemons(two)
    other = RunningLab("other", tmp_path)
    try:
        other.up(1)
        addresses = {cluster["server"] for lab in (two, other) for cluster in lab.status()["clusters"]}
        assert len(addresses) == 3
    finally:
        other.down()
    after = traces(two.name)
    assert daemons(two) == running
    assert {kind: found for kind, found in after.items() if kind != "processes"} == {
        kind: found for kind, found in before.items() if kind != "processes"
    }
    assert all(cluster["ready"] for cluster in two.status()["clusters"])


def test_after_its_supervisor_was_killed_up_ends_what_that_left(two: RunningLab) -> None:
    before = daemons(two)
    config = str(two.path / "supervisord.conf")
    (supervisor,) = (process for process, command in before.items() if config in command)
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: "no daemon runs" in call(PROGRAM, "status", "--name", two.name).stdout)
    two.up(2)
    assert not before.keys() & daemons(two).keys()


def test_after_everything_was_killed_up_brings_the_same_clusters_back(two: RunningLab) -> None:
    two.kubectl("cluster1", "create", "configmap", "kept", "--from-literal=a=b")
    kill_all(two)
    assert "no daemon runs" in call(PROGRAM, "status", "--name", two.name).stdout
    two.up(2)
    assert two.kubectl("cluster1", "get", "configmap", "kept", "-o=jsonpath={.data.a}") == "b"


def test_down_leaves_nothing_also_after_everything_was_killed(two: RunningLab) -> None:
    kill_all(two)
    routes = [line for line in traces(two.name)["routes and interfaces"] if f"exolab{_number(two)}" in line]
    assert routes
    two.down()
    left = traces(two.name)
    assert not [line for line in left.pop("routes and interfaces") if line in routes]
    assert not any(left.values()), left
    assert two.down() == f"There is no lab {two.name}.\n"


def machines() -> set[Path]:
    """Folders and control groups of machines."""
    return {*Path("/sys/fs/cgroup").glob("**/exolab-machine-*"), *layout.MACHINES.glob("*")}


def test_a_machine_is_apart_and_ends_with_its_command() -> None:
    script = "ip -brief link | cut -d' ' -f1; ls /var/lib/exolab; sleep 600 & ps -e -o pid= | wc -l; exit 3"
    before = machines()
    ended = call(PROGRAM, "machine", "sh", "-c", script, timeout=60)
    link, processes = ended.stdout.split()
    assert (ended.returncode, link) == (3, "lo"), ended.stderr
    assert int(processes) < 8
    assert machines() == before


def test_a_machine_that_is_ended_leaves_nothing() -> None:
    before = machines()
    command = [PROGRAM, "machine", "sh", "-c", "echo up; trap '' TERM; sleep 600; true"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) != 0
    assert machines() == before


def test_without_root_it_says_so_in_one_line() -> None:
    # The Python environment may be where nobody else can read: become nobody only when all is loaded.
    code = "import os, sys; from exolab import cli; os.seteuid(65534); sys.exit(cli.main(['up']))"
    result = call(sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": str(PROGRAM.parent)})
    assert result.returncode == 1
    assert result.stderr == (
        "lab: the lab needs root: it makes network namespaces and control groups. Try again with sudo\n"
    )


def test_an_address_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    number = max((record.lab.number for record in layout.Record.all()), default=-1) + 1
    taken = {record.lab.number for record in layout.Record.all()}
    number = next(candidate for candidate in range(number + 1) if candidate not in taken)
    with socket.create_server(("127.0.0.1", layout.API_PORT + number)):
        result = call(PROGRAM, "up", "--name", "third", "--inventory", tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"127.0.0.1:{layout.API_PORT + number}" in result.stderr
    assert not traces("third")["files"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "--name", "Bad_Name"), "use 1 to 24 of a-z, 0-9 and '-'"),
        (("up", "--clusters", "16"), "a lab has 1 to 15 clusters, not 16"),
        (("status", "--name", "none"), "there is no lab none"),
        (("save", "--name", "none", "/tmp/copy"), "there is no lab none"),
        (("restore", "--name", "none", "/tmp"), "/tmp is no copy of a lab"),
    ],
)
def test_bad_input_is_said_in_one_line(words: tuple[str, ...], said: str) -> None:
    result: subprocess.CompletedProcess[str] = call(PROGRAM, *words)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert said in result.stderr


def _number(lab: RunningLab) -> int:
    record = layout.Record.load(lab.name)
    assert record
    return record.lab.number
