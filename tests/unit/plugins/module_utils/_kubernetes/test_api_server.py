"""The check of an API server, against a server that speaks TLS as one does and wants client certificates."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubeconfigs import CA_OF_TESTS as CA
from kubeconfigs import NOW, Pair, issue, kubeconfig, run_module, secrets_of

CLIENT = issue("exomesh-a", ("system:masters",), issuer=CA)


@dataclass
class Behaviour:
    """What the API server says."""

    version: str = "v1.36.3"
    clock: float = 0.0
    forbidden: set[str] = field(default_factory=set)
    """Resources that the user may do nothing with; all others are allowed, as is everything without them."""
    status: int = 200


class Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def do_GET(self) -> None:
        self._answer({"gitVersion": self.behaviour.version})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["kind"] == "SelfSubjectReview":
            certificate: Any = self.connection.getpeercert()  # type: ignore[attr-defined]
            subject = [pair for part in certificate["subject"] for pair in part]
            name = next(value for key, value in subject if key == "commonName")
            groups = [value for key, value in subject if key == "organizationName"]
            self._answer({"status": {"userInfo": {"username": name, "groups": groups}}})
        else:
            resource = body["spec"]["resourceAttributes"]["resource"]
            forbidden = self.behaviour.forbidden
            self._answer({"status": {"allowed": resource not in forbidden | ({"*"} if forbidden else set())}})

    def _answer(self, content: dict[str, Any]) -> None:
        payload = json.dumps(content if self.behaviour.status == 200 else {"message": "no"}).encode()
        self.send_response_only(self.behaviour.status)
        self.send_header("Date", formatdate(time.time() + self.behaviour.clock, usegmt=True))
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@dataclass
class Cluster:
    behaviour: Behaviour
    server: str
    directory: Path

    def kubeconfig(self, ca: Pair = CA, client: Pair = CLIENT, server: str | None = None) -> str:
        path = self.directory / "kubeconfig"
        path.write_text(kubeconfig("a", server or self.server, ca, client))
        return str(path)

    def check(self, path: str | None = None, **options: Any) -> dict[str, Any]:
        return run_module(
            "kubeconfig_info", kubeconfig=path or self.kubeconfig(), cluster="vienna", timeout=5, **options
        )


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that do not trust us hang up; that is what is tested."""


def start(certificate: Pair, behaviour: Behaviour, directory: Path) -> Server:
    pem = directory / "server.pem"
    pem.write_bytes(certificate.pem + certificate.key_pem)
    (directory / "ca.pem").write_bytes(CA.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"behaviour": behaviour}))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.fixture
def certificate() -> Pair:
    return issue("kube-apiserver", issuer=CA, address="127.0.0.1")


@pytest.fixture
def cluster(tmp_path: Path, certificate: Pair) -> Iterator[Cluster]:
    behaviour = Behaviour()
    server = start(certificate, behaviour, tmp_path)
    yield Cluster(behaviour, f"https://127.0.0.1:{server.server_address[1]}", tmp_path)
    server.shutdown()
    server.server_close()


def test_a_good_one(cluster: Cluster) -> None:
    result = cluster.check(
        min_version="1.32", max_version="1.36", rights=[{"verb": "create", "resource": "namespaces"}]
    )
    assert not result.get("failed"), result
    assert (result["username"], result["user_groups"]) == ("exomesh-a", ["system:masters"])
    assert result["version"] == "1.36.3"
    assert abs(result["clock_skew"]) < 10
    assert result["subject"] == "CN=exomesh-a,O=system:masters"
    assert not result.get("warnings")
    text = (cluster.directory / "kubeconfig").read_text()
    assert not [secret for secret in secrets_of(text) if secret in json.dumps(result)]


def test_nothing_listens(cluster: Cluster) -> None:
    result = cluster.check(cluster.kubeconfig(server="https://127.0.0.1:1"))
    assert result["failure"]["code"] == "cluster_unreachable"
    assert result["msg"].startswith("cluster vienna: The API server https://127.0.0.1:1 does not answer.")
    assert "Nothing listens there" in result["msg"]


def test_a_name_that_is_none(cluster: Cluster) -> None:
    result = cluster.check(cluster.kubeconfig(server="https://gone.invalid:443"))
    assert result["failure"]["code"] == "cluster_unreachable"
    assert "Its name cannot be resolved" in result["msg"]


