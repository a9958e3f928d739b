"""The module sks_kubeconfig as Ansible runs it, over the lab's API, with both backends."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeconfigs import run_module, secrets_of

Run = Callable[..., dict[str, Any]]
MINTED = "generate-sks-cluster-kubeconfig"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "alpha" / "kubeconfig"


@pytest.fixture(params=["exo", "api"])
def run(request: pytest.FixtureRequest, exoscale_api: Any, exo_path: Path, path: Path) -> Run:
    """Runs the module for cluster alpha; other options as given. Checks that no key is in the result."""

    def call(**options: Any) -> dict[str, Any]:
        known = {"cluster": "alpha", "zone": "de-fra-1", "kubeconfig": str(path)}
        backend = {"backend": request.param, "exo_path": str(exo_path)}
        result = run_module(
            "sks_kubeconfig", environment=exoscale_api.environment(), **{**known, **backend, **options}
        )
        shown = json.dumps(result)
        secrets = secrets_of(path.read_text()) if path.exists() else []
        assert not [secret for secret in [*secrets, exoscale_api.secret] if secret in shown]
        return result

    return call


def test_it_is_minted_once_and_kept(run: Run, exoscale_api: Any, path: Path) -> None:
    first = run()
    assert first["changed"]
    assert first["renewal"] == {"code": "missing", "text": "there is no kubeconfig yet"}
    assert (first["user"], first["groups"], first["context"]) == (
        "exomesh-alpha",
        ["system:masters"],
        "alpha",
    )
    assert first["cluster_id"] == exoscale_api.cluster("alpha").id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(parent.stat().st_mode) for parent in path.parents[:2]] == [0o700, 0o700]
    assert [entry.name for entry in path.parent.iterdir()] == ["kubeconfig"]
    content = path.read_text()
    second = run()
    assert not second["changed"]
    assert second["renewal"] is None
    assert second["fingerprint"] == first["fingerprint"]
    assert path.read_text() == content
    assert len(exoscale_api.requests(MINTED)) == 1


def test_cluster_user_and_context_have_one_name(run: Run, path: Path) -> None:
    run(context="vienna", user="ci")
    data = yaml.safe_load(path.read_text())
    names = [data[section][0]["name"] for section in ("clusters", "users", "contexts")]
    assert [*names, data["current-context"]] == ["vienna"] * 4
    assert not run(context="vienna", user="ci")["changed"]


def test_check_mode_mints_and_writes_nothing(run: Run, exoscale_api: Any, path: Path) -> None:
    result = run(check=True)
    assert result["changed"]
    assert result["diff"]["before"] == ""
    assert "(a new certificate)" in result["diff"]["after"]
    assert not path.parent.exists()
    assert exoscale_api.requests(MINTED) == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"user": "someone"}, "other_user"),
        ({"groups": ["readers"]}, "other_groups"),
        ({"context": "other"}, "other_context"),
        ({"cluster": "beta", "zone": "at-vie-2", "context": "alpha"}, "other_cluster"),
        ({"renew_before": "31d"}, "expires_soon"),
        ({"force": True}, "forced"),
    ],
)
def test_what_is_not_as_asked_for_is_renewed(
    run: Run, path: Path, options: dict[str, Any], code: str
) -> None:
    before = run()
    result = run(**options)
    assert result["renewal"]["code"] == code
    assert result["fingerprint"] != before["fingerprint"]
    assert before["fingerprint"] in result["diff"]["before"]
    assert result["fingerprint"] in result["diff"]["after"]
    assert "backup_file" not in result, "our own needs no backup"


def test_a_ttl_below_renew_before_renews_and_says_so(run: Run) -> None:
    run(ttl="60", renew_before="120s")
    again = run(ttl="60", renew_before="120s")
    assert again["renewal"]["code"] == "expires_soon"
    assert "the next run will renew the new kubeconfig again" in str(again["warnings"])


def test_a_strangers_file_is_kept_as_a_backup(run: Run, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("something: else\n")
    result = run()
    backup = Path(result["backup_file"])
    assert result["renewal"]["code"] == "unreadable"
    assert backup.read_text() == "something: else\n"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert str(backup) in str(result["warnings"])


def test_a_file_with_several_contexts_is_refused(run: Run, path: Path) -> None:
    run()
    data = yaml.safe_load(path.read_text())
    data["contexts"].append({"name": "work", "context": {"cluster": "alpha", "user": "alpha"}})
    path.write_text(yaml.safe_dump(data))
    content = path.read_text()
    result = run()
    assert result["failure"]["code"] == "shared_file"
    assert "kubeconfig_merge" in result["msg"]
    assert path.read_text() == content


def test_a_mode_that_is_too_wide_is_corrected(run: Run, exoscale_api: Any, path: Path) -> None:
    run()
    path.chmod(0o644)
    assert run(check=True)["changed"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert run()["changed"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(exoscale_api.requests(MINTED)) == 1


def test_a_failure_leaves_the_old_file(run: Run, exoscale_api: Any, path: Path) -> None:
    run()
    content = path.read_text()
    exoscale_api.faults.set("403", operation=MINTED)
    result = run(force=True)
    assert result["failed"]
    assert result["failure"]["code"] == "forbidden"
    assert result["failure"]["cluster"] == "alpha"
    assert result["msg"].startswith("cluster alpha, zone de-fra-1: ")
    assert path.read_text() == content


def test_a_link_is_followed(run: Run, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "real")
    run()
    assert path.is_symlink()
    assert (tmp_path / "real").is_file()


def test_it_is_removed(run: Run, path: Path, exoscale_api: Any) -> None:
    run()
    asked = len(exoscale_api.requests())
    assert run(state="absent", check=True)["changed"]
    assert path.exists()
    assert run(state="absent")["changed"]
    assert not path.exists()
    assert not run(state="absent")["changed"]
    assert len(exoscale_api.requests()) == asked, "a cluster that is gone cannot be asked about"


def test_another_clusters_file_is_not_removed(run: Run, path: Path) -> None:
    run()
    assert run(state="absent", context="other")["failure"]["code"] == "shared_file"
    assert path.exists()


def test_a_cluster_that_is_not_ready(run: Run, exoscale_api: Any) -> None:
    import dataclasses

    creating = dataclasses.replace(exoscale_api.cluster("alpha"), endpoint="", state="creating")
    exoscale_api.write([creating])
    result = run()
    assert result["failure"]["code"] == "cluster_not_ready"
    assert "its state is creating" in result["msg"]


def test_a_duration_that_is_none(run: Run) -> None:
    assert run(ttl="soon")["failure"]["code"] == "invalid_option"
