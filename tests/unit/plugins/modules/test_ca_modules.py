# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules root_ca and intermediate_ca on small APIs: what settles, is refused, is encrypted."""

from __future__ import annotations

import base64
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._trust import encrypted_key
from ansible_collections.exomesh.istio.plugins.module_utils._trust import x509 as rules
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import Authority, KeyKind, Profile
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from kubeconfigs import run_module
from kubernetes_api import ApiServer
from signing import sign, sign_intermediate

DAY = timedelta(days=1)
P256 = KeyKind("ecdsa-p256")
CACERTS = "/api/v1/namespaces/istio-system/secrets/cacerts"
STRONG = "correct horse battery staple"


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[dict[str, ApiServer]]:
    servers = {name: ApiServer(tmp_path, name) for name in ("east", "north", "west")}
    yield servers
    for server in servers.values():
        server.close()


def root_authority(lifetime: timedelta = 3650 * DAY) -> Authority:
    key = rules.new_key(P256)
    return Authority((rules.new_root(key, "Istio", lifetime, datetime.now(UTC)),), key)


def ca_below(above: Authority, lifetime: timedelta, key: Any = None) -> Authority:
    """A CA that may sign intermediates, and lives for so long, whatever its issuer's end."""
    key = key or rules.new_key(P256)
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("data_encipherment", "key_agreement", "encipher_only", "decipher_only", "key_encipherment"), False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Issuing CA")]))
        .issuer_name(above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, content_commitment=False, key_cert_sign=True, crl_sign=True, **usage
            ),
            True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), False)
        .sign(above.key, hashes.SHA256())
    )
    return Authority((certificate, *above.chain), key)


def ask(cluster: ApiServer, signer: Authority, check: bool = False, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "kubeconfig": str(cluster.kubeconfig),
        "name": cluster.name,
        "issuer": rules.chain_pem(signer.chain),
        "key_type": "ecdsa-p256",
        **options,
    }
    return run_module("intermediate_ca", check=check, **given)


def issue(cluster: ApiServer, signer: Authority, check: bool = False, **options: Any) -> dict[str, Any]:
    """Ask for a new one, sign it and store it, where one is needed."""
    asked = ask(cluster, signer, check, **options)
    if not asked.get("request"):
        return asked
    now = datetime.now(UTC)
    request = x509.load_pem_x509_csr(asked["request"].encode())
    chain = sign(signer, request, now + timedelta(seconds=asked["request_lifetime"]), now)
    stored = ask(cluster, signer, check, signed=rules.chain_pem(chain[:1]), **options)
    return stored | {"reason": asked["reason"]}


def told(result: dict[str, Any]) -> str:
    return str(result.get("warnings", ""))


def held(cluster: ApiServer) -> dict[str, str]:
    return {name: base64.b64decode(text).decode() for name, text in cluster.objects[CACERTS]["data"].items()}


# An intermediate CA settles

SIGNERS: dict[str, tuple[Callable[[], Authority], dict[str, int], str]] = {
    "the issuing CA ends first": (
        lambda: ca_below(root_authority(), 20 * DAY),
        {},
        "its issuer CN=Issuing CA",
    ),
    "a CA above it ends first": (
        lambda: ca_below(ca_below(root_authority(), 20 * DAY), 400 * DAY),
        {},
        "its issuer CN=Issuing CA",
    ),
    "the root ends first": (lambda: root_authority(20 * DAY), {}, "rotate_root"),
    "it lives for less than the margin": (root_authority, {"lifetime": 20}, "certificates_renew_before"),
    "it lives for no more than the margin": (root_authority, {"lifetime": 30}, "certificates_renew_before"),
    "it lives for a day": (root_authority, {"lifetime": 1, "renew_before": 7}, "certificates_renew_before"),
}


@pytest.mark.parametrize(("signer", "options", "cause"), SIGNERS.values(), ids=SIGNERS)
def test_a_second_run_keeps_it_and_tells_why_its_end_is_near(
    clusters: dict[str, ApiServer], signer: Callable[[], Authority], options: dict[str, int], cause: str
) -> None:
    east, authority = clusters["east"], signer()
    first = issue(east, authority, **options)
    assert first["reason"] == "it has none"
    for check in (True, False):
        again = issue(east, authority, check=check, **options)
        assert (again["changed"], again["reason"]) == (False, "")
        assert again["certificate"]["serial"] == first["certificate"]["serial"]
        assert "cluster east: its intermediate CA ends at" in told(again)
        assert cause in told(again)
    assert cause in told(first)


