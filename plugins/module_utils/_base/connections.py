# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that end with the task's time limit; keys that touch no disk (private to the collection).

urllib3 limits the time of each read, but not of all reads together. So a server that sends a byte now and
then holds a client for ever, and so does a server that asks for patience. Here, each operation of a socket
may take the time that is left of the task.

Python loads a client's key from a file only. The file that it gets here is in memory and has no name.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from .errors import ExomeshError
from .waiting import in_time, pause, remaining

with suppress(ImportError):  # require() reports it
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

CONNECT_SECONDS = 10.0
"""Seconds that each step to a connection may take: resolving the name, TCP, and TLS."""

PATIENCE = 30.0
"""Seconds without a byte after which the other side counts as dead."""

MAX_RETRY_AFTER = 60.0
"""Seconds that a server may ask us to wait. A request for more ends with an error."""


class BusyServerError(ExomeshError):
    """A server asks us to come back so late that waiting makes no sense."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"The server asks to be asked again in {seconds:.0f} s, which is too late for this task",
            "server_busy",
            cause="It limits requests, or a proxy before it does",
            next_step="Run it again later, and look what else asks this server so often",
        )


class _BoundedMixin:
    """Socket operations that are limited to the time left, or to their own time-out if that is shorter."""

    patience: float = PATIENCE

    def settimeout(self, value: float | None) -> None:
        self.patience = PATIENCE if value is None else value
        super().settimeout(value)  # type: ignore[misc]

    def recv_into(self, *arguments: Any) -> Any:
        self._bound()
        return super().recv_into(*arguments)  # type: ignore[misc]

    def recv(self, *arguments: Any) -> Any:
        self._bound()
        return super().recv(*arguments)  # type: ignore[misc]

    def send(self, *arguments: Any) -> Any:
        self._bound()
        return super().send(*arguments)  # type: ignore[misc]

    def sendall(self, *arguments: Any) -> Any:
        self._bound()
        return super().sendall(*arguments)  # type: ignore[misc]

    def _bound(self) -> None:
        super().settimeout(remaining(self.patience))  # type: ignore[misc]


class BoundedSocket(_BoundedMixin, socket.socket):
    """A socket whose operations end with the task's time limit."""


class BoundedSslSocket(_BoundedMixin, ssl.SSLSocket):
    """A TLS socket whose operations end with the task's time limit."""

    def do_handshake(self, block: bool = False) -> None:
        socket.socket.settimeout(self, remaining(CONNECT_SECONDS))
        super().do_handshake(block)

    def unwrap(self) -> socket.socket:
        self._bound()
        return super().unwrap()


