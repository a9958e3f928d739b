"""Both ways of asking Exoscale, over a real server; EXOMESH_EXO puts the real exo in the stand-in's place."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale import api
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale.backend import connect
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale.cli import explain
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale.interface import (
    Cluster,
    Credentials,
    Exoscale,
    ExoscaleError,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig import Kubeconfig
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig_certificates import (
    certificates_of,
)
from patience import ends_within

BACKENDS = ("exo", "api")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "RETRY_PAUSES", (0.01, 0.02, 0.04))


@pytest.fixture
def ask(exoscale_api: Any, exo_path: Path) -> Any:
    """A function that gives a backend with the test's credentials, some options replaced."""

    def make(backend: str, **options: Any) -> Exoscale:
        return connect(
            {"backend": backend, "exo_path": str(exo_path), "timeout": 30.0, **options},
            environment={**exoscale_api.environment(), **options.pop("environment", {})},
        )

    return make


@pytest.fixture(params=BACKENDS)
def exoscale(request: pytest.FixtureRequest, ask: Any) -> Exoscale:
    return ask(request.param)


def failure_of(work: Any) -> ExomeshError:
    with pytest.raises(ExomeshError) as caught:
        work()
    return caught.value


def test_all_zones_are_listed(exoscale: Exoscale) -> None:
    assert {"de-fra-1", "at-vie-2", "ch-gva-2"} <= set(exoscale.zones())


def test_a_cluster_is_found_by_name_and_by_id(exoscale: Exoscale, exoscale_api: Any) -> None:
    known = exoscale_api.cluster("alpha")
    found = exoscale.cluster("de-fra-1", "alpha")
    assert found == Cluster(
        id=known.id,
        name="alpha",
        zone="de-fra-1",
        state="running",
        version=known.version,
        cni="calico",
        level="pro",
        endpoint=known.endpoint,
        created_at="2026-08-01T09:00:00Z",
        auto_upgrade=False,
        addons=["exoscale-cloud-controller", "metrics-server"],
        labels={"mesh": "m1"},
        nodepools=[{"id": known.nodepools[0].id, "name": "default"}],
    )
    assert exoscale.cluster("de-fra-1", known.id) == found


def test_clusters_of_all_zones(exoscale: Exoscale) -> None:
    answer = exoscale.clusters_of(None)
    assert [(found.zone, found.name) for found in answer.clusters] == [
        ("at-vie-2", "beta"),
        ("ch-dk-2", "twin"),
        ("ch-dk-2", "twin"),
        ("ch-gva-2", "gamma"),
        ("de-fra-1", "alpha"),
    ]
    assert answer.failed_zones == {}


@pytest.mark.parametrize("kind", ["zone-down", "500", "403"])
def test_a_failing_zone_does_not_hide_the_others(exoscale: Exoscale, exoscale_api: Any, kind: str) -> None:
    exoscale_api.faults.set(kind, zone="at-vie-2")
    answer = exoscale.clusters_of(["de-fra-1", "at-vie-2"])
    assert [found.name for found in answer.clusters] == ["alpha"]
    assert list(answer.failed_zones) == ["at-vie-2"]
    assert "zone at-vie-2" in str(answer.failed_zones["at-vie-2"])


def test_a_minted_kubeconfig_is_as_asked_for(exoscale: Exoscale, exoscale_api: Any) -> None:
    cluster = exoscale.cluster("de-fra-1", "alpha")
    text = exoscale.kubeconfig(cluster, "exomesh-alpha", ["system:masters", "ops"], 3600)
    entry = Kubeconfig.parse(text).entry()
    client, authorities = certificates_of(entry)
    assert client is not None
    assert (client.common_name, set(client.organizations)) == ("exomesh-alpha", {"system:masters", "ops"})
    assert abs((client.not_after - client.not_before).total_seconds() - 3600) <= 10
    assert entry.server == exoscale_api.cluster("alpha").server
    assert [authority.common_name for authority in authorities] == ["control-plane-ca"]


