# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README's tables: what changes in the code without them is noticed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = (
    "README.md",
    "tools/*.py",
    "tests/matrix.json",
    "playbooks/*.yml",
    "roles/*/meta/main.yml",
    "plugins/*/*.py",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tool with all that it reads."""
    for path in (path for pattern in SOURCES for path in ROOT.glob(pattern)):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, folder / "tools/make_readme.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "pattern", "text"),
    [
        ("playbooks/gateway.yml", "^# .*", "# Has another text. And more."),
        ("roles/mesh/meta/main.yml", "(?<=  description: ).*", "Has another text"),
        ("plugins/modules/root_ca.py", "(?<=short_description: ).*", "Has another text"),
        ("plugins/inventory/sks.py", "(?<=short_description: ).*", "Has another text"),
    ],
)
def test_a_changed_text_is_noticed_and_written(copy: Path, name: str, pattern: str, text: str) -> None:
    assert run(copy, "--check").returncode == 0
    path = copy / name
    path.write_text(re.sub(pattern, text, path.read_text(), count=1, flags=re.MULTILINE))

    noticed = run(copy, "--check")
    assert (noticed.returncode, noticed.stdout) == (1, "README.md has other tables: run `make readme`\n")
    assert run(copy).returncode == 0
    assert "| Has another text |" in (copy / "README.md").read_text()
    assert run(copy, "--check").returncode == 0


def test_what_is_new_and_what_is_gone_is_noticed(copy: Path) -> None:
    (copy / "playbooks/new.yml").write_text("---\n# Does something new.\n- hosts: mesh\n")
    assert run(copy, "--check").returncode == 1
    (copy / "playbooks/new.yml").unlink()
    assert run(copy, "--check").returncode == 0
    (copy / "plugins/modules/root_ca.py").unlink()
    assert run(copy, "--check").returncode == 1


def test_a_playbook_without_a_comment_is_named(copy: Path) -> None:
    (copy / "playbooks/new.yml").write_text("---\n- hosts: mesh\n")
    refused = run(copy)
    assert refused.returncode == 1
    assert refused.stderr == "playbooks/new.yml does not begin with a comment of what it does\n"


def test_the_table_of_versions_is_what_the_recorded_run_says(copy: Path) -> None:
    """A cell that was not tried, or is not in the record, is never said to have passed."""
    record = json.loads((copy / "tests/matrix.json").read_text())
    passed = [name for name, result in record.items() if result["result"] == "passed"]
    failed, absent, gone = passed[:3]
    record[failed] |= {"result": "failed", "failed": 7, "date": "2020-02-20"}
    record[absent] = {"result": "not tried"}
    del record[gone]
    (copy / "tests/matrix.json").write_text(json.dumps(record))
    assert run(copy, "--check").returncode == 1
    assert run(copy).returncode == 0
    rows = (copy / "README.md").read_text().partition("<!-- matrix, ")[2].partition("<!-- end of matrix")[0]
    assert ", 7 failed" in rows
    assert "| failed on 2020-02-20 |" in rows
    assert rows.count("| passed on ") == len(passed) - 3
    assert rows.count("| not tried |") == len(record) - len(passed) + 3
    assert run(copy, "--check").returncode == 0
