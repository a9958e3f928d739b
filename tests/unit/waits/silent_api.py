# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that take a connection and then give nothing, a little, or no end of it."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter

_DRIP = 0.25
"""Seconds between two bytes."""

_FOR_EVER = 600.0


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str

    @property
    def is_write(self) -> bool:
        return self.method != "GET" and "reviews" not in self.path


class SilentApi:
    """One such server.

    :param way: what it does; one of :data:`WAYS`.
    """

    def __init__(self, way: str) -> None:
        self.way = way
        self.port = 0
        self.last_heard = 0.0
        """When a client last connected or sent something, by the monotonic clock."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, path: Path, name: str) -> Path:
        """Write a kubeconfig for it."""
        return write_kubeconfig(path, name, self.url, IDENTITY.certificate)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        """Take one connection."""
        self.last_heard = time.monotonic()
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, OSError):
            if self.way in _RAW:
                await _RAW[self.way](reader, writer)
            else:
                while request := await self._request(reader):
                    await _ANSWERS[self.way](request, writer)
                    await writer.drain()
        writer.transport.abort()

    async def _request(self, reader: Reader) -> Request | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.last_heard = time.monotonic()
        method, path, _version = head.splitlines()[0].split()
        lengths = [line for line in head.lower().splitlines() if line.startswith("content-length:")]
        if lengths:
            await reader.readexactly(int(lengths[0].partition(":")[2]))
        return Request(method, path)


# Below HTTP


async def _say_nothing(_reader: Reader, _writer: Writer) -> None:
    await asyncio.sleep(_FOR_EVER)


async def _never_end_the_handshake(_reader: Reader, writer: Writer) -> None:
    await _drip(writer, bytes.fromhex("1603030100020000fc0303"))


async def _hang_up(_reader: Reader, _writer: Writer) -> None:
    return


# HTTP


async def _drip(writer: Writer, beginning: bytes) -> None:
    for byte in beginning + b"x" * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(_DRIP)


async def _head_drips(_request: Request, writer: Writer) -> None:
    await _drip(writer, b"HTTP/1.1 200 OK\r\nx-header: ")


async def _body_drips(_request: Request, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
    await _drip(writer, b'{"items": [')


async def _chunks_for_ever(_request: Request, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"5\r\n     \r\n")
        await writer.drain()
        await asyncio.sleep(_DRIP)


async def _half_a_body(_request: Request, writer: Writer) -> None:
    writer.write(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"items": [{'
    )
    await writer.drain()
    await asyncio.sleep(_FOR_EVER)


async def _half_a_body_then_close(_request: Request, writer: Writer) -> None:
    writer.write(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"items": [{'
    )
    await writer.drain()
    raise ConnectionError


def _refuse(status: int, reason: str, headers: str = "") -> Callable[[Request, Writer], Awaitable[None]]:
    body = json.dumps(
        {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": reason}
    )

    async def answer(_request: Request, writer: Writer) -> None:
        _write(writer, status, body, headers)

    return answer


def _write(writer: Writer, status: int, body: str, headers: str = "") -> None:
    writer.write(
        f"HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\n{headers}"
        f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )


def _empty(request: Request, writer: Writer) -> None:
    """As a cluster in which there is nothing; every group has the same kinds."""
    path = request.path.partition("?")[0]
    parts = path.strip("/").split("/")
    deep = parts[2:] if parts[0] == "api" else parts[3:]
    if path == "/version":
        answer: Any = {"gitVersion": "v1.34.1", "major": "1", "minor": "34"}
    elif path == "/apis":
        answer = {"groups": []}
    elif not deep:
        answer = {"resources": []}
    elif deep[0] == "namespaces" and len(deep) == 2:
        answer = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": deep[1], "uid": "1"}}
    elif len(deep) in (1, 3) and (deep[0] != "namespaces" or len(deep) == 3):
        answer = {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []}
        if "reviews" in path:
            answer = {"status": {"allowed": True, "userInfo": {"username": "admin"}}}
    else:
        _write(writer, 404, '{"kind": "Status", "reason": "NotFound", "code": 404}')
        return
    _write(writer, 200, json.dumps(answer))


async def _conflict_of_writes(request: Request, writer: Writer) -> None:
    await (_refuse(409, "Conflict")(request, writer) if request.is_write else _given(request, writer))


async def _silence_after_writes(request: Request, writer: Writer) -> None:
    if request.is_write:
        await asyncio.sleep(_FOR_EVER)
    _empty(request, writer)


async def _webhook_away(request: Request, writer: Writer) -> None:
    told = 'Internal error occurred: failed calling webhook "validation.istio.io": no endpoints'
    await (_refuse(500, told)(request, writer) if request.is_write else _given(request, writer))


async def _given(request: Request, writer: Writer) -> None:
    _empty(request, writer)


_RAW: dict[str, Callable[[Reader, Writer], Awaitable[None]]] = {
    "says nothing": _say_nothing,
    "handshake never ends": _never_end_the_handshake,
    "hangs up": _hang_up,
}
_ANSWERS: dict[str, Callable[[Request, Writer], Awaitable[None]]] = {
    "head byte by byte": _head_drips,
    "body byte by byte": _body_drips,
    "chunks for ever": _chunks_for_ever,
    "half a body, then silence": _half_a_body,
    "half a body, then close": _half_a_body_then_close,
    "409": _refuse(409, "Conflict"),
    "429": _refuse(429, "TooManyRequests", "retry-after: 21600\r\n"),
    "429, soon": _refuse(429, "TooManyRequests", "retry-after: 1\r\n"),
    "503": _refuse(503, "ServiceUnavailable"),
    "reads well, writes conflict": _conflict_of_writes,
    "reads well, says nothing to writes": _silence_after_writes,
    "reads well, webhook away": _webhook_away,
}
WAYS = (*_RAW, *_ANSWERS)
"""What a server may do."""

READS_WELL = tuple(way for way in WAYS if way.startswith("reads well"))


_SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class _Identity:
    certificate: bytes
    key: bytes

    @classmethod
    def new(cls) -> _Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "silent")])
        now = datetime.datetime.now(datetime.UTC)
        address = ipaddress.ip_address("127.0.0.1")
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return cls(certificate.public_bytes(pem), private)

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.certificate + self.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context


IDENTITY = _Identity.new()


def write_kubeconfig(path: Path, name: str, url: str, authority: bytes) -> Path:
    """Write a kubeconfig with a token, which trusts what one authority signed."""
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(authority).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": "a-token"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


class Servers:
    """Many of them in one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._context = IDENTITY.context()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, way: str, tls: bool = True) -> SilentApi:
        """Start one that behaves in that way."""
        api = SilentApi(way)
        context = self._context if tls and way not in _RAW else None

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(api.serve, "127.0.0.1", 0, ssl=context)

        server = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(60)
        api.port = server.sockets[0].getsockname()[1]
        return api

    def close(self) -> None:
        """End them all."""

        def end() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_later(0.5, self._loop.stop)

        self._loop.call_soon_threadsafe(end)
        self._thread.join(10)
        self._loop.close()
