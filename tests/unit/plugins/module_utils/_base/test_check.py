# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of a check, for people and for machines."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.check import (
    ERROR,
    NOTE,
    OK,
    WARNING,
    Check,
)


@pytest.mark.parametrize(("outcome", "good"), [(OK, True), (NOTE, True), (WARNING, False), (ERROR, False)])
def test_a_note_is_nothing_to_do(outcome: str, good: bool) -> None:
    assert Check("clock", outcome, "It is late").as_dict()["ok"] is good


def test_people_read_sentences() -> None:
    check = Check("clock", ERROR, "It is late.", ["12 s", "13 s"], "No NTP", "Start it")
    assert str(check) == "[clock] It is late. Saw: 12 s; 13 s. No NTP. Start it."
    assert str(Check("clock", OK, "Good")) == "[clock] Good."
