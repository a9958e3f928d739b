# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check names before they become part of paths, requests and commands (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .errors import ExomeshError
from .text import printable_line

CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?")
"""Names of clusters become folders, labels, and names of Secrets, Services and accounts in other clusters.

So they are DNS labels, and short enough that they are still DNS labels with a prefix and a suffix.
"""

LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
"""Texts that Kubernetes accepts as the value of a label."""

RESERVED_NAMES = ("ca", "istioctl", "reports", "requests", "support")
"""Folders of the state that do not belong to a cluster."""

_OBJECT_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_:.@-]{1,253}")
"""Names that may be one part of a path. Kubernetes allows more for some kinds, but we use none of these."""


def checked_object(obj: Any, what: str) -> dict[str, Any]:
    """Return what an API sent, after a check that it has the form of a Kubernetes object.

    So the caller may use its names in paths, and read its labels.

    :param what: name of the requested object, for the error.
    :raises ExomeshError: ``not_kubernetes``.
    """
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    if not isinstance(metadata, dict):
        raise _not_kubernetes(what, "it has no metadata")
    for key in ("name", "namespace"):
        value = metadata.get(key)
        if value is not None and not (
            isinstance(value, str) and (_OBJECT_NAME.fullmatch(value) or not value)
        ):
            raise _not_kubernetes(what, f"its {key} is {printable_line(str(value), 100)}")
    for key in ("labels", "annotations"):
        if not _is_texts(metadata.get(key)):
            raise _not_kubernetes(what, f"its {key} are none")
    return dict(obj)


def checked_list(answer: Any, what: str) -> list[dict[str, Any]]:
    """Return the objects of a list that an API sent, each checked by :func:`checked_object`."""
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise _not_kubernetes(what, "it has no items")
    return [checked_object(item, what) for item in items]


def _is_texts(value: Any) -> bool:
    return value is None or (
        isinstance(value, Mapping)
        and all(isinstance(key, str) and isinstance(text, str) for key, text in value.items())
    )


def _not_kubernetes(what: str, why: str) -> ExomeshError:
    return ExomeshError(
        f"What the API gave for {what} is no object of Kubernetes: {why}",
        "not_kubernetes",
        cause="Something else than Kubernetes answers, or somebody changes its answers",
        next_step="Check the server in the kubeconfig, and what stands between",
    )
