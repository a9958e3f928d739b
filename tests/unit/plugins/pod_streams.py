# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's side of what Kubernetes does over WebSockets: ports of pods, and commands in them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

_BINARY, _CLOSE = 2, 8
_OUTPUT, _STATUS = 1, 3


class Stream:
    """A WebSocket with numbered channels, on the connection of an HTTP request that asks for one."""

    def __init__(self, request: BaseHTTPRequestHandler) -> None:
        self._connection, self._coming = request.connection, request.rfile
        self._sending = threading.Lock()
        request.close_connection = True
        secret = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(secret.encode()).digest()).decode()
        request.send_response(101)
        for name, value in (("upgrade", "websocket"), ("connection", "Upgrade")):
            request.send_header(name, value)
        request.send_header("sec-websocket-accept", accept)
        request.send_header("sec-websocket-protocol", "v4.channel.k8s.io")
        request.end_headers()
        request.wfile.flush()
        request.wfile = io.BytesIO()  # nothing follows, and the client may be gone

    def forward(self, port: int, server: socket.socket) -> None:
        """Be the port of a pod that is at the other end of this connection."""
        self._open(port)
        with server:
            answers = threading.Thread(target=self._answer, args=(server,))
            answers.start()
            while content := self._receive():
                server.sendall(content[1:])
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            answers.join()

    def answer(self, port: int, respond: Callable[[bytes], bytes]) -> None:
        """Be the port of a pod that answers one request for a web page."""
        self._open(port)
        request = b""
        while b"\r\n\r\n" not in request and (content := self._receive()):
            request += content[1:]
        self._send(0, respond(request))
        self._frame(_CLOSE, b"")

    def run(self, output: Iterable[str], exit_code: int) -> None:
        """Be a command, with its output as it comes, that ends in the end."""
        for text in output:
            self._send(_OUTPUT, text.encode())
        failure = {"reason": "ExitCode", "message": str(exit_code)}
        failed = {"status": "Failure", "details": {"causes": [failure]}}
        self._send(_STATUS, json.dumps(failed if exit_code else {"status": "Success"}).encode())
        self._frame(_CLOSE, b"")

    def _open(self, port: int) -> None:
        for channel in (0, 1):  # data and errors; both begin with the port
            self._send(channel, port.to_bytes(2, "little"))

    def _answer(self, server: socket.socket) -> None:
        with suppress(OSError):
            while content := server.recv(65536):
                self._send(0, content)
            self._frame(_CLOSE, b"")

    def _send(self, channel: int, content: bytes) -> None:
        self._frame(_BINARY, bytes([channel]) + content)

    def _frame(self, kind: int, content: bytes) -> None:
        length = len(content)
        size = struct.pack("!B", length) if length < 126 else struct.pack("!BQ", 127, length)
        with self._sending, suppress(OSError):
            self._connection.sendall(bytes([0x80 | kind]) + size + content)

    def _receive(self) -> bytes:
        """What the client sent; nothing at its end."""
        try:
            head = self._coming.read(2)
        except ConnectionError:  # closed in the middle of it
            return b""
        if len(head) < 2 or head[0] & 0x0F == _CLOSE:
            return b""
        length = head[1] & 0x7F
        if length > 125:
            wide = 2 if length == 126 else 8
            length = int.from_bytes(self._coming.read(wide), "big")
        mask = self._coming.read(4)
        content = self._coming.read(length)
        return bytes(byte ^ mask[number % 4] for number, byte in enumerate(content))
