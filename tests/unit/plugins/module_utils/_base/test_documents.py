# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of others: what is read costs little, or is refused at once."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base import documents
from ansible_collections.exomesh.istio.plugins.module_utils._base.documents import (
    DocumentError,
    load_all_yaml,
    load_json,
    load_yaml,
)
from ansible_collections.exomesh.istio.plugins.module_utils._base.text import (
    is_plain_url,
)
from corpus import DOCUMENTS, JSONS, SHAPES, TEXTS, assert_safe

SECONDS, BYTES = 5, 100_000_000


def bounded(work: Callable[[], Any]) -> DocumentError:
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(DocumentError) as refused:
            work()
        assert time.process_time() - begun < SECONDS
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    return refused.value


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=list(DOCUMENTS))
def test_a_document_that_means_no_good_is_refused_at_once(document: str | bytes) -> None:
    error = bounded(lambda: load_yaml(document, "The secret"))
    assert_safe(error.fail_arguments())
    assert str(error).startswith("The secret cannot be read: ")
    assert "xxxx" not in str(error)


@pytest.mark.parametrize("text", JSONS.values(), ids=list(JSONS))
def test_json_that_means_no_good_is_refused_at_once(text: str) -> None:
    for content in (text, text.encode()):
        bounded(lambda content=content: load_json(content, "The answer"))


@pytest.mark.parametrize("value", [value for value in SHAPES if not isinstance(value, str)])
def test_what_is_no_text_is_no_document(value: Any) -> None:
    for load in (load_yaml, load_json):
        with pytest.raises(DocumentError):
            load(value, "It")


def test_what_people_write_is_read_as_kubernetes_does() -> None:
    text = "a: &a {b: [1, 2.5, yes, null, 2026-01-01, =]}\nc: *a\nd: {<<: *a, e: '1'}\n"
    inner = {"b": [1, 2.5, True, None, "2026-01-01", "="]}
    assert load_yaml(text, "It") == {"a": inner, "c": inner, "d": {**inner, "e": "1"}}
    assert load_all_yaml("a: 1\n---\nb: 2\n", "It") == [{"a": 1}, {"b": 2}]
    assert load_yaml("", "It") is None
    assert load_json('{"a": ["\\ud83d\\ude42", 1.5]}', "It") == {"a": ["🙂", 1.5]}
    deep = documents.DEEPEST * "[" + documents.DEEPEST * "]"
    assert load_yaml(deep, "It") == load_json(deep, "It")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://fra.example:6443", True),
        ("https://[2001:db8::1]:6443/a", True),
        ("http://fra.example", False),
        ("https://user:pass@fra.example", False),
        ("https://fra.example?x", False),
        ("https://fra.example#x", False),
        ("https://fra.example\\@evil.example", False),
        ("https://fra.example\n", False),
        ("https://[fra", False),
        ("https://", False),
        ("https://fra.example:99999", False),
        ("file:///etc/passwd", False),
        ("-o/etc/passwd", False),
        *((text, False) for text in TEXTS.values()),
        *((value, False) for value in SHAPES),
    ],
)
def test_addresses(text: Any, is_one: bool) -> None:
    assert is_plain_url(text) is is_one
