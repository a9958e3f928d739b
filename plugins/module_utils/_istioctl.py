# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Having the istioctl of one release, once for everybody who needs it (private to the collection)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import tarfile
import tempfile
import time
import urllib.error
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ansible.module_utils.urls import open_url
from ansible_collections.exomesh.istio.plugins.module_utils._base.programs import passed, run_program
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._files import locked
from ansible_collections.exomesh.istio.plugins.module_utils._istio_versions import Release, unsafe

_SYSTEMS = {"Linux": "linux", "Darwin": "osx"}
_PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "armv7"}

_TRIES = 3
_PAUSE = 2.0
_CHUNK = 2**20
_VERSION_SECONDS = 30
_LOCK_SECONDS = 600
_FETCHING = ".fetching-"


@dataclass(frozen=True)
class Source:
    """Where the archive of a release comes from.

    :param url: its URL, or its path on this machine.
    :param checksum: ``sha256:`` and the checksum or the URL of a file that has it; the pinned one when None.
    :param pinned: the sha256 that is known for it. Without any, the file beside it, with ``.sha256``, has it.
    :param timeout: seconds to wait for one answer.
    """

    url: str
    checksum: str | None
    pinned: str | None
    timeout: int


def platform_name() -> str:
    """This machine's operating system and processor, as the archives name them. Raises ExomeshError."""
    system, processor = platform.system(), platform.machine()
    if system not in _SYSTEMS or processor not in _PROCESSORS:
        raise ExomeshError(
            f"There is no istioctl for {system} on {processor}",
            "unknown_platform",
            next_step="Name a program of your own in istioctl_binary",
        )
    return f"{_SYSTEMS[system]}-{_PROCESSORS[processor]}"


def archive_url(mirror: str, version: str) -> str:
    """The archive of a release, for this machine."""
    return f"{mirror.rstrip('/')}/{version}/istioctl-{version}-{platform_name()}.tar.gz"


def refuse_unsafe(version: str, allowed: bool) -> list[str]:
    """Why this release should not be used; as an ExomeshError unless that is allowed."""
    reasons = unsafe(Release.parse(version))
    if reasons and not allowed:
        raise ExomeshError(
            f"Istio {version} is not safe for a mesh of several clusters",
            "unsafe_release",
            cause="; ".join(reasons),
            next_step="Set mesh_istio_version to 1.31.1 or newer, or to 1.30.5 or newer of 1.30; "
            "istioctl_allow_unsafe: true uses it all the same",
        )
    return reasons


def require_version(program: Path, version: str) -> None:
    """Run it; raise ExomeshError unless it is of this release."""
    if not program.is_file():
        raise ExomeshError(
            f"istioctl_binary names {program}, and there is no such file",
            "istioctl_missing",
            next_step="Correct istioctl_binary, or leave it out: the release is fetched then",
        )
    found = version_of(program)
    if found != version:
        raise ExomeshError(
            f"{program} is istioctl {found}, not {version}",
            "istioctl_version",
            next_step="Set mesh_istio_version to the release you want, and istioctl_binary to a program of "
            "that release, or leave it out",
        )


