# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificates in use in a mesh: those stored, those that istiod serves, and those that proxies have.

Private to the collection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from .._base.certificates import fingerprint, serial
from .._base.cleanup import afterwards
from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.text import printable_line
from .._base.waiting import concurrently, wait_until_met
from .._istio import istiod
from .._istio.envoy import ADMIN_PORT, SECRETS
from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.causes import wait_unless_it_lasts
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient
from .._kubernetes.containers import POD_SECURITY
from .._kubernetes.images import PULL_POLICY
from .._kubernetes.objects import apply_patiently, delete_for_sure
from .._kubernetes.readiness import Unready, explain_pod, pod_unmet
from .cluster import Rotation, read_trust
from .proxies import PROXY, own_chain, proxy_of
from .rotation import Phase, phase_of, read_mesh, told_phase
from .rotation_proof import Gate
from .serving import not_served, served_by
from .x509 import CertificateError, describe, issued_by

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509

ROOT, INTERMEDIATE, ISTIOD, WORKLOAD = "root", "intermediate", "istiod", "workload"
SEVERITIES = ("ok", "notice", "warning", "critical", "expired")

_ANSWER_SECONDS = 20.0
_PROBE = "exomesh-certificate-probe"
_PROBE_REF = ObjectRef("v1", "Pod", _PROBE, ISTIO_NAMESPACE)
_RELOADS_WITHIN = 120.0
"""Seconds in which istiod loads a new CA by itself: the kubelet delivers it within about one minute.

We wait for at most a quarter of the timeout, because a restart and a proxy may be needed, too.
"""

_LEAF_SHARE_LEFT = 0.1
"""Share of the lifetime. Proxies renew their certificates after half of it; one with less left than this was
not renewed."""


@dataclass(frozen=True)
class Seen:
    """One certificate of one cluster.

    :param role: root, intermediate, istiod or workload.
    :param where: the secret, config map or pod in which the certificate was seen.
    """

    cluster: str
    role: str
    where: str
    certificate: x509.Certificate

    def days_left(self, now: datetime) -> int:
        """Return the whole days until the certificate ends; negative if it has ended."""
        return (self.certificate.not_valid_after_utc - now) // timedelta(days=1)

    def severity(self, now: datetime, thresholds: Sequence[int]) -> str:
        """Return one of :data:`SEVERITIES`.

        :param thresholds: days left below which a CA gets a notice, a warning and an alarm, in this order.
        """
        begins, ends = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        if ends <= now:
            return "expired"
        if self.role in (ISTIOD, WORKLOAD):
            return "warning" if (ends - now) / (ends - begins) < _LEAF_SHARE_LEFT else "ok"
        passed = [days for days in thresholds if ends - now < timedelta(days=days)]
        return SEVERITIES[min(len(passed), 3)]

    def as_dict(self, now: datetime, thresholds: Sequence[int]) -> dict[str, str | int]:
        return {
            "cluster": self.cluster,
            "role": self.role,
            "where": self.where,
            **describe(self.certificate),
            "days_left": self.days_left(now),
            "severity": self.severity(now, thresholds),
        }


@dataclass
class ClusterCertificates:
    """The certificates that were seen in one cluster.

    :param running_roots: the roots that istiod gives to workloads.
    :param problems: descriptions of what does not fit together, or could not be seen.
    :param unread: only what could not be seen.
    :param rotation: the rotation of the root that is under way, with the phase of the cluster.
    """

    name: str
    seen: list[Seen] = field(default_factory=list)
    running_roots: tuple[x509.Certificate, ...] = ()
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    rotation: tuple[Rotation, Phase] | None = None

    def of(self, role: str) -> list[x509.Certificate]:
        return [item.certificate for item in self.seen if item.role == role]


