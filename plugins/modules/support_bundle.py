#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create one archive for the diagnosis of a mesh, without secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: support_bundle
short_description: Create one archive for the diagnosis of a mesh, without secrets
version_added: 0.1.0
description:
  - Reads from all members concurrently their nodes, the objects of Istio and of the Gateway API, the objects
    in C(istio-system), and admission webhooks. Also reads the logs of istiod and the gateways, what istiod
    knows of the other clusters, and how the gateways' proxies are configured. For a restarted container, the
    log from before the restart is read, too.
  - Adds what M(exomesh.istio.mesh_verify) finds when it only reads.
  - The archive never has the data of Secrets. In everything else, a value with the name of a secret is
    replaced and counted, with everything below it. So are private keys, tokens and credentials in URLs, also
    in base64. A secret that was found once is replaced everywhere.
  - Certificates stay, and so do names and addresses of your clusters. Look at the archive before you give it
    away.
  - If a member does not answer, the archive says so, and the others are read all the same.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.members
attributes:
  check_mode:
    support: full
    details:
      - Nothing is read in check mode.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every run makes a new archive of the mesh at that moment.
options:
  directory:
    description:
      - Folder for the archive, C(support-MESH_ID-TIME.tar.gz) with the time in UTC. The folder is created if
        it does not exist.
    type: path
    required: true
  mesh_id:
    description:
      - Name of the mesh, for the name of the archive.
    type: str
    required: true
  istioctl:
    description:
      - The istioctl program. The archive notes its version, if the program exists.
    type: path
  collection_version:
    description:
      - Version of this collection, to be noted in the archive.
    type: str
  least_privilege:
    description:
      - Whether it is a finding if the account of a remote secret may read Secrets.
    type: bool
    default: false
  log_lines:
    description:
      - Number of newest lines to read from each container's log.
    type: int
    default: 2000
  timeout:
    description:
      - Time that the whole module may take, in seconds.
      - What was not read by then is not in the archive, and is reported.
    type: int
    default: 300
requirements:
  - Python package C(kubernetes) >= 31.0.0
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Create one archive of the whole mesh
  exomesh.istio.support_bundle:
    members: "{{ mesh_clusters | exomesh.istio.mesh_members(hostvars, state_dir=mesh_state_dir) }}"
    mesh_id: "{{ mesh_id }}"
    directory: "{{ mesh_state_dir }}/support"
"""

RETURN = r"""
path:
  description: Path of the archive. In check mode, the path that would have been used at that moment.
  type: str
  returned: success
size:
  description: Its size in bytes.
  type: int
  returned: when it was written
files:
  description: Files in the archive.
  type: list
  elements: str
  returned: when it was written
redacted:
  description: Number of secrets that were replaced, by kind.
  type: dict
  returned: when it was written
not_reached:
  description: Members that did not answer.
  type: list
  elements: str
  returned: when it was written
problems:
  description: What could not be read, by member.
  type: dict
  returned: when it was written
report:
  description: The path, the contents and the redactions as lines of text.
  type: list
  elements: str
  returned: success
"""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.members import MEMBERS_ARGUMENT_SPEC, members_of
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._base.waiting import sparing
from ..module_utils._diagnose import support_bundle as support
from ..module_utils._istio.istioctl import version_of


def run(task: Task) -> Result:
    """Create the archive, and return the module's result."""
    params = task.params
    request = support.Request(
        members_of(params),
        params["mesh_id"],
        datetime.now(UTC),
        {
            "exomesh.istio": params["collection_version"],
            "ansible-core": str(task.core_version),
            "istioctl": None if task.check_mode else _version(params["istioctl"]),
        },
        params["log_lines"],
        params["least_privilege"],
    )
    if task.check_mode:
        path = f"{Path(params['directory']) / request.name}.tar.gz"
        return {"changed": True, "path": path, "report": [f"{path} would be written"]}
    bundle = support.collect(request)
    written = support.write(request, bundle, Path(params["directory"]))
    size = written.stat().st_size
    return {
        "changed": True,
        "path": str(written),
        "size": size,
        "files": sorted(bundle.files),
        "redacted": bundle.totals(),
        "not_reached": sorted(bundle.not_reached),
        "problems": bundle.problems,
        "report": support.report(bundle, written, size),
    }


def _version(program: str | None) -> str | None:
    # The program may be missing. If it hangs, most of the time remains for the clusters.
    with suppress(ExomeshError), sparing(0.9, float("inf")):
        return version_of(Path(program)) if program else None
    return None


SPEC = Spec(
    argument_spec={
        **MEMBERS_ARGUMENT_SPEC,
        "directory": {"type": "path", "required": True},
        "mesh_id": {"type": "str", "required": True},
        "istioctl": {"type": "path"},
        "collection_version": {"type": "str"},
        "least_privilege": {"type": "bool", "default": False},
        "log_lines": {"type": "int", "default": 2000},
        "timeout": {"type": "int", "default": 300},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
