"""EXO2-HMAC-SHA256, the request signature of Exoscale's API v2: made by clients, checked by the API."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

SCHEME = "EXO2-HMAC-SHA256"
#: Seconds for which a client's signature holds.
LIFETIME = 600


class SignatureError(ValueError):
    """The Authorization header is missing, malformed, expired, of an unknown key or wrong."""


@dataclass(frozen=True)
class Authorization:
    """The parts of an Authorization header; `expires` is in seconds since the epoch."""

    key: str
    expires: int
    signature: str
    signed_query_args: tuple[str, ...] = ()

    def header(self) -> str:
        """The value of the Authorization header."""
        arguments = f",signed-query-args={';'.join(self.signed_query_args)}" if self.signed_query_args else ""
        return f"{SCHEME} credential={self.key}{arguments},expires={self.expires},signature={self.signature}"


def signature(
    secret: str, method: str, path: str, body: bytes, query_values: Iterable[str], expires: int
) -> str:
    """Base64 of the HMAC over method, escaped path, body, signed query values and expiry.

    The line of signed headers is empty, as in every known client.
    """
    message = b"\n".join(
        (f"{method} {path}".encode(), body, "".join(query_values).encode(), b"", str(expires).encode())
    )
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def sign(
    key: str, secret: str, method: str, url: str, body: bytes = b"", expires: int | None = None
) -> Authorization:
    """Sign a request to `url`. Query arguments given more than once are left unsigned, as clients do."""
    parts = urlsplit(url)
    arguments = {
        name: values[0]
        for name, values in sorted(parse_qs(parts.query, keep_blank_values=True).items())
        if len(values) == 1
    }
    until = int(time.time()) + LIFETIME if expires is None else expires
    return Authorization(
        key=key,
        expires=until,
        signature=signature(secret, method, parts.path, body, arguments.values(), until),
        signed_query_args=tuple(arguments),
    )


def parse(header: str) -> Authorization:
    """Take an Authorization header apart. Raises SignatureError."""
    scheme, _, rest = header.partition(" ")
    fields = dict(re.findall(r"([a-z-]+)=([^,]*)", rest))
    try:
        if scheme != SCHEME:
            raise ValueError(f"not {SCHEME}")
        names = fields.get("signed-query-args", "")
        return Authorization(
            key=fields["credential"],
            expires=int(fields["expires"]),
            signature=fields["signature"],
            signed_query_args=tuple(names.split(";")) if names else (),
        )
    except (KeyError, ValueError) as error:
        raise SignatureError(f"malformed Authorization header: {error}") from error


def verify(
    header: str | None,
    method: str,
    target: str,
    body: bytes,
    secrets: Mapping[str, str],
    now: float | None = None,
) -> str:
    """Check the signature of a request and return the API key that made it. Raises SignatureError.

    target: path and query as they came in the request line. secrets: secret of every known API key.
    """
    if not header:
        raise SignatureError("no Authorization header")
    claim = parse(header)
    secret = secrets.get(claim.key)
    if secret is None:
        raise SignatureError("unknown API key")
    if claim.expires <= (time.time() if now is None else now):
        raise SignatureError("expired")
    parts = urlsplit(target)
    arguments = parse_qs(parts.query, keep_blank_values=True)
    try:
        values = [arguments[name][0] for name in claim.signed_query_args]
    except KeyError as error:
        raise SignatureError(f"signed query argument {error} is missing") from error
    expected = signature(secret, method, parts.path, body, values, claim.expires)
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise SignatureError("wrong signature")
    return claim.key
