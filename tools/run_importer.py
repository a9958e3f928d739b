# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run galaxy-importer on the built artifact, as Galaxy does, print all it says, and fail on a warning.

But for ansible-lint, which `make lint` runs on the same files with the same profile.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Return 0 when the importer took the artifact and had nothing to say against it."""
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    archive = ROOT / f"build/{galaxy['namespace']}-{galaxy['name']}-{galaxy['version']}.tar.gz"
    warnings = 0
    # It writes its result beside where it is started.
    with (
        tempfile.TemporaryDirectory(prefix="exomesh-importer-") as folder,
        subprocess.Popen(
            [sys.executable, "-m", "galaxy_importer.main", str(archive)],
            cwd=folder,
            env={**os.environ, "GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        for line in process.stdout or ():
            print(line, end="", flush=True)
            warnings += bool(re.match(r"(WARNING|ERROR|CRITICAL)\b", line))
    print(f"galaxy-importer: exit code {process.returncode}, {warnings} warnings")
    return process.returncode or bool(warnings)


if __name__ == "__main__":
    sys.exit(main())