def test_garbage_before_the_yaml_is_cut_off(exoscale: Exoscale, exoscale_api: Any) -> None:
    exoscale_api.faults.set("garbage")
    text = exoscale.kubeconfig(exoscale.cluster("de-fra-1", "alpha"), "someone", ["system:masters"], None)
    assert text.startswith("apiVersion: v1\n")
    assert certificates_of(Kubeconfig.parse(text).entry())[0]


def test_an_unknown_zone_lists_the_zones(exoscale: Exoscale) -> None:
    error = failure_of(lambda: exoscale.cluster("zz-top-1", "alpha"))
    assert error.code == "zone_not_found"
    assert "cluster alpha, zone zz-top-1: Exoscale has no zone zz-top-1." in str(error)
    assert "de-fra-1" in str(error)


def test_a_cluster_of_another_zone_is_found_there(exoscale: Exoscale) -> None:
    error = failure_of(lambda: exoscale.cluster("at-vie-2", "alpha"))
    assert error.code == "cluster_in_other_zone"
    assert "It is in zone de-fra-1" in str(error)


def test_an_unknown_cluster_lists_the_clusters(exoscale: Exoscale) -> None:
    error = failure_of(lambda: exoscale.cluster("at-vie-2", "nope"))
    assert error.code == "cluster_not_found"
    assert "there is no SKS cluster nope" in str(error)
    assert "The zone's clusters: beta." in str(error)


def test_two_clusters_of_one_name_list_their_ids(exoscale: Exoscale, exoscale_api: Any) -> None:
    error = failure_of(lambda: exoscale.cluster("ch-dk-2", "twin"))
    ids = [cluster.id for cluster in exoscale_api.clusters if cluster.name == "twin"]
    assert error.code == "cluster_ambiguous"
    assert all(identifier in str(error) for identifier in ids)
    assert exoscale.cluster("ch-dk-2", ids[0]).id == ids[0]


@pytest.mark.parametrize(
    ("kind", "codes", "words"),
    [
        ("400", ("bad_request", "bad_request"), "The request body does not match its schema"),
        ("401", ("unauthorized", "unauthorized"), "Check the API key and its secret"),
        ("403", ("forbidden", "forbidden"), "list-zones, list-sks-clusters, generate-sks-cluster-kubeconfig"),
        ("404", ("not_found", "not_found"), "Resource not found"),
        ("409", ("conflict", "conflict"), "Wait for the other operation to end"),
        # exo does not tell what it was answered when it gives up.
        ("429", ("server_error", "rate_limited"), "Exoscale"),
        ("500", ("server_error", "server_error"), "Try again later"),
        ("503", ("server_error", "server_error"), "Try again later"),
        ("html", ("unreadable_answer", "unreadable_answer"), "A proxy or a login page"),
        ("zone-down", ("unreachable", "unreachable"), "cannot be reached"),
    ],
)
@pytest.mark.parametrize("operation", ["list-sks-clusters", "generate-sks-cluster-kubeconfig"])
def test_every_fault_is_explained(
    exoscale: Exoscale, exoscale_api: Any, kind: str, codes: tuple[str, str], words: str, operation: str
) -> None:
    cluster = exoscale.cluster("de-fra-1", "alpha")
    exoscale_api.faults.set(kind, operation=operation)
    if operation == "list-sks-clusters":
        error = failure_of(lambda: exoscale.cluster("de-fra-1", "alpha"))
    else:
        error = failure_of(lambda: exoscale.kubeconfig(cluster, "me", ["system:masters"], None))
    assert error.code == codes[BACKENDS.index("exo" if "Cli" in type(exoscale).__name__ else "api")]
    assert str(error).startswith("cluster alpha, zone de-fra-1: ")
    assert words in str(error)
    assert error.next_step


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", ["list-zones", "list-sks-clusters"])
def test_a_hang_ends_at_our_limit(ask: Any, exoscale_api: Any, backend: str, operation: str) -> None:
    exoscale_api.faults.set("hang", operation=operation)
    with ends_within(5):
        error = failure_of(lambda: ask(backend, timeout=1.0).cluster("de-fra-1", "alpha"))
    assert error.code == "timeout"
    assert "did not answer within 1 s" in str(error)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wrong_secret_is_a_refusal_and_stays_secret(ask: Any, exoscale_api: Any, backend: str) -> None:
    wrong = ask(backend, api_key=exoscale_api.key, api_secret="not-the-secret")
    error = failure_of(lambda: wrong.cluster("de-fra-1", "alpha"))
    assert error.code == "forbidden"
    assert "Invalid request signature" in str(error)
    assert "not-the-secret" not in str(error)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nobody_listens(ask: Any, backend: str) -> None:
    error = failure_of(lambda: ask(backend, api_endpoint="http://127.0.0.1:1/v2").zones())
    assert error.code == "unreachable"
    assert "refused" in str(error)


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_a_credential_is_refused(ask: Any, backend: str) -> None:
    assert failure_of(lambda: ask(backend, api_key="EXOkey")).code == "incomplete_credentials"


