"""What the role awx defines: for the modules of awx.awx, for AWX's surveys, and for the jobs of AWX."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from awx_plugins.interfaces._temporary_private_inject_api import inject_credential
from survey_rules import answers_to, survey_errors

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/awx"


class Loader(yaml.SafeLoader):
    """Reads what is not for Ansible to template as text."""


Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader)


TEMPLATES = load(ROLE / "vars/main/templates.yml")["__awx_templates"]
SURVEYS = load(ROLE / "vars/main/surveys.yml")["__awx_surveys"]
TYPES = load(ROLE / "vars/main/credential_types.yml")["__awx_types"]
OPTIONS = {
    name: option
    for path in ROOT.glob("roles/*/meta/argument_specs.yml")
    for entry_point in load(path)["argument_specs"].values()
    for name, option in entry_point["options"].items()
}


def tasks_of_the_role() -> list[dict[str, Any]]:
    return [task for path in sorted(ROLE.glob("tasks/*.yml")) for task in load(path)]


def test_the_modules_know_every_option() -> None:
    uses = [
        (name, task[name]) for task in tasks_of_the_role() for name in task if name.startswith("awx.awx.")
    ]
    names = sorted({name for name, _ in uses})
    assert len(uses) >= 17
    program = Path(sys.executable).with_name("ansible-doc")
    finished = subprocess.run([str(program), "-j", *names], capture_output=True, text=True, check=True)
    documented = json.loads(finished.stdout)
    for name, arguments in uses:
        options = documented[name]["doc"]["options"]
        # Templates are of every type.
        literal = {key: value for key, value in arguments.items() if "{{" not in str(value)}
        spec = {
            key: {
                entry: option[entry]
                for entry in ("type", "choices", "elements", "aliases")
                if entry in option
            }
            for key, option in options.items()
        }
        result = ArgumentSpecValidator(spec).validate(literal)
        assert not result.error_messages, (name, result.error_messages)
        assert not result.unsupported_parameters, (name, result.unsupported_parameters)
        assert set(arguments) <= set(options), (name, set(arguments) - set(options))
        missing = {key for key, option in options.items() if option.get("required")} - set(arguments)
        assert not missing, (name, missing)


def test_the_playbooks_are_there() -> None:
    assert [template["name"] for template in TEMPLATES] == [
        *("preflight", "plan", "site", "install", "verify", "status", "diagnose", "support bundle"),
        *("certificates", "certificates report", "renew certificates", "rotate root", "add cluster"),
        *("remove cluster", "shift traffic", "failover drill", "teardown"),
    ]
    assert not [
        template for template in TEMPLATES if not (ROOT / "playbooks" / template["playbook"]).is_file()
    ]


@pytest.mark.parametrize("name", SURVEYS)
def test_awx_accepts_the_survey(name: str) -> None:
    assert survey_errors(SURVEYS[name]) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"type": "bool"}, "bool is no type of question"),
        ({"required": "yes"}, "required is missing"),
        ({"default": "maybe"}, "the default is not among the choices"),
        ({"default": True}, "the default True is no multiplechoice"),
        ({"choices": [True, False]}, "choices must be texts"),
        ({"type": "integer", "default": "5"}, "the default '5' is no integer"),
        ({"help": "x"}, "unknown key help"),
    ],
)
def test_the_rules_find_what_awx_refuses(change: dict[str, Any], error: str) -> None:
    good = {"question_name": "Why", "variable": "why", "type": "multiplechoice", "required": False}
    good |= {"choices": ["true", "false"], "default": "true"}
    assert survey_errors({"name": "", "description": "", "spec": [good]}) == []
    assert error in " ".join(survey_errors({"name": "", "description": "", "spec": [{**good, **change}]}))


@pytest.mark.parametrize("name", SURVEYS)
def test_the_roles_accept_what_awx_sends(name: str) -> None:
    playbook = next(template["playbook"] for template in TEMPLATES if template["name"] == name)
    for question in SURVEYS[name]["spec"]:
        variable = question["variable"]
        option = OPTIONS.get(variable)
        if option is None:
            assert re.search(rf"\b{variable}\b", (ROOT / "playbooks" / playbook).read_text())
            continue
        validator = ArgumentSpecValidator(
            {variable: {k: option[k] for k in ("type", "choices", "elements") if k in option}}
        )
        for answer in answers_to(question):
            result = validator.validate({variable: answer})
            assert not result.error_messages, (variable, answer, result.error_messages)


def test_a_survey_never_wins_over_the_inventory_unasked() -> None:
    """AWX passes a default as an extra variable also where nobody was asked, as in a schedule."""
    questions = [question for survey in SURVEYS.values() for question in survey["spec"]]
    assert questions
    assert not [question for question in questions if "default" in question or not question["required"]]


def test_what_a_schedule_or_the_workflow_starts_asks_nothing() -> None:
    assert not {"plan", "site", "verify", "status", "certificates", "certificates report"} & SURVEYS.keys()


def make_surveys() -> Any:
    spec = importlib.util.spec_from_file_location("make_surveys", ROOT / "tools/make_surveys.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_secrets_and_lists_are_asked_for_as_such() -> None:
    ask = make_surveys().question
    options = {
        "token": {
            "type": "str",
            "no_log": True,
            "required": True,
            "description": "Token of V(x). It is secret.",
        },
        "zones": {"type": "list", "choices": ["a", "b"], "required": True, "description": ["Zones."]},
        "blank": {"type": "str", "description": "May be left out."},
    }
    token = ask("token", options)
    assert (token["type"], token["question_name"], token["question_description"]) == (
        "password",
        "Token of x",
        "It is secret.",
    )
    zones = ask("zones", options)
    assert (zones["type"], zones["choices"]) == ("multiselect", ["a", "b"])
    with pytest.raises(ValueError, match="blank is not required: the inventory may set it"):
        ask("blank", options)


class Credential:
    """A credential of AWX, as far as the injection asks."""

    def __init__(self, inputs: dict[str, str]) -> None:
        self.inputs = inputs

    def get_input_keys(self) -> list[str]:
        return list(self.inputs)

    def get_input(self, name: str) -> str:
        return self.inputs[name]


class Type:
    """A credential type of AWX, as far as the injection asks."""

    managed = False
    custom_injectors = None

    def __init__(self, definition: dict[str, Any]) -> None:
        self.inputs = definition["inputs"]
        self.injectors = definition["injectors"]


def injected(
    name: str, inputs: dict[str, str], folder: Path
) -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """What a job gets by AWX's own code: its environment, that which AWX shows, and its extra variables."""
    (folder / "env").mkdir(exist_ok=True)
    env: dict[str, str] = {}
    shown: dict[str, str] = {}
    arguments: list[str] = []
    inject_credential(Type(TYPES[name]), Credential(inputs), env, shown, arguments, str(folder))
    files = [folder / "env" / Path(argument).name for argument in arguments if argument.startswith("@")]
    variables = {key: value for file in files for key, value in load(file).items()}
    assert not [text for text in inputs.values() if text in shlex.join(arguments)]
    return env, shown, variables


