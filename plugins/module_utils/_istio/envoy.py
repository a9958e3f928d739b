# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Envoy of one of Istio's proxies tells of itself (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

Dump = dict[str, Any]
"""An entry of Envoy's ``config_dump``."""

ADMIN_PORT = 15000
SECRETS = "/config_dump?resource=dynamic_active_secrets"
SERVER_INFO = "/server_info"
"""What Envoy runs as, with what istiod knows of the proxy."""

_REASON = "error_state.details"
UPDATES_REJECTED = "/stats?filter=update_rejected"
"""How often Envoy rejected listeners and clusters since its start. Istio switches that off for routes."""
REJECTED_ROUTES = f"/config_dump?resource=dynamic_route_configs&mask={_REASON}"
REJECTED_LISTENERS = f"/config_dump?resource=dynamic_listeners&mask=name,{_REASON}"
REJECTED_CLUSTERS = (
    f"/config_dump?resource=dynamic_active_clusters&mask={_REASON}",
    f"/config_dump?resource=dynamic_warming_clusters&mask={_REASON}",
)
"""Only why Envoy rejects what istiod sends: the whole configuration can have many megabytes."""


def rejected(entries: Iterable[Dump]) -> dict[str, str]:
    """Return why the proxy rejects resources, by the name of the resource, or else by the reason."""
    refused: dict[str, str] = {}
    for entry in entries:
        state = entry.get("error_state") or {}
        if details := state.get("details"):
            named = entry.get("name") or (state.get("failed_configuration") or {}).get("name")
            # Envoy repeats the reason without a name where it replaces a resource of that name.
            if named or details not in refused.values():
                refused[str(named or details)] = str(details)
    return refused


def has_rejected(stats: str) -> bool:
    """Return whether the answer to :data:`UPDATES_REJECTED` has a listener or cluster that was rejected."""
    return re.search(r"update_rejected: [1-9]", stats) is not None


def istio_version(server: Dump) -> str:
    """Return the version of Istio in the answer to :data:`SERVER_INFO`; empty if there is none."""
    return str(((server.get("node") or {}).get("metadata") or {}).get("ISTIO_VERSION") or "")


def minor_of(version: str) -> int | None:
    """Return the minor version in a version of Istio; None if it is not of that form."""
    found = re.match(r"1\.(\d+)", version)
    return int(found[1]) if found else None
