# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: make a path absolute, from the folder where Ansible was started."""

from __future__ import annotations

DOCUMENTATION = r"""
name: absolute_path
short_description: A path on the controller, from the folder where Ansible was started
version_added: 0.1.0
description:
  - Turns a relative path into an absolute one, starting from the folder where Ansible was started. C(~) and
    environment variables are replaced.
  - Without this filter, a module takes a relative path from the folder of its playbook. For a playbook of a
    collection, that is the folder where the collection is installed. A lookup searches several folders.
  - The roles of this collection pass every path through this filter.
positional: _input
options:
  _input:
    description:
      - The path. An empty one stays empty.
    type: str
    required: true
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ensure the kubeconfig of a cluster in the folder where Ansible was started
  exomesh.istio.sks_kubeconfig:
    cluster: mesh-a
    zone: de-fra-1
    kubeconfig: "{{ 'mesh-a.kubeconfig' | exomesh.istio.absolute_path }}"
"""

RETURN = r"""
_value:
  description:
    - The absolute path.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.utils.path import unfrackpath


def absolute_path(path: str) -> str:
    """Return the absolute path; see the documentation of the filter."""
    return str(unfrackpath(path, follow=False)) if path else ""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"absolute_path": absolute_path}
