# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check and describe the certificates in kubeconfigs (private to the collection).

No code here puts a key, a token or a line of the file into a message or a description.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .._base.certificates import fingerprint, serial, time_text
from .._base.requirements import require
from .._base.text import printable
from .kubeconfig import Entry, Kubeconfig, KubeconfigError

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """The facts about an X.509 certificate that may be shown."""

    subject: str
    common_name: str
    organizations: tuple[str, ...]
    serial: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    public_key: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """The fingerprint without colons, as it is in the records of kubeconfigs."""
        return self.fingerprint.replace(":", "")

    @classmethod
    def load_all(cls, pem: bytes) -> list[Certificate]:
        """Return the certificates of a PEM bundle, in order. Raise ValueError when one is no certificate."""
        return [cls._from_x509(certificate) for certificate in x509.load_pem_x509_certificates(pem)]

    @classmethod
    def _from_x509(cls, certificate: x509.Certificate) -> Certificate:
        def values(oid: x509.ObjectIdentifier) -> tuple[str, ...]:
            attributes = certificate.subject.get_attributes_for_oid(oid)
            return tuple(str(attribute.value) for attribute in attributes)

        return cls(
            subject=certificate.subject.rfc4514_string(),
            common_name=next(iter(values(NameOID.COMMON_NAME)), ""),
            organizations=values(NameOID.ORGANIZATION_NAME),
            serial=serial(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            fingerprint=fingerprint(certificate),
            public_key=certificate.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
        )


def certificates_of(entry: Entry) -> tuple[Certificate | None, list[Certificate]]:
    """Return the client certificate, if there is one, and the certificates of the CA bundle.

    Raise KubeconfigError when one cannot be read, or when key and certificate are not a pair.
    """
    require("cryptography")
    client: Certificate | None = None
    authorities: list[Certificate] = []
    part = "certificate-authority-data"
    try:
        if pem := entry.certificate_authority:
            authorities = Certificate.load_all(pem)
        part = "client-certificate-data"
        if pem := entry.client_certificate:
            client = Certificate.load_all(pem)[0]
            part = "client-key-data"
            # Skip the check of the key's primes, which takes long. A broken key fails when it is used.
            key = serialization.load_pem_private_key(
                entry.client_key or b"", password=None, unsafe_skip_rsa_key_validation=True
            )
            public_key = key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            if public_key != client.public_key:
                raise KubeconfigError(
                    f"client key and client certificate of context {entry.name} are not a pair",
                    "kubeconfig_invalid",
                )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own message might quote what it could not read.
        message = f"{part} of context {entry.name} cannot be read"
        raise KubeconfigError(message, "kubeconfig_invalid") from None
    return client, authorities


def describe(entry: Entry) -> dict[str, Any]:
    """Return what may be shown of the entry: no key, no token. RETURN of the modules lists the fields."""
    client, authorities = certificates_of(entry)
    description: dict[str, Any] = {
        "context": entry.name,
        "server": entry.server,
        "authentication": entry.authentication,
        "ca_fingerprints": [authority.fingerprint for authority in authorities],
        "ca_not_after": time_text(min(each.not_after for each in authorities)) if authorities else None,
    }
    if token := entry.user.get("token"):
        description["token_sha256"] = hashlib.sha256(str(token).encode()).hexdigest()[:16]
    if client:
        description |= {
            "subject": client.subject,
            "user": client.common_name,
            "groups": list(client.organizations),
            "not_before": time_text(client.not_before),
            "not_after": time_text(client.not_after),
            "fingerprint": client.fingerprint,
            "serial": client.serial,
        }
    return description


def described(text: str | None) -> str:
    """Return the contexts of a kubeconfig without secrets, for a diff; empty for None, which is no file."""
    if text is None:
        return ""
    try:
        config = Kubeconfig.parse(text)
    except KubeconfigError:
        return "(not a kubeconfig)\n"
    blocks = []
    for name in config.context_names:
        try:
            description = describe(config.entry(name))
        except KubeconfigError:
            description = {"context": f"{name} (cannot be read)"}
        blocks.append("".join(f"{key}: {value}\n" for key, value in description.items() if value is not None))
    return printable("\n".join([*blocks, f"current-context: {config.current_context}\n"]), None)
