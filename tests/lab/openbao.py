"""A real OpenBao on loopback: raft storage, TLS, sealed and unsealed as in production."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from .certificates import pem
from .runs import RunningLab

SIGNER = """
path "+/cert/ca_chain" { capabilities = ["read"] }
path "+/root/sign-intermediate" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
"""
READER = SIGNER.replace('["update"]', '["deny"]')


@dataclass
class OpenBao:
    """The server, unsealed; ``client`` has its root token."""

    url: str
    ca_cert: Path
    client: hvac.Client
    unseal_key: str
    folder: Path

    def import_ca(self, mount: str, bundle: bytes) -> None:
        self._mount(mount)
        self.client.write_data(f"{mount}/config/ca", data={"pem_bundle": bundle.decode()})

    def make_ca(self, mount: str) -> None:
        self._mount(mount)
        self.client.write_data(
            f"{mount}/root/generate/internal", data={"common_name": "Other Root", "ttl": "87600h"}
        )

    def token(self, ttl: str = "1h", policy: str = "signer") -> str:
        made = self.client.auth.token.create(policies=[policy], ttl=ttl)
        return str(made["auth"]["client_token"])

    def variables(self, method: str, lab: RunningLab | None = None) -> dict[str, Any]:
        """The role's variables to log in by a method. ``kubernetes`` needs the lab whose tokens it trusts."""
        common = {
            "certificates_backend": "vault",
            "certificates_vault_url": self.url,
            "certificates_vault_ca_cert": str(self.ca_cert),
            "certificates_vault_auth_method": method,
        }
        if method == "token":
            return common | {"certificates_vault_token": self.token()}
        if method == "approle":
            return common | self._approle()
        assert lab
        return common | self._kubernetes(lab)

    def seal(self) -> None:
        self.client.sys.seal()

    def unseal(self) -> None:
        self.client.sys.submit_unseal_key(self.unseal_key)
        deadline = time.monotonic() + 30
        while not self.client.sys.read_leader_status().get("leader_address"):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def _mount(self, mount: str) -> None:
        self.client.sys.enable_secrets_engine("pki", path=mount, config={"max_lease_ttl": "87600h"})

    def _approle(self) -> dict[str, Any]:
        with contextlib.suppress(hvac.exceptions.InvalidRequest):
            self.client.sys.enable_auth_method("approle")
        # A secret that may be used once: the role must log in once only.
        self.client.auth.approle.create_or_update_approle(
            "mesh", token_policies=["signer"], secret_id_num_uses=1
        )
        role = self.client.auth.approle.read_role_id("mesh")["data"]["role_id"]
        secret = self.client.auth.approle.generate_secret_id("mesh")["data"]["secret_id"]
        return {"certificates_vault_role_id": role, "certificates_vault_secret_id": secret}

    def _kubernetes(self, lab: RunningLab) -> dict[str, Any]:
        config = json.loads(lab.kubectl("cluster1", "config", "view", "--raw", "--flatten", "-o=json"))
        cluster = config["clusters"][0]["cluster"]
        manifests = [
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "mesh-ca", "namespace": "default"},
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "mesh-ca"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "system:auth-delegator",
                },
                "subjects": [{"kind": "ServiceAccount", "name": "mesh-ca", "namespace": "default"}],
            },
        ]
        for manifest in manifests:
            lab.kubectl("cluster1", "apply", "-f", "-", stdin=json.dumps(manifest))
        token = lab.kubectl("cluster1", "create", "token", "mesh-ca", "--namespace=default").strip()
        (self.folder / "service-account-token").write_text(token)
        self.client.sys.enable_auth_method("kubernetes")
        self.client.write_data(
            "auth/kubernetes/config",
            data={
                "kubernetes_host": cluster["server"],
                "kubernetes_ca_cert": _decoded(cluster["certificate-authority-data"]),
                "disable_local_ca_jwt": True,
            },
        )
        self.client.write_data(
            "auth/kubernetes/role/mesh",
            data={
                "bound_service_account_names": "mesh-ca",
                "bound_service_account_namespaces": "default",
                "token_policies": "signer",
            },
        )
        return {
            "certificates_vault_kubernetes_role": "mesh",
            "certificates_vault_kubernetes_token_path": str(self.folder / "service-account-token"),
        }


@contextlib.contextmanager
def open_bao(folder: Path) -> Iterator[OpenBao]:
    """Start it, make it, open it; it is gone afterwards."""
    port, cluster_port = _free_port(), _free_port()
    _write_tls(folder)
    (folder / "data").mkdir()
    (folder / "config.hcl").write_text(
        f"""
        storage "raft" {{ path = "{folder}/data" }}
        listener "tcp" {{
          address = "127.0.0.1:{port}"
          tls_cert_file = "{folder}/tls.pem"
          tls_key_file = "{folder}/tls-key.pem"
        }}
        api_addr = "https://127.0.0.1:{port}"
        cluster_addr = "https://127.0.0.1:{cluster_port}"
        """
    )
    program = Path(sys.executable).with_name("bao")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [program, "server", f"-config={folder}/config.hcl"],
            stdout=log,
            stderr=log,
            env={**os.environ, "BAO_SKIP_VERIFY": "true"},
            start_new_session=True,
        ) as process,
    ):
        try:
            url, ca_cert = f"https://127.0.0.1:{port}", folder / "tls.pem"
            client = hvac.Client(url=url, verify=str(ca_cert))
            _wait(client, folder)
            made = client.sys.initialize(secret_shares=1, secret_threshold=1)
            client.token = made["root_token"]
            server = OpenBao(url, ca_cert, client, made["keys"][0], folder)
            server.unseal()
            client.sys.create_or_update_policy("signer", SIGNER)
            client.sys.create_or_update_policy("reader", READER)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(client: hvac.Client, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            client.sys.is_initialized()
            return
        except OSError:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)


def _write_tls(folder: Path) -> None:
    """A certificate for loopback that is its own CA."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "openbao")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.pem").write_bytes(pem(certificate))
    (folder / "tls-key.pem").write_bytes(pem(key))


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