def version_of(program: Path) -> str:
    """What a program says that it is. Raises ExomeshError."""
    try:
        command = [str(program), "version", "--remote=false", "--output", "json"]
        ended = run_program(command, istioctl_environment(), _VERSION_SECONDS)
        if ended.code:
            raise ValueError(f"it ended with exit code {ended.code}: {ended.errors.strip()[-300:]}")
        return str(json.loads(ended.output)["clientVersion"]["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExomeshError(
            f"{program} cannot be run as istioctl",
            "istioctl_unusable",
            cause=str(error),
            next_step="Use the release for this operating system and processor, on a file system that "
            "lets programs run",
        ) from None


def istioctl_environment() -> dict[str, str]:
    """The environment of every istioctl: with no configuration and no credentials of the user's."""
    return passed(os.environ) | {"HOME": os.devnull, "KUBECONFIG": os.devnull}


def fetch(source: Source, program: Path, version: str) -> bool:
    """Have the program of an archive at this path; True where it had to be fetched.

    Whoever else fetches it at the same time, here or in another process, waits and then uses the same.
    """
    if program.exists():
        return False
    with locked(program, _LOCK_SECONDS):
        if program.exists():
            return False
        for left_behind in program.parent.glob(f"{_FETCHING}*"):  # by a run that was killed
            shutil.rmtree(left_behind)
        with tempfile.TemporaryDirectory(prefix=_FETCHING, dir=program.parent) as folder:
            archive, unpacked = Path(folder, "archive"), Path(folder, "istioctl")
            expected, told_by = expected_checksum(source)
            digest = _download(source.url, archive, source.timeout)
            if digest != expected:
                raise ExomeshError(
                    f"The checksum of {shown(source.url)} is not the one expected",
                    "checksum_mismatch",
                    cause=f"it has sha256 {digest}; {told_by} says {expected}",
                    next_step="Do not use that archive. See whether a proxy or the mirror alters it; a "
                    "checksum that you know to be right goes into istioctl_checksum",
                )
            _unpack(archive, unpacked, source.url)
            require_version(unpacked, version)
            unpacked.rename(program)
    return True


def expected_checksum(source: Source) -> tuple[str, str]:
    """The sha256 that the archive must have, and who says so. Raises ExomeshError."""
    given = (source.checksum or "").removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-fA-F]{64}", given):
        return given.lower(), "istioctl_checksum"
    if given and "/" not in given:
        raise ExomeshError(
            f"istioctl_checksum is no sha256 and no URL of one: {source.checksum}",
            "invalid_checksum",
            next_step="Give sha256: and 64 hexadecimal digits, or sha256: and the URL of a file with them",
        )
    if not given and source.pinned:
        return source.pinned, "the table of the role istioctl"
    url = given or f"{source.url}.sha256"
    with _opened(url, source.timeout) as stream:
        text = stream.read(_CHUNK).decode(errors="replace")
    found = re.search(r"\b[0-9a-fA-F]{64}\b", text)
    if not found:
        raise ExomeshError(
            f"{shown(url)} has no sha256",
            "invalid_checksum",
            cause="Something else than the release's own file was answered, perhaps a proxy's page",
            next_step="Set istioctl_checksum to the archive's checksum",
        )
    return found[0].lower(), shown(url)


def shown(url: str) -> str:
    """A URL without the credentials that it may have."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.scheme else url


def _download(url: str, to: Path, timeout: int) -> str:
    """Write what is at a URL into a file; gives its sha256."""
    digest = hashlib.sha256()
    with _opened(url, timeout) as stream, to.open("wb") as file:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(url: str, timeout: int) -> Iterator[IO[bytes]]:
    """The content of a URL or of a path; failures while it is opened or read become ExomeshErrors."""
    try:
        with _connected(url, timeout) as stream:
            yield stream
    except (OSError, HTTPException, ValueError) as error:
        status = getattr(error, "code", None)
        raise ExomeshError(
            f"{shown(url)} cannot be fetched",
            "fetch_failed",
            cause=f"the answer was {status}" if status else str(getattr(error, "reason", None) or error),
            next_step="See that there is such a release. A machine without a way to it takes the archive "
            "from istioctl_mirror, through istioctl_proxy, or from a file that istioctl_url names",
        ) from None


def _connected(url: str, timeout: int) -> Any:
    if "://" not in url:
        return open(url, "rb")
    for attempt in range(1, _TRIES + 1):
        try:
            return open_url(url, timeout=timeout, http_agent="exomesh.istio")
        except urllib.error.HTTPError as error:
            if attempt == _TRIES or error.code < 500:
                raise
        except OSError:
            if attempt == _TRIES or url.startswith("file:"):
                raise
        time.sleep(_PAUSE)
    raise AssertionError("unreachable")


def _unpack(archive: Path, program: Path, url: str) -> None:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member = tar.extractfile("istioctl")
            if member is None:
                raise KeyError("istioctl")
            with member, program.open("wb") as file:
                while chunk := member.read(_CHUNK):
                    file.write(chunk)
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise ExomeshError(
            f"{shown(url)} is no archive with an istioctl in it",
            "invalid_archive",
            cause=str(error),
            next_step="Name the archive istioctl-VERSION-PLATFORM.tar.gz of the release",
        ) from None
    program.chmod(0o700)


def pinned_checksum(table: Mapping[str, str]) -> str | None:
    """The known checksum for this machine, out of a release's by platform."""
    return table.get(platform_name())
