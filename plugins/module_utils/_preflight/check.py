# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of a check (private to the collection)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .._base.errors import ExomeshError
from .._base.text import printable_line

ERROR, WARNING, NOTE, OK = "error", "warning", "note", "ok"

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


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    :param code: machine-readable, stable across releases.
    :param outcome: ERROR, WARNING, NOTE (nothing to do, but good to know) or OK.
    :param acceptable: whether an installation can work in spite of this error.
    """

    code: str
    outcome: str
    message: str
    evidence: list[str] = field(default_factory=list)
    cause: str = ""
    next_step: str = ""
    acceptable: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "ok": self.outcome in (OK, NOTE),
            "outcome": self.outcome,
            "message": self.message,
            "evidence": self.evidence,
            "cause": self.cause,
            "next_step": self.next_step,
        }

    def __str__(self) -> str:
        """Return the check for people, in sentences."""
        saw = f"Saw: {'; '.join(self.evidence)}" if self.evidence else ""
        sentences = [
            text.rstrip(". ") + "." for text in (self.message, saw, self.cause, self.next_step) if text
        ]
        return f"[{self.code}] {' '.join(sentences)}"
