"""playbooks/awx.yml with the modules of awx.awx, against a stand-in for AWX's API."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_runs import run_ansible
from awx_api import Awx, serve

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOKS = {f"playbooks/{path.name}" for path in (ROOT / "playbooks").glob("*.yml")}
TOKEN, PASSWORD = "t0ken-of-the-controller", "p4ssword-of-the-controller"
SECRETS = {
    "exoscale": {"api_key": "EXOtest", "api_secret": "s3cret-of-exoscale"},
    "root_ca": {"certificate": "-----BEGIN CERTIFICATE-----", "key": "s3cret-root-key"},
    "kubeconfig": {},  # to be filled in AWX
}
SETTINGS: dict[str, Any] = {
    "awx_project_url": "https://git.example.com/mesh.git",
    "awx_execution_environment_image": "registry.example.com/exomesh-ee:1",
    "awx_credentials": SECRETS,
    "awx_mesh_variables": {"mesh_ha": True},
}


@dataclass
class Run:
    """How a run of the playbook ended."""

    return_code: int
    text: str

    @property
    def changed(self) -> int:
        """Number of changed tasks."""
        return int(re.findall(r"changed=(\d+)", self.text)[-1])

    @property
    def words(self) -> str:
        """The output on one line, as Ansible wraps what it says."""
        return " ".join(self.text.split())


def play(tmp_path: Path, environment: dict[str, str], *arguments: str, **settings: Any) -> Run:
    variables = tmp_path / "variables.yml"
    variables.write_text(yaml.safe_dump({**SETTINGS, **settings}))
    left_out = ("CONTROLLER_", "TOWER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    finished = run_ansible(
        "ansible-playbook",
        *("-i", "localhost,", "-e", f"@{variables}", "exomesh.istio.awx"),
        *arguments,
        environment={
            **kept,
            "HOME": str(tmp_path),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            **environment,
        },
        folder=tmp_path,
    )
    return Run(finished.returncode, finished.stdout + finished.stderr)


@pytest.fixture
def awx() -> Iterator[Awx]:
    with serve(Awx(TOKEN, PASSWORD, PLAYBOOKS)) as running:
        yield running


def test_from_nothing_to_nothing(awx: Awx, tmp_path: Path) -> None:
    login = {"CONTROLLER_HOST": awx.url, "CONTROLLER_OAUTH_TOKEN": TOKEN}
    empty = awx.snapshot()

    foretold = play(tmp_path, login, "--check", "--diff")
    assert foretold.return_code == 0, foretold.text
    # Five types, execution environment, project, inventory are told one by one, the rest in one task.
    assert foretold.changed == 5, foretold.text
    assert "the workflow and the schedule would be made or changed, too" in foretold.words
    assert awx.snapshot() == empty
    assert not awx.writes

    made = play(tmp_path, login, "--diff", "-vvvv")
    assert made.return_code == 0, made.text
    values = [
        TOKEN,
        *(text for inputs in SECRETS.values() for name, text in inputs.items() if text.startswith("s3")),
    ]
    assert not [value for value in values if value in made.text]
    assert_made(awx)
    awx.named("credentials", "exomesh kubeconfig")["inputs"] = {"kubeconfig": "filled in by somebody"}
    whole = awx.snapshot()

    # What somebody changes by hand is put right, and nothing else is written: a second run changes nothing.
    survey = awx.surveys[awx.named("job_templates", "exomesh shift traffic")["id"]]
    awx.surveys[awx.named("job_templates", "exomesh shift traffic")["id"]] = {
        **copy.deepcopy(survey),
        "spec": survey["spec"][:1],
    }
    awx.named("credential_types", "exomesh Exoscale API key")["injectors"] = {}
    awx.writes.clear()
    repaired = play(
        tmp_path,
        {"CONTROLLER_HOST": awx.url, "CONTROLLER_USERNAME": "admin", "CONTROLLER_PASSWORD": PASSWORD},
        "-vvv",
    )
    assert PASSWORD not in repaired.text
    assert (repaired.return_code, repaired.changed) == (0, 2), repaired.text
    assert sorted(method for method, _ in awx.writes) == ["PATCH", "POST"]
    assert awx.snapshot() == whole

    # Somebody else's are left alone.
    other = awx.create("projects", {"name": "exomesh of others", "organization": 1})
    removed = play(tmp_path, login, awx_state="absent")
    assert removed.return_code == 0, removed.text
    assert {name: list(found.values()) for name, found in awx.objects.items() if found} == {
        "organizations": [awx.named("organizations", "Default")],
        "projects": [other],
    }
    assert not awx.surveys


def assert_made(awx: Awx) -> None:
    """Everything is there, and refers to the right things."""
    project, inventory = awx.named("projects", "exomesh"), awx.named("inventories", "exomesh")
    assert project["scm_url"] == SETTINGS["awx_project_url"]
    assert yaml.safe_load(inventory["variables"]) == {
        "kubeconfig_context": "{{ inventory_hostname }}",
        "kubeconfig_fetch_in_check_mode": True,
        "mesh_ha": True,
    }
    source = awx.named("inventory_sources", "exomesh clusters")
    assert (source["source"], source["source_project"], source["inventory"]) == (
        "scm",
        project["id"],
        inventory["id"],
    )
    assert (ROOT / source["source_path"]).is_file()

    key = awx.named("credentials", "exomesh Exoscale API key")
    assert key["inputs"] == SECRETS["exoscale"]
    assert source["credential"] == key["id"]
    templates = {
        item["name"].removeprefix("exomesh "): item for item in awx.objects["job_templates"].values()
    }
    credentials = {name: len(awx.lists[item["id"], "credentials"]) for name, item in templates.items()}
    # The root CA goes to the jobs that sign, and to no other.
    signing = {"plan", "site", "renew certificates", "add cluster"}
    assert credentials == {name: 3 if name in signing else 2 for name in templates}
    assert templates["plan"]["job_type"] == "check"
    assert {item["inventory"] for item in templates.values()} == {inventory["id"]}
    environment = awx.named("execution_environments", "exomesh")
    assert {item["execution_environment"] for item in templates.values()} == {environment["id"]}
    surveyed = {name for name, item in templates.items() if item["id"] in awx.surveys}
    assert (
        surveyed
        == {name for name, item in templates.items() if item["survey_enabled"]}
        == set(templates) - {"status"}
    )

    workflow = awx.named("workflow_job_templates", "exomesh plan and apply")
    assert awx.surveys[workflow["id"]] == awx.surveys[templates["site"]["id"]]
    way, node = [], awx.named("workflow_job_template_nodes", "plan")
    while True:
        way.append(awx.find("unified_job_templates", node["unified_job_template"])["name"])
        following = awx.lists.get((node["id"], "success_nodes"), [])
        if not following:
            break
        node = awx.find("workflow_job_template_nodes", following[0])
    assert way == ["exomesh plan", "exomesh approval", "exomesh site", "exomesh verify"]
    schedule = awx.named("schedules", "exomesh status")
    assert schedule["unified_job_template"] == templates["status"]["id"]


@pytest.mark.parametrize(
    ("environment", "settings", "message"),
    [
        (
            {"CONTROLLER_HOST": "{url}"},
            {},
            "or CONTROLLER_USERNAME and CONTROLLER_PASSWORD. Nothing was changed.",
        ),
        ({"token": TOKEN}, {"awx_project_url": ""}, "awx_project_url, the Git repository with the playbooks"),
        ({"token": TOKEN}, {"awx_credentials": {}}, "Where is the key of the root CA?"),
        ({"token": TOKEN}, {"awx_credentials": {"exoscal": {}}}, "exoscal. Supported parameters include"),
        (
            {"token": "wrong"},
            {},
            "Invalid authentication credentials for /api/v2/credential_types/ (HTTP 401)",
        ),
    ],
    ids=["no token", "no project", "no root CA", "a typing error", "a wrong token"],
)
def test_wrong_inputs(
    awx: Awx, tmp_path: Path, environment: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    login = {name: text.format(url=awx.url) for name, text in environment.items()}
    if token := login.pop("token", None):
        login = {"CONTROLLER_HOST": awx.url, "CONTROLLER_OAUTH_TOKEN": token}
    run = play(tmp_path, login, **settings)
    assert run.return_code != 0
    assert message in run.words
    assert not awx.writes