def open_socket(host: str, port: int) -> BoundedSocket:
    """Connect to the first address of a host that answers.

    :raises OSError: no address answers, or the name cannot be resolved in time.
    """
    addresses = in_time(
        lambda: socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM), CONNECT_SECONDS
    )
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _name, address in addresses:
        connection = BoundedSocket(family, kind, protocol)
        try:
            connection.settimeout(remaining(CONNECT_SECONDS))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def client_context(
    authorities: bytes | None, certificate: bytes | None, key: bytes | None, verify: bool = True
) -> ssl.SSLContext:
    """Return the TLS settings of a client, made from PEM texts. No file is written.

    Like kubectl, the client trusts every certificate of ``authorities``. It does not insist on extensions
    that some clusters' certificates lack.

    :param authorities: certificates that may have signed the server's; the system's when None.
    :raises ValueError: one of the PEM texts is not what it should be. The message does not quote it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = BoundedSslSocket
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authorities is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise ValueError("the certificate of its authority cannot be read") from None
    if certificate:
        with _file_in_memory(certificate + b"\n" + (key or b"")) as path:
            try:
                context.load_cert_chain(path, password=_no_passphrase)
            except (ssl.SSLError, ValueError):
                raise ValueError("client certificate and key cannot be read, or are not a pair") from None
    return context


def _no_passphrase() -> str:
    """Return an empty passphrase, so that OpenSSL does not ask for one in the terminal."""
    return ""


@contextmanager
def _file_in_memory(content: bytes) -> Iterator[str]:
    """Yield a path at which only this process can read the content, once."""
    if hasattr(os, "memfd_create"):
        reader = os.memfd_create("exomesh")
        folder = "/proc/self/fd"
        writer = os.dup(reader)
    else:  # as on macOS: a pipe; a certificate and a key fit into its buffer
        reader, writer = os.pipe()
        folder = "/dev/fd"
    try:
        with os.fdopen(writer, "wb") as stream:
            stream.write(content)
        yield f"{folder}/{reader}"
    finally:
        os.close(reader)


def connection_pool(
    context: ssl.SSLContext, connections: int, proxy: str | None = None, **options: Any
) -> Any:
    """Make a urllib3 pool manager whose connections end with the task's time limit.

    :param connections: connections to one server at most; a thread that needs another waits for a free one.
    :param proxy: URL of a proxy, with user and password if it needs them.
    :param options: further options of urllib3's connection pool.
    """
    options |= {
        "ssl_context": context,
        "cert_reqs": context.verify_mode,
        "maxsize": connections,
        "block": True,
    }
    if not proxy:
        manager = urllib3.PoolManager(**options)
    elif proxy.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager

        return SOCKSProxyManager(proxy, **options)  # opens its sockets itself
    else:
        manager = urllib3.ProxyManager(proxy, proxy_headers=proxy_headers(proxy), **options)
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager


def proxy_headers(proxy: str) -> Mapping[str, str]:
    """Return the header with the credentials of a proxy's URL; empty without credentials."""
    credentials = urllib3.util.parse_url(proxy).auth
    if not credentials:
        return {}
    from urllib.parse import unquote

    return dict(urllib3.util.make_headers(proxy_basic_auth=unquote(credentials)))


def retries() -> Any:
    """Return the retry policy: send again what the server did not receive, and reads whose answer was lost.

    The wait that an answer 429 or 503 asks for is kept, where that makes sense. A request that may have had
    an effect is never sent twice.
    """
    return _Retry(connect=3, read=1, status=3, other=0, redirect=0, backoff_factor=0.3, raise_on_status=False)


def broke_off(error: Exception) -> bool:
    """Return whether a connection ended in the middle of an answer or of its TLS handshake.

    Then another connection may well work. A certificate that is not trusted is another error, and does not
    count here.
    """
    reason = getattr(error, "reason", error)
    if isinstance(reason, urllib3.exceptions.SSLError):
        return not isinstance(reason.args[0] if reason.args else None, ssl.SSLCertVerificationError)
    return isinstance(error, urllib3.exceptions.ProtocolError)


with suppress(NameError):

    class _BoundedConnectionMixin:
        def _new_conn(self: Any) -> socket.socket:
            # Unlike host, _dns_host keeps a dot at the end of a name. It has no brackets.
            try:
                return open_socket(self._dns_host, self.port)
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error
            except TimeoutError as error:
                message = f"no connection to {self.host}:{self.port} within {CONNECT_SECONDS:g} s"
                raise ConnectTimeoutError(self, message) from error
            except OSError as error:
                raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error

    class _HttpConnection(_BoundedConnectionMixin, HTTPConnection):
        pass

    class _HttpsConnection(_BoundedConnectionMixin, HTTPSConnection):
        pass

    class _HttpPool(HTTPConnectionPool):
        ConnectionCls = _HttpConnection

    class _HttpsPool(HTTPSConnectionPool):
        ConnectionCls = _HttpsConnection

    class _Retry(urllib3.Retry):
        def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
            # A request answered with 429 and Retry-After was not carried out: any method may be sent again.
            return (status_code == 429 and has_retry_after) or super().is_retry(
                method, status_code, has_retry_after
            )

        def sleep(self, response: Any = None) -> None:
            asked = self.get_retry_after(response) if response is not None else None
            if asked and asked > min(MAX_RETRY_AFTER, remaining()):
                raise BusyServerError(asked)
            pause(asked or self.get_backoff_time())
