# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what is wrong on the way from one cluster to another (private).

Every check returns whether it passed, and its findings. It returns None if there is nothing to decide, and
a text that says why if the check could not be made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from .._istio.names import GATEWAY_PORT, ISTIO_NAMESPACE, VERIFY_NAMESPACE
from .._kubernetes.api import Object
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, is_ours
from .._peering.remote_secrets import secret_ref
from .._trust.inventory import INTERMEDIATE
from .._trust.proxies import is_below
from .._trust.x509 import CertificateError, read_chain
from . import findings
from .findings import Finding, Kind
from .observe import access_to
from .state import Answer, ClusterState, Istiod, MeshState, PairState, RemoteSecret, name_of, workload_name

if TYPE_CHECKING:
    from cryptography import x509

_RESOLVE_FAILED = 6  # curl's exit code
_FORBIDDEN, _DENIED = 403, "RBAC: access denied"
"""What a proxy answers to a request that an AuthorizationPolicy refuses."""


Outcome: TypeAlias = "bool | str | None"
Checked: TypeAlias = "tuple[Outcome, list[Finding]]"


def _secret(pair: PairState, mesh: MeshState) -> Checked:
    source = mesh.clusters[pair.source]
    if source.client is None:
        return None, []
    wanted = secret_ref(pair.destination).name
    mine = [
        secret
        for secret in source.secrets
        if pair.destination in (*secret.keys, secret.annotation) or secret.name == wanted
    ]
    if not mine:
        return False, [_about(pair, findings.REMOTE_SECRET_MISSING, f"no Secret {ISTIO_NAMESPACE}/{wanted}")]
    if len(mine) > 1:
        names = ", ".join(secret.name for secret in mine)
        return False, [_about(pair, findings.REMOTE_SECRET_DUPLICATE, f"Secrets {names}")]
    problem = _form_problem(mine[0], pair.destination)
    return problem is None, [_about(pair, findings.REMOTE_SECRET_INVALID, problem)] if problem else []


def _form_problem(secret: RemoteSecret, destination: str) -> str | None:
    keys, annotation = ", ".join(secret.keys) or "none", secret.annotation or "none"
    told = f"Secret {secret.name}, key {keys}, annotation {annotation}"
    if secret.keys != (destination,) or secret.annotation != destination:
        return told
    if secret.name != secret_ref(destination).name:
        return told
    return None if secret.access else f"{told}: it holds no kubeconfig with a CA and a token"


def _credentials(pair: PairState, mesh: MeshState) -> Checked:
    if pair.user is None:
        return pair.untold, []
    if not pair.user:
        told = f"a TokenReview in {pair.destination} does not know the token"
        return False, [_about(pair, findings.CREDENTIALS_REJECTED, told)]
    lacking = [right for right, allowed in pair.rights.items() if not allowed and right != "list secrets"]
    if lacking:
        told = f"{pair.user} may not {', '.join(lacking)}"
        return False, [_about(pair, findings.READER_UNDERPRIVILEGED, told)]
    if mesh.least_privilege and pair.rights.get("list secrets"):
        told = f"{pair.user} may list secrets in {ISTIO_NAMESPACE}"
        return True, [_about(pair, findings.READER_OVERPRIVILEGED, told)]
    return True, []


def _api(pair: PairState, mesh: MeshState) -> Checked:
    destination = mesh.clusters[pair.destination]
    access = access_to(mesh.clusters[pair.source], pair.destination)
    if access is None:
        return None, []
    if destination.client and access.server.rstrip("/") != destination.server.rstrip("/"):
        told = f"it names {access.server}, but the API is at {destination.server}"
        return False, [_about(pair, findings.REMOTE_SECRET_ADDRESS, told)]
    if pair.api and not pair.api.status:
        return False, [_about(pair, findings.API_UNREACHABLE, f"{pair.api.address}: {pair.api.error}")]
    if destination.client and destination.api_ca and access.ca.strip() != destination.api_ca.strip():
        return False, [
            _about(pair, findings.API_UNTRUSTED, "the CA in the secret is not its kube-root-ca.crt")
        ]
    if pair.api and not _is_served_by(pair.api.certificates, access.ca):
        told = f"{pair.api.address} serves a certificate of {_issuer(pair.api.certificates)}"
        return False, [_about(pair, findings.API_UNTRUSTED, told)]
    return True if pair.api else None, []


def _sync(pair: PairState, mesh: MeshState) -> Checked:
    known = _answering(mesh.clusters[pair.source])
    if not known:
        return f"no istiod of {pair.source} answered", []
    stale = [
        f"{istiod.name} says {pair.destination} is {state}"
        for istiod in known
        if (state := istiod.synced.get(pair.destination, "unknown")) != "synced"
    ]
    return not stale, [_about(pair, findings.ISTIOD_NOT_SYNCED, *stale)] if stale else []


