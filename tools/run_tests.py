# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the targets given, each whatever became of the others, and list what took how long.

The test lab is taken down however this ends.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST_LAB = "exomesh-test"


def main(targets: list[str]) -> int:
    """Return 0 when every target was made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = []
    try:
        for target in targets:
            print(f"\n=== make {target} ===", flush=True)
            started = time.monotonic()
            code = subprocess.run(["make", "--no-print-directory", target], cwd=ROOT, check=False).returncode
            results.append((target, code, time.monotonic() - started))
    finally:
        subprocess.run(["lab/exolab.sh", "down", "--name", TEST_LAB], cwd=ROOT, check=False)
    print("\nWhat took how long:")
    for target, code, seconds in sorted(results, key=lambda result: -result[2]):
        print(f"  {seconds:7.0f} s  make {target}{'' if code == 0 else f'  FAILED (exit code {code})'}")
    failed = sum(code != 0 for _, code, _ in results)
    print(f"targets: {len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
