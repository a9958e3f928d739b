# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleaning up has a time of its own, however the task ends."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base import waiting
from ansible_collections.exomesh.istio.plugins.module_utils._base.cleanup import afterwards
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import (
    TimeUpError,
    cleaning_up,
    pause,
    remaining,
    time_limit,
)
from patience import ends_within


def _hang() -> None:
    pause(60, "an API that says nothing")


def test_cleaning_up_has_its_own_time_which_blocks_in_a_row_share() -> None:
    cleaned: list[str] = []
    with (
        ends_within(0.2 + 2 * waiting.CLEANING_SECONDS),  # each its own would be three times
        pytest.raises(TimeUpError),
        time_limit(0.2),
        afterwards(_hang, lambda: cleaned.append("other cluster")),
        afterwards(_hang),
    ):
        pause(60)
    assert cleaned == ["other cluster"]


def test_cleaning_up_may_take_longer_while_the_task_has_time() -> None:
    with time_limit(60), cleaning_up(30):
        assert remaining() > 25
    with time_limit(1), cleaning_up(30):
        assert remaining() < 1 + waiting.CLEANING_SECONDS + 0.1
