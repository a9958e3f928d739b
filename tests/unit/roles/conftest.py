"""Two real, empty Kubernetes APIs (etcd and kube-apiserver of the lab's build, nothing else) on loopback."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_runs import run_ansible
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from exolab.layout import CACHE

TOKEN = "admin-token-of-the-test"


@dataclass
class Run:
    """How a play ended. text: all of its output."""

    return_code: int
    text: str

    @property
    def changed(self) -> dict[str, int]:
        """Number of changed tasks by host."""
        recap = self.text.rpartition("PLAY RECAP")[2]
        return {host: int(count) for host, count in re.findall(r"(?m)^(\S+) +:.*?changed=(\d+)", recap)}

    @property
    def words(self) -> str:
        """The output on one line, as Ansible wraps what it says."""
        return " ".join(self.text.split())


Play = Callable[..., Run]


@pytest.fixture
def play_role(tmp_path: Path) -> Play:
    """Runs a role for the given hosts and their variables, in an inventory of its own.

    With `shown` it then shows that variable of the role.
    """

    def run(
        role: str,
        hosts: dict[str, dict[str, Any]],
        *arguments: str,
        tasks_from: str = "main",
        environment: dict[str, str] | None = None,
        started_in: Path = tmp_path,
        shown: str = "",
        **variables: Any,
    ) -> Run:
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"mesh": {"hosts": hosts, "vars": {**local, **variables}}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
        task = {"ansible.builtin.import_role": {"name": f"exomesh.istio.{role}", "tasks_from": tasks_from}}
        told = {"ansible.builtin.debug": {"msg": f"{shown} is {{{{ {shown} }}}}."}}
        tasks = [task, told] if shown else [task]
        plays = [{"hosts": "mesh", "gather_facts": False, "tasks": tasks}]
        (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
        finished = run_ansible(
            "ansible-playbook",
            *("-i", tmp_path / "hosts.yml", tmp_path / "play.yml"),
            *arguments,
            environment={**os.environ, **(environment or {}), "ANSIBLE_NOCOLOR": "1"},
            folder=started_in,
        )
        return Run(finished.returncode, finished.stdout + finished.stderr)

    return run


@pytest.fixture(scope="session")
def kubeconfigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Admin kubeconfigs of the empty clusters east and west; skips where the lab is not built."""
    with _kubernetes_apis(tmp_path_factory.mktemp("kubernetes"), "east", "west") as kubeconfigs:
        yield kubeconfigs


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Admin kubeconfig of a cluster of the module's own, for objects that would disturb other tests."""
    with _kubernetes_apis(tmp_path_factory.mktemp("kubernetes"), "vienna") as kubeconfigs:
        yield kubeconfigs["vienna"]


@contextlib.contextmanager
def _kubernetes_apis(folder: Path, *names: str) -> Iterator[dict[str, Path]]:
    """Real, empty Kubernetes APIs while the context lasts: their admin kubeconfigs by name."""
    etcd, apiserver = _program("etcd", "etcd"), _program("kubernetes", "kube-apiserver")
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "service-account.pem").write_bytes(key)
    (folder / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
    with contextlib.ExitStack() as processes:
        client, peer = f"http://127.0.0.1:{_free_port()}", f"http://127.0.0.1:{_free_port()}"
        processes.enter_context(
            _running(
                folder / "etcd.log",
                [etcd, f"--data-dir={folder}/etcd", "--unsafe-no-fsync", f"--initial-cluster=default={peer}"]
                + [f"--{name}-client-urls={client}" for name in ("listen", "advertise")]
                + [f"--{name}={peer}" for name in ("listen-peer-urls", "initial-advertise-peer-urls")],
            )
        )
        kubeconfigs = {}
        for name in names:
            port = _free_port()
            arguments = {
                "authorization-mode": "RBAC",
                "bind-address": "127.0.0.1",
                "cert-dir": folder / name,
                "etcd-prefix": f"/{name}",
                "etcd-servers": client,
                "secure-port": port,
                "service-account-issuer": "https://kubernetes.default.svc",
                "service-account-key-file": folder / "service-account.pem",
                "service-account-signing-key-file": folder / "service-account.pem",
                "service-cluster-ip-range": "10.96.0.0/16",
                "token-auth-file": folder / "tokens.csv",
            }
            processes.enter_context(
                _running(
                    folder / f"{name}.log",
                    [apiserver, *(f"--{key}={value}" for key, value in arguments.items())],
                )
            )
            kubeconfigs[name] = _write_kubeconfig(
                folder / f"{name}.kubeconfig", port, folder / name / "apiserver.crt"
            )
        for kubeconfig in kubeconfigs.values():
            _wait_ready(kubeconfig)
        yield kubeconfigs


def _program(product: str, name: str) -> Path:
    found = sorted(CACHE.glob(f"{product}-*/{name}"), key=lambda path: path.stat().st_mtime)
    if not found:
        reason = f"{name} is not built: make lab-build"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found[-1]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(log: Path, command: list[str | Path]) -> Iterator[None]:
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.kill()


def _write_kubeconfig(path: Path, port: int, authority: Path) -> Path:
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def _wait_ready(kubeconfig: Path, timeout: float = 60) -> None:
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    deadline = time.monotonic() + timeout
    reason: Exception | None = None
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            context = ssl.create_default_context(cafile=cluster["certificate-authority"])
            try:
                urllib.request.urlopen(f"{cluster['server']}/readyz", context=context, timeout=5).close()
                return
            except (urllib.error.URLError, OSError) as error:
                reason = error
        time.sleep(0.3)
    pytest.fail(f"the test's kube-apiserver is not ready after {timeout} s: {reason}", pytrace=False)