def on_disk(path: str, folder: Path) -> Path:
    """The file of a path within AWX's container."""
    return folder / "env" / Path(path).name


def test_injection_of_the_exoscale_key(tmp_path: Path) -> None:
    env, shown, variables = injected("exoscale", {"api_key": "EXOtest", "api_secret": "s3cret"}, tmp_path)
    assert env == {"EXOSCALE_API_KEY": "EXOtest", "EXOSCALE_API_SECRET": "s3cret"}
    assert "s3cret" not in shown.values()
    assert variables == {}


def test_injection_of_a_kubeconfig(tmp_path: Path) -> None:
    env, shown, variables = injected("kubeconfig", {"kubeconfig": "kind: Config\n"}, tmp_path)
    file = on_disk(env["EXOMESH_KUBECONFIG"], tmp_path)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("kind: Config\n", 0o600)
    assert variables == {"kubeconfig_source": "env"}
    assert OPTIONS["kubeconfig_env"]["default"] == "EXOMESH_KUBECONFIG"
    assert "Config" not in str(shown)


def test_injection_of_the_root_ca(tmp_path: Path) -> None:
    given = {"certificate": "-----BEGIN CERTIFICATE-----", "key": "-----BEGIN PRIVATE KEY-----"}
    env, _, variables = injected("root_ca", given, tmp_path)
    assert env == {}
    assert variables.pop("certificates_backend") == "provided"
    files = {name: on_disk(path, tmp_path) for name, path in variables.items()}
    assert {name: file.read_text() for name, file in files.items()} == {
        "certificates_root_certificate": given["certificate"],
        "certificates_root_key": given["key"],
    }
    assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}


