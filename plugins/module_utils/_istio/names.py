# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that Istio gives to what it has in a cluster (private to the collection)."""

from __future__ import annotations

ISTIO_NAMESPACE = "istio-system"
NETWORK_LABEL = "topology.istio.io/network"
OWNER_LABEL = "install.operator.istio.io/owning-resource"
GATEWAY_PORT = 15443
"""Port of east-west gateways for services of other networks."""
