"""What tests of the lab do with it: playbooks that run, are ended, and leave no secret."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import yaml
from exolab.command import descendants

from .traces import Traces, is_running, traces

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = PROJECT / "lab" / "exolab.sh"
LAB = "test"
VOLATILE = ("Event", "Pod", "EndpointSlice", "Endpoints", "ReplicaSet", "IPAddress", "PodMetrics")


def call(*words: str | Path, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with its output kept."""
    command = [str(word) for word in words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)


ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


@dataclass
class RunningLab:
    """A lab that is up: its name and where its inventory is."""

    name: str
    inventory: Path

    @property
    def path(self) -> Path:
        return Path("/var/lib/exolab") / self.name

    def up(self, clusters: int) -> str:
        """Bring the lab up."""
        return self._run("up", "--clusters", str(clusters), "--inventory", self.inventory)

    def restore(self, folder: Path, clusters: int) -> None:
        """Put a copy in its place, with its first clusters only. It is not up then."""
        self._run("restore", folder, "--clusters", str(clusters))

    def wait_for_pods(self, clusters: int, since: float) -> None:
        """Wait until all pods are ready, in containers that began after a time."""
        for number in range(1, clusters + 1):
            wait_for(partial(self._pods_work, f"cluster{number}", since), 120)

    def _pods_work(self, cluster: str, since: float) -> bool:
        """Whether all pods are ready, in containers that began after a time."""
        pods = json.loads(self.kubectl(cluster, "get", "pods", "--all-namespaces", "-o=json"))["items"]
        containers = [status for pod in pods for status in pod["status"].get("containerStatuses", [{}])]
        return bool(containers) and all(
            status.get("ready")
            and datetime.fromisoformat(status["state"]["running"]["startedAt"]).timestamp() > since
            for status in containers
        )

    def save(self, folder: Path) -> None:
        """Keep a copy of the lab, which stops for it."""
        self._run("save", folder)

    def _run(self, command: str, *words: str | Path) -> str:
        result = call(PROGRAM, command, "--name", self.name, *words, timeout=3600)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def down(self) -> str:
        return self._run("down")

    def status(self) -> dict[str, Any]:
        result = call(PROGRAM, "status", "--name", self.name, "--json")
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout))

    def kubectl(self, cluster: str, *words: str, stdin: str = "", check: bool = True) -> str:
        """What kubectl says, as the cluster's administrator."""
        kubeconfig = self.path / "nodes" / cluster / "etc" / "admin.kubeconfig"
        program = self.path / "bin" / "kubectl"
        # What kubectl keeps of an API is by its address, which another lab may have had.
        cache = f"--cache-dir={self.path / 'kubectl-cache'}"
        result = call(program, f"--kubeconfig={kubeconfig}", cache, *words, input=stdin)
        assert not check or result.returncode == 0, result.stderr
        return result.stdout

    def objects(self, cluster: str) -> set[str]:
        """Names of all objects of a cluster but those that come and go by themselves."""
        kinds = self.kubectl(cluster, "api-resources", "--verbs=list,delete", "-o=name").split()
        answer = self.kubectl(cluster, "get", ",".join(kinds), "--all-namespaces", "--output=json")
        there = [item["metadata"] | {"kind": item["kind"]} for item in json.loads(answer)["items"]]
        # The namespace of the last verification may be on its way out, and go while kubectl reads one kind
        # after the other.
        stays = {
            item["name"] for item in there if item["kind"] == "Namespace" and "deletionTimestamp" not in item
        }
        return {
            f"{item['kind']} {item.get('namespace', '')}/{item['name']}"
            for item in there
            if item["kind"] not in VOLATILE
            and (
                item["name"] in stays
                if item["kind"] == "Namespace"
                else item.get("namespace") in {None, *stays}
            )
            # An API server says so that it lives, some seconds after its start.
            and not (item["kind"] == "Lease" and item["name"].startswith("apiserver-"))
        }


