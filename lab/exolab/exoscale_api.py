"""The lab's Exoscale API v2: the part that leads to SKS kubeconfigs, on loopback.

    python -m exolab.exoscale_api --state DIR --listen 127.0.0.1:PORT

DIR/cloud.json says which clusters and keys there are (exolab.cloud_state), DIR/faults.json which faults
are on (exolab.faults); DIR/requests.jsonl gets a line a request. `http://127.0.0.1:PORT/v2` is the base,
which also serves zone ch-gva-2 as the real one does; `/v2/zone` tells the endpoint of every zone.
"""

from __future__ import annotations

import argparse
import base64
import errno
import ipaddress
import json
import re
import select
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from exolab import cloud_state, exoscale_signature
from exolab.cloud_state import ZONES, CloudState, Cluster
from exolab.faults import GENERATE_KUBECONFIG, LIST_ZONES, Fault, Faults

REQUESTS_FILE = "requests.jsonl"
BASE_ZONE = "ch-gva-2"
#: What the API serves to new clusters, newest first; the first is what `latest` means to exo.
VERSIONS = ("1.36.3", "1.35.7", "1.34.9")
DEFAULT_TTL = timedelta(days=30)
MAXIMUM_BODY = 1 << 20

_TARGET = re.compile(r"(?:/zones/(?P<zone>[a-z0-9-]+))?/v2/(?P<path>.+)")
_ROUTES = (
    ("GET", re.compile(r"zone"), LIST_ZONES),
    ("GET", re.compile(r"sks-cluster"), "list-sks-clusters"),
    ("GET", re.compile(r"sks-cluster/(?P<id>[^/]+)"), "get-sks-cluster"),
    ("GET", re.compile(r"sks-cluster-version"), "list-sks-cluster-versions"),
    ("POST", re.compile(r"sks-cluster-kubeconfig/(?P<id>[^/]+)"), GENERATE_KUBECONFIG),
    (
        "GET",
        re.compile(r"sks-cluster/(?P<id>[^/]+)/authority/(?P<authority>[^/]+)/cert"),
        "get-sks-cluster-authority-cert",
    ),
)
#: What YAML reads as a text without quotes.
_PLAIN_TEXT = re.compile(
    r"(?!(?:true|false|yes|no|on|off|null|y|n)$)[A-Za-z](?:[A-Za-z0-9._@:/-]*[A-Za-z0-9])?", re.IGNORECASE
)
_FAULT_MESSAGES = {
    "401": "Authentication required",
    "403": "Forbidden by role policy for compute",
    "404": "Resource not found",
    "409": "Operation already in progress",
    "429": "Too many requests",
    "500": "Internal server error",
    "502": "Bad gateway",
    "503": "Service temporarily unavailable",
}
_HTML = b"<!DOCTYPE html>\n<html><body>Please log in to the network.</body></html>\n"


class ApiError(Exception):
    """An answer other than 200. `body` is sent as JSON."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


def _message(status: int, message: str) -> ApiError:
    return ApiError(status, {"message": message})


def _bad_request(location: str, detail: str) -> ApiError:
    """An RFC 9457 answer, in the shape of the API's newer ones."""
    return ApiError(
        HTTPStatus.BAD_REQUEST,
        {
            "type": "#/http-problem-types/request-invalid-body",
            "title": "Invalid Request Body",
            "detail": "The request body does not match its schema",
            "errors": [{"location": f"$['{location}']", "detail": detail}],
        },
    )


@dataclass(frozen=True)
class Request:
    """A request as far as the answers need it. `arguments` are the variable parts of its path."""

    zone: str
    operation: str | None
    arguments: dict[str, str]
    body: bytes


