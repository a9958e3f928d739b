# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a proof that the requests of every pair succeeded (private).

The proof holds while everything that the requests depended on stays the same. That is read again each time,
and compared by one hash. Some of it, such as a firewall between the clusters, cannot be read through the API.
For that reason a proof expires after a while.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .._base.certificates import fingerprint
from .._base.files import FileError, locked, read_text, write_private
from .._istio.names import ISTIO_NAMESPACE, VERIFY_NAMESPACE
from .._kubernetes.api import Object
from .._kubernetes.client import labels_of
from .._trust.inventory import INTERMEDIATE, ROOT
from .state import ClusterState, MeshState


@dataclass(frozen=True)
class Proof:
    """The proof that the requests of every pair succeeded.

    :param subject: the hash of everything that the requests depended on.
    :param proved: the time at which they succeeded.
    """

    subject: str
    proved: datetime

    def holds(self, mesh: MeshState, max_age: timedelta) -> bool:
        """Return whether the proof is recent enough, and still valid for the mesh as it was seen now."""
        age = mesh.now - self.proved
        return timedelta() <= age <= max_age and self.subject == subject_of(mesh)


class ProofFile:
    """The file with the last proof of one mesh. A proof that cannot be read or written counts as none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Proof | None:
        with suppress(FileError, ValueError, TypeError, KeyError):
            kept = json.loads(read_text(self._path) or "{}")
            proved = datetime.fromisoformat(kept["proved"])
            return Proof(str(kept["subject"]), proved if proved.tzinfo else proved.replace(tzinfo=UTC))
        return None

    def keep(self, mesh: MeshState) -> None:
        """Write the proof that the requests succeeded in the mesh as it was seen.

        Remove the file instead if something that the requests depend on is not known.
        """
        subject = subject_of(mesh)
        if subject is None:
            self.forget()
            return
        text = json.dumps({"subject": subject, "proved": mesh.now.isoformat()}) + "\n"
        with suppress(FileError, OSError), locked(self._path):
            write_private(self._path, text)

    def forget(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def subject_of(mesh: MeshState) -> str | None:
    """Return the hash of everything that requests between the clusters depend on; None if some is unknown."""
    if any(cluster.policies is None for cluster in mesh.clusters.values()):
        return None
    subject = {
        "clusters": {name: _of_cluster(cluster) for name, cluster in mesh.clusters.items()},
        "pairs": sorted([pair.source, pair.destination] for pair in mesh.pairs),
    }
    return hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()


def _of_cluster(cluster: ClusterState) -> dict[str, Any]:
    services = cluster.gateway_services
    return {
        "member": [cluster.member.network, cluster.server],
        "namespace": [
            labels_of(namespace)
            for namespace in cluster.namespaces
            if namespace["metadata"]["name"] == ISTIO_NAMESPACE
        ],
        "settings": cluster.settings,
        "policies": cluster.policies,
        "network policies": _content(
            policy
            for policy in cluster.network_policies
            if policy["metadata"]["namespace"] in (ISTIO_NAMESPACE, VERIFY_NAMESPACE)
        ),
        "gateways": _content(cluster.gateways),
        "gateway services": _content(services),
        "gateway pods": sorted(pod["metadata"]["uid"] for pod in cluster.pods_of_gateways),
        "istiods": sorted(
            pod["metadata"]["uid"]
            for pod in cluster.pods
            if pod["metadata"]["name"] in {istiod.name for istiod in cluster.istiods}
        ),
        "remote secrets": sorted(
            [secret.name, *secret.keys, *_access(secret.access)] for secret in cluster.secrets
        ),
        "authorities": sorted(
            [seen.role, fingerprint(seen.certificate)]
            for seen in cluster.certificates
            if seen.role in (ROOT, INTERMEDIATE)
        ),
        "roots": sorted(map(fingerprint, cluster.running_roots)),
    }


def _access(access: Any) -> Sequence[str]:
    return (access.server, access.ca, access.token) if access else ()


def _content(objects: Iterable[Object]) -> list[list[Any]]:
    """Return the name, labels, spec and load balancer status of each object, but no managers and times."""
    return [
        [obj["metadata"]["name"], labels_of(obj), obj.get("spec"), obj.get("status", {}).get("loadBalancer")]
        for obj in sorted(objects, key=lambda obj: str(obj["metadata"]["name"]))
    ]
