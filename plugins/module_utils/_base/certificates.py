# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show certificates in results, messages and pages (private to the collection)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate in hex with colons, as browsers and openssl show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":")


def serial(certificate: x509.Certificate) -> str:
    """Return the serial number in hex, as openssl shows it."""
    text = f"{certificate.serial_number:x}"
    return text if len(text) % 2 == 0 else f"0{text}"


def time_text(moment: datetime) -> str:
    """Return a time in the form ``2027-11-23T04:40:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
