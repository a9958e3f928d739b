"""The built artifact, alone in an execution environment, run by ansible-runner as AWX does, on a lab."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .certificates import pem, root_ca
from .container import COLLECTIONS, Image, Volume
from .copies import up_empty
from .runs import PROJECT, RunningLab, call, verdicts
from .secret_values import secrets_of_run

MEMBERS = ("cluster1", "cluster2")
PAIRS = list(itertools.permutations(MEMBERS))
USER = 54321  # nobody knows it
PASSPHRASE = "correct horse battery staple"
DEFINITION = yaml.safe_load((PROJECT / "execution-environment.yml").read_text())

# What a survey asks for comes as text.
SURVEY = {
    "mesh_ha": "false",
    "mesh_hub": "no",
    "mesh_least_privilege": "false",
    "certificates_adopt": "false",
    "certificates_key_size": "2048",
    "certificates_lifetime": "90",  # as text it is neither more than 365 nor less than 3650
    "certificates_renew": "false",
    "certificates_renew_before": "9",
    "certificates_root_lifetime": "3650",
    "demo_dns_capture": "false",
    "gateway_api": "false",
    "gateway_timeout": "300",
    "istio_dns_capture": "true",
    "istio_mtls_strict": "false",
    "istioctl_allow_unsafe": "false",
    "kubeconfig_force": "false",
    "kubeconfig_preflight": "true",
    "kubeconfig_timeout": "60",
    "peering_probe": "true",
    "peering_prune": "true",
    "peering_reciprocal": "false",
    "preflight_max_clock_skew": "30",
    "preflight_probe": "true",
    "verify_read_only": "false",
    "verify_timeout": "120",
}


@dataclass
class Job:
    """How a job ended; ``folder`` is its private data directory, which AWX would delete now."""

    folder: Path
    result: subprocess.CompletedProcess[str]

    @property
    def artifacts(self) -> Path:
        return next((self.folder / "artifacts").iterdir())

    @property
    def output(self) -> str:
        return re.sub(r"\x1b\[[\d;]*m", "", (self.artifacts / "stdout").read_text())

    @property
    def events(self) -> list[dict[str, Any]]:
        files = (self.artifacts / "job_events").glob("*.json")
        return [json.loads(path.read_text()) for path in files]

    @property
    def results(self) -> list[dict[str, Any]]:
        """What went well: role, task, host, and what the module gave (res)."""
        return [event["event_data"] for event in self.events if event["event"] == "runner_on_ok"]

    @property
    def changed_by(self) -> set[str]:
        """The roles that changed something."""
        return {data.get("role", data["task"]) for data in self.results if data["res"].get("changed")}

    @property
    def verdicts(self) -> dict[tuple[str, str], str]:
        """What the verification said of every pair."""
        (report,) = [
            data["res"]["msg"]
            for data in self.results
            if data["task"] == "Show the result of the verification"
        ]
        return verdicts("\n".join(f"- {line}" for line in report))


@dataclass
class Awx:
    """What AWX has: an execution environment, an inventory, credentials, and a new folder for each job."""

    lab: RunningLab
    image: Image
    root: Path
    jobs: Path
    variables: dict[str, Any]

    def run(self, playbook: str, folder: str, cmdline: str = "", **survey: str) -> Job:
        """Run a job in a private data directory, which is made where it does not exist."""
        path = self.jobs / folder
        if not path.exists():
            self._prepare(path)
        shutil.rmtree(path / "artifacts", ignore_errors=True)
        extravars = {"awx_job_id": 1, "certificates_backend": "provided", **SURVEY, **survey}
        extravars |= {
            f"certificates_root_{what}": f"/runner/env/root-{what}.pem" for what in ("certificate", "key")
        }
        self._write(path / "env/extravars", json.dumps(extravars))
        self._write(path / "env/cmdline", cmdline)
        volumes = (Volume(path, "/runner"), Volume(path / "project", "/runner/project", writable=False))
        command = ("python", "-m", "ansible_runner", "run", "/runner", "--playbook", playbook, "--ident", "1")
        return Job(path, self.image.run(*command, user=USER, volumes=volumes))

    def _prepare(self, path: Path) -> None:
        path.mkdir(mode=0o700)
        for name in ("env", "inventory", "project"):
            (path / name).mkdir(mode=0o700)
        hosts = {
            name: {"sks_cluster": name, "sks_zone": zone}
            for name, zone in zip(MEMBERS, ("de-fra-1", "at-vie-2"), strict=True)
        }
        self._write(
            path / "inventory/hosts.yml", yaml.safe_dump({"mesh": {"hosts": hosts, "vars": self.variables}})
        )
        settings = yaml.safe_load((self.lab.inventory / "group_vars/mesh.yml").read_text())
        environment = {
            "EXOSCALE_API_KEY": settings["kubeconfig_api_key"],
            "EXOSCALE_API_SECRET": settings["kubeconfig_api_secret"],
            "EXOMESH_ROOT_PASSPHRASE": PASSPHRASE,
        }
        self._write(path / "env/envvars", json.dumps(environment))
        for what in ("certificate", "key"):
            self._write(path / f"env/root-{what}.pem", (self.root / f"{what}.pem").read_text())
        for found in (path, *path.rglob("*")):
            os.chown(found, USER, USER)

    @staticmethod
    def _write(path: Path, content: str) -> None:
        path.write_text(content)
        path.chmod(0o600)
        os.chown(path, USER, USER)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built artifact."""
    folder = tmp_path_factory.mktemp("artifact")
    program = Path(sys.executable).parent / "ansible-galaxy"
    result = call(program, "collection", "build", "--output-path", folder, cwd=PROJECT)
    assert result.returncode == 0, result.stderr
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def image(lab: RunningLab, artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What execution-environment.yml says, with the lab's istioctl and without Galaxy."""
    up_empty(lab, len(MEMBERS))
    settings = yaml.safe_load((lab.inventory / "group_vars/mesh.yml").read_text())
    version = settings["mesh_istio_version"]
    steps = DEFINITION["additional_build_steps"]
    environment = dict(word.split("=") for word in env_step(steps["append_final"]).split()[1:])
    made = Image(lab.path / "image", environment)
    made.collections.mkdir(parents=True)
    for name in ("kubernetes", "community"):  # what Galaxy would give for requirements.yml
        found = next(Path(sys.prefix).glob(f"lib/python*/site-packages/ansible_collections/{name}"))
        shutil.copytree(found, made.collections / "ansible_collections" / name)
    release = tmp_path_factory.mktemp("release")
    with tarfile.open(release / "istioctl.tar.gz", "w:gz", compresslevel=0) as archive:
        archive.add((lab.path / "bin/istioctl").resolve(), "istioctl")
    galaxy, istioctl = (run_step(steps[name]) for name in ("append_galaxy", "append_final"))
    made.build(f"cd /build; {galaxy} --offline", Volume(artifact.parent, "/build/collection"))
    fetched = f"-e mesh_istio_version={version} -e istioctl_url=/release/istioctl.tar.gz"
    checksum = call("sha256sum", release / "istioctl.tar.gz").stdout.split()[0]
    made.build(
        istioctl.replace(" -e ", f" {fetched} -e istioctl_checksum=sha256:{checksum} -e ", 1),
        Volume(release, "/release", writable=False),
    )
    return made


def run_step(steps: list[str]) -> str:
    """The command of the one RUN among the steps."""
    (step,) = [step for step in steps if step.startswith("RUN ")]
    return step.removeprefix("RUN ")


def env_step(steps: list[str]) -> str:
    (step,) = [step for step in steps if step.startswith("ENV ")]
    return step


@pytest.fixture(scope="module")
def awx(lab: RunningLab, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Awx:
    """AWX, with a root CA of the user's own as a credential."""
    root = tmp_path_factory.mktemp("root")
    authority = root_ca("Example")
    (root / "certificate.pem").write_bytes(pem(authority.certificate))
    encryption = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (root / "key.pem").write_bytes(authority.key.private_bytes(*form))
    settings = yaml.safe_load((lab.inventory / "group_vars/mesh.yml").read_text())
    # Where things are is for the execution environment and for credentials to say.
    left_out = (
        "kubeconfig_api_key",
        "kubeconfig_api_secret",
        "kubeconfig_exo_path",
        "mesh_state_dir",
        "istioctl_binary",
    )
    variables = {name: value for name, value in settings.items() if name not in left_out}
    return Awx(lab, image, root, tmp_path_factory.mktemp("jobs"), variables)


@pytest.fixture(scope="module")
def first_job(awx: Awx) -> Job:
    """The whole mesh, with all the output that a job of AWX can have."""
    return awx.run("exomesh.istio.site", "first", "-vvvv")


@pytest.fixture(scope="module")
def mesh(awx: Awx, first_job: Job) -> Awx:
    assert first_job.result.returncode == 0, first_job.output[-5000:] + first_job.result.stderr
    return awx


def test_the_execution_environment_has_the_artifact_and_nothing_of_the_checkout(image: Image) -> None:
    seen = image.run("ansible-galaxy", "collection", "list", "--format", "json", user=USER, volumes=())
    assert seen.returncode == 0, seen.stderr
    places = [place for place, found in json.loads(seen.stdout).items() if "exomesh.istio" in found]
    assert places == [f"{COLLECTIONS}/ansible_collections"]
    documented = image.run("ansible-doc", "--json", "exomesh.istio.root_ca", user=USER, volumes=())
    described = json.loads(documented.stdout)["exomesh.istio.root_ca"]["doc"]
    assert described["filename"].startswith(f"{COLLECTIONS}/ansible_collections/exomesh/istio/")
    absent = (PROJECT / "galaxy.yml", PROJECT / "roles", "/var/lib/exolab", "/root/.ssh")
    assert image.run("ls", *map(str, absent), user=USER, volumes=()).stdout == ""


def test_home_and_project_cannot_be_written_to(awx: Awx, image: Image, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    volumes = (Volume(tmp_path, "/runner/project", writable=False),)
    script = "cd; pwd; id -u; ls -A; ! touch here /runner/project/here /usr/share/exomesh/here 2>/dev/null"
    seen = image.run("sh", "-c", script, user=USER, volumes=volumes)
    assert (seen.returncode, seen.stdout.split()) == (0, ["/home/runner", str(USER)]), seen.stderr


def test_the_first_job_ends_with_a_verified_mesh(mesh: Awx, first_job: Job) -> None:
    assert first_job.verdicts == dict.fromkeys(PAIRS, "ok")
    assert "VERSION: v2" in first_job.output
    (told,) = [
        event["event_data"]["artifact_data"]
        for event in first_job.events
        if event["event"] == "playbook_on_stats"
    ]
    report = told["exomesh_verification"].pop("report")
    assert told == {"exomesh_verification": {"healthy": True, "failed_pairs": [], "findings": []}}
    assert report[0].startswith("from")


def test_the_answers_of_the_survey_are_taken_for_what_they_say(mesh: Awx) -> None:
    certificate = mesh.lab.kubectl("cluster1", "get", "secret", "-n", "istio-system", "cacerts", "-o=json")
    issued = x509.load_pem_x509_certificate(base64.b64decode(json.loads(certificate)["data"]["ca-cert.pem"]))
    assert round((issued.not_valid_after_utc - issued.not_valid_before_utc).total_seconds() / 86400) == 90
    assert isinstance(key := issued.public_key(), rsa.RSAPublicKey)
    assert key.key_size == 2048
    for kind in ("peerauthentication", "poddisruptionbudget"):  # istio_mtls_strict and mesh_ha are off
        assert not mesh.lab.kubectl("cluster1", "get", kind, "-n", "istio-system", "-o=name")


def test_no_secret_is_in_what_the_job_leaves(mesh: Awx, first_job: Job) -> None:
    """Except in `command`, where ansible-runner itself keeps the environment of a job as it is."""
    state = first_job.folder / "inventory/.exomesh"
    secrets = secrets_of_run(mesh.lab, MEMBERS, state, (mesh.root / "key.pem").read_text())
    secrets["passphrase"] = {PASSPHRASE}
    files = [path for path in first_job.artifacts.rglob("*") if path.is_file() and path.name != "command"]
    assert {"stdout", "job_events"} <= {path.relative_to(first_job.artifacts).parts[0] for path in files}
    for path in files:
        text = path.read_text().replace("\\n", "\n")
        assert "PRIVATE KEY" not in text, path
        for what, forms in secrets.items():
            assert not [form for form in forms if form in text], (what, path)


def test_a_job_in_a_new_folder_changes_nothing_but_that_folder(mesh: Awx) -> None:
    """Nothing of the first job is there: the root comes from the credential, kubeconfigs from Exoscale."""
    job = mesh.run("exomesh.istio.site", "second")
    assert job.result.returncode == 0, job.result.stdout[-5000:]
    assert job.changed_by == {"kubeconfig"}
    assert job.verdicts == dict.fromkeys(PAIRS, "ok")


def test_a_job_in_the_same_folder_changes_nothing(mesh: Awx) -> None:
    job = mesh.run("exomesh.istio.site", "second")
    assert job.result.returncode == 0, job.result.stdout[-5000:]
    assert job.changed_by == set()


def test_status_needs_nothing_but_a_new_folder(mesh: Awx) -> None:
    job = mesh.run("exomesh.istio.status", "status")
    assert job.result.returncode == 0, job.result.stdout[-5000:]
    assert job.changed_by == {"kubeconfig"}


def test_a_root_that_would_end_with_the_job_is_not_made(mesh: Awx) -> None:
    job = mesh.run("exomesh.istio.site", "local", certificates_backend="local")
    assert job.result.returncode != 0
    assert "ends with this job of AWX" in " ".join(job.output.split())
    assert not (job.folder / "inventory/.exomesh/ca").exists()
