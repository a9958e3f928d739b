# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The intermediate CA of one cluster, in secret ``cacerts`` (private to the collection).

A new key is stored in secret ``cacerts-request`` of the cluster itself. It waits there until a CA has signed
the request for it. It never goes to another cluster.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from .._base.certificates import fingerprint, serial, time_text
from .._istio.names import ISTIO_NAMESPACE, NETWORK_LABEL
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import FIELD_MANAGER, KubernetesClient
from .._kubernetes.objects import apply_patiently
from .cluster import (
    CA_CERTIFICATE,
    CA_KEY,
    CACERTS_REF,
    CHAIN,
    REQUEST_REF,
    ROOT,
    Cacerts,
    ClusterTrust,
    cacerts_object,
    keep_former,
    read_trust,
    require_root,
    secret_object,
    secret_text,
    store_cacerts,
)
from .renewal import why_kept, why_renew
from .root_ca import require_key
from .x509 import (
    BACKDATING,
    Authority,
    CertificateError,
    Profile,
    chain_pem,
    chain_problems,
    chain_weaknesses,
    complete_chain,
    describe,
    end_of,
    key_belongs,
    key_pem,
    kind_of,
    new_key,
    new_request,
    read_chain,
    read_key,
    request_pem,
)

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Sequence

_REQUEST = "ca-request.pem"
_LEAST_LIFE = timedelta(hours=1)


@dataclass(frozen=True)
class Given:
    """The source is the user, who gives the cluster's chain and key."""

    authority: Authority


@dataclass(frozen=True)
class Requested:
    """The source is a CA that signs our request.

    :param signed: PEM text of the signed certificate, with or without its chain after it; None before it is
        signed.
    :param limited: whether the CA that signs limits the lifetime of certificates by rules of its own.
    """

    signed: str | None
    limited: bool = False


Source: TypeAlias = "Requested | Given"
"""Where a new intermediate CA comes from."""


