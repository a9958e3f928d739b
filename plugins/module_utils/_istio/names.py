# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of Istio's objects and labels in a cluster (private to the collection)."""

from __future__ import annotations

ISTIO_NAMESPACE = "istio-system"
NETWORK_LABEL = "topology.istio.io/network"

VERIFY_NAMESPACE = "exomesh-verify"
"""Namespace of the workload with which the mesh is verified."""
OWNER_LABEL = "install.operator.istio.io/owning-resource"
OWNER_NAMESPACE_LABEL = "install.operator.istio.io/owning-resource-namespace"
COMPONENT_LABEL = "operator.istio.io/component"
NOT_PRUNED_LABEL = "install.operator.istio.io/owning-resource-not-pruned"
REVISION_LABEL, TAG_LABEL = "istio.io/rev", "istio.io/tag"
INJECTION_LABEL = "istio-injection"
"""Label of a namespace. Its value ``enabled`` means the tag ``default``."""

# The installer writes the name of the IstioOperator into OWNER_LABEL of every object. That label is our mark.
# So these names must be ours alone: a name that istioctl or Istio's documents use would be no mark.
CONTROL_PLANE, EASTWEST_GATEWAY, INGRESS_GATEWAY = "exomesh", "exomesh-eastwest", "exomesh-ingress"
OPERATORS = (CONTROL_PLANE, EASTWEST_GATEWAY, INGRESS_GATEWAY)
"""Names of the IstioOperators from which this collection installs."""

NAMELESS = "installed-state"
"""The installer's name for an IstioOperator without a name."""

FORMER_NAMES = {CONTROL_PLANE: NAMELESS, EASTWEST_GATEWAY: "eastwest", INGRESS_GATEWAY: "ingress"}
"""Names of our IstioOperators until version 0.1.0 of this collection.

They prove nothing, because users have the same names.
"""

SEND_UNREADY, SEND_UNREADY_BY_DEFAULT = (
    "PILOT_SEND_UNHEALTHY_ENDPOINTS",
    "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS",
)
"""Variables of istiod: whether it gives proxies pods that are not ready. The second exists from 1.31 on."""

TRUST_DOMAIN = "cluster.local"
"""Istio's own trust domain, which a mesh has if it names none."""

GATEWAY_PORT = 15443
"""Port of east-west gateways for services of other networks."""

SMALL_SIDECAR = {
    "sidecar.istio.io/proxyCPU": "10m",
    "sidecar.istio.io/proxyCPULimit": "1",
    "sidecar.istio.io/proxyMemory": "64Mi",
    "sidecar.istio.io/proxyMemoryLimit": "512Mi",
}
"""Annotations for the sidecar of a temporary pod. Without limits, a ResourceQuota may refuse it."""
