# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks against silent servers, as users run them: in the process of the task, and in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from silent_api import Servers, SilentApi

LIMIT, MORE = 3, 5
QUIET_AFTER = 3.0

Task = dict[str, Any]


@pytest.fixture
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


def timed(host: str, task: Task) -> list[Task]:
    """A task, and how long it took, in a file."""
    seconds = "(now().timestamp() - begun | float)"
    told = f"{{{{ {{'seconds': {seconds}, 'told': done.msg | default('')}} }}}}"
    return [
        {"name": "Begin", "ansible.builtin.set_fact": {"begun": "{{ now().timestamp() }}"}},
        {"name": "Ask", **task, "ignore_errors": True, "register": "done"},
        {
            "name": "End",
            "ansible.builtin.copy": {"content": told, "dest": f"{{{{ playbook_dir }}}}/{host}.json"},
        },
    ]


@pytest.mark.parametrize("processes", [False, True], ids=["in the task's process", "in their own"])
def test_tasks_end_in_time(servers: Servers, tmp_path: Path, temporary_folder: Path, processes: bool) -> None:
    silent = {way: servers.start(way) for way in ("says nothing", "body byte by byte", "429")}

    def members(api: SilentApi) -> list[dict[str, Any]]:
        pairs = (("vie", "fra"), ("fra", "vie"))
        return [
            {
                "name": name,
                "network": f"{name}-net",
                "kubeconfig": str(api.kubeconfig(tmp_path / f"{name}-{api.port}.yml", name)),
                "peers": [peer],
            }
            for name, peer in pairs
        ]

    kubeconfig = str(silent["says nothing"].kubeconfig(tmp_path / "vie.yml", "vie"))
    slow = str(silent["body byte by byte"].kubeconfig(tmp_path / "slow.yml", "vie"))
    ask = {"name": "gateway", "kubeconfig": slow}
    tasks: dict[str, Task] = {
        "option": {"exomesh.istio.load_balancer_info": {**ask, "timeout": LIMIT}},
        "busy": {
            "exomesh.istio.peering_info": {"members": members(silent["429"]), "timeout": LIMIT},
            "failed_when": "done.gaps | length == 0",
        },
        "keyword": {
            "exomesh.istio.load_balancer_info": {**ask, "kubeconfig": kubeconfig, "timeout": 60},
            "timeout": LIMIT,
        },
        "threads": {
            "exomesh.istio.mesh_verify": {"members": members(silent["says nothing"]), "timeout": 60},
            "timeout": LIMIT,
        },
    }
    # How long Ansible takes for a task on this machine, busy as it is.
    tasks["calm"] = {"exomesh.istio.state_directory": {"path": str(tmp_path / "state")}}
    for host, task in tasks.items():
        (tmp_path / f"{host}.yml").write_text(yaml.safe_dump(timed(host, task), sort_keys=False))
    include = {"name": "Do", "ansible.builtin.include_tasks": "{{ inventory_hostname }}.yml"}
    play = {"hosts": "all", "gather_facts": False, "strategy": "free", "tasks": [include]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": dict.fromkeys(tasks, local)}}))
    shell = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORKS": "5", "TMPDIR": str(temporary_folder)}
    shell |= {"EXOMESH_MODULE_PROCESSES": "1"} if processes else {}
    finished = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")),
        ],
        env=shell,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    ended = time.monotonic()
    said = finished.stdout + finished.stderr
    assert finished.returncode == 0, said
    told = {host: json.loads((tmp_path / f"{host}.json").read_text()) for host in tasks}
    calm = float(told.pop("calm")["seconds"])
    for host, seen in told.items():
        assert float(seen["seconds"]) < LIMIT + MORE + 2 * calm, f"{host}: {seen}\n{said}"
    assert "cluster vie" in told["option"]["told"]
    assert "Timed out after 3 second" in told["keyword"]["told"] + told["threads"]["told"] + said
    # A process of its own may still be cleaning up.
    time.sleep(QUIET_AFTER + 2)
    assert not list(temporary_folder.rglob("*")), said
    assert all(api.last_heard < ended + QUIET_AFTER for api in silent.values())
    assert not left_processes(str(tmp_path))


def left_processes(text: str) -> list[str]:
    """Processes that have a text in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found
