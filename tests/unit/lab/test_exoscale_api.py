"""The lab's Exoscale API, asked by Exoscale's own Python client and by hand."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

if TYPE_CHECKING:
    from lab_fixtures import ExoscaleApi

x509 = pytest.importorskip("cryptography.x509")

from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402
from exolab import cloud_state, exoscale_signature  # noqa: E402
from exolab.exoscale_api import ExoscaleApiServer, mint_client_certificate  # noqa: E402

ZONES = ["at-vie-1", "at-vie-2", "bg-sof-1", "ch-dk-2", "ch-gva-2", "de-fra-1", "de-muc-1", "hr-zag-1"]
LAB = Path(__file__).resolve().parents[3] / "lab"


@pytest.fixture
def client_of(exoscale_api: ExoscaleApi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Exoscale's own client, for a zone or for the base endpoint."""
    v2 = pytest.importorskip("exoscale.api.v2")
    monkeypatch.setenv("NO_PROXY", "*")

    def make(zone: str | None = None, secret: str = exoscale_api.secret) -> Any:
        url = exoscale_api.zone_url(zone) if zone else exoscale_api.url
        return v2.Client(exoscale_api.key, secret, url=url)

    return make


def ask(
    api: ExoscaleApi,
    path: str,
    method: str = "GET",
    body: bytes = b"",
    signed: bool = True,
    zone: str | None = None,
    expires: int | None = None,
) -> tuple[int, str, bytes]:
    """One request by hand: status, content type, body."""
    url = (api.zone_url(zone) if zone else api.url) + path
    headers = {}
    if signed:
        headers["Authorization"] = exoscale_signature.sign(
            api.key, api.secret, method, url, body, expires
        ).header()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request(method, urlsplit(url).path, body or None, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers["Content-Type"], content


def decode(answer: dict[str, str]) -> str:
    return base64.b64decode(answer["kubeconfig"], validate=True).decode()


def test_every_zone_is_listed_signed_or_not(exoscale_api: ExoscaleApi) -> None:
    for signed in (True, False):
        status, _, content = ask(exoscale_api, "/zone", signed=signed)
        assert status == 200
        zones = {zone["name"]: zone["api-endpoint"] for zone in json.loads(content)["zones"]}
        assert sorted(zones) == ZONES
        assert zones["de-fra-1"] == exoscale_api.zone_url("de-fra-1")


def test_the_official_client_reads_clusters(exoscale_api: ExoscaleApi, client_of: Callable[..., Any]) -> None:
    alpha = exoscale_api.cluster("alpha")
    client = client_of("de-fra-1")
    assert len(client.list_zones()["zones"]) == len(ZONES)
    [listed] = client.list_sks_clusters()["sks-clusters"]
    assert listed == client.get_sks_cluster(id=alpha.id)
    assert (listed["id"], listed["name"], listed["labels"]) == (alpha.id, "alpha", {"mesh": "m1"})
    assert (listed["auto-upgrade"], listed["enable-kube-proxy"]) == (False, True)
    assert listed["nodepools"][0]["size"] == 2
    assert client.list_sks_cluster_versions()["sks-cluster-versions"][0] == "1.36.3"
    certificate = client.get_sks_cluster_authority_cert(id=alpha.id, authority="control-plane")["cacert"]
    assert base64.b64decode(certificate) == Path(alpha.ca_certificate).read_bytes()


def test_the_base_is_zone_ch_gva_2(client_of: Callable[..., Any]) -> None:
    assert [cluster["name"] for cluster in client_of().list_sks_clusters()["sks-clusters"]] == ["gamma"]


def test_a_kubeconfig_has_the_shape_that_sks_gives_it(
    exoscale_api: ExoscaleApi, client_of: Callable[..., Any]
) -> None:
    alpha = exoscale_api.cluster("alpha")
    text = decode(
        client_of("de-fra-1").generate_sks_cluster_kubeconfig(id=alpha.id, user="ansible", groups=["a:b"])
    )
    document = yaml.safe_load(text)
    ca = base64.b64encode(Path(alpha.ca_certificate).read_bytes()).decode()
    user = document["users"][0]["user"]
    assert text.splitlines() == [
        "apiVersion: v1",
        "clusters:",
        "  - cluster:",
        f"      certificate-authority-data: {ca}",
        f"      server: {alpha.server}",
        f"    name: {alpha.id}",
        "contexts:",
        "  - context:",
        f"      cluster: {alpha.id}",
        "      user: ansible",
        "      ",
        f"    name: {alpha.id}",
        f"current-context: {alpha.id}",
        "kind: Config",
        "preferences: {}",
        "users:",
        "  - name: ansible",
        "    user:",
        f"      client-certificate-data: {user['client-certificate-data']}",
        f"      client-key-data: {user['client-key-data']}",
    ]


def test_odd_user_names_stay_texts(exoscale_api: ExoscaleApi, client_of: Callable[..., Any]) -> None:
    beta = exoscale_api.cluster("beta")
    for user in ("yes", "42", "a: b", 'quo"te', "null", "exomesh-a"):
        kubeconfig = decode(
            client_of("at-vie-2").generate_sks_cluster_kubeconfig(id=beta.id, user=user, groups=[], ttl=60)
        )
        assert yaml.safe_load(kubeconfig)["users"][0]["name"] == user


def test_the_client_certificate(exoscale_api: ExoscaleApi, client_of: Callable[..., Any]) -> None:
    beta = exoscale_api.cluster("beta")
    client = client_of("at-vie-2")
    kubeconfig = decode(
        client.generate_sks_cluster_kubeconfig(id=beta.id, user="ansible", groups=["g1", "g2"], ttl=3600)
    )
    user = yaml.safe_load(kubeconfig)["users"][0]["user"]
    certificate = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    key = serialization.load_pem_private_key(base64.b64decode(user["client-key-data"]), None)
    ca = x509.load_pem_x509_certificate(Path(beta.ca_certificate).read_bytes())

    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(ca)
    names = [(name.rfc4514_attribute_name, name.value) for name in certificate.subject]
    assert names == [("O", "g1"), ("O", "g2"), ("CN", "ansible")]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(hours=1)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == subject.digest

    again = yaml.safe_load(decode(client.generate_sks_cluster_kubeconfig(id=beta.id, user="a", groups=[])))
    default = x509.load_pem_x509_certificate(
        base64.b64decode(again["users"][0]["user"]["client-certificate-data"])
    )
    assert default.not_valid_after_utc - default.not_valid_before_utc == timedelta(days=30)


def test_a_strict_tls_server_accepts_it_and_only_of_its_own_cluster(
    cluster_authorities: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    """A TLS handshake with X.509 strict, as Python 3.13 and newer OpenSSL ask for."""
    for name, accepted in (("alpha", True), ("beta", False)):
        certificate, key = cluster_authorities[name]
        minted = mint_client_certificate(
            certificate.read_bytes(), key.read_bytes(), "ansible", ["system:masters"], timedelta(minutes=1)
        )
        (tmp_path / "client.pem").write_bytes(minted[0] + minted[1])
        assert handshake(*cluster_authorities["alpha"], tmp_path / "client.pem") is accepted


def handshake(ca: Path, ca_key: Path, client_pem: Path) -> bool:
    """Whether a server that trusts the CA for clients accepts this one."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(ca, ca_key)
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.verify_flags |= ssl.VERIFY_X509_STRICT
    server_context.load_verify_locations(ca)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    client_context.load_cert_chain(client_pem)
    left, right = socket.socketpair()
    accepted: list[bool] = []

    def serve() -> None:
        try:
            with server_context.wrap_socket(left, server_side=True) as connection:
                connection.sendall(b"x")
                accepted.append(True)
        except ssl.SSLError:
            accepted.append(False)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(right) as connection:
            connection.recv(1)
    except OSError:
        pass
    thread.join()
    return accepted[0]


@pytest.mark.parametrize(
    ("body", "location", "detail"),
    [
        ({"user": "a", "groups": [], "ttl": 0}, "$['ttl']", "must be > 0"),
        ({"user": "a", "groups": [], "ttl": -5}, "$['ttl']", "must be > 0"),
        ({"user": "a", "groups": [], "ttl": "1h"}, "$['ttl']", "must be an integer"),
        ({"user": "a", "groups": [], "ttl": 10**15}, "$['ttl']", "is too large"),
        ({"user": "", "groups": []}, "$['user']", "must be a text"),
        ({"user": "a"}, "$['groups']", "must be a list"),
    ],
)
def test_a_wrong_body_is_explained_as_rfc_9457(
    exoscale_api: ExoscaleApi, body: dict[str, Any], location: str, detail: str
) -> None:
    path = f"/sks-cluster-kubeconfig/{exoscale_api.cluster('gamma').id}"
    status, content_type, content = ask(exoscale_api, path, "POST", json.dumps(body).encode())
    assert (status, content_type) == (400, "application/problem+json")
    problem = json.loads(content)
    assert problem["title"] == "Invalid Request Body"
    assert problem["errors"][0]["location"] == location
    assert detail in problem["errors"][0]["detail"]


@pytest.mark.parametrize("path", ["/sks-cluster", "/sks-cluster/x", "/nothing"])
def test_an_unsigned_or_expired_request_is_forbidden(exoscale_api: ExoscaleApi, path: str) -> None:
    for answer in (
        ask(exoscale_api, path, signed=False),
        ask(exoscale_api, path, expires=int(time.time()) - 1),
    ):
        assert (answer[0], json.loads(answer[2])) == (403, {"message": "Invalid request signature"})


def test_a_wrong_secret_is_forbidden(client_of: Callable[..., Any]) -> None:
    exceptions = pytest.importorskip("exoscale.api.exceptions")
    with pytest.raises(exceptions.ExoscaleAPIAuthException, match="Invalid request signature"):
        client_of("de-fra-1", secret="other").list_sks_clusters()


def test_a_cluster_of_another_zone_is_not_found(exoscale_api: ExoscaleApi) -> None:
    status, _, content = ask(
        exoscale_api, f"/sks-cluster/{exoscale_api.cluster('alpha').id}", zone="at-vie-2"
    )
    assert (status, json.loads(content)) == (404, {"message": "SKS cluster not found"})
    assert ask(exoscale_api, "/sks-cluster", zone="moon-1")[0] == 404
    assert ask(exoscale_api, "/sks-cluster", "DELETE")[0] == 404


@pytest.mark.parametrize("kind", ["401", "403", "404", "409", "429", "500", "502", "503"])
def test_a_fault_of_a_status(exoscale_api: ExoscaleApi, kind: str) -> None:
    exoscale_api.faults.set(kind, operation="list-sks-clusters", times=1)
    status, content_type, content = ask(exoscale_api, "/sks-cluster")
    assert (status, content_type) == (int(kind), "application/json")
    assert json.loads(content)["message"]
    assert ask(exoscale_api, "/sks-cluster")[0] == 200


def test_the_other_faults(exoscale_api: ExoscaleApi) -> None:
    path = f"/sks-cluster-kubeconfig/{exoscale_api.cluster('gamma').id}"
    body = b'{"user":"a","groups":[]}'
    faults = exoscale_api.faults

    faults.set("400", times=1)
    status, content_type, _ = ask(exoscale_api, path, "POST", body)
    assert (status, content_type) == (400, "application/problem+json")

    faults.set("html", times=1)
    status, content_type, content = ask(exoscale_api, path, "POST", body)
    assert (status, content_type, content[:9]) == (200, "text/html", b"<!DOCTYPE")

    faults.set("garbage", times=1)
    garbled = decode(json.loads(ask(exoscale_api, path, "POST", body)[2]))
    first, _, rest = garbled.partition("\n")
    assert base64.b64decode(first.removeprefix("&{").removesuffix("}"), validate=True).decode() == rest

    faults.set("zone-down", zone="ch-gva-2", times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(exoscale_api, "/sks-cluster")
    faults.set("zone-down", zone="at-vie-2")
    assert ask(exoscale_api, "/sks-cluster", zone="de-fra-1")[0] == 200


def test_a_hang_lasts_until_the_client_leaves_or_the_server_stops(exoscale_api: ExoscaleApi) -> None:
    exoscale_api.faults.set("hang")
    before = threading.active_count()
    address = urlsplit(exoscale_api.url).hostname, urlsplit(exoscale_api.url).port
    request = b"GET /v2/zone HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(address, timeout=0.3) as leaving:
        leaving.sendall(request)
        with pytest.raises(TimeoutError):
            leaving.recv(1)
    wait_for(lambda: threading.active_count() <= before)

    with socket.create_connection(address, timeout=5) as staying:
        staying.sendall(request)
        wait_for(lambda: threading.active_count() > before)
        exoscale_api.server.shutdown()
        assert staying.recv(1) == b""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_log_shows_each_request_and_no_secret(
    exoscale_api: ExoscaleApi, client_of: Callable[..., Any]
) -> None:
    gamma = exoscale_api.cluster("gamma")
    client_of().list_sks_clusters()
    assert exoscale_api.requests("generate-sks-cluster-kubeconfig") == []
    client_of("ch-gva-2").generate_sks_cluster_kubeconfig(id=gamma.id, user="somebody", groups=["g"])
    [entry] = exoscale_api.requests("generate-sks-cluster-kubeconfig")
    assert entry.pop("time")
    assert entry == {
        "method": "POST",
        "path": f"/zones/ch-gva-2/v2/sks-cluster-kubeconfig/{gamma.id}",
        "status": 200,
        "zone": "ch-gva-2",
        "operation": "generate-sks-cluster-kubeconfig",
    }
    log = (exoscale_api.state_dir / "requests.jsonl").read_text()
    assert "signature" not in log
    assert "somebody" not in log


def test_a_changed_cloud_is_seen_at_once(exoscale_api: ExoscaleApi, client_of: Callable[..., Any]) -> None:
    gamma = exoscale_api.cluster("gamma")
    for name in ("delta", "epsilon"):
        exoscale_api.write([dataclasses.replace(gamma, name=name)])
        assert client_of().list_sks_clusters()["sks-clusters"][0]["name"] == name


def test_only_loopback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a loopback address"):
        ExoscaleApiServer(tmp_path, "0.0.0.0")


def test_the_program(tmp_path: Path) -> None:
    """It says where it listens, serves, says when the port is in use, and ends on SIGTERM."""
    cloud_state.save(tmp_path, cloud_state.CloudState())
    command = [sys.executable, "-m", "exolab.exoscale_api", "--state", str(tmp_path), "--listen"]
    environment = os.environ | {"PYTHONPATH": str(LAB)}
    with subprocess.Popen(
        [*command, "127.0.0.1:0"], env=environment, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        url = program.stdout.readline().split()[-1]
        address = urlsplit(url).netloc
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/v2/zone")
        assert len(json.load(connection.getresponse())["zones"]) == len(ZONES)

        second = subprocess.run(
            [*command, address], env=environment, capture_output=True, text=True, timeout=20, check=False
        )
        assert second.returncode == 1
        assert second.stderr == f"exoscale api: {address} is in use\n"

        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=10) == 0
