# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cluster is which, before anything is changed in one (private to the collection)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.waiting import concurrently, time_limit
from .._kubernetes.client import KubernetesClient
from .record import read_uid, require_cluster

IDENTIFY_SECONDS = 15.0
"""What it may take; a cluster that is silent for so long is none that can be told from others."""


def identify(members: Sequence[Member]) -> dict[str, str]:
    """Return the UIDs of the members that have a kubeconfig, by name; empty for those that do not answer.

    Others tell why they do not.

    :raises ExomeshError: ``wrong_cluster`` or ``same_cluster``, with all that is mixed up.
    """
    problems: list[ExomeshError] = []

    def ask(member: Member) -> str:
        try:
            client = KubernetesClient(member.kubeconfig, name=member.name)
            require_cluster(client, member.name, member.mesh, member.network)
            return read_uid(client)
        except ExomeshError as error:
            if error.code in ("wrong_cluster", "record_unreadable"):
                problems.append(error)
            return ""

    asked = [member for member in members if os.path.exists(member.kubeconfig)]
    with time_limit(IDENTIFY_SECONDS):
        found = concurrently(ask, asked)
    uids = {member.name: uid for member, uid in zip(asked, found, strict=True)}
    problems += same_clusters(uids.items())
    if len(problems) > 1:
        raise ExomeshError(
            f"{len(problems)} kubeconfigs are not those of their clusters: {' '.join(map(str, problems))}",
            problems[0].code,
            details={"failures": [problem.failure() for problem in problems]},
        )
    if problems:
        raise problems[0]
    return uids


def same_clusters(clusters: Iterable[tuple[str, str | None]]) -> list[ExomeshError]:
    """Return an error ``same_cluster`` for each member that has the cluster of another one.

    :param clusters: names and UIDs.
    """
    first: dict[str, str] = {}
    return [
        ExomeshError(
            f"It is the same cluster as {other}: their namespaces kube-system have the UID {uid}. Nothing "
            "was changed",
            "same_cluster",
            cluster=name,
            cause="Two hosts of the inventory have one cluster, or a kubeconfig was mixed up",
            next_step="Correct sks_cluster, sks_zone or the kubeconfig of one, or take it out of the "
            "inventory",
            details={"clusters": [other, name], "uid": uid},
        )
        for name, uid in clusters
        if uid and (other := first.setdefault(uid, name)) != name
    ]
