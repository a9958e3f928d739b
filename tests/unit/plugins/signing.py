# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA that signs what the collection requests, as community.crypto does it for users."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import (
    BACKDATING,
    Authority,
    Profile,
    end_of,
    new_request,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes


def sign(
    authority: Authority, request: x509.CertificateSigningRequest, not_after: datetime, now: datetime
) -> tuple[x509.Certificate, ...]:
    """What is signed, and its chain up to the root; it ends when one of its issuers does, at the latest."""
    issuer = authority.certificate
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(issuer.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATING)
        .not_valid_after(min(not_after, end_of(authority.chain)))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False)
    )
    for extension in request.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return (builder.sign(authority.key, hashes.SHA256()), *authority.chain)


def sign_intermediate(
    authority: Authority, key: Any, profile: Profile, now: datetime
) -> tuple[x509.Certificate, ...]:
    """An intermediate CA with this key, and its chain up to the root."""
    return sign(authority, new_request(key, profile), now + profile.lifetime, now)
