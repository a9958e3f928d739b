# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record: the place of a cluster in its mesh, kept in the cluster (private to the collection).

An inventory says what is wanted. The record says what exists. This has three uses:

- A cluster that is missing in the inventory still counts as a member.
- A kubeconfig of another cluster is noticed.
- State and inventory can be written again when they are lost.

The record is the ConfigMap ``exomesh`` of namespace ``istio-system``. It holds no secret.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.mesh import KEPT_VARIABLES
from .._base.names import CLUSTER_NAME, LABEL_VALUE
from .._base.version import VERSION
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient
from .._kubernetes.objects import CREATE, UNCHANGED, UPDATE, ObjectChange, flatten, write_anew
from .names import ISTIO_NAMESPACE

RECORD_REF = ObjectRef("v1", "ConfigMap", "exomesh", ISTIO_NAMESPACE)
IDENTITY_REF = ObjectRef("v1", "Namespace", "kube-system")
_ROOT_REF = ObjectRef("v1", "ConfigMap", "istio-ca-root-cert", ISTIO_NAMESPACE)
_TEXTS = ("mesh", "cluster", "network", "uid", "root", "version")
_ENDING = "-----END CERTIFICATE-----"


@dataclass(frozen=True)
class Entry:
    """The entry of one member in a record.

    :param uid: UID of the cluster's namespace kube-system; empty if it was not known.
    :param server: address of the cluster's API, from its kubeconfig or for its peers; empty if it was not
        known.
    :param variables: variables of the member's host in the inventory, to write the inventory again.
    """

    name: str
    network: str
    uid: str = ""
    server: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """Return the entry as plain data."""
        return {
            "name": self.name,
            "network": self.network,
            "uid": self.uid,
            "server": self.server,
            "variables": dict(self.variables),
        }


@dataclass(frozen=True)
class Record:
    """The record of one cluster: its place in its mesh.

    :param uid: UID of the cluster's namespace kube-system.
    :param root: SHA-256 of the cluster's root certificates, separated by commas.
    :param members: all members, including the cluster itself, by name.
    :param generation: how often the record was written.
    """

    mesh: str
    cluster: str
    network: str
    uid: str
    root: str
    members: Mapping[str, Entry]
    version: str = VERSION
    generation: int = 0

    @classmethod
    def parse(cls, obj: Object, cluster: str) -> Record:
        """Read the record from its ConfigMap. Check the content, because anybody may have written it.

        :param cluster: name by which the caller knows the cluster, for the error.
        :raises ExomeshError: ``record_unreadable``.
        """
        data = obj.get("data") or {}
        try:
            told = load_json(data["members"], "The members of the record")
            entries = [_entry(entry) for entry in told]
            record = cls(
                members={entry.name: entry for entry in entries},
                **{name: str(data.get(name, "")) for name in _TEXTS},
                generation=int(data.get("generation", 0)),
            )
            if CLUSTER_NAME.fullmatch(record.cluster) and LABEL_VALUE.fullmatch(record.mesh):
                return record
            why = "its cluster or mesh has no name that one can have"
        except (*MALFORMED, ExomeshError) as error:
            why = f"{type(error).__name__}: {error}"
        raise ExomeshError(
            f"{RECORD_REF}, the record of what the cluster is in its mesh, cannot be read: {why}",
            "record_unreadable",
            cluster=cluster,
            cause="Somebody has changed it, or a newer release of exomesh.istio wrote it",
            next_step="Use the newer release; or look at it, delete it, and run playbook peering, which "
            "writes it anew",
        )

    def object(self) -> Object:
        """Return the record as its ConfigMap."""
        members = [self.members[name].told() for name in sorted(self.members)]
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": RECORD_REF.name,
                "namespace": RECORD_REF.namespace,
                "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            },
            "data": {
                **{name: str(getattr(self, name)) for name in _TEXTS},
                "generation": str(self.generation),
                "members": json.dumps(members, indent=2, sort_keys=True),
            },
        }

    def after(self, kept: Record | None) -> Record:
        """Return this record as the successor of the kept one. A member stays a member until it leaves.

        What is not known now, because a cluster does not answer, is taken from the kept record.
        """
        if kept is None:
            return self
        members = dict(kept.members)
        for name, entry in self.members.items():
            known = kept.members.get(name, entry)
            members[name] = replace(entry, uid=entry.uid or known.uid, server=entry.server or known.server)
        return replace(self, members=members, root=self.root or kept.root, generation=kept.generation)


def read_record(client: KubernetesClient) -> Record | None:
    """Read the record of a cluster. Return None if it has none.

    :raises ExomeshError: ``record_unreadable``, or the cluster does not answer.
    """
    obj = client.get(RECORD_REF)
    return Record.parse(obj, client.name) if obj else None


def read_uid(client: KubernetesClient) -> str:
    """Read the UID of the namespace kube-system, which identifies a cluster. Return "" if there is none."""
    namespace = client.get(IDENTITY_REF)
    return str(namespace["metadata"].get("uid", "")) if namespace else ""


def read_root(client: KubernetesClient) -> str:
    """Read the root certificates that istiod gives to workloads. Return their :func:`fingerprints`."""
    config = client.get(_ROOT_REF)
    return fingerprints(str(((config or {}).get("data") or {}).get("root-cert.pem", "")))


