# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What mesh_verify judges and says; its requests are tested on the lab."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.causes import Cause, cause_in
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._trust.inventory import INTERMEDIATE, ROOT, Seen
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import (
    KeyKind,
    chain_pem,
    new_key,
    new_root,
)
from ansible_collections.exomesh.istio.plugins.module_utils._verify import report
from ansible_collections.exomesh.istio.plugins.module_utils._verify.judge import judge
from ansible_collections.exomesh.istio.plugins.module_utils._verify.observe import RIGHTS
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import (
    Access,
    Answer,
    ClusterState,
    Istiod,
    MeshState,
    PairState,
    Proxy,
    Reach,
    RemoteSecret,
    Sample,
    workload_name,
)

PROJECT = Path(__file__).resolve().parents[5]
NAMES = ("vie", "fra", "gva")
NOW = datetime(2026, 11, 23, tzinfo=UTC)
ECDSA = KeyKind("ecdsa-p256")
MESH_ROOT, OTHER_ROOT = (
    new_root(new_key(ECDSA), name, timedelta(days=3650), NOW - timedelta(days=1))
    for name in ("Mesh", "Other")
)
DYING_ROOT = new_root(new_key(ECDSA), "Mesh", timedelta(days=20), NOW - timedelta(days=1))
NEXT_CA = new_root(new_key(ECDSA), "Mesh", timedelta(days=3650), NOW - timedelta(days=1))
"""Named as MESH_ROOT, with another key."""


def injectors(revision: str) -> list[dict[str, Any]]:
    """What the webhooks of a revision or tag select, as istioctl 1.31 renders them."""

    def where(key: str, operator: str, *values: str) -> dict[str, Any]:
        return {"key": key, "operator": operator, **({"values": [*values]} if values else {})}

    def webhook(namespace: list[dict[str, Any]], pod: list[dict[str, Any]]) -> dict[str, Any]:
        selectors = {"namespaceSelector": namespace, "objectSelector": pod}
        return {name: {"matchExpressions": expressions} for name, expressions in selectors.items()}

    unlabelled, no_revision = (where(key, "DoesNotExist") for key in ("istio-injection", "istio.io/rev"))
    wanted = where("istio.io/rev", "In", revision)
    not_out = where("sidecar.istio.io/inject", "NotIn", "false")
    found = [webhook([wanted, unlabelled], [not_out]), webhook([no_revision, unlabelled], [not_out, wanted])]
    if revision == "default":
        enabled = where("istio-injection", "In", "enabled")
        asked = where("sidecar.istio.io/inject", "In", "true")
        found.append(webhook([enabled], [not_out]))
        found.append(webhook([unlabelled, no_revision], [asked, no_revision]))
    return found


# Judging


def pod(
    name: str, labels: dict[str, str], namespace: str = "istio-system", sidecar: bool = True
) -> dict[str, Any]:
    environment = [
        {"name": "ISTIO_META_DNS_CAPTURE", "value": "true"},
        {"name": "ISTIO_META_NETWORK", "value": "network"},
    ]
    proxy = [{"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.31.1", "env": environment}]
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "creationTimestamp": "1"},
        "spec": {
            "initContainers": proxy if sidecar else [],
            "containers": [{"name": "app", "image": "app:1"}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def service(
    name: str, address: str, port: int, labels: dict[str, str], selector: dict[str, str], namespace: str
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"clusterIP": address, "ports": [{"port": port, "targetPort": port}], "selector": selector},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}} if labels else {},
    }


def cluster(name: str, number: int) -> ClusterState:
    """A cluster where all is well."""
    peers = tuple(other for other in NAMES if other != name)
    network = f"network-{name}"
    address = f"203.0.113.{number}"
    gateway = service(
        "eastwest",
        f"10.96.0.{number}",
        15443,
        {"topology.istio.io/network": network},
        {"istio": "eastwest"},
        "istio-system",
    )
    gateway["status"]["loadBalancer"]["ingress"] = [{"ip": address}]
    workload = pod(workload_name(name), {"app": "verify"}, "exomesh-verify")
    gateway_pod = pod("eastwest-1", {"istio": "eastwest"})
    web = pod("web-1", {"app": "web"}, "shop")
    for proxied in (workload, gateway_pod, web):
        proxied["spec"]["initContainers"][0]["env"][1]["value"] = network
    networks = [(f"network-{other}", f"203.0.113.{NAMES.index(other)}", 15443) for other in NAMES]
    return ClusterState(
        Member(name, network, "none", None, peers),
        client=KubernetesClient.__new__(KubernetesClient),
        clock_skew=0.3,
        server=f"https://{name}:6443",
        api_ca="CA of " + name,
        mesh_config={"defaultConfig": {"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}},
        istiods=[Istiod("istiod-1", "1.31.1", None, dict.fromkeys(NAMES, "synced"), networks, answered=True)],
        secrets=[
            RemoteSecret(
                f"istio-remote-secret-{peer}",
                (peer,),
                peer,
                Access(f"https://{peer}:6443", "CA of " + peer, "t"),
            )
            for peer in peers
        ],
        certificates=[Seen(name, ROOT, "secret istio-system/cacerts", MESH_ROOT)],
        running_roots=(MESH_ROOT,),
        namespaces=[
            {"metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": network}}},
            {"metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}}},
        ],
        pods=[gateway_pod, workload, web],
        services=[gateway, service("web", f"10.97.0.{number}", 80, {}, {"app": "web"}, "shop")],
        injectors=[*injectors("default"), *injectors("stable")],
        gateways=[
            {
                "metadata": {"name": "expose", "namespace": "istio-system"},
                "spec": {
                    "selector": {"istio": "eastwest"},
                    "servers": [
                        {
                            "port": {"number": 15443},
                            "tls": {"mode": "AUTO_PASSTHROUGH"},
                            "hosts": ["*.local"],
                        }
                    ],
                },
            }
        ],
    )


def healthy() -> MeshState:
    clusters = {name: cluster(name, number) for number, name in enumerate(NAMES)}
    pairs = []
    for source in NAMES:
        for destination in clusters[source].member.peers:
            address = f"203.0.113.{NAMES.index(destination)}:15443"
            identities = [
                f"spiffe://cluster.local/ns/exomesh-verify/sa/verify-{name}" for name in (source, destination)
            ]
            pairs.append(
                PairState(
                    source,
                    destination,
                    user="system:serviceaccount:istio-system:reader",
                    rights=dict.fromkeys(RIGHTS, True) | {"list secrets": False},
                    endpoints=[address],
                    answer=Answer(0, 200, "", "", address, destination, *identities),
                    kept=Sample((1.0, 2.0, 3.0)),
                )
            )
    return MeshState(clusters, pairs, NOW, full=True, least_privilege=True)


def pair_of(mesh: MeshState, source: str, destination: str) -> PairState:
    return next(pair for pair in mesh.pairs if (pair.source, pair.destination) == (source, destination))


def codes(mesh: MeshState) -> list[tuple[str, str]]:
    return [
        (finding.kind.code, finding.cluster or f"{finding.source} -> {finding.destination}")
        for finding in judge(mesh).findings
    ]


def failed(mesh: MeshState) -> set[tuple[str, str]]:
    return {(v.pair.source, v.pair.destination) for v in judge(mesh).pairs if v.state == "failed"}


def test_healthy_mesh_has_no_findings() -> None:
    verdict = judge(healthy())
    assert verdict.findings == []
    assert verdict.healthy
    assert {pair.state for pair in verdict.pairs} == {"ok"}


def refuse(mesh: MeshState, source: str, destination: str, details: str = "UF refused") -> None:
    pair_of(mesh, source, destination).answer = Answer(0, 503, "upstream connect error", details)


def no_gateway_pods(mesh: MeshState) -> None:
    fra = mesh.clusters["fra"]
    fra.pods = [pod for pod in fra.pods if pod["metadata"]["namespace"] != "istio-system"]
    refuse(mesh, "vie", "fra")
    refuse(mesh, "gva", "fra")


def no_secret(mesh: MeshState) -> None:
    mesh.clusters["vie"].secrets = mesh.clusters["vie"].secrets[1:]
    mesh.clusters["vie"].istiods[0].synced.pop("fra")
    pair_of(mesh, "vie", "fra").endpoints = []
    refuse(mesh, "vie", "fra", "UH")


def second_secret(mesh: MeshState) -> None:
    first = mesh.clusters["vie"].secrets[0]
    mesh.clusters["vie"].secrets.append(RemoteSecret("fra-2", first.keys, first.annotation, first.access))


def wrong_key(mesh: MeshState) -> None:
    first = mesh.clusters["vie"].secrets[0]
    mesh.clusters["vie"].secrets[0] = RemoteSecret(first.name, ("frankfurt",), "fra", first.access)


def other_root(mesh: MeshState) -> None:
    fra = mesh.clusters["fra"]
    fra.running_roots, fra.certificates = (OTHER_ROOT,), [Seen("fra", ROOT, "secret x", OTHER_ROOT)]
    for peer in ("vie", "gva"):
        refuse(mesh, peer, "fra", "UF TLS_error:|CERTIFICATE_VERIFY_FAILED")
        refuse(mesh, "fra", peer, "UF TLS_error:|CERTIFICATE_VERIFY_FAILED")


def certificates(*held: Any) -> Callable[[MeshState], None]:
    def change(mesh: MeshState) -> None:
        fra = mesh.clusters["fra"]
        fra.certificates = [Seen("fra", ROOT, "secret x", root) for root in held]

    return change


def of_fra(attribute: str, value: Any) -> Callable[[MeshState], None]:
    return lambda mesh: setattr(mesh.clusters["fra"], attribute, value)


def pair(attribute: str, value: Any) -> Callable[[MeshState], None]:
    return lambda mesh: setattr(pair_of(mesh, "vie", "fra"), attribute, value)


def replace_answer(**changes: Any) -> Callable[[MeshState], None]:
    def change(mesh: MeshState) -> None:
        here = pair_of(mesh, "vie", "fra")
        here.answer = Answer(**{**vars(here.answer), **changes})

    return change


def on_the_wire(certificate: Any) -> Callable[[MeshState], None]:
    """The answer of fra, whose CA was renewed, with a certificate of this issuer."""

    def change(mesh: MeshState) -> None:
        mesh.clusters["fra"].certificates.append(Seen("fra", INTERMEDIATE, "secret x", NEXT_CA))
        replace_answer(certificate=chain_pem([certificate]))(mesh)

    return change


def in_fra(change: Callable[[ClusterState], Any]) -> Callable[[MeshState], None]:
    return lambda mesh: change(mesh.clusters["fra"])


def rule(host: str, namespace: str, mode: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "rule", "namespace": namespace},
        "spec": {"host": host, "trafficPolicy": {"tls": {"mode": mode}}},
    }


