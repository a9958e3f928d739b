# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error hierarchy of the collection (private to it).

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
    :param code: machine-readable reason in snake_case, stable across releases, as in ``cluster_not_found``.
    :param cluster: name of the cluster that this is about.
    :param zone: zone of that cluster.
    :param cause: the likely reason, when the message alone does not tell it.
    :param next_step: what the user can do about it.
    :param details: further plain data for programs, as in the list of zones that exist.
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
        """Name the cluster and zone where the place that raised this did not know them; returns itself."""
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
        """The structured reason: code, message, and where known cluster, zone, cause, next_step, details."""
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
        """What ``fail_json`` gets: ``msg`` for people, ``failure`` for programs.

        Both may hold words of a cluster, so here they are made safe to show, for every error.
        """
        return {"msg": printable(str(self)), "failure": printable_data(self.failure())}


class MissingRequirementError(ExomeshError):
    """A Python library or a program that is needed is not there, or is too old."""

    def __init__(self, message: str, *, next_step: str, cause: str | None = None) -> None:
        super().__init__(message, "missing_requirement", cause=cause, next_step=next_step)
