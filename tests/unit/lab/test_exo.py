"""The stand-in for exo against the lab's API; EXOMESH_EXO=/path/to/exo runs the same tests with the real one.

With the real one each failing server costs its 15 seconds of retries. What only the stand-in can be asked
(its own pauses and its name) is marked.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from lab_fixtures import ExoscaleApi

pytest.importorskip("cryptography")

from cryptography import x509

Exo = Callable[..., "subprocess.CompletedProcess[str]"]
GENERATE = "generate-sks-cluster-kubeconfig"
stand_in_only = pytest.mark.skipif("EXOMESH_EXO" in os.environ, reason="of the stand-in only")


@pytest.fixture
def exo(exoscale_api: ExoscaleApi, exo_path: Path) -> Exo:
    """Run exo with arguments; keywords change the environment, None removes a variable."""

    def run(*arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        environment = exoscale_api.environment() | changes
        return subprocess.run(
            [str(exo_path), *arguments],
            env={name: value for name, value in environment.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=exoscale_api.state_dir,
        )

    return run


def failure(result: subprocess.CompletedProcess[str]) -> str:
    """What a failed exo said; it printed nothing on stdout and exited with 1."""
    assert (result.returncode, result.stdout) == (1, "")
    return result.stderr.rstrip("\n")


def success(result: subprocess.CompletedProcess[str]) -> str:
    """What a successful exo printed; it said nothing on stderr."""
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_version(exo: Exo) -> None:
    assert re.match(r"exo \d+\.\d+\.\d+ ", success(exo("version")))
    without = {"EXOSCALE_API_KEY": None, "EXOSCALE_API_SECRET": None}
    assert success(exo("version", **without)).startswith("exo ")


@stand_in_only
def test_the_stand_in_says_what_it_is(exo: Exo) -> None:
    for arguments in (["version"], ["--help"], ["compute", "sks"], ["compute", "sks", "kc", "--help"]):
        assert "stand-in" in success(exo(*arguments))


def test_zones(exo: Exo) -> None:
    zones = [zone["name"] for zone in json.loads(success(exo("zone", "-O", "json")))]
    assert zones == sorted(zones)
    assert len(zones) == 8
    assert success(exo("zone", "-O", "text")).split() == zones


def test_a_kubeconfig(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    alpha = exoscale_api.cluster("alpha")
    for name in ("alpha", alpha.id):
        text = success(
            exo(
                "compute",
                "sks",
                "kubeconfig",
                name,
                "me",
                "-z",
                "de-fra-1",
                "-g",
                "a,b",
                "-g",
                "c",
                "-t",
                "60",
            )
        )
        assert text.startswith("apiVersion: v1\nclusters:\n  - cluster:\n      certificate-authority-data: ")
        document = yaml.safe_load(text)
        assert document["current-context"] == alpha.id
        certificate = x509.load_pem_x509_certificate(
            base64.b64decode(document["users"][0]["user"]["client-certificate-data"])
        )
        assert [name.value for name in certificate.subject] == ["a", "b", "c", "me"]
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() == 60


def test_the_requests_of_a_kubeconfig(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    success(exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1", "-O", "json"))
    assert [(entry["operation"], entry["path"].split("/v2/")[0]) for entry in exoscale_api.requests()] == [
        ("list-zones", ""),
        ("list-sks-clusters", "/zones/de-fra-1"),
        (GENERATE, "/zones/de-fra-1"),
    ]


def test_an_exec_credential(exo: Exo) -> None:
    text = success(exo("compute", "sks", "kc", "beta", "me", "-xz", "at-vie-2"))
    assert "\n" not in text
    credential = json.loads(text)
    assert credential["kind"] == "ExecCredential"
    assert sorted(credential["status"]) == ["clientCertificateData", "clientKeyData"]
    certificate = x509.load_pem_x509_certificate(credential["status"]["clientCertificateData"].encode())
    assert [name.value for name in certificate.subject] == ["system:masters", "me"]


def test_garbage_goes_through(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    exoscale_api.faults.set("garbage")
    text = success(exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1"))
    assert text.startswith("&{")
    assert "\napiVersion: v1\n" in text


def test_list(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    listed = json.loads(success(exo("compute", "sks", "list", "-O", "json")))
    expected = [
        {"id": cluster.id, "name": cluster.name, "zone": cluster.zone, "audit_enabled": False}
        for cluster in exoscale_api.clusters
    ]
    assert sorted(listed, key=str) == sorted(expected, key=str)

    alpha = exoscale_api.cluster("alpha")
    here = ["-z", "de-fra-1"]
    # Known bug: with -z the zone is empty.
    assert json.loads(success(exo("compute", "sks", "ls", *here, "-O", "json")))[0]["zone"] == ""
    assert success(exo("compute", "sks", "ls", *here, "-O", "text")) == f"{alpha.id}\talpha\t\tfalse\n"
    template = ["--output-template", "{{.ID}} {{ .Name }} {{.Zone}}"]
    assert success(exo("compute", "sks", "ls", *here, *template)) == f"{alpha.id} alpha \n"
    assert "│ alpha " in success(exo("compute", "sks", "ls", *here))
    assert success(exo("compute", "sks", "list", "-z", "hr-zag-1")) == ""
    assert success(exo("compute", "sks", "list", "-z", "hr-zag-1", "-O", "json")) == "[]\n"
    operations = [entry["operation"] for entry in exoscale_api.requests()][-3:]
    assert operations == ["list-zones", "list-zones", "list-sks-clusters"]


def test_list_with_a_zone_down(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    exoscale_api.faults.set("zone-down", zone="at-vie-2")
    result = exo("compute", "sks", "list", "-O", "json")
    assert result.returncode == 1
    assert {cluster["name"] for cluster in json.loads(result.stdout)} == {"alpha", "gamma", "twin"}
    warning, error = result.stderr.splitlines()
    assert warning.startswith("warning: zone at-vie-2: unable to list SKS clusters")
    assert error == "error: 1 zone(s) failed"


def test_list_has_a_time_limit(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    exoscale_api.faults.set("hang", zone="at-vie-2")
    for changes, arguments in (({}, ["--timeout", "1s"]), ({"EXOSCALE_TIMEOUT": "1s"}, [])):
        result = exo("compute", "sks", "list", "-O", "json", *arguments, **changes)
        assert result.returncode == 1
        assert "context deadline exceeded" in result.stderr
        assert len(json.loads(result.stdout)) == 4


def test_show(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    alpha = exoscale_api.cluster("alpha")
    shown = json.loads(success(exo("compute", "sks", "show", "alpha", "-z", "de-fra-1", "-O", "json")))
    assert (shown["id"], shown["zone"], shown["state"]) == (alpha.id, "de-fra-1", "running")
    assert shown["creation_date"] == "2026-08-01 09:00:00 +0000 UTC"
    assert shown["labels"] == {"mesh": "m1"}
    assert (shown["nodepools"][0]["name"], shown["nodepools"][0]["size"]) == ("default", 0)
    template = ["--output-template", "{{.Name}} {{.Version}} {{.State}}"]
    assert (
        success(exo("compute", "sks", "get", "alpha", "-z", "de-fra-1", *template)) == "alpha 1.36.3 running"
    )
    assert alpha.id in success(exo("compute", "sks", "show", "alpha", "-z", "de-fra-1"))


def test_show_panics_without_a_field(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    exoscale_api.write([dataclasses.replace(exoscale_api.cluster("gamma"), auto_upgrade=None)])
    result = exo("compute", "sks", "show", "gamma", "-z", "ch-gva-2")
    assert result.returncode == 2
    assert result.stderr.startswith("panic: runtime error: invalid memory address or nil pointer dereference")


def test_versions_and_authority_certificates(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    versions = json.loads(success(exo("compute", "sks", "versions", "-O", "json")))
    assert versions[0] == {"version": "1.36.3"}
    beta = exoscale_api.cluster("beta")
    certificate = success(exo("compute", "sks", "authority-cert", "beta", "kubelet", "-z", "at-vie-2"))
    assert certificate == Path(beta.ca_certificate).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kc", "nope", "me"], 'error: "nope" not found in ListSKSClustersResponse: Not Found'),
        (["kc", "alpha", "me"], 'error: "alpha" not found in ListSKSClustersResponse: Not Found'),
        (["kc", "twin", "me"], 'error: "twin" too many found in ListSKSClustersResponse: Conflict'),
        (
            ["kc", "alpha", "me", "-z", "zz-top-1"],
            (
                "error: switch client zone v3: get zone api endpoint: find zone: "
                '"zz-top-1" not found in ListZonesResponse: Not Found'
            ),
        ),
        (["kc", "alpha"], "error: missing arguments, run with --help for usage"),
        (["kc", "alpha", "me", "--nope"], "error: unknown flag: --nope"),
        (["kc", "alpha", "me", "-z"], "error: flag needs an argument: 'z' in -z"),
        (["kc", "alpha", "me", "--zone"], "error: flag needs an argument: --zone"),
    ],
)
def test_wrong_use(exo: Exo, arguments: list[str], message: str) -> None:
    assert failure(exo("compute", "sks", *arguments)) == message


def test_the_old_command_is_gone(exo: Exo) -> None:
    assert failure(exo("sks", "kubeconfig", "alpha", "me")) == 'error: unknown command "sks" for "exo"'


def test_a_ttl_below_one_is_refused_by_the_server(exo: Exo) -> None:
    said = failure(exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1", "-t", "-5"))
    assert said.startswith("error: Bad Request: ")
    assert said.endswith("\n  - --ttl: must be > 0")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("401", "error: Unauthorized: Authentication required"),
        ("403", "error: Forbidden: Forbidden by role policy for compute"),
        ("404", "error: Not Found: Resource not found"),
        ("409", "error: Conflict: Operation already in progress"),
    ],
)
@pytest.mark.parametrize("operation", ["list-sks-clusters", GENERATE])
def test_refusals(exo: Exo, exoscale_api: ExoscaleApi, kind: str, message: str, operation: str) -> None:
    exoscale_api.faults.set(kind, operation=operation)
    assert failure(exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1")) == message
    assert len(exoscale_api.requests(operation)) == 1


@pytest.mark.parametrize("kind", ["429", "500", "502", "503"])
def test_servers_in_trouble_are_asked_five_times(exo: Exo, exoscale_api: ExoscaleApi, kind: str) -> None:
    exoscale_api.faults.set(kind, operation=GENERATE)
    url = f"{exoscale_api.zone_url('de-fra-1')}/sks-cluster-kubeconfig/{exoscale_api.cluster('alpha').id}"
    assert failure(exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1")) == (
        "error: error retrieving kubeconfig: GenerateSKSClusterKubeconfig: http client do: "
        f'Post "{url}": POST {url} giving up after 5 attempt(s)'
    )
    assert len(exoscale_api.requests(GENERATE)) == 5


def test_a_short_trouble_is_survived(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    exoscale_api.faults.set("503", operation=GENERATE, times=1)
    assert success(exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1")).startswith("apiVersion")


def test_html_instead_of_json(exo: Exo, exoscale_api: ExoscaleApi) -> None:
    exoscale_api.faults.set("html", operation="list-sks-clusters")
    said = failure(exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1"))
    assert said.endswith("invalid character '<' looking for beginning of value")


def test_a_silent_server_hangs_it(exo_path: Path, exoscale_api: ExoscaleApi) -> None:
    exoscale_api.faults.set("hang", operation="list-sks-clusters")
    command = [str(exo_path), "compute", "sks", "show", "alpha", "-z", "de-fra-1", "--timeout", "0.1s"]
    with subprocess.Popen(command, env=exoscale_api.environment()) as program:
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(1)
        program.kill()


def test_nobody_listens(exo: Exo) -> None:
    said = failure(exo("compute", "sks", "kc", "a", "me", EXOSCALE_API_ENDPOINT="http://127.0.0.1:1/v2"))
    assert said.startswith(
        "error: switch client zone v3: get zone api endpoint: list zones: ListZones: http client do: "
    )
    assert "giving up after 5 attempt(s)" in said
    assert said.endswith("connect: connection refused")


@stand_in_only
def test_the_pauses_of_the_retries(exo_path: Path, exoscale_api: ExoscaleApi) -> None:
    """1 + 2 + 4 + 8 pauses, here of a fiftieth of a second each."""
    script = exo_path.read_text().replace("EXOLAB_RETRY_PAUSE=0.01", "EXOLAB_RETRY_PAUSE=0.02")
    slower = exoscale_api.state_dir / "exo"
    slower.write_text(script)
    slower.chmod(0o755)
    exoscale_api.faults.set("500", operation="list-zones")
    began = time.monotonic()
    subprocess.run([str(slower), "zone"], env=exoscale_api.environment(), check=False, capture_output=True)
    assert time.monotonic() - began >= 15 * 0.02


def test_wrong_credentials(exo: Exo) -> None:
    said = failure(exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1", EXOSCALE_API_SECRET="other"))
    assert said == "error: Forbidden: Invalid request signature"


@pytest.mark.parametrize("missing", [["EXOSCALE_API_KEY"], ["EXOSCALE_API_SECRET"]])
def test_no_credentials(exo: Exo, missing: list[str]) -> None:
    changes = dict.fromkeys(missing)
    message = 'error: the exo CLI must be configured before usage, please run "exo config"'
    assert failure(exo("zone", **changes)) == message
    assert failure(exo("zone", **dict.fromkeys(missing, ""))) == message


@pytest.fixture
def configuration(exoscale_api: ExoscaleApi) -> Path:
    """A file of three accounts: alice (the default), bob (a command prints his secret), mallory (wrong)."""
    path = exoscale_api.state_dir / "exoscale.toml"
    common = f'key = "{exoscale_api.key}"\nendpoint = "{exoscale_api.url}"\n'
    path.write_text(
        'defaultaccount = "alice"\n'
        f'[[accounts]]\nname = "alice"\nsecret = "{exoscale_api.secret}"\ndefaultZone = "de-fra-1"\n{common}'
        f'[[accounts]]\nname = "bob"\nsecretCommand = ["printf", "{exoscale_api.secret}"]\n{common}'
        f'[[accounts]]\nname = "mallory"\nsecret = "wrong"\n{common}'
    )
    return path


NO_ENVIRONMENT = {"EXOSCALE_API_KEY": None, "EXOSCALE_API_SECRET": None, "EXOSCALE_API_ENDPOINT": None}


def test_accounts_of_the_configuration_file(exo: Exo, configuration: Path) -> None:
    file = ["-C", str(configuration)]
    show = ["compute", "sks", "show", "alpha", "--output-template", "{{.Name}}"]
    # Account and zone are the file's defaults.
    assert success(exo(*show, *file, **NO_ENVIRONMENT)) == "alpha"
    assert success(exo(*show, EXOSCALE_CONFIG=str(configuration), **NO_ENVIRONMENT)) == "alpha"
    assert success(exo(*show, *file, "-A", "bob", "-z", "de-fra-1", **NO_ENVIRONMENT)) == "alpha"
    assert failure(exo(*show, *file, "-z", "at-vie-2", **NO_ENVIRONMENT)).startswith(
        'error: "alpha" not found'
    )
    assert failure(exo(*show, *file, EXOSCALE_ACCOUNT="mallory", **NO_ENVIRONMENT)).startswith(
        "error: Forbidden"
    )
    missing = failure(exo(*show, *file, "-A", "carol", **NO_ENVIRONMENT))
    assert missing == 'error: could\'t find any configured account named "carol"'
    assert failure(exo("zone", "-C", "/x.toml")) == "stat /x.toml: no such file or directory"
    # The environment's credentials replace only those of the account.
    assert (
        success(exo(*show, *file, "-A", "mallory", "-z", "de-fra-1", EXOSCALE_API_ENDPOINT=None)) == "alpha"
    )


def test_where_the_configuration_file_is_looked_for(exo: Exo, configuration: Path) -> None:
    home = configuration.parent / "home"
    folder = home / ".config" / "exoscale"
    folder.mkdir(parents=True)
    configuration.rename(folder / "exoscale.toml")
    assert success(exo("zone", "-O", "text", HOME=str(home), **NO_ENVIRONMENT))
    other = str(home / ".config")
    assert success(exo("zone", "-O", "text", HOME="/nowhere", XDG_CONFIG_HOME=other, **NO_ENVIRONMENT))


def test_a_trace_shows_everything(exo: Exo) -> None:
    """Why the collection must never let EXOSCALE_TRACE reach exo."""
    result = exo("compute", "sks", "kc", "alpha", "me", "-z", "de-fra-1", EXOSCALE_TRACE="")
    assert result.returncode == 0
    assert base64.b64encode(result.stdout.encode()).decode() in result.stderr
