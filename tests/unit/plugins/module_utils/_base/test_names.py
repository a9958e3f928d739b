# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and objects of others: what Kubernetes would not take is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.names import checked_list, checked_object
from corpus import SHAPES, TEXTS, assert_safe


@pytest.mark.parametrize(
    "name",
    ["..", ".", "a/b", "a%2fb", "a b", "--x=y z", *(t for k, t in TEXTS.items() if k != "a file for curl")],
)
def test_an_object_of_such_a_name_is_refused(name: str) -> None:
    for key in ("name", "namespace"):
        with pytest.raises(ExomeshError, match="no object of Kubernetes") as refused:
            checked_object({"metadata": {"name": "x", key: name}}, "Pod x")
        assert_safe(refused.value.fail_arguments())


@pytest.mark.parametrize("value", SHAPES, ids=repr)
def test_what_is_no_object_is_refused(value: Any) -> None:
    metadata = [value] if not isinstance(value, dict) else []
    metadata += [{"name": value}] if not isinstance(value, str) and value is not None else []
    metadata += [{"name": "x", "labels": value}] if value not in (None, {}) else []
    for answer in (value, {"items": value}, {"items": [{"metadata": each} for each in metadata]}):
        if answer in ({"items": []},):
            continue
        with pytest.raises(ExomeshError, match="no object of Kubernetes"):
            checked_list(answer, "the Pods")
