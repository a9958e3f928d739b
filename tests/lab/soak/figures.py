"""What a soak found, for the one table that `make soak` shows at its end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = float(os.environ.get("SOAK_PART", "1"))
"""Which part of the usual repetitions; a release wants all of them."""

FOLDER = Path(os.environ.get("SOAK_FIGURES", "build/soak"))


def repetitions(usual: int) -> int:
    """Return how often to do what is usually done so often."""
    return max(1, round(usual * PART))


@contextmanager
def figures(name: str, done: str, sibling: str) -> Iterator[dict[str, int]]:
    """Give a place for figures, which are written when the soak has ended well.

    :param name: the soak.
    :param done: what was done, again and again.
    :param sibling: the test of `make test` that does the same a few times.
    """
    found: dict[str, int] = {}
    began = time.monotonic()
    yield found
    told = {
        "name": name,
        "done": done,
        "part": PART,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "figures": found,
        "sibling": sibling,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name.replace(' ', '-')}.json").write_text(json.dumps(told, indent=2) + "\n")