def look_at_mesh(members: Sequence[Member]) -> list[ClusterCertificates]:
    """Return every certificate of every member, in the order of members.

    A cluster that does not answer is returned with that problem.
    """

    def look(member: Member) -> ClusterCertificates:
        try:
            return look_at_cluster(KubernetesClient(member.kubeconfig, name=member.name))
        except ExomeshError as error:
            return ClusterCertificates(member.name, problems=[str(error.about(cluster=member.name))])

    clusters = concurrently(look, members)
    if any(cluster.rotation for cluster in clusters):
        _look_for_lagging(members, clusters)
    return clusters


def _look_for_lagging(members: Sequence[Member], clusters: Sequence[ClusterCertificates]) -> None:
    """Ask every proxy of a mesh whose root is rotated whether it has taken the phase of its cluster."""
    try:
        mesh = read_mesh(members)
        if mesh.rotation is None:  # it has ended in this moment
            return
        gate = Gate(mesh, mesh.rotation, mesh.places)
        gate.ask()
        lagging = gate.lagging
    except ExomeshError as error:
        lagging = [f"{clusters[0].name}: which proxies lag could not be told: {error}"]
    for cluster in clusters:
        cluster.problems += [f"cluster {told}" for told in lagging if told.startswith(f"{cluster.name}: ")]


def same_root(clusters: Sequence[ClusterCertificates]) -> bool:
    """Return whether every cluster has a root, and all of them have the same."""
    roots = [set(cluster.of(ROOT)) for cluster in clusters]
    return bool(roots) and all(roots) and all(item == roots[0] for item in roots)


