# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peering: the istiods of a mesh's members get to read each other (private to the collection).

The order matters:

1. Peers grant access to a reader.
2. A pod of the reader proves that the peers' APIs answer it.
3. The secrets of the reader are written.
4. Every replica of the reader's istiod must have read the peers.
5. Only then, what is no longer used is deleted.

A peer that fails does not hold up the others.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlparse

from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.waiting import concurrently, pause, told_in_time, wait_until_met
from .._istio import istiod
from .._istio.probe import Answer, probe
from .._istio.record import (
    Record,
    compare_record,
    entries,
    read_root,
    read_uid,
    require_cluster,
    write_record,
)
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient
from .._kubernetes.objects import CREATE, UNCHANGED, ObjectChange
from .reader_access import binding_for_secrets, grant, grant_shared, our_shared_token, readers, revoke, roles
from .remote_secrets import (
    Access,
    compare_secret,
    delete_secrets,
    holds_token,
    our_secrets,
    secret_ref,
    write_secret,
)
from .sync import Way, gateway_addresses, look

REMOTE_CREDENTIALS = "PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER"
LAST_WITHOUT_OPT_OUT = (1, 31, 1)
"""Up to this release, istiod crashes at its first remote secret if it is told not to read Secrets there."""

_ANSWERS_TO_NOBODY = (200, 401, 403)
"""Statuses with which a Kubernetes API answers anonymous requests, depending on its configuration."""

_NOTICED_AFTER = 1.0
_RESTART_SECONDS = 300

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Options:
    """The options of the peering.

    :param own_accounts: an account and a token for each reader, instead of Istio's shared ones.
    :param least_privilege: those accounts may not read Secrets.
    :param prune: remove what we made for members that are not peers, and look for ties with non-members.
    :param reciprocal: also give each peer its secret for this cluster.
    :param probe_image: image with curl for the proof from inside the reader; None to do without the proof.
    :param reached: hashes (:func:`probe.api_hash`) of the APIs that pods of the reader were shown to reach.
    :param before_istiod: istiod does not exist yet. It reads the secrets for the APIs in ``reached`` when it
        starts.
    :param timeout: seconds that each wait may take.
    """

    own_accounts: bool = True
    least_privilege: bool = False
    prune: bool = False
    reciprocal: bool = False
    probe_image: str | None = None
    reached: frozenset[str] = frozenset()
    before_istiod: bool = False
    timeout: float = 60
    check_mode: bool = False


@dataclass
class Outcome:
    """The changes that were made, or would be, and the clusters whose istiod had to be restarted."""

    changes: list[ObjectChange] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    """Clusters that are not members now, but have ties that we once made."""


def connect(member: Member) -> KubernetesClient:
    """Return a client for the API of a member, by its kubeconfig."""
    return KubernetesClient(member.kubeconfig, name=member.name)


