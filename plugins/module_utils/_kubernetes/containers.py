# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of the temporary pods that the collection starts (private to the collection)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .api import Object
from .images import PULL_POLICY

NOBODY = 65532
"""User and group ID of an unprivileged process, as in images without root."""

POD_SECURITY = {"seccompProfile": {"type": "RuntimeDefault"}}
"""The ``securityContext`` of a pod whose sidecar is injected, as Istio sets none for the sidecar."""


def server_container(name: str, image: str) -> Object:
    """Return a container that Pod Security admits at level restricted, and every ResourceQuota counts."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": PULL_POLICY,
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def client_container(name: str, image: str, command: Sequence[str], **more: Any) -> Object:
    """Return such a container with curl, which writes no file.

    :param more: further fields of the container.
    """
    container = server_container(name, image)
    container["securityContext"]["readOnlyRootFilesystem"] = True
    return {**container, "command": list(command), **more}
