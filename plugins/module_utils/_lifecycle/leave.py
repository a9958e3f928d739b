# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal of a cluster from a mesh that continues without it (private to the collection).

First, the survivors stop sending anything to the leaving cluster. Next, all their istiods forget it, and
requests in flight get time to end. Then the accounts with which either side read the other are deleted. The
leaving cluster need not answer. Every step looks at what exists, so that the next run can finish an
interrupted one.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.waiting import concurrently, pause, wait_until_met
from .._istio import istiod
from .._istio.envoy import ADMIN_PORT
from .._istio.names import ISTIO_NAMESPACE, NETWORK_LABEL, VERIFY_NAMESPACE
from .._istio.record import RECORD_REF, Record, forget_member, require_cluster
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient, is_ours
from .._kubernetes.load_balancer import service_addresses
from .._kubernetes.objects import DELETE, UPDATE, ObjectChange
from .._peering.reader_access import readers
from .._peering.remote_secrets import CLUSTER_ANNOTATION, MULTI_CLUSTER_LABEL, annotations_of, secret_ref
from .._trust.cluster import FORMER_REF, Cacerts, cacerts_in_rotation, leave_rotation
from .._verify.state import sidecar_of
from .._verify.workload import parse_endpoints

_SYSTEM_NAMESPACES = ("kube-system", ISTIO_NAMESPACE, VERIFY_NAMESPACE)
_SIDECARS_ASKED = 20
"""How many sidecars of a cluster are asked what they still know; all of them, if there are fewer."""

_FORGETS_WITHIN = 30.0
"""Seconds after which istiod is restarted if it has not forgotten the cluster, or has lost another one."""

_ANSWER_SECONDS = 10.0
_ENDPOINTS = "/config_dump?resource=dynamic_endpoint_configs&include_eds"


@dataclass(frozen=True)
class Choices:
    """The decisions of the user.

    :param lost_services: go on although services have endpoints in the leaving cluster only.
    :param foreign_secrets: also delete remote secrets for the leaving cluster that something else made.
    :param drain: seconds between the last new request to the leaving cluster and the next step.
    """

    lost_services: bool
    foreign_secrets: bool
    drain: float
    timeout: float


@dataclass
class Outcome:
    """What was done, or would be done in check mode."""

    changes: dict[str, list[ObjectChange]]
    lost_services: dict[str, list[str]]
    restarted: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def report(self, name: str) -> list[str]:
        """Return the whole outcome as lines for people."""
        deleted = [
            f"- from {cluster}: {', '.join(refs)}"
            for cluster, changes in self.changes.items()
            if (refs := [str(change.ref) for change in changes if change.action == DELETE])
        ]
        forgetting = [
            cluster
            for cluster, changes in self.changes.items()
            if any(change.action == UPDATE for change in changes)
        ]
        lost = [f"- for {cluster}: {', '.join(services)}" for cluster, services in self.lost_services.items()]
        return [
            *([f"To let {name} go, is deleted"] if deleted else []),
            *deleted,
            *([f"It is a member no more by the record of {', '.join(forgetting)}"] if forgetting else []),
            *([] if deleted or forgetting else [f"Nothing is left of {name}."]),
            *([f"Services that had endpoints in {name} only, and have none now"] if lost else []),
            *lost,
            *self.notes,
        ]


@dataclass(frozen=True)
class _Replica:
    """What one replica of istiod knows.

    :param synced: status of each other cluster, by cluster.
    :param gateways: addresses of gateways, by cluster.
    :param services: clusters that have endpoints of a service, by ``namespace/name`` of the service.
    """

    pod: str
    synced: dict[str, str]
    gateways: dict[str, set[str]]
    services: dict[str, frozenset[str]]

    def knows(self, cluster: str) -> str | None:
        """Return how the replica still knows a cluster; None if it has forgotten the cluster.

        A gateway of the cluster that stays in the list does not count: without endpoints, nothing goes there.
        """
        if cluster in self.synced:
            return f"{self.pod} still reads it ({self.synced[cluster]})"
        if any(cluster in clusters for clusters in self.services.values()):
            return f"{self.pod} still has endpoints of it"
        return None

    def lacks(self, cluster: str) -> str | None:
        """Return what the replica lacks of a cluster that it has to know; None if it lacks nothing."""
        if self.synced.get(cluster) != istiod.SYNCED:
            return f"{self.pod} has not read {cluster} ({self.synced.get(cluster, 'unknown')})"
        if not self.gateways.get(cluster):
            return f"{self.pod} has no gateway of {cluster}"
        if not any(cluster in clusters for clusters in self.services.values()):
            return f"{self.pod} has no endpoints of {cluster}"
        return None


