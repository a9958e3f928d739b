#!/usr/bin/env python3
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a release of istioctl into the role's table of checksums: `tools/pin_istioctl.py 1.31.1`.

Reads the release's own .sha256 files and, unless told not to, compares the archives with them. It needs the
standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "roles/istioctl/vars/main.yml"
MIRROR = "https://github.com/istio/istio/releases/download"
PLATFORMS = ("linux-amd64", "linux-arm64", "osx-amd64", "osx-arm64")

#: A release in the table: the comment that says where its checksums come from, and their lines.
ENTRY = re.compile(r"^  # [^\n]*\n  (?P<version>\d+\.\d+\.\d+):\n(?:    \S+: [0-9a-f]{64}\n)+", re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0, or 1 where a checksum is missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("version", help="as in 1.31.1")
    parser.add_argument("--mirror", default=MIRROR, metavar="URL", help="where the releases are")
    parser.add_argument("--table", default=TABLE, type=Path, metavar="FILE", help="the file to write")
    parser.add_argument("--quick", action="store_true", help="do not fetch the archives to compare them")
    arguments = parser.parse_args(argv)
    if not re.fullmatch(r"\d+\.\d+\.\d+", arguments.version):
        parser.error(f"{arguments.version} is no release")
    try:
        checksums = {
            platform: checksum(arguments.mirror, arguments.version, platform, not arguments.quick)
            for platform in PLATFORMS
        }
    except (OSError, ValueError) as error:
        print(f"{arguments.version} is not taken in: {error}", file=sys.stderr)
        return 1
    content = arguments.table.read_text(encoding="utf-8")
    arguments.table.write_text(with_release(content, arguments.version, checksums), encoding="utf-8")
    print(*(f"{platform} {digest}" for platform, digest in checksums.items()), sep="\n")
    return 0


def checksum(mirror: str, version: str, platform: str, compare: bool) -> str:
    """What the release says of an archive. Raises ValueError where that is not so."""
    url = f"{mirror}/{version}/istioctl-{version}-{platform}.tar.gz"
    found = re.search(rb"\b[0-9a-f]{64}\b", fetched(f"{url}.sha256"))
    if not found:
        raise ValueError(f"{url}.sha256 has no sha256")
    said = found[0].decode()
    if compare and (digest := hashlib.sha256(fetched(url)).hexdigest()) != said:
        raise ValueError(f"{url} has the sha256 {digest}, but the file beside it says {said}")
    return said


def fetched(url: str) -> bytes:
    """The content of a URL."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        raise ValueError(f"{url}: {error}") from None


def with_release(content: str, version: str, checksums: dict[str, str]) -> str:
    """The table with this release in its place, newest last; an older entry of it is replaced."""
    entries = {match["version"]: match[0] for match in ENTRY.finditer(content)}
    today = datetime.now(UTC).date()
    lines = [f"  # From the release's own .sha256 files, {today}.", f"  {version}:"]
    lines += [f"    {platform}: {digest}" for platform, digest in checksums.items()]
    entries[version] = "\n".join(lines) + "\n"
    ordered = sorted(entries, key=lambda name: [int(number) for number in name.split(".")])
    head = content[: next(ENTRY.finditer(content)).start()]
    return head + "".join(entries[name] for name in ordered)


if __name__ == "__main__":
    sys.exit(main())