class Peering:
    """The peering of one member with its peers.

    :param client: client of the member's cluster. Its name is the member's name.
    :param connect: returns a client for the API of another member.
    """

    def __init__(
        self,
        client: KubernetesClient,
        members: Sequence[Member],
        options: Options,
        connect: Callable[[Member], KubernetesClient] = connect,
    ) -> None:
        self._client = client
        self._connect = connect
        self._members = members
        self._peers = [member for member in members if client.name in member.peers]
        self._here = [member for member in members if member.name == client.name]
        self._options = options
        self._outcome = Outcome()
        self._failures: list[ExomeshError] = []

    def run(self) -> Outcome:
        """Do the whole peering.

        :raises ExomeshError: something failed. The error names all failures, and is raised after all the rest
            is done.
        """
        mesh = self._here[0].mesh if self._here else None
        kept = require_cluster(self._client, self._client.name, mesh)
        self._give(self._client, self._peers)
        if self._options.reciprocal:
            self._attempt(lambda peer: self._give_peer(peer, self._here), self._peers)
        if self._options.prune:
            self._attempt(lambda client: self._prune(client, kept), [self._client])
        if not self._failures and not self._options.before_istiod:
            told = self._peers if self._options.reciprocal else []
            self._attempt(self._keep_record, [*self._here, *told])
        if len(self._failures) == 1:
            raise self._failures[0]
        if self._failures:
            raise ExomeshError(
                f"{len(self._failures)} things failed: " + " ".join(map(str, self._failures)),
                "peers_failed",
                cluster=self._client.name,
                details={"failures": [error.failure() for error in self._failures]},
            )
        return self._outcome

    # One reader

    def _give_peer(self, peer: Member, here: Sequence[Member]) -> None:
        if self._is_to_come(peer):
            self._report(peer.name, [ObjectChange(secret_ref(self._client.name), CREATE, {}, {})])
        else:
            self._give(self._connect(peer), here)

    def _give(self, reader: KubernetesClient, peers: Sequence[Member]) -> None:
        """Give a reader the secrets for these peers, and check that its istiod reads them."""
        deployments = self._attempt(self._usable_istiods, [reader])
        if not deployments:
            return
        ways = [way for way in self._attempt(lambda peer: self._open(reader, peer), peers) if way]
        compared = self._attempt(lambda way: (way, compare_secret(reader, way.access)), ways)
        same = [way for way, change in compared if change.action == UNCHANGED]
        different = [(way, change) for way, change in compared if change.action != UNCHANGED]
        for way in same:
            self._report(reader.name, [ObjectChange(secret_ref(way.peer.name), UNCHANGED, {}, {})])
        if self._options.check_mode:
            for _way, change in different:
                self._report(reader.name, [change])
            self._attempt(lambda way: self._clear(reader, way), ways)
            return
        proved = self._proved(reader, [way for way, _change in different])
        written = self._attempt(lambda way: self._write(reader, way), proved)
        given = same + written
        if self._options.before_istiod:
            return
        if not deployments[0]:
            self._outcome.warnings.append(f"{reader.name} has no istiod that could read its remote secrets")
        elif given:
            given = self._synced(reader, given, wait=bool(written))
        self._attempt(lambda way: self._clear(reader, way), given)

    def _usable_istiods(self, reader: KubernetesClient) -> list[Object]:
        """Return the reader's istiods, if they can work with the access that they would get.

        :raises ExomeshError: ``least_privilege_impossible``.
        """
        deployments = istiod.istiods(reader)
        if not self._options.least_privilege:
            return deployments
        for deployment in deployments:
            version = istiod.version(deployment)
            if version and version <= LAST_WITHOUT_OPT_OUT:
                raise ExomeshError(
                    f"istiod {'.'.join(map(str, version))} cannot do without the Secrets of other clusters",
                    "least_privilege_impossible",
                    cluster=reader.name,
                    cause=f"with {REMOTE_CREDENTIALS}=false it ends with a panic as soon as it has a remote "
                    "secret, and without it waits for Secrets that it may not read",
                    next_step="Leave mesh_least_privilege off until a later release of Istio can do it",
                )
            if (
                not self._options.check_mode
                and istiod.environment(deployment).get(REMOTE_CREDENTIALS) != "false"
            ):
                raise ExomeshError(
                    f"istiod still reads the Secrets of other clusters: {REMOTE_CREDENTIALS} is not false",
                    "least_privilege_impossible",
                    cluster=reader.name,
                    cause="it would not get ready with a token that may not read them",
                    next_step="Run role istio for this cluster first, with mesh_least_privilege",
                )
        return deployments

    def _open(self, reader: KubernetesClient, peer: Member) -> Way | None:
        """Grant the reader access to the peer. Return None in check mode if the peer does not exist yet."""
        if self._is_to_come(peer):
            ref = secret_ref(peer.name)
            self._report(reader.name, [ObjectChange(ref, UNCHANGED if reader.get(ref) else CREATE, {}, {})])
            return None
        options = self._options
        client = self._connect(peer)
        require_cluster(client, peer.name, peer.mesh)
        server = (peer.server or client.server).rstrip("/")
        _refuse_loopback(peer.name, server)
        try:
            if options.own_accounts:
                secrets = not options.least_privilege
                way_in = grant(client, reader.name, secrets, options.timeout, options.check_mode)
            else:
                way_in = grant_shared(client, options.timeout, options.check_mode)
        except ExomeshError as error:
            raise error.about(cluster=peer.name) from None
        self._report(peer.name, way_in.changes)
        access = Access(peer.name, server, client.tls_server_name, way_in.ca, way_in.token)
        return Way(peer, client, access)

    def _write(self, reader: KubernetesClient, way: Way) -> Way:
        try:
            self._report(reader.name, [write_secret(reader, way.access)])
        except ExomeshError as error:
            raise error.about(cluster=reader.name) from None
        return way

    # The proof from inside

    def _proved(self, reader: KubernetesClient, ways: Sequence[Way]) -> list[Way]:
        """Return the ways on which the peer's API answers a pod of the reader."""
        # The API itself made the reader's account and token. Only the way to the API is left to prove.
        reached = [way for way in ways if way.is_among(self._options.reached)]
        unproved = [way for way in ways if way not in reached]
        if self._options.before_istiod:
            return reached
        if not unproved or self._options.probe_image is None:
            return list(ways)
        try:
            refused = self._refused(reader, unproved)
        except ExomeshError as error:
            error.next_step = f"{error.next_step}. peering_probe: false does without this proof"
            self._failures.append(error.about(cluster=reader.name))
            return reached
        for way in ways:
            peer = way.peer.name
            if peer in refused:
                refusal = ExomeshError(
                    f"It does not get a secret for {peer}: its pods cannot use {way.access.server}",
                    "peer_api_unreachable",
                    cluster=reader.name,
                    cause=refused[peer],
                    next_step=f"Set peering_server of {peer} to the address of its API that pods of "
                    f"{reader.name} reach, and let firewalls through",
                )
                self._failures.append(refusal)
        return [way for way in ways if way.peer.name not in refused]

    def _refused(self, reader: KubernetesClient, ways: Sequence[Way]) -> dict[str, str]:
        """Ask the peers' APIs from one pod of the reader. Return why an API did not answer, by peer."""
        image, timeout = self._options.probe_image or "", self._options.timeout
        answers = probe(reader, [way.target() for way in ways], image, timeout)
        return {answer.name: reason for answer in answers if (reason := _refusal(answer))}

    # istiod

    def _synced(self, reader: KubernetesClient, ways: list[Way], wait: bool) -> list[Way]:
        """Return the ways that every replica of the reader's istiod has read. Restart a stale istiod.

        :param wait: whether the secrets have just been written.
        """
        try:
            if wait:
                # Until istiod notices the new secret, it shows its state with the previous one.
                pause(_NOTICED_AFTER, f"istiod of {reader.name} to notice its secrets")
            gateways = {way.peer.name: gateway_addresses(way) for way in ways} if wait else {}
            missing = self._wait(reader, ways, gateways)
            stale = [way for way in ways if way.peer.name in missing]
            if stale:
                unreachable = self._refused(reader, stale) if self._options.probe_image else {}
                if set(unreachable) != set(missing):
                    # The peers answer, so the fault is istiod's.
                    istiod.restart(reader, _RESTART_SECONDS)
                    self._outcome.restarted.append(reader.name)
                    missing = self._wait(reader, ways, gateways)
                for way in stale:
                    if way.peer.name in missing:
                        evidence = missing[way.peer.name]
                        self._failures.append(
                            self._not_synced(reader, way, evidence, unreachable.get(way.peer.name))
                        )
        except ExomeshError as error:
            self._failures.append(error.about(cluster=reader.name))
            return []
        return [way for way in ways if way.peer.name not in missing]

    def _wait(
        self, reader: KubernetesClient, ways: Sequence[Way], gateways: Mapping[str, set[str]]
    ) -> dict[str, list[str]]:
        """Wait until istiod lacks nothing, or the time is up. Return what it lacks of each peer."""
        missing: dict[str, list[str]] = {}

        def unmet() -> str | None:
            missing.clear()
            missing.update(look(reader, [way.peer.name for way in ways], gateways))
            return "; ".join(line for lines in missing.values() for line in lines) or None

        wait_until_met(unmet, self._options.timeout)
        return missing

    def _not_synced(
        self, reader: KubernetesClient, way: Way, evidence: Sequence[str], unreachable: str | None
    ) -> ExomeshError:
        said: list[str] = told_in_time(
            lambda: [
                line
                for replica in istiod.replicas(reader)[0]
                for line in istiod.lines_about(reader, replica, way.peer.name)
            ],
            [],
        )
        return ExomeshError(
            f"istiod has not read {way.peer.name} ({way.access.server}) after {self._options.timeout:.0f} s: "
            + "; ".join(evidence),
            "peer_not_synced",
            cluster=reader.name,
            cause=". ".join(([unreachable] if unreachable else []) + said) or None,
            next_step=f"Look for {way.peer.name} in the log of istiod, and check the address and firewalls",
        )

    # Removing what is no longer used

    def _clear(self, reader: KubernetesClient, way: Way) -> None:
        """Remove the peer's objects for the reader that nobody uses now."""
        check_mode = self._options.check_mode
        doomed: list[ObjectRef] = []
        if self._options.own_accounts:
            if self._options.least_privilege:
                doomed += binding_for_secrets(way.client, reader.name)
            doomed += self._unused_shared_token(reader, way)
        else:
            found = readers(way.client)
            doomed += found.pop(reader.name, [])
            if doomed and (not found or (check_mode and self._is_last(reader, way))):
                doomed += roles(way.client)
        self._report(way.peer.name, revoke(way.client, doomed, check_mode))

    def _unused_shared_token(self, reader: KubernetesClient, way: Way) -> list[ObjectRef]:
        """Return the token that the peer's readers shared, if this reader was the last to use it."""
        shared = our_shared_token(way.client)
        if shared is None:
            return []
        ref, token = shared
        if self._options.check_mode:
            return [ref] if self._options.prune and self._is_last(reader, way) else []
        for other in self._members:
            if way.peer.name in other.peers and other.name != reader.name:
                try:
                    held = self._connect(other).get(secret_ref(way.peer.name))
                    if holds_token(held, way.peer.name, token):
                        return []
                except ExomeshError:
                    return []  # the other reader may still use the token
        return [ref]

    def _is_last(self, reader: KubernetesClient, way: Way) -> bool:
        """Return whether the reader is the last in the list of the peer's readers.

        Only the real run shows which reader is the last in fact.
        """
        return [member.name for member in self._members if way.peer.name in member.peers][-1:] == [
            reader.name
        ]

    def _prune(self, client: KubernetesClient, kept: Record | None) -> None:
        """Remove the objects of this cluster for members that are not its peers.

        A cluster that is missing in the inventory has not left the mesh: its line may be commented out, or
        its zone may be unavailable.
        """
        members = {member.name for member in self._members}
        surplus = members - {peer.name for peer in self._peers}
        secrets, accounts = our_secrets(client), readers(client)
        check_mode = self._options.check_mode
        doomed = (secrets[name] for name in secrets if name in surplus)
        self._report(client.name, delete_secrets(client, doomed, check_mode))
        revoked = (ref for reader in accounts if reader in surplus for ref in accounts[reader])
        self._report(client.name, revoke(client, revoked, check_mode))
        recorded = kept.members if kept else {}
        self._outcome.strangers = sorted({*secrets, *accounts, *recorded} - members)

    def _keep_record(self, member: Member) -> None:
        """Write the record of a member's cluster: its place in the mesh, and all members."""
        if not member.mesh or self._is_to_come(member):
            return  # the caller does not name the mesh, or the cluster does not exist yet
        client = self._client if member.name == self._client.name else self._connect(member)
        record = Record(
            mesh=member.mesh,
            cluster=member.name,
            network=member.network,
            uid=read_uid(client),
            root=read_root(client),
            members=entries(
                (other.name, other.network, other.uid or "", other.server or "", other.variables)
                for other in self._members
            ),
        )
        if self._options.check_mode:
            kept = require_cluster(client, member.name, member.mesh)
            change = compare_record(kept, record.after(kept))
        else:
            change = write_record(client, record)
        self._report(member.name, [change])

    # Bookkeeping

    def _is_to_come(self, member: Member) -> bool:
        return self._options.check_mode and not os.path.exists(member.kubeconfig)

    def _report(self, cluster: str, changes: Iterable[ObjectChange]) -> None:
        where = None if cluster == self._client.name else cluster
        self._outcome.changes += [dataclasses.replace(change, cluster=where) for change in changes]

    def _attempt(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do ``work`` on all items at once. Return the results of those that did not fail."""
        results: list[Result] = []

        def one(item: Item) -> list[Result]:
            try:
                return [work(item)]
            except ExomeshError as error:
                self._failures.append(error)
                return []

        for result in concurrently(one, items):
            results += result
        return results


def _refusal(answer: Answer) -> str | None:
    """Return why an answer is not the one that a peer's API should give; None if it is.

    The pod has no token, because a swapped image could steal it. This machine has asked whether the API
    accepts the token. TLS proves that the pod asks the same API.
    """
    if answer.status in _ANSWERS_TO_NOBODY:
        return None
    if answer.status is not None:
        return f"it answers {answer.status}, which is no answer of a Kubernetes API: another server is there"
    said = answer.error or "no answer"
    for pattern, meaning in (
        ("resolve", "the name is not known there"),
        ("SSL|certificate|TLS", "what answers there has not the certificate of the peer's API"),
        ("connect|timed out|timeout", "a firewall, or an address that is not routed from there"),
    ):
        if re.search(pattern, said, re.IGNORECASE):
            return f"curl says: {said} ({meaning})"
    return f"curl says: {said}"


def _refuse_loopback(peer: str, server: str) -> None:
    host = urlparse(server).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        raise ExomeshError(
            f"Its kubeconfig names the API {server}, which no other cluster can reach",
            "server_is_loopback",
            cluster=peer,
            next_step="Set peering_server for this cluster to the address that its peers reach",
        )
