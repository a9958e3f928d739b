# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release: the same bytes from the same commit, what is in it, and what is refused."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
#: Higher than any that there will be, so that these tests need no change for a release.
VERSION = "999.0.0"
NAME = f"exomesh-istio-{VERSION}"


def git(folder: Path, *arguments: str) -> str:
    environment = os.environ | {
        "GIT_AUTHOR_DATE": "2026-11-01T12:00:00Z",
        "GIT_COMMITTER_DATE": "2026-11-01T12:00:00Z",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "A commit")


def release(folder: Path, umask: int = 0o022, timezone: str = "UTC") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tools/make_release.py"],
        cwd=folder,
        env=os.environ | {"TZ": timezone},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of this working tree, ready for a release of VERSION by `make changelog`."""
    folder = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    galaxy = yaml.safe_load((folder / "galaxy.yml").read_text())
    galaxy |= {"version": VERSION, "repository": "https://git.example.org/exomesh.istio"}
    (folder / "galaxy.yml").write_text(yaml.safe_dump(galaxy))
    (folder / "changelogs/fragments/tests.yml").write_text("bugfixes: [tests - a fragment.]\n")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    subprocess.run(
        [BIN / "antsibull-changelog", "release", "--date", "2026-11-01"],
        cwd=folder,
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        check=True,
    )
    git(folder, "add", "--all")
    soak(folder)
    commit(folder)
    return folder


def soak(folder: Path) -> None:
    """Write the page of a soak of this folder."""
    figures = {"name": "requests", "done": "renewal", "part": 1.0, "minutes": 2.5, "sibling": "test_mesh"}
    path = folder / "build/soak/requests.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures | {"figures": {"requests": 100_000}}))
    subprocess.run([sys.executable, "tools/make_soak.py"], cwd=folder, check=True)
    assert "requests: 100,000" in (folder / "docs/soak.md").read_text()


@pytest.fixture(scope="module")
def released(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a release of the source."""
    folder = tmp_path_factory.mktemp("released") / "clone"
    git(source, "clone", "--quiet", str(source), str(folder))
    made = release(folder)
    assert made.returncode == 0, made.stderr
    assert f"git tag -s {VERSION}" in made.stdout
    return folder / "build/release"


@pytest.fixture
def clone(source: Path, tmp_path: Path) -> Path:
    git(source, "clone", "--quiet", str(source), str(tmp_path / "clone"))
    return tmp_path / "clone"


