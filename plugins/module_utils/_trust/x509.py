# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The X.509 of a mesh: making CAs and judging chains (private to the collection).

Nothing here knows files or clusters. Certificates and keys are read and returned as PEM text. Times are
timezone-aware, in UTC. A chain begins with the CA that signs for workloads, and ends with its root.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .._base.certificates import fingerprint, serial, time_text
from .._base.errors import ExomeshError
from .encrypted_key import encrypted_pem

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.x509.oid import NameOID

ISTIOD_NAME = "istiod.istio-system.svc"
BACKDATING = timedelta(minutes=5)
"""A new certificate is valid from this long before now, because clocks differ."""

KEY_TYPES = ("rsa", "ecdsa-p256", "ecdsa-p384")
_MIN_RSA_BITS = 2048
MAX_LIFETIME = timedelta(days=36500)


class CertificateError(ExomeshError):
    """A fault of a certificate, a key or a chain."""


@dataclass(frozen=True)
class KeyKind:
    """The type and size of a key.

    :param type: one of :data:`KEY_TYPES`.
    :param bits: size of an RSA key; without meaning for the other types.
    """

    type: str
    bits: int = 4096

    def __post_init__(self) -> None:
        if self.type != "rsa":
            object.__setattr__(self, "bits", 0)

    def __str__(self) -> str:
        return f"RSA {self.bits}" if self.type == "rsa" else self.type.upper().replace("-P", " P-")


@dataclass(frozen=True)
class Profile:
    """The wanted properties of one cluster's intermediate CA.

    :param renew_before: an intermediate CA with less time left than this is due for renewal.
    :raises CertificateError: ``lifetime_invalid``.
    """

    cluster: str
    organization: str
    key: KeyKind
    lifetime: timedelta
    renew_before: timedelta

    def __post_init__(self) -> None:
        if not timedelta(days=1) <= self.lifetime <= MAX_LIFETIME or self.renew_before < timedelta():
            raise CertificateError(
                f"An intermediate CA cannot live for {self.lifetime.days} days and be renewed "
                f"{self.renew_before.days} days before its end. Nothing was changed",
                "lifetime_invalid",
                cluster=self.cluster,
                next_step=f"Set certificates_lifetime to 1 to {MAX_LIFETIME.days} days, and "
                "certificates_renew_before to fewer days than that, not below 0",
            )

    @property
    def subject(self) -> x509.Name:
        return _name(
            (NameOID.ORGANIZATION_NAME, self.organization),
            (NameOID.COMMON_NAME, "Intermediate CA"),
            (NameOID.LOCALITY_NAME, self.cluster),
        )


@dataclass(frozen=True)
class Authority:
    """A CA with its key: ``chain`` begins with its own certificate and ends with the root."""

    chain: tuple[x509.Certificate, ...]
    key: Any

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]


# Reading and writing


