"""Lets the tests of this folder import their helpers, and not wait for what does not pass."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import causes

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe after a moment that waiting does not help, where it would be believed after a while."""
    signs = tuple(replace(sign, lasts=sign.lasts and 0.3) for sign in causes._SIGNS)
    monkeypatch.setattr(causes, "_SIGNS", signs)
