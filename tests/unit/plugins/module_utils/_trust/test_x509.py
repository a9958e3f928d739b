"""The rules for CAs, each with real X.509; judged by openssl's and Python's strict verification."""

from __future__ import annotations

import dataclasses
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.certificates import fingerprint
from ansible_collections.exomesh.istio.plugins.module_utils._trust import renewal
from ansible_collections.exomesh.istio.plugins.module_utils._trust import x509 as rules
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import (
    Authority,
    CertificateError,
    KeyKind,
    Profile,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from signing import sign_intermediate

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
KINDS = [KeyKind("rsa", 2048), KeyKind("ecdsa-p256"), KeyKind("ecdsa-p384")]
P256 = KeyKind("ecdsa-p256")


def profile(**changes: Any) -> Profile:
    wanted = Profile("east", "Istio", P256, 365 * DAY, 30 * DAY)
    return dataclasses.replace(wanted, **changes)


def authority(
    organization: str = "Istio", kind: KeyKind = P256, lifetime: timedelta = 3650 * DAY
) -> Authority:
    key = rules.new_key(kind)
    return Authority((rules.new_root(key, organization, lifetime, NOW),), key)


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority()


@pytest.fixture(scope="module")
def issued(root: Authority) -> Authority:
    key = rules.new_key(P256)
    return Authority(sign_intermediate(root, key, profile(), NOW), key)


def why(
    held: Authority | None, root: Authority, wanted: Profile | None = None, now: datetime = NOW
) -> str | None:
    chain, key = (held.chain, held.key) if held else (None, None)
    return renewal.why_renew(chain, key, wanted or profile(), root.chain, now)


Change = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


def odd(
    root: Authority,
    *,
    ca: bool = True,
    path_length: int | None = 0,
    cert_sign: bool = True,
    crl_sign: bool = True,
    name: str = rules.ISTIOD_NAME,
    identifiers: bool = True,
    begins: timedelta = timedelta(),
    ends: timedelta = 365 * DAY,
) -> Authority:
    """An intermediate CA that differs in one thing from what it shall be."""
    key = rules.new_key(P256)
    usage = dict.fromkeys(
        ("data_encipherment", "key_agreement", "encipher_only", "decipher_only", "key_encipherment"), False
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(profile().subject)
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ends)
        .add_extension(x509.BasicConstraints(ca, path_length if ca else None), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_cert_sign=cert_sign,
                crl_sign=crl_sign,
                **usage,
            ),
            True,
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
    )
    if identifiers:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), False
        )
    return Authority((builder.sign(root.key, hashes.SHA256()), *root.chain), key)


# What is made


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_openssl_and_pythons_strict_verification_accept_the_chain(kind: KeyKind, tmp_path: Path) -> None:
    root = authority(kind=kind)
    key = rules.new_key(kind)
    chain = sign_intermediate(root, key, profile(key=kind), NOW)
    assert why(Authority(chain, key), root, profile(key=kind)) is None
    (tmp_path / "root.pem").write_text(rules.chain_pem(chain[1:]))
    (tmp_path / "ca.pem").write_text(rules.chain_pem(chain[:1]))
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "ca.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "ca.pem: OK\n", done.stderr
    _handshake_strictly(tmp_path, Authority(chain, key))


def _handshake_strictly(folder: Path, ca: Authority) -> None:
    """A TLS handshake with a leaf of the CA, verified as Python 3.13 and later do it by default."""
    leaf_key = rules.new_key(P256)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]))
        .issuer_name(ca.certificate.subject)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("leaf")]), False)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False)
        .sign(ca.key, hashes.SHA256())
    )
    (folder / "leaf.pem").write_text(rules.chain_pem([leaf, ca.certificate]) + rules.key_pem(leaf_key))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "leaf.pem")
    client_context = ssl.create_default_context(cafile=str(folder / "root.pem"))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="leaf")
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.getpeercert()