class ExoscaleApiServer(ThreadingHTTPServer):
    """The API on one loopback address, until `shutdown()`. Raises OSError when the address is in use."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, state_dir: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        """port 0 takes a free one. Raises ValueError for a host that is not loopback."""
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address")
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.faults = Faults(state_dir)
        self.delay = 0.0  # seconds that every answer is held back, as a network would
        self.stopping = threading.Event()
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self._cloud = CloudState()
        self._cloud_version: tuple[int, int] | None = None
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look the host's name up in DNS.
        socketserver.TCPServer.server_bind(self)

    def shutdown(self) -> None:
        self.stopping.set()
        super().shutdown()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that leaves in the middle of an answer is no error of the server.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def origin(self) -> str:
        """Scheme, host and port of this server."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    @property
    def url(self) -> str:
        """What EXOSCALE_API_ENDPOINT must be to use this server."""
        return f"{self.origin}/v2"

    @property
    def cloud(self) -> CloudState:
        """The state in `cloud.json`, read again when the file has changed. Raises CloudStateError."""
        path = self._state_dir / cloud_state.CLOUD_FILE
        with self._lock:
            try:
                status = path.stat()
                version = (status.st_mtime_ns, status.st_ino)
            except FileNotFoundError:
                version = None
            if version is None or version != self._cloud_version:
                self._cloud = cloud_state.load(self._state_dir)
                self._cloud_version = version
            return self._cloud

    def log_request(self, entry: dict[str, Any]) -> None:
        """Add a line to `requests.jsonl`."""
        with self._lock, open(self._state_dir / REQUESTS_FILE, "a") as log:
            log.write(json.dumps(entry) + "\n")

    def answer(self, request: Request) -> dict[str, Any]:
        """The body of the 200 answer. Raises ApiError."""
        operations: dict[str, Callable[[Request], dict[str, Any]]] = {
            LIST_ZONES: self._list_zones,
            "list-sks-clusters": self._list_clusters,
            "get-sks-cluster": self._get_cluster,
            "list-sks-cluster-versions": self._list_versions,
            GENERATE_KUBECONFIG: self._generate_kubeconfig,
            "get-sks-cluster-authority-cert": self._authority_certificate,
        }
        if request.operation is None or request.zone not in ZONES:
            raise _message(HTTPStatus.NOT_FOUND, "Not Found")
        return operations[request.operation](request)

    def _list_zones(self, _request: Request) -> dict[str, Any]:
        return {
            "zones": [
                {
                    "name": zone,
                    "api-endpoint": f"{self.origin}/zones/{zone}/v2",
                    "sos-endpoint": f"{self.origin}/zones/{zone}/sos",
                }
                for zone in ZONES
            ]
        }

    def _list_clusters(self, request: Request) -> dict[str, Any]:
        return {
            "sks-clusters": [
                _describe(cluster) for cluster in self.cloud.clusters if cluster.zone == request.zone
            ]
        }

    def _get_cluster(self, request: Request) -> dict[str, Any]:
        return _describe(self._cluster(request))

    def _list_versions(self, _request: Request) -> dict[str, Any]:
        return {"sks-cluster-versions": list(VERSIONS)}

    def _cluster(self, request: Request) -> Cluster:
        for cluster in self.cloud.clusters:
            if cluster.id == request.arguments["id"] and cluster.zone == request.zone:
                return cluster
        raise _message(HTTPStatus.NOT_FOUND, "SKS cluster not found")

    def _authority_certificate(self, request: Request) -> dict[str, Any]:
        cluster = self._cluster(request)
        authority = request.arguments["authority"]
        if authority not in ("aggregation", "control-plane", "kubelet"):
            raise _message(HTTPStatus.BAD_REQUEST, f"Unknown authority {authority}")
        certificate = Path(cluster.authorities.get(authority, cluster.ca_certificate)).read_bytes()
        return {"cacert": base64.b64encode(certificate).decode()}

    def _generate_kubeconfig(self, request: Request) -> dict[str, Any]:
        cluster = self._cluster(request)
        try:
            body = json.loads(request.body)
        except ValueError:
            raise _message(HTTPStatus.BAD_REQUEST, "Malformed JSON in the request body") from None
        if not isinstance(body, dict):
            raise _message(HTTPStatus.BAD_REQUEST, "The request body must be an object")
        user, groups = body.get("user"), body.get("groups")
        if not isinstance(user, str) or not 1 <= len(user) <= 64:
            raise _bad_request("user", "must be a text of 1 to 64 characters")
        if not isinstance(groups, list) or not all(
            isinstance(group, str) and 1 <= len(group) <= 64 for group in groups
        ):
            raise _bad_request("groups", "must be a list of texts of 1 to 64 characters")
        seconds = body.get("ttl", int(DEFAULT_TTL.total_seconds()))
        if not isinstance(seconds, int) or isinstance(seconds, bool):
            raise _bad_request("ttl", "must be an integer")
        if seconds <= 0:
            raise _bad_request("ttl", "must be > 0")
        try:
            kubeconfig = mint_kubeconfig(cluster, user, groups, timedelta(seconds=seconds))
        except OverflowError:
            raise _bad_request("ttl", "is too large") from None
        return {"kubeconfig": base64.b64encode(kubeconfig.encode()).decode()}


