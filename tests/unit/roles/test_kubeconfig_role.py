"""The role kubeconfig: from Exoscale over the lab's API, and from what a user gives over real Kubernetes."""

from __future__ import annotations

import base64
import json
import re
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

TOKEN = "admin-token-of-the-test"

Play = Callable[..., Any]


@pytest.fixture
def play(play_role: Play) -> Play:
    return partial(play_role, "kubeconfig")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / ".exomesh"


def from_exoscale(api: Any, exo_path: Path) -> dict[str, Any]:
    """The role's variables. The clusters of this API are names only: there is no API server to ask."""
    return {
        "kubeconfig_exo_path": str(exo_path),
        "kubeconfig_api_key": api.key,
        "kubeconfig_api_secret": api.secret,
        "kubeconfig_api_endpoint": api.url,
        "kubeconfig_preflight": False,
    }


def secrets_of(path: Path) -> list[str]:
    """Parts of the keys and tokens in a kubeconfig."""
    users = [item["user"] for item in yaml.safe_load(path.read_text())["users"]]
    return [user["client-key-data"][60:100] if "client-key-data" in user else user["token"] for user in users]


def test_from_exoscale(play: Play, exoscale_api: Any, exo_path: Path, state: Path, tmp_path: Path) -> None:
    hosts = {
        "alpha": {"sks_cluster": "alpha", "sks_zone": "de-fra-1"},
        "vienna": {"sks_cluster": "beta", "sks_zone": "at-vie-2"},
    }
    settings = {
        **from_exoscale(exoscale_api, exo_path),
        "kubeconfig_merged_file": str(tmp_path / "merged"),
    }
    foretold = play(hosts, "--check", "--diff", kubeconfig_held_in_check_mode=False, **settings)
    assert foretold.return_code == 0, foretold.text
    assert all(count >= 1 for count in foretold.changed.values())
    assert not state.exists()

    first = play(hosts, "--diff", "-vvvv", **settings)
    assert first.return_code == 0, first.text
    files = {name: state / name / "kubeconfig" for name in hosts}
    for name, file in files.items():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert yaml.safe_load(file.read_text())["current-context"] == name
    assert (state / ".gitignore").read_text() == "*\n"
    merged = yaml.safe_load((tmp_path / "merged").read_text())
    assert {item["name"] for item in merged["users"]} == {"alpha", "vienna"}
    secrets = [secret for file in files.values() for secret in secrets_of(file)]
    assert len(secrets) == 2
    assert not [secret for secret in [*secrets, exoscale_api.secret] if secret in first.text]

    second = play(hosts, **settings)
    assert second.changed == {"alpha": 0, "vienna": 0}, second.text
    assert len(exoscale_api.requests("generate-sks-cluster-kubeconfig")) == 2


def test_where_nothing_outlives_a_run(
    play: Play, exoscale_api: Any, exo_path: Path, state: Path, tmp_path: Path
) -> None:
    """As in AWX: check mode needs a kubeconfig, too, and a day-2 playbook fetches those that are missing."""
    hosts = {"alpha": {"sks_cluster": "alpha", "sks_zone": "de-fra-1"}}
    settings = {
        **from_exoscale(exoscale_api, exo_path),
        # As AWX sends the answers of a survey.
        "kubeconfig_fetch_in_check_mode": "true",
    }
    file = state / "alpha" / "kubeconfig"
    # Its cluster is a name only: with the preflight, this would fail.
    missing = play(hosts, "--check", tasks_from="valid", **{**settings, "kubeconfig_preflight": True})
    assert missing.return_code == 0, missing.text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert play(hosts, tasks_from="valid", **settings).changed == {"alpha": 0}
    file.unlink()
    checked = play(hosts, "--check", **settings)
    assert checked.return_code == 0, checked.text
    assert yaml.safe_load(file.read_text())["current-context"] == "alpha"


