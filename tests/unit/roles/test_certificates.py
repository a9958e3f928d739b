"""Role certificates against real Kubernetes APIs; its X.509 judged by openssl's strict verification."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_runs import run_ansible
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

USAGES = "Digital Signature, Non Repudiation, Key Encipherment, Certificate Sign, CRL Sign"
PROJECT = Path(__file__).resolve().parents[3]
QUICK: dict[str, Any] = {"certificates_key_size": 2048}


@dataclasses.dataclass
class Run:
    """What one ansible-playbook did: its exit code, all it printed, and `changed` by host."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        recap = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", self.output, re.M)
        return {host: int(count) for host, count in recap}

    @property
    def text(self) -> str:
        """The output without the line breaks of its YAML."""
        return re.sub(r"\s+", " ", self.output)


@dataclasses.dataclass
class Mesh:
    """Two empty clusters, an inventory of them, and a play of the role."""

    folder: Path
    kubeconfigs: dict[str, Path]

    @property
    def state(self) -> Path:
        return self.folder / ".exomesh"

    def run(self, *arguments: str, **variables: Any) -> Run:
        play = ("-i", "inventory.yml", "play.yml", "-e", json.dumps(QUICK | variables))
        done = run_ansible("ansible-playbook", *play, *arguments, folder=self.folder)
        return Run(done.returncode, done.stdout + done.stderr)

    def api(self, cluster: str) -> client.CoreV1Api:
        return client.CoreV1Api(config.new_client_from_config(str(self.kubeconfigs[cluster])))

    def cacerts(self, cluster: str) -> dict[str, bytes]:
        """The contents of secret cacerts, {} without one."""
        try:
            secret = self.api(cluster).read_namespaced_secret("cacerts", "istio-system")
        except ApiException as error:
            if error.status != 404:
                raise
            return {}
        return {name: base64.b64decode(value) for name, value in secret.data.items()}

    def delete_cacerts(self, cluster: str) -> None:
        if self.cacerts(cluster):
            self.api(cluster).delete_namespaced_secret("cacerts", "istio-system")


@pytest.fixture
def mesh(tmp_path: Path, kubeconfigs: dict[str, Path]) -> Mesh:
    hosts = {name: {"mesh_kubeconfig": str(path)} for name, path in kubeconfigs.items()}
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": local}}))
    play = {"hosts": "all", "gather_facts": False, "roles": ["exomesh.istio.certificates"]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    mesh = Mesh(tmp_path, kubeconfigs)
    for cluster in kubeconfigs:
        mesh.delete_cacerts(cluster)
    return mesh


def certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_first_run_makes_a_chain_that_strict_verifiers_accept(mesh: Mesh) -> None:
    first = mesh.run("-vvvv", "--diff", certificates_key_size=4096)
    assert first.code == 0, first.output
    root = (mesh.state / "ca/root-cert.pem").read_bytes()
    held = {cluster: mesh.cacerts(cluster) for cluster in mesh.kubeconfigs}

    for cluster, secret in held.items():
        assert secret["root-cert.pem"] == root
        assert secret["cert-chain.pem"] == secret["ca-cert.pem"] + root
        key = serialization.load_pem_private_key(secret["ca-key.pem"], None)
        intermediate = certificate(secret["ca-cert.pem"])
        assert intermediate.public_key() == key.public_key()
        assert intermediate.subject.rfc4514_string() == f"L={cluster},CN=Intermediate CA,O=Istio"
        assert days_left(intermediate) == pytest.approx(365, abs=0.1)
        description = describe(mesh.folder, secret["ca-cert.pem"])
        assert "DNS:istiod.istio-system.svc" in description
        assert "Basic Constraints: critical CA:TRUE, pathlen:0" in description
        assert f"Key Usage: critical {USAGES}" in description
        assert "Authority Key Identifier" in description
        assert "Public-Key: (4096 bit)" in description
        verify_strictly(mesh.folder, root, secret["ca-cert.pem"])
        labels = mesh.api(cluster).read_namespace("istio-system").metadata.labels
        assert labels["topology.istio.io/network"] == f"network-{cluster}"

    assert held["east"]["ca-key.pem"] != held["west"]["ca-key.pem"]
    description = describe(mesh.folder, root)
    assert "Subject: O = Istio, CN = Root CA" in description
    assert "Basic Constraints: critical CA:TRUE X509v3" in description
    assert days_left(certificate(root)) == pytest.approx(3650, abs=0.1)
    for path, mode in {".": 0o700, "ca": 0o700, "ca/root-key.pem": 0o600, "ca/root-cert.pem": 0o600}.items():
        assert (mesh.state / path).stat().st_mode & 0o777 == mode
    assert (mesh.state / ".gitignore").read_text() == "*\n"

    keys = [secret["ca-key.pem"] for secret in held.values()]
    keys.append((mesh.state / "ca/root-key.pem").read_bytes())
    again = mesh.run("-vvvv", "--diff", certificates_key_size=4096)
    assert again.changed == {"east": 0, "west": 0}, again.output
    assert {cluster: mesh.cacerts(cluster) for cluster in mesh.kubeconfigs} == held
    for key in keys:
        assert_absent(key, first.output + again.output)


def test_check_mode_tells_what_a_first_run_would_do_and_does_nothing(mesh: Mesh) -> None:
    without_api = mesh.run("--check", "--diff", mesh_kubeconfig=str(mesh.folder / "to-come"))
    with_api = mesh.run("--check", "--diff")
    for run in (without_api, with_api):
        assert run.code == 0, run.output
        assert all(count > 0 for count in run.changed.values())
        assert "Cluster east: would get a new intermediate CA, because it has none" in run.text
    assert not mesh.state.exists()
    assert not any(mesh.cacerts(cluster) for cluster in mesh.kubeconfigs)

    assert mesh.run("--limit", "east").code == 0
    partly = mesh.run("--check", "--diff")
    assert partly.code == 0, partly.output
    assert partly.changed["east"] == 0
    assert partly.changed["west"] > 0
    assert mesh.cacerts("west") == {}


def test_a_cluster_that_joins_later_gets_the_same_root(mesh: Mesh) -> None:
    assert mesh.run("--limit", "west").code == 0
    assert mesh.run("--limit", "east").code == 0
    assert mesh.cacerts("east")["root-cert.pem"] == mesh.cacerts("west")["root-cert.pem"]


def test_an_intermediate_is_renewed_when_it_is_due_or_described_otherwise(mesh: Mesh) -> None:
    mesh.run("--limit", "east", certificates_lifetime=40)
    first = mesh.cacerts("east")
    assert mesh.run("--limit", "east").changed == {"east": 0}

    due = mesh.run("--limit", "east", certificates_renew_before=50)
    assert "because its own ends at" in due.text, due.output
    renewed = mesh.cacerts("east")
    assert renewed["root-cert.pem"] == first["root-cert.pem"]
    assert renewed["ca-key.pem"] != first["ca-key.pem"]
    assert days_left(certificate(renewed["ca-cert.pem"])) == pytest.approx(365, abs=0.1)

    other = mesh.run("--limit", "east", mesh_cluster_name="orient")
    assert "because its subject is" in other.text, other.output
    assert "L=orient" in certificate(mesh.cacerts("east")["ca-cert.pem"]).subject.rfc4514_string()
    assert mesh.run("--limit", "east", mesh_cluster_name="orient").changed == {"east": 0}


def test_an_intermediate_never_outlives_its_root(mesh: Mesh) -> None:
    short = {"certificates_root_lifetime": 20, "certificates_lifetime": 20, "certificates_renew_before": 5}
    mesh.run("--limit", "east", **short)
    root = certificate((mesh.state / "ca/root-cert.pem").read_bytes())
    assert mesh.run("--limit", "west").code == 0
    intermediate = certificate(mesh.cacerts("west")["ca-cert.pem"])
    assert intermediate.not_valid_after_utc == root.not_valid_after_utc
    assert mesh.run("--limit", "west").changed == {"west": 0}


def test_the_root_key_may_have_a_passphrase(mesh: Mesh) -> None:
    passphrase = "correct horse battery"
    (mesh.folder / "group_vars").mkdir()
    (mesh.folder / "group_vars/all.yml").write_text(f"certificates_root_passphrase: {passphrase}\n")
    run = mesh.run("--limit", "east", "-vvvv", "--diff")
    assert run.code == 0, run.output
    assert b"ENCRYPTED" in (mesh.state / "ca/root-key.pem").read_bytes()
    assert passphrase not in run.output

    refused = mesh.run("--limit", "west", certificates_root_passphrase="wrong")
    assert refused.code != 0
    assert mesh.cacerts("west") == {}


def test_another_root_in_a_cluster_is_not_replaced(mesh: Mesh) -> None:
    mesh.run("--limit", "west")
    foreign = mesh.cacerts("west")
    shutil.rmtree(mesh.state)

    no_new_root = mesh.run()
    assert no_new_root.code != 0
    assert fingerprint(foreign["root-cert.pem"]) in no_new_root.text, no_new_root.output
    assert not (mesh.state / "ca/root-cert.pem").exists()

    mesh.run("--limit", "east")
    refused = mesh.run()
    assert refused.code != 0
    assert "cluster west trusts another one" in refused.text, refused.output
    assert fingerprint(foreign["root-cert.pem"]) in refused.text
    assert fingerprint((mesh.state / "ca/root-cert.pem").read_bytes()) in refused.text
    assert "delete secret/cacerts" in refused.text
    assert mesh.cacerts("west") == foreign


def test_a_lost_root_key_is_not_replaced(mesh: Mesh) -> None:
    mesh.run("--limit", "east")
    root = (mesh.state / "ca/root-cert.pem").read_bytes()
    (mesh.state / "ca/root-key.pem").unlink()
    refused = mesh.run()
    assert refused.code != 0
    assert "is lost" in refused.text, refused.output
    assert (mesh.state / "ca/root-cert.pem").read_bytes() == root
    assert not (mesh.state / "ca/root-key.pem").exists()


def test_a_run_that_was_killed_between_root_key_and_certificate_is_finished(mesh: Mesh) -> None:
    mesh.run("--limit", "east")
    key = (mesh.state / "ca/root-key.pem").read_bytes()
    (mesh.state / "ca/root-cert.pem").unlink()
    mesh.delete_cacerts("east")
    assert mesh.run("--limit", "east").code == 0
    assert (mesh.state / "ca/root-key.pem").read_bytes() == key


def test_a_partial_secret_is_an_error(mesh: Mesh) -> None:
    mesh.run("--limit", "east")
    mesh.api("east").patch_namespaced_secret("cacerts", "istio-system", {"data": {"ca-key.pem": None}})
    refused = mesh.run("--limit", "east")
    assert refused.code != 0
    assert "cluster east: Secret istio-system/cacerts lacks ca-key.pem" in refused.text, refused.output


def test_an_unreachable_cluster_is_named_with_the_reason(mesh: Mesh) -> None:
    kubeconfig = yaml.safe_load(mesh.kubeconfigs["west"].read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (mesh.folder / "unreachable").write_text(yaml.safe_dump(kubeconfig))
    failed = mesh.run("--limit", "west", mesh_kubeconfig=str(mesh.folder / "unreachable"))
    assert failed.code != 0
    assert "cluster west: The API server https://127.0.0.1:9 does not answer" in failed.text, failed.output
    assert "Nothing listens there. Check that the cluster is running" in failed.text, failed.output


def test_a_key_in_clear_is_warned_of_and_encrypted_when_there_is_a_passphrase(mesh: Mesh) -> None:
    first = mesh.run("--limit", "east")
    assert "has no passphrase" in re.sub(r"\s+", " ", first.output)
    key = mesh.state / "ca/root-key.pem"
    assert b"ENCRYPTED" not in key.read_bytes()
    (mesh.folder / "passphrase").write_text("correct horse battery\n")
    from_file = {"certificates_root_passphrase_file": str(mesh.folder / "passphrase")}

    predicted = mesh.run("--limit", "east", "--check", "--diff", **from_file)
    assert predicted.changed == {"east": 1}
    assert f"encryption of {key}" in predicted.text
    assert b"ENCRYPTED" not in key.read_bytes()
    assert mesh.run("--limit", "east", **from_file).changed == {"east": 1}
    assert serialization.load_pem_private_key(key.read_bytes(), b"correct horse battery")
    assert mesh.run("--limit", "east", **from_file).changed == {"east": 0}
    # The key is read only when something is to be signed.
    assert mesh.run("--limit", "west").code != 0
    assert mesh.run("--limit", "west", **from_file).code == 0


def test_keys_may_be_ecdsa(mesh: Mesh) -> None:
    ecdsa = {"certificates_key_type": "ecdsa-p384"}
    assert mesh.run("--limit", "east", **ecdsa).code == 0
    root, secret = (mesh.state / "ca/root-cert.pem").read_bytes(), mesh.cacerts("east")
    assert "NIST CURVE: P-384" in describe(mesh.folder, root)
    assert "NIST CURVE: P-384" in describe(mesh.folder, secret["ca-cert.pem"])
    verify_strictly(mesh.folder, root, secret["ca-cert.pem"])
    assert mesh.run("--limit", "east", **ecdsa).changed == {"east": 0}


def test_an_offline_root_signs_what_is_put_beside_the_requests(mesh: Mesh) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
    command += ["-keyout", "offline-key.pem", "-out", "offline.pem"]
    command += ["-subj", "/O=Offline/CN=Root CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    subprocess.run(command, cwd=mesh.folder, check=True, capture_output=True)
    offline = {
        "certificates_backend": "csr",
        "certificates_root_certificate": (mesh.folder / "offline.pem").read_text(),
    }
    predicted = mesh.run("--check", "--diff", **offline)
    assert predicted.code == 0, predicted.output
    assert all(count > 0 for count in predicted.changed.values())

    waiting = mesh.run(**offline)
    assert waiting.code != 0
    requests = mesh.state / "requests"
    for cluster in mesh.kubeconfigs:
        assert f"{requests}/{cluster}-request.pem" in waiting.text
        assert "PRIVATE" not in (requests / f"{cluster}-request.pem").read_text()
    assert not any(mesh.cacerts(cluster) for cluster in mesh.kubeconfigs)
    still = mesh.run(**offline)
    assert still.code != 0
    assert still.changed == {"east": 0, "west": 0}

    command = ["openssl", "x509", "-req", "-in", f"{requests}/east-request.pem", "-days", "365"]
    command += ["-CA", "offline.pem", "-CAkey", "offline-key.pem", "-CAcreateserial"]
    command += ["-copy_extensions", "copyall", "-out", f"{requests}/east-cert.pem"]
    subprocess.run(command, cwd=mesh.folder, check=True, capture_output=True)
    by_openssl = (requests / "east-cert.pem").read_bytes()
    signed = sign_requests(mesh, requests)
    assert signed.code == 0, signed.output
    assert signed.changed == {"localhost": 2}, "what west asks for is signed and written"
    assert (requests / "east-cert.pem").read_bytes() == by_openssl
    assert sign_requests(mesh, requests).changed == {"localhost": 0}
    swapped = (requests / "east-cert.pem").read_bytes()
    (requests / "east-cert.pem").write_bytes((requests / "west-cert.pem").read_bytes())
    wrong = mesh.run("--limit", "east", **offline)
    assert wrong.code != 0
    assert "is not for the request of this cluster" in wrong.text, wrong.output
    (requests / "east-cert.pem").write_bytes(swapped)
    done = mesh.run(**offline)
    assert done.code == 0, done.output
    for cluster in mesh.kubeconfigs:
        secret = mesh.cacerts(cluster)
        verify_strictly(mesh.folder, (mesh.folder / "offline.pem").read_bytes(), secret["ca-cert.pem"])
        assert not (requests / f"{cluster}-request.pem").exists()
    assert mesh.run(**offline).changed == {"east": 0, "west": 0}
    assert not (mesh.state / "ca").exists()


def sign_requests(mesh: Mesh, requests: Path, **variables: Any) -> Run:
    """Sign on the machine that has the offline root, where there is no inventory."""
    given = {
        "certificates_requests_dir": str(requests),
        "certificates_root_certificate": "offline.pem",
        "certificates_root_key": "offline-key.pem",
        **variables,
    }
    arguments = (PROJECT / "playbooks/sign_requests.yml", "-e", json.dumps(given))
    done = run_ansible("ansible-playbook", *arguments, folder=mesh.folder)
    return Run(done.returncode, done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("backend", "needed"),
    [
        ("csr", "certificates_root_certificate"),
        ("vault", "certificates_vault_url"),
        ("provided", "certificates_chain"),
    ],
)
def test_a_backend_without_what_it_needs_says_so(mesh: Mesh, backend: str, needed: str) -> None:
    refused = mesh.run(certificates_backend=backend)
    assert refused.code != 0
    assert f"certificates_backend {backend} needs" in refused.text
    assert needed in refused.text


def test_in_a_job_of_awx_nothing_is_kept_where_it_would_be_lost(mesh: Mesh) -> None:
    for arguments in ([], ["--check"]):
        refused = mesh.run(*arguments, awx_job_id=7)
        assert refused.code != 0
        assert "the key of the root CA" in refused.text
        assert "certificates_backend: provided" in refused.text
        assert "ends with this job of AWX" in refused.text
    assert not mesh.state.exists()
    mounted = mesh.folder.parent / f"{mesh.folder.name}-mounted"
    kept = mesh.run(awx_job_id=7, mesh_state_dir=str(mounted))
    assert kept.code == 0, kept.output
    # Another job has the same folder; one without it may not make another root.
    again = mesh.run(awx_job_id=8, mesh_state_dir=str(mounted))
    assert (again.code, again.changed) == (0, {"east": 0, "west": 0}), again.output
    lost = mesh.run(awx_job_id=9, mesh_state_dir=f"{mounted}-other")
    assert lost.code != 0
    assert "set mesh_state_dir to the folder whose ca has them" in lost.text
    key = (mounted / "ca/root-key.pem").read_text()
    given = {
        "certificates_root_certificate": str(mounted / "ca/root-cert.pem"),
        "certificates_root_key": key,
    }
    provided = mesh.run(awx_job_id=10, certificates_backend="provided", **given)
    assert (provided.code, provided.changed) == (0, {"east": 0, "west": 0}), provided.output


def test_in_a_job_of_awx_no_new_root_is_made_where_it_would_be_lost(mesh: Mesh) -> None:
    role = {"name": "exomesh.istio.certificates", "tasks_from": "rotate"}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}
    (mesh.folder / "play.yml").write_text(yaml.safe_dump([play]))
    refused = mesh.run(awx_job_id=7, certificates_old_root="4f:53:cd:a1")
    assert refused.code != 0
    assert "The key of the new root would be kept in" in refused.text
    assert "set mesh_state_dir to a folder that is mounted" in refused.text
    # Neither the way back nor a folder that stays needs that.
    for variables in ({"certificates_rotate_back": True}, {"mesh_state_dir": f"{mesh.folder}-mounted"}):
        passed = mesh.run(awx_job_id=7, certificates_old_root="4f:53:cd:a1", **variables)
        assert "There is no secret istio-system/cacerts" in passed.text


def test_numbers_may_be_text(mesh: Mesh) -> None:
    answers = {"certificates_renew_before": "9", "certificates_lifetime": "90"}
    assert mesh.run("--check", **answers, certificates_root_lifetime="3650").code == 0
    refused = mesh.run("--check", certificates_renew_before="100", certificates_lifetime="90")
    assert "certificates_renew_before (100 days) must be less" in refused.text


def days_left(subject: x509.Certificate) -> float:
    return (subject.not_valid_after_utc - datetime.datetime.now(datetime.UTC)) / datetime.timedelta(days=1)


def fingerprint(pem: bytes) -> str:
    return certificate(pem).fingerprint(hashes.SHA256()).hex(":")


def describe(folder: Path, pem: bytes) -> str:
    """What `openssl x509 -text` says, in one line."""
    (folder / "described.pem").write_bytes(pem)
    command = ["openssl", "x509", "-noout", "-text", "-in", "described.pem"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return re.sub(r"\s+", " ", done.stdout)


def verify_strictly(folder: Path, root: bytes, intermediate: bytes) -> None:
    (folder / "root.pem").write_bytes(root)
    (folder / "intermediate.pem").write_bytes(intermediate)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "intermediate.pem"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout == "intermediate.pem: OK\n", done.stderr


def assert_absent(key: bytes, output: str) -> None:
    """No line of the key, nor of the key as a secret's data holds it, is in the output."""
    lines = [line for line in key.decode().splitlines() if not line.startswith("-----")]
    encoded = base64.b64encode(key).decode()
    pieces = [encoded[start : start + 40] for start in range(40, len(encoded) - 40, 40)]
    leaked = [piece for piece in lines + pieces if piece in output]
    assert not leaked


# Signing where the root's key is at hand

PASSPHRASE = "correct horse battery staple"


def root_of_a_user(folder: Path) -> None:
    """A root CA in `offline.pem` and `offline-key.pem`, whose key has the passphrase."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-passout",
        f"pass:{PASSPHRASE}",
        "-days",
        "3650",
    ]
    command += ["-keyout", "offline-key.pem", "-out", "offline.pem"]
    command += ["-subj", "/O=Offline/CN=Root CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_a_key_that_is_given_as_text_signs_and_is_in_no_file(
    mesh: Mesh, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root_of_a_user(mesh.folder)
    given = {
        "certificates_backend": "provided",
        "certificates_root_certificate": "offline.pem",
        "certificates_root_key": (mesh.folder / "offline-key.pem").read_text(),
        "certificates_root_passphrase": PASSPHRASE,
    }
    (mesh.folder / "given.yml").write_text(yaml.safe_dump(given))
    for name in ("TMPDIR", "HOME", "ANSIBLE_REMOTE_TEMP"):
        monkeypatch.setenv(name, str(temporary_folder))
    with watched(temporary_folder, (PASSPHRASE.encode(), b"PRIVATE KEY")) as found:
        run = mesh.run("-vvvv", "-e", "@given.yml")
    assert run.code == 0, run.output
    assert not found
    assert PASSPHRASE not in run.output
    assert "PRIVATE KEY" not in run.output
    root = (mesh.folder / "offline.pem").read_bytes()
    for cluster in mesh.kubeconfigs:
        verify_strictly(mesh.folder, root, mesh.cacerts(cluster)["ca-cert.pem"])
    assert mesh.run("-e", "@given.yml").changed == {"east": 0, "west": 0}


@contextlib.contextmanager
def watched(folder: Path, secrets: Sequence[bytes]) -> Iterator[set[str]]:
    """Look all the time which files below a folder hold a secret."""
    found: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for path in folder.rglob("*"):
                with contextlib.suppress(OSError):
                    if path.is_file() and any(secret in path.read_bytes() for secret in secrets):
                        found.add(str(path))
            over.wait(0.01)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


@pytest.mark.parametrize("secret", ["issuer_key", "vault"])
def test_secrets_for_modules_of_others_go_by_a_pipe(secret: str) -> None:
    marks = {"issuer_key": "community.crypto.x509_certificate_pipe", "vault": "community.hashi_vault."}
    files = [path for path in (PROJECT / "roles").glob("*/tasks/*.yml") if marks[secret] in path.read_text()]
    assert files
    for path in files:
        (task,) = yaml.safe_load(path.read_text())[:1]
        assert task["vars"]["ansible_pipelining"] is True, path


def test_a_request_for_more_than_a_cluster_needs_is_not_signed(mesh: Mesh) -> None:
    root_of_a_user(mesh.folder)
    requests = mesh.folder / "requests"
    requests.mkdir()
    for name, constraints in (("east", "CA:TRUE,pathlen:0"), ("west", "CA:TRUE")):
        command = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null"]
        command += ["-subj", f"/O=Istio/CN=Intermediate CA/L={name}", "-out", f"requests/{name}-request.pem"]
        command += ["-addext", f"basicConstraints=critical,{constraints}"]
        command += ["-addext", "subjectAltName=DNS:istiod.istio-system.svc"]
        subprocess.run(command, cwd=mesh.folder, check=True, capture_output=True)
    refused = sign_requests(mesh, requests, certificates_root_passphrase=PASSPHRASE)
    assert refused.code != 0
    assert f"{requests}/west-request.pem is no request of this collection" in refused.text
    (requests / "west-request.pem").unlink()
    assert not list(requests.glob("*-cert.pem"))
    assert sign_requests(mesh, requests, certificates_root_passphrase="wrong passphrase").code != 0
    assert not list(requests.glob("*-cert.pem"))
    signed = sign_requests(mesh, requests, certificates_root_passphrase=PASSPHRASE)
    assert signed.code == 0, signed.output
    empty = sign_requests(mesh, mesh.folder)
    assert f"There is no CLUSTER-request.pem in {mesh.folder}" in empty.text


def test_the_backend_may_change_under_the_same_root(mesh: Mesh) -> None:
    assert mesh.run().code == 0
    before = {cluster: mesh.cacerts(cluster) for cluster in mesh.kubeconfigs}
    shutil.copytree(mesh.state / "ca", mesh.folder / "kept")
    given = {
        "certificates_backend": "provided",
        "certificates_root_certificate": "kept/root-cert.pem",
        "certificates_root_key": "kept/root-key.pem",
        "certificates_root_passphrase": "that of another key",
    }
    assert mesh.run(**given).changed == {"east": 0, "west": 0}
    renewed = mesh.run(certificates_renew=True, **given)
    assert renewed.code == 0, renewed.output
    for cluster in mesh.kubeconfigs:
        assert mesh.cacerts(cluster)["ca-cert.pem"] != before[cluster]["ca-cert.pem"]
    assert mesh.run(**given).changed == {"east": 0, "west": 0}
