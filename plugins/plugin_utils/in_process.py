# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of every module: where a module would run on this machine anyway, no Python is started.

Ansible packs a module, starts an interpreter and has it compile what was packed: half a second of CPU before
the module's first line. But Ansible has already made a process for the task, and these modules only talk to
APIs; so they run in that process. The module is the same, and so are its arguments, check mode, diff and
result. With the environment variable EXOMESH_MODULE_PROCESSES every module has a process of its own, as is
Ansible's way.

Ansible finds an action plugin by the module's name, so plugins/action has a file for each.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from contextlib import redirect_stdout, suppress
from types import ModuleType
from typing import Any

from ansible.module_utils.testing import patch_module_args
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.display import Display


def action_of(plugin: str) -> type[NormalAction]:
    """The action plugin for the module of the same name.

    Ansible loads an action plugin before it forks: so what is imported here is imported once for all hosts.

    :param plugin: the plugin's own ``__name__``.
    """
    plugins, _action, name = plugin.rsplit(".", 2)
    # Not all modules import it at once.
    importlib.import_module(f"{plugins}.module_utils._kubernetes")
    module = importlib.import_module(f"{plugins}.modules.{name}")
    return type("ActionModule", (InProcess,), {"module": module})


class InProcess(NormalAction):  # type: ignore[misc]
    """Runs a module."""

    module: ModuleType

    def _execute_module(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        task_vars = kwargs["task_vars"]
        if not self._is_for_this_process(task_vars):
            result: dict[str, Any] = super()._execute_module(*args, **kwargs)
            return result
        Display().vvv(
            f"Running {self.module.__name__} in the process of the task", host=self._play_context.remote_addr
        )
        arguments = dict(self._task.args)
        self._update_module_args(self._task.action, arguments, task_vars)
        output = io.StringIO()
        # The only public way to give a module its arguments, whatever else it is for. SystemExit ends it.
        with patch_module_args(arguments), redirect_stdout(output), suppress(SystemExit):
            self.module.main()
        data: dict[str, Any] = json.loads(output.getvalue())
        return data

    def _is_for_this_process(self, task_vars: dict[str, Any]) -> bool:
        """Whether Ansible would start the interpreter that runs already, as the same user."""
        return (
            self._connection.transport == "local"
            and self._templar.template(task_vars.get("ansible_python_interpreter")) == sys.executable
            and not self._connection.become
            and not self._task.async_val
            and not any(self._task.environment or ())
            and "EXOMESH_MODULE_PROCESSES" not in os.environ
        )
