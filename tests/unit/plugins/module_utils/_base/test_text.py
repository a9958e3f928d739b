# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of others: what is shown is safe."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.text import (
    LONGEST,
    printable,
    printable_data,
    printable_line,
)
from corpus import TEXTS, assert_safe


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_every_text_is_made_safe_once(text: str) -> None:
    shown, line = printable(text), printable_line(text)
    assert_safe([shown, line, printable_data({text: [text, (text, 1, None)]})])
    assert max(len(shown), len(line)) <= LONGEST
    assert "\n" not in line
    assert "\t" not in line
    assert (printable(shown), printable_line(line)) == (shown, line)


def test_what_people_write_stays() -> None:
    for text in ("Zürich : 10 °C", "日本語", "naïve — „so“", "a\tb\nc", "🙂", "C:\\x1b"):
        assert printable(text) == text
    assert printable("a\r\nb") == "a\nb"
    assert printable("a\x1b[0m") == r"a\x1b[0m"
    assert printable("start" + "x" * 20_000 + "end").endswith("end")
