"""What a run of a playbook said, and what its modules returned."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .runs import RunningLab, run_playbook

CALLBACKS = Path(__file__).parent / "callback_plugins"

Objects = dict[str, list[str]]


@dataclass
class Outcome:
    """A run: its output, and what its modules returned."""

    output: str
    results: list[dict[str, Any]]

    @property
    def changed(self) -> set[tuple[str, str]]:
        """Hosts and the roles that change something there."""
        return {(result["host"], role_of(result)) for result in self.results if result["changed"]}

    def objects(self) -> dict[tuple[str, str], Objects]:
        """What happens to which object, by host and role.

        By role, as a run begins some of what it predicts earlier than a prediction can know.
        """
        found: dict[tuple[str, str], Objects] = {}
        for result in self.results:
            for action, names in (result["objects"] or {}).items():
                if action != "unchanged":
                    happens = found.setdefault((result["host"], role_of(result)), {})
                    happens[action] = sorted([*happens.get(action, []), *names])
        return found

    def differences(self, host: str) -> dict[str, Any]:
        """Fields that change, by object: the diff of every task on a host that says it changes something."""
        found: dict[str, Any] = {}
        for result in self.results:
            if result["host"] == host and result["changed"]:
                for side in ("before", "after"):
                    fields = yaml.safe_load((result["diff"] or {}).get(side) or "") or {}
                    for name, content in fields.items():
                        found.setdefault(name, {})[side] = content
        return found


def role_of(result: dict[str, Any]) -> str:
    return str(result["task"]).partition(" : ")[0]


def run(lab: RunningLab, playbook: str, folder: Path, *arguments: str) -> Outcome:
    """Run a playbook, and keep what its modules return."""
    path = folder / "results.jsonl"
    path.unlink(missing_ok=True)
    environment = {
        "EXOMESH_RESULTS": str(path),
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
        "ANSIBLE_CALLBACKS_ENABLED": "results",
    }
    process = run_playbook(lab, playbook, *arguments, **environment)
    assert process.returncode == 0, process.stdout[-5000:]
    results = [json.loads(line) for line in path.read_text().splitlines()]
    return Outcome(process.stdout + process.stderr, results)