def _answering(cluster: ClusterState) -> list[Istiod]:
    """Return the istiods that answered and serve proxies. What others lack is another finding."""
    return [istiod for istiod in cluster.istiods if istiod.answered and not istiod.unmet]


def _gateway(pair: PairState, mesh: MeshState) -> Checked:
    destination = mesh.clusters[pair.destination]
    istiods_there = _answering(mesh.clusters[pair.source])
    if not istiods_there:
        return f"no istiod of {pair.source} answered", []
    addresses = set(destination.gateway_addresses)
    # istiod resolves host names itself. The addresses that it gets may differ from those seen here.
    by_name = not all(re.fullmatch(r"[0-9.]+|.*:.*", address) for address in addresses)
    wrong = []
    for istiod in istiods_there:
        known = {
            address for network, address, _port in istiod.gateways if network == destination.member.network
        }
        if not known or (known != addresses and not by_name):
            told = ", ".join(sorted(known)) or "none"
            wrong.append(f"{istiod.name} knows {told}, the gateway is {', '.join(sorted(addresses))}")
    return not wrong, [_about(pair, findings.GATEWAY_UNKNOWN, *wrong)] if wrong else []


def _endpoints(pair: PairState, mesh: MeshState) -> Checked:
    if pair.endpoints is None:
        return _not_asked(
            mesh, f"the sidecar of {pair.source}'s test workload did not show its endpoints"
        ), []
    gateways_there = {f"{a}:{GATEWAY_PORT}" for a in mesh.clusters[pair.destination].gateway_addresses}
    expected = f"the gateway is {', '.join(sorted(gateways_there))}"
    if not pair.endpoints:
        return False, [_about(pair, findings.ENDPOINT_MISSING, expected)]
    wrong = [endpoint for endpoint in pair.endpoints if not _is_gateway(endpoint, gateways_there)]
    if wrong:
        told = f"endpoints: {', '.join(wrong)}"
        return False, [_about(pair, findings.ENDPOINT_NOT_GATEWAY, told, expected)]
    return True, []


def _dns(pair: PairState, _mesh: MeshState) -> Checked:
    if pair.answer is None:
        return None, []
    if pair.answer.exit_code == _RESOLVE_FAILED:
        return False, [_about(pair, findings.NAME_NOT_RESOLVED, pair.answer.error)]
    return True, []


def _wire(pair: PairState, mesh: MeshState) -> Checked:
    answer = pair.answer
    if answer is None:
        return None, []
    kind = _wire_problem(answer, pair)
    if kind:
        seen = [f"{answer.upstream or 'request'}: {answer.details or answer.error or 'no answer'}"]
        if pair.gateway:
            told = pair.gateway.error if not pair.gateway.connected else "TCP connects"
            seen.append(f"{pair.gateway.address} from a pod of {pair.source}: {told}")
            if pair.gateway.certificates:
                seen.append(f"it serves a certificate of {_issuer(pair.gateway.certificates)}")
        return False, [_about(pair, kind, *seen)]
    if answer.status != 200 or not answer.certificate:
        return None, []
    # The source's proxy has verified the chain already, so the issuer's name is enough to tell whose CA it
    # was. After a renewal, a proxy keeps its certificate of the earlier CA until it rotates it.
    names = {
        seen.certificate.subject
        for seen in mesh.clusters[pair.destination].certificates
        if seen.role == INTERMEDIATE
    }
    leaf = _leaf(answer.certificate)
    if leaf and names and leaf.issuer not in names:
        told = f"issuer {leaf.issuer.rfc4514_string()}, which is not the CA of {pair.destination}"
        return False, [_about(pair, findings.GATEWAY_TLS_UNTRUSTED, told)]
    return True, []


def _wire_problem(answer: Answer, pair: PairState) -> Kind | None:
    """Return why no connection with mutual TLS was established; None if the reason is not known.

    The reason is taken from the error of the source's proxy, and from a connection past that proxy.
    """
    words = f"{answer.details} {answer.error}"
    # The mesh's own gateway shows certificates only to clients that speak Istio's ALPN. curl does not.
    foreign = pair.gateway is not None and bool(pair.gateway.certificates)
    closed = pair.gateway is not None and not pair.gateway.connected
    if answer.status == 200:
        return None
    if foreign or re.search(r"CERTIFICATE_VERIFY_FAILED|UNKNOWN_CA|WRONG_VERSION|ALERT", words):
        return findings.GATEWAY_TLS_UNTRUSTED
    if closed or re.search(r"refused|connection[_ ]timeout|unreachable", words, re.IGNORECASE):
        return findings.GATEWAY_UNREACHABLE
    if re.search(r"\bU[CF]\b|URX|termination|remote connection failure", words):
        return findings.CONNECTION_CLOSED
    return None


