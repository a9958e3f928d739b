#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensure the folder in which a mesh keeps its state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state_directory
short_description: Ensure the folder in which a mesh keeps its state
version_added: 0.1.0
description:
  - Creates a folder, and those above it, to which only its owner has access (mode 0700). A C(.gitignore) in
    it keeps its whole content out of Git.
  - A folder that exists keeps its mode. It is a warning if others may look into it, and an error if everybody
    may write into it.
  - A C(.gitignore) that does not ignore everything keeps its lines and gets a last line, with a warning. The
    top folder of a Git repository is refused.
extends_documentation_fragment:
  - exomesh.istio.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description:
      - The folder.
    type: path
    required: true
notes:
  - The module ends within a minute, even if another process holds the lock of the folder.
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ensure a folder for the state of the mesh
  exomesh.istio.state_directory:
    path: /srv/mesh/.exomesh
"""

RETURN = r"""
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from pathlib import Path

from ..module_utils._base.files import have_state_folder
from ..module_utils._base.task import Result, Spec, Task, run_module


def run(task: Task) -> Result:
    """Ensure the folder; return the module's result."""
    folder = have_state_folder(Path(task.params["path"]), task.check_mode)
    for warning in folder.warnings:
        task.warn(warning)
    after = "".join(f"{change}\n" for change in folder.changes)
    return {"changed": bool(folder.changes), "diff": {"before": "", "after": after}}


SPEC = Spec(argument_spec={"path": {"type": "path", "required": True}})


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
