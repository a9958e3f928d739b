"""Lets the tests of this folder import their helpers, and those of the plugins' tests."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "plugins")]
