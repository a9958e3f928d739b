# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TLS handshake that breaks once does not end a run; who is not trusted is asked once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ClusterUnreachableError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from silent_api import IDENTITY, write_kubeconfig

DECODE_ERROR = bytes.fromhex("15 0303 0002 02 32")
"""A TLS record: the fatal alert of a server that could not read a message."""


class Pages(BaseHTTPRequestHandler):
    """Answers every request in the same way."""

    def do_GET(self) -> None:
        content = json.dumps({"gitVersion": "v1.36.3", "metadata": {"name": "demo"}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        pass


class Breaking(ThreadingHTTPServer):
    """An API that breaks the handshake of its first connections."""

    breaks = 0
    connections = 0
    context = IDENTITY.context()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self.connections += 1
        if self.connections <= self.breaks:
            connection.recv(4096)
            connection.sendall(DECODE_ERROR)
            connection.close()
            raise ConnectionError
        return self.context.wrap_socket(connection, server_side=True), address

    def client(self, folder: Path, authority: bytes = IDENTITY.certificate) -> KubernetesClient:
        """A client that trusts what one authority signed."""
        path = write_kubeconfig(
            folder / "kubeconfig", "vie", f"https://127.0.0.1:{self.server_port}", authority
        )
        return KubernetesClient(str(path))


@pytest.fixture
def api() -> Iterator[Breaking]:
    server = Breaking(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_read_is_sent_again_once(api: Breaking, tmp_path: Path) -> None:
    api.breaks = 1
    assert api.client(tmp_path).version() == "v1.36.3"


def test_who_always_breaks_it_is_told(api: Breaking, tmp_path: Path) -> None:
    api.breaks = 9
    with pytest.raises(ClusterUnreachableError, match="DECODE_ERROR"):
        api.client(tmp_path).version()
    assert api.connections == 2


def test_a_write_is_not_sent_again(api: Breaking, tmp_path: Path) -> None:
    api.breaks = 1
    with pytest.raises(ClusterUnreachableError, match="DECODE_ERROR"):
        api.client(tmp_path).create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}})
    assert api.connections == 1


def test_who_is_not_trusted_is_asked_once(api: Breaking, tmp_path: Path) -> None:
    other = type(IDENTITY).new().certificate
    with pytest.raises(ClusterUnreachableError, match="CA did not sign its certificate"):
        api.client(tmp_path, other).version()
    assert api.connections == 1
