# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: describe this run of Ansible, so that others can recognise it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: this_run
short_description: Return an ID of this run of Ansible
version_added: 0.1.0
description:
  - Returns which process of which machine runs the playbook, who started it, and which playbook it is. All
    tasks of a run get the same result.
  - M(exomesh.istio.mesh_lock) holds clusters in the name of this run.
options: {}
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Show who runs this
  ansible.builtin.debug:
    msg: "{{ lookup('exomesh.istio.this_run') }}"
"""

RETURN = r"""
_list:
  description:
    - One dictionary.
  type: list
  elements: dict
  contains:
    host:
      description: Name of the machine.
      type: str
    boot:
      description: ID of the machine's boot; empty if the system does not report it.
      type: str
    namespace:
      description: Namespace in which the machine counts its processes. Each container has its own.
      type: str
    pid:
      description: Number of the process.
      type: int
    started:
      description: When it was started, in the machine's own count; empty if the system does not report it.
      type: str
    user:
      description: Name of the user who started it.
      type: str
    playbook:
      description: Names of the playbooks with which it was started, without folders and endings.
      type: str
"""

import multiprocessing
import os
from typing import Any

from ansible import context
from ansible.plugins.lookup import LookupBase

from ..module_utils._base.processes import Process, user_name


class LookupModule(LookupBase):  # type: ignore[misc]
    """The lookup."""

    def run(self, _terms: Any, variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        # A task has a process of its own, whose parent is the run.
        parent = multiprocessing.parent_process()
        pid = parent.pid if parent and parent.pid else os.getpid()
        return [{**Process.of(pid).told(), "user": user_name(), "playbook": playbooks()}]


def playbooks() -> str:
    """Return the names of the playbooks on the command line, but nothing else, as it may hold secrets."""
    given = context.CLIARGS.get("args") or ()
    names = [given] if isinstance(given, str) else given
    return ", ".join(os.path.basename(str(name)).removesuffix(".yml").removesuffix(".yaml") for name in names)
