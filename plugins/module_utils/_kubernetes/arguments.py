# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that send requests to a cluster (private to the collection)."""

from __future__ import annotations

import os
from typing import Any

KUBERNETES_ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "timeout": {"type": "int", "default": 600},
}
"""The options of the documentation fragment ``exomesh.istio.kubernetes``."""


def kubeconfig_is_to_come(module: Any) -> bool:
    """Return whether this is check mode before the first run, so that the kubeconfig does not exist yet.

    If so, warn the user, as nothing can be compared.
    """
    path = module.params["kubeconfig"]
    if not module.check_mode or os.path.exists(path):
        return False
    module.warn(f"{path} is still to come: what would change in its cluster cannot be told yet")
    return True
