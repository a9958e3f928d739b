"""Other programs, run with their output kept and shown only when they fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from exolab.errors import LabError


def run(
    *command: str | Path,
    check: bool = True,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run `command`.

    Raise LabError with the last lines of its output when it fails (unless `check` is false).
    """
    words = [str(word) for word in command]
    try:
        result = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(words)}` did not end within {timeout:.0f} s") from error
    if check and result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()[-6:]
        raise LabError(f"`{' '.join(words)}` ended with {result.returncode}: " + " | ".join(lines))
    return result


def descendants(process: int) -> set[int]:
    """All processes that came of one; Ansible's modules are in sessions of their own, and would live on."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}
