# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run in which members fail or do not answer: who is told, who is left out, and what it costs."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_runs import run_ansible
from kubernetes_api import ApiServer

PROJECT = Path(__file__).resolve().parents[5]
MEMBERS = PROJECT / "playbooks/members.yml"


class Place:
    """Four clusters, of which one can be silent, and a playbook of some steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.apis = {name: ApiServer(folder, name) for name in ("fra", "sof", "vie", "zrh")}
        # It takes connections, and says nothing.
        self._silent = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()
        self.silent_url = f"http://127.0.0.1:{self._silent.getsockname()[1]}"
        self.local = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }

    def _take(self) -> None:
        with suppress(OSError):  # at the end
            while True:
                self.taken.append(self._silent.accept()[0])

    def close(self) -> None:
        self._silent.shutdown(socket.SHUT_RDWR)
        self._silent.close()
        for connection in self.taken:
            connection.close()
        for api in self.apis.values():
            api.close()

    def silence(self, name: str) -> None:
        self.apis[name].url = self.silent_url
        self.apis[name].write_kubeconfig()

    def run(self, plays: list[dict[str, Any]], *arguments: str) -> tuple[int, str]:
        """Exit code, and output in one line."""
        hosts = {api.name: {"mesh_kubeconfig": str(api.kubeconfig)} for api in self.apis.values()}
        inventory = {"mesh": {"hosts": hosts, "vars": self.local}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (self.folder / "steps.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
        ended = run_ansible(
            "ansible-playbook",
            *("-i", self.folder / "hosts.yml", self.folder / "steps.yml", *arguments),
            environment={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        )
        return ended.returncode, " ".join(ended.stdout.split())

    def changed(self) -> set[str]:
        """Clusters that were written to, but for their locks."""
        return {
            api.name
            for api in self.apis.values()
            if [path for path in api.objects if "/leases/exomesh" not in path]
        }


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def members(treatment: str, **variables: Any) -> dict[str, Any]:
    return {"import_playbook": str(MEMBERS), "vars": {"members_treatment": treatment, **variables}}


def play(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"hosts": "mesh", "gather_facts": False, "tasks": list(tasks)}


def failing(host: str) -> dict[str, Any]:
    """A play in which a host fails, which remembers why."""
    why = {"ansible.builtin.fail": {"msg": f"{host}: the zone ch-dk-3 is none."}}
    return play({**why, "register": "__members_trouble", "when": f"inventory_hostname == '{host}'"})


WRITE = play(
    {
        "exomesh.istio.server_side_apply": {
            "kubeconfig": "{{ mesh_kubeconfig }}",
            "definitions": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "written"}}],
        }
    },
    {"debug": {"msg": "MESH {{ __members_checked.members | map(attribute='peers') | list }}"}},
)
TELL = {"import_playbook": str(PROJECT / "playbooks/missing.yml")}
SITE = [failing("sof"), members("collect"), failing("vie"), members("judge"), WRITE, members("tell"), TELL]


def test_by_default_all_that_is_wrong_is_told_and_nothing_is_changed(place: Place) -> None:
    place.silence("zrh")
    code, output = place.run(SITE)
    assert code != 0
    assert "3 of 4 members cannot take part, so nothing was changed in any cluster." in output
    assert "(1) sof: sof: the zone ch-dk-3 is none." in output
    assert f"zrh: cluster zrh: The API server {place.silent_url} does not answer." in output
    assert "vie: vie: the zone ch-dk-3 is none." in output
    assert "-e mesh_on_failure=skip" in output
    assert place.changed() == set()


def test_with_skip_the_others_go_on_and_the_missing_are_told_at_the_end(place: Place) -> None:
    place.silence("zrh")
    plays = [failing("sof"), members("collect"), members("judge"), WRITE, members("judge"), TELL]
    code, output = place.run(plays, "-e", "mesh_on_failure=skip")
    assert code != 0
    assert place.changed() == {"fra", "vie"}
    assert "MESH [['vie'], ['fra']]" in output
    end = output.rpartition("Fail, and report why members are missing")[2]
    assert "This was done without sof, zrh, as mesh_on_failure is skip." in end
    assert "sof: sof: the zone ch-dk-3 is none." in end
    assert "zrh: cluster zrh: The API server" in end
    assert len(place.taken) == 1, "one silent cluster costs one time-out of 15 s"
    recap = dict(re.findall(r"(\w+) : ok=\d+ changed=(\d+)", output))
    assert {host for host, count in recap.items() if count != "0"} == {"fra", "vie"}
    place.apis["sof"].requests.clear()
    code, output = place.run([members("judge"), WRITE, TELL], "--limit", "sof")
    assert code == 0, output
    assert "sof" in place.changed()


def test_what_fails_once_the_others_are_at_work_stops_nobody_else(place: Place) -> None:
    code, output = place.run([members("judge"), failing("sof"), members("judge"), WRITE])
    assert code != 0
    assert place.changed() == {"fra", "vie", "zrh"}
    assert "cannot take part" not in output


@pytest.mark.parametrize("on_failure", ["stop", "skip"])
def test_who_copes_with_it_asks_a_silent_cluster_once(place: Place, on_failure: str) -> None:
    place.silence("zrh")
    status = {"import_playbook": str(PROJECT / "playbooks/status.yml")}
    code, output = place.run([status], "-e", f"mesh_on_failure={on_failure}")
    assert code != 0
    assert "error [zrh] cluster-unreachable" in output
    assert "error [fra] istiod-missing" in output, "the others are looked at"
    assert len(place.taken) == 1, "one time-out of 15 s"
    for path in ("/api/v1/namespaces/kube-system", "/version"):  # of the look, and of the verification
        assert place.apis["fra"].requests.count(f"GET {path}") == 1


def test_what_is_left_must_be_a_mesh(place: Place) -> None:
    plays = [failing("sof"), failing("zrh"), failing("fra"), members("judge"), WRITE]
    code, output = place.run(plays, "-e", "mesh_on_failure=skip")
    assert code != 0
    assert "3 of 4 members cannot take part, and what is left is no mesh." in output
    assert place.changed() == set()


def test_a_word_that_is_neither_is_refused(place: Place) -> None:
    code, output = place.run([members("tell"), WRITE], "-e", "mesh_on_failure=go-on")
    assert code != 0
    assert "mesh_on_failure is 'go-on', and can be stop or skip." in output
    assert place.changed() == set()