def test_injection_of_the_passphrase(tmp_path: Path) -> None:
    env, shown, _ = injected("root_passphrase", {"passphrase": "s3cret"}, tmp_path)
    assert env == {"EXOMESH_ROOT_PASSPHRASE": "s3cret"}
    assert "s3cret" not in shown.values()


@pytest.mark.parametrize(
    ("more", "mount", "namespace"),
    [
        ({}, "pki", ""),
        ({"ca": "-----BEGIN CERTIFICATE-----", "mount": "mesh", "vault_namespace": "team"}, "mesh", "team"),
    ],
)
def test_injection_of_vault(more: dict[str, str], mount: str, namespace: str, tmp_path: Path) -> None:
    given = {"url": "https://vault.example.com", "role_id": "role", "secret_id": "s3cret"}
    env, _, variables = injected("vault", given | more, tmp_path)
    assert env == {}
    ca = variables.pop("certificates_vault_ca_cert")
    assert (on_disk(ca, tmp_path).read_text() if ca else "") == more.get("ca", "")
    assert variables == {
        "certificates_backend": "vault",
        "certificates_vault_auth_method": "approle",
        "certificates_vault_mount": mount,
        "certificates_vault_namespace": namespace,
        **{f"certificates_vault_{name}": value for name, value in given.items()},
    }


def test_what_is_injected_are_options_and_variables_of_the_project() -> None:
    sources = "".join(
        path.read_text() for folder in ("plugins", "roles") for path in (ROOT / folder).rglob("*.py")
    )
    sources += "".join(path.read_text() for path in (ROOT / "roles/certificates").rglob("*.yml"))
    sources += "".join(path.read_text() for path in (ROOT / "roles/kubeconfig").rglob("*.yml"))
    for definition in TYPES.values():
        assert set(definition["injectors"].get("extra_vars", {})) <= set(OPTIONS)
        assert not [name for name in definition["injectors"].get("env", {}) if name not in sources]
        fields = {field["id"] for field in definition["inputs"]["fields"]}
        assert fields >= set(definition["inputs"]["required"])
    spec = OPTIONS["awx_credentials"]["options"]
    given = {
        name: {option: bool(field.get("no_log")) for option, field in entry["options"].items()}
        for name, entry in spec.items()
    }
    assert given == {
        name: {field["id"]: bool(field.get("secret")) for field in definition["inputs"]["fields"]}
        for name, definition in TYPES.items()
    }


def test_the_project_to_copy_has_every_playbook() -> None:
    project = ROOT / "inventories/awx"
    given = {path.name: load(path) for path in project.glob("playbooks/*.yml")}
    assert given.keys() == {template["playbook"] for template in TEMPLATES}
    assert {
        name: [play["ansible.builtin.import_playbook"] for play in plays] for name, plays in given.items()
    } == {name: [f"exomesh.istio.{name.removesuffix('.yml')}"] for name in given}
    assert not list(project.rglob("requirements.*"))
