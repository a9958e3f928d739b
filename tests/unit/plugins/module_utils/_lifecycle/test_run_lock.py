# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of ansible-playbook at once: one has the mesh, the other waits or says who has it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.processes import Process
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.lease import Holder
from ansible_collections.exomesh.istio.plugins.module_utils._lifecycle.run_lock import Held
from ansible_runs import run_ansible
from kubernetes_api import ApiServer, status

PROJECT = Path(__file__).resolve().parents[5]
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/exomesh-run"
IDENTIFYING = ["GET /api/v1/namespaces/istio-system/configmaps/exomesh", "GET /api/v1/namespaces/kube-system"]
LEASES = LEASE.rpartition("/")[0]


class Place:
    """Two clusters, and a playbook whose steps take a while."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.apis = [ApiServer(folder, name) for name in ("vie", "zrh")]
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        hosts = {api.name: {"mesh_kubeconfig": str(api.kubeconfig)} for api in self.apis}
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(
            yaml.safe_dump({"all": {"children": {"mesh": {"hosts": hosts, "vars": local}}}})
        )
        members = {"ansible.builtin.import_playbook": str(PROJECT / "playbooks/members.yml")}
        step = {"ansible.builtin.wait_for": {"path": "{{ until }}", "sleep": 1, "timeout": 60}}
        play = {"hosts": "localhost", "gather_facts": False, "tasks": [{**step, "when": "until is defined"}]}
        (folder / "step.yml").write_text(yaml.safe_dump([members, play, members]))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        program = Path(sys.executable).with_name("ansible-playbook")
        return subprocess.Popen(
            [program, "-i", self.inventory, self.folder / "step.yml", *arguments],
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Where the tests run in the background, it is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def holding(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a run that holds the clusters until :meth:`go_on`."""
        self.until(lambda: not self.held)
        running = self.start("-e", f"until={self.folder / 'go-on'}", *arguments)
        self.until(lambda: self.held == len(self.apis))
        return running

    def go_on(self) -> None:
        (self.folder / "go-on").touch()

    def run(self, *arguments: str) -> tuple[int, str, float]:
        """Exit code, output in one line, and seconds."""
        started = time.monotonic()
        ended = run_ansible(
            "ansible-playbook",
            *("-i", self.inventory, self.folder / "step.yml", *arguments),
            environment={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        )
        output = " ".join((ended.stdout + ended.stderr).split())
        return ended.returncode, output, time.monotonic() - started

    @property
    def held(self) -> int:
        return sum(LEASE in api.objects for api in self.apis)

    def until(self, is_so: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def keeper(self, running: subprocess.Popen[str]) -> int:
        """Return the process that holds the locks of a run, or 0 while there is none.

        Its arguments are those of the run. Its parent is none of the run's processes, unlike the parents of a
        task, of what a task starts, and of the process between task and keeper.
        """
        mine = Path(f"/proc/{running.pid}/cmdline").read_bytes()
        parents = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "cmdline").read_bytes() == mine:
                    stat = (process / "stat").read_text()
                    parents[int(process.name)] = int(stat.rpartition(")")[2].split()[1])
        strangers = [pid for pid, parent in parents.items() if pid != running.pid and parent not in parents]
        return next(iter(strangers), 0)

    def kill_keeper(self, running: subprocess.Popen[str]) -> None:
        """Kill the keeper as soon as the run knows of it: then its pipe to the run is closed."""
        self.until(lambda: bool(self.keeper(running)))
        keeper = self.keeper(running)

        def has_told() -> bool:
            with suppress(FileNotFoundError):  # a file that is closed meanwhile
                files = Path(f"/proc/{keeper}/fd").iterdir()
                return not any(os.readlink(file).startswith("pipe:") for file in files)
            return False

        self.until(has_told)
        os.kill(keeper, signal.SIGKILL)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.go_on()
    for api in place.apis:
        api.close()


def elsewhere(seconds_ago: float) -> dict[str, Any]:
    """A lease of a run on another controller."""
    process = {"host": "elsewhere", "boot": "b", "namespace": "pid:[1]", "pid": 7, "started": "1"}
    told = {**process, "user": "anna", "run": "site", "identity": "anna@elsewhere/7/x"}
    renewed = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    return {
        "kind": "Lease",
        "metadata": {
            "name": "exomesh-run",
            "namespace": "kube-system",
            "annotations": {"exomesh.istio/holder": json.dumps(told)},
        },
        "spec": {
            "holderIdentity": "anna@elsewhere/7/x",
            "leaseDurationSeconds": 30,
            "acquireTime": "2026-11-28T10:00:00Z",
            "renewTime": renewed,
        },
    }


def test_a_run_has_the_clusters_from_its_first_step_to_its_end(place: Place) -> None:
    running = place.holding()
    lease = place.apis[0].objects[LEASE]
    assert lease["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "exomesh.istio"}
    assert f"/{running.pid}/" in lease["spec"]["holderIdentity"]
    place.go_on()
    output = running.communicate()[0]
    assert running.returncode == 0, output
    assert "changed=0" in output
    place.until(lambda: place.held == 0, 3)
    seen = [request for request in place.apis[0].requests if not request.startswith("PUT")]
    locked = [f"GET {LEASE}", f"POST {LEASES}", f"DELETE {LEASE}"]
    assert [*sorted(seen[:2]), *seen[2:]] == [*IDENTIFYING, *locked], "whatever the number of steps"


@pytest.mark.parametrize("arguments", [("--check",), ("-e", "members_lock=false")])
def test_who_changes_nothing_neither_locks_nor_waits(place: Place, arguments: tuple[str, ...]) -> None:
    for api in place.apis:
        api.put(LEASE, elsewhere(0))
    code, output, _seconds = place.run(*arguments)
    assert code == 0, output
    assert set(place.apis[0].requests) == set(IDENTIFYING)


@pytest.mark.parametrize("limit", [(), ("--limit", "zrh")])
def test_the_second_waits_and_is_told_who_has_it(place: Place, limit: tuple[str, ...]) -> None:
    running = place.holding()
    code, output, _seconds = place.run("-e", "mesh_lock_timeout=1", *limit)
    assert code != 0
    assert f"(playbook step, process {running.pid}) has been changing this cluster since" in output
    assert re.search("cluster (vie|zrh): ", output)
    assert "-e mesh_break_lock=true" in output
    waiting = place.start(*limit)
    time.sleep(3)
    assert waiting.poll() is None
    place.go_on()
    assert running.wait() == 0
    output = waiting.communicate()[0]
    assert waiting.returncode == 0, output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_keeps_nobody_waiting(place: Place, number: signal.Signals) -> None:
    running = place.holding()
    running.send_signal(number)
    place.until(lambda: place.held == 0, 5)
    running.communicate()


def test_what_was_killed_with_its_keeper_is_followed_at_once(place: Place) -> None:
    running = place.holding()
    place.kill_keeper(running)
    running.kill()
    running.communicate()
    assert place.held == 2
    code, output, _seconds = place.run("-e", "mesh_lock_timeout=0")
    assert code == 0, output
    assert f"process {running.pid}) before" in output


def test_a_run_that_lost_its_keeper_stops_at_its_next_step(place: Place) -> None:
    running = place.holding()
    place.kill_keeper(running)
    place.go_on()
    output = running.communicate()[0]
    assert running.returncode != 0
    assert "The lock of this run was lost" in output


def test_a_lock_is_broken_by_hand_and_its_holder_stops(place: Place) -> None:
    running = place.holding()
    code, output, _seconds = place.run("-e", "mesh_break_lock=true", "-e", "mesh_lock_timeout=0")
    assert code == 0, output
    place.until(lambda: not place.keeper(running), 20)
    place.go_on()
    output = running.communicate()[0]
    assert running.returncode != 0
    assert "The lock of this run was lost" in output


def test_a_run_elsewhere_is_waited_for_while_it_lives(place: Place) -> None:
    place.apis[1].put(LEASE, elsewhere(0))
    code, output, _seconds = place.run("-e", "mesh_lock_timeout=1")
    assert code != 0
    assert (
        "cluster zrh: anna@elsewhere (playbook site, process 7) has been changing this cluster since"
        in output
    )
    assert "2026-11-28 10:00:00 UTC" in output
    assert place.held == 1
    place.apis[1].put(LEASE, elsewhere(31))
    code, output, _seconds = place.run("-e", "mesh_lock_timeout=0")
    assert code == 0, output


def test_a_cluster_that_is_away_is_left_out(place: Place) -> None:
    place.apis[0].close()
    code, output, seconds = place.run()
    assert code == 0, output
    assert "Cluster vie is not locked for this run" in output
    assert f"POST {LEASES}" in place.apis[1].requests
    assert seconds < 40


def test_a_cluster_that_forbids_it_stops_the_run(place: Place) -> None:
    place.apis[1].failures["POST", LEASES] = [status(403, "Forbidden", "leases is forbidden")]
    code, output, _seconds = place.run()
    assert code != 0
    assert "cluster zrh: POST" in output
    assert "leases is forbidden" in output
    place.until(lambda: place.held == 0, 3)


def test_what_is_held_is_told_as_plain_data() -> None:
    process = Process.of(os.getpid())
    held = Held(process, Holder(process, "anna", "site"), {"vie": "/k"}, {"zrh": "away"}, {})
    assert Held.parse(json.loads(json.dumps(held.told()))) == held
    held.require()
