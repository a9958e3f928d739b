# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of time that hold on a busy machine, too."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 5
"""Seconds that a CPU second of ours may take where others work, too."""


def work() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """Fail where it takes longer; what it worked meanwhile may take as long as it does on a busy machine."""
    begun, worked = time.monotonic(), work()
    yield
    took, worked = time.monotonic() - begun, work() - worked
    assert took < seconds + SHARE * worked, f"it took {took:.1f} s, with {worked:.1f} CPU seconds of work"
