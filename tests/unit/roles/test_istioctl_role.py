"""The role istioctl, from a server that stands in for the one with the releases."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

RELEASE = "1.31.1"
ARCHIVE = f"istioctl-{RELEASE}-linux-amd64.tar.gz"
HOSTS: dict[str, dict[str, Any]] = {"east": {}, "west": {}}

Play = Callable[..., Any]


def program(version: str) -> bytes:
    """Something that says its version as istioctl does."""
    answer = json.dumps({"clientVersion": {"version": version}})
    return f"#!/bin/sh\necho '{answer}'\n".encode()


def archive(version: str) -> bytes:
    content, buffer = program(version), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("istioctl")
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def play(play_role: Play) -> Play:
    return partial(play_role, "istioctl", HOSTS)


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Base URL, the folder that is served, and the paths that were asked for."""
    folder, asked = tmp_path / "releases", []
    folder.mkdir()
    (folder / ARCHIVE).write_bytes(archive(RELEASE))
    digest = hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest()
    (folder / f"{ARCHIVE}.sha256").write_text(f"{digest}  {ARCHIVE}\n")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()


def test_one_download_serves_all_clusters_and_the_second_run_asks_nobody(
    play: Play, releases: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    url, _folder, asked = releases
    variables = {"mesh_istio_version": RELEASE, "istioctl_url": f"{url}/{ARCHIVE}"}
    first = play(**variables)
    assert first.return_code == 0, first.text
    assert asked.count(f"/{ARCHIVE}") == 1
    found = tmp_path / ".exomesh" / "istioctl" / RELEASE / "istioctl"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    questions = len(asked)
    second = play(**variables)
    assert second.return_code == 0, second.text
    assert set(second.changed.values()) == {0}
    assert len(asked) == questions


def test_an_archive_with_another_checksum_is_not_unpacked(
    play: Play, releases: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    url, folder, _asked = releases
    (folder / ARCHIVE).write_bytes(archive("6.6.6"))
    result = play(mesh_istio_version=RELEASE, istioctl_url=f"{url}/{ARCHIVE}")
    assert result.return_code != 0
    assert "checksum" in result.words
    assert not list((tmp_path / ".exomesh").rglob("istioctl-*"))
    assert not (tmp_path / ".exomesh" / "istioctl" / RELEASE / "istioctl").exists()


def test_a_checksum_of_the_users_own_needs_no_file_beside_the_archive(
    play: Play, releases: tuple[str, Path, list[str]]
) -> None:
    url, folder, _asked = releases
    (folder / f"{ARCHIVE}.sha256").unlink()
    digest = hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest()
    checksum = f"sha256:{digest}"
    result = play(mesh_istio_version=RELEASE, istioctl_url=f"{url}/{ARCHIVE}", istioctl_checksum=checksum)
    assert result.return_code == 0, result.text


@pytest.mark.parametrize(
    ("version", "said"), [(None, "there is no such file"), ("1.30.0", f"is istioctl 1.30.0, not {RELEASE}")]
)
def test_a_program_that_does_not_serve_is_named(
    play: Play, tmp_path: Path, version: str | None, said: str
) -> None:
    path = tmp_path / "istioctl"
    if version:
        path.write_bytes(program(version))
        path.chmod(0o755)
    result = play(mesh_istio_version=RELEASE, istioctl_binary=str(path))
    assert result.return_code != 0
    assert said in result.words
    assert str(path) in result.words
