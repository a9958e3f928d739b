# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Service of a network's east-west gateway (private to the collection)."""

from __future__ import annotations

from .._kubernetes.client import KubernetesClient
from .names import NETWORK_LABEL


def gateway_service(client: KubernetesClient, namespace: str, network: str) -> str | None:
    """Return the name of the Service by which peers find a network's gateway; None if there is none."""
    found = client.list_objects("v1", "Service", namespace, labels=f"{NETWORK_LABEL}={network}")
    return str(found[0]["metadata"]["name"]) if found else None
