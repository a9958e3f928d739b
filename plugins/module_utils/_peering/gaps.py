# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Search for members whose peering is incomplete (private to the collection).

Peering asks the peers' APIs for each pair, with some ten requests each. Here every cluster is read only once,
independent of the number of its peers. The same code judges what was read.
"""

from __future__ import annotations

import base64
import dataclasses
import threading
from collections.abc import Sequence

from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.waiting import concurrently
from .._istio.identity import same_clusters
from .._istio.names import ISTIO_NAMESPACE
from .._istio.record import IDENTITY_REF, RECORD_REF, read_uid, require_cluster
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient
from .._kubernetes.objects import UNCHANGED
from .merging import Merging, find_merging
from .peering import Options, Peering
from .remote_secrets import RBAC
from .sync import look

_READ = {
    ("v1", "Secret"): ISTIO_NAMESPACE,
    ("v1", "ServiceAccount"): ISTIO_NAMESPACE,
    (f"{RBAC}/v1", "Role"): ISTIO_NAMESPACE,
    (f"{RBAC}/v1", "RoleBinding"): ISTIO_NAMESPACE,
    (f"{RBAC}/v1", "ClusterRole"): None,
    (f"{RBAC}/v1", "ClusterRoleBinding"): None,
}
"""Kinds that peering creates, each with its namespace; None for kinds without a namespace."""


class ClusterReadOnce(KubernetesClient):
    """A client that lists this collection's objects once, at the beginning, and answers from these lists.

    For this client, objects of the same kinds that others made do not exist.
    """

    def __init__(self, member: Member) -> None:
        super().__init__(member.kubeconfig, name=member.name)
        self._accepted: dict[str, bool] = {}
        self._accepted_lock = threading.Lock()
        ours = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
        ask, get = super().list_objects, super().get
        self._known: dict[ObjectRef, Object | None] = {}

        def read(what: tuple[str, str] | ObjectRef) -> list[Object]:
            if isinstance(what, ObjectRef):
                self._known[what] = get(what)
                return []
            return ask(*what, _READ[what], labels=ours)

        wanted: list[tuple[str, str] | ObjectRef] = [*_READ, RECORD_REF, IDENTITY_REF]
        lists = concurrently(read, wanted)[: len(_READ)]
        self._lists = dict(zip(_READ, lists, strict=True))
        self._objects = {ObjectRef.of(obj): obj for objects in lists for obj in objects}

    def get(self, ref: ObjectRef) -> Object | None:
        if ref in self._known:
            return self._known[ref]
        return (
            self._objects.get(ref)
            if self._holds(ref.api_version, ref.kind, ref.namespace)
            else super().get(ref)
        )

    def list_objects(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
    ) -> list[Object]:
        if fields or not self._holds(api_version, kind, namespace):
            return super().list_objects(api_version, kind, namespace, labels, fields)
        return [obj for obj in self._lists[api_version, kind] if _has_labels(obj, labels or "")]

    def accepts(self, token: str) -> bool:
        """Return whether the API accepts a token. One answer counts for all tokens that the same key signed.

        The lists show whether the account and the Secret of each token still exist.
        """
        signer = _signer(token)
        with self._accepted_lock:
            if signer not in self._accepted:
                self._accepted[signer] = super().accepts(token)
            return self._accepted[signer]

    @staticmethod
    def _holds(api_version: str, kind: str, namespace: str | None) -> bool:
        return (api_version, kind) in _READ and _READ[api_version, kind] == namespace


@dataclasses.dataclass
class Gaps:
    """The gaps of a mesh.

    :param reasons: members for which peering has something to do or an error to report, each with the first
        such reason.
    :param strangers: clusters that are not members, by the member that has ties with them.
    :param members: the members, with the UID and the server that were read of each.
    :param merging: the Services of clusters that are not peers yet, and become one.
    """

    reasons: dict[str, str]
    strangers: dict[str, list[str]]
    members: list[Member]
    merging: Merging


def find_gaps(members: Sequence[Member], options: Options) -> Gaps:
    """Find the members whose peering is incomplete.

    :param options: the options of the peering. Nothing is changed.
    :raises ExomeshError: ``wrong_cluster`` or ``same_cluster``: a kubeconfig is another cluster's.
    """
    options = dataclasses.replace(options, check_mode=True, timeout=0)
    clusters = dict(zip((member.name for member in members), concurrently(_read, members), strict=True))
    members = [_known(member, clusters[member.name]) for member in members]
    for problem in same_clusters((member.name, member.uid) for member in members):
        raise problem
    unread = dict(zip(clusters, concurrently(lambda member: _unread(clusters, member), members), strict=True))

    def connect(member: Member) -> KubernetesClient:
        cluster = clusters[member.name]
        if isinstance(cluster, ExomeshError):
            raise cluster
        return cluster

    strangers: dict[str, list[str]] = {}

    def gap(member: Member) -> str | None:
        for name in (member.name, *member.peers):
            if isinstance(unanswered := clusters[name], ExomeshError):
                return str(unanswered)
        try:
            outcome = Peering(connect(member), members, options, connect).run()
        except ExomeshError as error:
            return str(error)
        if outcome.strangers:
            strangers[member.name] = outcome.strangers
        for change in outcome.changes:
            if change.action != UNCHANGED:
                return f"{change.action} {change.title}"
        told = [unread[member.name].get(peer) for peer in member.peers]
        if options.reciprocal:
            told += [unread[peer].get(member.name) for peer in member.peers]
        return next(filter(None, told), None)

    found = dict(zip(clusters, map(gap, members), strict=True))
    answering = {name: cluster for name, cluster in clusters.items() if not isinstance(cluster, ExomeshError)}
    reasons = {name: reason for name, reason in found.items() if reason}
    return Gaps(reasons, strangers, members, find_merging(answering, members))


def _known(member: Member, cluster: ClusterReadOnce | ExomeshError) -> Member:
    """Return the member with its UID and server, if its cluster answers."""
    if isinstance(cluster, ExomeshError):
        return member
    require_cluster(cluster, member.name, member.mesh)
    server = (member.server or cluster.server).rstrip("/")
    return dataclasses.replace(member, uid=read_uid(cluster) or None, server=server)


def _read(member: Member) -> ClusterReadOnce | ExomeshError:
    try:
        return ClusterReadOnce(member)
    except ExomeshError as error:
        return error


def _unread(clusters: dict[str, ClusterReadOnce | ExomeshError], member: Member) -> dict[str, str]:
    """Return what istiod of a member has not read of its peers, by peer."""
    cluster = clusters[member.name]
    try:
        missing = {} if isinstance(cluster, ExomeshError) else look(cluster, member.peers, {})
    except ExomeshError as error:
        missing = {peer: [str(error)] for peer in member.peers}
    return {peer: "; ".join(lines) for peer, lines in missing.items()}


def _has_labels(obj: Object, selector: str) -> bool:
    """Return whether an object has the labels of a selector, in the forms ``key`` and ``key=value``."""
    labels = obj["metadata"].get("labels") or {}
    wanted = [part.partition("=") for part in selector.split(",") if part]
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in wanted)


def _signer(token: str) -> str:
    """Return the ID of the key that signed a token, from its header; the token itself if there is none."""
    header = token.partition(".")[0]
    try:
        said = base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))
        return str(load_json(said, "The header of a token")["kid"])
    except MALFORMED:
        return token
