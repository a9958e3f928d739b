# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks whose errors a user may accept (private to the collection)."""

from __future__ import annotations

from collections.abc import Iterable

from .._base.errors import ExomeshError
from .._base.text import printable_line

ACCEPTABLE = (
    "capacity",
    "cluster-name",
    "discovery-selectors",
    "gateway-owner",
    "istio-owner",
    "istio-version",
    "kubernetes-version",
    "mesh-id",
    "network",
    "node-pools",
    "peer-api",
    "trust-domain",
    "webhook-leftover",
)
"""Codes of checks whose errors can be accepted."""

_OTHERS = (
    "api-service",
    "clock",
    "gateway-api",
    "istio-support",
    "network-label",
    "overlay",
    "peer-gateway",
    "probe",
    "retired-registry",
    "socket-load-balancing",
)
"""Codes of checks that only warn, or with whose errors no installation works. To accept them does nothing."""


def require_acceptable(codes: Iterable[str]) -> frozenset[str]:
    """Return the codes, without spaces around them.

    :raises ExomeshError: ``unknown_check``: one of them is no code of a check.
    """
    given = frozenset(code.strip() for code in codes if code.strip())
    if unknown := sorted(given.difference(ACCEPTABLE, _OTHERS)):
        raise ExomeshError(
            f"preflight_accept names {printable_line(', '.join(unknown), 200)}, which is no check",
            "unknown_check",
            next_step=f"What can be accepted is {', '.join(ACCEPTABLE)}",
        )
    return given
