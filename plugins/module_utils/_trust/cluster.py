# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roots that a cluster trusts, and checks that they are the mesh's root (private to the collection).

Trust is in four places:

- Secret ``cacerts``: istiod takes its CA from it when it starts.
- Config map ``istio-ca-root-cert``: it has the root that istiod in fact gives to workloads.
- Secret ``cacerts-before-rotation``: while the root is changed, it has the intermediate CA of the old root.
- Secret ``cacerts-request``: while an external CA is asked to sign, it has the key that waits for its
  certificate.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._base.certificates import fingerprint
from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import ApiError, Object, ObjectRef
from .._kubernetes.client import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient, is_ours
from .._kubernetes.objects import apply_patiently
from .x509 import CertificateError, complete_chain, read_chain, read_key

if TYPE_CHECKING:
    from cryptography import x509

NAMESPACE_REF = ObjectRef("v1", "Namespace", ISTIO_NAMESPACE)
CACERTS_REF = ObjectRef("v1", "Secret", "cacerts", ISTIO_NAMESPACE)
REQUEST_REF = ObjectRef("v1", "Secret", "cacerts-request", ISTIO_NAMESPACE)
FORMER_REF = ObjectRef("v1", "Secret", "cacerts-before-rotation", ISTIO_NAMESPACE)
RUNNING_ROOT_REF = ObjectRef("v1", "ConfigMap", "istio-ca-root-cert", ISTIO_NAMESPACE)

CA_CERTIFICATE, CA_KEY, CHAIN, ROOT = "ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"
_TLS_FORM = {"tls.crt": CA_CERTIFICATE, "tls.key": CA_KEY, "ca.crt": ROOT}
"""The keys under which cert-manager writes a CA, and ours for the same. istiod accepts both."""


ROTATION_ANNOTATION = "exomesh.istio/root-rotation"


@dataclass(frozen=True)
class Rotation:
    """A change of the mesh's root that is under way, as secret ``cacerts`` of every cluster records it.

    The phase of a cluster is not written down: the certificates in the same secret tell it, and nothing else
    can contradict them.

    :param old: SHA-256 of the root that goes.
    :param new: SHA-256 of the root that comes.
    """

    old: str
    new: str

    def text(self) -> str:
        return json.dumps({"old": self.old, "new": self.new})

    @classmethod
    def of(cls, secret: Object) -> Rotation | None:
        """Read the rotation of a secret; None if there is none, or if it cannot be read."""
        text = (secret["metadata"].get("annotations") or {}).get(ROTATION_ANNOTATION)
        with suppress(*MALFORMED, ExomeshError):
            told = load_json(text or "null", f"Annotation {ROTATION_ANNOTATION}")
            return cls(str(told["old"]), str(told["new"])) if told else None
        return None


@dataclass(frozen=True)
class Cacerts:
    """Secret ``cacerts`` of a cluster.

    :param chain: the certificates from the intermediate CA up to its root.
    :param roots: the roots that workloads trust; more than one while a root is rotated.
    :param ours: whether this collection wrote the secret.
    :param tls_form: whether the secret is of type kubernetes.io/tls, as cert-manager writes it.
    :param rotation: the change of the root that is under way; None if there is none.
    """

    secret: Object
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    ours: bool
    tls_form: bool
    rotation: Rotation | None = None

    def key(self) -> Any:
        """Return the private key, for comparisons only; None if it cannot be read."""
        try:
            return read_key(
                secret_text(self.secret, "tls.key" if self.tls_form else CA_KEY),
                None,
                "ca-key.pem",
                examined=False,
            )
        except CertificateError:
            return None


@dataclass(frozen=True)
class ClusterTrust:
    """The current trust of one cluster.

    :param running_roots: the roots that istiod gives to workloads; empty before Istio's first start.
    :param request: the secret with a key that waits for its certificate.
    :param clock_skew: seconds by which the API server's clock is ahead of ours; None if the server does not
        report its time.
    """

    cluster: str
    namespace: Object | None
    cacerts: Cacerts | None
    running_roots: tuple[x509.Certificate, ...]
    request: Object | None
    clock_skew: float | None

    def roots(self) -> list[tuple[str, x509.Certificate]]:
        """Return every root in the cluster, each with its place."""
        held = self.cacerts.roots if self.cacerts else ()
        return [(f"secret {ISTIO_NAMESPACE}/{CACERTS_REF.name}", root) for root in held] + [
            (f"config map {ISTIO_NAMESPACE}/{RUNNING_ROOT_REF.name}", root) for root in self.running_roots
        ]

    def is_foreign(self, root: x509.Certificate) -> bool:
        """Return whether a place in the cluster has other roots, but not this one."""
        held = self.cacerts.roots if self.cacerts else ()
        return any(place and root not in place for place in (held, self.running_roots))