def policy(**spec: Any) -> list[dict[str, Any]]:
    return [
        {"metadata": {"name": "policy", "namespace": "istio-system"}, "spec": {"podSelector": {}, **spec}}
    ]


def bare_pod(state: ClusterState) -> None:
    state.pods.append(pod("web-2", {"app": "web"}, "shop", sidecar=False))


def pod_of_node(state: ClusterState) -> None:
    bare_pod(state)
    state.pods[-1]["spec"]["hostNetwork"] = True


def lone_pod(labels: dict[str, str], namespace_labels: dict[str, str]) -> Callable[[MeshState], None]:
    """A pod without sidecar and Service, in a namespace with these labels."""

    def change(mesh: MeshState) -> None:
        fra = mesh.clusters["fra"]
        fra.pods.append(pod("job", labels, "lone", sidecar=False))
        fra.namespaces.append({"metadata": {"name": "lone", "labels": namespace_labels}})

    return change


def half_injected(mesh: MeshState) -> None:
    """A Service in a namespace without label, one of whose pods has a sidecar by its own label."""
    fra = mesh.clusters["fra"]
    lone_pod({"app": "half"}, {})(mesh)
    other = pod("with", {"app": "half", "sidecar.istio.io/inject": "true"}, "lone")
    other["spec"]["initContainers"][0]["env"][1]["value"] = "network-fra"
    fra.pods.append(other)
    fra.services.append(service("half", "10.98.0.1", 80, {}, {"app": "half"}, "lone"))


def hide(*names: str) -> Callable[[MeshState], None]:
    """Discovery selectors that select only these namespaces."""
    expression = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [*names]}
    return in_fra(lambda c: c.mesh_config.update(discoverySelectors=[{"matchExpressions": [expression]}]))


def proxy_of(version: str) -> Callable[[MeshState], None]:
    return of_fra("proxies", [Proxy("shop/web-1", False, (), (), version)])


def cilium(**data: str) -> Callable[[MeshState], None]:
    return of_fra("cilium", {"data": {name.replace("_", "-"): value for name, value in data.items()}})


ENABLED, STABLE = {"istio-injection": "enabled"}, {"istio.io/rev": "stable"}


def headless(state: ClusterState) -> None:
    state.services[1]["spec"]["clusterIP"] = "None"


def clash(state: ClusterState) -> None:
    state.services.append(service("billing", "10.97.0.0", 80, {}, {"app": "billing"}, "shop"))


def proxy_setting(number: int, value: str) -> Callable[[MeshState], None]:
    def change(state: ClusterState) -> None:
        state.pods[2]["spec"]["initContainers"][0]["env"][number]["value"] = value

    return in_fra(change)


def reach(connected: bool = True, status: int = 200, certificates: str = "") -> Reach:
    return Reach("203.0.113.1:15443", connected, status, "" if connected else "timed out", certificates)