def read_chain(pem: str, what: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM text, in their order.

    :param what: description of the text, for the error message.
    :raises CertificateError: ``certificate_unreadable``.
    """
    try:
        found = tuple(x509.load_pem_x509_certificates(pem.encode()))
        for certificate in found:
            # The package reads these fields only on access. All that is judged later must be readable.
            certificate.subject, certificate.issuer, certificate.public_key()
            certificate.not_valid_before_utc, certificate.not_valid_after_utc  # noqa: B018
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{what} is no PEM certificate", "certificate_unreadable", cause=str(error)
        ) from None
    # The package silently ignores what follows the last whole certificate. A key may be in the same file.
    if len(found) != (begun := len(re.findall(r"-----BEGIN (?![A-Z0-9 ]+ (?:KEY|PARAMETERS)-----)", pem))):
        raise CertificateError(
            f"{what} is no PEM certificate",
            "certificate_unreadable",
            cause=f"{begun} begin in it, and {len(found)} are whole: it was cut off, or holds something else",
        )
    return found


def read_key(pem: str, passphrase: str | None, what: str, examined: bool = True) -> Any:
    """Return the private key of a PEM text. For an unencrypted key, the passphrase is ignored.

    :param examined: whether to check the primes of an RSA key, which takes up to a second. A key that was not
        examined is good for comparisons only.
    :raises CertificateError: ``passphrase_missing``, ``passphrase_wrong`` or ``key_unreadable``.
    """
    encrypted = key_is_encrypted(pem)
    if encrypted and not passphrase:
        raise CertificateError(
            f"{what} has a passphrase, and none was given",
            "passphrase_missing",
            next_step="Give it in certificates_root_passphrase, certificates_root_passphrase_file, "
            "or the environment variable EXOMESH_ROOT_PASSPHRASE",
        )
    try:
        key = serialization.load_pem_private_key(
            pem.encode(),
            passphrase.encode() if encrypted and passphrase else None,
            unsafe_skip_rsa_key_validation=not examined,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message is left out: it may quote what the library could not read.
        if encrypted:
            raise CertificateError(
                f"{what} does not open with the passphrase given",
                "passphrase_wrong",
                next_step="Give the passphrase with which the key was made",
            ) from None
        raise CertificateError(f"{what} is no PEM private key", "key_unreadable") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{what} is neither an RSA nor an ECDSA key", "key_unreadable")
    return key


def key_is_encrypted(pem: str) -> bool:
    """Return whether a PEM private key needs a passphrase."""
    return "ENCRYPTED" in pem


def key_pem(key: Any, passphrase: str | None = None) -> str:
    """Return the key as PKCS#8 in PEM, encrypted if there is a passphrase."""
    encoding = serialization.Encoding.DER if passphrase else serialization.Encoding.PEM
    content: bytes = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encrypted_pem(content, passphrase) if passphrase else content.decode()


def chain_pem(chain: Sequence[x509.Certificate]) -> str:
    """Return the certificates as one PEM text."""
    return "".join(item.public_bytes(serialization.Encoding.PEM).decode() for item in chain)


def request_pem(request: x509.CertificateSigningRequest) -> str:
    """Return the signing request as PEM text."""
    return request.public_bytes(serialization.Encoding.PEM).decode()


# Describing


def kind_of(public_key: Any) -> KeyKind | None:
    """Return the kind of a public key; None for a kind that this collection does not use."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return KeyKind("rsa", public_key.key_size)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return {"secp256r1": KeyKind("ecdsa-p256"), "secp384r1": KeyKind("ecdsa-p384")}.get(
            public_key.curve.name
        )
    return None


def describe(certificate: x509.Certificate) -> dict[str, str]:
    """Return the fields of a certificate that people compare. They hold no secret."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": serial(certificate),
        "fingerprint": fingerprint(certificate),
        "not_before": time_text(certificate.not_valid_before_utc),
        "not_after": time_text(certificate.not_valid_after_utc),
        "key": str(kind_of(certificate.public_key()) or "of another kind"),
    }


# Making


def new_key(kind: KeyKind) -> Any:
    """Return a new private key."""
    if kind.type == "rsa":
        return rsa.generate_private_key(65537, kind.bits)
    return ec.generate_private_key(ec.SECP256R1() if kind.type == "ecdsa-p256" else ec.SECP384R1())


def new_root(key: Any, organization: str, lifetime: timedelta, now: datetime) -> x509.Certificate:
    """Return a new root CA with this key."""
    subject = _name((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, "Root CA"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATING)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_ca_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, _hash_for(key))


