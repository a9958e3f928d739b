"""The molecule scenario `kind`, which needs Docker, with stand-ins for `kind` and `docker`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_runs import run_ansible

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "molecule/kind"
CLUSTERS = ["exomesh-kind1", "exomesh-kind2"]

# Of kind's configuration, what the scenario uses: types.go of kind's package v1alpha4.
KIND_CONFIGURATION = {
    "type": "object",
    "required": ["kind", "apiVersion", "nodes"],
    "additionalProperties": False,
    "properties": {
        "kind": {"const": "Cluster"},
        "apiVersion": {"const": "kind.x-k8s.io/v1alpha4"},
        "networking": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "ipFamily": {"enum": ["ipv4", "ipv6", "dual"]},
                "podSubnet": {"type": "string", "pattern": r"^[\d.]+/\d+$"},
                "serviceSubnet": {"type": "string", "pattern": r"^[\d.]+/\d+$"},
            },
        },
        "nodes": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"role": {"enum": ["control-plane", "worker"]}, "image": {"type": "string"}},
            },
        },
    },
}

# Writes down how it is called, and answers as the real one does.
STAND_IN = """\
#!{python}
import json, pathlib, sys

program, *words = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with open("{calls}", "a") as calls:
    calls.write(json.dumps([program, *words]) + "\\n")
options = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
if words[:2] == ["create", "cluster"]:
    pathlib.Path(options["kubeconfig"]).write_text("clusters:\\n- cluster:\\n    server: https://127.0.0.1:39999\\n")
elif words[0] == "inspect":
    address = "172.18.0.2" if words[1] == "exomesh-kind1-control-plane" else "172.18.0.3"
    print(json.dumps([{{"NetworkSettings": {{"Networks": {{"kind": {{"IPAddress": address}}}}}}}}]))
elif words[0] == "ps" and "--all" in words:
    print("c0ffee" + words[-1][-1])
"""

Play = Callable[[str], list[list[str]]]


def ansible_playbook(*arguments: str | Path, **environment: str) -> str:
    """Run ansible-playbook on the scenario's inventory; return what it says."""
    finished = run_ansible(
        "ansible-playbook",
        *("-i", SCENARIO / "inventory", *arguments),
        environment={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Runs a play of the scenario; gives the commands that it ran."""
    calls, programs = tmp_path / "calls", tmp_path / "bin"
    programs.mkdir()
    for name in ("kind", "docker"):
        (programs / name).write_text(STAND_IN.format(python=sys.executable, calls=calls))
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    def run(name: str) -> list[list[str]]:
        calls.write_text("")
        ansible_playbook(
            SCENARIO / f"{name}.yml",
            f"--extra-vars=ansible_python_interpreter={sys.executable}",
            PATH=path,
            MOLECULE_PROJECT_DIRECTORY=str(tmp_path),
        )
        return [json.loads(line) for line in calls.read_text().splitlines()]

    return run


def load(name: str) -> Any:
    return yaml.safe_load((SCENARIO / name).read_text())


def test_configuration_is_one_of_kind() -> None:
    jsonschema.validate(load("files/cluster.yml"), KIND_CONFIGURATION)


def test_scenario_has_its_playbooks() -> None:
    playbooks = load("molecule.yml")["ansible"]["playbooks"]
    assert set(playbooks) == {"create", "converge", "verify", "destroy"}
    ansible_playbook("--syntax-check", *((SCENARIO / playbook).resolve() for playbook in playbooks.values()))


def test_clusters_come_and_go(play: Play, tmp_path: Path) -> None:
    state = tmp_path / "build/molecule/kind"
    created = play("create")
    made = [call for call in created if call[:3] == ["kind", "create", "cluster"]]
    assert [call[3] for call in made] == [f"--name={cluster}" for cluster in CLUSTERS]
    for call in made:
        assert f"--config={SCENARIO}/files/cluster.yml" in call
    servers = [
        yaml.safe_load((state / f"{cluster}-admin.kubeconfig").read_text())["clusters"][0]["cluster"][
            "server"
        ]
        for cluster in CLUSTERS
    ]
    assert servers == ["https://172.18.0.2:6443", "https://172.18.0.3:6443"]
    started = created[-1]
    assert started[:2] == ["docker", "run"]
    assert "--network=kind" in started
    assert "@sha256:" in started[-1]

    deleted = play("destroy")
    assert [call[3] for call in deleted[:2]] == [f"--name={cluster}" for cluster in CLUSTERS]
    assert deleted[-1] == ["docker", "rm", "--force", "c0ffeer", "c0ffee1", "c0ffee2"]
    assert not state.exists()


def test_variables_are_options_of_roles() -> None:
    specs = [yaml.safe_load(path.read_text()) for path in ROOT.glob("roles/*/meta/argument_specs.yml")]
    options = {name for spec in specs for main in spec["argument_specs"].values() for name in main["options"]}
    assert set(load("inventory/group_vars/mesh.yml")) - {"ansible_connection"} <= options
    assert list(load("inventory/hosts.yml")["mesh"]["hosts"]) == CLUSTERS