@dataclass
class Outcome:
    """The result: what was done, or would be done in check mode.

    :param reason: why a new intermediate CA is needed; None if none is needed.
    :param chain: the intermediate CA up to its root; empty if it does not exist yet.
    :param request: PEM text of the request that waits to be signed.
    :param request_lifetime: lifetime to request for the certificate: at most until its issuer ends.
    :param backup: name of the Secret with a copy of an adopted ``cacerts``.
    :param before: the former state for the diff, without secrets; ``after`` likewise for the new state.
    """

    changed: bool = False
    reason: str | None = None
    chain: tuple[x509.Certificate, ...] = ()
    request: str | None = None
    request_lifetime: timedelta = timedelta()
    backup: str | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class IntermediateCa:
    """The intermediate CA of one cluster, to be brought into its wanted state.

    :param issuers: the mesh's CA first, its root last; empty in check mode if the root does not exist yet.
    :param network: network of the cluster, for the label of the namespace; None to leave the label alone.
    :param adopt: replace a ``cacerts`` that something else made, if that is needed. A copy of it stays.
    :param renew: issue a new CA even if none is due.
    :param old_root: the root that the mesh leaves for that of ``issuers``; None outside of a rotation.
    :param timeout: seconds to keep trying to write.
    """

    def __init__(
        self,
        client: KubernetesClient,
        profile: Profile,
        issuers: tuple[x509.Certificate, ...],
        network: str | None,
        *,
        adopt: bool,
        renew: bool,
        timeout: float,
        check_mode: bool,
        old_root: x509.Certificate | None = None,
    ) -> None:
        self._client = client
        self._profile = profile
        self._issuers = issuers
        self._network = network
        self._adopt = adopt
        self._renew = renew
        self._timeout = timeout
        self._check_mode = check_mode
        self._old_root = old_root
        self._now = datetime.now(UTC)
        self._outcome = Outcome()

    def ensure(self, source: Source) -> Outcome:
        """Judge everything first, then write.

        :raises ExomeshError: nothing was changed, unless the API failed in between.
        """
        trust = read_trust(self._client)
        outcome = self._outcome
        if self._old_root:
            self._require_both(trust)
        elif self._issuers:
            require_root(self._issuers[-1], [trust])
        if isinstance(source, Given):
            self._judge_given(source.authority)
        outcome.chain = trust.cacerts.chain if trust.cacerts else ()
        outcome.reason = self._why(trust, source)
        self._look_at_clock(trust)
        if outcome.reason:
            self._require_ours(trust)
            self._require_time(source)
        issued = self._issue(trust, source) if outcome.reason else None
        self._ensure_namespace(trust)
        if issued:
            self._store(trust, issued)
        elif outcome.reason and not outcome.request:
            self._predict(trust)
        if (
            self._issuers
            and outcome.chain
            and (issued or not outcome.reason)
            and not isinstance(source, Given)
        ):
            self._warn_of_end(outcome.chain, _is_limited(source))
        return outcome

    # Judging

    def _why(self, trust: ClusterTrust, source: Source) -> str | None:
        held = trust.cacerts
        if held is None or not self._issuers:
            return "it has none" if held is None else None
        if isinstance(source, Given):
            return _why_give(held.chain[0], held.key(), source.authority)
        limited = _is_limited(source)
        reason = why_renew(held.chain, held.key(), self._profile, self._issuers, self._now, limited)
        return reason or ("it was asked for" if self._renew else None)

    def _require_both(self, trust: ClusterTrust) -> None:
        """Raise CertificateError ``rotation_gate`` unless the cluster trusts the old and the new root."""
        held = trust.cacerts.roots if trust.cacerts else ()
        wanted = {self._old_root, self._issuers[-1]}
        if not (trust.cacerts and trust.cacerts.rotation and wanted == set(held) == set(trust.running_roots)):
            raise CertificateError(
                "It does not trust both roots yet, so it gets no intermediate CA of the new one. Nothing was "
                "changed",
                "rotation_gate",
                cluster=self._client.name,
                next_step="Run playbook rotate_root again: it brings every cluster through each phase",
            )

    def _judge_given(self, authority: Authority) -> None:
        problems = chain_problems(authority.chain, self._now)
        if not problems and self._issuers and authority.chain[-1] != self._issuers[-1]:
            roots = [fingerprint(chain[-1]) for chain in (authority.chain, self._issuers)]
            problems = [f"its root has SHA-256 {roots[0]}, the mesh's has {roots[1]}"]
        if problems:
            raise CertificateError(
                f"The chain given cannot be the CA of this cluster: {'; '.join(problems)}. Nothing was "
                "changed",
                "chain_unfit",
                cluster=self._client.name,
                next_step="Give the intermediate CA first, what signed it next, and the mesh's root last",
            )
        try:
            require_key(authority, "the key given")
        except CertificateError as error:
            raise error.about(cluster=self._client.name) from None
        self._outcome.warnings += [
            f"cluster {self._client.name}: {text}" for text in chain_weaknesses(authority.chain)
        ]
        left = authority.certificate.not_valid_after_utc - self._now
        if left < self._profile.renew_before:
            self._outcome.warnings.append(
                f"cluster {self._client.name}: the intermediate CA given ends in {left // timedelta(days=1)} "
                "days"
            )

    def _look_at_clock(self, trust: ClusterTrust) -> None:
        skew = trust.clock_skew
        if skew is None or abs(skew) <= BACKDATING.total_seconds():
            return
        told = (
            f"The clock of its API server is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this "
            f"machine's ({time_text(self._now)} here)"
        )
        if not self._outcome.reason:
            self._outcome.warnings.append(f"cluster {self._client.name}: {told}")
            return
        raise CertificateError(
            f"{told}. Nothing was changed",
            "clock_skew",
            cluster=self._client.name,
            cause="A certificate made now would not be valid yet, or not for as long as it says, where the "
            "other clock is read",
            next_step="Set both clocks (NTP); they may differ by five minutes",
            details={"clock_skew": round(skew)},
        )

    def _require_ours(self, trust: ClusterTrust) -> None:
        held = trust.cacerts
        if held is None or held.ours:
            return
        told = (
            f"Its secret {ISTIO_NAMESPACE}/{CACERTS_REF.name} was not made by this collection, and would "
            f"have to change, because {self._outcome.reason}. Nothing was changed"
        )
        if held.tls_form:
            raise CertificateError(
                told,
                "cacerts_not_ours",
                cluster=self._client.name,
                cause="It has the form that cert-manager writes, which would write it again",
                next_step="Have its maker renew it, or stop that and delete the secret",
            )
        if not self._adopt:
            raise CertificateError(
                told,
                "cacerts_not_ours",
                cluster=self._client.name,
                next_step="Have its maker renew it, or set certificates_adopt to true: it is then replaced, "
                "and a copy of it stays in the cluster",
            )

    def _require_time(self, source: Source) -> None:
        """Raise CertificateError ``issuer_ends`` if a new CA would end before it is of use."""
        left = end_of(self._issuers) - self._now if self._issuers else None
        if left is None or left >= _LEAST_LIFE or isinstance(source, Given):
            return
        first = min(self._issuers, key=lambda item: item.not_valid_after_utc)
        name, end = first.subject.rfc4514_string(), time_text(first.not_valid_after_utc)
        raise CertificateError(
            f"It needs a new intermediate CA, because {self._outcome.reason}, but the CA {name} ends at "
            f"{end}, and all that it signs with it. Nothing was changed",
            "issuer_ends",
            cluster=self._client.name,
            next_step="Renew that CA first, or change the root by playbook rotate_root",
        )

    def _warn_of_end(self, chain: tuple[x509.Certificate, ...], limited: bool) -> None:
        if found := why_kept(chain, self._profile, self._issuers, self._now, limited):
            cause, next_step = found
            self._outcome.warnings.append(f"cluster {self._client.name}: {cause}. {next_step}")

    # Issuing

    def _issue(self, trust: ClusterTrust, source: Source) -> Authority | None:
        """Return the new CA with its key; None while it waits to be signed, or in check mode if unknown."""
        if isinstance(source, Given):
            return source.authority
        return self._request(trust, source)

    def _request(self, trust: ClusterTrust, source: Requested) -> Authority | None:
        key, request = self._pending(trust)
        if key is None:
            if self._check_mode:
                return None
            key = new_key(self._profile.key)
            request = request_pem(new_request(key, self._profile))
            self._ensure_namespace(trust)
            data = {CA_KEY: key_pem(key), _REQUEST: request}
            apply_patiently(self._client, secret_object(REQUEST_REF, data), FIELD_MANAGER, self._timeout)
            self._outcome.changed = True
        chain = self._judge_signed(trust, source, key) if source.signed else ()
        if not chain:
            self._outcome.request = request
            left = end_of(self._issuers) - self._now
            self._outcome.request_lifetime = min(self._profile.lifetime, left)
            return None
        return Authority(chain, key)

    def _pending(self, trust: ClusterTrust) -> tuple[Any, str | None]:
        """Return the waiting key and request; (None, None) if there are none, or if they do not fit now."""
        if trust.request is None:
            return None, None
        text = secret_text(trust.request, _REQUEST)
        try:
            key = read_key(secret_text(trust.request, CA_KEY), None, "the waiting key")
            request = x509.load_pem_x509_csr(text.encode())
        except (CertificateError, ValueError):
            return None, None
        fits = (
            set(request.subject) == set(self._profile.subject)
            and kind_of(request.public_key()) == self._profile.key
            and request.public_key() == key.public_key()
        )
        return (key, text) if fits else (None, None)

    def _judge_signed(self, trust: ClusterTrust, source: Requested, key: Any) -> tuple[x509.Certificate, ...]:
        """Return the chain of the signed certificate; () if it answers an older request."""
        given = read_chain(source.signed or "", "The signed certificate")
        chain = complete_chain(given, self._issuers)
        held = trust.cacerts.chain if trust.cacerts else ()
        if held and chain and chain[0].public_key() == held[0].public_key():
            return ()
        if chain and not key_belongs(chain[0], key):
            raise CertificateError(
                f"The signed certificate {chain[0].subject.rfc4514_string()} (serial {serial(chain[0])}) is "
                "not for the request of this cluster: the key is another one. Nothing was changed",
                "key_mismatch",
                cluster=self._client.name,
                next_step="Have the newest request signed; take the old certificate away",
            )
        if reason := why_renew(chain, key, self._profile, self._issuers, self._now, source.limited):
            raise CertificateError(
                f"The signed certificate cannot be used: {reason}. Nothing was changed",
                "signed_unfit",
                cluster=self._client.name,
                next_step="Have the request signed by the mesh's CA, with all extensions that it asks for",
            )
        missing = self._profile.lifetime - (chain[0].not_valid_after_utc - self._now)
        if missing > timedelta(days=1) and chain[0].not_valid_after_utc < chain[-1].not_valid_after_utc:
            self._outcome.warnings.append(
                f"cluster {self._client.name}: the CA gave {missing // timedelta(days=1)} days less than "
                f"asked for ({self._profile.lifetime.days}): it has a limit of its own"
            )
        return chain

    # Writing

    def _ensure_namespace(self, trust: ClusterTrust) -> None:
        labels = ((trust.namespace or {}).get("metadata") or {}).get("labels") or {}
        label = labels.get(NETWORK_LABEL)
        if trust.namespace and (self._network is None or label == self._network):
            return
        if "namespace" in self._outcome.after:
            return  # already written, to store the waiting key
        self._outcome.changed = True
        self._outcome.before["namespace"] = {NETWORK_LABEL: label} if trust.namespace else None
        self._outcome.after["namespace"] = {NETWORK_LABEL: self._network or label}
        metadata: Object = {"name": ISTIO_NAMESPACE}
        if self._network:
            metadata["labels"] = {NETWORK_LABEL: self._network}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        if self._check_mode:
            self._client.apply(namespace, dry_run=True)
        else:
            apply_patiently(self._client, namespace, FIELD_MANAGER, self._timeout)

    def _store(self, trust: ClusterTrust, issued: Authority) -> None:
        held = trust.cacerts
        self._outcome.changed = True
        self._outcome.chain = issued.chain
        rotation = held.rotation if held and self._old_root else None
        self._show(trust, {**describe(issued.certificate), "root": fingerprint(issued.chain[-1])})
        data = {
            CA_CERTIFICATE: chain_pem(issued.chain[:1]),
            CA_KEY: key_pem(issued.key),
            CHAIN: chain_pem(issued.chain),
            ROOT: chain_pem(self._trusted(held, issued.chain[-1])),
        }
        if self._check_mode:
            if trust.namespace:
                self._client.apply(cacerts_object(data, held, rotation), dry_run=True)
            return
        if held and rotation and held.chain[-1] == self._old_root:
            keep_former(self._client, held)
        elif held and not held.ours:
            self._back_up(held.secret, held.chain)
        store_cacerts(self._client, data, held, rotation, self._timeout)
        if trust.request:
            self._client.delete(REQUEST_REF)

    def _trusted(self, held: Cacerts | None, root: x509.Certificate) -> Sequence[x509.Certificate]:
        return held.roots if held and root in held.roots else (root,)

    def _predict(self, trust: ClusterTrust) -> None:
        """In check mode, show what is known of a CA that does not exist yet."""
        self._outcome.changed = True
        self._show(trust, {"subject": self._profile.subject.rfc4514_string(), "key": str(self._profile.key)})

    def _show(self, trust: ClusterTrust, after: dict[str, str]) -> None:
        held = trust.cacerts
        self._outcome.before["cacerts"] = (
            {**describe(held.chain[0]), "root": fingerprint(held.chain[-1])} if held else None
        )
        self._outcome.after["cacerts"] = after

    def _back_up(self, secret: Object, chain: Sequence[x509.Certificate]) -> None:
        name = f"{CACERTS_REF.name}-backup-{serial(chain[0])[:12]}"
        ref = ObjectRef("v1", "Secret", name, ISTIO_NAMESPACE)
        copy = {**secret_object(ref, {}), "data": secret["data"]}
        self._client.apply(copy)
        self._outcome.backup = name


def _is_limited(source: Source) -> bool:
    return isinstance(source, Requested) and source.limited


def _why_give(held: x509.Certificate, held_key: Any, given: Authority) -> str | None:
    if held != given.certificate:
        return f"another one is given (serial {serial(given.certificate)} instead of {serial(held)})"
    if held_key is None or not key_belongs(held, held_key):
        return "its key belongs to another certificate"
    return None
