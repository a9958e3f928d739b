"""Labs for tests: real clusters, each module's own, gone again however its tests end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from exolab.command import descendants

from .traces import Traces, is_running, traces

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = PROJECT / "lab" / "exolab.sh"


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
        words = ("up", "--name", self.name, "--clusters", str(clusters), "--inventory", self.inventory)
        result = call(PROGRAM, *words, timeout=3600)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def down(self) -> str:
        result = call(PROGRAM, "down", "--name", self.name)
        assert result.returncode == 0, result.stderr
        return result.stdout

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
    **environment: str,
) -> str:
    """Run a playbook, and end it when the moment has come; return what it said."""
    with started_playbook(lab, name, *arguments, **environment) as (process, found):
        wait_for(moment, 120)
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


class Traffic:
    """One request after the other from the demo's client in a cluster to its server in another."""

    def __init__(self, lab: RunningLab, cluster: str = "cluster1", namespace: str = "exodemo") -> None:
        kubeconfig = lab.path / "nodes" / cluster / "etc" / "admin.kubeconfig"
        script = (
            "while :; do curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}\\n' "
            "http://exo-webtest:3000/; sleep 0.02; done"
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


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """A lab that is not up yet, named after the test module; it is taken down at the end."""
    name = "test-" + request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    running = RunningLab(name, tmp_path_factory.mktemp(name))
    running.down()
    yield running
    running.down()
