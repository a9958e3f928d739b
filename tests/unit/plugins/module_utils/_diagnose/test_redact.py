"""Secrets of every form are taken out; what is none stays."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

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


SECRET = "Q7f3kZ9pLm2Xc8Va4Tb1"  # as a machine draws them
WORDS = "p@ss w0rd&x=1"  # as people do

IN_QUOTES = (
    '{"a":{"password":"SECRET"}',
    "x 'password': 'SECRET' y",
    'x password="SECRET" y',
    '--password="SECRET" --x',
    "exec --db-password 'SECRET' --x",
    'args "--password","SECRET"',
    "- name: DB_PWD\n  value: 'SECRET'\n  x: {{ a }}\n",
    "credentials:\n  foo:\n    - 'SECRET'\n  bar: {{ x }}\n",
    'tokens = [\n  "SECRET",\n  "b"\n]\n',
    'line\nkind: Secret\nstringData:\n  x: "SECRET"\n',
    "{'credentials': {'alice': {'v': 'SECRET'}}} y",
    'headers["x-api-key"] = "SECRET"',
    'handle:headers():add("cookie", "SECRET")',
    "user me IDENTIFIED BY 'SECRET'",
    '&EnvVar{Name:"DB_PASS", Value:"SECRET"}',
    "':path', '/'\n'x-api-key', 'SECRET'",
)
BARE = (
    "x API_KEY_PROD=SECRET y",
    "DB_PASS_OLD: SECRET",
    "AccountName=x;AccountKey=SECRET;y=z",
    "GET /x?sig=SECRET&x=1 HTTP/1.1",
    "openssl -passin pass:SECRET",
    "redis-cli -h x -a SECRET ping",
    "mysql -uroot -pSECRET db",
    "docker login -u me -p SECRET r.io",
    "curl -u me:SECRET https://x",
    "me:SECRET@tcp(db:3306)/x",
    "redis://:SECRET@h:6379/0",
    "Proxy-Authorization: Basic SECRET",
    "authorization: Digest username=x, response=SECRET",
    "retry Bearer%20SECRET",
    "Cookie: a=b; c=SECRET",
    "map[Set-Cookie:[x=SECRET] Y:[z]]",
    "password for db is SECRET",
    'key: "authorization"\nvalue: SECRET',
    "<a><password>SECRET</password></a>",
    "[{DB_PASS SECRET nil}]",
    "machine x login me password SECRET",
    "requirepass SECRET",
)


@pytest.mark.parametrize(
    ("text", "secret"),
    [(text, secret) for text in IN_QUOTES for secret in (SECRET, WORDS)] + [(text, SECRET) for text in BARE],
)
def test_a_value_goes_in_every_form_of_text(text: str, secret: str) -> None:
    told = Redactor().text(text.replace("SECRET", secret))
    assert not [part for part in secret.split() if part in told], told
    assert "[REDACTED" in told


@pytest.mark.parametrize("secret", [SECRET, WORDS, "swordfish"])
@pytest.mark.parametrize(
    "value",
    [
        {"credentials": {"a": {"b": ["SECRET"]}}},
        {"apiKeys": ["SECRET", {"x": "SECRET"}]},
        {"name": "X_PASS", "value": "SECRET"},
        {"args": ["--password", "SECRET"]},
        {"headers": {"values": {"authorization": ["SECRET"]}}},
        {"headers": [["x-api-key", "SECRET 1"]]},
        {"headerName": "x-api-key", "headerValue": "SECRET"},
        {"match": {"name": "cookie", "value": {"stringMatch": {"exact": "SECRET"}}}},
        {"key": "request.headers[x-api-key]", "notValues": ["SECRET"]},
        {"name": "cookie", "string_match": {"safe_regex": {"google_re2": {}, "regex": "SECRET"}}},
        {"items": [{"kind": "Secret", "stringData": {"x": "SECRET"}}]},
        {"jwks": {"keys": [{"kty": "oct", "k": "SECRET"}]}},
        {"userPassword": {"name": "x", "value": "SECRET"}},
        {"pass\u200bword": "SECRET"},
        {"config": 'list:\n- value: "SECRET"\n  name: X_PWD\n'},
        {"a": json.dumps({"b": json.dumps({"env": [{"name": "A_AUTH", "value": "SECRET"}]})})},
    ],
    ids=str,
)
def test_a_value_goes_by_structure(value: object, secret: str) -> None:
    filled = json.loads(json.dumps(value).replace("SECRET", json.dumps(json.dumps(json.dumps(secret)))[7:-7]))
    told = json.dumps(Redactor().value(filled))
    assert not [part for part in secret.split() if part in told], told


@pytest.mark.parametrize("value", [{"PIN": 12345678}, {"DB_PASS": "12345678"}, {"password": 12345678}])
def test_a_number_may_be_a_secret(value: object) -> None:
    assert "12345678" not in json.dumps(Redactor().value(value))


def test_a_secret_in_packed_or_binary_content_goes() -> None:
    protobuf = b"\x0a\x09x-api-key\x12\x14" + SECRET.encode() + b"\xff\xfe"
    packed = gzip.compress(json.dumps({"password": SECRET}).encode())
    for content in (protobuf, packed):
        whole = base64.b64encode(content).decode()
        assert whole[:24] not in Redactor().text(f"value {whole} end")


ORDINARY = """\
error token: connection refused by peer
msg="cannot read secret: not found"
failed to fetch token: Unauthorized
secret "istio-ca-secret" not found
MountVolume.SetUp failed for volume "istio-token" : secret "default-token-x7k2p" not found
Bearer authentication is required
Basic realm="shop"
limit of 100 tokens per second; tokens_per_fill: 10
max_tokens=100 tokens: 5
ports: http-auth, targetPort: auth
proxyProtocol: passthrough keepalive: 30s
JWT policy is third-party-jwt
SECRET_TTL: 24h0m0s
JWT_POLICY=third-party-jwt
topologyKey: kubernetes.io/hostname
key: app.kubernetes.io/name
labels: {auth: enabled, security.istio.io/tlsMode: istio}
tls: {mode: SIMPLE, credentialName: shop-cert}
secretName: default-token-x7k2p
publicKey: MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A
key fingerprint SHA256:abcdefghijk
trace id 4bf92f3577b34da6a3ce929d0e0e4736
uid: 3f2504e0-4f89-11d3-9a0c-0305e82c3301
authorization_policy: allow-all
private_key_file: /etc/certs/key.pem
volumes: [{name: token, secret: {secretName: x, defaultMode: 420}}]
"GET /auth/login?next=/home HTTP/1.1" 200 - "10.0.0.1" "curl/8" "b5a9e3c2-1111-2222-3333-444455556666"
authentication mode: none, authenticated as system:serviceaccount:istio-system:istiod
secret/istio-remote-secret-cluster2 created, author: me, authority: x.y"""


@pytest.mark.parametrize("line", ORDINARY.splitlines())
def test_an_ordinary_line_stays(line: str) -> None:
    assert Redactor().text(line) == line


def test_ordinary_objects_stay() -> None:
    objects = [
        {"spec": {"imagePullSecrets": [{"name": "regcred"}], "automountServiceAccountToken": False}},
        {"secretKeyRef": {"name": "db", "key": "password"}},
        {
            "projected": {
                "sources": [{"serviceAccountToken": {"audience": "istio-ca", "path": "istio-token"}}]
            }
        },
        {"tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": {"ads": {}}}]},
        {"token_bucket": {"max_tokens": 10, "tokens_per_fill": 10, "fill_interval": "60s"}},
        {"ports": [{"name": "auth", "port": 8080, "targetPort": "auth"}]},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["auth", "web"]}]},
        {"fromHeaders": [{"name": "authorization", "prefix": "Bearer "}], "fromCookies": ["session"]},
        {"remove": ["authorization", "cookie"], "allowHeaders": ["x-api-key", "authorization"]},
        {"consistentHash": {"httpCookie": {"name": "user", "path": "/", "ttl": "0s"}}},
        {"log_format": {"auth": "%REQ(AUTHORIZATION)%"}},
        {"env": [{"name": "TOKEN_AUDIENCES", "value": "istio-ca"}, {"name": "XDS_AUTH", "value": "true"}]},
        {"rules": [{"resources": ["secrets", "tokenreviews"], "verbs": ["get"]}]},
    ]
    redactor = Redactor()
    assert redactor.value(objects) == objects
    assert not redactor.found


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 100_000,
        "[" * 500_000,
        "- " * 300_000 + "x",
        "a: &a [x]\n"
        + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrstuvwxyz")),
    ],
    ids=["objects", "lists", "dashes", "aliases"],
)
def test_hostile_texts_do_no_harm(text: str) -> None:
    assert Redactor().text(text) == text


def test_control_characters_are_shown_and_split_no_name() -> None:
    told = Redactor().text(f"\x1b[31mpass\x1b[0mword: {SECRET}\x07\nx\x1b]0;title\x9b2J\u202eend")
    assert SECRET not in told
    assert told.isascii()
    assert all(letter.isprintable() or letter == "\n" for letter in told)


def test_what_was_found_once_is_found_everywhere() -> None:
    known: set[str] = set()
    Redactor(known).value({"env": [{"name": "X_PASS", "value": SECRET}]})
    redactor = Redactor(known)
    text = f"plain {SECRET}, /x%2F{SECRET}, {encoded('longer ' + SECRET + ' text')}"
    assert redactor.repeated(text).count("[REDACTED") == 3
    assert redactor.found.total() == 3
    # No word that is used everywhere becomes one.
    Redactor(known).value({"env": [{"name": "X_PASS", "value": "istio-system"}]})
    assert Redactor(known).repeated("namespace istio-system") == "namespace istio-system"


@pytest.mark.parametrize(
    "text", ["a" * 10**6, "a+/" * 300_000, "word " * 200_000, "QUJD\n" * 200_000, '{"name": "x", ' * 50_000]
)
def test_large_texts_take_no_long_time(text: str) -> None:
    begun = time.process_time()
    Redactor().text(text)
    assert time.process_time() - begun < 5
