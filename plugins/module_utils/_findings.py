# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with a mesh: one entry for each kind of finding (private to the collection)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of finding. ``code`` is stable across releases."""

    code: str
    message: str
    cause: str
    next_step: str
    severity: str = "error"


CLUSTER_UNREACHABLE = Kind(
    "cluster-unreachable",
    "The cluster's API does not answer",
    "the address in the kubeconfig is wrong or blocked, or its credentials ran out",
    "Run playbook exomesh.istio.kubeconfig for this cluster, and try its API with kubectl",
)
ISTIOD_MISSING = Kind(
    "istiod-missing",
    "No istiod is ready",
    "Istio is not installed in this cluster, or istiod does not start",
    "Run playbook exomesh.istio.istio; it names what keeps istiod from being ready",
)
ISTIOD_SILENT = Kind(
    "istiod-silent",
    "An istiod does not tell which clusters it reads",
    "its debug interface is switched off, or the kubeconfig's user may not run commands in pods",
    "Allow pods/exec in istio-system, and leave ENABLE_DEBUG_ON_HTTP at its default",
)
REMOTE_SECRET_MISSING = Kind(
    "remote-secret-missing",
    "The source has no remote secret for the destination",
    "it was deleted, or the peering of these two clusters never ran",
    "Run playbook exomesh.istio.peering",
)
ISTIOD_NOT_SYNCED = Kind(
    "istiod-not-synced",
    "An istiod of the source has not read the destination's endpoints",
    "it cannot reach the destination's API from its pod, or the token in the remote secret is not accepted",
    "Check that the source's nodes reach the API address in the remote secret, then run playbook "
    "exomesh.istio.peering",
)
ROOTS_DIFFER = Kind(
    "roots-differ",
    "Source and destination do not trust the same root",
    "their certificates come of different roots, or istiod started before its secret cacerts was there",
    "Run playbook exomesh.istio.certificates, then restart istiod and the workloads of the cluster with the "
    "wrong root",
)
GATEWAY_MISSING = Kind(
    "gateway-missing",
    "No Service in istio-system is labelled as the gateway of the cluster's network",
    "the east-west gateway is not installed, was deleted, or lost its label topology.istio.io/network",
    "Run playbook exomesh.istio.gateway",
)
GATEWAY_WITHOUT_ADDRESS = Kind(
    "gateway-without-address",
    "The east-west gateway has no load balancer address",
    "the cloud controller could not make a load balancer; see the Events of the Service",
    "Run playbook exomesh.istio.gateway; it shows the Events and the likely cause",
)
GATEWAY_NOT_READY = Kind(
    "gateway-not-ready",
    "The east-west gateway has no ready pod",
    "its Deployment is scaled to 0, or its pods do not start",
    "Run playbook exomesh.istio.gateway; it names what keeps the gateway from being ready",
)
GATEWAY_NOT_EXPOSED = Kind(
    "gateway-not-exposed",
    "No Gateway exposes the cluster's services to other networks",
    "the Gateway cross-network-gateway (15443, AUTO_PASSTHROUGH) was deleted or changed",
    "Run playbook exomesh.istio.gateway",
)
WORKLOAD_NOT_READY = Kind(
    "workload-not-ready",
    "The test workload did not become ready",
    "its images cannot be pulled, the nodes have no room, or the sidecar does not start",
    "Look at the evidence; verify_server_image and verify_client_image name other images",
)
WORKLOAD_NOT_INJECTED = Kind(
    "workload-not-injected",
    "The test workload got no sidecar",
    "the injection webhook is missing or does not answer",
    "Run playbook exomesh.istio.istio",
)
SIDECAR_SILENT = Kind(
    "sidecar-silent",
    "The sidecar of the test workload does not tell its endpoints",
    "the kubeconfig's user may not run commands in pods, or the proxy's administration port is closed",
    "Allow pods/exec in the namespace exomesh-verify",
)
ENDPOINT_MISSING = Kind(
    "endpoint-missing",
    "The source knows no endpoint of the destination's service",
    "istiod of the source has not learnt of it, or does not know the gateway of the destination's network",
    "Check that the namespace istio-system of the destination has its label topology.istio.io/network",
)
ENDPOINT_NOT_GATEWAY = Kind(
    "endpoint-not-gateway",
    "The source would send requests to another address than the destination's gateway",
    "istiod of the source does not know the destination's gateway, and falls back to pod addresses",
    "Check the label topology.istio.io/network of istio-system and of the gateway's Service there",
)
NAME_NOT_RESOLVED = Kind(
    "name-not-resolved",
    "The name of a service that only the destination has does not resolve in the source",
    "DNS capture is off in the source's proxies",
    "Set istio_dns_capture to true, run playbook exomesh.istio.istio, and restart the workloads",
)
REQUEST_FAILED = Kind(
    "request-failed",
    "A request from the source was not answered by the destination",
    "a firewall before the destination's gateway (port 15443), or certificates of different roots",
    "Try the gateway's address and port from a node of the source; compare the roots of both clusters",
)
WRONG_CLUSTER_ANSWERED = Kind(
    "wrong-cluster-answered",
    "A request for the destination was answered by another cluster",
    "a gateway address belongs to another cluster, or two clusters share a network name",
    "Check that mesh_network differs between the clusters, and the gateways' addresses",
)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with one cluster, or with the way from one to another."""

    kind: Kind
    cluster: str | None = None
    source: str | None = None
    destination: str | None = None
    evidence: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"{self.source} -> {self.destination}" if self.source else str(self.cluster)

    def as_dict(self) -> dict[str, Any]:
        place: dict[str, Any] = {
            "cluster": self.cluster,
            "source": self.source,
            "destination": self.destination,
        }
        return {
            "code": self.kind.code,
            "severity": self.kind.severity,
            **{name: value for name, value in place.items() if value},
            "message": self.kind.message,
            "evidence": self.evidence,
            "cause": self.kind.cause,
            "next_step": self.kind.next_step,
        }

    def lines(self) -> list[str]:
        """The finding for people."""
        return [
            f"{self.kind.severity} {self.kind.code} [{self.where}]: {self.kind.message}",
            *(f"    saw: {line}" for line in self.evidence),
            f"    likely cause: {self.kind.cause}",
            f"    next: {self.kind.next_step}",
        ]