def test_check_mode_looks_into_a_cluster_whose_kubeconfig_is_still_to_come(
    play: Play, exoscale_api: Any, exo_path: Path, state: Path, temporary_folder: Path
) -> None:
    hosts = {"alpha": {"sks_cluster": "alpha", "sks_zone": "de-fra-1"}}
    settings = from_exoscale(exoscale_api, exo_path)
    folder = {"TMPDIR": str(temporary_folder), "HOME": str(temporary_folder)}
    check = partial(play, hosts, "--check", "-vvv", environment=folder)
    forbidden = check(kubeconfig_held_in_check_mode=False, **settings)
    assert forbidden.return_code == 0, forbidden.text
    assert not exoscale_api.requests("generate-sks-cluster-kubeconfig")

    checked = check(**settings)
    assert (checked.return_code, checked.changed) == (0, {"alpha": 2}), checked.text
    assert len(exoscale_api.requests("generate-sks-cluster-kubeconfig")) == 1
    told = re.search(
        "cluster alpha: for this check a kubeconfig was minted that ends at (20[0-9T:-]+Z)", checked.words
    )
    assert told
    left = datetime.fromisoformat(told[1]) - datetime.now(UTC)
    assert timedelta(minutes=25) < left <= timedelta(minutes=30)
    (path,) = set(re.findall(r"/proc/\d+/fd/\d+", checked.text))
    deadline = time.monotonic() + 10
    while Path(path).exists():
        assert time.monotonic() < deadline, "it goes with the run"
    assert "PRIVATE KEY" not in checked.text
    assert not state.exists()
    kept = [file for file in temporary_folder.rglob("*") if file.is_file()]
    assert not [file for file in kept if b"client-key" in file.read_bytes()]


def test_one_that_is_given_is_held_for_a_check(play: Play, kubeconfigs: dict[str, Path], state: Path) -> None:
    hosts = {"east": {"kubeconfig_source": "file", "kubeconfig_file": str(kubeconfigs["east"])}}
    checked = play(hosts, "--check")
    assert (checked.return_code, checked.changed) == (0, {"east": 2}), checked.text
    assert re.search(r"Check that the cluster can be reached and used\] \*+ ok: \[east\]", checked.words)
    assert not state.exists()


def test_one_that_ends_is_renewed_and_exoscale_is_asked_only_then(
    play: Play, exoscale_api: Any, exo_path: Path, state: Path
) -> None:
    """Day-2 playbooks begin so: a job that looks at the mesh for years must not stop at the first expiry."""
    settings: dict[str, Any] = {
        "kubeconfig_exo_path": str(exo_path),
        "kubeconfig_api_key": exoscale_api.key,
        "kubeconfig_api_secret": exoscale_api.secret,
        "kubeconfig_api_endpoint": exoscale_api.url,
    }
    valid = partial(play, {"alpha": {"sks_cluster": "alpha", "sks_zone": "de-fra-1"}}, tasks_from="valid")
    file = state / "alpha" / "kubeconfig"
    assert valid(**settings).return_code == 0
    first, asked = file.read_text(), len(exoscale_api.requests())

    good = valid(**settings)
    assert (good.return_code, good.changed) == (0, {"alpha": 0}), good.text
    assert len(exoscale_api.requests()) == asked

    foretold = valid("--check", "--diff", kubeconfig_renew_before="31d", **settings)
    assert (foretold.return_code, foretold.changed) == (0, {"alpha": 1}), foretold.text
    assert file.read_text() == first

    unable = valid(kubeconfig_renew_before="31d", **{**settings, "kubeconfig_api_secret": "wrong"})
    assert (unable.return_code, unable.changed) == (0, {"alpha": 0}), unable.text
    assert "Cluster alpha: its kubeconfig ends soon or has ended, and could not be renewed" in unable.words
    assert file.read_text() == first

    assert valid(kubeconfig_renew_before="31d", **settings).changed == {"alpha": 1}
    assert file.read_text() != first


