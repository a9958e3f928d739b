# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nothing uses in roles and playbooks is found, and what something uses is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FILES = {
    "roles/mesh/defaults/main.yml": """
        mesh_id: "{{ mesh_state_dir }}"
        mesh_state_dir: .exomesh
        mesh_dead: of no role
        """,
    "roles/app/README.md": "It sets the fact `app_told`.",
    "roles/app/meta/argument_specs.yml": """
        argument_specs:
          main:
            options:
              mesh_id: {}
              mesh_state_dir: {}
              mesh_topology: {}
              app_port: {}
              app_dead_option: {}
        """,
    "roles/app/defaults/main.yml": """
        app_port: 80
        app_dead_default: "{{ app_dead_default }}"
        """,
    "roles/app/vars/main.yml": """
        __app_object: {port: "{{ app_port if {'a': {}} else 'app_dead_default, in a sentence' }}"}
        __app_of_a_host: "{{ hostvars | map(attribute='__app_name') }}"
        __app_name: name
        __app_dead: "{{ __app_dead_too }}"
        __app_dead_too: only a dead one names it
        """,
    "roles/app/tasks/main.yml": """
        - name: About app_dead_option, and {{ __app_of_a_host }}
          ansible.builtin.debug:
            msg: "{{ __app_object }} {{ lookup('template', 'used.j2') }} {{ groups | mesh_members }}"
          vars:
            __app_for_template: 1
            __app_dead_of_task: 1
          register: __app_result
          when: [mesh_id, app_fact]
        - name: Twice
          block:
            - name: In a block
              ansible.builtin.set_fact:
                app_told: "{{ __app_result }}"
                app_fact: 1
                app_dead_fact: 1
                cacheable: true
              register: __app_dead_result
        """,
    "roles/app/templates/used.j2": "{# __app_dead_of_task #}{{ __app_for_template }}",
    "roles/app/templates/dead.j2": "",
    "roles/app/files/dead.txt": "",
    "roles/outer/defaults/main.yml": "outer_dead: 1",
    "roles/outer/tasks/main.yml": """
        - name: What the other role uses is used
          ansible.builtin.include_role:
            name: exomesh.istio.app
          vars:
            app_port: 81
        """,
    "playbooks/site.yml": """
        - name: A play
          hosts: all
          vars: {mesh_id: mesh2, play_dead: 1, ansible_python_interpreter: python3}
          roles: [exomesh.istio.outer]
        """,
    "plugins/filter/mesh_members.py": "variables['mesh_topology']",
}


def test_what_is_dead(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    specification = importlib.util.spec_from_file_location(
        "check_variables", ROOT / "tools/check_variables.py"
    )
    assert specification
    assert specification.loader
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    assert sorted(tool.problems_of(tmp_path)) == [
        "playbooks/site.yml: play_dead is used nowhere",
        "roles/app/defaults/main.yml: app_dead_default is used nowhere",
        "roles/app/files/dead.txt: no task names it",
        "roles/app/meta/argument_specs.yml: app_dead_option is used nowhere",
        "roles/app/tasks/main.yml: __app_dead_of_task is used nowhere",
        "roles/app/tasks/main.yml: __app_dead_result is used nowhere",
        "roles/app/tasks/main.yml: app_dead_fact is used nowhere",
        "roles/app/templates/dead.j2: no task names it",
        "roles/app/vars/main.yml: __app_dead is used nowhere",
        "roles/app/vars/main.yml: __app_dead_too is used nowhere",
        "roles/mesh/defaults/main.yml: mesh_dead is used nowhere",
        "roles/outer/defaults/main.yml: outer_dead is used nowhere",
    ]