WAY = "vie -> fra"


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (of_fra("error", "no route"), [("cluster-unreachable", "fra")]),
        (of_fra("clock_skew", 400.0), [("clock-skew", "fra")]),
        (other_root, [("root-differs", "fra")]),
        (of_fra("certificates", []), [("cacerts-missing", "fra")]),
        (of_fra("certificates_problem", "lacks ca-key.pem"), [("cacerts-invalid", "fra")]),
        (certificates(OTHER_ROOT), [("cacerts-not-in-use", "fra")]),
        (certificates(MESH_ROOT, DYING_ROOT), [("certificate-expiring", "fra")]),
        (
            of_fra("mesh_config", {"trustDomain": "x", **cluster("fra", 1).mesh_config}),
            [("trust-domain-differs", "fra")],
        ),
        (of_fra("istiods", []), [("istiod-missing", "fra")]),
        (
            in_fra(lambda c: c.istiods.append(Istiod("istiod-2", "1.31.1", "it starts"))),
            [("istiod-degraded", "fra")],
        ),
        (in_fra(lambda c: setattr(c.istiods[0], "silent", "refused")), [("istiod-unresponsive", "fra")]),
        (in_fra(lambda c: setattr(c.istiods[0], "version", "1.28.9")), [("istio-versions-differ", "fra")]),
        (in_fra(lambda c: c.namespaces[0]["metadata"]["labels"].clear()), [("network-label-wrong", "fra")]),
        (proxy_setting(1, "elsewhere"), [("proxy-network-wrong", "fra")]),
        (proxy_setting(0, "false"), [("dns-capture-missing", "fra")]),
        (of_fra("mesh_config", {"defaultConfig": {}}), [("dns-capture-disabled", "fra")]),
        (of_fra("mesh_config", {"defaultConfig": 5}), [("dns-capture-disabled", "fra")]),
        (
            of_fra("mesh_config", {"defaultConfig": {"proxyMetadata": ["x"]}}),
            [("dns-capture-disabled", "fra")],
        ),
        (
            in_fra(lambda c: c.pods[2]["spec"]["containers"][0].update(image="gcr.io/istio-release/x:1")),
            [("retired-registry", "fra")],
        ),
        (in_fra(lambda c: c.services.pop(0)), [("gateway-missing", "fra")]),
        (in_fra(lambda c: c.services[0]["status"].clear()), [("gateway-without-address", "fra")]),
        (
            in_fra(lambda c: c.services[0]["spec"]["ports"][0].update(targetPort=80)),
            [("gateway-port-wrong", "fra")],
        ),
        (in_fra(lambda c: c.services[0]["spec"]["selector"].update(a="b")), [("gateway-not-ready", "fra")]),
        (no_gateway_pods, [("gateway-not-ready", "fra")]),
        (of_fra("gateways", []), [("gateway-not-exposed", "fra")]),
        (in_fra(lambda c: c.gateways[0].pop("spec")), [("gateway-not-exposed", "fra")]),
        (in_fra(lambda c: c.gateways[0]["spec"]["selector"].update(a="b")), [("gateway-not-exposed", "fra")]),
        (
            in_fra(lambda c: c.gateways[0]["spec"]["servers"][0].update(hosts=["*.shop.svc.cluster.local"])),
            [("gateway-hosts-restricted", "fra")],
        ),
        (of_fra("network_policies", policy(policyTypes=["Ingress"])), [("gateway-blocked", "fra")]),
        (
            of_fra("network_policies", policy(ingress=[{"ports": [{"port": 15021}]}])),
            [("gateway-blocked", "fra")],
        ),
        (of_fra("network_policies", policy(ingress=[{"ports": [{"port": 15000, "endPort": 15999}]}])), []),
        (of_fra("network_policies", policy(ingress=[{}])), []),
        (in_fra(headless), [("service-shape-differs", "fra")]),
        (in_fra(bare_pod), [("endpoint-without-sidecar", "fra")]),
        (in_fra(pod_of_node), []),
        (half_injected, [("endpoint-without-sidecar", "fra")]),
        (lone_pod({}, ENABLED), [("sidecar-missing", "fra")]),
        (lone_pod({}, STABLE), [("sidecar-missing", "fra")]),
        (lone_pod({"sidecar.istio.io/inject": "true"}, {}), [("sidecar-missing", "fra")]),
        (lone_pod({"sidecar.istio.io/inject": "false"}, ENABLED), []),
        (lone_pod({}, {"istio-injection": "disabled", **STABLE}), []),
        (lone_pod({}, {}), []),
        (lone_pod({"istio.io/rev": "stable"}, {}), [("sidecar-missing", "fra")]),
        (lone_pod({"istio.io/rev": "gone"}, {}), [("injector-missing", "fra")]),
        (lone_pod({"istio.io/rev": "gone", "sidecar.istio.io/inject": "false"}, {}), []),
        (lone_pod({}, {"istio.io/rev": "gone"}), [("injector-missing", "fra")]),
        (
            lone_pod({"sidecar.istio.io/inject": "true"}, {"istio-injection": "disabled"}),
            [("injector-missing", "fra")],
        ),
        (of_fra("injectors", []), [("injector-missing", "fra")]),
        (of_fra("injectors", None), []),
        (hide("istio-system", "exomesh-verify", "shop"), []),
        (hide("istio-system", "exomesh-verify"), [("namespace-hidden", "fra")]),
        (hide("istio-system", "shop"), [("namespace-hidden", "fra")]),
        (hide("exomesh-verify", "shop"), [("namespace-hidden", "fra")]),
        (proxy_of("1.30.4"), []),
        (proxy_of(""), []),
        (proxy_of("1.29.9"), [("proxy-version-unsupported", "fra")]),
        (proxy_of("1.32.0"), [("proxy-version-unsupported", "fra")]),
        (cilium(kube_proxy_replacement="true"), [("sidecars-bypassed", "fra")]),
        (cilium(bpf_lb_sock="true", bpf_lb_sock_hostns_only="false"), [("sidecars-bypassed", "fra")]),
        (cilium(kube_proxy_replacement="true", bpf_lb_sock_hostns_only="true"), []),
        (cilium(kube_proxy_replacement="false"), []),
        (
            of_fra(
                "peer_authentications",
                [{"metadata": {"name": "off", "namespace": "shop"}, "spec": {"mtls": {"mode": "DISABLE"}}}],
            ),
            [("mtls-disabled", "fra")],
        ),
        (
            of_fra("destination_rules", [rule("web", "shop", "DISABLE")]),
            [("destination-rule-not-mutual", "fra")],
        ),
        (
            of_fra("destination_rules", [rule("*.local", "istio-system", "DISABLE")]),
            [("destination-rule-not-mutual", "fra")],
        ),
        (of_fra("destination_rules", [rule("example.com", "shop", "SIMPLE")]), []),
        (of_fra("destination_rules", [rule("web", "shop", "ISTIO_MUTUAL")]), []),
        (in_fra(clash), [("service-address-conflict", "fra -> vie")]),
        (
            in_fra(lambda c: c.secrets.append(RemoteSecret("old", ("gone",), "gone", None))),
            [("remote-secret-unknown", "fra")],
        ),
        (of_fra("workload_problem", "ImagePullBackOff"), [("workload-not-ready", "fra")]),
        (in_fra(lambda c: c.pods[1]["spec"]["initContainers"].clear()), [("workload-not-injected", "fra")]),
        (of_fra("sidecar_problem", "timed out"), [("sidecar-unresponsive", "fra")]),
        (no_secret, [("remote-secret-missing", WAY)]),
        (second_secret, [("remote-secret-duplicate", WAY)]),
        (wrong_key, [("remote-secret-invalid", WAY)]),
        (pair("user", ""), [("credentials-rejected", WAY)]),
        (pair("rights", {"list pods": False}), [("reader-underprivileged", WAY)]),
        (pair("rights", dict.fromkeys(RIGHTS, True)), [("reader-overprivileged", WAY)]),
        (of_fra("api_ca", "another CA"), [("api-untrusted", WAY), ("api-untrusted", "gva -> fra")]),
        (
            of_fra("server", "https://new:6443"),
            [("remote-secret-address", WAY), ("remote-secret-address", "gva -> fra")],
        ),
        (pair("api", reach(False, 0)), [("api-unreachable", WAY)]),
        (
            lambda mesh: mesh.clusters["vie"].istiods[0].synced.update(fra="timeout"),
            [("istiod-not-synced", WAY)],
        ),
        (lambda mesh: mesh.clusters["vie"].istiods[0].gateways.pop(1), [("gateway-unknown", WAY)]),
        (
            lambda mesh: mesh.clusters["vie"].istiods[0].gateways.clear(),
            [("gateway-unknown", WAY), ("gateway-unknown", "vie -> gva")],
        ),
        (
            lambda mesh: mesh.clusters["vie"].istiods[0].synced.clear(),
            [("istiod-not-synced", WAY), ("istiod-not-synced", "vie -> gva")],
        ),
        (pair("endpoints", []), [("endpoint-missing", WAY)]),
        (pair("endpoints", ["192.168.0.7:3000"]), [("endpoint-not-gateway", WAY)]),
        (pair("endpoints", ["203.0.113.1:15443", "192.168.0.7:3000"]), [("endpoint-not-gateway", WAY)]),
        (replace_answer(exit_code=6, status=0, error="Could not resolve"), [("name-not-resolved", WAY)]),
        (
            lambda mesh: refuse(mesh, "vie", "fra", "UF delayed_connect_error:_Connection_refused"),
            [("gateway-unreachable", WAY)],
        ),
        (
            lambda mesh: refuse(mesh, "vie", "fra", "UF TLS_error:|CERTIFICATE_VERIFY_FAILED"),
            [("gateway-tls-untrusted", WAY)],
        ),
        (lambda mesh: refuse(mesh, "vie", "fra", "UC connection_termination"), [("connection-closed", WAY)]),
        (lambda mesh: refuse(mesh, "vie", "fra", ""), [("request-failed", WAY)]),
        (on_the_wire(OTHER_ROOT), [("gateway-tls-untrusted", WAY)]),
        (replace_answer(cluster="gva"), [("wrong-cluster-answered", WAY)]),
        (replace_answer(cluster=""), [("request-failed", WAY)]),
        (replace_answer(source_identity="spiffe://x"), [("identity-mismatch", WAY)]),
    ],
)
def test_a_fault_is_found_with_its_own_code_and_nothing_else(
    fault: Callable[[MeshState], None], found: list[tuple[str, str]]
) -> None:
    mesh = healthy()
    fault(mesh)
    assert codes(mesh) == found
    if found and found[0][1] == WAY and found[0][0] != "reader-overprivileged":
        assert ("vie", "fra") in failed(mesh)


