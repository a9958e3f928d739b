# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identities of clusters, checked before anything is changed in one (private to the collection)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.waiting import TimeUpError, concurrently, remaining, time_limit
from .._kubernetes.api import LOOK_SECONDS, ClusterUnreachableError
from .._kubernetes.client import KubernetesClient
from .record import read_uid, require_cluster

_MIXED_UP = ("wrong_cluster", "record_unreadable")


@dataclass(frozen=True)
class Identities:
    """The identities of the members.

    :param uids: UIDs of the clusters that answer, by name of the member.
    :param silent: why the other clusters do not answer, by name of the member.
    """

    uids: dict[str, str]
    silent: dict[str, str]


def identify(members: Sequence[Member]) -> Identities:
    """Ask all members at once for their identities.

    :raises ExomeshError: ``wrong_cluster``, ``same_cluster`` or ``record_unreadable``. It reports all such
        problems.
    """
    found = Identities({}, {})
    problems: list[ExomeshError] = []

    def ask(member: Member) -> None:
        try:
            found.uids[member.name] = _uid(member)
        except ExomeshError as error:
            if error.code in _MIXED_UP:
                problems.append(error)
            else:
                found.silent[member.name] = str(error)

    concurrently(ask, members)
    problems += same_clusters((member.name, found.uids.get(member.name)) for member in members)
    if len(problems) > 1:
        raise ExomeshError(
            f"{len(problems)} kubeconfigs are not those of their clusters: {' '.join(map(str, problems))}",
            problems[0].code,
            details={"failures": [problem.failure() for problem in problems]},
        )
    if problems:
        raise problems[0]
    return found


def _uid(member: Member) -> str:
    client = KubernetesClient(member.kubeconfig, name=member.name)
    try:
        with time_limit(LOOK_SECONDS):
            require_cluster(client, member.name, member.mesh, member.network)
            return read_uid(client)
    except TimeUpError:
        remaining()  # raises if the time of the whole task is over
        cause = f"There was no answer within {LOOK_SECONDS:g} s"
        raise ClusterUnreachableError(client.server, cause, cluster=member.name) from None


def same_clusters(clusters: Iterable[tuple[str, str | None]]) -> list[ExomeshError]:
    """Return an error ``same_cluster`` for each member whose cluster is that of another member.

    :param clusters: name and UID of each member.
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
