# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run actionlint on `.github/workflows`: the one of `tools/actionlint/go.mod`, built once by the lab's Go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lab"))

from exolab.build import go_command  # noqa: E402 - the lab is no package of .venv, so its folder comes first

PACKAGE = "github.com/rhysd/actionlint/cmd/actionlint"
PROGRAM = ROOT / "build/actionlint"


def main() -> int:
    """Build actionlint where Go does not have it already, and run it; return its exit code."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    build = [go_command(), "-C", str(ROOT / "tools/actionlint"), "build", "-o", str(PROGRAM), PACKAGE]
    subprocess.run(build, env=environment, check=True)
    # Without shellcheck and pyflakes, so that every machine gives the same answer.
    lint = [str(PROGRAM), "-shellcheck=", "-pyflakes="]
    return subprocess.run(lint, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
