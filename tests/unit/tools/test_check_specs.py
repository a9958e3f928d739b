# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A default that several roles or playbooks use is in one place, or is found to differ."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
META = """
galaxy_info: {description: It}
dependencies: [{role: exomesh.istio.mesh}]
"""
SPEC = """
argument_specs:
  main:
    short_description: It
    options:
"""
FILES = {
    "roles/mesh/defaults/main.yml": 'app_color: ""\napp_size: 1',
    "roles/app/meta/main.yml": META,
    "roles/app/meta/argument_specs.yml": SPEC
    + """
      app_color: {type: str, description: It, default: ""}
      app_port: {type: int, description: It, default: 80}
      app_size: {type: int, description: It, default: 1}
    """,
    "roles/app/defaults/main.yml": "app_port: 80",
    "roles/app/tasks/main.yml": '- {name: It, debug: {msg: "{{ app_color }} {{ app_port }}"}}',
    "roles/other/meta/main.yml": META,
    "roles/other/meta/argument_specs.yml": SPEC
    + """
      app_color: {type: str, description: It, default: ""}
      other_port: {type: int, description: It, default: "{{ app_port | default(80) }}"}
    """,
    "roles/other/defaults/main.yml": 'other_port: "{{ app_port | default(80) }}"',
    "roles/other/tasks/main.yml": '- {name: It, debug: {msg: "{{ app_color }} {{ hosts.app_color | default('
    ') }}"}}',
    "playbooks/app.yml": "[{hosts: all, vars: {port: '{{ app_port | default(80, true) }}'}}]",
}


@pytest.fixture
def check_specs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_specs", ROOT / "tools/check_specs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "SHARED", tmp_path / "roles/mesh")
    return module


def problems(check_specs: ModuleType, files: dict[str, str]) -> list[str]:
    """What is wrong in the roles app and other, with these files in place of their own."""
    root: Path = check_specs.ROOT
    for name, content in {**FILES, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    roles = [root / "roles/app", root / "roles/other"]
    found = [*check_specs.mesh_wide_problems(roles), *check_specs.fallback_problems(roles)]
    return found + [problem for role in roles for problem in check_specs.role_problems(role)]


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("playbooks/app.yml", "(80, ", "(8080, ", "app_port defaults to 8080, but to 80 in its role"),
        (
            "roles/other/tasks/main.yml",
            "{{ app_color }}",
            "{{ app_color | default('') }}",
            "needs no other one",
        ),
        ("roles/app/defaults/main.yml", "app_port", 'app_color: ""\napp_port', "main.yml, too"),
        (
            "roles/other/tasks/main.yml",
            "{{ app_color }}",
            "{{ app_size }}",
            "app_size is used, but is neither",
        ),
        ("roles/other/meta/argument_specs.yml", 'default: ""', "default: red", "app_color differs"),
    ],
)
def test_another_default_is_found(check_specs: ModuleType, name: str, old: str, new: str, told: str) -> None:
    assert not problems(check_specs, {})
    assert told in " ".join(problems(check_specs, {name: FILES[name].replace(old, new)}))
