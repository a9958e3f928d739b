"""The role istioctl, from a server that stands in for the one with the releases."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import ssl
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._istio.istioctl import Source, fetch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools" / "pin_istioctl.py"
TABLE = ROOT / "roles" / "istioctl" / "vars" / "main.yml"
RELEASE = "1.31.7"
PINNED = "1.31.1"
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
def tls_authority(tmp_path: Path) -> Path:
    """Certificate of the server that stands in for one with TLS; its key is beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "authority.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@pytest.fixture
def tls_url(releases: tuple[str, Path, list[str]], tls_authority: Path) -> Iterator[str]:
    """Base URL of the same releases over TLS."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(releases[1]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls_authority, tls_authority.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()


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
    assert list((tmp_path / ".exomesh" / "istioctl" / RELEASE).iterdir()) == []


def test_a_checksum_of_the_users_own_needs_no_file_beside_the_archive(
    play: Play, releases: tuple[str, Path, list[str]]
) -> None:
    url, folder, _asked = releases
    (folder / f"{ARCHIVE}.sha256").unlink()
    digest = hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest()
    checksum = f"sha256:{digest}"
    result = play(mesh_istio_version=RELEASE, istioctl_url=f"{url}/{ARCHIVE}", istioctl_checksum=checksum)
    assert result.return_code == 0, result.text


def test_a_release_that_the_role_knows_needs_no_file_beside_it_and_must_be_that_one(
    play: Play, releases: tuple[str, Path, list[str]]
) -> None:
    url, folder, asked = releases
    name = f"istioctl-{PINNED}-linux-amd64.tar.gz"
    (folder / name).write_bytes(archive(PINNED))
    result = play(mesh_istio_version=PINNED, istioctl_url=f"{url}/{name}")
    assert result.return_code != 0
    assert "the table of the role istioctl says a44563904f22" in result.words
    assert f"/{name}.sha256" not in asked


def test_a_mirror_has_the_releases_by_version(
    play: Play, releases: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    url, folder, asked = releases
    (folder / RELEASE).mkdir()
    for name in (ARCHIVE, f"{ARCHIVE}.sha256"):
        (folder / name).rename(folder / RELEASE / name)
    result = play("--limit", "west", mesh_istio_version=RELEASE, istioctl_mirror=f"{url}/")
    assert result.return_code == 0, result.text
    assert f"/{RELEASE}/{ARCHIVE}" in asked
    assert (tmp_path / ".exomesh" / "istioctl" / RELEASE / "istioctl").exists()


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_an_archive_may_be_a_file(play: Play, releases: tuple[str, Path, list[str]], scheme: str) -> None:
    _url, folder, asked = releases
    result = play("--check", mesh_istio_version=RELEASE, istioctl_url=f"{scheme}{folder / ARCHIVE}")
    assert result.return_code == 0, result.text
    assert asked == []


def test_a_proxy_is_used(play: Play, releases: tuple[str, Path, list[str]]) -> None:
    proxy, _folder, asked = releases
    address = f"http://releases.invalid/{ARCHIVE}"
    result = play(mesh_istio_version=RELEASE, istioctl_url=address, istioctl_proxy=proxy)
    # The stand-in is no proxy and looks for a file of that name; what counts is that it was asked.
    assert result.return_code != 0
    assert f"{address}.sha256" in asked


@pytest.mark.parametrize("processes", ["", "1"], ids=["in the task's process", "in its own"])
def test_a_proxys_password_is_in_no_process_and_no_output(play: Play, tmp_path: Path, processes: str) -> None:
    """Whoever may list processes must not see it while the fetch goes on."""
    seen: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            for process in Path("/proc").glob("[0-9]*"):
                for file in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        seen.append((process / file).read_bytes().decode(errors="replace"))
            self.send_error(404)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        given = {
            "istioctl_url": f"http://releases.invalid/{ARCHIVE}",
            "istioctl_proxy": f"http://me:open-sesame@127.0.0.1:{proxy.server_port}",
        }
        environment = {"EXOMESH_MODULE_PROCESSES": processes} if processes else {}
        result = play("-vvvv", mesh_istio_version=RELEASE, environment=environment, **given)
        proxy.shutdown()
    assert "the answer was 404" in result.words
    assert seen
    assert not [text for text in seen if "open-sesame" in text]
    assert "open-sesame" not in result.text


def test_a_server_that_is_not_trusted_gives_nothing_and_credentials_are_not_shown(
    play: Play, tls_url: str, tls_authority: Path
) -> None:
    address = f"{tls_url}/{ARCHIVE}".replace("https://", "https://me:open-sesame@")
    variables = {"mesh_istio_version": RELEASE, "istioctl_url": address}
    refused = play("-vvv", **variables)
    assert refused.return_code != 0
    assert "CERTIFICATE_VERIFY_FAILED" in refused.text
    assert "istioctl_mirror, through istioctl_proxy" in refused.words
    trusted = play("-vvv", environment={"SSL_CERT_FILE": str(tls_authority)}, **variables)
    assert trusted.return_code == 0, trusted.text
    assert "open-sesame" not in refused.text + trusted.text


def test_two_processes_share_one_download(releases: tuple[str, Path, list[str]], tmp_path: Path) -> None:
    url, _folder, asked = releases
    program = tmp_path / "state" / "istioctl"
    source = Source(f"{url}/{ARCHIVE}", None, None, 10)
    script = (
        "import sys; from pathlib import Path; "
        "from ansible_collections.exomesh.istio.plugins.module_utils._istio.istioctl import Source, fetch; "
        f"print(fetch(Source({source.url!r}, None, None, 10), Path({str(program)!r}), {RELEASE!r}))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = sorted(run.communicate()[0].strip() for run in runs)
    assert said == ["False", "False", "False", "True"]
    assert asked.count(f"/{ARCHIVE}") == 1
    assert [path.name for path in program.parent.iterdir()] == ["istioctl"]


def test_what_a_killed_run_left_is_cleared(releases: tuple[str, Path, list[str]], tmp_path: Path) -> None:
    url, _folder, _asked = releases
    left_behind = tmp_path / "state" / ".fetching-x1"
    left_behind.mkdir(parents=True)
    assert fetch(Source(f"{url}/{ARCHIVE}", None, None, 10), left_behind.with_name("istioctl"), RELEASE)
    assert not left_behind.exists()


def test_a_page_in_place_of_a_checksum_is_refused(play: Play, releases: tuple[str, Path, list[str]]) -> None:
    url, folder, _asked = releases
    (folder / f"{ARCHIVE}.sha256").write_text("<html>Please log in</html>")
    result = play(mesh_istio_version=RELEASE, istioctl_url=f"{url}/{ARCHIVE}")
    assert result.return_code != 0
    assert f"{ARCHIVE}.sha256 has no sha256" in result.words


def test_a_release_that_is_not_there_is_told_with_the_ways_to_have_it(
    play: Play, releases: tuple[str, Path, list[str]]
) -> None:
    url, _folder, _asked = releases
    result = play(mesh_istio_version="1.31.8", istioctl_mirror=url)
    assert result.return_code != 0
    assert "the answer was 404" in result.words


@pytest.mark.parametrize(
    ("version", "reason"),
    [("1.30.3", "issues 60612, 60920, 61043"), ("1.31.0", "crafted remote secret"), ("1.29.9", "1.30.5")],
)
def test_a_release_that_is_not_safe_is_refused_with_the_reason(
    play: Play, tmp_path: Path, version: str, reason: str
) -> None:
    path = tmp_path / "istioctl"
    path.write_bytes(program(version))
    path.chmod(0o755)
    variables = {"mesh_istio_version": version, "istioctl_binary": str(path)}
    refused = play(**variables)
    assert refused.return_code != 0
    assert reason in refused.words
    assert "istioctl_allow_unsafe" in refused.words
    allowed = play(**variables, istioctl_allow_unsafe=True)
    assert allowed.return_code == 0, allowed.text
    assert reason in allowed.words


def test_a_build_before_a_release_counts_as_that_release(play: Play, tmp_path: Path) -> None:
    version = "1.31.1-alpha.eed52ebb66ad"
    path = tmp_path / "istioctl"
    path.write_bytes(program(version))
    path.chmod(0o755)
    result = play(mesh_istio_version=version, istioctl_binary=str(path))
    assert result.return_code == 0, result.text
    assert "WARNING" not in result.text


def test_the_tool_takes_a_release_into_the_table(
    releases: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    url, folder, _asked = releases
    (folder / RELEASE).mkdir()
    digests = {}
    for platform in ("linux-amd64", "linux-arm64", "osx-amd64", "osx-arm64"):
        name, content = f"istioctl-{RELEASE}-{platform}.tar.gz", archive(platform)
        digests[platform] = hashlib.sha256(content).hexdigest()
        (folder / RELEASE / name).write_bytes(content)
        (folder / RELEASE / f"{name}.sha256").write_text(f"{digests[platform]}  {name}\n")
    table = tmp_path / "main.yml"
    table.write_bytes(TABLE.read_bytes())
    before = yaml.safe_load(table.read_text())["__istioctl_checksums"]
    command = [sys.executable, TOOL, RELEASE, "--mirror", url, "--table", table]
    for _again in range(2):
        subprocess.run(command, check=True, capture_output=True)
        assert yaml.safe_load(table.read_text())["__istioctl_checksums"] == {**before, RELEASE: digests}
    (folder / RELEASE / name).write_bytes(b"another one")
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "but the file beside it says" in refused.stderr


def test_a_release_of_the_execution_environment_is_used_where_it_is_the_one(
    play: Play, releases: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    url, _folder, asked = releases
    path = tmp_path / "image" / RELEASE / "istioctl"
    path.parent.mkdir(parents=True)
    path.write_bytes(program(RELEASE))
    path.chmod(0o755)
    brought = {"istioctl_preinstalled": str(tmp_path / "image"), "istioctl_url": f"{url}/{ARCHIVE}"}
    result = play(mesh_istio_version=RELEASE, **brought)
    assert result.return_code == 0, result.text
    assert set(result.changed.values()) == {0}
    assert not asked
    other = play(mesh_istio_version="1.31.8", **brought)
    assert asked, other.text


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
