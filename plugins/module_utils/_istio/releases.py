# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known facts about Istio's releases (private to the collection)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from .._base.errors import ExomeshError
from .._kubernetes.fitness import Window

Minor = tuple[int, int]


@dataclass(frozen=True, order=True)
class Release:
    """A release of Istio. A pre-release build, as in ``1.31.1-alpha.0123``, counts as that release."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Release:
        """Read a version as in ``1.31.1``. Raises ExomeshError."""
        match = re.match(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+.].*)?$", text)
        if not match:
            raise ExomeshError(
                f"{text!r} is not a version of Istio", "invalid_version", next_step="Give one as in 1.31.1"
            )
        return cls(*(int(number) for number in match.groups()))

    @property
    def line(self) -> Minor:
        """Major and minor number, which all patch releases share."""
        return self.major, self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class Line:
    """A minor release: the Kubernetes versions that it supports, and its last day of support, if known."""

    kubernetes: tuple[str, str]
    end_of_life: date | None = None


LINES: dict[Minor, Line] = {
    (1, 29): Line(("1.31", "1.35"), date(2026, 10, 15)),
    (1, 30): Line(("1.32", "1.36")),
    (1, 31): Line(("1.32", "1.36")),
}
"""The facts are from the announcements of the releases and of the ends of their support."""


def kubernetes_window(release: Release) -> Window:
    """Return the versions of Kubernetes that the release supports; without limits if they are not known."""
    line = LINES.get(release.line)
    oldest, newest = line.kubernetes if line else (None, None)
    return Window(oldest, newest, str(release))


def unsupported(release: Release, today: date) -> str | None:
    """Return why the Istio project no longer fixes this release; None if it does, as far as known."""
    line = LINES.get(release.line)
    if line and line.end_of_life and today > line.end_of_life:
        return f"support for Istio {release.major}.{release.minor} ended on {line.end_of_life}"
    if release.line < min(LINES):
        return f"support for Istio {release.major}.{release.minor} has ended"
    return None


def unsafe(release: Release) -> list[str]:
    """Return why a mesh should not be built with this release; empty if nothing is known against it."""
    reasons = []
    if Release(1, 30, 0) <= release < Release(1, 30, 4):
        reasons.append(
            "istiod loses the endpoints of other clusters when one leaves the mesh or when a remote secret "
            "is rotated (istio/istio issues 60612, 60920, 61043; fixed in 1.30.4 and 1.31.0)"
        )
    if release < Release(1, 30, 5) or release == Release(1, 31, 0):
        reasons.append(
            "istioctl runs programs that a crafted remote secret in a cluster names, on the machine of "
            "whoever runs it (fixed in 1.30.5 and 1.31.1)"
        )
    return reasons