CONFIGURATION = """
defaultaccount = "main"
[[accounts]]
name = "main"
key = "EXOtest0000000000000000000"
secret = "s3cret"
defaultZone = "ch-gva-2"
[[accounts]]
name = "other"
key = "EXOother"
secret = "wrong"
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_named_account_wins_over_keys_in_the_environment(
    ask: Any, exoscale_api: Any, tmp_path: Path, backend: str
) -> None:
    file = tmp_path / "exoscale.toml"
    file.write_text(CONFIGURATION)
    stranger = {"EXOSCALE_API_KEY": "EXOstranger", "EXOSCALE_API_SECRET": "no"}
    main = ask(backend, config_file=str(file), environment=stranger)
    assert main.cluster("de-fra-1", "alpha").name == "alpha"
    other = ask(backend, config_file=str(file), account="other")
    assert failure_of(lambda: other.cluster("de-fra-1", "alpha")).code == "forbidden"
    error = failure_of(
        lambda: ask(backend, config_file=str(file), account="carol").cluster("de-fra-1", "alpha")
    )
    assert error.code == "account_not_found"
    assert "carol" in str(error)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_credentials_at_all(
    ask: Any, exoscale_api: Any, tmp_path: Path, backend: str, exo_path: Path
) -> None:
    environment = {"PATH": exoscale_api.environment()["PATH"], "HOME": str(tmp_path)}
    options = {"backend": backend, "exo_path": str(exo_path), "timeout": 30.0}
    error = failure_of(lambda: connect(options, environment=environment).cluster("de-fra-1", "alpha"))
    assert error.code == "no_credentials"
    assert "EXOSCALE_API_KEY" in str(error)


def test_auto_falls_back_to_the_client_where_there_is_no_exo(ask: Any) -> None:
    assert type(ask("auto", exo_path="/nowhere/exo")).__name__ == "ExoscaleApi"
    assert type(ask("auto")).__name__ == "ExoCli"


def test_a_missing_exo_says_how_to_get_it(ask: Any) -> None:
    error = failure_of(lambda: ask("exo", exo_path="/nowhere/exo"))
    assert error.code == "missing_requirement"
    assert "kubeconfig_exo_path" in str(error)
    assert "Python package exoscale" in str(error)


def test_without_exo_the_client_says_that_it_has_no_key(tmp_path: Path) -> None:
    options = {"backend": "auto", "exo_path": "/nowhere/exo", "timeout": 30.0}
    error = failure_of(lambda: connect(options, environment={"HOME": str(tmp_path)}))
    assert error.code == "no_credentials"


@pytest.mark.parametrize(
    ("said", "return_code", "code"),
    [
        ('error: unknown command "sks" for "exo"', 1, "missing_requirement"),
        ("panic: runtime error: invalid memory address\n\ngoroutine 1 [running]:", 2, "exo_crashed"),
        (
            "error: giving up after 1 attempt(s): x509: certificate signed by unknown authority",
            1,
            "untrusted_certificate",
        ),
        (
            "error: error decoding kubeconfig content: illegal base64 data at input byte 0",
            1,
            "unreadable_answer",
        ),
        ("error: something new", 1, "exo_failed"),
        ("", 1, "exo_failed"),
    ],
)
def test_what_exo_says_is_understood(said: str, return_code: int, code: str) -> None:
    assert explain(said, return_code).code == code


def test_exo_sees_no_variables_but_those_it_needs(ask: Any, exoscale_api: Any, tmp_path: Path) -> None:
    program = tmp_path / "exo"
    program.write_text("#!/bin/sh\nenv >&2\npwd >&2\nexit 1\n")
    program.chmod(0o755)
    backend = ask("exo", exo_path=str(program), environment={"EXOSCALE_TRACE": "1", "KUBECONFIG": "/x"})
    backend._secrets = []
    with pytest.raises(ExoscaleError) as caught:
        backend._run("zone")
    assert "TRACE" not in str(caught.value)
    names = set(backend._environment)
    assert names <= {
        "PATH",
        "HOME",
        "LANG",
        "EXOSCALE_API_KEY",
        "EXOSCALE_API_SECRET",
        "EXOSCALE_API_ENDPOINT",
    }


def test_credentials_show_no_secret() -> None:
    assert "s3cret" not in repr(Credentials("EXOkey", "s3cret"))


def asked_for(exoscale_api: Any, operation: str) -> int:
    """How often the API got a request for this."""
    lines = (exoscale_api.state_dir / "requests.jsonl").read_text().splitlines()
    return sum(json.loads(line)["operation"] == operation for line in lines)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("500", 1), ("502", 1), ("503", 1), ("zone-down", 1), ("hang", 1), ("html", 1), ("429", 4)],
)
def test_what_makes_a_certificate_is_not_asked_for_twice(
    ask: Any, exoscale_api: Any, kind: str, asked: int
) -> None:
    exoscale = ask("api", timeout=2.0)
    cluster = exoscale.cluster("de-fra-1", "alpha")
    exoscale_api.faults.set(kind, operation="generate-sks-cluster-kubeconfig")
    error = failure_of(lambda: exoscale.kubeconfig(cluster, "me", ["system:masters"], None))
    assert asked_for(exoscale_api, "generate-sks-cluster-kubeconfig") == asked
    assert ("none can be revoked" in str(error)) == (asked == 1)
    # Reading is asked for again, as before.
    if kind in ("500", "502", "503", "zone-down"):
        before = asked_for(exoscale_api, "list-sks-clusters")
        exoscale_api.faults.set(kind, operation="list-sks-clusters")
        failure_of(lambda: exoscale.cluster("de-fra-1", "alpha"))
        assert asked_for(exoscale_api, "list-sks-clusters") > before + 1


def test_what_makes_a_certificate_is_asked_for_again_where_nobody_was_reached(
    ask: Any, exoscale_api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    exoscale = ask("api", timeout=2.0)
    cluster = exoscale.cluster("de-fra-1", "alpha")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{silent.getsockname()[1]}"
    tried = []
    send = requests.Session.request

    def refuse_once(self: Any, method: str, url: str, **arguments: Any) -> Any:
        tried.append(url)
        return send(self, method, closed if len(tried) == 1 else url, **arguments)

    monkeypatch.setattr(requests.Session, "request", refuse_once)
    assert exoscale.kubeconfig(cluster, "me", ["system:masters"], None)
    assert len(tried) == 2


def test_a_connection_that_breaks_is_not_asked_again_for_a_certificate(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    exoscale = ask("api", timeout=2.0)
    cluster = exoscale.cluster("de-fra-1", "alpha")
    tried = []

    def break_off(self: Any, method: str, url: str, **arguments: Any) -> Any:
        tried.append(url)
        raise requests.exceptions.ConnectionError("Connection aborted")

    monkeypatch.setattr(requests.Session, "request", break_off)
    error = failure_of(lambda: exoscale.kubeconfig(cluster, "me", ["system:masters"], None))
    assert (len(tried), error.code) == (1, "unreachable")
    assert "none can be revoked" in str(error)