def test_the_intermediate_is_as_istios_makefile_makes_it(issued: Authority) -> None:
    ca = issued.certificate
    assert ca.subject.rfc4514_string() == "L=east,CN=Intermediate CA,O=Istio"
    assert issued.chain[-1].subject.rfc4514_string() == "CN=Root CA,O=Istio"
    extensions = {type(extension.value): extension for extension in ca.extensions}
    constraints = extensions[x509.BasicConstraints]
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(True, 0))
    names = ca.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["istiod.istio-system.svc"]
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    # These are the Makefile's; cRLSign and the Authority Key Identifier are ours.
    for name in ("digital_signature", "content_commitment", "key_encipherment", "key_cert_sign", "crl_sign"):
        assert getattr(usage.value, name)
    assert x509.AuthorityKeyIdentifier in extensions


def test_dates_are_backdated_and_end_with_the_issuer(root: Authority, issued: Authority) -> None:
    assert issued.certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert issued.certificate.not_valid_after_utc == NOW + 365 * DAY
    late = NOW + 3500 * DAY
    chain = sign_intermediate(root, rules.new_key(P256), profile(), late)
    assert chain[0].not_valid_after_utc == root.certificate.not_valid_after_utc


def test_a_request_asks_for_all_of_it(root: Authority) -> None:
    key = rules.new_key(P256)
    request = x509.load_pem_x509_csr(rules.request_pem(rules.new_request(key, profile())).encode())
    signed = sign_intermediate(root, key, profile(), NOW)[0]
    assert request.subject == signed.subject
    wanted = {extension.oid: extension.value for extension in request.extensions}
    given = {extension.oid: extension.value for extension in signed.extensions}
    assert wanted.items() <= given.items()


# Why to renew


def test_a_new_intermediate_stays(root: Authority, issued: Authority) -> None:
    assert why(issued, root) is None


def test_none_expired_and_due_are_reasons(root: Authority, issued: Authority) -> None:
    assert why(None, root) == "it has none"
    assert why(issued, root, now=NOW + 335 * DAY - timedelta(seconds=1)) is None
    due = why(issued, root, now=NOW + 335 * DAY + timedelta(hours=1))
    assert due
    assert "its own ends at" in due
    assert "29 days left" in due
    expired = why(issued, root, now=NOW + 365 * DAY)
    assert expired
    assert expired.startswith("its own expired at")


def test_one_that_ends_with_its_root_is_not_renewed_for_nothing() -> None:
    short = authority(lifetime=20 * DAY)
    key = rules.new_key(P256)
    held = Authority(sign_intermediate(short, key, profile(), NOW), key)
    assert why(held, short) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cluster": "west"}, "its subject is L=east"),
        ({"organization": "Other"}, "its subject is"),
        ({"key": KeyKind("rsa", 4096)}, "its key is ECDSA P-256, not RSA 4096"),
        ({"key": KeyKind("ecdsa-p384")}, "its key is ECDSA P-256, not ECDSA P-384"),
        ({"key": KeyKind("ecdsa-p256", 2048)}, None),
        ({"lifetime": 90 * DAY}, None),
    ],
)
def test_what_is_asked_for_otherwise_is_a_reason(
    root: Authority, issued: Authority, change: dict[str, Any], said: str | None
) -> None:
    reason = why(issued, root, profile(**change))
    assert reason is None if said is None else said in (reason or "")


def test_the_size_of_an_rsa_key_counts(root: Authority) -> None:
    key = rules.new_key(KeyKind("rsa", 2048))
    held = Authority(sign_intermediate(root, key, profile(), NOW), key)
    assert why(held, root, profile(key=KeyKind("rsa", 2048))) is None
    assert why(held, root, profile(key=KeyKind("rsa", 3072))) == "its key is RSA 2048, not RSA 3072"


def test_the_order_of_the_subjects_parts_does_not_count(root: Authority) -> None:
    held = odd(root)
    turned = dataclasses.replace(profile())
    assert why(held, root, turned) is None


