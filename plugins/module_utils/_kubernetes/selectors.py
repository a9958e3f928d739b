# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge label selectors as Kubernetes does (private to the collection)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector selects an object with these labels. An empty selector selects all.

    One with parts of another type, which only a configuration can have, selects nothing.
    """
    wanted = (selector or {}).get("matchLabels") or {}
    expressions = (selector or {}).get("matchExpressions") or []
    if not (isinstance(wanted, Mapping) and isinstance(expressions, list)):
        return False
    return all(labels.get(key) == str(value) for key, value in wanted.items()) and all(
        isinstance(expression, Mapping) and _meets(expression, labels) for expression in expressions
    )


def _meets(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(str(expression.get("key", "")))
    told = expression.get("values") or []
    if not isinstance(told, list):
        return False
    values = [str(each) for each in told]
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(str(expression.get("operator")), False)