def test_a_proxy_that_is_none(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    result = cluster.check()
    assert result["failure"]["code"] == "cluster_unreachable"
    assert "The proxy to it does not answer" in result["msg"]


def test_another_ca(cluster: Cluster) -> None:
    other = issue("control-plane-ca", not_after=NOW + timedelta(days=9))
    result = cluster.check(cluster.kubeconfig(ca=other))
    assert result["failure"]["code"] == "untrusted_server"
    assert "Fetch a new kubeconfig" in result["msg"]


@pytest.mark.parametrize(
    "certificate",
    [issue("kube-apiserver", issuer=CA, address="127.0.0.2")],
    ids=["for another address"],
)
def test_another_address(cluster: Cluster) -> None:
    result = cluster.check()
    assert result["failure"]["code"] == "untrusted_server"
    assert "for another name or address" in result["msg"]


@pytest.mark.parametrize(
    "certificate",
    [issue("kube-apiserver", issuer=CA, address="127.0.0.1", not_before=NOW + timedelta(days=1))],
    ids=["valid from tomorrow"],
)
def test_a_clock_that_is_behind(cluster: Cluster) -> None:
    result = cluster.check()
    assert result["failure"]["code"] == "untrusted_server"
    assert "Set the clock of this machine" in result["msg"]


@pytest.mark.parametrize(
    "certificate",
    [issue("kube-apiserver", issuer=CA, address="127.0.0.1", not_after=NOW - timedelta(minutes=1))],
    ids=["expired"],
)
def test_a_server_certificate_that_expired(cluster: Cluster) -> None:
    assert "The server's certificate has expired" in cluster.check()["msg"]


@pytest.mark.parametrize(
    "certificate",
    [issue("kube-apiserver", issuer=CA, address="127.0.0.1", identifiers=False)],
    ids=["without AKI"],
)
def test_a_missing_identifier_is_taken_with_every_python(cluster: Cluster) -> None:
    """By its own default Python 3.13 would refuse it, and kubectl does not."""
    assert not cluster.check().get("failed")


def test_credentials_that_are_not_accepted(cluster: Cluster) -> None:
    cluster.behaviour.status = 401
    result = cluster.check()
    assert result["failure"]["code"] == "credentials_rejected"
    assert "force=true" in result["msg"]


def test_a_server_that_fails(cluster: Cluster) -> None:
    cluster.behaviour.status = 503
    result = cluster.check()
    assert result["failure"]["code"] == "kubernetes_api_error"
    assert result["failure"]["details"]["status"] == 503
    assert "control plane" in result["msg"]


def test_versions(cluster: Cluster) -> None:
    cluster.behaviour.version = "v1.31.9"
    result = cluster.check(min_version="1.32")
    assert result["failure"]["code"] == "kubernetes-version"
    assert "vienna: Kubernetes 1.31.9 is older than 1.32, the oldest that is accepted" in result["msg"]
    cluster.behaviour.version = "v1.38.0-alpha.1"
    assert "newer than 1.36" in str(cluster.check(max_version="1.36")["warnings"])
    assert cluster.check(max_version="new")["failure"]["code"] == "invalid_version"


def test_clocks_that_differ(cluster: Cluster) -> None:
    cluster.behaviour.clock = 300.0
    result = cluster.check()
    assert 290 < result["clock_skew"] < 310
    assert "cluster vienna: [clock] The API server's clock is +" in str(result["warnings"])
    assert not cluster.check(max_clock_skew=0).get("warnings")


def test_missing_rights(cluster: Cluster) -> None:
    cluster.behaviour.forbidden = {"clusterroles", "secrets"}
    result = cluster.check(
        rights=[
            {"verb": "create", "group": "rbac.authorization.k8s.io", "resource": "clusterroles"},
            {"verb": "create", "resource": "secrets", "namespace": "istio-system"},
            {"verb": "create", "resource": "namespaces"},
        ]
    )
    missing = ["create clusterroles.rbac.authorization.k8s.io", "create secrets in istio-system"]
    assert result["failure"]["details"]["missing_rights"] == missing
    assert "system:masters" in result["msg"]


def test_no_file(tmp_path: Path) -> None:
    result = run_module("kubeconfig_info", kubeconfig=str(tmp_path / "none"), cluster="vienna")
    assert result["failure"]["code"] == "kubeconfig_missing"
    assert result["msg"].startswith("cluster vienna: ")
