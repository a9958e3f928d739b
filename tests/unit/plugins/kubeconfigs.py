"""Real certificates and kubeconfigs for tests, and modules run as Ansible runs them."""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import ipaddress
import json
import locale
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import yaml
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, as objects and as PEM."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def issue(
    common_name: str,
    organizations: tuple[str, ...] = (),
    *,
    issuer: Pair | None = None,
    not_before: datetime = NOW - timedelta(hours=1),
    not_after: datetime = NOW + timedelta(days=30),
    address: str | None = None,
    identifiers: bool = True,
) -> Pair:
    """A certificate: a CA of its own without an issuer, a server's with an address, else a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    signer = issuer.key if issuer else key
    if identifiers:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        ).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    if issuer is None:
        usages = """digital_signature content_commitment key_encipherment data_encipherment key_agreement
            key_cert_sign crl_sign encipher_only decipher_only"""
        usage = dict.fromkeys(usages.split(), False)
        usage |= {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return Pair(builder.sign(signer, hashes.SHA256()), key)


CA_OF_TESTS = issue("control-plane-ca", not_after=NOW + timedelta(days=18000))


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def kubeconfig(name: str, server: str, ca: Pair, client: Pair, user: str | None = None) -> str:
    """The text of a kubeconfig with one context; `user` names the user's entry."""
    user = user or name
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {"server": server, "certificate-authority-data": encoded(ca.pem)},
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": encoded(client.pem),
                        "client-key-data": encoded(client.key_pem),
                    },
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        },
        sort_keys=False,
    )


def secrets_of(text: str) -> list[str]:
    """Pieces of every key in a kubeconfig, encoded and decoded, to look for in output."""
    found = []
    for item in yaml.safe_load(text)["users"]:
        data = item["user"]["client-key-data"]
        pem_lines = base64.b64decode(data).decode().splitlines()
        found += [data[60:100], pem_lines[1][:40]]
    return found


def start_module(name: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A module of the collection in a process of its own, which waits for its module_input()."""
    return subprocess.Popen(
        [sys.executable, "-m", f"ansible_collections.exomesh.istio.plugins.modules.{name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ) if environment is None else environment,
    )


def module_input(check: bool, options: dict[str, Any]) -> str:
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    return json.dumps({"ANSIBLE_MODULE_ARGS": arguments})


def run_module(
    module: str, /, *, check: bool = False, environment: dict[str, str] | None = None, **options: Any
) -> dict[str, Any]:
    """The result of a module, which runs in this process.

    :param environment: instead of this process's.
    """
    main = importlib.import_module(f"ansible_collections.exomesh.istio.plugins.modules.{module}").main
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    output = io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    spoken = locale.setlocale(locale.LC_ALL)  # AnsibleModule sets that of the environment
    kept = dict(os.environ) if environment is None else environment
    warnings._global_warnings.clear()  # those of a module that ran before, which had a process to itself
    try:
        with (
            mock.patch.dict(os.environ, kept, clear=True),
            mock.patch.object(_internal, "is_controller", False),
            patch_module_args(arguments),
            contextlib.redirect_stdout(output),
            contextlib.suppress(SystemExit),
        ):
            main()
    finally:
        signal.signal(signal.SIGTERM, handler)
        locale.setlocale(locale.LC_ALL, spoken)
    try:
        result = dict(json.loads(output.getvalue()))
    except ValueError:
        raise AssertionError(f"{module} gave no result: {output.getvalue()}") from None
    # By this ansible-core 2.22 is told what to hide, and takes it away.
    result.pop("_ansible_new_secrets", None)
    return result