def test_the_same_commit_gives_the_same_bytes(clone: Path, released: Path) -> None:
    """In another folder, with other times, another umask and time zone, and leftovers that Git ignores."""
    for path in clone.glob("roles/**/*.yml"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (clone / "roles/verify/__pycache__").mkdir()
    (clone / "roles/verify/__pycache__/left.pyc").write_bytes(b"left")
    made = release(clone, umask=0o077, timezone="Asia/Kathmandu")
    assert made.returncode == 0, made.stderr
    names = {f"{NAME}.tar.gz", f"{NAME}.cdx.json", "SHA256SUMS"}
    assert {path.name for path in released.iterdir()} == names
    for name in names:
        assert (clone / "build/release" / name).read_bytes() == (released / name).read_bytes()


def test_the_archive_tells_nothing_of_its_builder(released: Path) -> None:
    with tarfile.open(released / f"{NAME}.tar.gz") as tar:
        members = tar.getmembers()
    assert [member.name for member in members[:2]] == ["MANIFEST.json", "FILES.json"]
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert len({member.mtime for member in members}) == 1
    assert {member.mode for member in members} <= {0o644, 0o755}
    assert "CHANGELOG.md" in {member.name for member in members}


def installed(archive: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`ansible-galaxy collection install`, which compares each file with FILES.json."""
    command = [BIN / "ansible-galaxy", "collection", "install", archive, "--offline", "-p", folder]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, check=False
    )


def test_it_installs_and_verifies(released: Path, tmp_path: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=released, check=True)
    done = installed(released / f"{NAME}.tar.gz", tmp_path)
    assert done.returncode == 0, done.stdout
    collection = tmp_path / "ansible_collections/exomesh/istio"
    assert json.loads((collection / "MANIFEST.json").read_bytes())["collection_info"]["version"] == VERSION
    assert (collection / "playbooks/site.yml").is_file()
    verify = [BIN / "ansible-galaxy", "collection", "verify", "--offline", "exomesh.istio", "-p", tmp_path]
    verified = subprocess.run(verify, stdout=subprocess.PIPE, text=True, cwd=tmp_path, check=True).stdout
    assert "Successfully verified" in verified


def test_a_changed_archive_is_found_out(released: Path, tmp_path: Path) -> None:
    changed = tmp_path / f"{NAME}.tar.gz"
    with tarfile.open(released / changed.name) as old, tarfile.open(changed, "w:gz") as new:
        for member in old:
            content = (old.extractfile(member) or io.BytesIO()).read()
            if member.name == "playbooks/site.yml":
                content += b"# and more\n"
                member.size = len(content)
            new.addfile(member, io.BytesIO(content) if member.isfile() else None)
    shutil.copy(released / f"{NAME}.cdx.json", tmp_path)
    shutil.copy(released / "SHA256SUMS", tmp_path)
    checked = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1
    assert f"{changed.name}: FAILED" in checked.stdout
    refused = installed(changed, tmp_path)
    assert refused.returncode != 0
    assert "Checksum mismatch for 'playbooks/site.yml'" in refused.stdout


def test_the_bill_of_materials(released: Path) -> None:
    content = (released / f"{NAME}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    bom = json.loads(content)
    collection = bom["metadata"]["component"]
    listed = (released / "SHA256SUMS").read_text().split()
    assert [digest["content"] for digest in collection["hashes"]] == listed[:1]
    components = {component["bom-ref"]: component for component in bom["components"]}
    depends = {entry["ref"]: entry.get("dependsOn", []) for entry in bom["dependencies"]}
    assert sorted(depends[collection["bom-ref"]]) == sorted(components)

    wanted = {dependency["name"] for dependency in load("requirements.yml")["collections"]}
    pins = (ROOT / "requirements/run.txt").read_text().splitlines()
    wanted |= {line.partition("==")[0] for line in pins if "==" in line}
    assert {component["name"] for component in components.values()} == wanted | {"istioctl"}
    assert [name for name, component in components.items() if not component.get("licenses")] == []

    pinned = load("roles/istioctl/vars/main.yml")["__istioctl_checksums"]
    for version, platforms in pinned.items():
        for platform, digest in platforms.items():
            hashes = components[f"istioctl@{version}-{platform}"]["hashes"]
            assert hashes == [{"alg": "SHA-256", "content": digest}]


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


@pytest.fixture
def refusal(clone: Path) -> Iterator[Any]:
    """Call it after a change of the clone: what the tool says. It has written nothing."""

    def said() -> str:
        done = release(clone)
        assert done.returncode == 1, done.stdout
        return done.stderr

    yield said
    assert not (clone / "build").exists()


def test_a_tree_with_changes_is_refused(clone: Path, refusal: Any) -> None:
    (clone / "README.md").write_text("Changed.\n")
    (clone / "roles/new.yml").write_text("---\n")
    said = refusal()
    assert "M README.md" in said
    assert "?? roles/new.yml" in said


def test_a_version_is_released_once(clone: Path, refusal: Any) -> None:
    git(clone, "tag", VERSION)
    (clone / "README.md").write_text("Changed.\n")
    commit(clone)
    assert f"{VERSION} is released already" in refusal()
    git(clone, "tag", "--delete", VERSION)
    git(clone, "tag", "999.0.1")
    assert f"{VERSION} in galaxy.yml must be higher" in refusal()


def test_the_tagged_commit_itself_is_built(clone: Path) -> None:
    git(clone, "tag", VERSION)
    made = release(clone)
    assert made.returncode == 0, made.stderr
    assert "ansible-galaxy collection publish" in made.stdout


def test_a_change_without_its_place_in_the_changelog_is_refused(clone: Path, refusal: Any) -> None:
    (clone / "changelogs/fragments/late.yml").write_text("bugfixes: [tests - late.]\n")
    commit(clone)
    assert "late.yml" in refusal()
    (clone / "changelogs/fragments/late.yml").unlink()
    galaxy = clone / "galaxy.yml"
    galaxy.write_text(galaxy.read_text().replace(VERSION, "999.0.1"))
    commit(clone)
    assert "the changelog has no 999.0.1; run `make changelog`" in refusal()


def test_an_address_that_belongs_to_nobody_is_refused(clone: Path, refusal: Any) -> None:
    galaxy = clone / "galaxy.yml"
    galaxy.write_text(galaxy.read_text().replace("git.example.org", "exomesh.example"))
    commit(clone)
    assert "write the address of your repository" in refusal()


def test_what_was_not_soaked_is_refused(clone: Path, refusal: Any) -> None:
    role = clone / "roles/verify/tasks/main.yml"
    role.write_text(role.read_text() + "# Changed.\n")
    commit(clone)
    assert "docs/soak.md is not of what would be released; run `make soak`" in refusal()
    (clone / "docs/soak.md").unlink()
    commit(clone)
    assert "docs/soak.md is not of what would be released" in refusal()


@pytest.mark.parametrize(
    ("version", "told", "wanted"),
    [
        ("1.2.3", {"changes": {"bugfixes": ["x"]}}, None),
        ("1.2.3", {"changes": {"minor_changes": ["x"]}}, "1.3.0"),
        ("1.2.3", {"modules": [{"name": "x"}]}, "1.3.0"),
        ("1.2.0", {"changes": {"deprecated_features": ["x"]}}, None),
        ("1.2.0", {"changes": {"breaking_changes": ["x"]}}, "2.0.0"),
        ("2.0.0", {"changes": {"removed_features": ["x"]}}, None),
        ("0.2.1", {"changes": {"breaking_changes": ["x"]}}, "0.3.0"),
        ("0.2.0", {"changes": {"breaking_changes": ["x"]}}, None),
        ("1.0.0-rc.1", {"changes": {"breaking_changes": ["x"]}}, None),
    ],
)
def test_the_version_suits_the_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, told: dict[str, Any], wanted: str | None
) -> None:
    spec = importlib.util.spec_from_file_location("make_release", ROOT / "tools/make_release.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    (tmp_path / "changelogs").mkdir()
    (tmp_path / "changelogs/changelog.yaml").write_text(yaml.safe_dump({"releases": {version: told}}))
    if wanted is None:
        tool.check_changelog(version)
    else:
        with pytest.raises(tool.ReleaseError, match=f"it must be {wanted}"):
            tool.check_changelog(version)