class _Handler(BaseHTTPRequestHandler):
    server: ExoscaleApiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _handle(self) -> None:
        self.close_connection = True
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAXIMUM_BODY))
        request = self._route(body)
        self.server.stopping.wait(self.server.delay)
        fault = self.server.faults.take(request.zone, request.operation)
        if fault is not None and fault.kind in ("hang", "zone-down"):
            self._log(request, None)
            if fault.kind == "hang":
                self._hang()
            return
        status, content_type, content = self._answer(request, fault)
        self._log(request, status)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _route(self, body: bytes) -> Request:
        target = _TARGET.fullmatch(urlsplit(self.path).path)
        if target is None:
            return Request(BASE_ZONE, None, {}, body)
        zone = target["zone"] or BASE_ZONE
        for method, pattern, operation in _ROUTES:
            match = pattern.fullmatch(target["path"])
            if method == self.command and match:
                return Request(zone, operation, match.groupdict(), body)
        return Request(zone, None, {}, body)

    def _answer(self, request: Request, fault: Fault | None) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        if fault is not None and fault.kind == "html":
            return HTTPStatus.OK, "text/html", _HTML
        content_type = "application/json"
        try:
            if fault is not None and fault.kind == "400":
                raise _bad_request("user", "is not accepted (a fault of the lab)")
            if fault is not None and fault.kind in _FAULT_MESSAGES:
                raise _message(int(fault.kind), _FAULT_MESSAGES[fault.kind])
            self._authenticate(request)
            answer = self.server.answer(request)
            if fault is not None and fault.kind == "garbage":
                kubeconfig = base64.b64decode(answer["kubeconfig"])
                garbage = b"&{" + base64.b64encode(kubeconfig) + b"}\n"
                answer["kubeconfig"] = base64.b64encode(garbage + kubeconfig).decode()
            status: int = HTTPStatus.OK
        except ApiError as error:
            status, answer = error.status, error.body
            if "title" in answer:
                content_type = "application/problem+json"
        except (cloud_state.CloudStateError, OSError, ValueError) as error:
            # The lab is broken, not the request: say it where whoever runs the lab looks.
            print(f"exoscale api: {self.command} {self.path}: {error}", file=sys.stderr, flush=True)
            status, answer = HTTPStatus.INTERNAL_SERVER_ERROR, {"message": "Internal server error"}
        return status, content_type, json.dumps(answer).encode()

    def _authenticate(self, request: Request) -> None:
        header = self.headers.get("Authorization")
        if request.operation == LIST_ZONES and header is None:
            return  # new clients ask for the zones unsigned, old ones sign
        secrets = {credential.key: credential.secret for credential in self.server.cloud.credentials}
        try:
            exoscale_signature.verify(header, self.command, self.path, request.body, secrets)
        except exoscale_signature.SignatureError:
            raise _message(HTTPStatus.FORBIDDEN, "Invalid request signature") from None

    def _hang(self) -> None:
        """Stay silent until the client goes away or the server stops."""
        while not self.server.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.1)
            try:
                if readable and not self.connection.recv(4096):
                    return
            except OSError:
                return

    def _log(self, request: Request, status: int | None) -> None:
        self.server.log_request(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "method": self.command,
                "path": urlsplit(self.path).path,
                "status": status,
                "zone": request.zone,
                "operation": request.operation,
            }
        )

    def log_message(self, *_args: object) -> None:
        """Nothing on stderr: `requests.jsonl` has it."""


