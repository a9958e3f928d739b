# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server that costs nothing while nobody asks, and no time when it ends."""

from __future__ import annotations

import socket
from contextlib import suppress
from http.server import ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Waits in accept(): that of the standard library wakes up for each poll, and ends with the next one.

    There are thousands of servers in these tests, a dozen at a time.
    """

    _ending = False

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        while not self._ending:
            try:
                request, address = self.get_request()
            except OSError:  # a client that went, or the end
                continue
            self.process_request(request, address)

    def shutdown(self) -> None:
        self._ending = True
        with suppress(OSError):  # closed already
            self.socket.shutdown(socket.SHUT_RDWR)
