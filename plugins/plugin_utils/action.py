# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of every module: where a module would run on this machine anyway, no Python is started.

Ansible packs a module, starts an interpreter and has it compile what was packed: half a second of CPU before
the module's first line. But Ansible has already made a process for the task, and these modules only talk to
APIs; so they run in that process, with their options checked by ansible-core's own validator. With the
environment variable EXOMESH_MODULE_PROCESSES every module has a process of its own, as is Ansible's way.

A module in a process of its own gets its arguments by a pipe, not by a file, as they may hold secrets.
"""

from __future__ import annotations

import ctypes
import grp
import importlib
import json
import os
import pwd
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ansible.constants import config
from ansible.errors import AnsibleActionFail, AnsibleUndefinedConfigEntry
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.errors import UnsupportedError
from ansible.plugins.action import ActionBase
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.release import __version__ as core_version
from ansible.utils.display import Display

from ..module_utils._base.task import Result, Spec, Task, perform, without_secrets

_PR_SET_PDEATHSIG = 1


class ModuleAction(NormalAction):  # type: ignore[misc]
    """Runs the module of the same name."""

    module: ModuleType

    def __init_subclass__(cls) -> None:
        # Ansible loads an action plugin before it forks: what is imported here is imported once for all.
        plugins, _action, name = cls.__module__.rsplit(".", 2)
        # Not all modules import it at once.
        importlib.import_module(f"{plugins}.module_utils._kubernetes.client")
        cls.module = importlib.import_module(f"{plugins}.modules.{name}")

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> Result:
        variables = task_vars or {}
        if not self._is_for_this_process(variables):
            with self._in_a_process_of_its_own():
                result: Result = super().run(tmp, variables)
                return result
        Display().vvv(
            f"Running {self.module.__name__} in the process of the task", host=self._play_context.remote_addr
        )
        _end_with_ansible()
        result = ActionBase.run(self, tmp, variables)
        with self._in_its_folder():
            return {**result, **self._result(variables)}

    def _result(self, task_vars: dict[str, Any]) -> Result:
        spec: Spec = self.module.SPEC
        validator = ArgumentSpecValidator(**spec.arguments())
        checked = validator.validate(_plain(self._task.args))
        task = Task(
            checked.validated_parameters,
            check_mode=bool(self._task.check_mode),
            diff=bool(self._task.diff),
            core_version=core_version,
            secrets=set(checked._no_log_values),
        )
        if checked.error_messages:
            # In the words of AnsibleModule.
            told = str(checked.errors.msg)
            if isinstance(checked.errors[0], UnsupportedError):
                told = f"Unsupported parameters for ({self._task.action}) module: {told}"
            result: Result = {"failed": True, "msg": told}
        else:
            result = perform(spec, self.module.run, task)
        result |= _path_info(result.get("path") or result.get("dest"))
        result.setdefault("changed", False)
        if _tells_invocation(task_vars):
            result["invocation"] = {"module_args": task.params}
        if task.warnings:
            result["warnings"] = task.warnings
        return without_secrets(result, task)

    def _is_for_this_process(self, task_vars: dict[str, Any]) -> bool:
        """Whether Ansible would start the interpreter that runs already, as the same user."""
        if host := self._task.delegate_to:
            task_vars = task_vars.get("ansible_delegated_vars", {}).get(host, {})
        return (
            self._connection.transport == "local"
            and self._templar.template(task_vars.get("ansible_python_interpreter")) == sys.executable
            and not self._connection.become
            and not self._task.async_val
            and not any(self._task.environment or ())
            and "EXOMESH_MODULE_PROCESSES" not in os.environ
        )

    @contextmanager
    def _in_its_folder(self) -> Iterator[None]:
        """Be in the folder in which Ansible starts a module, as relative paths begin there."""
        before = os.getcwd()
        os.chdir(getattr(self._connection, "cwd", None) or before)
        try:
            yield
        finally:
            os.chdir(before)

    @contextmanager
    def _in_a_process_of_its_own(self) -> Iterator[None]:
        """Have arguments go through a pipe, and the module's process end in order when the task must end."""
        self._refuse_secrets_on_disk()
        if self._connection.has_pipelining and not self._task.async_val:
            self._connection.set_option("pipelining", True)
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception):
                self._end_children()
            raise

    def _refuse_secrets_on_disk(self) -> None:
        spec = self.module.SPEC.argument_spec
        given = [name for name in self._task.args if spec.get(name, {}).get("no_log")]
        if self._task.async_val and given:
            raise AnsibleActionFail(
                f"{self._task.action} cannot run with async: Ansible would write {', '.join(given)} to a "
                "file. Take away async, or give these options by path"
            )

    @staticmethod
    def _end_children() -> None:
        """End what was started for this task: Ansible ends its own process only, and that in no order.

        By SIGINT, on which Python cleans up from its first line on; on SIGTERM only when a module says so.
        """
        if os.getpgrp() != os.getpid():
            return  # this is no process that Ansible made for a task
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.killpg(os.getpgrp(), signal.SIGINT)
        signal.signal(signal.SIGINT, before)


def _end_with_ansible() -> None:
    """Have this process end in order when Ansible is killed, as nobody waits for its result then."""
    if sys.platform == "linux" and os.getpgrp() == os.getpid():
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _tells_invocation(task_vars: dict[str, Any]) -> bool:
    """Whether a result has the options of its module: as is set since ansible-core 2.21, always before."""
    try:
        return bool(config.get_config_value("INJECT_INVOCATION", variables=task_vars))
    except AnsibleUndefinedConfigEntry:
        return True


def _path_info(path: str | None) -> Result:
    """What AnsibleModule tells of the file that a result names."""
    if not path or not os.path.lexists(path):
        return {}
    info = os.lstat(path)
    kinds = ((stat.S_ISLNK, "link"), (stat.S_ISDIR, "directory"))
    kind = next((name for test, name in kinds if test(info.st_mode)), "hard" if info.st_nlink > 1 else "file")
    told = {"uid": info.st_uid, "gid": info.st_gid, "size": info.st_size, "state": kind}
    told["mode"] = f"0{stat.S_IMODE(info.st_mode):03o}"
    told |= {"owner": _name(pwd.getpwuid, info.st_uid), "group": _name(grp.getgrgid, info.st_gid)}
    return told


def _name(look_up: Callable[[int], Sequence[Any]], number: int) -> str:
    """The name of a user or group; the number where it has none."""
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as a module gets them, without what Ansible notes on values."""
    encoder = get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE)
    plain: dict[str, Any] = json.loads(json.dumps(arguments, cls=encoder))
    return plain