def _describe(cluster: Cluster) -> dict[str, Any]:
    """A cluster as the API shows it."""
    description: dict[str, Any] = {
        "id": cluster.id,
        "name": cluster.name,
        "description": cluster.description,
        "created-at": cluster.created_at,
        "state": cluster.state,
        "endpoint": cluster.endpoint,
        "version": cluster.version,
        "level": cluster.level,
        "cni": cluster.cni,
        "addons": list(cluster.addons),
        "labels": cluster.labels,
        "nodepools": [asdict(pool) | {"state": "running"} for pool in cluster.nodepools],
    }
    if cluster.auto_upgrade is not None:
        description["auto-upgrade"] = cluster.auto_upgrade
    if cluster.enable_kube_proxy is not None:
        description["enable-kube-proxy"] = cluster.enable_kube_proxy
    return description


def mint_kubeconfig(cluster: Cluster, user: str, groups: list[str], ttl: timedelta) -> str:
    """A kubeconfig of SKS's shape whose client certificate is signed by the cluster's own CA.

    Raises OverflowError for a ttl beyond the calendar, OSError or ValueError for an unusable CA.
    """
    ca_pem = Path(cluster.ca_certificate).read_bytes()
    certificate, key = mint_client_certificate(ca_pem, Path(cluster.ca_key).read_bytes(), user, groups, ttl)
    encoded_ca, encoded_certificate, encoded_key = (
        base64.b64encode(pem).decode() for pem in (ca_pem, certificate, key)
    )
    quoted_user = user if _PLAIN_TEXT.fullmatch(user) else json.dumps(user)
    # SKS's template leaves a line of six blanks where a namespace would be.
    return f"""\
apiVersion: v1
clusters:
  - cluster:
      certificate-authority-data: {encoded_ca}
      server: {cluster.server}
    name: {cluster.id}
contexts:
  - context:
      cluster: {cluster.id}
      user: {quoted_user}
{" " * 6}
    name: {cluster.id}
current-context: {cluster.id}
kind: Config
preferences: {{}}
users:
  - name: {quoted_user}
    user:
      client-certificate-data: {encoded_certificate}
      client-key-data: {encoded_key}
"""


def mint_client_certificate(
    ca_pem: bytes, ca_key_pem: bytes, user: str, groups: list[str], ttl: timedelta
) -> tuple[bytes, bytes]:
    """A client certificate and its new RSA key, both PEM: CN is the user, one O a group."""
    ca = x509.load_pem_x509_certificate(ca_pem)
    ca_key = serialization.load_pem_private_key(ca_key_pem, password=None)
    if not isinstance(ca_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("the key of the CA is neither RSA nor EC")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
    now = datetime.now(UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + ttl)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_encipherment=True,
                content_commitment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_authority_key_identifier(ca), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
    )


def _authority_key_identifier(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """As the CA names its own key, else computed."""
    try:
        identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        identifier = x509.SubjectKeyIdentifier.from_public_key(ca.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _listen_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def main(argv: list[str] | None = None) -> int:
    """Command line; serves until SIGTERM or SIGINT. 0, or 1 with one line when it cannot listen."""
    parser = argparse.ArgumentParser(
        prog="python -m exolab.exoscale_api", description="The lab's Exoscale API v2."
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="directory of cloud.json")
    parser.add_argument(
        "--listen",
        type=_listen_address,
        default="127.0.0.1:0",
        metavar="HOST:PORT",
        help="a loopback address; port 0 takes a free one (default %(default)s)",
    )
    arguments = parser.parse_args(argv)
    host, port = arguments.listen
    try:
        server = ExoscaleApiServer(arguments.state, host, port)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        print(f"exoscale api: {host}:{port} {reason}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"exoscale api: {error}", file=sys.stderr)
        return 1

    def stop(_signal: int, _frame: object) -> None:
        # shutdown() waits for serve_forever(), which this very thread runs.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"exoscale api: {server.url}", flush=True)
    with server:
        server.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