@contextmanager
def started_playbook(
    lab: RunningLab, name: str, *arguments: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], Traces]]:
    """Start a playbook of the collection on the lab, as a user would from a checkout.

    Its temporary files and its HOME are its own. At the end no secret may be there, nor may one have been in
    the arguments or in the environment of a process.
    """
    file = lab.inventory / "group_vars" / "mesh.yml"
    settings = yaml.safe_load(file.read_text()) if file.exists() else {}
    with traces(settings.get("kubeconfig_api_secret", "")) as found:
        process = subprocess.Popen(
            [ANSIBLE_PLAYBOOK, "-i", lab.inventory, name, *arguments],
            cwd=PROJECT,
            env={**os.environ, **found.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with found.watching(process.pid):
                yield process, found
        finally:
            process.kill()
            process.wait()


def run_playbook(
    lab: RunningLab, name: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a playbook to its end."""
    with started_playbook(lab, name, *arguments, **environment) as (process, _traces):
        output, errors = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def end_playbook(
    number: signal.Signals,
    moment: Callable[[], object],
    lab: RunningLab,
    name: str,
    *arguments: str,
    within: float = 120,
    **environment: str,
) -> str:
    """Run a playbook, and end it when the moment has come, within so many seconds; return what it said."""
    with started_playbook(lab, name, *arguments, **environment) as (process, found):
        wait_for(moment, within)
        return end(process, found, number)


def end(process: subprocess.Popen[str], found: Traces, number: signal.Signals) -> str:
    """End a run, and return what it said.

    SIGKILL goes to all of its processes, other signals to the one that a user has in the terminal. All must
    be gone soon afterwards.
    """
    for pid in {process.pid, *descendants(process.pid)} if number == signal.SIGKILL else [process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    output = "".join(process.communicate(timeout=60))
    wait_for(lambda: not [pid for pid in found.seen if is_running(pid)], 30)
    return output


def command_of(process: int) -> list[str]:
    """Its words; an empty one where it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")
    except OSError:
        return [""]


@contextmanager
def silent(lab: RunningLab, cluster: str) -> Iterator[None]:
    """Its API takes connections, and says nothing."""
    server = next(
        process
        for process in descendants(1)
        if command_of(process)[0].endswith("/kube-apiserver")
        and any(f"{lab.path}/nodes/{cluster}/" in word for word in command_of(process))
    )
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


ISTIO_TOOLS = ("analyze -A", "remote-clusters", "proxy-status", "x precheck", "bug-report --timeout 60s")
"""What istioctl looks at a mesh with. It waits for ever for what remote secrets do not let it read."""


def tool_of_istio(lab: RunningLab, words: str, folder: Path) -> None:
    """Run a command of istioctl on the first cluster of a mesh; it must end well within a minute."""
    kubeconfig = lab.path / "mesh" / "cluster1" / "kubeconfig"
    done = call(lab.path / "bin/istioctl", "--kubeconfig", kubeconfig, *words.split(), timeout=60, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "forbidden" not in done.stdout + done.stderr


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Wait until something is so; it must be before the seconds are over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def changes(output: str) -> dict[str, int]:
    """Number of changed tasks by host, from the play recap."""
    recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", output, re.M)
    return {host: int(count) for host, count in recap}


def succeed(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Return a run that must have succeeded."""
    assert result.returncode == 0, result.stdout[-6000:]
    return result


def said(result: subprocess.CompletedProcess[str]) -> str:
    """The output without the line breaks of its YAML."""
    return re.sub(r"\s+", " ", result.stdout.replace("''", "'"))


def verdicts(output: str) -> dict[tuple[str, str], str]:
    """The matrix of pairs as `verify` prints it."""
    lines = iter(output.splitlines())
    header = next(line for line in lines if "from \\ to" in line).split("to", 1)[1].split()
    rows = [next(lines).split()[1:] for _ in header]
    return {
        (row[0], to): value for row in rows for to, value in zip(header, row[1:], strict=True) if to != row[0]
    }


def all_ok(members: Iterable[str]) -> dict[tuple[str, str], str]:
    """The matrix in which every pair is well."""
    return dict.fromkeys(permutations(members, 2), "ok")


class Traffic:
    """One request after the other from the demo's client in a cluster to its server in another."""

    def __init__(
        self, lab: RunningLab, cluster: str = "cluster1", namespace: str = "exodemo", pause: float = 0.1
    ) -> None:
        kubeconfig = lab.path / "nodes" / cluster / "etc" / "admin.kubeconfig"
        script = (
            "while :; do curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}\\n' "
            f"http://exo-webtest:3000/; sleep {pause}; done"
        )
        words = ["exec", "-n", namespace, "deploy/curl", "-c", "curl", "--", "sh", "-c", script]
        self._process = subprocess.Popen(
            [lab.path / "bin" / "kubectl", f"--kubeconfig={kubeconfig}", *words],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._codes: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._codes.append(line.strip())

    def codes(self, at_least: int) -> list[str]:
        """The status of every request until now, when there were so many, or after two minutes."""
        deadline = time.monotonic() + 120
        while len(self._codes) < at_least and time.monotonic() < deadline:
            time.sleep(0.2)
        return list(self._codes)

    def stop(self) -> None:
        self._process.kill()
        self._reader.join()
