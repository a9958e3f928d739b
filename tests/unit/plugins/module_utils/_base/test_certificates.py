# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates as browsers and openssl show them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta, timezone

from ansible_collections.exomesh.istio.plugins.module_utils._base.certificates import (
    fingerprint,
    serial,
    time_text,
)
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import KeyKind, new_key, new_root
from cryptography.hazmat.primitives.serialization import Encoding

NOW = datetime(2026, 11, 23, 4, 40, tzinfo=UTC)


def test_fingerprint_and_serial_number_are_those_of_openssl() -> None:
    certificate = new_root(new_key(KeyKind("ecdsa-p256")), "Mesh", timedelta(days=1), NOW)
    words = ["openssl", "x509", "-noout", "-serial", "-fingerprint", "-sha256"]
    shown = subprocess.run(
        words, input=certificate.public_bytes(Encoding.PEM), stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    values = [line.partition("=")[2].lower() for line in shown.splitlines()]
    assert values == [serial(certificate), fingerprint(certificate)]


def test_times_are_of_utc() -> None:
    east = timezone(timedelta(hours=5))
    assert time_text(NOW) == time_text(NOW.astimezone(east)) == "2026-11-23T04:40:00Z"
