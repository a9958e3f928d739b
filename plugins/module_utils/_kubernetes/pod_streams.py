# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands in containers and ports of pods, through the API's WebSockets (private to the collection).

The package kubernetes has both, but without a time limit for connecting, with keys in files, and with a
thread for each port. The protocol is small: the first byte of each message is the number of its channel.
"""

from __future__ import annotations

import io
import ssl
from contextlib import suppress
from typing import Any

from .._base.waiting import remaining

with suppress(ImportError):  # require("kubernetes") reports it
    from websocket import (
        ABNF,
        WebSocketConnectionClosedException,
        WebSocketException,
        WebSocketTimeoutException,
    )

STDOUT, STDERR, STATUS = 1, 2, 3
"""Channels of a command: its two outputs, and its status, which comes at the end."""

_DATA, _ERROR = 0, 1
"""Channels of a port."""


class Channels:
    """Messages of an open WebSocket, by channel."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket

    def receive(self, most: float) -> tuple[int, bytes] | None:
        """Return channel and content of the next message; None when the other side has closed.

        :param most: seconds to wait for it.
        :raises TimeoutError: no message came; a part of one that has arrived is kept.
        :raises OSError: the connection broke off.
        """
        while True:
            self._websocket.settimeout(remaining(most))
            try:
                opcode, frame = self._websocket.recv_data_frame(True)
            except WebSocketConnectionClosedException:
                return None
            except WebSocketTimeoutException:
                raise TimeoutError("nothing came in time") from None
            except WebSocketException as error:
                raise OSError(str(error)) from None
            if opcode == ABNF.OPCODE_CLOSE:
                return None
            if opcode in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and frame.data:
                return frame.data[0], bytes(frame.data[1:])

    def send(self, channel: int, content: bytes) -> None:
        """Send a message."""
        self._websocket.send_binary(bytes([channel]) + content)

    def close(self) -> None:
        """Close at once, and give up all that is under way."""
        with suppress(OSError, ValueError):
            self._websocket.shutdown()


class PodPort(io.RawIOBase):
    """A connection to a port of a pod: a file, and enough of a socket for http.client."""

    def __init__(self, channels: Channels, patience: float) -> None:
        super().__init__()
        self._channels = channels
        self._patience = patience
        self._unread = b""
        self._begun: set[int] = set()
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.receive(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def receive(self, most: int) -> bytes:
        """Return the content that came; empty at the end.

        :raises OSError: the pod cannot be reached at that port, or the connection broke off.
        """
        while not self._unread and not self._ended:
            message = self._channels.receive(self._patience)
            if message is None:
                self._ended = True
            elif message[0] not in self._begun:  # the first message of a channel names the port
                self._begun.add(message[0])
            elif message[0] == _ERROR:
                raise OSError(message[1].decode(errors="replace").strip())
            elif message[0] == _DATA:
                self._unread = message[1]
        content, self._unread = self._unread[:most], self._unread[most:]
        return content

    def sendall(self, content: bytes) -> None:
        """Send all of the content."""
        self._channels.send(_DATA, content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Keep the connection open: http.client closes it after an answer, but another request may follow."""

    def served_certificate(self, server_name: str) -> bytes:
        """Return the certificate (DER) that the port serves for TLS. It is not verified.

        :raises OSError: the port does not answer TLS.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        encrypted = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
        while True:
            try:
                encrypted.do_handshake()
            except ssl.SSLWantReadError:
                self.sendall(outgoing.read())
                content = self.receive(65536)
                if not content:
                    raise OSError("the connection was closed before a certificate came") from None
                incoming.write(content)
            else:
                return encrypted.getpeercert(binary_form=True) or b""
