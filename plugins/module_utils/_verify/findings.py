# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of findings, one entry for each thing that can be wrong with a mesh (private to the collection).

``make findings`` writes the page of findings, ``docs/docsite/rst/findings.rst``, from this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._base.members import Member
from .._kubernetes.causes import Cause
from .._kubernetes.cilium import BYPASSED, BYPASSED_CAUSE, BYPASSED_NEXT

ERROR, UNKNOWN, WARNING = "error", "unknown", "warning"
"""Severities: it is wrong; whether it is wrong cannot be told; it works, but look at it. Worst first."""

CHECKS = (
    "secret",
    "credentials",
    "api",
    "sync",
    "gateway",
    "endpoints",
    "dns",
    "wire",
    "request",
    "identity",
)
"""The checks of every pair, in the order in which a request depends on them."""

_NAMED = 6
"""The number of objects that are named as evidence. The others are only counted."""

_MULTICLUSTER = "https://istio.io/latest/docs/ops/diagnostic-tools/multicluster/"
_INSTALL = "https://istio.io/latest/docs/setup/install/multicluster/multi-primary_multi-network/"
_CA = "https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/"
_DNS = "https://istio.io/latest/docs/ops/configuration/traffic-management/dns-proxy/"
_INJECTION = "https://istio.io/latest/docs/ops/common-problems/injection/"
_TLS = "https://istio.io/latest/docs/ops/configuration/traffic-management/tls-configuration/"
_MODELS = "https://istio.io/latest/docs/ops/deployment/deployment-models/"
_ISSUES = "https://github.com/istio/istio/issues/"


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    :param code: the finding's code, which stays the same across releases.
    :param next_step: the next command. ``{cluster}``, ``{source}`` and ``{destination}`` stand for the place,
        and with ``_host`` for its name in the inventory. ``{playbook}`` stands for the beginning of the
        command that runs a playbook.
    :param check: for a finding about a pair, the check that failed.
    :param breaks_out: for a finding about a cluster, the first check that fails as a consequence for pairs
        that begin there; None if no check fails.
    :param breaks_in: the same for pairs that end there.
    :param settles: whether the fault may come right by itself after a moment.
    """

    code: str
    message: str
    cause: str
    next_step: str
    link: str
    severity: str = ERROR
    check: str | None = None
    breaks_out: str | None = None
    breaks_in: str | None = None
    settles: bool = False


# Clusters and their clocks

CLUSTER_UNREACHABLE = Kind(
    "cluster-unreachable",
    "The cluster's API does not answer, or refuses the request",
    "the address in the kubeconfig is wrong or blocked, or its credentials have expired or do not suffice",
    "{playbook}.kubeconfig --limit {cluster_host}",
    _MULTICLUSTER,
    breaks_out="secret",
    breaks_in="credentials",
)
CLOCK_SKEW = Kind(
    "clock-skew",
    "The cluster's clock differs from that of its peers by more than a minute",
    "time synchronisation (NTP) does not work there; a certificate that was just made "
    "in one cluster is not yet valid in another",
    "Compare the clocks: kubectl get --raw /version -v 8 2>&1 | grep Date, for {cluster} and a peer",
    _ISSUES + "25108",
    breaks_out="wire",
    breaks_in="wire",
)
NOT_TOLD = Kind(
    "not-told",
    "Something could not be looked at: whether it is well cannot be told",
    "it did not answer, or the user of the kubeconfig may not look at it",
    "{playbook}.status again, when what the evidence names answers",
    _MULTICLUSTER,
    severity=UNKNOWN,
)
MEMBER_NOT_IN_INVENTORY = Kind(
    "member-not-in-inventory",
    "Records of other clusters name the cluster as a member of the mesh, but the inventory lacks it",
    "its line was removed or commented out, or the inventory plugin did not find it; this run does not check "
    "it, and removes nothing that the others have for it",
    "Put {cluster} back into the inventory, or remove it from the mesh: {playbook}.remove_cluster -e "
    "cluster={cluster}",
    _MULTICLUSTER,
    severity=WARNING,
)

# Trust

CACERTS_MISSING = Kind(
    "cacerts-missing",
    "The cluster has no secret cacerts: istiod signs with a root of its own, which no peer trusts",
    "it was deleted, or the certificates of this cluster were never created",
    "{playbook}.certificates --limit {cluster_host}",
    _CA,
)
CACERTS_INVALID = Kind(
    "cacerts-invalid",
    "The secret cacerts is invalid: istiod would not start with it",
    "it was written by hand, or by a program that stopped halfway",
    "kubectl -n istio-system delete secret cacerts, then {playbook}.certificates --limit {cluster_host}",
    _CA,
)
ROOT_DIFFERS = Kind(
    "root-differs",
    "Workloads of the cluster trust another root than those of its peers",
    "its certificates come from another root, or istiod started before its secret cacerts was there",
    "{playbook}.certificates --limit {cluster_host}; it shows how to bring the roots together",
    _ISSUES + "32501",
    breaks_out="wire",
    breaks_in="wire",
)
CACERTS_NOT_IN_USE = Kind(
    "cacerts-not-in-use",
    "The secret cacerts has another root than the one that istiod gives to workloads",
    "the secret was changed while istiod ran: istiod silently ignores the new root until its next restart, "
    "and then cuts off every running workload",
    "Put the root of the mesh back into the secret before istiod restarts: "
    "{playbook}.certificates --limit {cluster_host}",
    _ISSUES + "30947",
)
CA_NOT_LOADED = Kind(
    "ca-not-loaded",
    "An istiod does not serve the intermediate CA of the secret cacerts",
    "the intermediate CA was renewed, and this istiod did not load it",
    "kubectl -n istio-system rollout restart deployment istiod",
    _ISSUES + "22993",
    settles=True,
)
CERTIFICATE_EXPIRED = Kind(
    "certificate-expired",
    "A certificate of the cluster has expired",
    "a CA was not renewed in time, or a proxy did not reach istiod to renew its own certificate",
    "{playbook}.renew_certificates --limit {cluster_host}; if the certificate is that "
    "of a proxy, restart its pod",
    _CA,
)
CERTIFICATE_EXPIRING = Kind(
    "certificate-expiring",
    "A certificate of the cluster expires soon",
    "nobody renewed this CA, or a proxy does not renew its own certificate at half of its life, as it should",
    "{playbook}.renew_certificates --limit {cluster_host}",
    _CA,
    severity=WARNING,
)
TRUST_DOMAIN_DIFFERS = Kind(
    "trust-domain-differs",
    "The cluster's trust domain differs from that of its peers",
    "istio_trust_domain, or meshConfig.trustDomain in istio_overlay, is set for one cluster only",
    "Set the same istio_trust_domain for all, then {playbook}.istio --limit {cluster_host}",
    _ISSUES + "39204",
    breaks_out="wire",
    breaks_in="wire",
)

# Istio in a cluster

ISTIOD_MISSING = Kind(
    "istiod-missing",
    "No istiod is ready",
    "Istio is not installed in this cluster, or istiod does not start",
    "{playbook}.istio --limit {cluster_host}; it names what keeps istiod from being ready",
    _INSTALL,
    breaks_out="sync",
    breaks_in="endpoints",
)
ISTIOD_DEGRADED = Kind(
    "istiod-degraded",
    "A replica of istiod is not ready",
    "it still starts, crashes, waits for a peer whose API does not answer, or finds no room on a node",
    "kubectl -n istio-system describe pods -l app=istiod, in {cluster}",
    _INSTALL,
    severity=WARNING,
)
ISTIOD_UNRESPONSIVE = Kind(
    "istiod-unresponsive",
    "An istiod does not report which clusters and gateways it knows",
    "it hangs, its debug interface is switched off, or the kubeconfig's user may not forward ports of pods",
    "kubectl -n istio-system logs -l app=istiod --tail 50, in {cluster}",
    _MULTICLUSTER,
    severity=UNKNOWN,
    breaks_out="sync",
)
ROLLOUT_STUCK = Kind(
    "rollout-stuck",
    "A Deployment of Istio cannot start its new pods: the older ones still serve",
    "the cluster refuses the new pods, as a ResourceQuota, Pod Security or an admission policy does",
    "kubectl -n istio-system describe deployments, in {cluster}",
    "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment",
    severity=WARNING,
)
ISTIO_VERSIONS_DIFFER = Kind(
    "istio-versions-differ",
    "The cluster's Istio is more than one minor version away from that of a peer",
    "an upgrade of the mesh stopped halfway",
    "{playbook}.istio --limit {cluster_host}, with the same mesh_istio_version for all",
    "https://istio.io/latest/docs/releases/supported-releases/",
    severity=WARNING,
)
NETWORK_LABEL_WRONG = Kind(
    "network-label-wrong",
    "The namespace istio-system does not name the cluster's network",
    "the label topology.istio.io/network was removed or changed; peers then try to reach its pods directly",
    "{playbook}.istio --limit {cluster_host}",
    _ISSUES + "54909",
    breaks_out="gateway",
    breaks_in="gateway",
)
PROXY_NETWORK_WRONG = Kind(
    "proxy-network-wrong",
    "Running proxies are configured for another network",
    "they were started before mesh_network was changed, or were injected with settings of another cluster",
    "kubectl rollout restart the workloads that the evidence names, in {cluster}",
    _ISSUES + "58612",
    severity=WARNING,
)
DNS_CAPTURE_DISABLED = Kind(
    "dns-capture-disabled",
    "New proxies do not capture DNS: names of services that only a peer has do not resolve",
    "ISTIO_META_DNS_CAPTURE is not true in the proxies' default configuration",
    "Set istio_dns_capture to true, then {playbook}.istio --limit {cluster_host}",
    _DNS,
    breaks_out="dns",
)
DNS_CAPTURE_MISSING = Kind(
    "dns-capture-missing",
    "Running proxies do not capture DNS, though new ones would",
    "these pods were started before DNS capture was switched on, or switch it off themselves",
    "kubectl rollout restart the workloads that the evidence names, in {cluster}",
    _ISSUES + "31760",
    severity=WARNING,
)
NAMESPACE_HIDDEN = Kind(
    "namespace-hidden",
    "Discovery selectors hide namespaces of the mesh from istiod: their Services have no endpoints, and new "
    "pods do not start, because they get no ConfigMap istio-ca-root-cert",
    "meshConfig.discoverySelectors in istio_overlay select none of the labels of these namespaces",
    "kubectl -n istio-system get configmap istio -o yaml, in {cluster}; label the namespaces, or add a "
    "selector to istio_overlay, then {playbook}.istio --limit {cluster_host}",
    "https://istio.io/latest/blog/2021/discovery-selectors/",
)
SIDECARS_BYPASSED = Kind(
    "sidecars-bypassed",
    BYPASSED,
    BYPASSED_CAUSE,
    BYPASSED_NEXT,
    "https://docs.cilium.io/en/stable/network/servicemesh/istio/",
    severity=WARNING,
)
RETIRED_REGISTRY = Kind(
    "retired-registry",
    "Pods run images of a registry that is switched off in December 2026",
    "Istio was installed with the registry that was its default until 1.30",
    "Set istio_hub to docker.io/istio or a mirror, then {playbook}.istio --limit "
    "{cluster_host}, then restart the workloads",
    "https://istio.io/latest/blog/2026/retirement-of-gcp/",
    severity=WARNING,
)

# East-west gateways

GATEWAY_MISSING = Kind(
    "gateway-missing",
    "No Service in istio-system is labelled as the gateway of the cluster's network",
    "the east-west gateway is not installed, was deleted, or lost its label topology.istio.io/network",
    "{playbook}.gateway --limit {cluster_host}",
    _INSTALL,
    breaks_in="gateway",
)
GATEWAY_WITHOUT_ADDRESS = Kind(
    "gateway-without-address",
    "The east-west gateway has no load balancer address",
    "the cloud controller could not make a load balancer; see the Events of the Service",
    "{playbook}.gateway --limit {cluster_host}; it shows the Events and the likely cause",
    _ISSUES + "49045",
    breaks_in="gateway",
)
GATEWAY_PORT_WRONG = Kind(
    "gateway-port-wrong",
    "The Service of the east-west gateway does not lead to port 15443 of its pods",
    "the Service was changed by hand, or by another installation",
    "{playbook}.gateway --limit {cluster_host}",
    _ISSUES + "34246",
    breaks_in="gateway",
)
GATEWAY_NOT_READY = Kind(
    "gateway-not-ready",
    "The east-west gateway has no ready pod",
    "its Deployment is scaled to 0, its pods do not start, or the Service's selector names other pods",
    "{playbook}.gateway --limit {cluster_host}; it names what keeps it from being ready",
    _INSTALL,
    breaks_in="gateway",
)
GATEWAY_DEGRADED = Kind(
    "gateway-degraded",
    "Not all pods of the east-west gateway are ready",
    "a pod does not start, or its proxy rejects its configuration",
    "kubectl -n istio-system describe pod, for the pods that the evidence names, in {cluster}",
    _INSTALL,
    severity=WARNING,
)
GATEWAY_CONFIG_REJECTED = Kind(
    "gateway-config-rejected",
    "The east-west gateway rejects its configuration: it exposes no new Services, and new pods do not start",
    "two Gateways on port 15443 have hosts that overlap, or an EnvoyFilter makes what Envoy does not accept",
    "kubectl get gateways.networking.istio.io,envoyfilters -A -o yaml, in {cluster}; leave one Gateway for "
    "each host on port 15443",
    _ISSUES + "46021",
)
GATEWAY_NOT_EXPOSED = Kind(
    "gateway-not-exposed",
    "No Gateway exposes the cluster's services to other networks",
    "the Gateway cross-network-gateway (15443, AUTO_PASSTHROUGH) was deleted or changed, or its selector "
    "does not name the east-west gateway's pods",
    "{playbook}.gateway --limit {cluster_host}",
    _INSTALL,
    breaks_in="endpoints",
)
GATEWAY_HOSTS_RESTRICTED = Kind(
    "gateway-hosts-restricted",
    "The Gateway does not expose the test workload, so no request can prove the way to the cluster",
    "gateway_expose_hosts leaves out the namespace exomesh-verify",
    "Add *.exomesh-verify.svc.cluster.local to gateway_expose_hosts, then "
    "{playbook}.gateway --limit {cluster_host}",
    _INSTALL,
    severity=WARNING,
    breaks_in="endpoints",
)
GATEWAY_BLOCKED = Kind(
    "gateway-blocked",
    "A NetworkPolicy keeps port 15443 of the east-west gateway closed",
    "a policy selects the gateway's pods, and no rule of any policy allows that port",
    "kubectl -n istio-system get networkpolicy -o yaml, in {cluster}; allow ingress to port 15443",
    "https://kubernetes.io/docs/concepts/services-networking/network-policies/",
    breaks_in="wire",
)

ISTIOD_BLOCKED = Kind(
    "istiod-blocked",
    "NetworkPolicies keep proxies from istiod: they get no new configuration and no new certificates",
    "a policy allows egress of the pods, or ingress of istiod, without port 15012",
    "kubectl get networkpolicy -A -o yaml, in {cluster}; allow the pods of the mesh TCP 15012 of istiod",
    "https://istio.io/latest/docs/ops/deployment/application-requirements/",
)
PEERS_BLOCKED = Kind(
    "peers-blocked",
    "NetworkPolicies keep workloads from the gateways of peers: their requests to other clusters fail",
    "a policy allows egress of the pods, but not to the addresses of the peers' gateways",
    "kubectl get networkpolicy -A -o yaml, in {cluster}; allow egress to TCP 15443 of the peers' gateways",
    "https://kubernetes.io/docs/concepts/services-networking/network-policies/",
    severity=WARNING,
)
ENDPOINT_BLOCKED = Kind(
    "endpoint-blocked",
    "NetworkPolicies keep the east-west gateway from workloads: requests of peers to their Services fail",
    "a policy allows ingress of the pods only from their own cluster's workloads, but requests of peers come "
    "from the pods of the gateway",
    "kubectl get networkpolicy -A -o yaml, in {cluster}; allow ingress from the gateway's pods",
    "https://kubernetes.io/docs/concepts/services-networking/network-policies/",
    severity=WARNING,
)
POLICIES_NOT_JUDGED = Kind(
    "policies-not-judged",
    "The cluster has policies for its network of kinds that are not judged here",
    "Cilium or Calico has policies of its own; they may close what the mesh needs",
    "{playbook}.verify sends requests for every pair; it fails if they close a way of the test workload",
    "https://docs.cilium.io/en/stable/security/policy/",
    severity=WARNING,
)

# Running proxies

PROXY_ROOT_DIFFERS = Kind(
    "proxy-root-differs",
    "Running proxies have another root than istiod gives out: requests to them and from them fail",
    "they run since before the root was changed, or have lost istiod",
    "kubectl rollout restart the workloads that the evidence names, in {cluster}",
    _CA,
)
ROOT_ROTATION = Kind(
    "root-rotation",
    "The root of the mesh is being rotated, and that has not ended",
    "playbook rotate_root is running, was ended early, or waits for proxies that lag",
    "Continue it: {playbook}.rotate_root, or return to the old root: {playbook}.rotate_root "
    "-e rotate_back=true",
    _CA,
    severity=WARNING,
)
PROXY_CONFIG_REJECTED = Kind(
    "proxy-config-rejected",
    "Proxies reject their new configuration: they keep an older one",
    "an EnvoyFilter, VirtualService, DestinationRule or ServiceEntry makes what Envoy does not accept",
    "kubectl get envoyfilters,virtualservices,destinationrules,serviceentries -A, in {cluster}; correct what "
    "the evidence names",
    "https://istio.io/latest/docs/ops/diagnostic-tools/proxy-cmd/",
)

PROXY_VERSION_UNSUPPORTED = Kind(
    "proxy-version-unsupported",
    "Running proxies are of a version that their istiod does not support",
    "their pods run since before an upgrade of Istio, or istiod was set back to an older version; Istio "
    "supports proxies of istiod's own minor version and of the one before",
    "kubectl rollout restart the workloads that the evidence names, in {cluster}",
    "https://istio.io/latest/docs/releases/supported-releases/#control-planedata-plane-skew",
    severity=WARNING,
)
SIDECAR_MISSING = Kind(
    "sidecar-missing",
    "Running pods have no sidecar, though new ones would get one: their requests do not reach other clusters",
    "they were started before injection was switched on",
    "kubectl rollout restart the workloads that the evidence names, in {cluster}",
    _INJECTION,
    severity=WARNING,
)
INJECTOR_MISSING = Kind(
    "injector-missing",
    "Sidecars are asked for that no istiod of the cluster injects: new pods get none",
    "the label names a revision or tag that is not installed, or the namespace switches injection off",
    "kubectl get mutatingwebhookconfigurations -L istio.io/rev,istio.io/tag, in {cluster}; give the "
    "namespaces of the evidence a label of those, or add the tag to istio_revision_tags",
    _INJECTION,
    severity=WARNING,
)

# Services that do not cross, though nothing says so

HEADLESS_SERVICE = Kind(
    "headless-service",
    "A headless Service has pods in one cluster only: callers in others find none",
    "Istio gives proxies no endpoints of other networks for headless Services, nor names as POD.SUBDOMAIN",
    "Give these workloads a Service with an address (clusterIP), or keep their callers in {cluster}",
    _ISSUES + "38327",
    severity=WARNING,
)
SERVICE_SHAPE_DIFFERS = Kind(
    "service-shape-differs",
    "A Service is of another kind than in the peers: callers there and here reach different pods",
    "it is headless, an alias (ExternalName) or without a selector in one cluster only; istiod uses the "
    "definition of its own cluster, and peers reach only pods with a sidecar",
    "kubectl get service -A -o wide, in {cluster} and the peer of the evidence; make them alike, or give one "
    "another name",
    _MODELS,
    severity=WARNING,
)
SERVICE_PORT_NAME_DIFFERS = Kind(
    "service-port-name-differs",
    "A port of a Service has another name than in a peer: each cluster's callers never use the other's pods",
    "Istio joins endpoints of several clusters by the name of the port, not by its number",
    "kubectl get service -A -o yaml, in {cluster} and the peer of the evidence; give the port the same name",
    _MODELS,
    severity=WARNING,
)
SERVICE_PORT_NUMBER_DIFFERS = Kind(
    "service-port-number-differs",
    "A port of a Service has another number than in a peer: connections that cross fail",
    "callers name the port of their own cluster, which the peer's gateway does not know; only HTTP requests "
    "are repeated with other pods",
    "kubectl get service -A -o yaml, in {cluster} and the peer of the evidence; give the port one number",
    _MODELS,
)
SERVICE_PROTOCOL_DIFFERS = Kind(
    "service-protocol-differs",
    "A port of a Service has another protocol than in a peer: proxies of one cluster misread it",
    "the protocol is that of appProtocol, or else of the name of the port; each cluster uses its own",
    "kubectl get service -A -o yaml, in {cluster} and the peer of the evidence; set the same appProtocol",
    "https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/",
    severity=WARNING,
)
SERVICE_NOT_INJECTED = Kind(
    "service-not-injected",
    "Pods of a Service have no sidecar here, but in peers: no request of a peer reaches them",
    "injection is not switched on for the namespace in this cluster; gateways carry mutual TLS only",
    "kubectl label namespace NAMESPACE istio-injection=enabled, in {cluster}; then restart the workloads",
    _INJECTION,
    severity=WARNING,
)
UNREADY_PODS_CALLED = Kind(
    "unready-pods-called",
    "No pod of a Service is ready in the cluster, and peers still connect to it: these connections fail",
    "istiod of the peers gives out pods that are not ready, and callers cannot tell it behind a gateway",
    "kubectl get pods -A, in {cluster}: why these pods are not ready; {playbook}.istio lets peers leave them "
    "out",
    "https://istio.io/latest/news/releases/1.31.x/announcing-1.31/upgrade-notes/",
)
UNREADY_PODS_SENT = Kind(
    "unready-pods-sent",
    "istiod gives out pods that are not ready, also those of peers, where connections to them fail",
    "Istio does so from 1.31 on, unless PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS of istiod says otherwise",
    "{playbook}.istio --limit {cluster_host}",
    "https://istio.io/latest/news/releases/1.31.x/announcing-1.31/upgrade-notes/",
    severity=WARNING,
)
ROUTES_DIFFER = Kind(
    "routes-differ",
    "Callers get other routes to a Service than those in peers",
    "VirtualServices count only for callers of their own cluster, and this one has none, or another",
    "kubectl get virtualservices -A, in {cluster} and the peer of the evidence; apply the same in all",
    _MODELS,
    severity=WARNING,
)
SUBSET_UNKNOWN_TO_PEER = Kind(
    "subset-unknown-to-peer",
    "Requests of peers name a subset that the gateway does not know: it closes them",
    "the DestinationRule with the subset is missing here, has other labels, or its exportTo hides it",
    "kubectl get destinationrules -A -o yaml, in {cluster}; apply the DestinationRule of the peer here, too",
    "https://istio.io/latest/docs/reference/config/networking/destination-rule/#Subset",
)
SUBSET_WITHOUT_PODS = Kind(
    "subset-without-pods",
    "The routes of a peer never lead to this cluster: no pod of it is in any of their subsets",
    "its pods lack the labels of the subsets",
    "kubectl get pods -A --show-labels, in {cluster}; add the labels of the subsets to the workloads",
    "https://istio.io/latest/docs/reference/config/networking/destination-rule/#Subset",
    severity=WARNING,
)
HOST_NOT_EXPOSED = Kind(
    "host-not-exposed",
    "The gateway does not let in what peers send to pods here: these connections fail",
    "gateway_expose_hosts lacks the host, exportTo hides the Service from the gateway, or the ServiceEntry "
    "is in the peer's cluster only; proxies repeat only HTTP requests with other pods",
    "Add the host to gateway_expose_hosts, then {playbook}.gateway --limit {cluster_host}; to keep a Service "
    "apart, make it clusterLocal in all clusters that have it",
    _MODELS,
)
ENDPOINT_WITHOUT_SIDECAR = Kind(
    "endpoint-without-sidecar",
    "Pods behind Services of the mesh have no sidecar: Istio drops them silently for other networks",
    "they were started before injection was switched on, or switch it off themselves",
    "kubectl rollout restart the workloads that the evidence names, in {cluster}",
    _INJECTION,
    severity=WARNING,
)
MTLS_DISABLED = Kind(
    "mtls-disabled",
    "A PeerAuthentication switches mTLS off: Istio drops these endpoints silently for other networks",
    "gateways between networks carry mutual TLS only",
    "Change its mode to PERMISSIVE or STRICT: kubectl get peerauthentication -A, in {cluster}",
    _ISSUES + "28798",
    severity=WARNING,
)
DESTINATION_RULE_NOT_MUTUAL = Kind(
    "destination-rule-not-mutual",
    "A DestinationRule sets another TLS mode than ISTIO_MUTUAL: no endpoints on other networks for its hosts",
    "gateways between networks carry Istio's mutual TLS only",
    "Remove trafficPolicy.tls from it, or set ISTIO_MUTUAL: kubectl get destinationrule -A, in {cluster}",
    _TLS,
    severity=WARNING,
)
SERVICE_ADDRESS_CONFLICT = Kind(
    "service-address-conflict",
    "Two Services have the same address and port: a TCP client may reach the wrong one",
    "both clusters take Service addresses from the same range, and with DNS capture clients call a "
    "Service of a peer by its address there",
    "Give one of the two another clusterIP: delete and create the Service in {source} or {destination}",
    _MODELS,
    severity=WARNING,
)

# Peering

REMOTE_SECRET_MISSING = Kind(
    "remote-secret-missing",
    "The source has no remote secret for the destination",
    "it was deleted, or the peering of these two clusters never ran",
    "{playbook}.peering --limit {source_host}",
    _INSTALL,
    check="secret",
)
REMOTE_SECRET_DUPLICATE = Kind(
    "remote-secret-duplicate",
    "The source has several remote secrets for the destination",
    "another tool or an older name made a second one; istiod takes only one, and not always the same",
    "kubectl -n istio-system get secrets -l istio/multiCluster=true, in {source}; delete all but "
    "istio-remote-secret-{destination}",
    _ISSUES + "36365",
    check="secret",
)
REMOTE_SECRET_INVALID = Kind(
    "remote-secret-invalid",
    "The remote secret for the destination is not in the form that istiod reads",
    "name, key and annotation must all name the destination, and the key must hold a kubeconfig with a token",
    "{playbook}.peering --limit {source_host}",
    _INSTALL,
    check="secret",
)
REMOTE_SECRET_UNKNOWN = Kind(
    "remote-secret-unknown",
    "The cluster has a remote secret for a cluster that is no member of the mesh",
    "the inventory lacks a member, or a cluster left the mesh without being removed from it",
    "Put the cluster back into the inventory, or remove it: {playbook}.remove_cluster -e cluster=NAME",
    _ISSUES + "27187",
    severity=WARNING,
)
REMOTE_SECRET_ADDRESS = Kind(
    "remote-secret-address",
    "The remote secret names another API address than the destination's",
    "the destination's API moved, the secret was edited, or peering_server was changed after the peering",
    "{playbook}.peering --limit {source_host}",
    _ISSUES + "31081",
    check="api",
)
CREDENTIALS_REJECTED = Kind(
    "credentials-rejected",
    "The destination does not accept the token of the remote secret",
    "its token Secret or service account was deleted there, or the secret is an older one",
    "{playbook}.peering --limit {source_host}",
    _ISSUES + "60612",
    check="credentials",
)
READER_UNDERPRIVILEGED = Kind(
    "reader-underprivileged",
    "The account of the remote secret may not read what istiod needs from the destination",
    "its role or role binding was changed or deleted there",
    "{playbook}.peering --limit {source_host},{destination_host}",
    _INSTALL,
    check="credentials",
)
READER_OVERPRIVILEGED = Kind(
    "reader-overprivileged",
    "The account of the remote secret may read Secrets of the destination",
    "it is Istio's own reader account, or another role is bound to the account; mesh_least_privilege asks "
    "for less",
    "{playbook}.peering --limit {source_host},{destination_host}",
    _ISSUES + "59845",
    severity=WARNING,
)
API_UNTRUSTED = Kind(
    "api-untrusted",
    "The CA in the remote secret is not that of the destination's API",
    "the destination's CA was renewed, or a proxy on the way ends TLS with a certificate of its own",
    "{playbook}.peering --limit {source_host}",
    _ISSUES + "39707",
    check="api",
)
API_UNREACHABLE = Kind(
    "api-unreachable",
    "The destination's API does not answer from a pod of the source",
    "a firewall or a route blocks the way from the source's nodes to the destination's API",
    "Try the address of the evidence from a node of {source}: curl -k https://ADDRESS/version",
    _ISSUES + "31081",
    check="api",
)
ISTIOD_NOT_SYNCED = Kind(
    "istiod-not-synced",
    "An istiod of the source has not read the destination's endpoints",
    "it could not reach the destination's API when it started, or waits for its answer",
    "kubectl -n istio-system logs -l app=istiod --tail 50, in {source}; then "
    "{playbook}.peering --limit {source_host}",
    _ISSUES + "30838",
    check="sync",
    settles=True,
)
GATEWAY_UNKNOWN = Kind(
    "gateway-unknown",
    "An istiod of the source does not know the address of the destination's gateway",
    "the gateway's address changed a moment ago, cannot be resolved in the source, or this istiod is stale",
    "kubectl -n istio-system exec deploy/istiod -- pilot-discovery request GET /debug/networkz, in {source}",
    _ISSUES + "60920",
    check="gateway",
    settles=True,
)

# The way of a request

WORKLOAD_NOT_READY = Kind(
    "workload-not-ready",
    "The test workload did not become ready",
    "it does not start; the cluster names no cause that is known",
    "Look at the evidence; {playbook}.support_bundle collects what the cluster says",
    _INJECTION,
    breaks_out="endpoints",
    breaks_in="endpoints",
)
WORKLOAD_NOT_INJECTED = Kind(
    "workload-not-injected",
    "The test workload got no sidecar",
    "the injection webhook is missing or does not answer",
    "{playbook}.istio --limit {cluster_host}",
    _INJECTION,
    breaks_out="endpoints",
    breaks_in="endpoints",
)
WORKLOAD_LEFTOVER = Kind(
    "workload-leftover",
    "The test workload of an earlier verification is still there",
    "that verification was killed",
    "{playbook}.verify; it removes the workload",
    _MULTICLUSTER,
    severity=WARNING,
)
SIDECAR_UNRESPONSIVE = Kind(
    "sidecar-unresponsive",
    "The sidecar of the test workload does not report its endpoints",
    "it hangs, or the kubeconfig's user may not forward ports of pods",
    "kubectl -n exomesh-verify logs verify-{cluster} -c istio-proxy --tail 50, in {cluster}",
    _MULTICLUSTER,
    breaks_out="endpoints",
)
ENDPOINT_MISSING = Kind(
    "endpoint-missing",
    "The source knows no endpoint of the destination's service",
    "istiod of the source does not know it yet, or drops it because of a policy for mTLS",
    "istioctl proxy-config endpoints verify-{source}.exomesh-verify, in {source}, while this runs",
    _MULTICLUSTER,
    check="endpoints",
    settles=True,
)
ENDPOINT_NOT_GATEWAY = Kind(
    "endpoint-not-gateway",
    "The source would send requests to another address than the destination's gateway",
    "istiod of the source does not know the destination's gateway, and falls back to pod addresses",
    "kubectl get namespace istio-system --show-labels, in {destination}: its topology.istio.io/network",
    _ISSUES + "28381",
    check="endpoints",
    settles=True,
)
NAME_NOT_RESOLVED = Kind(
    "name-not-resolved",
    "The name of a service that only the destination has does not resolve in the source",
    "the source's proxies capture DNS, but do not know the service",
    "istioctl proxy-status, in {source}",
    _DNS,
    check="dns",
    settles=True,
)
GATEWAY_UNREACHABLE = Kind(
    "gateway-unreachable",
    "The destination's gateway does not accept connections from the source",
    "a firewall, a security group or loadBalancerSourceRanges blocks port 15443 of the gateway",
    "Try the address of the evidence from a node of {source}: curl -v telnet://ADDRESS:15443",
    _MULTICLUSTER,
    check="wire",
    settles=True,
)
GATEWAY_TLS_UNTRUSTED = Kind(
    "gateway-tls-untrusted",
    "What answers at the destination's gateway does not show a certificate of the mesh",
    "a load balancer or proxy before the gateway ends TLS, or the destination's proxies have another root",
    "openssl s_client -connect ADDRESS:15443 -alpn istio -servername "
    "outbound_.3000_._.verify-{destination}.exomesh-verify.svc.cluster.local",
    _ISSUES + "52356",
    check="wire",
    settles=True,
)
CONNECTION_CLOSED = Kind(
    "connection-closed",
    "The destination's gateway accepts connections of the source and closes them again",
    "the gateway has no route for the service's name (SNI): exportTo hides the service from it, or its "
    "istiod does not know it",
    "istioctl proxy-config listeners deploy/istio-eastwestgateway.istio-system, in {destination}",
    _ISSUES + "40624",
    check="wire",
    settles=True,
)
REQUEST_FAILED = Kind(
    "request-failed",
    "The destination did not answer a request from the source",
    "it does not get from the destination's gateway to the workload, or the workload itself fails",
    "kubectl -n istio-system logs deployment/istio-eastwestgateway --tail 20, in {destination}",
    _MULTICLUSTER,
    check="request",
    settles=True,
)
REQUEST_DENIED = Kind(
    "request-denied",
    "A policy refuses the test's request to the destination: whether requests pass cannot be told",
    "an AuthorizationPolicy with action DENY or CUSTOM selects the test workload, as one in the root "
    "namespace does; the request itself got there",
    "kubectl get authorizationpolicies -A, in {destination}; let the policy pass by namespace exomesh-verify",
    "https://istio.io/latest/docs/concepts/security/#authorization-policies",
    severity=UNKNOWN,
    check="request",
)
WRONG_CLUSTER_ANSWERED = Kind(
    "wrong-cluster-answered",
    "Another cluster answered a request for the destination",
    "a gateway address belongs to another cluster, or two clusters share a network name",
    "Compare mesh_network of {source} and {destination}, and the addresses of the gateways",
    _MODELS,
    check="request",
    settles=True,
)
IDENTITY_MISMATCH = Kind(
    "identity-mismatch",
    "The identities that the two proxies verified are not those of the test workload",
    "trust domains differ, or something on the way ends the mutual TLS",
    "istioctl proxy-config secret verify-{destination}.exomesh-verify, in {destination}, while this runs",
    "https://istio.io/latest/docs/concepts/security/",
    check="identity",
)

KINDS: tuple[Kind, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Kind))
"""All kinds of findings, in the order of this file."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with one cluster, or with the way from one to another.

    :param breaks: the first check that fails as a consequence, for pairs that begin or end there; set if this
        finding breaks more than its kind does.
    :param why: the cause that the cluster itself names; otherwise the likely cause of the kind counts.
    """

    kind: Kind
    cluster: str | None = None
    source: str | None = None
    destination: str | None = None
    evidence: list[str] = field(default_factory=list)
    breaks: str | None = None
    why: Cause | None = None

    @property
    def severity(self) -> str:
        return ERROR if self.breaks else self.kind.severity

    @property
    def is_error(self) -> bool:
        return self.severity == ERROR

    def next_step(self, members: Mapping[str, Member]) -> str:
        """Return the next command, with the names and the playbook command of the members filled in.

        :param members: all members by name.
        """
        if self.why:
            return self.why.next_step(self.cluster)
        names = {"cluster": self.cluster, "source": self.source, "destination": self.destination}
        places = {
            place: members.get(name or "") or Member(name or place, "", "") for place, name in names.items()
        }
        return self.kind.next_step.format(
            **{place: member.name for place, member in places.items()},
            **{f"{place}_host": member.limit for place, member in places.items()},
            playbook=places["cluster" if self.cluster else "source"].playbook,
        )

    def explains(self, check: str, source: str, destination: str) -> bool:
        """Return whether a failure of this check between these two clusters follows from this finding."""
        out, into = self.breaks or self.kind.breaks_out, self.breaks or self.kind.breaks_in
        first = (out if self.cluster == source else None, into if self.cluster == destination else None)
        return any(begin and CHECKS.index(check) >= CHECKS.index(begin) for begin in first)

    def as_dict(self, members: Mapping[str, Member]) -> dict[str, Any]:
        place: dict[str, Any] = {
            "cluster": self.cluster,
            "source": self.source,
            "destination": self.destination,
        }
        return {
            "code": self.kind.code,
            "severity": self.severity,
            **{name: value for name, value in place.items() if value},
            "message": self.kind.message,
            "evidence": self.evidence,
            "cause": self.why.told if self.why else self.kind.cause,
            "next_step": self.next_step(members),
            "link": self.kind.link,
        }


def weaker(kind: Kind) -> Kind:
    """Return the kind as one that does not make the mesh unhealthy."""
    return replace(kind, severity=WARNING)


def some(evidence: Sequence[str]) -> list[str]:
    """Return evidence that stays readable: the first lines, and the number of further ones."""
    more = len(evidence) - _NAMED
    return [*evidence[:_NAMED], *([f"and {more} more"] if more > 0 else [])]
