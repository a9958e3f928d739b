#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the folder in which a mesh keeps what it must remember."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state_directory
short_description: Have the folder in which a mesh keeps what it must remember
version_added: 0.2.0
description:
  - Makes a folder, and those above it, for nobody else (mode 0700), with a C(.gitignore) that keeps all
    that is in it out of Git.
  - A folder that has that file is left as it is.
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
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Have a folder for the state of the mesh
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
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils._base.task import Result, Spec, Task, run_module
from ansible_collections.exomesh.istio.plugins.module_utils._files import (
    DIRECTORY_MODE,
    FileError,
    locked,
    make_private_directory,
    write_private,
)

IGNORE_ALL = "*\n"


def make(path: Path, check_mode: bool) -> dict[str, Any]:
    """Have the folder; gives the module's result.

    :raises ExomeshError: it cannot be made.
    """
    ignore = path / ".gitignore"
    if ignore.is_file():
        return {"changed": False}
    if not check_mode:
        make_private_directory(path)
        try:
            path.chmod(DIRECTORY_MODE)
        except OSError as error:
            raise FileError(
                f"cannot change the mode of {path}: {error.strerror}", "file_unwritable"
            ) from error
        with locked(ignore):
            write_private(ignore, IGNORE_ALL)
    return {"changed": True, "diff": {"before": "", "after": f"{path}, for nobody else\n"}}


def run(task: Task) -> Result:
    """Have the folder; gives the module's result."""
    return make(Path(task.params["path"]), task.check_mode)


SPEC = Spec(argument_spec={"path": {"type": "path", "required": True}})


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
