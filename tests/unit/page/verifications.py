"""Verifications of meshes of any size, healthy and not, in the published form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

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
ZONES = ("de-fra-1", "at-vie-2", "ch-gva-2", "ch-dk-2", "bg-sof-1", "de-muc-1")
NOW = datetime(2026, 11, 23, 6, 50, tzinfo=UTC)
DOCUMENTATION = "https://istio.io/latest/docs/ops/diagnostic-tools/multicluster/"


def healthy(count: int) -> dict[str, Any]:
    """A mesh of `count` clusters in which all is well."""
    zones = [ZONES[number % len(ZONES)] for number in range(count)]
    names = [
        f"{zone.split('-')[1]}-{number // len(ZONES) + 1}" if count > len(ZONES) else zone.split("-")[1]
        for number, zone in enumerate(zones)
    ]
    return {
        "schema": 1,
        "mesh": {
            "healthy": True,
            "state": "healthy",
            "mode": "full",
            "begun": text(NOW),
            "seconds": 9.4,
            "roots": [fingerprint(1)],
            "trust_domains": ["cluster.local"],
        },
        "clusters": [
            cluster(name, zone, number) for number, (name, zone) in enumerate(zip(names, zones, strict=True))
        ],
        "pairs": [
            pair(source, destination, f"198.51.100.{7 + 9 * number}", 4.1 + abs(number - other) * 3.7)
            for other, source in enumerate(names)
            for number, destination in enumerate(names)
            if source != destination
        ],
        "findings": [],
    }


def unhealthy() -> dict[str, Any]:
    """Three clusters: one gateway is scaled to 0, one CA is about to end, a pod has no sidecar."""
    told = healthy(3)
    told["mesh"].update(healthy=False, state="unhealthy")
    frankfurt, vienna, geneva = told["clusters"]
    geneva["state"] = "failed"
    geneva["gateways"][0].update(pods=0, ready_pods=0)
    vienna["state"] = "warning"
    vienna["certificates"][1].update(not_after=text(NOW + timedelta(days=19)), days_left=19)
    frankfurt["clock_skew_seconds"] = -0.4
    for item in told["pairs"]:
        if item["destination"] == "gva":
            item.update(state="failed", answered_by=None, upstream=None)
            item.update(source_identity=None, destination_identity=None)
            item["latency"] = None
            broken = CHECKS.index("gateway")
            for number, check in enumerate(item["checks"]):
                check["state"] = "passed" if number < broken else "failed" if number == broken else "unknown"
        elif item["source"] == "vie":
            item["state"] = "warning"
    told["pairs"][-1].update(state="unknown", latency=None, answered_by=None)
    told["findings"] = [
        {
            "code": "gateway-not-ready",
            "severity": "error",
            "cluster": "gva",
            "message": "The east-west gateway has no ready pod",
            "evidence": [
                "Deployment istio-system/istio-eastwestgateway: 0 replicas",
                "Service istio-system/istio-eastwestgateway: no endpoints",
            ],
            "cause": "its Deployment is scaled to 0, or its pods do not start",
            "next_step": "ansible-playbook -i inventory exomesh.istio.gateway --limit gva",
            "link": DOCUMENTATION,
        },
        {
            "code": "certificate-expiring",
            "severity": "warning",
            "cluster": "vie",
            "message": "A CA ends soon",
            "evidence": ["intermediate in secret istio-system/cacerts: 19 days left"],
            "cause": "nobody renewed this CA",
            "next_step": "ansible-playbook -i inventory exomesh.istio.renew_certificates --limit vie",
            "link": DOCUMENTATION,
        },
        {
            "code": "endpoint-without-sidecar",
            "severity": "warning",
            "source": "vie",
            "destination": "fra",
            "message": "Some endpoints of a service have no sidecar, so Istio drops them for peers",
            "evidence": ["Pod shop/cart-6c9f5d7b4-x2lqj of service cart.shop has no container istio-proxy"],
            "cause": "they were started before injection was switched on, or switch it off themselves",
            "next_step": "kubectl -n shop rollout restart deployment cart",
            "link": DOCUMENTATION,
        },
    ]
    return told


def cluster(name: str, zone: str, number: int) -> dict[str, Any]:
    """What is told of one cluster in which all is well."""
    return {
        "name": name,
        "network": f"network-{name}",
        "zone": zone,
        "state": "ok",
        "kubernetes_version": "v1.36.3",
        "istio_version": "1.31.1",
        "trust_domain": "cluster.local",
        "dns_capture": True,
        "clock_skew_seconds": 0.1 * number,
        "istiods": [{"name": f"istiod-5c8f9d7b6-{name}", "ready": True}],
        "gateways": [
            {
                "name": "istio-eastwestgateway",
                "addresses": [f"198.51.100.{7 + 9 * number}"],
                "pods": 2,
                "ready_pods": 2,
            }
        ],
        "certificates": [
            certificate("root", "CN=Root CA,O=Istio", 1, 3650, 3628),
            certificate(
                "intermediate", f"CN=Intermediate CA,O=Istio,L={name}", 2 + number, 730, 701 - 41 * number
            ),
            certificate("istiod", "", 100 + number, 1, 0),
        ],
    }


def certificate(role: str, subject: str, number: int, days: int, days_left: int) -> dict[str, Any]:
    """One certificate that is valid for `days`, of which `days_left` are left."""
    ends = NOW + timedelta(days=days_left, hours=7)
    where = {
        "root": "ConfigMap istio-system/istio-ca-root-cert",
        "intermediate": "Secret istio-system/cacerts",
    }
    return {
        "role": role,
        "where": where.get(role, "Pod istio-system/istiod-5c8f9d7b6-x2lqj"),
        "subject": subject,
        "issuer": "CN=Root CA,O=Istio",
        "serial": f"{number:02x}",
        "fingerprint": fingerprint(number),
        "not_before": text(ends - timedelta(days=days)),
        "not_after": text(ends),
        "days_left": days_left,
    }


def pair(source: str, destination: str, address: str, milliseconds: float) -> dict[str, Any]:
    """The way from one cluster to another, on which all is well."""
    identity = "spiffe://cluster.local/ns/exomesh-verify/sa/verify-{}"
    return {
        "source": source,
        "destination": destination,
        "state": "ok",
        "checks": [{"name": name, "state": "passed"} for name in CHECKS],
        "answered_by": destination,
        "upstream": f"{address}:15443",
        "source_identity": identity.format(source),
        "destination_identity": identity.format(destination),
        "latency": {
            "new": {"requests": 10, "median_ms": milliseconds + 2.3, "p99_ms": milliseconds + 6.1},
            "kept": {"requests": 20, "median_ms": milliseconds, "p99_ms": milliseconds + 1.9},
        },
        "rights": {"list endpointslices": True, "list secrets": False},
    }


def fingerprint(number: int) -> str:
    """A fingerprint that looks like one."""
    return ":".join(f"{(number * 37 + position * 11) % 256:02X}" for position in range(32))


def text(moment: datetime) -> str:
    """A moment as the verification tells it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
