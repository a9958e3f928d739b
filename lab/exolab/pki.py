"""Certificates of a cluster's control plane, as an SKS cluster has them.

A CA of its own with Exoscale's name.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from exolab.cloud_state import write_private
from exolab.errors import LabError
from exolab.layout import KUBERNETES_ADDRESS, Cluster

# The subject of every SKS cluster's CA; only the keys differ.
CONTROL_PLANE_CA = (
    (NameOID.COUNTRY_NAME, "CH"),
    (NameOID.LOCALITY_NAME, "GVA2"),
    (NameOID.ORGANIZATION_NAME, "Exoscale"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "SKS"),
    (NameOID.COMMON_NAME, "control-plane-ca"),
)
LIFETIME = datetime.timedelta(days=50 * 365)
CLOCK_SKEW = datetime.timedelta(minutes=5)


class Authority:
    """A certificate authority kept in two files, made where they are missing."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.certificate_path = folder / f"{name}.pem"
        self.key_path = folder / f"{name}-key.pem"
        if not (self.certificate_path.exists() and self.key_path.exists()):
            self._create()
        self.certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        key = serialization.load_pem_private_key(self.key_path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise LabError(f"{self.key_path} is not an EC key: take the lab down, and up again")
        self.key = key

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(oid, value) for oid, value in CONTROL_PLANE_CA])
        usage = x509.KeyUsage(True, False, True, False, False, True, True, False, False)
        certificate = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_private(self.key_path, _key_pem(key))
        write_private(self.certificate_path, certificate.public_bytes(serialization.Encoding.PEM).decode())

    def issue(
        self,
        name: str,
        user: str,
        groups: Iterable[str] = (),
        names: Iterable[str] = (),
        addresses: Iterable[str] = (),
    ) -> tuple[Path, Path]:
        """Certificate and key `name`.pem, `name`-key.pem for `user` in `groups`.

        With names or addresses for a server too.
        """
        certificate_path, key_path = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        if certificate_path.exists() and key_path.exists():
            return certificate_path, key_path
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
            + [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        )
        alternatives: list[x509.GeneralName] = [x509.DNSName(entry) for entry in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(entry)) for entry in addresses]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + (
            [ExtendedKeyUsageOID.SERVER_AUTH] if alternatives else []
        )
        usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
        builder = (
            _builder(subject, self.certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        write_private(key_path, _key_pem(key))
        write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM).decode())
        return certificate_path, key_path


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def prepare(cluster: Cluster) -> None:
    """All certificates and kubeconfigs of a cluster's daemons, made where they are missing."""
    authority = Authority(cluster.pki)
    node = cluster.node_name
    authority.issue(
        "apiserver",
        "kube-apiserver",
        names=[
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ],
        addresses=[str(cluster.address), KUBERNETES_ADDRESS, "127.0.0.1"],
    )
    authority.issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
    authority.issue("kubelet-server", f"system:node:{node}", ["system:nodes"], [node], [str(cluster.address)])
    service_accounts = cluster.pki / "service-accounts-key.pem"
    if not service_accounts.exists():
        write_private(service_accounts, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    for name, user, groups in (
        ("admin", "exolab-admin", ["system:masters"]),
        ("controller-manager", "system:kube-controller-manager", []),
        ("scheduler", "system:kube-scheduler", []),
        ("kube-proxy", "system:kube-proxy", []),
        ("coredns", "system:coredns", []),
        ("kubelet", f"system:node:{node}", ["system:nodes"]),
        # Exoscale's cloud controller runs outside the cluster; bootstrap.yaml gives its account rights.
        ("cloud-controller-manager", "system:cloud-controller-manager", []),
    ):
        write_kubeconfig(authority, cluster, name, user, groups)


def write_kubeconfig(
    authority: Authority, cluster: Cluster, name: str, user: str, groups: Iterable[str]
) -> None:
    """`name`.kubeconfig in the cluster's etc folder.

    It names the files of its certificate. Of what a kubeconfig holds itself, the cloud controller's library
    makes files in the temporary folder, which stay there when the controller is killed.
    """
    path = cluster.etc / f"{name}.kubeconfig"
    if path.exists():
        return
    certificate, key = authority.issue(f"client-{name}", user, groups)
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster.name,
                "cluster": {
                    "server": cluster.server,
                    "certificate-authority": str(authority.certificate_path),
                },
            }
        ],
        "users": [
            {
                "name": name,
                "user": {"client-certificate": str(certificate), "client-key": str(key)},
            }
        ],
        "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": name}}],
        "current-context": cluster.name,
    }
    cluster.etc.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(path, yaml.safe_dump(content, sort_keys=False))
