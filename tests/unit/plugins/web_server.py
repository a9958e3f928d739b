# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server that costs nothing while nobody asks, and no time when it ends."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from http.server import ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Waits in accept(): that of the standard library wakes up for each poll, and ends with the next one.

    There are thousands of servers in these tests, a dozen at a time.
    """

    context: ssl.SSLContext | None = None
    """With which it speaks TLS from the next connection on."""

    _ending = False

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        while not self._ending:
            try:
                request, address = self.get_request()
            except OSError:  # a client that went, or the end
                continue
            self.process_request(request, address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is None:
            super().finish_request(request, client_address)
            return
        # A client may go, or not trust us, at any time.
        with suppress(OSError), self.context.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)

    def shutdown(self) -> None:
        self._ending = True
        with suppress(OSError):  # closed already
            self.socket.shutdown(socket.SHUT_RDWR)
