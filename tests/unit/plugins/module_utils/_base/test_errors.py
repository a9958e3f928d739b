# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures carry no text of others that does harm."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from corpus import TEXTS, assert_safe


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_no_error_carries_it_out(text: str) -> None:
    everywhere = {"cluster": text, "zone": text, "cause": text, "next_step": text}
    error = ExomeshError(text, "code", **everywhere, details={text: [text]})
    assert_safe(error.fail_arguments())