def table(clusters: Sequence[ClusterCertificates], thresholds: Sequence[int], now: datetime) -> list[str]:
    """Return the report for people, line by line."""
    rows = [["CLUSTER", "ROLE", "SUBJECT", "SERIAL", "NOT AFTER", "DAYS", ""]]
    for cluster in clusters:
        for item in cluster.seen:
            told = item.as_dict(now, thresholds)
            severity = item.severity(now, thresholds)
            rows.append(
                [
                    item.cluster,
                    item.role,
                    str(told["subject"]) or item.where,
                    str(told["serial"])[:16],
                    str(told["not_after"]),
                    str(told["days_left"]),
                    "" if severity == "ok" else severity.upper(),
                ]
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    phases = [
        told_phase(cluster.name, cluster.rotation[1]) if cluster.rotation else f"{cluster.name} is in none."
        for cluster in clusters
    ]
    if any(cluster.rotation for cluster in clusters):
        verdict = f"The root is being rotated. {' '.join(phases)}"
    elif same_root(clusters):
        verdict = "All clusters have the same root."
    else:
        verdict = "THE ROOTS DIFFER, or one is missing."
    problems = [problem for cluster in clusters for problem in cluster.problems]
    return [printable_line(line) for line in (*lines, "", verdict, *problems)]


def prometheus(clusters: Sequence[ClusterCertificates]) -> str:
    """Return the report in Prometheus' text format, for the textfile collector of the node exporter."""
    lines = [
        "# HELP exomesh_certificate_not_after_seconds When a certificate of the mesh ends, in Unix time.",
        "# TYPE exomesh_certificate_not_after_seconds gauge",
    ]
    for cluster in clusters:
        for item in cluster.seen:
            labels = {"cluster": item.cluster, "role": item.role, "where": item.where}
            text = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
            ends = int(item.certificate.not_valid_after_utc.timestamp())
            lines.append(f"exomesh_certificate_not_after_seconds{{{text}}} {ends}")
    lines += [
        "# HELP exomesh_certificate_problems Certificates of a cluster that do not fit together.",
        "# TYPE exomesh_certificate_problems gauge",
    ]
    lines += [
        f'exomesh_certificate_problems{{cluster="{_escaped(cluster.name)}"}} {len(cluster.problems)}'
        for cluster in clusters
    ]
    lines += [
        "# HELP exomesh_mesh_same_root Whether all clusters have the same root.",
        "# TYPE exomesh_mesh_same_root gauge",
        f"exomesh_mesh_same_root {int(same_root(clusters))}",
    ]
    return "\n".join(lines) + "\n"


@dataclass
class Reloaded:
    """The result of :func:`reload_ca`.

    :param restarted: whether istiod had to be restarted; in check mode, whether it does not serve the CA yet.
    :param leaf: the certificate of a proxy that was started as a probe; None if no proxy was started.
    """

    intermediate: x509.Certificate
    restarted: bool = False
    seconds: float = 0.0
    leaf: x509.Certificate | None = None


def reload_ca(client: KubernetesClient, timeout: float, probe: bool, check_mode: bool) -> Reloaded | None:
    """Ensure that istiod serves the CA of secret ``cacerts``, and prove it.

    Returns None if there is no istiod.

    :param probe: start a short-lived proxy, and look at its new certificate.
    :raises ExomeshError: ``cacerts_missing``, ``istiod_not_reloaded`` or ``leaf_of_another_ca``.
    """
    held = read_trust(client).cacerts
    if held is None:
        raise CertificateError(
            f"There is no secret {ISTIO_NAMESPACE}/cacerts",
            "cacerts_missing",
            cluster=client.name,
            next_step="Run role exomesh.istio.certificates first",
        )
    result = Reloaded(held.chain[0])
    if not client.list_objects("apps/v1", "Deployment", ISTIO_NAMESPACE, labels="app=istiod"):
        return None
    begun = datetime.now(UTC)
    if missing := not_served(client, result.intermediate):
        if not check_mode:
            missing = wait_until_met(
                lambda: not_served(client, result.intermediate), min(timeout / 4, _RELOADS_WITHIN), 1.0
            )
        if missing:
            result.restarted = True
            if not check_mode:
                istiod.restart(client, timeout)
                missing = wait_until_met(lambda: not_served(client, result.intermediate), timeout, 1.0)
        if missing and not check_mode:
            raise CertificateError(
                f"istiod does not serve the CA of secret cacerts, even after its restart: {missing}",
                "istiod_not_reloaded",
                cluster=client.name,
                next_step="See what it says of its CA: kubectl -n istio-system logs deployment/istiod",
            )
    result.seconds = (datetime.now(UTC) - begun).total_seconds()
    if probe and not check_mode:
        result.leaf = _probe(client, result.intermediate, timeout)
    return result


def proxy_chain(client: KubernetesClient, namespace: str, pod: str) -> tuple[x509.Certificate, ...]:
    """Return the certificate of a running proxy, with its chain.

    :raises ExomeshError: the proxy cannot be asked, or has no certificate.
    """
    answer = client.get_from_pod(namespace, pod, ADMIN_PORT, SECRETS, _ANSWER_SECONDS)
    try:
        entries = load_json(answer, f"What the proxy of pod {namespace}/{pod} tells").get("configs", [])
    except MALFORMED:
        entries = []
    if chain := own_chain(entries, f"the certificate of pod {namespace}/{pod}"):
        return chain
    raise CertificateError(f"Pod {namespace}/{pod} shows no certificate", "proxy_silent", cluster=client.name)


def look_at_cluster(client: KubernetesClient) -> ClusterCertificates:
    """Return every certificate of one cluster.

    :raises ExomeshError: the cluster does not answer; ``cacerts_partial`` or ``certificate_unreadable``.
    """
    trust = read_trust(client)
    found = ClusterCertificates(client.name, running_roots=trust.running_roots)
    secret = f"secret {ISTIO_NAMESPACE}/cacerts"
    held = trust.cacerts
    if held:
        if held.rotation:
            with _noted(found):
                found.rotation = held.rotation, phase_of(held, held.rotation, found.name)
        found.seen += [Seen(found.name, ROOT, secret, root) for root in dict.fromkeys(held.roots)]
        found.seen.append(Seen(found.name, INTERMEDIATE, secret, held.chain[0]))
    else:
        place = f"config map {ISTIO_NAMESPACE}/istio-ca-root-cert"
        found.seen += [Seen(found.name, ROOT, place, root) for root in trust.running_roots]
        found.problems.append(f"cluster {found.name}: it has no {secret}")
    if held and trust.running_roots and not set(held.roots) & set(trust.running_roots):
        found.problems.append(
            f"cluster {found.name}: istiod gives out the root SHA-256 {fingerprint(trust.running_roots[0])}, "
            "not that of its secret"
        )
    pods = client.list_objects("v1", "Pod", ISTIO_NAMESPACE)
    ready = [pod for pod in pods if pod_unmet(pod) is None]
    for pod in ready:
        if _label(pod, "app") == "istiod":
            name = pod["metadata"]["name"]
            with _noted(found):
                found.seen.append(Seen(found.name, ISTIOD, f"pod {name}", served_by(client, name)))
    # The newest proxy shows which CA istiod signs with now. Every cluster of a mesh has at least one proxy:
    # the east-west gateway.
    proxies = [pod for pod in ready if proxy_of(pod)]
    if proxies:
        name = max(proxies, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))["metadata"]["name"]
        with _noted(found):
            chain = proxy_chain(client, ISTIO_NAMESPACE, name)
            found.seen.append(Seen(found.name, WORKLOAD, f"pod {ISTIO_NAMESPACE}/{name}", chain[0]))
    # A proxy keeps a certificate of an older intermediate CA until half of its lifetime is over.
    # istiod must not keep one.
    served = [item for item in found.seen if item.role == ISTIOD]
    found.problems += [
        f"cluster {found.name}: {item.where} does not serve the CA of its secret, serial "
        f"{serial(held.chain[0])}"
        for item in served
        if held and not issued_by(item.certificate, held.chain[0])
    ]
    return found