def new_request(key: Any, profile: Profile) -> x509.CertificateSigningRequest:
    """Return a request for a cluster's intermediate CA. It tells an external CA all that is wanted."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(profile.subject)
    for extension, critical in _intermediate_extensions(key.public_key()):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, _hash_for(key))


# Judging


def end_of(chain: Sequence[x509.Certificate]) -> datetime:
    """Return when a chain ends: when the first of its certificates ends."""
    return min(certificate.not_valid_after_utc for certificate in chain)


def key_belongs(certificate: x509.Certificate, key: Any) -> bool:
    """Return whether a private key is the certificate's own: sign a text, and verify the signature."""
    public_key: Any = certificate.public_key()
    if public_key != key.public_key():
        return False
    algorithm: tuple[Any, ...] = (hashes.SHA256(),)
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = (padding.PKCS1v15(), *algorithm)
    else:
        algorithm = (ec.ECDSA(*algorithm),)
    try:
        public_key.verify(key.sign(b"exomesh.istio", *algorithm), b"exomesh.istio", *algorithm)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_root(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is signed by itself."""
    return certificate.issuer == certificate.subject and issued_by(certificate, certificate)


def chain_problems(chain: Sequence[x509.Certificate], now: datetime, cas_below: int = 0) -> list[str]:
    """Return why a chain cannot serve as the CA of a mesh, in words; empty if it can.

    Every certificate is judged by CA:true, path length, key usage, dates and strength. Each must be signed by
    the next, and the last by itself.

    :param cas_below: the number of levels of CAs that the first one is to have below itself.
    """
    if not chain:
        return ["it holds no certificate"]
    problems = []
    for position, certificate in enumerate(chain, cas_below):
        title = f"certificate {certificate.subject.rfc4514_string()}"
        problems += [f"{title} {problem}" for problem in _ca_problems(certificate, position, now)]
    for certificate, issuer in itertools.pairwise(chain):
        if not issued_by(certificate, issuer):
            problems.append(
                f"certificate {certificate.subject.rfc4514_string()} (serial {serial(certificate)}) is not "
                f"signed by {issuer.subject.rfc4514_string()} (SHA-256 {fingerprint(issuer)})"
            )
    if not is_root(chain[-1]):
        problems.append(
            f"its last certificate {chain[-1].subject.rfc4514_string()} is no root: it is issued by "
            f"{chain[-1].issuer.rfc4514_string()}"
        )
    return problems


def chain_weaknesses(chain: Sequence[x509.Certificate]) -> list[str]:
    """Return weaknesses that Istio accepts today, but that fail with some verifiers or for some purposes."""
    found = []
    for certificate in chain:
        title = f"certificate {certificate.subject.rfc4514_string()}"
        if extension_of(certificate, x509.SubjectKeyIdentifier) is None:
            found.append(f"{title} has no Subject Key Identifier")
        if not is_root(certificate) and extension_of(certificate, x509.AuthorityKeyIdentifier) is None:
            found.append(f"{title} has no Authority Key Identifier, which Python 3.13 and later refuse")
        usage = extension_of(certificate, x509.KeyUsage)
        if usage is not None and not usage.crl_sign:
            found.append(f"{title} may not sign revocation lists (key usage cRLSign)")
    return found


def complete_chain(
    chain: Sequence[x509.Certificate], issuers: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Return the chain of ``chain[0]`` up to its root, made from the given certificates.

    If an issuer is missing, all given certificates are returned.
    """
    if not chain:
        return ()
    pool = [*chain[1:], *issuers]
    complete = [chain[0]]
    while not is_root(complete[-1]):
        issuer = next((item for item in pool if item not in complete and issued_by(complete[-1], item)), None)
        if issuer is None:
            # Keep all that was given, so that the judgement can report what does not fit.
            return tuple(dict.fromkeys([*complete, *pool]))
        complete.append(issuer)
    return tuple(complete)


def _ca_problems(certificate: x509.Certificate, cas_below: int, now: datetime) -> list[str]:
    problems = []
    constraints = extension_of(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        problems.append("is no CA (basic constraints lack CA:TRUE)")
    elif constraints.path_length is not None and constraints.path_length < cas_below:
        problems.append(f"allows {constraints.path_length} CAs below it, but {cas_below} are (pathlen)")
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign:
        problems.append("may not sign certificates (key usage lacks keyCertSign)")
    if certificate.not_valid_before_utc > now:
        problems.append(f"is not valid before {time_text(certificate.not_valid_before_utc)}")
    if certificate.not_valid_after_utc <= now:
        problems.append(f"expired at {time_text(certificate.not_valid_after_utc)}")
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        problems.append(f"is signed with {certificate.signature_hash_algorithm.name}, which Istio refuses")
    public_key = certificate.public_key()
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size < _MIN_RSA_BITS:
        problems.append(f"has an RSA key of {public_key.key_size} bits; {_MIN_RSA_BITS} are the least")
    return problems


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether ``issuer`` signed the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def extension_of(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _intermediate_extensions(public_key: Any) -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_ca_usage(), True),
        (x509.SubjectAlternativeName([x509.DNSName(ISTIOD_NAME)]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
    ]


def _ca_usage() -> x509.KeyUsage:
    # The usages of Istio's own Makefile, plus cRLSign: without it, the CA could never sign a revocation list.
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        key_cert_sign=True,
        crl_sign=True,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _hash_for(key: Any) -> hashes.SHA256 | hashes.SHA384:
    return hashes.SHA384() if getattr(key, "key_size", 0) == 384 else hashes.SHA256()


def _name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