def read_trust(client: KubernetesClient) -> ClusterTrust:
    """Read what a cluster trusts.

    :raises ExomeshError: the cluster does not answer; ``cacerts_partial`` or ``certificate_unreadable``.
    """
    refs = (NAMESPACE_REF, CACERTS_REF, RUNNING_ROOT_REF, REQUEST_REF)
    namespace, secret, running, request = concurrently(client.get, refs)
    try:
        return ClusterTrust(
            client.name,
            namespace,
            _cacerts(client, secret) if secret else None,
            _running_roots(running),
            request,
            client.clock_skew,
        )
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None


def require_root(root: x509.Certificate, trusts: list[ClusterTrust]) -> None:
    """Raise CertificateError if a cluster trusts another root than the mesh's.

    The code is ``rotation_under_way`` while the root is being changed, and ``running_root_differs`` if istiod
    runs with another root than its secret has. Otherwise, the code is ``foreign_root``.
    """
    require_no_rotation(trusts)
    foreign = [trust for trust in trusts if trust.is_foreign(root)]
    if not foreign:
        return
    changed_while_running = [
        trust.cluster for trust in foreign if trust.cacerts is not None and root in trust.cacerts.roots
    ]
    names = ", ".join(trust.cluster for trust in foreign)
    told = (
        f"The root of this mesh has SHA-256 {fingerprint(root)}, but cluster {names} trusts another one: "
        f"{'; '.join(_told(trust) for trust in foreign)}. Nothing was changed"
    )
    details = {"root": fingerprint(root), "clusters": {trust.cluster: _by_place(trust) for trust in foreign}}
    if len(changed_while_running) == len(foreign):
        raise CertificateError(
            told,
            "running_root_differs",
            cause="The root in secret cacerts was changed while istiod ran, or the secret came after "
            "istiod's first start: istiod ignores that silently, and changes roots at its next restart, "
            "which cuts off "
            "every workload that runs",
            next_step="Put the running root back into the secret. Then playbook rotate_root changes the root "
            "without an interruption. Or, where an interruption will do: "
            "delete config map istio-ca-root-cert in istio-system, then restart istiod and all workloads",
            details=details,
        )
    raise CertificateError(
        told,
        "foreign_root",
        cause="Workloads of these clusters would lose their trust",
        next_step="Either give the mesh the root that they have (certificates_backend: provided, with its "
        "certificate and key), or, if all of them have the same other root, change it by playbook "
        "rotate_root, or, where nothing needs the other root any more, delete it: "
        "kubectl -n istio-system delete secret/cacerts configmap/istio-ca-root-cert "
        "secret/istio-ca-secret --ignore-not-found",
        details=details,
    )


def require_no_rotation(trusts: Sequence[ClusterTrust]) -> None:
    """Raise CertificateError ``rotation_under_way`` if the root of a cluster is being changed."""
    changing = {
        trust.cluster: trust.cacerts.rotation for trust in trusts if trust.cacerts and trust.cacerts.rotation
    }
    if changing:
        rotation = next(iter(changing.values()))
        raise CertificateError(
            f"The root of this mesh is being changed, from SHA-256 {rotation.old} to {rotation.new}: "
            f"{', '.join(changing)} is in between. Nothing was changed",
            "rotation_under_way",
            cause="A run of playbook rotate_root has not ended yet, or was ended early",
            next_step="Finish it: ansible-playbook exomesh.istio.rotate_root; or return to the old root: "
            "ansible-playbook exomesh.istio.rotate_root -e rotate_back=true",
            details={"clusters": sorted(changing)},
        )


def require_no_root(trusts: list[ClusterTrust], expected: str) -> None:
    """Raise CertificateError ``root_missing`` if a cluster has a root already: no new one may be made then.

    :param expected: the place where the mesh's own root was looked for.
    """
    carriers = [trust for trust in trusts if trust.roots()]
    if carriers:
        raise CertificateError(
            f"There is no root CA {expected}, but clusters have one already: "
            f"{'; '.join(_told(trust) for trust in carriers)}; a new root would cut them off. Nothing was "
            "changed",
            "root_missing",
            next_step="Bring back root-key.pem and root-cert.pem, or set mesh_state_dir to the folder whose "
            "ca has them, or give the root with certificates_backend: provided. Only where nothing needs "
            "that root "
            "any more: kubectl -n istio-system delete secret/cacerts configmap/istio-ca-root-cert "
            "secret/istio-ca-secret --ignore-not-found",
            details={"clusters": {trust.cluster: _by_place(trust) for trust in carriers}},
        )