def test_it_is_renewed_once_when_its_issuer_was(clusters: dict[str, ApiServer]) -> None:
    root, key = root_authority(), rules.new_key(P256)
    issue(clusters["east"], ca_below(root, 20 * DAY, key))
    longer = ca_below(root, 400 * DAY, key)
    renewed = issue(clusters["east"], longer)
    assert "its own ends at" in renewed["reason"]
    assert not told(renewed)
    assert not issue(clusters["east"], longer)["changed"]


def test_one_that_a_ca_elsewhere_made_short_settles(clusters: dict[str, ApiServer]) -> None:
    east, root = clusters["east"], root_authority()
    asked = ask(east, root, issuer_has_limits=True)
    request = x509.load_pem_x509_csr(asked["request"].encode())
    key = serialization.load_pem_private_key(
        base64.b64decode(
            east.objects["/api/v1/namespaces/istio-system/secrets/cacerts-request"]["data"]["ca-key.pem"]
        ),
        None,
    )
    assert request.public_key() == key.public_key()
    profile = Profile("east", "Istio", P256, 12 * DAY, 3 * DAY)
    chain = sign_intermediate(root, key, profile, datetime.now(UTC))
    signed = ask(east, root, issuer_has_limits=True, signed=rules.chain_pem(chain))
    assert signed["changed"]
    assert "failure" not in signed
    again = ask(east, root, issuer_has_limits=True, signed=rules.chain_pem(chain))
    assert (again["changed"], again["request"]) == (False, "")
    assert "has a limit of its own" in told(again)


def test_one_that_lives_long_is_due_as_before(clusters: dict[str, ApiServer]) -> None:
    root = root_authority()
    issue(clusters["east"], root, lifetime=40)
    assert not issue(clusters["east"], root, renew_before=39)["changed"]
    assert "its own ends at" in issue(clusters["east"], root, renew_before=41)["reason"]
    assert not issue(clusters["east"], root, renew_before=41)["changed"]
    assert issue(clusters["east"], root, renew=True)["changed"]


def test_an_issuer_that_ends_within_the_hour_signs_nothing(clusters: dict[str, ApiServer]) -> None:
    for check in (True, False):
        refused = issue(clusters["east"], ca_below(root_authority(), timedelta(minutes=10)), check=check)
        assert refused["failure"]["code"] == "issuer_ends"
        assert refused["failure"]["cluster"] == "east"
        assert "Renew that CA first" in refused["msg"]
    assert CACERTS not in clusters["east"].objects


@pytest.mark.parametrize(
    "options", [{"lifetime": 0}, {"lifetime": -3}, {"lifetime": 10**7}, {"renew_before": -1}]
)
def test_a_lifetime_that_is_none_is_refused(clusters: dict[str, ApiServer], options: dict[str, int]) -> None:
    refused = issue(clusters["east"], root_authority(), **options)
    assert refused["failure"]["code"] == "lifetime_invalid"
    assert refused["failure"]["cluster"] == "east"
    assert CACERTS not in clusters["east"].objects


@pytest.mark.parametrize("days", [0, -1, 10**7])
def test_a_root_that_would_not_live_is_not_made(tmp_path: Path, days: int) -> None:
    refused = root_ca({}, tmp_path / "state", lifetime=days)
    assert refused["failure"]["code"] == "lifetime_invalid"
    assert not (tmp_path / "state").exists()


# A cluster whose secret is broken

