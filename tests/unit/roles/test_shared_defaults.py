"""The defaults that roles share are there also for a role that a task names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._istio.names import TRUST_DOMAIN
from ansible_runs import run_ansible

ROOT = Path(__file__).resolve().parents[3]


def asked_and_rescued(**how: Any) -> dict[str, Any]:
    """A task that names the role teardown, which asks for a confirmation that is not given."""
    return {"block": [how], "rescue": [{"ansible.builtin.meta": "clear_host_errors"}], "tags": ["asked"]}


def test_shared_defaults(tmp_path: Path) -> None:
    role, applied = {"name": "exomesh.istio.teardown"}, {"apply": {"tags": ["asked"]}}
    tasks = [
        asked_and_rescued(**{"ansible.builtin.import_role": role}),
        asked_and_rescued(**{"ansible.builtin.include_role": role | applied}),
    ]
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}])
    )
    finished = run_ansible(
        "ansible-playbook", "-i", "east,", "-c", "local", "play.yml", "--tags", "asked", folder=tmp_path
    )
    failures = [line for line in finished.stdout.splitlines() if line.startswith("fatal: [east]")]
    assert len(failures) == len(tasks), finished.stdout + finished.stderr
    for failure in failures:
        assert "out of cluster east of mesh mesh1." in failure


def test_modules_have_the_same_default_where_they_stand_in_for_a_host() -> None:
    """A role reads another host's variables from the inventory, which has no defaults of roles."""
    shared = yaml.safe_load((ROOT / "roles/mesh/defaults/main.yml").read_text())
    assert shared["istio_trust_domain"] == TRUST_DOMAIN