def _request(pair: PairState, mesh: MeshState) -> Checked:
    answer = pair.answer
    if answer is None:
        return _not_asked(mesh, "no request was sent"), []
    if answer.status == _FORBIDDEN and _DENIED in answer.error:
        return None, [_about(pair, findings.REQUEST_DENIED, *_refusing(mesh.clusters[pair.destination]))]
    if answer.status != 200:
        told = f"status {answer.status}: {answer.details} {answer.error}".strip()
        return False, [_about(pair, findings.REQUEST_FAILED, told)]
    if not answer.cluster:
        return False, [
            _about(pair, findings.REQUEST_FAILED, "the answer does not tell which cluster gave it")
        ]
    if answer.cluster != pair.destination:
        told = f"{answer.cluster} answered, at {answer.upstream}"
        return False, [_about(pair, findings.WRONG_CLUSTER_ANSWERED, told)]
    return True, []


def _refusing(cluster: ClusterState) -> list[str]:
    """Return the AuthorizationPolicies that may refuse requests to the cluster's test workload."""
    root = str(cluster.mesh_config.get("rootNamespace") or ISTIO_NAMESPACE)
    labels = {"app": workload_name(cluster.name), MANAGED_BY_LABEL: MANAGED_BY}
    if cluster.authorization_policies is None:
        return [f"RBAC: access denied, and the AuthorizationPolicies of {cluster.name} may not be read"]
    found = [
        (action, policy)
        for policy in cluster.authorization_policies
        if policy["metadata"]["namespace"] in (root, VERIFY_NAMESPACE)
        and _match_labels(policy).items() <= labels.items()
        and (action := (policy.get("spec") or {}).get("action", "ALLOW")) != "AUDIT"
    ]
    # The test brings a policy of its own that allows its requests.
    refusing = [entry for entry in found if entry[0] != "ALLOW"]
    refusing = refusing or [entry for entry in found if not is_ours(entry[1])]
    told = [
        f"AuthorizationPolicy {name_of(policy)} of {cluster.name}, action {action}"
        for action, policy in refusing
    ]
    return told or [f"RBAC: access denied, but no AuthorizationPolicy of {cluster.name} is seen that does it"]


def _match_labels(policy: Object) -> dict[str, str]:
    labels: dict[str, str] = ((policy.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return labels


def _identity(pair: PairState, mesh: MeshState) -> Checked:
    answer = pair.answer
    if answer is None or answer.status != 200:
        return None, []
    ends = (
        ("source", pair.source, answer.source_identity),
        ("destination", pair.destination, answer.destination_identity),
    )
    wrong = [
        f"{end}: {seen or 'none'}, expected {expected}"
        for end, name, seen in ends
        if seen != (expected := _identity_of(mesh.clusters[name]))
    ]
    return not wrong, [_about(pair, findings.IDENTITY_MISMATCH, *wrong)] if wrong else []


def _not_asked(mesh: MeshState, why: str) -> str | None:
    """Return why a request was not sent; None in a verification that only reads."""
    return why if mesh.full else None


PAIR_CHECKS: dict[str, Callable[[PairState, MeshState], Checked]] = {
    "secret": _secret,
    "credentials": _credentials,
    "api": _api,
    "sync": _sync,
    "gateway": _gateway,
    "endpoints": _endpoints,
    "dns": _dns,
    "wire": _wire,
    "request": _request,
    "identity": _identity,
}


def _about(pair: PairState, kind: Kind, *evidence: str) -> Finding:
    return Finding(kind, source=pair.source, destination=pair.destination, evidence=list(evidence))


def _is_gateway(endpoint: str, gateways_there: set[str]) -> bool:
    if endpoint in gateways_there:
        return True
    # istiod resolves a gateway's host name itself. It may get any address, but the port must be right.
    by_name = any(not re.match(r"[0-9.]+:|.*:.*:", gateway) for gateway in gateways_there)
    return by_name and endpoint.endswith(f":{GATEWAY_PORT}")


def _identity_of(cluster: ClusterState) -> str:
    return f"spiffe://{cluster.trust_domain}/ns/{VERIFY_NAMESPACE}/sa/{workload_name(cluster.name)}"


def _leaf(pem: str) -> x509.Certificate | None:
    try:
        return read_chain(pem, "a certificate on the wire")[0]
    except CertificateError:
        return None


def _issuer(pem: str) -> str:
    leaf = _leaf(pem)
    return f"issuer {leaf.issuer.rfc4514_string() or 'without a name'}" if leaf else "none"


def _is_served_by(pem: str, ca: str) -> bool:
    """Return whether a chain that was served ends in one of these CAs."""
    try:
        served, roots_there = read_chain(pem, "what was served"), read_chain(ca, "the CA")
    except CertificateError:
        return False
    return any(is_below(served, root) for root in roots_there)