def secret_text(secret: Mapping[str, Any], key: str) -> str:
    """Return one value of a Secret; "" if it does not exist or is no text."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, "")).decode()
    except MALFORMED:
        return ""


def secret_object(ref: ObjectRef, texts: Mapping[str, str]) -> Object:
    """Return a Secret of ours."""
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()},
    }


def store_cacerts(
    client: KubernetesClient,
    texts: Mapping[str, str],
    held: Cacerts | None,
    rotation: Rotation | None,
    timeout: float,
) -> None:
    """Write secret ``cacerts``, in one request, with the rotation that it is part of.

    :param held: what was judged; the secret is not written if somebody else has changed it since then.
    :raises CertificateError: ``cacerts_changed``.
    """
    secret = cacerts_object(texts, held, rotation)
    try:
        apply_patiently(client, secret, FIELD_MANAGER, timeout)
    except ApiError as error:
        if error.status != 409:
            raise
        raise CertificateError(
            f"Secret {ISTIO_NAMESPACE}/{CACERTS_REF.name} was changed by someone else meanwhile",
            "cacerts_changed",
            cluster=client.name,
            next_step="Run this again",
        ) from None


def cacerts_in_rotation(client: KubernetesClient) -> Cacerts | None:
    """Return secret ``cacerts`` of a cluster whose root is being changed; None if it is not.

    :raises ExomeshError: see :func:`read_trust`.
    """
    secret = client.get(CACERTS_REF)
    return _cacerts(client, secret) if secret and Rotation.of(secret) else None


def leave_rotation(client: KubernetesClient, held: Cacerts, timeout: float) -> None:
    """Take a cluster out of a rotation, as the mesh goes on without it. It keeps its CA and its roots."""
    texts = {key: secret_text(held.secret, key) for key in (CA_CERTIFICATE, CA_KEY, CHAIN, ROOT)}
    store_cacerts(client, texts, held, None, timeout)


def keep_former(client: KubernetesClient, held: Cacerts) -> None:
    """Keep the intermediate CA of the old root in the cluster, to return to it without the old root's key."""
    client.apply({**secret_object(FORMER_REF, {}), "data": held.secret["data"]})


def cacerts_object(texts: Mapping[str, str], held: Cacerts | None, rotation: Rotation | None) -> Object:
    """Return secret ``cacerts`` as :func:`store_cacerts` writes it."""
    secret = secret_object(CACERTS_REF, texts)
    if rotation:
        secret["metadata"]["annotations"] = {ROTATION_ANNOTATION: rotation.text()}
    if held:
        secret["metadata"]["resourceVersion"] = held.secret["metadata"]["resourceVersion"]
    return secret


def _cacerts(client: KubernetesClient, secret: Object) -> Cacerts:
    tls_form = secret.get("type") == "kubernetes.io/tls"
    needed = list(_TLS_FORM) if tls_form else [CA_CERTIFICATE, CA_KEY, CHAIN, ROOT]
    if missing := [key for key in needed if not secret_text(secret, key).strip()]:
        raise CertificateError(
            f"Secret {ISTIO_NAMESPACE}/{CACERTS_REF.name} lacks {', '.join(missing)}. Nothing was changed",
            "cacerts_partial",
            cluster=client.name,
            cause="It was written by hand, or a program broke off; istiod would not start with it",
            next_step=f"Complete it, or delete it and run this again: {_deletion(CACERTS_REF)}",
        )
    certificate, root = ("tls.crt", "ca.crt") if tls_form else (CA_CERTIFICATE, ROOT)
    keys = (certificate, root) if tls_form else (certificate, root, CHAIN)
    parts = {key: _certificates(secret_text(secret, key), key, CACERTS_REF) for key in keys}
    chain = complete_chain(parts[certificate], [*parts.get(CHAIN, ()), *parts[root]])
    return Cacerts(secret, chain, parts[root], is_ours(secret), tls_form, Rotation.of(secret))


def _running_roots(config_map: Object | None) -> tuple[x509.Certificate, ...]:
    text = ((config_map or {}).get("data") or {}).get(ROOT, "")
    return _certificates(text, ROOT, RUNNING_ROOT_REF) if text.strip() else ()


def _certificates(text: str, key: str, ref: ObjectRef) -> tuple[x509.Certificate, ...]:
    try:
        return read_chain(text, f"{key} in {ref}")
    except CertificateError as error:
        error.next_step = f"Complete it, or delete it and run this again: {_deletion(ref)}"
        raise


def _deletion(ref: ObjectRef) -> str:
    return f"kubectl -n {ref.namespace} delete {ref.kind.lower()} {ref.name}"


def _told(trust: ClusterTrust) -> str:
    places = [f"{place} SHA-256 {fingerprint(root)}" for place, root in trust.roots()]
    return f"{trust.cluster}: {', '.join(places)}"


def _by_place(trust: ClusterTrust) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place, root in trust.roots():
        found.setdefault(place, []).append(fingerprint(root))
    return found
