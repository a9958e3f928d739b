# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of every module. It runs a local module without starting another Python.

Ansible packs a module, starts an interpreter, and lets it compile the packed module: that takes half a second
of CPU before the module's first line. But Ansible has already made a process for the task, and these modules
only talk to APIs. So they run in that process, and ansible-core's own validator checks their options. If the
environment variable EXOMESH_MODULE_PROCESSES is set, every module has a process of its own, as is usual.

A module in a process of its own gets its arguments through a pipe. They may hold secrets, so they are not
written to a file.
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
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleUndefinedConfigEntry
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
    """The action plugin of the module with the same name."""

    module: ModuleType

    def __init_subclass__(cls) -> None:
        # Ansible loads an action plugin before it forks. So these imports are done once for all tasks.
        plugins, _action, name = cls.__module__.rsplit(".", 2)
        # Some modules import it only when they run.
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
            # The message is worded as in AnsibleModule.
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
        """Return whether Ansible would start this same interpreter, as the same user."""
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
        """Change to the folder in which Ansible starts a module, because relative paths begin there."""
        before = os.getcwd()
        os.chdir(getattr(self._connection, "cwd", None) or before)
        try:
            yield
        finally:
            os.chdir(before)

    @contextmanager
    def _in_a_process_of_its_own(self) -> Iterator[None]:
        """Send arguments through a pipe, and end the module's process in order if the task must end."""
        self._refuse_secrets_on_disk()
        if self._connection.has_pipelining and not self._task.async_val:
            self._connection.set_option("pipelining", True)
        try:
            yield
        except AnsibleConnectionFailure as error:
            raise AnsibleConnectionFailure(
                f"{error} (A host of the mesh is a cluster, on which nothing runs: set connection: local in "
                "the play, and ansible_python_interpreter to ansible_playbook_python)"
            ) from error
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
        """End the processes that were started for this task. Ansible only ends its own, and not in order.

        SIGINT is used because Python then cleans up, from its first line on. On SIGTERM, Python only does so
        if a module asks for it.
        """
        if os.getpgrp() != os.getpid():
            return  # Ansible did not make this process for a task
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.killpg(os.getpgrp(), signal.SIGINT)
        signal.signal(signal.SIGINT, before)


def _end_with_ansible() -> None:
    """Make this process end in order if Ansible is killed, because nobody waits for its result then."""
    if sys.platform == "linux" and os.getpgrp() == os.getpid():
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _tells_invocation(task_vars: dict[str, Any]) -> bool:
    """Return whether a result has the options of its module.

    Since ansible-core 2.21, a setting decides this. Older versions always include the options.
    """
    try:
        return bool(config.get_config_value("INJECT_INVOCATION", variables=task_vars))
    except AnsibleUndefinedConfigEntry:
        return True


def _path_info(path: str | None) -> Result:
    """Return what AnsibleModule reports about the file that a result names."""
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
    """Return the name of a user or group, or the number if it has no name."""
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments as a module gets them, without the notes that Ansible keeps on values."""
    encoder = get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE)
    plain: dict[str, Any] = json.loads(json.dumps(arguments, cls=encoder))
    return plain
