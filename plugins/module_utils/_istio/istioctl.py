# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download of istioctl of one release, once for all who need it (private to the collection)."""

from __future__ import annotations

import gzip
import json
import os
import platform
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from .._base.download import Fetcher, shown
from .._base.errors import ExomeshError
from .._base.files import locked
from .._base.programs import passed, run_program
from .releases import Release, unsafe

_SYSTEMS = {"Linux": "linux", "Darwin": "osx"}
_PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "armv7"}

RELEASES = "https://github.com/istio/istio/releases/download"
"""URL of the releases at the Istio project itself."""

_MAX_ARCHIVE, _MAX_UNPACKED, _MAX_CHECKSUM = 300 * 2**20, 2**30, 2**16
"""Limits in bytes. The archive of a release has about 30 MiB, and the program in it 110 MiB."""

_TABLE = "the table of the role istioctl"
_MEMBERS = ("istioctl", "./istioctl")
_VERSION_SECONDS = 30
_FETCHING = ".fetching-"
_NEXT_STEP = (
    "See that there is such a release. A machine without a way to it takes the archive from istioctl_mirror, "
    "through istioctl_proxy, or from a file that istioctl_url names"
)


@dataclass(frozen=True)
class Source:
    """The source of a release's archive.

    :param url: its URL, or its path on this machine.
    :param checksum: ``sha256:``, followed by the checksum or by the URL of a file that has it.
    :param pinned: the sha256 of the archive that the role knows.
    :param timeout: seconds that the whole download may take.
    :param proxy: URL of the proxy for the download; None for the proxy of the environment.
    :param of_the_project: whether the source is the Istio project itself.
    """

    url: str
    checksum: str | None
    pinned: str | None
    timeout: float
    proxy: str | None = None
    of_the_project: bool = False


def platform_name() -> str:
    """Return this machine's operating system and processor, as in the names of archives.

    :raises ExomeshError: ``unknown_platform``.
    """
    system, processor = platform.system(), platform.machine()
    if system not in _SYSTEMS or processor not in _PROCESSORS:
        raise ExomeshError(
            f"There is no istioctl for {system} on {processor}",
            "unknown_platform",
            next_step="Name a program of your own in istioctl_binary",
        )
    return f"{_SYSTEMS[system]}-{_PROCESSORS[processor]}"


def archive_url(mirror: str, version: str) -> str:
    """Return the URL of a release's archive for this machine."""
    return f"{mirror.rstrip('/')}/{version}/istioctl-{version}-{platform_name()}.tar.gz"


def refuse_unsafe(version: str, allowed: bool) -> list[str]:
    """Return why this release should not be used; empty if nothing is known against it.

    :param allowed: use the release in spite of such reasons.
    :raises ExomeshError: ``unsafe_release``: there are such reasons, and they are not allowed.
    """
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
    """Run the program. Raise ExomeshError unless it is istioctl of this release."""
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
    """Return the version that a program reports for itself. Raises ExomeshError."""
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
    """Return the environment of every istioctl. It has no configuration or credentials of the user."""
    # istioctl insists on a home folder, but accepts one that does not exist. Nobody can create this one, not
    # even root.
    return passed(os.environ) | {"HOME": "/proc/nonexistent", "KUBECONFIG": os.devnull}


def fetch(
    source: Source, program: Path, version: str, warn: Callable[[str], None] = lambda _text: None
) -> bool:
    """Ensure the program of an archive at this path. Return True if it had to be fetched.

    Others that fetch it at the same time, here or in another process, wait and then use the same program.

    :param warn: is called with warnings about the checksum.
    :raises ExomeshError: the archive does not come in time, is too large, does not match the checksum, or has
        no istioctl of this release in it.
    """
    if program.exists():
        return False
    fetcher = Fetcher(source.timeout, source.proxy, _NEXT_STEP)
    with locked(program, source.timeout):
        if program.exists():
            return False
        for left_behind in program.parent.glob(f"{_FETCHING}*"):  # by a run that was killed
            shutil.rmtree(left_behind)
        with tempfile.TemporaryDirectory(prefix=_FETCHING, dir=program.parent) as folder:
            archive, unpacked = Path(folder, "archive"), Path(folder, "istioctl")
            expected, told_by = expected_checksum(source, fetcher, warn)
            digest = fetcher.save(source.url, archive, _MAX_ARCHIVE)
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


