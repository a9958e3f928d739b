"""What roles must not assume where nothing outlives a run and answers come as text, as in AWX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Play = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parent for path in ROOT.glob("roles/*/tasks"))
# Everything that is written has its place below this, which a user can set.
STATE_DIR = "{{ inventory_dir | default(playbook_dir, true) }}/.exomesh"
JOB_FOLDER = "{{ inventory_dir | default(playbook_dir, true) }}/"  # only compared with
CONDITIONS = ("when", "that", "until", "changed_when", "failed_when", "any_errors_fatal", "check_mode")


class Loader(yaml.SafeLoader):
    """Leaves out what is no expression of ours (!unsafe)."""


Loader.add_constructor("!unsafe", lambda _loader, _node: None)


def files(role: Path) -> list[Path]:
    return sorted(path for name in ("defaults", "vars", "tasks") for path in role.glob(f"{name}/**/*.yml"))


def strings(value: Any, condition: bool = False) -> Iterator[str]:
    """Every expression in what a YAML file holds: between braces, or a condition."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, key in CONDITIONS)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, condition)
    elif isinstance(value, str):
        if condition and "{{" not in value:
            yield value
        else:
            yield from (found.strip() for found in re.findall(r"{{(.+?)}}", value, re.DOTALL))


def options(role: Path) -> dict[str, dict[str, Any]]:
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    return {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}


def test_a_number_or_a_boolean_may_be_text() -> None:
    """A module takes them for what they say; an expression must say `| bool`, `| int` or `| float` itself."""
    kinds = {name: option.get("type") for role in ROLES for name, option in options(role).items()}
    scalars = [name for name, kind in kinds.items() if kind in ("bool", "int", "float")]
    default = r"(?:\s*\|\s*default\((?:[^()]|\([^()]*\))*\))?"
    handed_on = re.compile(rf"(?:{'|'.join(scalars)}){default}")
    used = re.compile(
        rf"(?<![\w.'])(?P<name>{'|'.join(scalars)})\b(?!\s*=[^=]){default}(?P<cast>\s*\|\s*(?:bool|int|float)\b)?"
    )
    bare, cast = [], 0
    for path in [path for role in ROLES for path in files(role)]:
        for expression in strings(yaml.load(path.read_text(), Loader)):
            if (
                handed_on.fullmatch(expression)
                and "\n" not in expression
                and not is_condition(path, expression)
            ):
                continue
            for match in used.finditer(expression):
                cast += bool(match["cast"])
                if not match["cast"]:
                    bare.append(f"{path.relative_to(ROOT)}: {match['name']} in {expression}")
    assert not bare
    assert cast > 5


def is_condition(path: Path, expression: str) -> bool:
    """Whether an expression stands without braces somewhere in the file."""
    return (
        re.search(rf"(?m)^\s*(?:- |[a-z_]+: ){re.escape(expression)}\s*(?:#.*)?$", path.read_text())
        is not None
    )


PATH_OR_TEXT = ("certificates_chain", "certificates_root_certificate")  # PEM, and used as it is then


def test_a_relative_path_is_one_from_where_ansible_was_started() -> None:
    """A module would take it from the folder of its playbook, a lookup look in several folders."""
    specs = {name: option for role in ROLES for name, option in options(role).items()}
    paths = [name for name, option in specs.items() if option.get("type") == "path"]
    lookups = [rf"lookup\('', {name}" for name in PATH_OR_TEXT]
    used = re.compile(
        rf"(?:(?<![\w.])(?:{'|'.join(paths)})|{'|'.join(lookups)})\b(?! is (?:not )?defined\b)"
        r"(?P<passed> \| exomesh\.istio\.absolute_path\b)?"
    )
    bare, passed = [], 0
    for path in [path for role in ROLES for path in files(role) if path.parent.name != "defaults"]:
        for expression in strings(yaml.load(path.read_text(), Loader)):
            for match in used.finditer(re.sub(r"'[^']*'", "''", expression)):
                passed += bool(match["passed"])
                if not match["passed"]:
                    bare.append(f"{path.relative_to(ROOT)}: {expression}")
    assert not bare
    assert passed >= len(paths)


def test_all_files_of_a_run_are_where_ansible_was_started(
    play_role: Play, tmp_path: Path, kubeconfigs: dict[str, Path]
) -> None:
    """Of a playbook that is elsewhere, with relative paths for what is read and what is written."""
    started_in = tmp_path / "elsewhere"
    started_in.mkdir()
    (started_in / "given").symlink_to(kubeconfigs["east"])
    made = play_role(
        "kubeconfig",
        {"east": {}},
        started_in=started_in,
        mesh_state_dir="state",
        kubeconfig_source="file",
        kubeconfig_file="given",
        kubeconfig_merged_file="merged",
    )
    assert made.return_code == 0, made.text
    written = {str(path.relative_to(started_in)) for path in started_in.rglob("*") if path.is_file()}
    assert {"given", "merged", "state/.gitignore", "state/east/kubeconfig"} <= written
    assert not {"state", "merged"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_files_are_written_where_the_user_can_say(role: Path) -> None:
    """No home but one that the user names, no folder of a playbook or role."""
    for path in files(role):
        text = re.sub(r"(?m)^\s*#.*$", "", path.read_text()).replace(STATE_DIR, "").replace(JOB_FOLDER, "")
        text = text.replace("paths=[role_path ~ '/../..']", "")  # reads which version it is of
        found = re.findall(r"~/|\bHOME\b|ansible_env|playbook_dir|role_path|\$\{?HOME", text)
        assert not found, path


def test_an_archive_that_would_end_with_the_job_is_not_made(play_role: Play, tmp_path: Path) -> None:
    hosts = {"east": {}, "west": {}}
    refused = play_role("support_bundle", hosts, awx_job_id=7)
    assert refused.return_code != 0
    assert "ends with this job of AWX. Set support_bundle_dir" in refused.words
    mounted = tmp_path.parent / f"{tmp_path.name}-mounted"
    made = play_role("support_bundle", hosts, "--check", awx_job_id=7, support_bundle_dir=str(mounted))
    assert made.return_code == 0, made.text


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_folders_that_are_written_to_can_be_set(role: Path) -> None:
    """Each default of a path is below the state folder, which has an override, or is only read."""
    read_only = {"certificates_vault_kubernetes_token_path", "istioctl_preinstalled", "verify_output_dir"}
    for name, option in options(role).items():
        if option.get("type") != "path" or "default" not in option or name in read_only:
            continue
        default = option["default"]
        assert (
            default == STATE_DIR if name == "mesh_state_dir" else default.startswith("{{ mesh_state_dir }}/")
        ), name
