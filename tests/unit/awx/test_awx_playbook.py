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
    "awx_teams": {"read": ["developers"], "operate": ["operators"], "approve": ["owners"]},
    "awx_notifications": {"error": ["pager"], "approvals": ["chat"]},
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
        for team in ("developers", "operators", "owners"):
            running.create("teams", {"name": team, "organization": 1})
        for notification in ("pager", "chat"):
            running.create("notification_templates", {"name": notification, "organization": 1})
        yield running


def test_from_nothing_to_nothing(awx: Awx, tmp_path: Path) -> None:
    login = {"CONTROLLER_HOST": awx.url, "CONTROLLER_OAUTH_TOKEN": TOKEN}
    empty = awx.snapshot()

    foretold = play(tmp_path, login, "--check", "--diff")
    assert foretold.return_code == 0, foretold.text
    # Five types, execution environment, project, inventory are told one by one, the rest in one task.
    assert foretold.changed == 5, foretold.text
    assert "the schedules and the rights of the teams would be made or changed, too" in foretold.words, (
        foretold.text
    )
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
    approving = awx.objects["role_team_assignments"].popitem()[1]
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
        awx_teams={"approve": ["owners"]},  # nobody loses a right who is not named any more
    )
    assert PASSWORD not in repaired.text
    assert (repaired.return_code, repaired.changed) == (0, 3), repaired.text
    assert sorted(method for method, _ in awx.writes) == ["PATCH", "POST", "POST"]
    made_again = awx.objects["role_team_assignments"].popitem()[1]
    assert made_again | {"id": approving["id"]} == approving
    awx.objects["role_team_assignments"][approving["id"]] = approving
    assert awx.snapshot() == whole

    # Somebody else's are left alone.
    other = awx.create("projects", {"name": "exomesh of others", "organization": 1})
    removed = play(tmp_path, login, awx_state="absent")
    assert removed.return_code == 0, removed.text
    left = {name: list(found.values()) for name, found in awx.objects.items() if found}
    assert left.pop("projects") == [other]
    assert left.keys() == {"organizations", "teams", "notification_templates", "role_definitions"}
    assert not awx.surveys


def assert_made(awx: Awx) -> None:
    """Everything is there, and refers to the right things."""
    project, inventory = awx.named("projects", "exomesh"), awx.named("inventories", "exomesh")
    assert project["scm_url"] == SETTINGS["awx_project_url"]
    assert yaml.safe_load(inventory["variables"]) == {
        "kubeconfig_context": "{{ inventory_hostname }}",
        "kubeconfig_fetch_in_check_mode": True,
        "kubeconfig_ttl": "1h",
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
    signing = {"plan", "site", "certificates", "renew certificates", "rotate root", "add cluster"}
    assert credentials == {name: 3 if name in signing else 2 for name in templates}
    assert templates["plan"]["job_type"] == "check"
    assert {item["inventory"] for item in templates.values()} == {inventory["id"]}
    environment = awx.named("execution_environments", "exomesh")
    assert {item["execution_environment"] for item in templates.values()} == {environment["id"]}
    surveyed = {name for name, item in templates.items() if item["id"] in awx.surveys}
    assert (
        surveyed
        == {name for name, item in templates.items() if item["survey_enabled"]}
        == {"diagnose", "support bundle", "add cluster", "remove cluster", "shift traffic", "failover drill"}
        | {"rotate root", "teardown"}
    )
    assert {(item["forks"], item["timeout"]) for item in templates.values()} == {(20, 7200)}
    assert templates["site"]["ask_limit_on_launch"]
    pager = awx.named("notification_templates", "pager")["id"]
    assert {
        tuple(awx.lists.get((item["id"], "notification_templates_error"), ())) for item in templates.values()
    } == {(pager,)}

    workflow = awx.named("workflow_job_templates", "exomesh plan and apply")
    assert awx.lists[workflow["id"], "notification_templates_approvals"] == [
        awx.named("notification_templates", "chat")["id"]
    ]
    assert_rights(awx, {item["id"]: name for name, item in templates.items()} | {workflow["id"]: "workflow"})
    way, node = [], awx.named("workflow_job_template_nodes", "plan")
    while True:
        way.append(awx.find("unified_job_templates", node["unified_job_template"])["name"])
        following = awx.lists.get((node["id"], "success_nodes"), [])
        if not following:
            break
        node = awx.find("workflow_job_template_nodes", following[0])
    assert way == ["exomesh plan", "exomesh approval", "exomesh site", "exomesh verify"]
    assert {item["name"]: item["unified_job_template"] for item in awx.objects["schedules"].values()} == {
        f"exomesh {name}": templates[name]["id"] for name in ("status", "certificates", "certificates report")
    }


def assert_rights(awx: Awx, names: dict[int, str]) -> None:
    """Each team may do what awx_teams says, and no team may change a mesh without an approval."""
    given: dict[str, set[tuple[str, str]]] = {}
    for right in awx.objects["role_team_assignments"].values():
        team = awx.find("teams", right["team"])["name"]
        role = awx.find("role_definitions", right["role_definition"])["name"].split()[-1]
        given.setdefault(team, set()).add((role, names[right["object_id"]]))
    reading = ("preflight", "plan", "verify", "status", "diagnose", "certificates report")
    changing = ("support bundle", "certificates", "renew certificates", "add cluster", "remove cluster")
    changing += ("shift traffic", "failover drill", "workflow")
    assert given == {
        "developers": {("Execute", name) for name in reading},
        "operators": {("Execute", name) for name in (*reading, *changing)},
        "owners": {("Approve", "workflow")},
    }


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