def test_pods_that_have_ended_are_no_replicas() -> None:
    mesh = healthy()
    fra = mesh.clusters["fra"]
    of_istio = [pod for pod in fra.pods if pod["metadata"]["namespace"] == "istio-system"]
    for phase in ("Failed", "Succeeded"):
        ended = copy.deepcopy(of_istio)
        for pod in ended:
            pod["metadata"]["name"] += "-old"
            pod["status"] = {"phase": phase, "conditions": [{"type": "Ready", "status": "False"}]}
        fra.pods += ended
    of_istiod = {"name": "istiod-old", "namespace": "istio-system", "labels": {"app": "istiod"}}
    fra.pods.append({"metadata": of_istiod, "spec": {"containers": []}, "status": {"phase": "Failed"}})
    assert codes(mesh) == []
    assert fra.istiod_pods == []


def test_a_proxy_may_still_have_its_certificate_of_the_earlier_intermediate() -> None:
    mesh = healthy()
    on_the_wire(MESH_ROOT)(mesh)
    assert codes(mesh) == []


def test_a_broken_gateway_spares_the_way_out() -> None:
    mesh = healthy()
    no_gateway_pods(mesh)
    assert failed(mesh) == {("vie", "fra"), ("gva", "fra")}


def test_a_rule_for_the_whole_mesh_is_an_error() -> None:
    mesh = healthy()
    mesh.clusters["fra"].destination_rules = [rule("*.local", "istio-system", "DISABLE")]
    assert not judge(mesh).healthy
    assert failed(mesh) == {("fra", "vie"), ("fra", "gva"), ("vie", "fra"), ("gva", "fra")}


