# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption of a private key with a passphrase, as PKCS#8 for openssl, too (private to the collection).

For PKCS#8, the package cryptography uses 2048 rounds. Its builder, which accepts another number, refuses that
format. So this module writes the few bytes around the encrypted key (RFC 8018: PBES2 with PBKDF2, HMAC-SHA256
and AES-256-CBC). The package does all of the cryptography.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import textwrap
from contextlib import suppress

from .._base.errors import ExomeshError

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
    from cryptography.hazmat.primitives.padding import PKCS7

ROUNDS = 600_000
"""Rounds of PBKDF2 with HMAC-SHA256, as OWASP advises.

They take a third of a second, for us and for each guess of a thief.
"""

MIN_CHARACTERS = 12
_MAX_BYTES = 1023  # OpenSSL reads no more

_TITLE = "ENCRYPTED PRIVATE KEY"
_INTEGER, _OCTETS, _NULL, _OID, _SEQUENCE = b"\x02", b"\x04", b"\x05", b"\x06", b"\x30"
_PBES2 = bytes.fromhex("2a864886f70d01050d")
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_SCRYPT = bytes.fromhex("2b06010401da47040b")
_HMAC_SHA256 = bytes.fromhex("2a864886f70d0209")
_AES_256_CBC = bytes.fromhex("60864801650304012a")


def weakness(passphrase: str) -> str | None:
    """Return why a passphrase is too weak to protect a key; None if it is strong enough."""
    if len(passphrase.strip()) < MIN_CHARACTERS:
        return f"it has fewer than {MIN_CHARACTERS} characters"
    if len(set(passphrase)) < MIN_CHARACTERS // 3:
        return "it repeats the same few characters"
    return None


def require_strong(passphrase: str, what: str) -> None:
    """Raise ExomeshError ``passphrase_weak`` unless a passphrase is strong enough to encrypt a key with it.

    :param what: the name of the key, for the message.
    """
    reason = weakness(passphrase)
    if reason is None and len(passphrase.encode()) > _MAX_BYTES:
        reason = f"it has more than {_MAX_BYTES} bytes, which OpenSSL does not read"
    if reason:
        raise ExomeshError(
            f"The passphrase given is too weak for {what}: {reason}. Nothing was changed",
            "passphrase_weak",
            cause="Whoever gets a copy of the file can try as many passphrases as they like",
            next_step="Give another one, such as five random words, in certificates_root_passphrase, "
            "certificates_root_passphrase_file, or the environment variable EXOMESH_ROOT_PASSPHRASE",
        )


def encrypted_pem(key: bytes, passphrase: str) -> str:
    """Return a key (PKCS#8, DER) in encrypted form, as PEM text."""
    salt, vector = os.urandom(16), os.urandom(16)
    secret = PBKDF2HMAC(hashes.SHA256(), 32, salt, ROUNDS).derive(passphrase.encode())
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(vector)).encryptor()
    hidden = encryptor.update(padder.update(key) + padder.finalize()) + encryptor.finalize()
    prf = _der(_SEQUENCE, _der(_OID, _HMAC_SHA256), _der(_NULL))
    rounds = _der(_INTEGER, ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1))
    derivation = _der(_SEQUENCE, _der(_OID, _PBKDF2), _der(_SEQUENCE, _der(_OCTETS, salt), rounds, prf))
    cipher = _der(_SEQUENCE, _der(_OID, _AES_256_CBC), _der(_OCTETS, vector))
    scheme = _der(_SEQUENCE, _der(_OID, _PBES2), _der(_SEQUENCE, derivation, cipher))
    body = base64.b64encode(_der(_SEQUENCE, scheme, _der(_OCTETS, hidden))).decode()
    return "\n".join([f"-----BEGIN {_TITLE}-----", *textwrap.wrap(body, 64), f"-----END {_TITLE}-----", ""])


def is_quick_to_guess(pem: str) -> bool:
    """Return whether a passphrase is cheaper to guess than for a key of :func:`encrypted_pem`."""
    found = re.search(rf"-----BEGIN {_TITLE}-----([\sA-Za-z0-9+/=]+)-----END", pem)
    if not found:
        return "ENCRYPTED" in pem  # the old format of OpenSSL uses one round
    try:
        scheme = _parts(_parts(_parts(base64.b64decode(found[1]))[0])[0])
        if scheme[0] != _PBES2:
            return True  # a scheme from before the year 2000
        derivation = _parts(_parts(scheme[1])[0])
        if derivation[0] != _PBKDF2:
            return derivation[0] != _SCRYPT
        return int.from_bytes(_parts(derivation[1])[1]) < ROUNDS
    except (binascii.Error, IndexError):
        return False  # not a key at all: reading it will report that


def _der(tag: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return tag + bytes([size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return tag + bytes([0x80 | len(length)]) + length + content


def _parts(content: bytes) -> list[bytes]:
    """Return the contents of consecutive DER values."""
    found = []
    while content:
        size, start = content[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(content[2:start])
        found.append(content[start : start + size])
        content = content[start + size :]
    return found
