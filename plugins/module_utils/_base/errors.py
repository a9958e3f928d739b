# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only error hierarchy of the collection (private to it).

Code below a module raises an ExomeshError; the module's ``main()`` catches it once::

    try:
        result = run(module.params)
    except ExomeshError as error:
        module.fail_json(**error.fail_arguments())
"""

from __future__ import annotations

from typing import Any

from .text import printable, printable_data


class ExomeshError(Exception):
    """A failure that says where it happened, why, and what to do next.

    :param message: what went wrong, in one sentence. Never holds a secret.
    :param code: machine-readable reason in snake_case, stable across releases, such as ``cluster_not_found``.
    :param cluster: name of the cluster that this is about.
    :param zone: zone of that cluster.
    :param cause: the likely reason, when the message alone does not say it.
    :param next_step: what the user can do about it.
    :param details: further plain data for programs, such as the list of zones that exist.
    """

    def __init__(
        self,
        message: str,
        code: str,
        *,
        cluster: str | None = None,
        zone: str | None = None,
        cause: str | None = None,
        next_step: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.cluster = cluster
        self.zone = zone
        self.cause = cause
        self.next_step = next_step
        self.details = details or {}

    def about(self, cluster: str | None = None, zone: str | None = None) -> ExomeshError:
        """Set the cluster and zone where the code that raised this did not know them; return the error."""
        self.cluster = self.cluster or cluster
        self.zone = self.zone or zone
        return self

    def __str__(self) -> str:
        where = []
        if self.cluster:
            where.append(f"cluster {self.cluster}")
        if self.zone:
            where.append(f"zone {self.zone}")
        sentences = [text.rstrip(". ") + "." for text in (self.message, self.cause, self.next_step) if text]
        return (f"{', '.join(where)}: " if where else "") + " ".join(sentences)

    def failure(self) -> dict[str, Any]:
        """Return the reason as data: code, message, and if known cluster, zone, cause, next_step, details."""
        fields = {
            "code": self.code,
            "message": self.message,
            "cluster": self.cluster,
            "zone": self.zone,
            "cause": self.cause,
            "next_step": self.next_step,
            "details": self.details,
        }
        return {name: value for name, value in fields.items() if value}

    def fail_arguments(self) -> dict[str, Any]:
        """Return the arguments of ``fail_json``: ``msg`` for people, ``failure`` for programs.

        Both may contain text from a cluster, so they are made safe to show here, for every error.
        """
        return {"msg": printable(str(self)), "failure": printable_data(self.failure())}


class MissingRequirementError(ExomeshError):
    """A required Python library or program is missing or too old."""

    def __init__(self, message: str, *, next_step: str, cause: str | None = None) -> None:
        super().__init__(message, "missing_requirement", cause=cause, next_step=next_step)
