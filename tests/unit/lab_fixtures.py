"""Fixtures around the lab's Exoscale API: a real server with real CAs, and an `exo` to ask it with."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from exolab.cloud_state import Cluster
    from exolab.exoscale_api import ExoscaleApiServer
    from exolab.faults import Faults

LAB = Path(__file__).resolve().parents[2] / "lab"
if str(LAB) not in sys.path:
    sys.path.insert(0, str(LAB))

KEY = "EXOtest0000000000000000000"
SECRET = "s3cret"


@dataclass
class ExoscaleApi:
    """A running API.

    url: base endpoint (EXOSCALE_API_ENDPOINT). clusters: `alpha` in de-fra-1, `beta` in at-vie-2, `gamma` in
    ch-gva-2, and two named `twin` in ch-dk-2. faults: what goes wrong; nothing at the start of each test.
    """

    url: str
    key: str
    secret: str
    state_dir: Path
    faults: Faults
    clusters: list[Cluster]
    server: ExoscaleApiServer

    def cluster(self, name: str) -> Cluster:
        """The (first) cluster of this name."""
        return next(cluster for cluster in self.clusters if cluster.name == name)

    def zone_url(self, zone: str) -> str:
        """The endpoint of a zone, as the API itself tells it."""
        return f"{self.server.origin}/zones/{zone}/v2"

    def write(self, clusters: list[Cluster]) -> None:
        """Let the API have these clusters from now on."""
        from exolab import cloud_state

        self.clusters = clusters
        credentials = (cloud_state.Credential(self.key, self.secret),)
        cloud_state.save(self.state_dir, cloud_state.CloudState(credentials, tuple(clusters)))

    def requests(self, operation: str | None = None) -> list[dict[str, Any]]:
        """The requests so far: time, method, path, status (None: no answer), zone, operation."""
        log = self.state_dir / "requests.jsonl"
        entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [entry for entry in entries if operation in (None, entry["operation"])]

    def environment(self) -> dict[str, str]:
        """The environment with which `exo` reaches this API and reads nobody's configuration."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.state_dir),
            "EXOSCALE_API_KEY": self.key,
            "EXOSCALE_API_SECRET": self.secret,
            "EXOSCALE_API_ENDPOINT": self.url,
        }


def make_ca(directory: Path, name: str = "ca") -> tuple[Path, Path]:
    """A CA as SKS's control plane has one, valid 50 years; returns the PEM files of certificate and key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "GVA2"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Exoscale"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "SKS"),
            x509.NameAttribute(NameOID.COMMON_NAME, "control-plane-ca"),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=50 * 365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / f"{name}.pem", directory / f"{name}-key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file


@pytest.fixture(scope="session")
def cluster_authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Certificate and key files of three CAs, by cluster name; made once, as keys are slow to make."""
    pytest.importorskip("cryptography")
    directory = tmp_path_factory.mktemp("authorities")
    return {name: make_ca(directory, name) for name in ("alpha", "beta", "gamma")}


@pytest.fixture
def exoscale_api(tmp_path: Path, cluster_authorities: dict[str, tuple[Path, Path]]) -> Iterator[ExoscaleApi]:
    """The API of five clusters, on a free loopback port, in a state directory of its own."""
    from exolab.cloud_state import Cluster, NodePool
    from exolab.exoscale_api import ExoscaleApiServer

    def cluster(name: str, zone: str, authority: str, labels: dict[str, str] | None = None) -> Cluster:
        identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{zone}/{name}/{authority}"))
        certificate, key = cluster_authorities[authority]
        return Cluster(
            id=identifier,
            name=name,
            zone=zone,
            server=f"https://{identifier}.sks-{zone}.exo.io:443",
            endpoint=f"https://{identifier}.sks-{zone}.exo.io",
            ca_certificate=str(certificate),
            ca_key=str(key),
            version="1.36.3",
            created_at="2026-08-01T09:00:00Z",
            labels=labels or {},
            nodepools=(NodePool(str(uuid.uuid5(uuid.NAMESPACE_URL, identifier)), "default", 2),),
        )

    server = ExoscaleApiServer(tmp_path / "exoscale")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    api = ExoscaleApi(server.url, KEY, SECRET, tmp_path / "exoscale", server.faults, [], server)
    api.write(
        [
            cluster("alpha", "de-fra-1", "alpha", {"mesh": "m1"}),
            cluster("beta", "at-vie-2", "beta", {"mesh": "m1"}),
            cluster("gamma", "ch-gva-2", "gamma"),
            cluster("twin", "ch-dk-2", "alpha"),
            cluster("twin", "ch-dk-2", "beta"),
        ]
    )
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def exo_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An `exo`: the one that EXOMESH_EXO names, else the stand-in with short pauses between its retries."""
    if real := os.environ.get("EXOMESH_EXO"):
        return Path(real)
    wrapper = tmp_path_factory.mktemp("bin") / "exo"
    wrapper.write_text(
        "#!/bin/sh\n"
        f"PYTHONPATH={shlex.quote(str(LAB))} EXOLAB_RETRY_PAUSE=0.01 "
        f'exec {shlex.quote(sys.executable)} -m exolab.exo "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper
