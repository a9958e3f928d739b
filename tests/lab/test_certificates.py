"""Trust on two real clusters: guards, backends, renewal under traffic, and runs that are killed."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import json
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .certificates import TestCa, intermediate, pem, root_ca
from .copies import up_empty
from .openbao import OpenBao, open_bao
from .outcomes import Outcome, run
from .runs import RunningLab, Traffic, call, changes, end, run_playbook, said, started_playbook

MEMBERS = ("cluster1", "cluster2")
PASSPHRASE = "correct horse battery staple"
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
KILLS = 10


def playbook(
    lab: RunningLab, name: str, *arguments: str, **variables: Any
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the collection on the lab. Keys are small here, to be quick."""
    # Not on the command line, as keys are among them.
    given = lab.inventory.parent / f"{lab.name}-variables.json"
    given.write_text(json.dumps({"certificates_key_size": 2048, **variables}))
    return run_playbook(lab, name, "-e", f"@{given}", *arguments, EXOMESH_ROOT_PASSPHRASE=PASSPHRASE)


def certificates(lab: RunningLab, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    return playbook(lab, "playbooks/certificates.yml", *arguments, **variables)


def changed(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    return {host: count for host, count in changes(result.stdout).items() if host in MEMBERS}


def secret(lab: RunningLab, cluster: str, name: str = "cacerts") -> dict[str, Any]:
    words = ("get", "secret", name, "-n", "istio-system", "-o=json", "--ignore-not-found")
    answer = lab.kubectl(cluster, *words)
    return dict(json.loads(answer)) if answer else {}


def held(lab: RunningLab, cluster: str, key: str = "ca-cert.pem") -> bytes:
    return base64.b64decode(secret(lab, cluster)["data"][key])


def versions(lab: RunningLab) -> dict[str, str]:
    """What changes whenever a cacerts is written."""
    return {
        cluster: secret(lab, cluster).get("metadata", {}).get("resourceVersion", "") for cluster in MEMBERS
    }


def fingerprint(certificate: bytes) -> str:
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex(":")


def write_secret(lab: RunningLab, cluster: str, data: dict[str, bytes], ours: bool = True) -> None:
    manifest: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cacerts", "namespace": "istio-system"},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    if ours:
        manifest["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "exomesh.istio"}
    lab.kubectl(cluster, "delete", "secret", "cacerts", "-n", "istio-system", "--ignore-not-found")
    lab.kubectl(cluster, "create", "-f", "-", stdin=json.dumps(manifest))


def ca_path(lab: RunningLab, name: str) -> Path:
    return lab.path / "mesh" / "ca" / name


def local_root(lab: RunningLab) -> TestCa:
    """The mesh's root with its key."""
    key = serialization.load_pem_private_key(ca_path(lab, "root-key.pem").read_bytes(), PASSPHRASE.encode())
    assert isinstance(key, rsa.RSAPrivateKey)
    return TestCa(x509.load_pem_x509_certificate(ca_path(lab, "root-cert.pem").read_bytes()), key)


@pytest.fixture(scope="module")
def fresh(lab: RunningLab) -> RunningLab:
    """Two clusters without Istio; their kubeconfigs are there."""
    up_empty(lab, len(MEMBERS))
    result = playbook(lab, "playbooks/kubeconfig.yml")
    assert result.returncode == 0, result.stdout[-3000:]
    return lab


@pytest.fixture(scope="module")
def killed(fresh: RunningLab) -> list[str]:
    """Ten first runs, each killed somewhere: the fingerprints of the roots that were seen after each."""
    variables = json.dumps({"certificates_key_size": 2048})
    begun = time.monotonic()
    assert certificates(fresh, "--check").returncode == 0
    duration = time.monotonic() - begun
    seen = []
    for attempt in range(KILLS):
        with started_playbook(
            fresh, "playbooks/certificates.yml", "-e", variables, EXOMESH_ROOT_PASSPHRASE=PASSPHRASE
        ) as (run, found):
            # From before the root is made until after the secrets are written.
            time.sleep(duration * (0.4 + 0.06 * attempt))
            end(run, found, SIGNALS[attempt % len(SIGNALS)])
        if ca_path(fresh, "root-cert.pem").is_file():
            seen.append(fingerprint(ca_path(fresh, "root-cert.pem").read_bytes()))
        seen += [
            fingerprint(held(fresh, cluster, "root-cert.pem"))
            for cluster in MEMBERS
            if secret(fresh, cluster)
        ]
    return seen


@pytest.fixture(scope="module")
def mesh(fresh: RunningLab, killed: list[str]) -> RunningLab:
    """The mesh, made by the run after those that were killed."""
    result = playbook(fresh, "site.yml")
    assert result.returncode == 0, result.stdout[-5000:]
    return fresh


@pytest.fixture
def restored(mesh: RunningLab) -> Iterator[RunningLab]:
    """For a test that breaks a cacerts: afterwards both are as before."""
    before = {cluster: secret(mesh, cluster) for cluster in MEMBERS}
    yield mesh
    for cluster, kept in before.items():
        write_secret(mesh, cluster, {key: base64.b64decode(value) for key, value in kept["data"].items()})


# Before there is a mesh


@pytest.fixture(scope="module")
def plain(fresh: RunningLab) -> RunningLab:
    """The same, with an Istio in the second that its user installed as Istio's documents say."""
    istioctl = fresh.path / "bin" / "istioctl"
    kubeconfig = fresh.path / "mesh" / "cluster2" / "kubeconfig"
    settings = ("--set", "profile=minimal", "--set", "values.global.imagePullPolicy=IfNotPresent")
    installed = call(istioctl, f"--kubeconfig={kubeconfig}", "install", "-y", *settings)
    assert installed.returncode == 0, installed.stderr
    return fresh


def istio(lab: RunningLab, tmp_path: Path, *arguments: str) -> Outcome:
    """Run the role istio alone, as in somebody's own playbook."""
    play = [
        {
            "hosts": "cluster2",
            "gather_facts": False,
            "roles": ["exomesh.istio.istioctl", "exomesh.istio.istio"],
        }
    ]
    (tmp_path / "istio.yml").write_text(yaml.safe_dump(play))
    return run(lab, str(tmp_path / "istio.yml"), tmp_path, *arguments)


def test_a_plain_istio_is_its_users_until_it_is_adopted(plain: RunningLab, tmp_path: Path) -> None:
    kinds = "deployment,service,mutatingwebhookconfiguration,serviceaccount,clusterrole,namespace"
    everything = ("get", kinds, "--all-namespaces", "-o=json")
    before = plain.kubectl("cluster2", *everything)
    accept = ("-e", '{"preflight_accept": ["istio-owner", "cluster-name"]}')
    quick = ("--limit=cluster2,localhost", "-e", "preflight_probe=false")
    refused = playbook(plain, "playbooks/preflight.yml", *quick)
    assert refused.returncode != 0
    assert (
        "[istio-owner] In cluster cluster2, Deployment istio-system/istiod belongs to somebody else"
        in said(refused)
    )
    assert "installation by istioctl" in said(refused)
    assert "--check --diff with istio_adopt: true" in said(refused)
    with pytest.raises(AssertionError, match=r"belongs to\s+somebody\s+else's"):
        istio(plain, tmp_path)
    assert plain.kubectl("cluster2", *everything) == before
    torn = playbook(plain, "playbooks/teardown.yml", *quick, "-e", "teardown_confirm=mesh1")
    assert torn.returncode == 0
    assert "another istiod than ours; what it needs stays with it" in said(torn)
    assert changes(torn.stdout)["cluster2"] == 0
    assert plain.kubectl("cluster2", *everything) == before

    accepted = playbook(plain, "playbooks/preflight.yml", *quick, *accept)
    assert accepted.returncode == 0, said(accepted)
    predicted = istio(plain, tmp_path, *accept, "--check", "--diff")
    assert plain.kubectl("cluster2", *everything) == before
    adopted = istio(plain, tmp_path, *accept, "--diff")
    assert adopted.objects() == predicted.objects()
    owner = r"-o=jsonpath={.metadata.labels.install\.operator\.istio\.io/owning-resource}"
    assert plain.kubectl("cluster2", "get", "deployment", "istiod", "-n=istio-system", owner) == "exomesh"
    assert istio(plain, tmp_path).changed == set()


def test_a_self_signed_start_is_not_overruled(plain: RunningLab) -> None:
    """istiod that started without a cacerts gives out a root of its own."""
    fresh = plain
    istioctl = fresh.path / "bin" / "istioctl"
    kubeconfig = fresh.path / "mesh" / "cluster2" / "kubeconfig"
    words = ("get", "configmap", "istio-ca-root-cert", "-n", "istio-system", "-o=json", "--ignore-not-found")
    deadline = time.monotonic() + 60
    while not (found := fresh.kubectl("cluster2", *words)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    own = fingerprint(json.loads(found)["data"]["root-cert.pem"].encode())

    refused = certificates(fresh)
    assert refused.returncode != 0
    assert own in said(refused)
    assert "config map istio-system/istio-ca-root-cert" in said(refused)
    assert not ca_path(fresh, "root-cert.pem").exists()
    assert not any(secret(fresh, cluster) for cluster in MEMBERS)

    removed = call(istioctl, f"--kubeconfig={kubeconfig}", "uninstall", "--purge", "--skip-confirmation")
    assert removed.returncode == 0, removed.stderr
    # As the message says.
    ways = re.search(r"kubectl (-n istio-system delete .*? --ignore-not-found)", said(refused))
    assert ways
    fresh.kubectl("cluster2", *ways[1].split())


def test_runs_that_are_killed_leave_one_root(mesh: RunningLab, killed: list[str]) -> None:
    root = fingerprint(ca_path(mesh, "root-cert.pem").read_bytes())
    print(f"\n{KILLS} runs were killed; a root was seen {len(killed)} times")
    assert set(killed) <= {root}
    for cluster in MEMBERS:
        assert fingerprint(held(mesh, cluster, "root-cert.pem")) == root


# The state of a mesh


def test_a_second_run_changes_nothing(mesh: RunningLab) -> None:
    begun = time.monotonic()
    result = certificates(mesh)
    print(f"\nA run without changes: {time.monotonic() - begun:.1f} s")
    assert changed(result) == dict.fromkeys(MEMBERS, 0)


def test_openssl_and_strict_python_accept_every_chain(mesh: RunningLab, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(ca_path(mesh, "root-cert.pem").read_bytes())
    for cluster in MEMBERS:
        (tmp_path / "ca.pem").write_bytes(held(mesh, cluster))
        verified = call("openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "ca.pem", cwd=tmp_path)
        assert verified.stdout == "ca.pem: OK\n", verified.stderr


def test_the_root_key_is_nowhere_else(mesh: RunningLab, tmp_path: Path) -> None:
    root = local_root(mesh)
    assert ca_path(mesh, "root-key.pem").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in ca_path(mesh, "root-key.pem").read_bytes()
    play = [
        {
            "hosts": "mesh",
            "gather_facts": False,
            "tasks": [
                {"ansible.builtin.import_role": {"name": "exomesh.istio.certificates"}},
                {
                    "ansible.builtin.copy": {
                        "content": "{{ hostvars | to_json }}",
                        "dest": str(tmp_path / "facts.json"),
                        "mode": "0600",
                    },
                    "run_once": True,
                },
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    with _watched_arguments() as arguments:
        result = playbook(mesh, str(tmp_path / "play.yml"), "-vvvv", "--diff", certificates_renew=True)
    assert result.returncode == 0, result.stdout[-3000:]
    facts = (tmp_path / "facts.json").read_text()
    texts = {"output": result.stdout + result.stderr, "facts": facts, "arguments": "\n".join(arguments)}
    clear = pem(root.key).decode().splitlines()[1:-1]
    for place, text in texts.items():
        assert "PRIVATE KEY" not in text, place
        assert PASSPHRASE not in text, place
        assert not [line for line in clear if len(line) >= 60 and line in text], place
    for cluster in MEMBERS:
        secrets = json.loads(mesh.kubectl(cluster, "get", "secrets", "-A", "-o=json"))["items"]
        values = [base64.b64decode(value) for item in secrets for value in (item.get("data") or {}).values()]
        keys = [
            serialization.load_pem_private_key(value, None) for value in values if b"PRIVATE KEY" in value
        ]
        assert keys
        assert root.key.public_key() not in [key.public_key() for key in keys]


@contextlib.contextmanager
def _watched_arguments() -> Iterator[set[str]]:
    """The command lines of all processes, looked at again and again."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


# Guards


def test_a_foreign_root_in_one_cluster_stops_all(restored: RunningLab) -> None:
    foreign = root_ca("Foreign")
    ca = intermediate(foreign, "cluster2")
    root = pem(foreign.certificate)
    write_secret(
        restored,
        "cluster2",
        {
            "ca-cert.pem": pem(ca.certificate),
            "ca-key.pem": pem(ca.key),
            "cert-chain.pem": pem(ca.certificate) + root,
            "root-cert.pem": root,
        },
    )
    before = versions(restored)
    refused = certificates(restored, certificates_renew=True)
    assert refused.returncode != 0
    assert fingerprint(root) in said(refused)
    assert fingerprint(ca_path(restored, "root-cert.pem").read_bytes()) in said(refused)
    assert "cluster2 trusts another one" in said(refused)
    assert "certificates_backend: provided" in said(refused)
    assert versions(restored) == before


def test_a_root_that_changed_while_istiod_runs_is_refused(restored: RunningLab) -> None:
    """The mesh moves to a new root by hand: secret and state have it, the running istiod has not."""
    new = root_ca("New")
    ca = intermediate(new, "cluster1")
    root = pem(new.certificate)
    data = {
        "ca-cert.pem": pem(ca.certificate),
        "ca-key.pem": pem(ca.key),
        "cert-chain.pem": pem(ca.certificate) + root,
        "root-cert.pem": root,
    }
    write_secret(restored, "cluster1", data)
    refused = certificates(
        restored,
        "--limit=cluster1,localhost",
        mesh_clusters=["cluster1"],
        certificates_backend="provided",
        certificates_root_certificate=root.decode(),
        certificates_root_key=pem(new.key).decode(),
    )
    assert refused.returncode != 0
    assert "istiod ignores that silently" in said(refused)
    assert "playbook rotate_root" in said(refused)
    assert "PRIVATE KEY" not in refused.stdout


def test_a_partial_secret_is_an_error(restored: RunningLab) -> None:
    patch = json.dumps({"data": {"ca-key.pem": None}})
    restored.kubectl("cluster1", "patch", "secret", "cacerts", "-n", "istio-system", "-p", patch)
    refused = certificates(restored)
    assert refused.returncode != 0
    assert "cluster cluster1: Secret istio-system/cacerts lacks ca-key.pem" in said(refused)


def test_an_expired_intermediate_is_replaced_and_a_stranger_kept(restored: RunningLab) -> None:
    root = local_root(restored)
    ca = intermediate(root, "cluster1", begins=-10, ends=-1)
    certificate = pem(root.certificate)
    data = {
        "ca-cert.pem": pem(ca.certificate),
        "ca-key.pem": pem(ca.key),
        "cert-chain.pem": pem(ca.certificate) + certificate,
        "root-cert.pem": certificate,
    }
    write_secret(restored, "cluster1", data, ours=False)
    refused = certificates(restored)
    assert refused.returncode != 0
    assert "was not made by this collection" in said(refused)
    assert "its own expired at" in said(refused)
    assert held(restored, "cluster1") == data["ca-cert.pem"]

    adopted = certificates(restored, certificates_adopt=True)
    assert adopted.returncode == 0, adopted.stdout[-3000:]
    assert "its own expired at" in said(adopted)
    assert held(restored, "cluster1") != data["ca-cert.pem"]
    digits = f"{ca.certificate.serial_number:x}"
    backup = f"cacerts-backup-{digits.zfill(len(digits) + len(digits) % 2)}"[: len("cacerts-backup-") + 12]
    kept = re.search(r"kept in secret (cacerts-backup-\w+)", said(adopted))
    assert kept
    assert kept[1][:20] == backup[:20]
    assert base64.b64decode(secret(restored, "cluster1", kept[1])["data"]["ca-key.pem"]) == data["ca-key.pem"]
    restored.kubectl("cluster1", "delete", "secret", "-n", "istio-system", kept[1])


@pytest.mark.parametrize("fault", ["expired", "key of another", "other root"])
def test_a_bad_chain_of_one_cluster_stops_all(mesh: RunningLab, tmp_path: Path, fault: str) -> None:
    root = local_root(mesh)
    chains = {cluster: intermediate(root, cluster) for cluster in MEMBERS}
    expected = {"expired": "expired at", "key of another": "belongs to another certificate"}
    if fault == "expired":
        chains["cluster2"] = intermediate(root, "cluster2", begins=-10, ends=-1)
    elif fault == "key of another":
        chains["cluster2"] = TestCa(chains["cluster2"].certificate, chains["cluster1"].key)
    else:
        root_of_2 = root_ca("Foreign")
        chains["cluster2"] = intermediate(root_of_2, "cluster2")
        expected[fault] = "its root has SHA-256"
    variables = _chain_files(tmp_path, chains, root)
    if fault == "other root":
        (tmp_path / "cluster2.pem").write_bytes(
            pem(chains["cluster2"].certificate) + pem(root_of_2.certificate)
        )
    before = versions(mesh)
    refused = certificates(mesh, **variables)
    assert refused.returncode != 0
    assert expected[fault] in said(refused), refused.stdout[-3000:]
    assert versions(mesh) == before


def _chain_files(folder: Path, chains: dict[str, TestCa], root: TestCa) -> dict[str, Any]:
    for cluster, ca in chains.items():
        (folder / f"{cluster}.pem").write_bytes(pem(ca.certificate) + pem(root.certificate))
        (folder / f"{cluster}-key.pem").write_bytes(pem(ca.key))
    return {
        "certificates_backend": "provided",
        "certificates_chain": f"{folder}/{{{{ mesh_cluster_name }}}}.pem",
        "certificates_key": f"{folder}/{{{{ mesh_cluster_name }}}}-key.pem",
    }


@pytest.mark.parametrize("hours", [2, -2])
def test_a_clock_that_is_two_hours_off_is_named(mesh: RunningLab, tmp_path: Path, hours: int) -> None:
    kubeconfig = yaml.safe_load((mesh.path / "mesh" / "cluster2" / "kubeconfig").read_text())
    with _clock_off(kubeconfig, tmp_path, hours * 3600) as server:
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(_for_proxy(kubeconfig, server)))
        before = versions(mesh)
        shutil.copytree(mesh.inventory, tmp_path / "inventory")
        hosts = yaml.safe_load((mesh.inventory / "hosts.yml").read_text())
        hosts["all"]["children"]["mesh"]["hosts"]["cluster2"]["mesh_kubeconfig"] = str(
            tmp_path / "kubeconfig"
        )
        (tmp_path / "inventory" / "hosts.yml").write_text(yaml.safe_dump(hosts))
        off, only_cluster2 = RunningLab(mesh.name, tmp_path / "inventory"), "--limit=cluster2,localhost"
        refused = certificates(off, only_cluster2, certificates_renew=True)
        assert refused.returncode != 0
        assert re.search(r"clock of its API server is 7\d\d\d s (ahead of|behind)", said(refused)), (
            refused.stdout
        )
        assert versions(mesh) == before
        warned = certificates(off, only_cluster2)
        assert warned.returncode == 0, warned.stdout[-3000:]
        assert "clock of its API server" in re.sub(r"\s+", " ", warned.stdout + warned.stderr)


def _for_proxy(kubeconfig: dict[str, Any], server: str) -> dict[str, Any]:
    changed = json.loads(json.dumps(kubeconfig))
    changed["clusters"][0]["cluster"] = {"server": server}
    changed["users"][0]["user"] = {}
    return dict(changed)


@contextlib.contextmanager
def _clock_off(kubeconfig: dict[str, Any], folder: Path, seconds: float) -> Iterator[str]:
    """A proxy in front of an API server that shifts the time in its answers; gives its address."""
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    files = {"cert": user["client-certificate-data"], "key": user["client-key-data"]}
    for name, data in files.items():
        (folder / name).write_bytes(base64.b64decode(data))
    context.load_cert_chain(folder / "cert", folder / "key")

    class Handler(http.server.BaseHTTPRequestHandler):
        def forward(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = urllib.request.Request(
                cluster["server"] + self.path, self.rfile.read(length) or None, method=self.command
            )
            for name in ("Accept", "Content-Type"):
                if name in self.headers:
                    request.add_header(name, self.headers[name])
            try:
                with urllib.request.urlopen(request, context=context) as answer:
                    status, body = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, body = error.code, error.read()
            self.send_response_only(status)
            self.send_header("Date", self.date_time_string(time.time() + seconds))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


# Backends: each issues under the same root, and the mesh is verified afterwards


@pytest.fixture(scope="module")
def bao(mesh: RunningLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """OpenBao in production mode (TLS, raft storage, unsealed) with the mesh's own root as its CA."""
    root = local_root(mesh)
    with open_bao(tmp_path_factory.mktemp("openbao")) as server:
        server.import_ca("pki", pem(root.certificate) + pem(root.key))
        yield server


Backend = tuple[dict[str, Any], Callable[[RunningLab], None]]


@pytest.fixture
def backend(request: pytest.FixtureRequest, mesh: RunningLab, tmp_path: Path) -> Backend:
    """The variables of a backend, and what its user does when it waits."""
    name = request.param
    root = local_root(mesh)
    (tmp_path / "root.pem").write_bytes(pem(root.certificate))
    (tmp_path / "root-key.pem").write_bytes(pem(root.key))

    def nothing(_: RunningLab) -> None:
        pass

    def sign(lab: RunningLab) -> None:
        folder = lab.path / "mesh" / "requests"
        for member in MEMBERS:
            files = ("-in", folder / f"{member}-request.pem", "-out", folder / f"{member}-cert.pem")
            authority = ("-CA", tmp_path / "root.pem", "-CAkey", tmp_path / "root-key.pem", "-CAcreateserial")
            words = (
                "openssl",
                "x509",
                "-req",
                *files,
                *authority,
                "-copy_extensions",
                "copyall",
                "-days",
                "365",
            )
            signed = call(*words)
            assert signed.returncode == 0, signed.stderr

    paths = {"certificates_root_certificate": str(tmp_path / "root.pem")}
    if name == "provided":
        variables = paths | {
            "certificates_backend": "provided",
            "certificates_root_key": str(tmp_path / "root-key.pem"),
        }
        return variables, nothing
    if name == "csr":
        return paths | {"certificates_backend": "csr"}, sign
    if name == "vault":
        return request.getfixturevalue("bao").variables("token"), nothing
    return {}, nothing


@pytest.mark.parametrize("backend", ["local", "provided", "csr", "vault"], indirect=True)
def test_every_backend_ends_in_a_healthy_mesh(mesh: RunningLab, backend: Backend) -> None:
    variables, sign = backend
    same_root = certificates(mesh, **variables)
    assert changed(same_root) == dict.fromkeys(MEMBERS, 0), same_root.stdout[-5000:]

    before = versions(mesh)
    renewed = certificates(mesh, certificates_renew=True, **variables)
    assert renewed.returncode == 0, renewed.stdout[-5000:]
    if versions(mesh) == before:
        # It waits for the offline root, while what runs still serves.
        assert "signed by the offline root, put the certificate into" in said(renewed)
        sign(mesh)
        renewed = certificates(mesh, certificates_renew=True, **variables)
    after = versions(mesh)
    assert all(after[cluster] != before[cluster] for cluster in MEMBERS), renewed.stdout[-5000:]
    assert not any(secret(mesh, cluster, "cacerts-request") for cluster in MEMBERS)

    again = certificates(mesh, **variables)
    assert changed(again) == dict.fromkeys(MEMBERS, 0), again.stdout[-5000:]
    assert versions(mesh) == after
    looked_at = playbook(mesh, "playbooks/status.yml")
    assert looked_at.returncode == 0, looked_at.stdout[-3000:]


def test_after_all_of_them_every_request_is_answered(mesh: RunningLab) -> None:
    verified = playbook(mesh, "playbooks/verify.yml")
    assert verified.returncode == 0, verified.stdout[-3000:]


@pytest.mark.parametrize("method", ["approle", "kubernetes"])
def test_vault_lets_in_by_other_methods(mesh: RunningLab, bao: OpenBao, method: str) -> None:
    variables = bao.variables(method, mesh if method == "kubernetes" else None)
    before = versions(mesh)
    result = certificates(mesh, certificates_renew=True, **variables)
    assert result.returncode == 0, result.stdout[-5000:]
    assert all(versions(mesh)[cluster] != before[cluster] for cluster in MEMBERS)


def test_a_vault_that_cannot_serve_is_explained(mesh: RunningLab, bao: OpenBao) -> None:
    before = versions(mesh)
    bao.make_ca("other")
    expired = bao.token(ttl="1s")
    time.sleep(2)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"certificates_vault_token": expired}, "the login by token failed"),
        (bao.variables("approle") | {"certificates_vault_role_id": "nobody"}, "the login by approle failed"),
        ({"certificates_vault_mount": "nowhere"}, "its CA cannot be read at nowhere/cert/ca_chain"),
        ({"certificates_vault_mount": "other"}, "trusts another one"),
        ({"certificates_vault_url": "https://127.0.0.1:9"}, "it does not answer"),
        ({"certificates_vault_token": bao.token(policy="reader")}, "did not sign its intermediate CA"),
    ]
    for variables, expected in cases:
        given = {**bao.variables("token"), **variables, "certificates_renew": True}
        refused = certificates(mesh, **given)
        assert refused.returncode != 0, expected
        assert expected in said(refused), refused.stdout[-3000:]
    login = bao.variables("token")
    bao.seal()
    try:
        refused = certificates(mesh, certificates_renew=True, **login)
        assert refused.returncode != 0
        assert "it is sealed" in said(refused), refused.stdout[-3000:]
    finally:
        bao.unseal()
    assert versions(mesh) == before
    for cluster in MEMBERS:
        mesh.kubectl(
            cluster, "delete", "secret", "-n", "istio-system", "cacerts-request", "--ignore-not-found"
        )


# Renewal


def test_requests_go_on_while_intermediates_are_renewed(mesh: RunningLab) -> None:
    serials = {
        cluster: x509.load_pem_x509_certificate(held(mesh, cluster)).serial_number for cluster in MEMBERS
    }
    traffic = Traffic(mesh, pause=0.02)
    begun = time.monotonic()
    result = playbook(mesh, "playbooks/renew_certificates.yml")
    seconds = time.monotonic() - begun
    codes = traffic.codes(at_least=1000)
    traffic.stop()
    assert result.returncode == 0, result.stdout[-5000:]
    failed = [code for code in codes if code != "200"]
    served = re.findall(r"with serial (\w+) after ([\d.]+) s, (with\w*) a restart", said(result))
    print(f"\nRenewal of {len(MEMBERS)} clusters: {seconds:.0f} s")
    reloads = ", ".join(f"{after} s ({how} a restart)" for _, after, how in served)
    print(f"istiod served the new serial after {reloads}")
    print(f"requests across clusters meanwhile: {len(codes)}, failed: {len(failed)} {sorted(set(failed))}")
    for cluster in MEMBERS:
        now = x509.load_pem_x509_certificate(held(mesh, cluster)).serial_number
        assert now != serials[cluster]
        assert int(served[MEMBERS.index(cluster)][0], 16) == now
    assert len(codes) >= 1000
    assert not failed


def test_the_report_shows_every_certificate(mesh: RunningLab) -> None:
    result = playbook(mesh, "playbooks/certificates_report.yml")
    assert result.returncode == 0, result.stdout[-3000:]
    assert "All clusters have the same root." in result.stdout
    folder = mesh.path / "mesh" / "reports"
    report = json.loads((folder / "certificates.json").read_text())
    assert report["same_root"] is True
    assert report["problems"] == []
    found = {(item["cluster"], item["role"]): item for item in report["certificates"]}
    assert set(found) == {
        (cluster, role) for cluster in MEMBERS for role in ("root", "intermediate", "istiod", "workload")
    }
    for cluster in MEMBERS:
        serial = x509.load_pem_x509_certificate(held(mesh, cluster)).serial_number
        assert int(found[cluster, "intermediate"]["serial"], 16) == serial
    metrics = (folder / "certificates.prom").read_text()
    ends = datetime.datetime.fromisoformat(found["cluster1", "root"]["not_after"]).timestamp()
    assert f'cluster="cluster1",role="root",where="secret istio-system/cacerts"}} {int(ends)}' in metrics
    assert "exomesh_mesh_same_root 1" in metrics
