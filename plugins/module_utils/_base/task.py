# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of every module: options, and a function ``run(task) -> result`` (private to the collection).

The function runs in one of two places: in a Python process of its own, started by :func:`run_module`, or in
the process of the task, called by the action plugin in ``plugin_utils``. Both call :func:`perform`, so a
module does not notice the difference.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .errors import ExomeshError
from .text import printable, printable_data
from .waiting import Interrupted, ending_in_order, time_limit

try:
    from ansible.module_utils.secrets import register_secrets
except ImportError:  # before ansible-core 2.22
    from ansible.module_utils.common.parameters import remove_values
else:

    def remove_values(value: Any, no_log_strings: set[str]) -> Any:
        """Make Ansible mask these strings in everything that it shows or logs."""
        register_secrets(no_log_strings)
        return value


Result = dict[str, Any]

LOCAL_SECONDS = 60.0
"""Time limit in seconds of a module without option ``timeout``: it only handles files of this machine."""


@dataclass(frozen=True)
class Spec:
    """The options of a module, in the form that AnsibleModule takes.

    :param time_limit: returns the seconds for all that the module does, from the values of its options; by
        default the value of ``timeout``.
    """

    argument_spec: Mapping[str, Mapping[str, Any]]
    mutually_exclusive: Sequence[Sequence[str]] = ()
    required_one_of: Sequence[Sequence[str]] = ()
    required_if: Sequence[Sequence[Any]] = ()
    time_limit: Callable[[Mapping[str, Any]], float] = lambda params: float(
        params.get("timeout") or LOCAL_SECONDS
    )

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of AnsibleModule and of its validator, by name."""
        return {
            "argument_spec": {name: dict(spec) for name, spec in self.argument_spec.items()},
            "mutually_exclusive": [list(names) for names in self.mutually_exclusive],
            "required_one_of": [list(names) for names in self.required_one_of],
            "required_if": [list(rule) for rule in self.required_if],
        }


@dataclass
class Task:
    """The work of a module: its options and modes, and its warnings and secrets.

    :param params: values of the module's options.
    :param core_version: version of ansible-core.
    """

    params: dict[str, Any]
    check_mode: bool = False
    diff: bool = False
    core_version: str = ""
    warnings: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    """Values that are kept out of results, warnings and messages."""

    on_failure: Result = field(default_factory=dict)
    """Further fields of the result when the task fails, besides the reason."""

    def warn(self, text: str) -> None:
        """Warn the user. The same text is shown only once."""
        text = printable(text)
        if text not in self.warnings:
            self.warnings.append(text)


Run = Callable[[Task], Result]


def perform(spec: Spec, run: Run, task: Task) -> Result:
    """Run a module within its time limit; return its result, with ``failed`` and ``msg`` when it failed.

    The result is made safe to show, because reports, diffs and messages contain text from clusters.
    """
    result: Result = printable_data(_performed(spec, run, task), longest=None)
    return result


def without_secrets(result: Result, task: Task) -> Result:
    """Return the result without the secrets of the task."""
    hidden: Result = remove_values(result, task.secrets)
    return hidden


def _performed(spec: Spec, run: Run, task: Task) -> Result:
    """Run a module within its time limit.

    It ends in order on Ctrl-C, on SIGTERM and when the terminal goes away: what must be restored is restored.
    """
    try:
        with ending_in_order(), time_limit(spec.time_limit(task.params)):
            return run(task)
    except ExomeshError as error:
        return {"failed": True, **error.fail_arguments(), **task.on_failure}
    except Interrupted as interruption:
        return {"failed": True, "msg": f"The task was ended by {interruption}", **task.on_failure}
    except Exception as error:  # noqa: BLE001 - a fault of ours is told as such, and with no secret in it
        return {
            "failed": True,
            "msg": f"This is a fault of exomesh.istio, please report it: {type(error).__name__}: {error}",
            "exception": traceback.format_exc(),
            **task.on_failure,
        }


def run_module(spec: Spec, run: Run) -> None:
    """Run a module. This is its ``main()``."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Without a handler, a signal ends the process at once, and the unpacked module's folder stays.
        signal.signal(number, _end)
    module = AnsibleModule(**spec.arguments(), supports_check_mode=True)
    task = Task(module.params, module.check_mode, module._diff, str(module.ansible_version))
    result = without_secrets(perform(spec, run, task), task)
    module.no_log_values.update(task.secrets)
    for warning in task.warnings:
        module.warn(warning)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
