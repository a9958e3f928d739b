# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether Cilium leads connections past sidecars (private to the collection)."""

from __future__ import annotations

from .api import Object, ObjectRef

CILIUM_REF = ObjectRef("v1", "ConfigMap", "cilium-config", "kube-system")

_HOST_ONLY = "bpf-lb-sock-hostns-only"
_SWITCHES = {
    "kube-proxy-replacement": ("true", "strict"),
    "bpf-lb-sock": ("true",),
    "enable-host-reachable-services": ("true",),
}
"""Settings that switch the load balancing of sockets on, each with the values that do so."""

BYPASSED = "Cilium balances connections in the sockets of pods: requests to Services can pass by the sidecar"
BYPASSED_CAUSE = f"Cilium replaces kube-proxy, and {_HOST_ONLY} is not true"
BYPASSED_NEXT = (
    f"Set socketLB.hostNamespaceOnly=true in Cilium's Helm values ({_HOST_ONLY}: 'true' in ConfigMap "
    f"{CILIUM_REF.namespace}/{CILIUM_REF.name}), then restart Cilium: kubectl -n kube-system rollout restart "
    "daemonset/cilium"
)


def bypassing(config_map: Object | None) -> list[str]:
    """Return the settings of Cilium with which requests of pods can pass by their sidecars."""
    data = (config_map or {}).get("data") or {}
    on = [
        f"{name}: {data[name]}" for name, values in _SWITCHES.items() if str(data.get(name)).lower() in values
    ]
    if not on or str(data.get(_HOST_ONLY)).lower() == "true":
        return []
    return [f"ConfigMap {CILIUM_REF.name}: {', '.join(on)}; {_HOST_ONLY}: {data.get(_HOST_ONLY, 'not set')}"]
