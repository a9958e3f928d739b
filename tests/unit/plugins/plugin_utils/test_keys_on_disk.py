"""No key of a kubeconfig is ever in a file of its own: neither while a task runs, nor after it was killed."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import time_limit
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubeconfigs import CA_OF_TESTS, issue, kubeconfig
from kubernetes_api import ApiServer

ADMINISTRATOR = issue("admin", ("system:masters",), issuer=CA_OF_TESTS)
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
WAYS = {"in the process of the task": {}, "in a process of its own": {"EXOMESH_MODULE_PROCESSES": "1"}}


def files_with_keys(*folders: Path) -> list[Path]:
    """Files that hold a key, in PEM or as a kubeconfig has it."""
    signs = (b"PRIVATE KEY", ADMINISTRATOR.key_pem.splitlines()[1], b"client-key-data")
    found = []
    for path in (path for folder in folders for path in folder.rglob("*")):
        # What went meanwhile, as Ansible's temporary files do, holds nothing any more.
        with suppress(FileNotFoundError):
            if path.is_file() and any(sign in path.read_bytes() for sign in signs):
                found.append(path)
    return found


def require_certificates(api: ApiServer, folder: Path) -> None:
    """Have the API speak TLS, to clients with a certificate of its CA only."""
    server = issue("127.0.0.1", issuer=CA_OF_TESTS, address="127.0.0.1")
    (folder / "server.pem").write_bytes(server.pem + server.key_pem)
    (folder / "ca.pem").write_bytes(CA_OF_TESTS.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "server.pem")
    (folder / "server.pem").unlink()
    api._server.socket = context.wrap_socket(
        api._server.socket, server_side=True, do_handshake_on_connect=False
    )
    api.url = api.url.replace("http:", "https:")
    api.kubeconfig.write_text(kubeconfig(api.name, api.url, CA_OF_TESTS, ADMINISTRATOR))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    (tmp_path / "state").mkdir()
    server = ApiServer(tmp_path / "state", "a")
    require_certificates(server, tmp_path)
    yield server
    server.close()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_requests_commands_and_ports_of_pods_need_no_file(api: ApiServer, temporary: Path) -> None:
    api.run_command = lambda _pod, command: ([" ".join(command)], 3)
    api.listen("web", 80, {"/": {"it": "works"}})
    client = KubernetesClient(str(api.kubeconfig))
    assert client.version() == "v1.36.3"
    answer = client.exec("default", "web", "c", ["say", "it"], timeout=5)
    assert (answer.stdout, answer.exit_code) == ("say it", 3)
    assert client.get_from_pod("default", "web", 80, "/", timeout=5) == b'{"it": "works"}'
    assert not list(temporary.iterdir())


def test_another_identity_does_not_show_the_certificate(api: ApiServer) -> None:
    # The server takes nobody without a certificate, so a token alone does not get in.
    with pytest.raises(ExomeshError), time_limit(20):
        KubernetesClient(str(api.kubeconfig)).with_token("of somebody").version()


def test_a_plugin_that_gives_a_certificate_needs_no_file(
    api: ApiServer, temporary: Path, tmp_path: Path
) -> None:
    credentials = {
        "status": {
            "clientCertificateData": ADMINISTRATOR.pem.decode(),
            "clientKeyData": ADMINISTRATOR.key_pem.decode(),
        }
    }
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(credentials)}\nEND\n")
    plugin.chmod(0o700)
    document = yaml.safe_load(api.kubeconfig.read_text())
    document["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    }
    api.kubeconfig.write_text(yaml.safe_dump(document))
    assert KubernetesClient(str(api.kubeconfig)).version() == "v1.36.3"
    assert not list(temporary.iterdir())


def test_key_and_certificate_of_different_pairs_are_told_without_them(api: ApiServer, tmp_path: Path) -> None:
    other = issue("admin", ("system:masters",), issuer=CA_OF_TESTS)
    document = yaml.safe_load(api.kubeconfig.read_text())
    document["users"][0]["user"]["client-key-data"] = yaml.safe_load(
        kubeconfig("a", api.url, CA_OF_TESTS, other)
    )["users"][0]["user"]["client-key-data"]
    path = tmp_path / "mixed"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ExomeshError) as told:
        KubernetesClient(str(path))
    assert told.value.code == "kubeconfig_invalid"
    assert "PRIVATE" not in str(told.value)


class Play:
    """ansible-playbook with one task, and with folders for temporary files and for HOME of its own."""

    def __init__(self, folder: Path, temporary: Path, way: dict[str, str], task: dict[str, Any]) -> None:
        self.temporary, self.home = temporary, folder / "home"
        self.home.mkdir()
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Try", **task}]}]
        (folder / "play.yml").write_text(yaml.safe_dump(play))
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"here": LOCAL}}}))
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        self.process = subprocess.Popen(
            [program, "-i", str(folder / "hosts.yml"), str(folder / "play.yml")],
            env={**kept, **way, "TMPDIR": str(self.temporary), "HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,  # without the checkout's ansible.cfg, as those who installed the collection
        )

    def descendants(self) -> list[int]:
        """Processes that the playbook started, by who started whom."""
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(path.parent.name)] = int(fields[1])
        found, new = set(), {self.process.pid}
        while new:
            found |= new
            new = {child for child, parent in parents.items() if parent in new} - found
        return sorted(found)


IN_PROCESS = next(iter(WAYS))


@pytest.mark.parametrize(
    ("number", "way", "alone"),
    [
        *((number, way, False) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL) for way in WAYS),
        (signal.SIGKILL, IN_PROCESS, True),
    ],
)
def test_a_task_that_is_ended_leaves_no_key(
    tmp_path: Path, temporary_folder: Path, api: ApiServer, way: str, number: signal.Signals, alone: bool
) -> None:
    """Ended by its user, or killed: all its processes, or ansible-playbook `alone`."""
    asked, answer = threading.Event(), threading.Event()
    usual = api.answer

    def slow(*request: Any) -> tuple[int, Any]:
        asked.set()
        answer.wait(30)
        return usual(*request)

    api.answer = slow  # type: ignore[method-assign]
    play = Play(
        tmp_path,
        temporary_folder,
        WAYS[way],
        {"exomesh.istio.kubeconfig_info": {"kubeconfig": str(api.kubeconfig), "timeout": 20}},
    )
    try:
        while not asked.wait(0.1):
            assert play.process.poll() is None, play.process.communicate()[0]
        assert not files_with_keys(play.temporary, play.home)
        everyone = play.descendants()
        if number == signal.SIGKILL and not alone:
            for pid in reversed(everyone):
                with suppress(ProcessLookupError):  # ended meanwhile
                    os.kill(pid, number)
        else:
            play.process.send_signal(number)
        play.process.communicate(timeout=30)
        deadline = time.monotonic() + 15
        while alive := [pid for pid in everyone if Path(f"/proc/{pid}/environ").exists() and runs(pid)]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.1)
    finally:
        answer.set()
        play.process.kill()
    assert not files_with_keys(play.temporary, play.home)


def runs(pid: int) -> bool:
    """Whether a process runs, and is not only waiting to be counted as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("way", WAYS)
def test_a_task_with_secrets_among_its_options_leaves_none(
    tmp_path: Path, temporary_folder: Path, api: ApiServer, way: str
) -> None:
    seen: set[Path] = set()
    content = api.kubeconfig.read_text()
    target = tmp_path / "state" / "merged"
    play = Play(
        tmp_path,
        temporary_folder,
        WAYS[way],
        {"exomesh.istio.kubeconfig_merge": {"content": content, "name": "b", "dest": str(target)}},
    )
    while play.process.poll() is None:  # what lies there for a moment lies there
        seen |= set(files_with_keys(play.temporary, play.home))
        time.sleep(0.005)
    assert play.process.returncode == 0, play.process.communicate()[0]
    assert target.exists()
    assert not seen