def require_cluster(
    client: KubernetesClient, name: str | None, mesh: str | None = None, network: str | None = None
) -> Record | None:
    """Check that a kubeconfig is that of the intended cluster. Return the cluster's record.

    A cluster without a record is in no mesh yet, and passes the check. An argument is None if the caller does
    not know its value.

    :raises ExomeshError: ``wrong_cluster``.
    """
    record = read_record(client)
    if record is not None:
        require_identity(record, name, mesh, network)
    return record


def require_identity(
    record: Record, name: str | None, mesh: str | None = None, network: str | None = None
) -> None:
    """Raise ExomeshError ``wrong_cluster`` unless a record is that of this cluster. None matches all."""
    wanted = " and ".join(
        f"{what} {value}"
        for what, value, known in (
            ("cluster", name, record.cluster),
            ("mesh", mesh, record.mesh),
            ("network", network, record.network),
        )
        if value and value != known
    )
    if not wanted:
        return
    raise ExomeshError(
        f"Its kubeconfig is that of cluster {record.cluster} of mesh {record.mesh} and network "
        f"{record.network}, by the record in the cluster, not of {wanted}. Nothing was changed",
        "wrong_cluster",
        cluster=name,
        cause="The kubeconfig was mixed up, the cluster was restored from a backup of the other one, or "
        "mesh_cluster_name, mesh_id or mesh_network has changed since",
        next_step="Correct the kubeconfig or the inventory. A cluster that belongs to no mesh any more: "
        f"kubectl -n {ISTIO_NAMESPACE} delete configmap {RECORD_REF.name}",
        details={"cluster": record.cluster, "mesh": record.mesh, "uid": record.uid},
    )


def compare_record(kept: Record | None, wanted: Record) -> ObjectChange:
    """Return what writing a record changes. ``wanted`` must be the successor of the kept record."""
    if kept == wanted:
        return ObjectChange(RECORD_REF, UNCHANGED, {}, {})
    before = flatten(kept.object()["data"]) if kept else {}
    after = flatten(wanted.object()["data"])
    return ObjectChange(
        RECORD_REF,
        UPDATE if kept else CREATE,
        {path: value for path, value in before.items() if after.get(path) != value},
        {path: value for path, value in after.items() if before.get(path) != value},
    )


def write_record(client: KubernetesClient, wanted: Record) -> ObjectChange:
    """Write a record over the existing one. If somebody else writes in between, read and compare again.

    :raises ExomeshError: ``wrong_cluster``, ``record_unreadable`` or ``always_changed``.
    """
    changes: list[ObjectChange] = []

    def write(live: Object | None) -> Object | None:
        kept = Record.parse(live, client.name) if live else None
        if kept is not None:
            require_identity(kept, wanted.cluster, wanted.mesh)
        record = wanted.after(kept)
        changes.append(compare_record(kept, record))
        if changes[-1].action == UNCHANGED:
            return None
        obj = replace(record, generation=record.generation + 1).object()
        if live is None:
            return client.create(obj)
        obj["metadata"] |= {"resourceVersion": live["metadata"]["resourceVersion"]}
        return client.replace(obj)

    write_anew(client, RECORD_REF, write)
    return changes[-1]


def forget_member(client: KubernetesClient, name: str) -> None:
    """Remove a cluster that has left from the record of a cluster that stays."""

    def write(live: Object | None) -> Object | None:
        kept = Record.parse(live, client.name) if live else None
        if live is None or kept is None or name not in kept.members:
            return None
        members = {other: entry for other, entry in kept.members.items() if other != name}
        obj = replace(kept, members=members, generation=kept.generation + 1).object()
        obj["metadata"] |= {"resourceVersion": live["metadata"]["resourceVersion"]}
        return client.replace(obj)

    write_anew(client, RECORD_REF, write)


def refresh_root(client: KubernetesClient) -> None:
    """Write the root that a cluster trusts now into its record, if it has one."""
    root = read_root(client)

    def write(live: Object | None) -> Object | None:
        kept = Record.parse(live, client.name) if live else None
        if live is None or kept is None or kept.root == root:
            return None
        obj = replace(kept, root=root, generation=kept.generation + 1).object()
        obj["metadata"] |= {"resourceVersion": live["metadata"]["resourceVersion"]}
        return client.replace(obj)

    write_anew(client, RECORD_REF, write)


def fingerprints(certificates: str) -> str:
    """Return SHA-256 of the certificates in a PEM text, separated by commas; empty if there are none."""
    found = []
    for part in certificates.split(_ENDING)[:-1]:
        try:
            der = ssl.PEM_cert_to_DER_cert(part[part.index("-----BEGIN") :] + _ENDING)
        except ValueError:
            continue
        found.append(hashlib.sha256(der).digest().hex(":"))
    return ",".join(sorted(set(found)))


def entries(members: Iterable[tuple[str, str, str, str, Mapping[str, Any]]]) -> dict[str, Entry]:
    """Return entries by name, made from names, networks, UIDs, servers and variables."""
    return {member[0]: Entry(*member) for member in members}


def _entry(told: Any) -> Entry:
    """Read an entry, and check it, because its names and variables go into files and paths."""
    name, network = str(told["name"]), str(told["network"])
    if not CLUSTER_NAME.fullmatch(name) or not LABEL_VALUE.fullmatch(network):
        raise ValueError("a member has a name or network that none can have")
    variables = {
        key: value for key, value in dict(told.get("variables") or {}).items() if key in KEPT_VARIABLES
    }
    if not all(isinstance(value, str | bool | int | list) for value in variables.values()):
        raise ValueError("a member has variables that none can have")
    return Entry(name, network, str(told.get("uid", "")), str(told.get("server", "")), variables)