def test_a_missing_one_must_be_fetched(play: Play, exoscale_api: Any, exo_path: Path) -> None:
    run = play(
        {"alpha": {"sks_cluster": "nobody", "sks_zone": "de-fra-1"}},
        tasks_from="valid",
        kubeconfig_exo_path=str(exo_path),
        kubeconfig_api_key=exoscale_api.key,
        kubeconfig_api_secret=exoscale_api.secret,
        kubeconfig_api_endpoint=exoscale_api.url,
    )
    assert run.return_code != 0
    assert "nobody" in run.words


def test_a_host_without_a_cluster_is_named(play: Play) -> None:
    run = play({"alpha": {"sks_zone": "de-fra-1"}})
    assert run.return_code != 0
    assert "Cluster alpha: set sks_cluster (name or ID) and sks_zone" in run.words


def test_an_empty_variable_is_named(play: Play) -> None:
    run = play({"alpha": {}}, kubeconfig_source="env")
    assert "there is nothing in variable EXOMESH_KUBECONFIG" in run.words


@pytest.mark.parametrize("source", ["file", "content", "env with a path", "env with the content"])
def test_from_what_is_given(play: Play, kubeconfigs: dict[str, Path], state: Path, source: str) -> None:
    given = kubeconfigs["east"]
    # A content has to be whole; a file may refer to others.
    flat = yaml.safe_load(given.read_text())
    authority = Path(flat["clusters"][0]["cluster"].pop("certificate-authority")).read_bytes()
    flat["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(authority).decode()
    content = json.dumps(flat)
    settings: dict[str, Any] = {"kubeconfig_source": source.split(maxsplit=1)[0]}
    environment = {}
    if source == "file":
        settings["kubeconfig_file"] = str(given)
    elif source == "content":
        settings["kubeconfig_content"] = "{{ lookup('ansible.builtin.file', inventory_dir ~ '/given') }}"
        (state.parent / "given").write_text(content)
    else:
        environment["EXOMESH_KUBECONFIG"] = str(given) if source == "env with a path" else content
    run = play({"east": {}}, "--diff", "-vvvv", environment=environment, **settings)
    assert run.return_code == 0, run.text
    written = yaml.safe_load((state / "east" / "kubeconfig").read_text())
    assert [written[section][0]["name"] for section in ("clusters", "users", "contexts")] == ["east"] * 3
    assert TOKEN in secrets_of(state / "east" / "kubeconfig")
    assert TOKEN not in run.text
    assert play({"east": {}}, environment=environment, **settings).changed == {"east": 0}


def test_the_preflight_names_the_cluster(play: Play, kubeconfigs: dict[str, Path], state: Path) -> None:
    given = yaml.safe_load(kubeconfigs["west"].read_text())
    given["users"][0]["user"]["token"] = "not-the-token"
    (state.parent / "given").write_text(yaml.safe_dump(given))
    run = play({"west": {}}, kubeconfig_source="file", kubeconfig_file=str(state.parent / "given"))
    assert run.return_code != 0
    assert "cluster west: The API server https://127.0.0.1" in run.words
    assert "does not accept the kubeconfig's credentials" in run.words
    assert "not-the-token" not in run.text


def test_an_istio_that_wants_a_newer_kubernetes(play: Play, kubeconfigs: dict[str, Path]) -> None:
    settings = {
        "kubeconfig_source": "file",
        "kubeconfig_file": str(kubeconfigs["west"]),
        "mesh_istio_version": "1.29.9",
    }
    run = play({"west": {}}, **settings)
    assert run.return_code == 0, run.text
    assert "is newer than 1.35, the newest known to work with Istio 1.29.9" in run.words
    left_to_preflight = play({"west": {}}, kubeconfig_check_version_and_clock="false", **settings)
    assert left_to_preflight.return_code == 0, left_to_preflight.text
    assert "is newer than" not in left_to_preflight.words
