# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflows for forks and the pre-commit hooks: pinned, of least rights, in step with the Makefile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE))

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path: Path) -> Any:
    # BaseLoader: YAML 1.1 takes the key `on` for a boolean.
    return yaml.load(path.read_text(), yaml.BaseLoader)


def made(commands: str) -> Iterator[str]:
    """The targets of the calls of make in commands."""
    for call in re.findall(r"\bmake ([^\n;&|]+)", commands):
        yield from (word for word in call.split() if not word.startswith("-") and "=" not in word)


def test_there_are_workflows() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]


@each_workflow
def test_every_action_is_pinned(path: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses:\s*(.+)$", path.read_text(), re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


@each_workflow
def test_make_has_every_target(path: Path) -> None:
    steps = [step for job in load(path)["jobs"].values() for step in job["steps"]]
    targets = {target for step in steps for target in made(step.get("run", ""))}
    assert targets
    assert targets - TARGETS == set()


@each_workflow
def test_rights_are_few(path: Path) -> None:
    """Only reading, but for the job that publishes; no credentials left in a checkout; every job ends."""
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job
        if "permissions" in job:
            assert (path.name, name) == ("release.yml", "publish")
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false"


def test_units_run_with_every_supported_release_of_ansible() -> None:
    """Those of requirements/run.txt, and as additions those that only `make matrix` tries otherwise."""
    tried = set(re.findall(r'Cell\("[\d.]+", "(2\.\d+)', (ROOT / "tools/run_matrix.py").read_text()))
    pinned = set(re.findall(r"(?m)^ansible-core==(2\.\d+)", (ROOT / "requirements/run.txt").read_text()))
    unit = load(ROOT / ".github/workflows/ci.yml")["jobs"]["unit"]["strategy"]["matrix"]
    added = {".".join(row["core"].split(".")[:2]) for row in unit["include"]}
    assert added
    assert pinned | added == tried


def test_no_secret_meets_a_pull_request() -> None:
    """Secrets are in one job, which a tag starts, waits for its environment, and runs nothing of ours."""
    for path in WORKFLOWS:
        workflow = load(path)
        assert "pull_request_target" not in workflow["on"]
        for name, job in workflow["jobs"].items():
            if "secrets." in yaml.safe_dump(job):
                assert (path.name, name) == ("release.yml", "publish")
                assert list(workflow["on"]) == ["push"]
                assert list(workflow["on"]["push"]) == ["tags"]
                assert job["environment"] == "galaxy"
                assert not any("checkout" in step.get("uses", "") for step in job["steps"])


def hooks() -> list[dict[str, Any]]:
    config = load(ROOT / ".pre-commit-config.yaml")
    return [hook for repository in config["repos"] for hook in repository["hooks"]]


def test_hooks_are_the_linters_of_the_makefile() -> None:
    """Each linter is a hook and each hook a target, so that there is one list of what they run."""
    found = re.search(r"^lint:([^#\n]*)", MAKEFILE, re.MULTILINE)
    assert found
    linters = found[1].split()
    assert sorted(linters) == sorted(target for target in TARGETS if target.startswith("lint-"))
    assert {hook["id"] for hook in hooks()} == {*linters, "spec"}
    for hook in hooks():
        assert list(made(hook["entry"])) == [hook["id"]]


def test_hooks_need_nothing_from_elsewhere() -> None:
    config = load(ROOT / ".pre-commit-config.yaml")
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    assert {hook["language"] for hook in hooks()} == {"system"}


def test_a_hook_runs_for_its_files(tmp_path: Path) -> None:
    """pre-commit itself, without a network, in a checkout whose linters only tell their names."""
    (tmp_path / ".pre-commit-config.yaml").write_bytes((ROOT / ".pre-commit-config.yaml").read_bytes())
    names = [hook["id"] for hook in hooks()]
    rules = "".join(f"{name}:\n\t@echo ran $@\n" for name in names)
    (tmp_path / "Makefile").write_text(f".PHONY: {' '.join(names)}\n{rules}")
    (tmp_path / "changelogs/fragments").mkdir(parents=True)
    (tmp_path / "changelogs/fragments/1.yml").write_text("bugfixes: []\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PRE_COMMIT_HOME": str(tmp_path / "home"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "https_proxy": "http://127.0.0.1:9",
    }

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    run("git", "init", "--quiet")
    run("git", "add", "changelogs", ".pre-commit-config.yaml", "Makefile")
    pre_commit = Path(sys.executable).parent / "pre-commit"
    output = run(pre_commit, "run", "--verbose", "--files", "changelogs/fragments/1.yml")
    assert set(re.findall(r"^ran (\S+)$", output, re.MULTILINE)) == {"lint-changelog", "lint-yaml"}
    output = run(pre_commit, "run", "--verbose", "--all-files")
    assert "lint-python" not in re.findall(r"^ran (\S+)$", output, re.MULTILINE)