def test_without_requests_nothing_is_said_of_them() -> None:
    mesh = healthy()
    mesh = MeshState(mesh.clusters, [PairState(p.source, p.destination) for p in mesh.pairs], NOW, full=False)
    verdict = judge(mesh)
    assert verdict.findings == []
    assert verdict.pairs[0].passed["request"] is None


def test_a_workload_that_was_left_behind_is_noticed_by_who_only_reads() -> None:
    mesh = healthy()
    mesh = MeshState(mesh.clusters, [], NOW, full=False)
    for expires, expected in (("99999999999", []), ("17", [("workload-leftover", "fra")])):
        annotations = {"exomesh.istio/expires": expires}
        mesh.clusters["fra"].namespaces.append(
            {"metadata": {"name": "exomesh-verify", "annotations": annotations}}
        )
        assert codes(mesh) == expected
        mesh.clusters["fra"].namespaces.pop()


def test_a_gateway_with_a_host_name_may_have_any_address() -> None:
    mesh = healthy()
    mesh.clusters["fra"].services[0]["status"]["loadBalancer"]["ingress"] = [{"hostname": "fra.example"}]
    assert codes(mesh) == []


# Telling


def told(mesh: MeshState) -> report.Result:
    return report.result(mesh, judge(mesh), 1.5)


def broken() -> MeshState:
    mesh = healthy()
    no_gateway_pods(mesh)
    headless(mesh.clusters["gva"])
    return mesh


