# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide whether a kubeconfig must be fetched again, and why (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from .._base.certificates import time_text
from .._base.errors import ExomeshError
from .kubeconfig import Entry, Kubeconfig, KubeconfigError, comma_list, same_server
from .kubeconfig_certificates import Certificate, certificates_of


@dataclass(frozen=True)
class Wanted:
    """The wanted state of one cluster's kubeconfig."""

    context: str
    server: str
    """The cluster's endpoint, as the API reports it."""
    cluster_id: str
    user: str
    groups: tuple[str, ...]
    renew_before: timedelta | None
    """Time before a certificate's end to renew it; None is a third of the client certificate's lifetime."""


@dataclass(frozen=True)
class Renewal:
    """The reason to replace a kubeconfig: a code for programs and a text for people."""

    code: str
    text: str


def why_renew(text: str | None, wanted: Wanted, now: datetime) -> Renewal | None:
    """Return why a cluster's kubeconfig must be replaced; None if it is kept. Only this function decides it.

    :param text: the file's text; None when there is no file.
    """
    if text is None:
        return Renewal("missing", "there is no kubeconfig yet")
    if not text.strip():
        return Renewal("unreadable", "the file is empty")
    try:
        config = Kubeconfig.parse(text, "the file")
        if config.context_names != [wanted.context] or config.current_context != wanted.context:
            names = comma_list(config.context_names)
            return Renewal("other_context", f"it does not hold context {wanted.context} alone, but {names}")
        entry = config.entry(wanted.context)
        client, authorities = certificates_of(entry)
    except KubeconfigError as error:
        return Renewal("unreadable", error.message)
    if client is None:
        return Renewal("no_certificate", "it has no client certificate")
    return next(_differences(entry, client, authorities, wanted), None) or next(
        _endings(client, authorities, wanted.renew_before, now), None
    )


def ends_soon(text: str, renew_before: timedelta | None, now: datetime) -> bool:
    """Return whether a certificate of the current context has ended or ends too soon.

    :param renew_before: as in :class:`Wanted`.
    :raises KubeconfigError: there is no such context, or its certificates cannot be read.
    """
    client, authorities = certificates_of(Kubeconfig.parse(text).entry())
    return client is not None and next(_endings(client, authorities, renew_before, now), None) is not None


def _differences(
    entry: Entry, client: Certificate, authorities: list[Certificate], wanted: Wanted
) -> Iterator[Renewal]:
    """Yield where an entry differs from what is wanted."""
    record = entry.record
    other_id = record.get("cluster_id", wanted.cluster_id) != wanted.cluster_id
    if other_id or not same_server(entry.server, wanted.server):
        yield Renewal("other_cluster", f"it is of another cluster, {entry.server}")
    fingerprints = [authority.sha256 for authority in authorities]
    if not fingerprints or record.get("ca", fingerprints) != fingerprints:
        yield Renewal("other_ca", "its certificate authority is not the cluster's")
    if client.common_name != wanted.user:
        yield Renewal("other_user", f"its user is {client.common_name}, not {wanted.user}")
    if set(client.organizations) != set(wanted.groups):
        present, asked = comma_list(client.organizations), comma_list(wanted.groups)
        yield Renewal("other_groups", f"its groups are {present}, not {asked}")
    if reason := entry.distrust():
        yield Renewal("refused", reason)


def _endings(
    client: Certificate, authorities: list[Certificate], renew_before: timedelta | None, now: datetime
) -> Iterator[Renewal]:
    """Yield the certificates that have ended or end too soon."""
    if renew_before is None:
        renew_before = (client.not_after - client.not_before) / 3
    named = [("client certificate", client), *(("CA certificate", authority) for authority in authorities)]
    for what, certificate in named:
        end = time_text(certificate.not_after)
        if certificate.not_after <= now:
            yield Renewal("expired", f"its {what} expired at {end}")
        elif certificate.not_after - now <= renew_before:
            yield Renewal("expires_soon", f"its {what} expires at {end}")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: str, option: str) -> timedelta:
    """Read ``3600``, ``90s``, ``12h``, ``30d`` or ``1d12h``: seconds, or numbers with units w, d, h, m, s."""
    text = text.strip()
    if re.fullmatch(r"\d+", text):
        return timedelta(seconds=int(text))
    if not re.fullmatch(r"(\d+[wdhms])+", text):
        raise ExomeshError(
            f"{option} is no duration: {text!r}",
            "invalid_option",
            next_step="Give seconds, or a number with a unit of w, d, h, m or s, as in 30d or 1d12h",
        )
    parts = re.findall(r"(\d+)([wdhms])", text)
    return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))