@contextmanager
def _noted(found: ClusterCertificates) -> Iterator[None]:
    try:
        yield
    except ExomeshError as error:
        if error.code != "proxy_silent":  # a proxy that needs no certificate has none
            found.unread.append(str(error))
        found.problems.append(str(error.about(cluster=found.name)))


def _probe(client: KubernetesClient, intermediate: x509.Certificate, timeout: float) -> x509.Certificate:
    """Return the certificate that a new proxy gets now. The proxy is deleted afterwards."""
    client.delete(_PROBE_REF)
    wait_until_met(lambda: "it is still there" if client.get(_PROBE_REF) else None, timeout)
    with afterwards(partial(delete_for_sure, client, _PROBE_REF)):
        apply_patiently(client, _probe_pod(istiod.tolerations(client)), MANAGED_BY, timeout)
        if missing := wait_unless_it_lasts(lambda: pod_unmet(client.get(_PROBE_REF)), timeout):
            pod = client.get(_PROBE_REF)
            unready = explain_pod(client, pod) if pod else Unready(missing)
            raise CertificateError(
                "A proxy that was started to see its certificate did not become ready",
                "probe_not_ready",
                cluster=client.name,
                cause=unready.told,
                next_step=unready.next_step,
            )
        chain = proxy_chain(client, ISTIO_NAMESPACE, _PROBE)
    if not issued_by(chain[0], intermediate):
        raise CertificateError(
            f"A new proxy got a certificate (serial {serial(chain[0])}) that is not signed by the CA of "
            f"secret cacerts (serial {serial(intermediate)})",
            "leaf_of_another_ca",
            cluster=client.name,
            next_step="See whether another program signs for this mesh (an external CA)",
        )
    return chain[0]


def _probe_pod(tolerations: list[Object]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": _PROBE,
            "namespace": ISTIO_NAMESPACE,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, "sidecar.istio.io/inject": "true"},
            "annotations": {"inject.istio.io/templates": "gateway"},
        },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "tolerations": tolerations,
            "securityContext": POD_SECURITY,
            # The injector fills in image and user of Istio's own proxy, so no other image is needed.
            "containers": [
                {
                    "name": PROXY,
                    "image": "auto",
                    "imagePullPolicy": PULL_POLICY,
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "64Mi"},
                        "limits": {"cpu": "1", "memory": "512Mi"},
                    },
                }
            ],
        },
    }


def _label(pod: Object, key: str) -> str | None:
    value = (pod["metadata"].get("labels") or {}).get(key)
    return None if value is None else str(value)


def _escaped(value: str) -> str:
    return printable_line(value).replace("\\", "\\\\").replace('"', '\\"')