@pytest.mark.parametrize("mesh", [healthy(), broken()])
def test_the_result_is_of_the_published_form(mesh: MeshState) -> None:
    schema = json.loads((PROJECT / "docs/schema/verification.schema.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(told(mesh))


def test_matrix_shows_every_ordered_pair_worst_first() -> None:
    assert report.matrix(told(broken())) == [
        "from \\ to  vie   fra   gva",
        "vie        -     FAIL  ok",
        "gva        ok    FAIL  -",
        "fra        ok    -     ok",
    ]


def test_many_clusters_are_columns_by_number() -> None:
    names = [f"a-rather-long-cluster-{number}" for number in range(12)]
    pairs = [{"source": a, "destination": b, "state": "ok"} for a in names for b in names if a != b]
    table = report.matrix(
        {"mesh": {"mode": "status"}, "clusters": [{"name": n} for n in names], "pairs": pairs}
    )
    assert len(table) == 13
    assert max(map(len, table)) < 125
    assert table[0].split()[-1] == "12"
    assert table[12].startswith("12:a-rather-long-cluster-11")


def test_lines_name_finding_place_and_next_step() -> None:
    lines = report.lines(told(broken()))
    assert "error [fra] gateway-not-ready: The east-west gateway has no ready pod" in lines
    assert any(
        "next: ansible-playbook -i INVENTORY exomesh.istio.gateway --limit fra" in line for line in lines
    )
    assert any(line.startswith("fra -> vie") and "2.0 / 3.0" in line for line in lines)


def test_rights_are_told_once_for_all_that_have_them() -> None:
    mesh = healthy()
    needed = "list namespaces, list nodes, list pods, list services, list endpointslices"
    assert report.rights(told(mesh))[2:] == [f"all: may {needed}; may not list secrets"]
    pair_of(mesh, "vie", "fra").rights["list secrets"] = True
    assert report.rights(told(mesh))[2].startswith("vie -> fra: may list namespaces")


def test_junit_opens_in_a_reader(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(report.junit(told(broken())))
    suites = {suite.name: suite for suite in junitparser.JUnitXml.fromfile(str(tmp_path / "junit.xml"))}
    assert set(suites) == {"clusters", "pairs from vie", "pairs from fra", "pairs from gva"}
    assert (suites["clusters"].tests, suites["clusters"].failures) == (3, 1)
    assert (suites["pairs from vie"].tests, suites["pairs from vie"].skipped) == (2, 1)
    failure = next(case.result[0] for case in suites["clusters"] if case.name == "fra")
    assert failure.type == "gateway-not-ready"


def test_junit_survives_what_xml_cannot_write() -> None:
    mesh = healthy()
    mesh.clusters["fra"].error = "a\x00<b>&"
    assert r"a\x00&lt;b&gt;&amp;" in report.junit(told(mesh))


# What could not be told


def untold(mesh: MeshState) -> None:
    mesh.clusters["fra"].untold["proxies"] = ["the proxy of pod shop/web-1: it does not answer"]


def silent_istiod(mesh: MeshState) -> None:
    mesh.clusters["vie"].istiods[0].answered = False


def unknown_account(mesh: MeshState) -> None:
    here = pair_of(mesh, "vie", "fra")
    here.user, here.untold = None, "cluster fra: tokenreviews is forbidden"


@pytest.mark.parametrize(
    ("fault", "place", "why"),
    [
        (untold, "fra", "the proxy of pod shop/web-1: it does not answer"),
        (silent_istiod, WAY, "sync: no istiod of vie answered"),
        (unknown_account, WAY, "credentials: cluster fra: tokenreviews is forbidden"),
        (pair("endpoints", None), WAY, "endpoints: the sidecar of vie's test workload did not show"),
        (pair("answer", None), WAY, "request: no request was sent"),
    ],
)
def test_what_could_not_be_looked_at_is_not_shown_as_well(
    fault: Callable[[MeshState], None], place: str, why: str
) -> None:
    mesh = healthy()
    fault(mesh)
    verdict = judge(mesh)
    assert (verdict.state, verdict.healthy) == ("unknown", False)
    found = next(f for f in verdict.findings if place in (f.cluster, f"{f.source} -> {f.destination}"))
    assert (found.kind.code, found.severity) == ("not-told", "unknown")
    assert found.evidence[0].startswith(why)
    told_ = told(mesh)
    if place == WAY:
        assert (
            next(p for p in told_["pairs"] if (p["source"], p["destination"]) == ("vie", "fra"))["state"]
            == "unknown"
        )
        assert report.matrix(told_)[1].split() == [
            "vie",
            "-",
            "?",
            "ok" if fault is not silent_istiod else "?",
        ]
    assert junitparser.JUnitXml.fromstring(report.junit(told_)).errors >= 1


def test_an_error_counts_more_than_what_could_not_be_told() -> None:
    mesh = healthy()
    untold(mesh)
    no_gateway_pods(mesh)
    verdict = judge(mesh)
    assert verdict.state == "unhealthy"
    assert [finding.severity for finding in verdict.findings] == ["error", "unknown"]


def authorization(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "labels": {}}, "spec": spec}


def test_a_request_that_a_policy_refuses_is_no_broken_mesh_and_names_the_policy() -> None:
    mesh = healthy()
    mesh.clusters["fra"].authorization_policies = [
        authorization("nobody", "istio-system", action="DENY", rules=[{}]),
        authorization("nothing", "istio-system"),  # the test's own policy allows its requests
        authorization("others", "istio-system", action="DENY", selector={"matchLabels": {"app": "web"}}),
        authorization("shop", "shop", action="DENY"),
    ]
    replace_answer(status=403, error="RBAC: access denied")(mesh)
    verdict = judge(mesh)
    assert verdict.state == "unknown"
    (found,) = verdict.findings
    assert (found.kind.code, found.kind.settles) == ("request-denied", False)
    assert found.evidence == ["AuthorizationPolicy istio-system/nobody of fra, action DENY"]


def test_without_a_policy_that_denies_those_that_allow_are_named() -> None:
    mesh = healthy()
    mesh.clusters["fra"].authorization_policies = [authorization("nothing", "istio-system")]
    replace_answer(status=403, error="RBAC: access denied")(mesh)
    assert judge(mesh).findings[0].evidence == [
        "AuthorizationPolicy istio-system/nothing of fra, action ALLOW"
    ]
    mesh.clusters["fra"].authorization_policies = []
    assert "no AuthorizationPolicy of fra is seen" in judge(mesh).findings[0].evidence[0]
    mesh.clusters["fra"].authorization_policies = None
    (refusal,) = (each for each in judge(mesh).findings if each.kind.code == "request-denied")
    assert refusal.evidence == ["RBAC: access denied, and the AuthorizationPolicies of fra may not be read"]


def test_the_403_of_something_else_is_a_failed_request() -> None:
    mesh = healthy()
    replace_answer(status=403, error="forbidden by the WAF")(mesh)
    assert codes(mesh) == [("request-failed", WAY)]


def causes_of(code: str, said: str, namespace: str) -> dict[str, Cause]:
    cause = cause_in(said, namespace)
    assert cause
    return {code: cause}


QUOTA = 'pods "x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=1, limited: pods=1'


def test_a_rollout_that_is_refused_is_told_while_the_old_pod_serves() -> None:
    mesh = healthy()
    condition = {"type": "ReplicaFailure", "status": "True", "message": QUOTA}
    mesh.clusters["fra"].deployments = [
        {
            "metadata": {"name": "istio-eastwestgateway", "namespace": "istio-system"},
            "spec": {"replicas": 1},
            "status": {"availableReplicas": 1, "replicas": 1, "conditions": [condition]},
        }
    ]
    mesh.clusters["fra"].causes |= causes_of("rollout-stuck", QUOTA, "istio-system")
    (found,) = judge(mesh).findings
    assert (found.kind.code, found.severity) == ("rollout-stuck", "warning")
    assert QUOTA in found.evidence[0]
    shown = found.as_dict({})
    assert "ResourceQuota team is used up" in shown["cause"]
    assert shown["next_step"].startswith("kubectl -n istio-system describe resourcequota team, in fra; ")


@pytest.mark.parametrize(
    ("said", "command"),
    [
        (QUOTA, "describe resourcequota team"),
        ('violates PodSecurity "restricted:latest": x', "--show-labels"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s)", "TAINTS"),
        ("ErrImagePull: not found", "reason=Failed"),
    ],
)
def test_the_advice_for_a_workload_follows_the_cause(said: str, command: str) -> None:
    mesh = healthy()
    state = mesh.clusters["fra"]
    state.workload_problem = said
    state.causes |= causes_of("workload-not-ready", said, "exomesh-verify")
    shown = judge(mesh).findings[0].as_dict({})
    assert shown["code"] == "workload-not-ready"
    assert command in shown["next_step"]
    assert ("verify_server_image" in shown["next_step"]) is ("Image" in said)


def test_an_istiod_that_does_not_answer_hides_neither_requests_nor_that_it_was_not_asked() -> None:
    mesh = healthy()
    istiod = mesh.clusters["vie"].istiods[0]
    istiod.answered, istiod.silent = False, "it does not answer"
    verdict = judge(mesh)
    assert verdict.state == "unknown"
    assert [finding.kind.code for finding in verdict.findings] == ["istiod-unresponsive"]
    way = next(entry for entry in verdict.pairs if entry.pair is pair_of(mesh, "vie", "fra"))
    assert (way.state, way.passed["sync"], way.passed["request"]) == ("unknown", None, True)


def test_what_a_replica_lacks_that_is_not_ready_is_told_once_with_its_cause() -> None:
    mesh = healthy()
    state = mesh.clusters["vie"]
    waits = Istiod("istiod-2", "1.31.1", "condition ContainersReady is False", {"fra": "syncing"}, [])
    waits.answered = True
    state.istiods.append(waits)
    said = (
        "failed to list *v1.WorkloadEntry: the server could not find the requested resource (get "
        "workloadentries.networking.istio.io)"
    )
    state.causes |= causes_of("istiod-degraded", said, "istio-system")
    (found,) = judge(mesh).findings
    shown = found.as_dict({})
    assert shown["code"] == "istiod-degraded"
    assert "failed to list *v1.WorkloadEntry" in shown["cause"]
    assert "peering" not in shown["next_step"]
