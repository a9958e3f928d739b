"""Secrets of every form are taken out; what is none stays."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.redact import Redactor
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"RS256","kid":"x"}', b'{"sub":"system:serviceaccount:a:b"}', bytes(range(64)))
)
PASSWORD = "correct-horse/battery"
KEYS = {"EC": ec.generate_private_key(ec.SECP256R1()), "RSA": rsa.generate_private_key(65537, 2048)}
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])


def pem(kind: str, form: PrivateFormat, encryption: KeySerializationEncryption | None = None) -> str:
    return KEYS[kind].private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PEMS = {
    "EC, PKCS8": pem("EC", PrivateFormat.PKCS8),
    "EC, traditional": pem("EC", PrivateFormat.TraditionalOpenSSL),
    "RSA, PKCS8": pem("RSA", PrivateFormat.PKCS8),
    "RSA, traditional": pem("RSA", PrivateFormat.TraditionalOpenSSL),
    "encrypted": pem("RSA", PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
}

FRAMES: dict[str, Callable[[str], str]] = {
    "bare": lambda text: text,
    "in a log": lambda text: f"2026-11-23T08:00:00Z\terror\tgot {text} from\nnext line",
    "as JSON": lambda text: json.dumps({"before": 1, "x": text}),
    "as JSON in JSON": lambda text: json.dumps(json.dumps({"x": text})),
    "in YAML": lambda text: yaml.safe_dump({"a": {"x": text}}),
    "in base64": encoded,
    "in base64 twice": lambda text: encoded(encoded(text)),
    "in base64 in YAML": lambda text: yaml.safe_dump({"x": encoded(text)}),
}


@pytest.fixture(scope="module")
def certificate() -> str:
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(KEYS["RSA"].public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(KEYS["RSA"], hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode()


def lines_of(key: str) -> list[str]:
    return [line for line in key.splitlines() if "-----" not in line]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("key", PEMS)
def test_a_private_key_is_taken_out(key: str, frame: str) -> None:
    text = FRAMES[frame](PEMS[key])
    redactor = Redactor()
    told = redactor.text(text)
    assert "[REDACTED" in told
    assert sum(redactor.found.values()) == 1
    assert text not in told
    assert not [line for line in lines_of(PEMS[key]) if line in told]
    assert not [line for line in lines_of(PEMS[key]) if encoded(line)[4:-4] in told]


@pytest.mark.parametrize("key", PEMS)
@pytest.mark.parametrize("cut", [slice(3, None), slice(0, 3)])
def test_what_a_cut_left_of_a_private_key_is_taken_out(key: str, cut: slice) -> None:
    left = "\n".join(PEMS[key].splitlines()[cut])
    told = Redactor().text(f"a line before\n{left}")
    assert "a line before" in told
    assert not [line for line in lines_of(left) if line in told]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_without_the_lines_around_it_is_taken_out(key: str) -> None:
    bare = base64.b64encode(
        KEYS[key].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    ).decode()
    assert bare not in Redactor().text(f"key {bare}")


@pytest.mark.parametrize("frame", FRAMES)
def test_a_token_is_taken_out(frame: str) -> None:
    told = Redactor().text(FRAMES[frame](f"Bearer {JWT} was refused"))
    assert "[REDACTED" in told
    assert not [part for part in JWT.split(".") if part in told]


@pytest.mark.parametrize(
    "text",
    [
        f"password: {PASSWORD}",
        f"  password: {PASSWORD} and more words {PASSWORD}",
        f"password={PASSWORD}",
        f'"password": "{PASSWORD}"',
        f'"api_token":"a, b\\"c {PASSWORD}"',
        f'msg="got {{\\"token\\":\\"{PASSWORD} x\\"}}"',
        f"users:\n- user:\n    token: {PASSWORD}\n",
        f"client-key-data: {PASSWORD}",
        f"token: |\n  {PASSWORD}\n  {PASSWORD}\nafter: 1",
        f"DB_PASSWORD={PASSWORD}",
        f"EXOSCALE_API_KEY={PASSWORD}",
        f"SECRET_FOR_X: {PASSWORD}",
        f'- name: MY_TOKEN_2\n  value: "{PASSWORD}"\n',
        f"Authorization: Basic {encoded('me:' + PASSWORD)}",
        f"authorization: {PASSWORD}",
        f"> curl -H 'Authorization: Bearer {PASSWORD}'",
        f"https://me:{PASSWORD.replace('/', '%2F')}@proxy.example:3128/x",
        f"clone https://{PASSWORD.replace('/', '_')}@git.example/x",
    ],
)
def test_values_with_the_name_of_a_secret_are_taken_out(text: str) -> None:
    told = Redactor().text(text)
    for part in PASSWORD.split("/"):
        assert part not in told
    assert "[REDACTED" in told


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T08:00:00Z\tinfo\tAdding\tcluster=c2 secret=istio-system/istio-remote-secret-cluster2",
        "automountServiceAccountToken: false",
        "docker.io/istio/pilot:1.31.1@sha256:" + "ab" * 32,
        "spiffe://cluster.local/ns/istio-system/sa/istiod",
        "https://10.0.0.1:6443/api?timeout=30s",
        "tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists}]",
        '"password": ""',
        "token: null",
        "name: ISTIO_META_NETWORK\nvalue: network-cluster1",
        encoded("just some words that are not secret at all"),
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == text
    assert not redactor.found


def test_certificates_stay(certificate: str) -> None:
    redactor = Redactor()
    for text in (certificate, encoded(certificate), json.dumps({"ca.crt": certificate})):
        assert redactor.text(text) == text
    assert redactor.value({"inline_bytes": encoded(certificate)}) == {"inline_bytes": encoded(certificate)}
    assert not redactor.found


def test_objects_of_kubernetes() -> None:
    applied = {
        "kind": "Secret",
        "metadata": {"name": "cacerts"},
        "data": {"ca-key.pem": encoded("opaque")},
        "stringData": {"x": "opaque"},
    }
    pod = {
        "kind": "Pod",
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(applied)}
        },
        "spec": {
            "volumes": [{"secret": {"secretName": "cacerts"}}],
            "containers": [
                {
                    "env": [
                        {"name": "DB_PASSWORD", "value": "opaque"},
                        {"name": "SOME_KEY", "valueFrom": {"secretKeyRef": {"name": "n", "key": "k"}}},
                        {"name": "REVISION", "value": "default"},
                    ]
                }
            ],
        },
    }
    config = {"kind": "ConfigMap", "data": {"api-key": "opaque", "mesh": "rootNamespace: istio-system\n"}}
    redactor = Redactor()
    told = redactor.value([applied, pod, config])
    assert "opaque" not in json.dumps(told)
    assert encoded("opaque") not in json.dumps(told)
    assert told[1]["spec"]["volumes"] == pod["spec"]["volumes"]  # type: ignore[index]
    assert told[1]["spec"]["containers"][0]["env"][1:] == pod["spec"]["containers"][0]["env"][1:]  # type: ignore[index]
    assert told[2]["data"]["mesh"] == "rootNamespace: istio-system\n"
    assert redactor.found.total() == 6


def test_secrets_of_envoy(certificate: str) -> None:
    def material(**private_key: str) -> dict[str, object]:
        chain = {"certificate_chain": {"inline_bytes": encoded(certificate)}}
        return {"secret": {"name": "default", "tls_certificate": {**chain, "private_key": private_key}}}

    key = PEMS["EC, PKCS8"]
    redactor = Redactor()
    told = json.dumps(redactor.value([material(inline_bytes=encoded(key)), material(inline_string="opaque")]))
    assert encoded(key) not in told
    assert "opaque" not in told
    assert encoded(certificate) in told
    assert redactor.found == {"private key": 2}
    named = material(filename="/etc/certs/key.pem")
    assert Redactor().value(named) == named


def test_a_kubeconfig_loses_its_credentials_and_keeps_its_address(certificate: str) -> None:
    kubeconfig = yaml.safe_dump(
        {
            "clusters": [
                {
                    "cluster": {
                        "server": "https://api:6443",
                        "certificate-authority-data": encoded(certificate),
                    }
                }
            ],
            "users": [
                {
                    "user": {
                        "token": "opaque-1",
                        "password": "opaque-2",
                        "client-key-data": encoded("opaque-3"),
                    }
                }
            ],
        },
        width=10**6,
    )
    told = Redactor().text(kubeconfig)
    assert "opaque" not in told
    assert encoded("opaque-3") not in told
    assert "https://api:6443" in told
    assert encoded(certificate) in told
    assert Redactor().text(f"data {encoded(kubeconfig)}") == "data [REDACTED secret in base64]"


@pytest.mark.parametrize(
    "text", ["a" * 10**6, "a+/" * 300_000, "word " * 200_000, "QUJD\n" * 200_000, '{"name": "x", ' * 50_000]
)
def test_large_texts_take_no_long_time(text: str) -> None:
    begun = time.process_time()
    Redactor().text(text)
    assert time.process_time() - begun < 5
