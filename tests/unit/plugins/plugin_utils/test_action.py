"""Modules in the process of the task: as in one of their own, which they get where it is due."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_runs import run_ansible
from kubeconfigs import CA_OF_TESTS, issue, kubeconfig, secrets_of

PLUGINS = Path(__file__).resolve().parents[4] / "plugins"
PROCESSES = {"EXOMESH_MODULE_PROCESSES": "1"}
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
HERE = "in the process of the task"


def run(folder: Path, *arguments: str, shell: dict[str, str] | None = None, **task: Any) -> str:
    """What ansible-playbook says of one task for this machine, at the highest verbosity."""
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"name": "Try", **task}]}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"here": LOCAL}}}))
    kept = {key: value for key, value in os.environ.items() if key not in PROCESSES}
    finished = run_ansible(
        "ansible-playbook",
        *("-vvvv", "-i", folder / "hosts.yml", folder / "play.yml", *arguments),
        environment={
            **kept,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            **(shell or {}),
        },
    )
    return finished.stdout + finished.stderr


def result_of(output: str) -> dict[str, Any]:
    """The result of the one task."""
    begin = output.index("=> {") + 3
    return dict(json.JSONDecoder().raw_decode(output[begin:])[0])


@pytest.fixture
def merge(tmp_path: Path) -> dict[str, Any]:
    """A task that writes a file, and was given a secret."""
    client = issue("someone", ("system:masters",), issuer=CA_OF_TESTS)
    content = kubeconfig("0f3c", "https://a.example:443", CA_OF_TESTS, client, user="someone")
    return {
        "exomesh.istio.kubeconfig_merge": {"content": content, "name": "a", "dest": str(tmp_path / "config")}
    }


def test_every_module_has_the_plugin() -> None:
    modules = {path.name for path in (PLUGINS / "modules").glob("*.py")}
    actions = {path.name: path.read_text() for path in (PLUGINS / "action").glob("*.py")}
    assert set(actions) == modules
    assert len(set(actions.values())) == 1


@pytest.mark.parametrize("arguments", [(), ("--check",), ("--diff",), ("--check", "--diff")])
def test_the_result_is_the_same_in_a_process_of_its_own(
    tmp_path: Path, merge: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    here = run(tmp_path, *arguments, **merge)
    written = (tmp_path / "config").exists()
    (tmp_path / "config").unlink(missing_ok=True)
    elsewhere = run(tmp_path, *arguments, shell=PROCESSES, **merge)
    assert (HERE in here, HERE in elsewhere) == (True, False)
    assert result_of(here) == result_of(elsewhere)
    assert result_of(here)["changed"]
    assert written == ("--check" not in arguments)


def test_a_failure_is_the_same(tmp_path: Path) -> None:
    task = {"exomesh.istio.kubeconfig_merge": {"kubeconfig": "/not/there", "dest": str(tmp_path / "config")}}
    here, elsewhere = run(tmp_path, **task), run(tmp_path, shell=PROCESSES, **task)
    assert "/not/there" in result_of(here)["msg"]
    assert result_of(here) == result_of(elsewhere)


def test_a_wrong_option_is_refused_in_the_same_words(tmp_path: Path) -> None:
    task = {"exomesh.istio.kubeconfig_merge": {"destination": "x"}}
    here, elsewhere = run(tmp_path, **task), run(tmp_path, shell=PROCESSES, **task)
    assert HERE in here
    assert result_of(here)["msg"] == result_of(elsewhere)["msg"]


def test_module_defaults_apply(tmp_path: Path, merge: dict[str, Any]) -> None:
    content = merge["exomesh.istio.kubeconfig_merge"].pop("dest")
    output = run(tmp_path, module_defaults={"group/exomesh.istio.all": {"dest": content}}, **merge)
    assert HERE in output
    assert result_of(output)["changed"]


def test_a_warning_is_shown_once(tmp_path: Path) -> None:
    state = {"exomesh.istio.root_ca": {"state_dir": str(tmp_path / "state"), "members": []}}
    output = run(tmp_path, **state)
    assert HERE in output
    assert output.count("[WARNING]: The root key") == 1


def test_no_secret_is_told(tmp_path: Path, merge: dict[str, Any]) -> None:
    content = merge["exomesh.istio.kubeconfig_merge"]["content"]
    output = run(tmp_path, "--diff", **merge)
    assert HERE in output
    assert not any(secret in output for secret in secrets_of(content))


@pytest.mark.parametrize(
    "otherwise",
    [
        {"environment": {"KUBECONFIG": "/dev/null"}},
        {"async": 60, "poll": 1},
        {"become": True, "become_method": "ansible.builtin.su"},
        {"vars": {"ansible_python_interpreter": "/usr/bin/env python3"}},
        {"vars": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}},
    ],
)
def test_what_asks_for_another_process_gets_one(tmp_path: Path, otherwise: dict[str, Any]) -> None:
    absent = {"exomesh.istio.kubeconfig_merge": {"name": "a", "state": "absent", "dest": str(tmp_path / "x")}}
    assert HERE not in run(tmp_path, **absent, **otherwise)


def test_a_play_that_would_log_in_to_a_cluster_is_told_what_it_lacks(tmp_path: Path) -> None:
    absent = {"exomesh.istio.kubeconfig_merge": {"name": "a", "state": "absent", "dest": str(tmp_path / "x")}}
    remote = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    output = run(tmp_path, **absent, vars=remote)
    assert "unreachable=1" in output
    assert "set connection: local in the play" in output


def test_a_fault_of_ours_is_a_failure_of_the_task(tmp_path: Path, merge: dict[str, Any]) -> None:
    # Nothing of the module may be lost in silence, and no secret told with it.
    content = merge["exomesh.istio.kubeconfig_merge"]["content"]
    (tmp_path / "sitecustomize.py").write_text(
        "import os\ndef broken(*_): raise RuntimeError('it broke')\nos.fsync = broken\n"
    )
    for shell in ({}, PROCESSES):
        output = run(tmp_path, shell={"PYTHONPATH": str(tmp_path), **shell}, **merge)
        assert "failed=1" in output
        assert "it broke" in output
        assert not any(secret in output for secret in secrets_of(content))


def test_async_is_refused_where_it_would_write_a_secret_to_a_file(
    tmp_path: Path, merge: dict[str, Any]
) -> None:
    output = run(tmp_path, **merge, **{"async": 60, "poll": 1})
    assert "failed=1" in output
    assert "cannot run with async" in output
    assert not (tmp_path / "config").exists()
