# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the version of Kubernetes, and the API server's clock (private to the collection)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._base.check import ERROR, NOTE, OK, WARNING, Check
from .._base.errors import ExomeshError

Version = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The range of Kubernetes versions that are accepted, such as 1.32 to 1.36; None is no limit.

    :param istio: the release of Istio that has this range; None if the user gave a limit.
    """

    oldest: str | None = None
    newest: str | None = None
    istio: str | None = None

    def __post_init__(self) -> None:
        for limit in (self.oldest, self.newest):
            if limit:
                parse_version(limit)

    def __str__(self) -> str:
        if not self.oldest and not self.newest:
            return "its window is not known"
        who = f"Istio {self.istio} supports" if self.istio else "accepted are"
        return f"{who} {self.oldest or 'any'} to {self.newest or 'any'}"


def parse_version(text: str) -> Version:
    """Return major and minor version.

    :raises ExomeshError: ``invalid_version``.
    """
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if not match:
        raise ExomeshError(f"{text!r} is not a version of Kubernetes", "invalid_version")
    return int(match[1]), int(match[2])


def check_version(text: str, window: Window) -> Check:
    """Check that the cluster has a version of the window. Older is an error, newer a doubt."""
    version, said = parse_version(text), f"Kubernetes {text.removeprefix('v')}"
    if window.oldest and version < parse_version(window.oldest):
        whose = f"that Istio {window.istio} supports" if window.istio else "that is accepted"
        return Check(
            "kubernetes-version",
            ERROR,
            f"{said} is older than {window.oldest}, the oldest {whose}",
            next_step="Upgrade the cluster, or set mesh_istio_version to an older Istio that supports it",
        )
    if window.newest and version > parse_version(window.newest):
        whose = f"known to work with Istio {window.istio}" if window.istio else "known to work"
        return Check(
            "kubernetes-version",
            WARNING,
            f"{said} is newer than {window.newest}, the newest {whose}",
            next_step="See whether a newer Istio supports it",
        )
    return Check("kubernetes-version", OK, said, [str(window)])


def check_clock(skew: float | None, largest: float) -> Check:
    """Check that the API server's clock agrees with ours. A difference is a doubt.

    :param skew: seconds by which the server's clock is ahead of ours; None if the server does not tell it.
    :param largest: seconds by which they may differ; with 0 they may differ by any time.
    """
    if skew is None:
        return Check("clock", NOTE, "The API server does not tell the time")
    said = f"The API server's clock is {skew:+.0f} s off this machine's"
    if not largest or abs(skew) <= largest:
        return Check("clock", OK, said)
    return Check(
        "clock",
        WARNING,
        said,
        cause="New certificates may seem not to be valid yet",
        next_step="Set the clocks: this machine's, or have the cluster's looked at",
    )
