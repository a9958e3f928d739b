# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the targets given, each whatever became of the others, and list what each cost.

What a target prints is written to `build/test-output/TARGET.log`. Of the linters and of galaxy-importer all
of it is shown, of the others only the end, and only where they fail: it is the end that says why.
The test lab is taken down however this ends.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lab"))
from exolab.cgroups import cpu_seconds  # noqa: E402 - the lab is no package of .venv, so its folder comes first

OUTPUT = Path("build/test-output")
TEST_LAB = "exomesh-test"
SHOWN = ("lint", "importer")
SHOWN_OF_A_FAILURE = 5000  # characters
NAMED = re.compile(r"(?m)^(?:FAILED tests/|ERROR tests/|SKIPPED \[).*$")
"""What pytest says at its end of each test that did not pass."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def main(targets: list[str]) -> int:
    """Return 0 when every target was made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = []
    names: list[str] = []
    (ROOT / OUTPUT).mkdir(parents=True, exist_ok=True)
    try:
        for target in targets:
            started, worked = time.monotonic(), cpu_seconds()
            code, said = make(target)
            results.append((target, code, time.monotonic() - started, cpu_seconds() - worked))
            names += NAMED.findall(said)
            if code != 0:
                said = f"[...]{said[-SHOWN_OF_A_FAILURE:]}" if len(said) > SHOWN_OF_A_FAILURE else said
            if code != 0 or target in SHOWN:
                print(said.strip(), flush=True)
    finally:
        subprocess.run(
            ["lab/exolab.sh", "down", "--name", TEST_LAB], cwd=ROOT, check=False, capture_output=True
        )
    print("\nWhat each took, and CPU seconds of the whole machine meanwhile:")
    for target, code, seconds, worked in sorted(results, key=lambda result: -result[2]):
        failure = "" if code == 0 else f"  FAILED (exit code {code})"
        print(f"  {seconds:7.0f} s {worked:7.0f} CPU s  make {target}{failure}")
    everything = (sum(result[2] for result in results), sum(result[3] for result in results))
    print("  {:7.0f} s {:7.0f} CPU s  all".format(*everything))
    for name in names:
        print(name[:300])
    failed = sum(result[1] != 0 for result in results)
    print(f"targets: {len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def make(target: str) -> tuple[int, str]:
    """Make the target; return its exit code and what it printed, without colours."""
    log = OUTPUT / f"{target}.log"
    print(f"=== make {target}, in {log} ===", flush=True)
    with (ROOT / log).open("w+", encoding="utf-8", errors="replace") as output:
        code = subprocess.run(
            ["make", "--no-print-directory", target],
            cwd=ROOT,
            check=False,
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode
        output.seek(0)
        return code, COLOUR.sub("", output.read())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
