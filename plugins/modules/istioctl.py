#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensure the istioctl of one release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istioctl
short_description: Ensure that istioctl of one release is there, and check what is fetched
version_added: 0.1.0
description:
  - Fetches the release archive of istioctl, checks its sha256 and unpacks it, unless the program is there
    already. Checks that the program runs, and has the wanted release.
  - May run for many hosts and in several processes at once. The first one fetches, and the others use its
    file.
  - Refuses releases with which a mesh of several clusters is not safe.
  - An archive of more than 300 MiB, or with more than 1 GiB in it, is refused.
  - User and password in a URL are sent only to the server of that URL, even if it redirects to another one.
    They are not shown.
extends_documentation_fragment:
  - exomesh.istio.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  version:
    description:
      - The Istio release.
    type: str
    required: true
  directory:
    description:
      - Folder for the program. It is created with mode 0700.
    type: path
    required: true
  program:
    description:
      - Path of an existing istioctl of release O(version). Nothing is fetched then.
    type: path
  preinstalled:
    description:
      - Path at which the machine may have the release already, as in an execution environment. If the file
        exists and O(program) is not given, it is used, and nothing is fetched.
    type: path
  mirror:
    description:
      - URL below which the releases are, each in a folder that is named after its version.
    type: str
    default: https://github.com/istio/istio/releases/download
  url:
    description:
      - URL or path of the archive itself, instead of the one at O(mirror).
    type: str
  checksum:
    description:
      - Checksum of the archive, such as C(sha256:0123...), or C(sha256:) and the URL of a file that has it.
    type: str
  checksums:
    description:
      - Known sha256 of the archives of release O(version), by platform, such as C(linux-amd64).
      - O(checksum) takes precedence over this option. If the archive is at the Istio project's own releases,
        the file C(.sha256) beside it takes precedence, too. If no other checksum is known, that file is used
        wherever the archive is, with a warning.
    type: dict
    default: {}
  allow_unsafe:
    description:
      - Whether to use a release with which a mesh of several clusters is not safe. It gives a warning.
    type: bool
    default: false
  proxy:
    description:
      - URL of the proxy through which to fetch, such as C(http://user:password@proxy.example:3128).
      - Without it, C(https_proxy) and C(http_proxy) of the environment are used. No proxy is used for hosts
        in C(no_proxy).
    type: str
  timeout:
    description:
      - Seconds that the whole fetch may take.
    type: int
    default: 600
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ensure istioctl
  exomesh.istio.istioctl:
    version: 1.31.1
    directory: /home/me/mesh/istioctl/1.31.1
  register: istioctl

- name: Copy it from a file
  exomesh.istio.istioctl:
    version: 1.31.1
    directory: /home/me/mesh/istioctl/1.31.1
    url: /media/offline/istioctl-1.31.1-linux-amd64.tar.gz
    checksum: sha256:{{ lookup('ansible.builtin.file', '/media/offline/istioctl.sha256') }}
"""

RETURN = r"""
path:
  description: The program.
  type: str
  returned: success
  sample: /home/me/mesh/istioctl/1.31.1/istioctl
version:
  description: Its release.
  type: str
  returned: success
  sample: 1.31.1
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from datetime import UTC, datetime
from pathlib import Path

from ..module_utils._base.download import secrets_in
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.istioctl import (
    RELEASES,
    Source,
    archive_url,
    fetch,
    pinned_checksum,
    refuse_unsafe,
    require_version,
)
from ..module_utils._istio.releases import Release, unsupported


def run(task: Task) -> Result:
    """Ensure the program; return the module's result."""
    params = task.params
    for option in ("mirror", "url", "checksum", "proxy"):
        url = (params[option] or "").removeprefix("sha256:")
        task.secrets |= set(secrets_in(url)) if "://" in url else set()
    version = params["version"]
    for danger in refuse_unsafe(version, params["allow_unsafe"]):
        task.warn(f"Istio {version}: {danger}")
    if reason := unsupported(Release.parse(version), datetime.now(UTC).date()):
        task.warn(f"Istio {version} gets no more fixes: {reason}")
    fetched = False
    if there := params["program"] or existing(params["preinstalled"]):
        program = Path(there)
    else:
        program = Path(params["directory"], "istioctl")
        if task.check_mode and not program.exists():
            return {"changed": True, "path": str(program), "version": version}
        source = Source(
            url=params["url"] or archive_url(params["mirror"], version),
            checksum=params["checksum"],
            pinned=pinned_checksum(params["checksums"]),
            timeout=params["timeout"],
            proxy=params["proxy"] or None,
            of_the_project=not params["url"] and params["mirror"].rstrip("/") == RELEASES,
        )
        fetched = fetch(source, program, version, task.warn)
    require_version(program, version)
    return {"changed": fetched, "path": str(program), "version": version}


def existing(path: str | None) -> str | None:
    """Return the path if it is that of a file that exists; otherwise None."""
    return path if path and Path(path).is_file() else None


SPEC = Spec(
    argument_spec={
        "version": {"type": "str", "required": True},
        "directory": {"type": "path", "required": True},
        "program": {"type": "path"},
        "preinstalled": {"type": "path"},
        "mirror": {"type": "str", "default": RELEASES},
        "url": {"type": "str"},
        "checksum": {"type": "str"},
        "checksums": {"type": "dict", "default": {}},
        "allow_unsafe": {"type": "bool", "default": False},
        "proxy": {"type": "str", "no_log": True},
        "timeout": {"type": "int", "default": 600},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
