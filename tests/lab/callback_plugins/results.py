"""Writes what the modules returned to a file, a line of JSON for each host and task."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: results
type: aggregate
short_description: Write results to a file
description: For the tests on the lab.
requirements: []
options: {}
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "results"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        entry = {
            "host": result._host.get_name(),
            "task": result._task.get_name(),
            **{name: result._result.get(name) for name in ("changed", "objects", "diff")},
        }
        with open(os.environ["EXOMESH_RESULTS"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, default=str) + "\n")