@dataclass
class _Survivor:
    """A member that stays, and what it has of the leaving cluster."""

    name: str
    client: KubernetesClient
    secrets: list[ObjectRef]
    foreign: list[str]
    accounts: list[ObjectRef]
    replicas: list[_Replica]
    namespaces: set[str]
    has_gateway: bool
    peers: set[str]
    record: Record | None

    def remembers(self, cluster: str) -> bool:
        """Return whether the survivor's record has the cluster as a member."""
        return self.record is not None and cluster in self.record.members

    def services_only_in(self, cluster: str) -> list[str]:
        """Return the services that the survivor can call, but that have endpoints in that cluster only."""
        return sorted(
            {
                service
                for replica in self.replicas
                for service, clusters in replica.services.items()
                if clusters == {cluster}
                and (namespace := service.split("/")[0]) in self.namespaces
                and namespace not in _SYSTEM_NAMESPACES
            }
        )


class Departure:
    """The departure of one cluster.

    :param name: name of the leaving cluster in the mesh.
    :param kubeconfig: file with its credentials. The file may be missing or useless.
    :param members: all members, with or without the leaving one.
    """

    def __init__(self, name: str, kubeconfig: str, members: Sequence[Member], choices: Choices) -> None:
        self._name = name
        self._kubeconfig = kubeconfig
        self._staying = [member for member in members if member.name != name]
        self._is_member = len(self._staying) < len(members)
        self._choices = choices
        self._notes: list[str] = []
        self._restarted: list[str] = []
        self._rotated: Cacerts | None = None

    def run(self, check_mode: bool) -> Outcome:
        """Look at the clusters, refuse if something would be lost, and cut the ties.

        :raises ExomeshError: ``services_would_be_lost``, ``foreign_remote_secret``, ``unknown_cluster``,
            ``not_forgotten``, or a survivor does not answer.
        """
        survivors, leaving = self._look()
        lost = {
            survivor.name: services
            for survivor in survivors
            if (services := survivor.services_only_in(self._name))
        }
        self._refuse(survivors, leaving, lost)
        if not check_mode:
            self._cut(survivors, leaving)
        changes = {survivor.name: self._changes_of(survivor) for survivor in survivors}
        changes[self._name] = _deletions(leaving)
        self._explain_what_stays(survivors, bool(leaving))
        return Outcome(changes, lost, self._restarted, self._notes)

    def _changes_of(self, survivor: _Survivor) -> list[ObjectChange]:
        changes = _deletions(survivor.secrets + survivor.accounts)
        if survivor.remembers(self._name):
            changes.append(ObjectChange(RECORD_REF, UPDATE, {f"members[{self._name}]": "a member"}, {}))
        return changes

    # Looking

    def _look(self) -> tuple[list[_Survivor], list[ObjectRef]]:
        """Return the survivors, and what to delete in the leaving cluster. Only read."""
        leaving: list[ObjectRef] = []

        def look(member: Member | None) -> _Survivor | None:
            if member is not None:
                return self._look_at(member)
            leaving.extend(self._look_at_leaving())
            return None

        found = concurrently(look, [None, *self._staying])
        return [survivor for survivor in found if survivor], leaving

    def _look_at(self, member: Member) -> _Survivor:
        client = KubernetesClient(member.kubeconfig, name=member.name)
        try:
            record = require_cluster(client, member.name, member.mesh)
            secrets = _remote_secrets(client)
            pointing = [secret for secret in secrets if _cluster_of(secret) == self._name]
            named = client.get(secret_ref(self._name))
            if named and named["metadata"]["name"] not in {obj["metadata"]["name"] for obj in pointing}:
                if is_ours(named):
                    pointing.append(named)  # someone removed its label
                else:
                    self._notes.append(
                        f"{member.name} keeps Secret {named['metadata']['name']}: it is not ours, and "
                        f"does not say that it is for {self._name}"
                    )
            deletable = [obj for obj in pointing if is_ours(obj) or self._choices.foreign_secrets]
            gateways = client.list_objects(
                "v1", "Service", ISTIO_NAMESPACE, labels=f"{NETWORK_LABEL}={member.network}"
            )
            return _Survivor(
                name=member.name,
                client=client,
                secrets=[ObjectRef.of(obj) for obj in deletable],
                foreign=[obj["metadata"]["name"] for obj in pointing if obj not in deletable],
                accounts=readers(client).get(self._name, []),
                replicas=_replicas(client),
                namespaces={obj["metadata"]["name"] for obj in client.list_objects("v1", "Namespace")},
                has_gateway=any(service_addresses(service) for service in gateways),
                peers={_cluster_of(secret) for secret in secrets} - {self._name},
                record=record,
            )
        except ExomeshError as error:
            error.next_step = f"Nothing was changed. {error.next_step or 'Cure that, then run this again'}"
            raise error.about(cluster=member.name) from None

    def _look_at_leaving(self) -> list[ObjectRef]:
        try:
            client = KubernetesClient(self._kubeconfig, name=self._name)
            record = require_cluster(client, self._name)
            secrets = [obj for obj in _remote_secrets(client) if is_ours(obj)]
            staying = {member.name for member in self._staying}
            accounts = [ref for reader, refs in readers(client).items() if reader in staying for ref in refs]
            copies = [FORMER_REF] if client.get(FORMER_REF) else []
            self._rotated = cacerts_in_rotation(client)
        except ExomeshError as error:
            if error.code == "wrong_cluster":
                raise  # the kubeconfig may be that of a cluster that stays
            self._notes.append(
                f"{self._name} itself was left as it is, as it cannot be spoken to: {error.message}"
                + (f" ({error.cause})" if error.cause else "")
            )
            return []
        return [ObjectRef.of(obj) for obj in secrets] + accounts + copies + ([RECORD_REF] if record else [])

    def _refuse(
        self, survivors: list[_Survivor], leaving: list[ObjectRef], lost: Mapping[str, list[str]]
    ) -> None:
        foreign = {survivor.name: survivor.foreign for survivor in survivors if survivor.foreign}
        if foreign:
            told = "; ".join(f"{name} has {', '.join(secrets)}" for name, secrets in foreign.items())
            raise ExomeshError(
                f"Remote secrets for {self._name} were made by something else: {told}. Nothing was changed",
                "foreign_remote_secret",
                cluster=self._name,
                next_step="Set remove_foreign_secrets to true to have them deleted, too, or delete them",
            )
        silent = [survivor.name for survivor in survivors if survivor.secrets and not survivor.replicas]
        if silent and not self._choices.lost_services:
            raise ExomeshError(
                f"No istiod is ready in {', '.join(silent)}: which services would be lost is not known. "
                "Nothing was changed",
                "istiod_not_ready",
                cluster=self._name,
                next_step="Run the playbook install for it, or set remove_lost_services to true to go on",
            )
        if lost and not self._choices.lost_services:
            told = "; ".join(f"{', '.join(services)} for {name}" for name, services in lost.items())
            raise ExomeshError(
                f"Services have endpoints in {self._name} only, and would have none without it: {told}. "
                "Nothing was changed",
                "services_would_be_lost",
                cluster=self._name,
                next_step="Start them in another cluster first, or set remove_lost_services to true where "
                "nobody needs them",
                details={"services": dict(lost)},
            )
        known = any(
            survivor.secrets
            or survivor.accounts
            or survivor.remembers(self._name)
            or any(r.knows(self._name) for r in survivor.replicas)
            for survivor in survivors
        )
        if not self._is_member and not known and not leaving:
            names = [member.name for member in self._staying]
            similar = difflib.get_close_matches(self._name, names, 1)
            if similar:
                raise ExomeshError(
                    f"No cluster of this mesh knows {self._name}",
                    "unknown_cluster",
                    cause=f"did you mean {similar[0]}? The members are {', '.join(names)}",
                    next_step="Correct the name",
                )
            self._notes.append(
                f"No cluster of this mesh knows {self._name}. The members are {', '.join(names)}; if you "
                "meant one of them, correct the name"
            )

    # Cutting

    def _cut(self, survivors: list[_Survivor], leaving: list[ObjectRef]) -> None:
        reachable = {survivor.name for survivor in survivors if survivor.has_gateway}
        # The gateways of the leaving cluster, as far as any istiod still knows them.
        gateways = {
            address
            for survivor in survivors
            for replica in survivor.replicas
            for address in replica.gateways.get(self._name, ())
        }

        def drop(survivor: _Survivor) -> None:
            for ref in survivor.secrets:
                survivor.client.delete(ref)
            if survivor.replicas:
                self._wait_until_forgotten(survivor, survivor.peers & reachable, gateways)

        concurrently(drop, survivors)
        if any(survivor.secrets for survivor in survivors):
            pause(self._choices.drain, f"requests to {self._name} that are under way")
        concurrently(lambda survivor: [survivor.client.delete(ref) for ref in survivor.accounts], survivors)
        if leaving or self._rotated:
            client = KubernetesClient(self._kubeconfig, name=self._name)
            if self._rotated:
                leave_rotation(client, self._rotated, self._choices.timeout)
            concurrently(client.delete, leaving)
        # This comes last, so that the next run can finish an interrupted one.
        remembering = [survivor for survivor in survivors if survivor.remembers(self._name)]
        concurrently(lambda survivor: forget_member(survivor.client, self._name), remembering)

    def _wait_until_forgotten(self, survivor: _Survivor, peers: set[str], gateways: set[str]) -> None:
        """Wait until the survivor's istiods have forgotten the cluster, and know all others as before.

        Some releases of Istio also lose other clusters (istio/istio#60920, #61043). A restart brings these
        back.
        """

        def still_known() -> str | None:
            now = _replicas(survivor.client)
            if not now:
                return "no istiod is ready"
            told = [known for replica in now if (known := replica.knows(self._name))]
            return "; ".join(told) or self._stale_sidecar(survivor.client, gateways)

        def lost_peers() -> str | None:
            now = _replicas(survivor.client)
            lacking = [lack for replica in now for peer in sorted(peers) if (lack := replica.lacks(peer))]
            return "; ".join(lacking) or (None if now else "no istiod is ready")

        # Keep most of the time for a restart, which may be needed.
        patience = min(_FORGETS_WITHIN, self._choices.timeout / 6)
        known, lost = wait_until_met(still_known, patience, 1.0), wait_until_met(lost_peers, patience, 1.0)
        if not known and not lost:
            return
        istiod.restart(survivor.client, self._choices.timeout)
        self._restarted.append(survivor.name)
        self._notes.append(f"istiod of {survivor.name} was restarted: {known or lost}.")
        known = wait_until_met(still_known, self._choices.timeout, 1.0)
        lost = wait_until_met(lost_peers, self._choices.timeout, 1.0)
        if known or lost:
            raise ExomeshError(
                f"Its istiod does not come right, even after a restart: {known or lost}",
                "not_forgotten" if known else "peer_lost",
                cluster=survivor.name,
                next_step="Look at its log (kubectl -n istio-system logs deployment/istiod), run this again",
            )

    @staticmethod
    def _stale_sidecar(client: KubernetesClient, gateways: set[str]) -> str | None:
        """Return a sidecar that would still send requests to the leaving cluster; None if there is none.

        :param gateways: addresses of the leaving cluster's gateways, as far as they are known.
        """
        running = client.list_objects("v1", "Pod", fields="status.phase=Running")
        pods = [pod for pod in running if sidecar_of(pod)]

        def ask(pod: Object) -> str | None:
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            try:
                answer = client.get_from_pod(namespace, name, ADMIN_PORT, _ENDPOINTS, _ANSWER_SECONDS)
                endpoints = parse_endpoints(answer.decode())
            except ExomeshError:
                return None  # the pod is ending, or has just started
            stale = {
                address
                for addresses in endpoints.values()
                for address in addresses
                if address.rpartition(":")[0] in gateways
            }
            return f"the sidecar of {namespace}/{name} still knows {', '.join(stale)}" if stale else None

        asked = random.sample(pods, min(_SIDECARS_ASKED, len(pods)))
        return next((told for told in concurrently(ask, asked) if told), None)

    # Reporting

    def _explain_what_stays(self, survivors: list[_Survivor], was_cut: bool) -> None:
        shared = [survivor.name for survivor in survivors if survivor.secrets and not survivor.accounts]
        if shared and not was_cut:
            self._notes.append(
                f"{self._name} may still hold the token of the reader account of {', '.join(shared)}, which "
                "all peers share: delete its Secret there, then run the playbook peering, to have another."
            )
        if self._is_member:
            self._notes.append(
                f"Take {self._name} out of the inventory: as long as it is in it, site.yml takes it in again."
            )
        if self._rotated:
            self._notes.append(
                f"{self._name} leaves while the root is rotated: it takes no part in that any more, and "
                "trusts the roots that it has."
            )
        if len(survivors) == 1:
            self._notes.append(f"{survivors[0].name} is alone now: there are no pairs to verify.")
        self._notes.append(
            f"The intermediate CA of {self._name} is valid until it ends: where that cluster is not to be "
            "trusted any more, change the root by playbook rotate_root."
        )


def _remote_secrets(client: KubernetesClient) -> list[Object]:
    return client.list_objects("v1", "Secret", ISTIO_NAMESPACE, labels=f"{MULTI_CLUSTER_LABEL}=true")


def _cluster_of(secret: Object) -> str:
    """Return the cluster that a remote secret is for."""
    return str(annotations_of(secret).get(CLUSTER_ANNOTATION) or next(iter(secret.get("data") or {}), ""))


def _replicas(client: KubernetesClient) -> list[_Replica]:
    """Return what every ready istiod knows. One that ends meanwhile is skipped."""

    def read(pod: str) -> _Replica | None:
        try:
            return _Replica(
                pod,
                istiod.sync_states(client, pod),
                istiod.known_gateways(client, pod),
                istiod.clusters_by_service(client, pod),
            )
        except ExomeshError:
            if pod in istiod.replicas(client)[0]:
                raise
            return None

    ready, _lacking = istiod.replicas(client)
    return [replica for replica in concurrently(read, ready) if replica]


def _deletions(refs: Sequence[ObjectRef]) -> list[ObjectChange]:
    return [ObjectChange(ref, DELETE, {}, {}) for ref in refs]
