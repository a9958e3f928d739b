# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook site checks version and clock of a cluster once, and never leaves both checks out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from ansible_runs import run_ansible

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("arguments", "by_kubeconfig"),
    [
        ((), False),
        (("--tags", "kubeconfig,preflight"), False),
        (("--tags", "kubeconfig"), True),
        (("--skip-tags", "preflight"), True),
        (("--skip-tags", "demo"), False),
    ],
)
def test_role_kubeconfig_leaves_to_preflight_what_it_checks(
    tmp_path: Path, arguments: tuple[str, ...], by_kubeconfig: bool
) -> None:
    first = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())[0]
    said = {"ansible.builtin.debug": {"msg": "told: {{ kubeconfig_check_version_and_clock | bool }}"}}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{**said, "tags": ["kubeconfig"]}]}
    (tmp_path / "step.yml").write_text(yaml.safe_dump([play]))
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{"ansible.builtin.import_playbook": "step.yml", "vars": first["vars"]}])
    )
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump(
            {
                "all": {
                    "hosts": {"here": {"ansible_connection": "local"}},
                    "vars": {"ansible_python_interpreter": sys.executable},
                }
            }
        )
    )
    finished = run_ansible(
        "ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", *arguments
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"told: {by_kubeconfig}" in finished.stdout
