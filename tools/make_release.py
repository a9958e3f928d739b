# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a release of the last commit: the collection's archive, its bill of materials, and their checksums.

The same commit gives the same bytes, wherever and whenever it is built: times are the commit's, owners and
modes are set, files are sorted. Nothing is published; at the end it tells the next step.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from ansible.utils.version import SemanticVersion
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from make_soak import is_current
from packageurl import PackageURL
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

#: What a section of the changelog asks of the version, once there is a 1.0.0.
MAJOR = {"breaking_changes", "removed_features"}
MINOR = {"major_changes", "minor_changes", "deprecated_features"}

#: Licences that a package names by a classifier only.
CLASSIFIERS = {
    "License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later"
}
PLACEHOLDERS = {"exomesh.example"}
ISTIO_RELEASES = "https://github.com/istio/istio/releases/download"


class ReleaseError(Exception):
    """Why there is no release, and what to do."""


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 where there can be no release of this commit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build/release", metavar="FOLDER")
    output: Path = parser.parse_args(argv).output
    galaxy = load("galaxy.yml")
    try:
        if urlsplit(galaxy["repository"]).hostname in PLACEHOLDERS:
            raise ReleaseError(
                "repository in galaxy.yml belongs to nobody; write the address of your repository"
            )
        check_commit(galaxy["version"])
        check_changelog(galaxy["version"])
        if not is_current():
            raise ReleaseError(
                "docs/soak.md is not of what would be released; run `make soak`, and commit that page"
            )
        files = make(galaxy, output)
    except ReleaseError as error:
        print(f"make release: {error}", file=sys.stderr)
        return 1
    for path in files:
        print(f"{sha256(path.read_bytes())}  {path}")
    print(next_step(galaxy, files[0]))
    return 0


def check_commit(version: str) -> None:
    """Raise ReleaseError unless the tree is as committed, and the version is new and a semantic one."""
    if changed := git("status", "--porcelain"):
        raise ReleaseError(f"the tree differs from the last commit; commit or remove\n{changed}")
    try:
        wanted = SemanticVersion(version)
    except ValueError:
        raise ReleaseError(f"galaxy.yml: {version} is no semantic version; write one as in 1.2.3") from None
    here = git("tag", "--points-at", "HEAD").split()
    for tag in git("tag", "--list", "[0-9]*").split():
        if tag == version and tag not in here:
            raise ReleaseError(
                f"{version} is released already, as commit {git('rev-list', '-n1', tag)[:12]}; "
                "raise the version in galaxy.yml"
            )
        if SemanticVersion(tag) > wanted:
            raise ReleaseError(f"{tag} is released already; {version} in galaxy.yml must be higher")


def check_changelog(version: str) -> None:
    """Raise ReleaseError unless the changelog has this version, and the version suits what it tells."""
    if version not in load("changelogs/changelog.yaml")["releases"]:
        raise ReleaseError(
            f"the changelog has no {version}; run `make changelog`, read CHANGELOG.md, and commit"
        )
    if left := sorted(path.name for path in ROOT.glob("changelogs/fragments/*.y*ml")):
        raise ReleaseError(
            f"changelog fragments are not in {version}: {', '.join(left)}; "
            "raise the version in galaxy.yml, run `make changelog`, and commit"
        )
    release = load("changelogs/changelog.yaml")["releases"][version]
    number = SemanticVersion(version)
    if number.is_prerelease:
        return
    sections = release.get("changes", {}).keys()
    new = release.keys() & {"modules", "plugins", "objects"}
    if MAJOR & sections and number.major and (number.minor or number.patch):
        raise ReleaseError(
            f"{version} breaks or removes something (see CHANGELOG.md): it must be {number.major + 1}.0.0"
        )
    if (MAJOR | MINOR) & sections | new and number.patch:
        raise ReleaseError(
            f"{version} adds or changes something (see CHANGELOG.md): it must be "
            f"{number.major}.{number.minor + 1}.0"
        )