def expected_checksum(source: Source, fetcher: Fetcher, warn: Callable[[str], None]) -> tuple[str, str]:
    """Return the sha256 that the archive must have, and the source of that sha256. Raises ExomeshError.

    The user's checksum comes first. Next comes, for an archive at the Istio project itself, the file beside
    the archive. For any other place, the checksum that the role knows comes next: a mirror could replace both
    the archive and the file beside it.
    """
    given = (source.checksum or "").removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-fA-F]{64}", given):
        return given.lower(), "istioctl_checksum"
    if given and "/" not in given:
        raise ExomeshError(
            f"istioctl_checksum is no sha256 and no URL of one: {source.checksum}",
            "invalid_checksum",
            next_step="Give sha256: and 64 hexadecimal digits, or sha256: and the URL of a file with them",
        )
    if given:
        return _checksum_at(given, fetcher), shown(given)
    if source.pinned and not source.of_the_project:
        return source.pinned, _TABLE
    return _expected_beside(source, fetcher, warn)


def _expected_beside(source: Source, fetcher: Fetcher, warn: Callable[[str], None]) -> tuple[str, str]:
    beside = _beside(source.url)
    try:
        sha256 = _checksum_at(beside, fetcher)
    except ExomeshError:
        if source.pinned:
            return source.pinned, _TABLE
        raise
    if source.pinned and source.pinned != sha256:
        warn(
            f"{shown(beside)} says {sha256}, while the role istioctl knows {source.pinned}, as others wrote "
            "of it. The project's own counts; compare it with another source"
        )
    elif not source.of_the_project:
        warn(
            f"istioctl was checked against {shown(beside)} alone, which shows a broken download, but not a "
            "mirror that lies: the role knows no checksum of this release for this platform. "
            "istioctl_checksum takes one that you know to be right"
        )
    return sha256, shown(beside)


def _beside(url: str) -> str:
    """Return the URL or path of the file with the checksum of an archive."""
    place, mark, query = url.partition("?") if "://" in url else (url, "", "")
    return f"{place}.sha256{mark}{query}"


def _checksum_at(url: str, fetcher: Fetcher) -> str:
    text = fetcher.read(url, _MAX_CHECKSUM).decode(errors="replace")
    found = re.search(r"\b[0-9a-fA-F]{64}\b", text)
    if not found:
        raise ExomeshError(
            f"{shown(url)} has no sha256",
            "invalid_checksum",
            cause="Something else than the release's own file was answered, perhaps a proxy's page",
            next_step="Set istioctl_checksum to the archive's checksum",
        )
    return found[0].lower()


class _Bounded:
    """A stream that raises an error when more bytes than its limit are read."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise tarfile.ReadError(f"there is more in it than {_MAX_UNPACKED // 2**20} MiB")
        return content


def _unpack(archive: Path, program: Path, url: str) -> None:
    try:
        # Read it as a stream, without seeking: nothing is read twice, and all unpacked bytes are counted.
        with (
            gzip.open(archive) as stream,
            tarfile.open(
                fileobj=cast(Any, _Bounded(cast(IO[bytes], stream), _MAX_UNPACKED)), mode="r|"
            ) as tar,
        ):
            member = next((item for item in tar if item.isreg() and item.name in _MEMBERS), None)
            content = tar.extractfile(member) if member else None
            if content is None:
                raise KeyError("there is no file istioctl in it")
            with content, program.open("wb") as file:
                shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError, zlib.error) as error:
        raise ExomeshError(
            f"{shown(url)} is no archive with an istioctl in it",
            "invalid_archive",
            cause=str(error.args[0] if error.args else error),
            next_step="Name the archive istioctl-VERSION-PLATFORM.tar.gz of the release",
        ) from None
    program.chmod(0o700)


def pinned_checksum(table: Mapping[str, str]) -> str | None:
    """Return the known checksum for this machine from a release's checksums by platform; None if unknown."""
    return table.get(platform_name())
