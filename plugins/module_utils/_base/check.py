# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of a check (private to the collection)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING, NOTE, OK = "error", "warning", "note", "ok"


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
