# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes when each task began and ended on each host, a line of JSON for each; for the benchmark."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: timeline
type: aggregate
short_description: When each task began and ended on each host
description: For the benchmark. Writes to the file that the environment variable EXOMESH_TIMELINE names.
requirements: []
options: {}
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # no types are published
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "timeline"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._begun: dict[tuple[str, str], float] = {}
        self._stream = open(os.environ["EXOMESH_TIMELINE"], "w", encoding="utf-8")  # noqa: SIM115 - open to the end

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._begun[host.get_name(), task._uuid] = time.time()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write(result, "skipped")

    def v2_runner_on_failed(self, result: Any, **_options: Any) -> None:
        self._write(result, "failed")

    def _write(self, result: Any, outcome: str) -> None:
        host, task, now = result._host.get_name(), result._task, time.time()
        entry = {
            "host": host,
            "role": task._role.get_name().rpartition(".")[2] if task._role else "",
            "task": task.get_name(),
            "action": task.resolved_action or task.action,
            "outcome": outcome,
            "began": self._begun.get((host, task._uuid), now),
            "ended": now,
        }
        self._stream.write(json.dumps(entry) + "\n")
        self._stream.flush()
