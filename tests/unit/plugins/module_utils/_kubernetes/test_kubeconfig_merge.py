"""The module kubeconfig_merge as Ansible runs it: alone, many at once, and killed."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base import files
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig import Kubeconfig
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig_certificates import (
    certificates_of,
)
from kubeconfigs import CA_OF_TESTS as CA
from kubeconfigs import issue, kubeconfig, module_input, run_module, secrets_of, start_module

CLIENT = issue("someone", ("system:masters",), issuer=CA)
FOREIGN = {
    "apiVersion": "v1",
    "kind": "Config",
    "preferences": {"colors": True},
    "clusters": [{"name": "work", "cluster": {"server": "https://work:6443"}}],
    "users": [{"name": "me", "user": {"token": "a-very-secret-token"}}],
    "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me", "namespace": "x"}}],
    "current-context": "work",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text(kubeconfig("0f3c", "https://a.example:443", CA, CLIENT, user="someone"))
    return path


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    path = tmp_path / "shared" / "config"
    path.parent.mkdir()
    path.write_text("# mine\n" + yaml.safe_dump(FOREIGN, sort_keys=False))
    return path


def data_of(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def test_a_context_is_merged_once(source: Path, dest: Path) -> None:
    options = {"kubeconfig": str(source), "dest": str(dest), "name": "mesh-a"}
    foretold = run_module("kubeconfig_merge", check=True, **options)
    assert data_of(dest) == FOREIGN
    result = run_module("kubeconfig_merge", **options)
    assert result["changed"]
    assert result["diff"] == foretold["diff"]
    assert result["contexts"] == ["work", "mesh-a"]
    assert result["current_context"] == "work"
    assert stat.S_IMODE(dest.stat().st_mode) == 0o600
    data = data_of(dest)
    for section in ("clusters", "users", "contexts"):
        assert data[section][0] == FOREIGN[section][0]
        assert data[section][1]["name"] == "mesh-a"
    assert data["preferences"] == FOREIGN["preferences"]
    content = dest.read_text()
    assert not run_module("kubeconfig_merge", **options)["changed"]
    assert dest.read_text() == content
    removed = run_module("kubeconfig_merge", dest=str(dest), name="mesh-a", state="absent")
    assert removed["changed"]
    assert data_of(dest) == FOREIGN
    assert not run_module("kubeconfig_merge", dest=str(dest), name="mesh-a", state="absent")["changed"]


def test_no_secret_is_in_the_result(source: Path, dest: Path) -> None:
    result = run_module("kubeconfig_merge", content=source.read_text(), dest=str(dest))
    shown = json.dumps(result)
    assert "CN=someone" in shown
    assert "a-very-secret-token" not in shown
    assert not [secret for secret in secrets_of(source.read_text()) if secret in shown]


def test_a_missing_file_is_made(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "new" / "config"
    foretold = run_module("kubeconfig_merge", check=True, kubeconfig=str(source), dest=str(dest))
    assert foretold["changed"]
    assert not dest.parent.exists()
    result = run_module("kubeconfig_merge", kubeconfig=str(source), dest=str(dest))
    assert result["current_context"] == "0f3c"
    assert stat.S_IMODE(dest.parent.stat().st_mode) == 0o700


def test_the_current_context_and_a_backup_when_told(source: Path, dest: Path) -> None:
    before = dest.read_text()
    result = run_module(
        "kubeconfig_merge", kubeconfig=str(source), dest=str(dest), make_current=True, backup=True
    )
    assert data_of(dest)["current-context"] == "0f3c"
    assert Path(result["backup_file"]).read_text() == before


def test_a_strangers_context_is_refused_by_name(source: Path, dest: Path) -> None:
    result = run_module("kubeconfig_merge", kubeconfig=str(source), dest=str(dest), name="work")
    assert result["failure"]["code"] == "context_taken"
    assert result["msg"].startswith("cluster work: context work is already there, for another server")
    assert data_of(dest) == FOREIGN


def test_the_only_context_is_taken_where_none_is_current(source: Path, dest: Path) -> None:
    document = data_of(source)
    del document["current-context"]
    result = run_module("kubeconfig_merge", content=yaml.safe_dump(document), dest=str(dest))
    assert result["context"] == "0f3c"
    two = yaml.safe_load(dest.read_text()) | {"current-context": ""}
    result = run_module("kubeconfig_merge", content=yaml.safe_dump(two), dest=str(dest))
    assert result["failure"]["code"] == "context_not_found"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"content": "hello"}, "kubeconfig_invalid"),
        ({"content": "a: [\n"}, "kubeconfig_invalid"),
        ({"kubeconfig": "/nonexistent/file"}, "kubeconfig_missing"),
        ({"context": "nope"}, "context_not_found"),
    ],
)
def test_what_cannot_be_merged(source: Path, dest: Path, options: dict[str, str], code: str) -> None:
    given = options if "content" in options else {"kubeconfig": str(source), **options}
    result = run_module("kubeconfig_merge", dest=str(dest), **given)
    assert result["failure"]["code"] == code
    assert data_of(dest) == FOREIGN


def test_a_shared_file_that_is_none_is_left_alone(source: Path, dest: Path) -> None:
    dest.write_text("just text")
    result = run_module("kubeconfig_merge", kubeconfig=str(source), dest=str(dest))
    assert result["failure"]["code"] == "kubeconfig_invalid"
    assert dest.read_text() == "just text"


def test_many_at_once_lose_nothing(source: Path, dest: Path) -> None:
    names = [f"mesh-{number}" for number in range(8)]
    running = [start_module("kubeconfig_merge") for _name in names]
    for process, name in zip(running, names, strict=True):
        assert process.stdin
        options = {"kubeconfig": str(source), "dest": str(dest), "name": name}
        process.stdin.write(module_input(False, options))
        process.stdin.close()
    for process in running:
        assert process.wait(timeout=120) == 0
    config = Kubeconfig.parse(dest.read_text())
    assert sorted(config.context_names) == sorted([*names, "work"])
    assert all(certificates_of(config.entry(name))[0] for name in names)
    assert config.current_context == "work"
    assert [entry.name for entry in dest.parent.iterdir()] == ["config"]


def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new(dest: Path) -> None:
    """Forked writers write as fast as they can until SIGKILL hits them anywhere."""
    big = copy.deepcopy(FOREIGN) | {"padding": "x" * 300_000}
    texts = {yaml.safe_dump(big | {"number": number}) for number in range(2)}
    with files.locked(dest):
        files.write_private(dest, next(iter(texts)))
    for _attempt in range(30):
        child = os.fork()
        if child == 0:
            while True:
                for text in texts:
                    with files.locked(dest):
                        files.write_private(dest, text)
        time.sleep(random.uniform(0.01, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert dest.read_text() in texts
        assert stat.S_IMODE(dest.stat().st_mode) == 0o600
    with files.locked(dest, timeout=1):
        files.write_private(dest, "done\n")
    assert [entry.name for entry in dest.parent.iterdir()] == ["config"], "what was left is cleaned up"


def test_a_lock_that_is_held_is_named(dest: Path) -> None:
    with (
        files.locked(dest),
        pytest.raises(files.FileError, match="could not lock") as caught,
        files.locked(dest, timeout=0.1),
    ):
        pass
    assert caught.value.code == "lock_timeout"