def make(galaxy: dict[str, Any], output: Path) -> list[Path]:
    """Write the files of the release, the archive first."""
    time = int(git("log", "-1", "--format=%ct"))
    name = f"{galaxy['namespace']}-{galaxy['name']}-{galaxy['version']}"
    output.mkdir(parents=True, exist_ok=True)
    archive = output / f"{name}.tar.gz"
    archive.write_bytes(normalised(built(), time))
    bom = output / f"{name}.cdx.json"
    bom.write_text(bill_of_materials(galaxy, archive, time), encoding="utf-8")
    checksums = output / "SHA256SUMS"
    lines = (f"{sha256(path.read_bytes())}  {path.name}\n" for path in (archive, bom))
    checksums.write_text("".join(lines), encoding="utf-8")
    return [archive, bom, checksums]


def built() -> bytes:
    """The archive that ansible-galaxy makes of the last commit."""
    with tempfile.TemporaryDirectory(prefix="exomesh-release-") as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        source.mkdir()
        commit = subprocess.run(
            ["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(commit)) as tar:
            tar.extractall(source, filter="data")
        build = [str(BIN / "ansible-galaxy"), "collection", "build", "--output-path", str(target)]
        said = subprocess.run(
            build, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if said.returncode:
            raise ReleaseError(f"ansible-galaxy cannot build the collection:\n{said.stdout}")
        return next(target.iterdir()).read_bytes()


def normalised(archive: bytes, time: int) -> bytes:
    """The same collection, with nothing in it of who built it, where and when.

    ansible-galaxy lists files in the order of the file system, in FILES.json too, whose checksum is in
    MANIFEST.json.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        contents = {name: content.read() for name in members if (content := tar.extractfile(name))}
    files = json.loads(contents["FILES.json"])
    files["files"].sort(key=lambda entry: entry["name"])
    contents["FILES.json"] = as_json(files)
    manifest = json.loads(contents["MANIFEST.json"])
    manifest["file_manifest_file"]["chksum_sha256"] = sha256(contents["FILES.json"])
    contents["MANIFEST.json"] = as_json(manifest)

    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=time) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        # Galaxy reads the first two without unpacking the rest.
        rest = sorted(members.keys() - {"MANIFEST.json", "FILES.json"})
        for name in ("MANIFEST.json", "FILES.json", *rest):
            member = tarfile.TarInfo(name)
            member.type, member.mtime = members[name].type, time
            member.mode = 0o755 if member.isdir() or members[name].mode & 0o100 else 0o644
            member.size = len(contents.get(name, b""))
            tar.addfile(member, io.BytesIO(contents[name]) if name in contents else None)
    return packed.getvalue()


def bill_of_materials(galaxy: dict[str, Any], archive: Path, time: int) -> str:
    """What the collection stands on, as CycloneDX 1.6: collections, Python packages, pinned istioctl."""
    name, version = f"{galaxy['namespace']}.{galaxy['name']}", galaxy["version"]
    digest = sha256(archive.read_bytes())
    collection = Component(
        name=name,
        version=version,
        type=ComponentType.APPLICATION,
        description=galaxy["description"],
        purl=PackageURL("generic", name=name, version=version),
        bom_ref=f"{name}@{version}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        licenses=[licence(identifier) for identifier in galaxy["license"]],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{galaxy['repository']}#{digest}"))
    bom.metadata.component = collection
    bom.metadata.timestamp = datetime.fromtimestamp(time, UTC)
    components = [*collections(galaxy["dependencies"]), *python_packages(), *istioctl_archives()]
    bom.components.update(components)
    bom.register_dependency(collection, components)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def collections(ranges: dict[str, str]) -> Iterator[Component]:
    """The collections that ours depends on, in the versions of requirements.yml."""
    installed = next(BIN.parent.glob("lib/python*/site-packages/ansible_collections"))
    for pin in load("requirements.yml")["collections"]:
        name, version = pin["name"], str(pin["version"])
        manifest = json.loads((installed / name.replace(".", "/") / "MANIFEST.json").read_bytes())
        yield Component(
            name=name,
            version=version,
            purl=PackageURL("generic", name=name, version=version),
            bom_ref=f"{name}@{version}",
            scope=ComponentScope.REQUIRED,
            licenses=[licence(" AND ".join(manifest["collection_info"]["license"]))],
            properties=[Property(name="exomesh:range", value=ranges[name])],
        )


def python_packages() -> Iterator[Component]:
    """The Python packages of requirements/run.txt; ansible-core and those of requirements.txt are needed."""
    ranges = {wanted.name: str(wanted.specifier) for wanted in requirements("requirements.txt")}
    ranges["ansible-core"] = load("meta/runtime.yml")["requires_ansible"]
    for pin in requirements("requirements/run.txt"):
        version = str(pin.specifier).removeprefix("==")
        properties = [Property(name="exomesh:range", value=ranges[pin.name])] if pin.name in ranges else []
        if pin.marker:
            properties.append(Property(name="exomesh:marker", value=str(pin.marker)))
        yield Component(
            name=pin.name,
            version=version,
            purl=PackageURL("pypi", name=pin.name.lower(), version=version),
            bom_ref=f"{pin.name}@{version}",
            scope=ComponentScope.REQUIRED if pin.name in ranges else ComponentScope.OPTIONAL,
            licenses=[licence(package_licence(pin.name))],
            properties=properties,
        )


def istioctl_archives() -> Iterator[Component]:
    """The release archives of istioctl whose checksums the collection brings."""
    for version, platforms in load("roles/istioctl/vars/main.yml")["__istioctl_checksums"].items():
        for platform, digest in platforms.items():
            url = f"{ISTIO_RELEASES}/{version}/istioctl-{version}-{platform}.tar.gz"
            yield Component(
                name="istioctl",
                version=version,
                type=ComponentType.APPLICATION,
                purl=PackageURL(
                    "generic", name="istioctl", version=version, qualifiers={"platform": platform}
                ),
                bom_ref=f"istioctl@{version}-{platform}",
                # It is fetched when a role needs it, and is no part of the archive.
                scope=ComponentScope.OPTIONAL,
                licenses=[licence("Apache-2.0")],
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
                external_references=[
                    ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url))
                ],
            )


def requirements(path: str) -> Iterator[Requirement]:
    """The packages of a requirements file."""
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        if wanted := re.sub(r"\s*#.*", "", line):
            yield Requirement(wanted)


def package_licence(name: str) -> str:
    """What an installed package says of its licence. Raises ReleaseError where that is nothing."""
    said = metadata(name).json
    classified = (CLASSIFIERS[line] for line in said.get("classifier", []) if line in CLASSIFIERS)
    found = said.get("license_expression") or said.get("license") or next(classified, None)
    if not found:
        raise ReleaseError(
            f"{name} names no licence that tools/make_release.py understands; see its CLASSIFIERS"
        )
    return str(found)


def licence(expression: str) -> License:
    """A licence or an expression of several, by SPDX identifiers."""
    return LicenseFactory().make_from_string(expression)


def next_step(galaxy: dict[str, Any], archive: Path) -> str:
    """What is to be done with a release that was made."""
    version = galaxy["version"]
    if version in git("tag", "--points-at", "HEAD").split():
        return f"Next: ansible-galaxy collection publish {archive}"
    return (
        f"Next: git tag -s {version} -m {version} && git push origin {version}\n"
        "      The tag starts .github/workflows/release.yml, which builds the same bytes and publishes them."
    )


def load(path: str) -> Any:
    """A YAML file of this checkout."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def git(*arguments: str) -> str:
    """What Git says of this checkout."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def as_json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
