# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors planted in a document are found by tools/check_commands.py, and what is right is left alone."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]

Check = Callable[[str], tuple[int, list[str]]]


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("check_commands", ROOT / "tools/check_commands.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Check:
    """Check one document that stands beside this project's code; return exit code and problems."""
    for path in ROOT.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    for name in ("Makefile", "galaxy.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.setattr(tool, "ROOT", tmp_path)

    def run(document: str) -> tuple[int, list[str]]:
        (tmp_path / "guide.md").write_text(document)
        subprocess.run(["git", "add", "guide.md"], cwd=tmp_path, check=True)
        code = tool.main()
        *problems, _count = capsys.readouterr().out.splitlines()
        return code, problems

    return run


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("ansible-playbook -i inventory exomesh.istio.sight", "there is no playbooks/sight.yml"),
        ("ansible-playbook exomesh.istio.access", "no test runs the playbook access"),
        ("ansible-playbook exomesh.istio.site -e mesh_idd=x", "the playbook knows no variable mesh_idd"),
        ("""ansible-playbook site.yml -e '{"mesh_idd": 1}'""", "the playbook knows no variable mesh_idd"),
        (".venv/bin/ansible-playbook site.yml -e mesh_idd=x", "the playbook knows no variable mesh_idd"),
        ("make site && make tset", "there is no make target tset"),
        ("lab/exolab.sh upp", "the lab has no subcommand upp"),
        ("ansible-doc exomesh.istio.no_module", "there is no module no_module"),
        ("ansible-doc -t role exomesh.istio.no_role", "there is no role no_role"),
        (
            "ansible-galaxy collection install build/exomesh-istio-0.0.1.tar.gz",
            f"make build makes exomesh-istio-{VERSION}.tar.gz",
        ),
        ("exo compute sks list", "its section does not say that it needs a cloud account"),
        ("true | froogle", "true is a program that tools/check_commands.py does not know"),
        ("kubectl get pods | froogle", "froogle is a program that tools/check_commands.py does not know"),
    ],
)
def test_a_planted_error_is_named_with_its_place(check: Check, command: str, problem: str) -> None:
    code, problems = check(f"# A guide\n\n```console\n$ {command}\n```\n")
    assert code == 1
    assert problems[0] == f"guide.md:4: {problem}: {command}"


def test_what_is_right_is_left_alone(check: Check) -> None:
    document = f"""
# A guide

```console
$ make venv site ARGS="--check --diff"
$ ansible-playbook -i inventory --limit cluster1 exomesh.istio.site -e mesh_id=x \\
    -e '{{"mesh_ha": true}}' -e @mine.yml
$ ansible-playbook exomesh.istio.diagnose -e from=cluster1 -e service=a.b:80
$ lab/exolab.sh status && kubectl get pods | tar -c
$ ansible-doc -t inventory exomesh.istio.sks
$ ansible-galaxy collection install build/exomesh-istio-{VERSION}.tar.gz
output of it
```
"""
    assert check(document) == (0, [])


def test_a_cloud_is_said_in_the_section_itself(check: Check) -> None:
    section = "## {}\n\n{}\n\n```console\n$ exo compute sks list\n```\n"
    marked = section.format("Marked", "These commands need a cloud account:")
    assert check(marked) == (0, [])
    code, problems = check(marked + section.format("Not marked", "These do not say so:"))
    assert (code, len(problems)) == (1, 1)
    assert problems[0].startswith("guide.md:13: its section")


def test_commands_without_prompts_are_refused(check: Check) -> None:
    code, problems = check("# A guide\n\n```bash\nmake tset\n```\n")
    assert (code, problems) == (1, ["guide.md: ```bash: make it a console, with prompts"])