HALF = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ2\n"
FAULTS: dict[str, Callable[[dict[str, str]], None]] = {
    "garbage": lambda data: data.update({"ca-cert.pem": "garbage"}),
    "garbage in the root": lambda data: data.update({"root-cert.pem": "\x00\x01"}),
    "no key": lambda data: data.pop("ca-key.pem") and None,
    "nothing": lambda data: data.clear(),
    "half a PEM": lambda data: data.update({"ca-cert.pem": data["ca-cert.pem"][:200]}),
    "a second one that is half": lambda data: data.update({"root-cert.pem": data["root-cert.pem"] + HALF}),
    "a body that is none": lambda data: data.update(
        {"cert-chain.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}
    ),
}


def root_ca(
    clusters: dict[str, ApiServer], state: Path, check: bool = False, **options: Any
) -> dict[str, Any]:
    members = [
        {"name": name, "network": name, "kubeconfig": str(server.kubeconfig), "peers": []}
        for name, server in clusters.items()
    ]
    given = {"members": members, "state_dir": str(state), "key_type": "ecdsa-p256", **options}
    return run_module("root_ca", check=check, **given)


RECORD = "/api/v1/namespaces/istio-system/configmaps/exomesh"


def test_no_root_is_made_for_a_mesh_of_which_a_member_was_not_read(
    clusters: dict[str, ApiServer], tmp_path: Path
) -> None:
    clusters["west"].kubeconfig.unlink()
    refused = root_ca(clusters, tmp_path / "state")
    assert refused["failure"]["code"] == "mesh_not_read"
    assert "west could not be asked" in refused["msg"]
    assert "certificates_new_mesh" in refused["msg"]
    assert root_ca(clusters, tmp_path / "state", check=True)["failure"]["code"] == "mesh_not_read"
    for cluster in clusters.values():
        cluster.kubeconfig.unlink(missing_ok=True)
    assert root_ca(clusters, tmp_path / "state", check=True)["changed"], "all of it is still to come"
    assert not list((tmp_path / "state").rglob("*.pem"))


def test_no_root_is_made_for_clusters_that_are_in_a_mesh_by_their_records(
    clusters: dict[str, ApiServer], tmp_path: Path
) -> None:
    data = {"mesh": "mesh1", "cluster": "north", "network": "north", "members": "[]"}
    metadata = {"name": "exomesh", "namespace": "istio-system"}
    clusters["north"].put(
        RECORD, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    )
    refused = root_ca(clusters, tmp_path / "state")
    assert refused["failure"]["code"] == "root_missing"
    assert "north is north of mesh mesh1" in refused["msg"]
    assert not (tmp_path / "state" / "ca" / "root-cert.pem").exists()
    members = [
        {"name": name, "network": name, "kubeconfig": str(server.kubeconfig), "peers": [], "mesh": "mesh1"}
        for name, server in clusters.items()
    ]
    other = root_ca(clusters, tmp_path / "state", members=members, new_mesh="mesh2")
    assert other["failure"]["code"] == "root_missing", "it is another mesh that is new"
    assert root_ca(clusters, tmp_path / "state", members=members, new_mesh="mesh1")["changed"]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_others_go_on_and_the_broken_one_fails_alone(
    clusters: dict[str, ApiServer], tmp_path: Path, fault: Callable[[dict[str, str]], None]
) -> None:
    state = tmp_path / "state"
    made = root_ca(clusters, state)
    signer = Authority(
        rules.read_chain(made["certificate"], "it"),
        rules.read_key((state / "ca/root-key.pem").read_text(), None, "it"),
    )
    for cluster in clusters.values():
        issue(cluster, signer)
    broken = held(clusters["north"])
    fault(broken)
    secret = clusters["north"].objects[CACERTS]
    secret["data"] = {name: base64.b64encode(text.encode()).decode() for name, text in broken.items()}
    before = dict(secret["data"])

    again = root_ca(clusters, state)
    assert "failure" not in again
    assert (again["changed"], again["certificate"]) == (False, made["certificate"])
    assert "cluster north: " in told(again)
    for name in ("east", "west"):
        assert name not in told(again)
        assert issue(clusters[name], signer, renew=True)["reason"] == "it was asked for"
    failed = issue(clusters["north"], signer, renew=True)
    assert failed["failure"]["cluster"] == "north"
    assert failed["failure"]["code"] in ("cacerts_partial", "certificate_unreadable")
    assert "delete secret cacerts" in failed["msg"]
    assert clusters["north"].objects[CACERTS]["data"] == before

    # It may hold the mesh's root: no other one is made.
    refused = root_ca(clusters, tmp_path / "elsewhere")
    assert refused["failure"]["code"] in ("cacerts_partial", "certificate_unreadable")
    assert not (tmp_path / "elsewhere/ca/root-cert.pem").exists()


# The root key

ALONE: dict[str, ApiServer] = {}


def weak_key(key: Any, passphrase: str) -> str:
    """Encrypted as before."""
    content: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    )
    return content.decode()


def openssl_reads(path: Path, passphrase: str) -> bool:
    command = ["openssl", "pkey", "-in", str(path), "-passin", f"pass:{passphrase}", "-noout"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def rounds_that_openssl_sees(path: Path) -> list[int]:
    command = ["openssl", "asn1parse", "-in", str(path)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(line.rpartition(":")[2], 16) for line in shown.splitlines() if "INTEGER" in line]


@pytest.mark.parametrize("passphrase", [STRONG, "Größe ist nicht alles, 合言葉", "x" * 1000 + "1234"])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa-p384"])
def test_a_new_key_is_slow_to_guess_and_openssl_reads_it(tmp_path: Path, passphrase: str, kind: str) -> None:
    made = root_ca(ALONE, tmp_path, passphrase=passphrase, key_type=kind, key_size=2048)
    assert "failure" not in made
    path = tmp_path / "ca/root-key.pem"
    assert rounds_that_openssl_sees(path) == [encrypted_key.ROUNDS]
    assert openssl_reads(path, passphrase)
    assert not openssl_reads(path, passphrase[:-1])
    assert not encrypted_key.is_quick_to_guess(path.read_text())
    again = root_ca(ALONE, tmp_path, passphrase=passphrase)
    assert (again["changed"], told(again)) == (False, "")


def old_forms(key: Any) -> dict[str, str]:
    traditional: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(STRONG.encode()),
    )
    clear = rules.key_pem(key)

    def by_openssl(*options: str) -> str:
        command = ["openssl", "pkcs8", "-topk8", "-passout", f"pass:{STRONG}", *options]
        return subprocess.run(command, input=clear, check=True, capture_output=True, text=True).stdout

    return {
        "PKCS#8": weak_key(key, STRONG),
        "traditional": traditional.decode(),
        "PBES1": by_openssl("-v1", "PBE-SHA1-3DES"),
        "openssl": by_openssl(),
    }


