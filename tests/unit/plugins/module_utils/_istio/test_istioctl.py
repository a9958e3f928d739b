# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching istioctl from servers and proxies that are slow, endless, or lead elsewhere."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import socket
import ssl
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base import download
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._istio import istioctl
from ansible_collections.exomesh.istio.plugins.module_utils._istio.istioctl import Source, fetch
from kubeconfigs import run_module
from patience import ends_within

RELEASE = "1.31.7"
USER, SECRET = "someone", "open sesame/1"
LOGIN = "someone:open%20sesame%2F1@"
BASIC = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()


def archive(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.type = len(content), 0o755, kind
            entry.linkname = "/bin/sh"
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def program() -> bytes:
    answer = json.dumps({"clientVersion": {"version": RELEASE}})
    return f"#!/bin/sh\necho '{answer}'\n".encode()


GOOD = archive(("istioctl", program()))
Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


class Server(http.server.ThreadingHTTPServer):
    """Answers as it is told; keeps the requests with their headers."""

    daemon_threads = True

    def __init__(self, respond: Respond, context: ssl.SSLContext | None = None) -> None:
        server = self
        self.seen: list[tuple[str, dict[str, str]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append((self.path, {name.lower(): text for name, text in self.headers.items()}))
                with contextlib.suppress(OSError):
                    respond(self)

            do_CONNECT = do_GET  # noqa: N815

            def log_message(self, *_arguments: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_arguments: Any) -> None:
        pass

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"


Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[Server] = []

    def started(respond: Respond, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(respond, context))
        return servers[-1]

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS for 127.0.0.1, which this process trusts."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", "tls.key", "-out", "tls.pem"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem", tmp_path / "tls.key")
    return context


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def send(
    handler: http.server.BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str
) -> None:
    handler.send_response(status)
    for name, text in headers.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.send_header("content-length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def release(handler: http.server.BaseHTTPRequestHandler) -> None:
    """The archive, and beside it its checksum."""
    if ".sha256" in handler.path:
        send(handler, hashlib.sha256(GOOD).hexdigest().encode())
    else:
        send(handler, GOOD)


def run(folder: Path, url: str, **options: Any) -> dict[str, Any]:
    given = {"version": RELEASE, "directory": str(folder / "state"), "url": url, "timeout": 20, **options}
    return run_module("istioctl", **given)


def is_empty(folder: Path) -> bool:
    return not list((folder / "state").iterdir())


# Time


def dribble(handler: http.server.BaseHTTPRequestHandler, text: bytes) -> None:
    for byte in text * 50:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.3)


SLOW: dict[str, Respond] = {
    "says nothing": lambda handler: time.sleep(30),
    "headers": lambda handler: dribble(handler, b"HTTP/1.1 200 OK and so on and so on"),
    "body": lambda handler: (
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        dribble(handler, b"0"),
    )[0],
    "retry later": lambda handler: send(handler, b"", 503, retry_after="21600"),
    "leads in a circle": lambda handler: send(handler, b"", 302, location=handler.path),
}


@pytest.mark.parametrize("respond", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("part", ["checksum", "archive"])
def test_a_fetch_ends_in_time_whatever_the_server_does(
    start: Start, tmp_path: Path, respond: Respond, part: str
) -> None:
    server = start(respond)
    checksum = f"sha256:{hashlib.sha256(GOOD).hexdigest()}" if part == "archive" else None
    with ends_within(6):
        failed = run(tmp_path, f"http://{server.place}/a.tar.gz", timeout=2, checksum=checksum)
    assert failed["failure"]["code"] in ("fetch_timeout", "fetch_failed")
    assert failed["failure"]["cause"]
    assert "istioctl_mirror" in failed["failure"]["next_step"]
    assert f"http://{server.place}/a.tar.gz" in failed["msg"]
    assert is_empty(tmp_path)


def test_a_proxy_that_says_nothing_is_left_in_time(start: Start, tmp_path: Path) -> None:
    proxy = start(lambda handler: time.sleep(30))
    with ends_within(6):
        failed = run(
            tmp_path, "https://releases.invalid/a.tar.gz", timeout=2, proxy=f"http://{LOGIN}{proxy.place}"
        )
    assert failed["failure"]["code"] == "fetch_timeout"
    assert "sesame" not in str(failed)


def test_a_port_that_nobody_answers_is_left_in_time(tmp_path: Path) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            with contextlib.suppress(OSError):
                caller.connect(("127.0.0.1", port))
        with ends_within(6):
            failed = run(tmp_path, f"http://127.0.0.1:{port}/a.tar.gz", timeout=1)
        assert failed["failure"]["code"] == "fetch_timeout"
        for caller in callers:
            caller.close()


# Size


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        handler.wfile.write(bytes(2**16))


@pytest.mark.parametrize("part", ["checksum", "archive"])
def test_what_has_no_end_is_refused(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(istioctl, "_MAX_ARCHIVE", 2**20)
    checksum = "sha256:" + "0" * 64 if part == "archive" else None
    failed = run(tmp_path, f"http://{start(endless).place}/a.tar.gz", checksum=checksum)
    assert failed["failure"]["code"] == "too_large"
    assert is_empty(tmp_path)


def test_a_file_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(istioctl, "_MAX_ARCHIVE", 2**20)
    assert run(tmp_path, "/dev/zero", checksum="sha256:" + "0" * 64)["failure"]["code"] == "too_large"


BAD = {
    "a program without end": archive(("istioctl", bytes(3 * 2**20))),
    "something endless before it": archive(("junk", bytes(3 * 2**20)), ("istioctl", program())),
    "nothing but a long gzip": gzip.compress(bytes(5 * 2**20)),
    "no istioctl": archive(("helm", program())),
    "a link": archive(("istioctl", b""), kind=tarfile.SYMTYPE),
    "half an archive": GOOD[: len(GOOD) // 2],
    "no gzip": b"PK\x03\x04" + bytes(100),
    "broken within": GOOD[:40] + bytes(20) + GOOD[60:],
    "nothing": b"",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_an_archive_that_is_none_or_has_no_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(istioctl, "_MAX_UNPACKED", 2 * 2**20)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    failed = run(tmp_path, str(path), checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    assert failed["failure"]["code"] == "invalid_archive"
    assert is_empty(tmp_path)


def test_the_limits_leave_room_for_a_release() -> None:
    assert 100 * 2**20 < istioctl._MAX_ARCHIVE <= 300 * 2**20
    assert 500 * 2**20 < istioctl._MAX_UNPACKED <= 2**30


# Credentials


def test_those_of_a_url_go_to_its_own_server_only(start: Start, tmp_path: Path) -> None:
    store = start(release)
    mirror = start(
        lambda handler: send(
            handler,
            b"",
            302,
            location=f"/second{handler.path}"
            if not handler.path.startswith("/second")
            else f"http://{store.place}{handler.path.removeprefix('/second')}",
        )
    )
    done = run(tmp_path, f"http://{LOGIN}{mirror.place}/a.tar.gz")
    assert done["changed"], done
    assert {headers.get("authorization") for _path, headers in mirror.seen} == {BASIC}
    assert store.seen
    assert {headers.get("authorization") for _path, headers in store.seen} == {None}
    assert "sesame" not in str(done)


def test_a_proxy_gets_its_own_and_the_server_does_not(start: Start, tmp_path: Path) -> None:
    proxy = start(release)
    done = run(tmp_path, "http://releases.invalid/a.tar.gz", proxy=f"http://{LOGIN}{proxy.place}")
    assert done["changed"], done
    assert [path for path, _headers in proxy.seen] == [
        "http://releases.invalid/a.tar.gz.sha256",
        "http://releases.invalid/a.tar.gz",
    ]
    assert {headers["proxy-authorization"] for _path, headers in proxy.seen} == {BASIC}
    assert "sesame" not in str(done)


def tunnel(handler: http.server.BaseHTTPRequestHandler) -> None:
    host, _colon, port = handler.path.rpartition(":")
    with socket.create_connection((host, int(port))) as server:
        handler.send_response(200)
        handler.end_headers()

        def pump(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while chunk := source.recv(2**16):
                    target.sendall(chunk)
                target.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=pump, args=(server, handler.connection), daemon=True)
        back.start()
        pump(handler.connection, server)
        back.join()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_tls_goes_through_a_proxy(start: Start, tls: ssl.SSLContext, tmp_path: Path, scheme: str) -> None:
    server, proxy = start(release, tls), start(tunnel)
    url = f"https://{LOGIN}{server.place}/a.tar.gz"
    done = run(tmp_path, url, proxy=f"{scheme}me:other@{proxy.place}")
    assert done["changed"], done
    assert {path for path, _headers in proxy.seen} == {server.place}
    assert all("authorization" not in headers for _path, headers in proxy.seen)
    assert all(headers["proxy-authorization"] != BASIC for _path, headers in proxy.seen)
    assert all("proxy-authorization" not in headers for _path, headers in server.seen)
    assert {headers["authorization"] for _path, headers in server.seen} == {BASIC}


def test_a_proxy_of_the_environment_is_used_except_where_it_says(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = start(release), start(release)
    monkeypatch.setenv("http_proxy", f"http://{LOGIN}{proxy.place}")
    assert run(tmp_path / "a", f"http://{server.place}/a.tar.gz")["changed"]
    assert (len(server.seen), len(proxy.seen)) == (0, 2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert run(tmp_path / "b", f"http://{server.place}/a.tar.gz")["changed"]
    assert (len(server.seen), len(proxy.seen)) == (2, 2)


@pytest.mark.parametrize("tls_target", [False, True])
def test_a_proxy_that_refuses_is_told_without_them(start: Start, tmp_path: Path, tls_target: bool) -> None:
    proxy = start(lambda handler: send(handler, SECRET.encode(), 407))
    url = f"http{'s' * tls_target}://releases.invalid/a.tar.gz"
    failed = run(tmp_path, url, proxy=f"http://{LOGIN}{proxy.place}")
    assert failed["failure"]["code"] == "fetch_failed"
    assert "407" in failed["msg"]
    assert "sesame" not in str(failed)


def test_nothing_leads_from_tls_to_plain_text(start: Start, tls: ssl.SSLContext, tmp_path: Path) -> None:
    plain = start(release)
    server = start(
        lambda handler: send(handler, b"", 302, location=f"http://{plain.place}{handler.path}"), tls
    )
    failed = run(tmp_path, f"https://{server.place}/a.tar.gz")
    assert "leads from TLS to http://" in failed["msg"]
    assert plain.seen == []


def test_nothing_leads_to_a_file(start: Start, tmp_path: Path) -> None:
    server = start(lambda handler: send(handler, b"", 302, location="file:///etc/passwd"))
    assert run(tmp_path, f"http://{server.place}/a.tar.gz")["failure"]["code"] == "invalid_url"


@pytest.mark.parametrize(
    "given",
    [
        {"url": "https://me:pa#sesame@server.invalid/a.tar.gz"},
        {"url": "https://me:sesame/x@server.invalid/a.tar.gz"},
        {"url": "https://me:sesame@server.invalid:port/a.tar.gz"},
        {"url": "https://me:sesame@[::1/a.tar.gz"},
        {"url": "ftp://me:sesame@server.invalid/a.tar.gz"},
        {"url": "https://sesame-token@127.0.0.1:1/a.tar.gz"},
        {"url": "https://127.0.0.1:1/a.tar.gz?X-Signature=sesame"},
        {"url": "https://me:sesame@127.0.0.1:1/a.tar.gz"},
        {"url": "/a.tar.gz", "checksum": "sha256:https://me:sesame@127.0.0.1:1/sum"},
        {"url": "https://server.invalid/a.tar.gz", "proxy": "socks5://me:sesame@proxy.invalid:1080"},
        {"url": "https://server.invalid/a.tar.gz", "proxy": "http://me:sesame@proxy.invalid:port"},
        {"url": "https://server.invalid/a.tar.gz", "proxy": "http://me:se/sesame@proxy.invalid"},
        {"url": "https://server.invalid/a.tar.gz", "proxy": "me:sesame@127.0.0.1:1"},
        {"url": "https://server.invalid/a.tar.gz", "proxy": "http://"},
    ],
)
def test_no_error_shows_them_whatever_is_wrong(tmp_path: Path, given: dict[str, str]) -> None:
    failed = run(tmp_path, timeout=4, **given)
    assert failed["failure"]["code"] in ("fetch_failed", "invalid_url", "fetch_timeout")
    assert failed["failure"]["next_step"]
    assert "sesame" not in str(failed)


# Whose checksum counts


def source(server: Server, **changes: Any) -> Source:
    return Source(
        **{
            "url": f"http://{server.place}/a.tar.gz",
            "checksum": None,
            "pinned": None,
            "timeout": 10,
            **changes,
        }
    )


OTHER = "ab" * 32


def test_the_projects_own_file_counts_before_what_others_wrote(start: Start, tmp_path: Path) -> None:
    said: list[str] = []
    server = start(release)
    assert fetch(source(server, pinned=OTHER, of_the_project=True), tmp_path / "a", RELEASE, said.append)
    assert "The project's own counts" in said[0]
    assert OTHER in said[0]
    said.clear()
    pinned = hashlib.sha256(GOOD).hexdigest()
    assert fetch(source(server, pinned=pinned, of_the_project=True), tmp_path / "b", RELEASE, said.append)
    assert said == []


def test_what_the_role_knows_counts_before_the_file_of_a_mirror(start: Start, tmp_path: Path) -> None:
    server = start(release)
    with pytest.raises(ExomeshError) as caught:
        fetch(source(server, pinned=OTHER), tmp_path / "a", RELEASE)
    assert caught.value.code == "checksum_mismatch"
    assert [path for path, _headers in server.seen] == ["/a.tar.gz"]


def test_what_the_role_knows_serves_where_the_projects_file_is_not_to_be_had(
    start: Start, tmp_path: Path
) -> None:
    server = start(
        lambda handler: release(handler) if ".sha256" not in handler.path else send(handler, b"", 404)
    )
    pinned = hashlib.sha256(GOOD).hexdigest()
    assert fetch(source(server, pinned=pinned, of_the_project=True), tmp_path / "a", RELEASE)


@pytest.mark.parametrize("of_the_project", [True, False])
def test_the_users_own_counts_before_all(start: Start, tmp_path: Path, of_the_project: bool) -> None:
    given = {"checksum": f"sha256:{OTHER}", "pinned": hashlib.sha256(GOOD).hexdigest()}
    with pytest.raises(ExomeshError, match="istioctl_checksum says abab"):
        fetch(source(start(release), **given, of_the_project=of_the_project), tmp_path / "a", RELEASE)


def test_a_mirrors_own_file_alone_is_warned_of(start: Start, tmp_path: Path) -> None:
    done = run(tmp_path, f"http://{start(release).place}/a.tar.gz?x=1")
    assert done["changed"]
    assert "a mirror that lies" in str(done["warnings"])
    assert "a.tar.gz.sha256" in str(done["warnings"])
