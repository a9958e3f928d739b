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


def server_container(name: str, image: str, user: int | None = None) -> Object:
    """Return a container of any image, with only the rights that it needs, which every ResourceQuota counts.

    :param user: user ID of its process, with which Pod Security admits it at level restricted. Without one,
        it runs as the image's user, because not every image works as another.
    """
    security: Object = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if user is not None:
        security |= {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": user}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": PULL_POLICY,
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "securityContext": security,
    }


def client_container(name: str, image: str, command: Sequence[str], **more: Any) -> Object:
    """Return a container with curl, which writes no file. Pod Security admits it at level restricted.

    :param more: further fields of the container.
    """
    container = server_container(name, image, NOBODY)
    container["securityContext"]["readOnlyRootFilesystem"] = True
    return {**container, "command": list(command), **more}