def test_a_foreign_key_or_root_is_a_reason(root: Authority, issued: Authority) -> None:
    stranger = Authority(issued.chain, rules.new_key(P256))
    assert why(stranger, root) == "its key belongs to another certificate"
    assert why(Authority(issued.chain, None), root) == "its key belongs to another certificate"
    other = authority()
    reason = why(issued, other)
    assert reason
    assert fingerprint(root.certificate) in reason


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"ca": False}, "is no CA"),
        ({"cert_sign": False}, "keyCertSign"),
        ({"crl_sign": False}, "cRLSign"),
        ({"path_length": None}, "its path length is not 0"),
        ({"name": "elsewhere"}, "its names lack istiod.istio-system.svc"),
        ({"identifiers": False}, "Subject Key Identifier"),
        ({"begins": DAY}, "is not valid before"),
    ],
)
def test_what_istio_or_a_strict_verifier_needs_is_a_reason(
    root: Authority, fault: dict[str, Any], said: str
) -> None:
    assert said in (why(odd(root, **fault), root) or "")


# Judging chains


def test_a_chain_with_a_ca_between_is_whole(root: Authority) -> None:
    between = odd(root, path_length=1)
    key = rules.new_key(P256)
    chain = sign_intermediate(between, key, profile(), NOW)
    assert rules.chain_problems(chain, NOW) == []
    assert why(Authority(chain, key), root) is None
    shuffled = rules.complete_chain(chain[:1], [chain[2], chain[1]])
    assert shuffled == chain


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: (), "it holds no certificate"),
        (lambda root: odd(root, ends=timedelta()).chain, "expired at"),
        (lambda root: odd(root, ca=False).chain, "is no CA"),
        (lambda root: odd(root).chain[:1], "is no root"),
        (lambda root: (odd(root).certificate, authority().certificate), "is not signed by"),
    ],
    ids=["empty", "expired", "no CA", "no root", "not signed"],
)
def test_a_bad_chain_is_explained(root: Authority, make: Callable[[Authority], Any], said: str) -> None:
    assert any(said in problem for problem in rules.chain_problems(make(root), NOW))


def test_a_path_length_that_is_too_short_is_found(root: Authority) -> None:
    between = odd(root, path_length=0)
    chain = sign_intermediate(between, rules.new_key(P256), profile(), NOW)
    assert any("pathlen" in problem for problem in rules.chain_problems(chain, NOW))
    assert any("pathlen" in problem for problem in rules.chain_problems(between.chain, NOW, cas_below=1))


def test_a_chain_of_istios_own_makefile_is_accepted_with_its_weaknesses(root: Authority) -> None:
    old = odd(root, identifiers=False, crl_sign=False)
    assert rules.chain_problems(old.chain, NOW) == []
    told = " ".join(rules.chain_weaknesses(old.chain))
    assert "no Authority Key Identifier" in told
    assert "cRLSign" in told


def test_a_weak_rsa_key_is_refused(root: Authority) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = rsa.generate_private_key(65537, 1024)
    chain = sign_intermediate(root, weak, profile(), NOW)
    assert any("1024 bits" in problem for problem in rules.chain_problems(chain, NOW))


# Keys


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_key_is_read_back(kind: KeyKind) -> None:
    key = rules.new_key(kind)
    assert rules.kind_of(rules.read_key(rules.key_pem(key), None, "it").public_key()) == kind
    encrypted = rules.key_pem(key, "secret")
    assert rules.key_is_encrypted(encrypted)
    assert rules.read_key(encrypted, "secret", "it").public_key() == key.public_key()


@pytest.mark.parametrize(
    ("passphrase", "code"),
    [(None, "passphrase_missing"), ("", "passphrase_missing"), ("no", "passphrase_wrong")],
)
def test_a_key_that_does_not_open_is_explained(passphrase: str | None, code: str) -> None:
    encrypted = rules.key_pem(rules.new_key(P256), "secret")
    with pytest.raises(CertificateError) as caught:
        rules.read_key(encrypted, passphrase, "the root key")
    assert caught.value.code == code
    assert "secret" not in str(caught.value).replace("EXOMESH", "")


def test_keys_of_old_formats_are_read() -> None:
    key = rules.new_key(KeyKind("rsa", 2048))
    traditional = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()
    assert rules.read_key(traditional, "secret", "it").public_key() == key.public_key()


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_or_certificate_is_named(text: str) -> None:
    with pytest.raises(CertificateError, match="the thing is no PEM private key"):
        rules.read_key(text, None, "the thing")
    with pytest.raises(CertificateError, match="the thing is no PEM certificate"):
        rules.read_chain(text, "the thing")
