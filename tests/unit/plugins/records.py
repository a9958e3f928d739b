# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of clusters fra and vie, which are one mesh."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils._istio.record import Entry, Record

NAMES = ("fra", "vie")
KUBE_SYSTEM = "/api/v1/namespaces/kube-system"


def record(*members: str, **changed: Any) -> Record:
    """The record of fra in a mesh of these."""
    entries = {name: Entry(name, f"network-{name}", f"uid-{name}") for name in members or NAMES}
    return replace(Record("mesh1", "fra", "network-fra", "uid-fra", "aa:bb", entries), **changed)