@pytest.mark.parametrize("form", ["PKCS#8", "traditional", "PBES1", "openssl"])
def test_a_key_that_is_quick_to_guess_is_encrypted_anew(tmp_path: Path, form: str) -> None:
    root_ca(ALONE, tmp_path)
    path = tmp_path / "ca/root-key.pem"
    key = rules.read_key(path.read_text(), None, "it")
    old = old_forms(key)[form]
    path.write_text(old)
    assert root_ca(ALONE, tmp_path)["changed"] is False  # without the passphrase nothing can be done
    predicted = root_ca(ALONE, tmp_path, check=True, passphrase=STRONG)
    assert predicted["changed"]
    assert f"encryption of {path} with 600000 rounds" in predicted["changes"][0]
    assert path.read_text() == old
    done = root_ca(ALONE, tmp_path, passphrase=STRONG)
    assert done["changes"] == predicted["changes"]
    assert rules.read_key(path.read_text(), STRONG, "it").public_key() == key.public_key()
    assert rounds_that_openssl_sees(path) == [encrypted_key.ROUNDS]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not root_ca(ALONE, tmp_path, passphrase=STRONG)["changed"]


@pytest.mark.parametrize("options", [("-iter", "700000"), ("-scrypt",)])
def test_one_that_somebody_made_slower_stays(tmp_path: Path, options: tuple[str, ...]) -> None:
    root_ca(ALONE, tmp_path)
    path = tmp_path / "ca/root-key.pem"
    command = ["openssl", "pkcs8", "-topk8", "-passout", f"pass:{STRONG}", *options]
    slower = subprocess.run(
        command, input=path.read_text(), check=True, capture_output=True, text=True
    ).stdout
    path.write_text(slower)
    assert not root_ca(ALONE, tmp_path, passphrase=STRONG)["changed"]
    assert path.read_text() == slower


def test_a_wrong_passphrase_changes_nothing_and_is_told(tmp_path: Path) -> None:
    root_ca(ALONE, tmp_path)
    path = tmp_path / "ca/root-key.pem"
    old = weak_key(rules.read_key(path.read_text(), None, "it"), STRONG)
    path.write_text(old)
    done = root_ca(ALONE, tmp_path, passphrase="another horse battery")
    assert (done["changed"], path.read_text()) == (False, old)
    assert "does not open with the passphrase" in told(done)


@pytest.mark.parametrize(
    "passphrase", ["secret", "12345678901", "           1", "aaaaaaaaaaaaaaaa", "é" * 600]
)
@pytest.mark.parametrize("there", [False, True], ids=["new key", "key in clear"])
def test_a_weak_passphrase_is_refused_for_what_is_encrypted_now(
    tmp_path: Path, passphrase: str, there: bool
) -> None:
    if there:
        root_ca(ALONE, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("ca/*")}
    for check in (True, False):
        refused = root_ca(ALONE, tmp_path, check=check, passphrase=passphrase)
        assert refused["failure"]["code"] == "passphrase_weak"
        assert passphrase not in refused["msg"]
        assert "EXOMESH_ROOT_PASSPHRASE" in refused["msg"]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("ca/*")} == before


def test_an_old_key_with_a_weak_passphrase_opens_with_a_warning(tmp_path: Path) -> None:
    root_ca(ALONE, tmp_path)
    path = tmp_path / "ca/root-key.pem"
    path.write_text(weak_key(rules.read_key(path.read_text(), None, "it"), "secret"))
    for changed in (True, False):
        done = root_ca(ALONE, tmp_path, passphrase="secret")
        assert done["changed"] is changed
        assert "fewer than 12 characters" in told(done)
        assert "openssl pkcs8 -topk8" in told(done)
    assert rounds_that_openssl_sees(path) == [encrypted_key.ROUNDS]


def test_a_guess_costs_a_thief_time() -> None:
    encrypted = rules.key_pem(rules.new_key(P256), STRONG)
    begun = time.process_time()
    rules.read_key(encrypted, STRONG, "it")
    assert time.process_time() - begun > 0.02
