# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each replica of a cluster's istiod knows about the other clusters (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from .._base.documents import MALFORMED, DocumentError, load_json
from .._base.errors import ExomeshError
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.causes import wait_unless_it_lasts
from .._kubernetes.client import KubernetesClient
from .._kubernetes.readiness import deployment_unmet, explain_deployment, pod_unmet
from .names import ISTIO_NAMESPACE

SYNCED = "synced"

_CONTAINER = "discovery"
_DEBUG_PORT = 15014
_ANSWER_SECONDS = 10.0
_LOG_LINES = 2000


def istiods(client: KubernetesClient) -> list[Object]:
    """Return the Deployments of istiod, one for each revision."""
    return client.list_objects("apps/v1", "Deployment", ISTIO_NAMESPACE, labels="app=istiod")


def tolerations(client: KubernetesClient) -> list[Object]:
    """Return the tolerations of istiod. Temporary pods of ours get the same, to find a node, too."""
    found = [
        toleration
        for deployment in istiods(client)
        for toleration in deployment["spec"]["template"]["spec"].get("tolerations") or []
    ]
    return [toleration for i, toleration in enumerate(found) if toleration not in found[:i]]


def replicas(client: KubernetesClient) -> tuple[list[str], list[str]]:
    """Return the names of istiod's ready pods, and what each other pod of istiod lacks."""
    pods = client.list_objects("v1", "Pod", ISTIO_NAMESPACE, labels="app=istiod")
    # A pod that is being deleted still answers, but what it knows no longer matters.
    lacking = {
        pod["metadata"]["name"]: pod_unmet(pod)
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
    }
    ready = [name for name, missing in lacking.items() if missing is None]
    return ready, [f"{name}: {missing}" for name, missing in lacking.items() if missing]


def sync_states(client: KubernetesClient, replica: str) -> dict[str, str]:
    """Return the state of every remote cluster, by its name, as one replica of istiod reports it.

    :returns: states such as ``synced`` or ``timeout``.
    :raises ExomeshError: ``istiod_silent``.
    """
    with _understood(client, replica, "clusterz"):
        return {str(entry["id"]): str(entry["syncStatus"]) for entry in debug(client, replica, "clusterz")}


def known_gateways(client: KubernetesClient, replica: str) -> dict[str, set[str]]:
    """Return the addresses of other networks' gateways, by cluster, as one replica of istiod knows them.

    :raises ExomeshError: ``istiod_silent``.
    """
    known: dict[str, set[str]] = {}
    with _understood(client, replica, "networkz"):
        for entry in debug(client, replica, "networkz") or []:
            known.setdefault(str(entry.get("Cluster")), set()).add(str(entry.get("Addr")))
    return known


def clusters_by_service(client: KubernetesClient, replica: str) -> dict[str, frozenset[str]]:
    """Return the clusters that have endpoints of each service, as one replica of istiod knows them.

    :returns: names of clusters, by ``namespace/name`` of the service.
    :raises ExomeshError: ``istiod_silent``.
    """
    with _understood(client, replica, "endpointShardz"):
        return {
            f"{namespace}/{host.split('.', maxsplit=1)[0]}": frozenset(
                key.partition("/")[2] for key, endpoints in found["Shards"].items() if endpoints
            )
            for host, namespaces in debug(client, replica, "endpointShardz").items()
            for namespace, found in namespaces.items()
        }


def lines_about(client: KubernetesClient, replica: str, cluster: str, limit: int = 3) -> list[str]:
    """Return the newest log lines in which a replica reports an error or a warning about a cluster."""
    try:
        log = client.logs(ISTIO_NAMESPACE, replica, _CONTAINER, _LOG_LINES)
    except ExomeshError:
        return []
    named = re.compile(rf"(?<![\w.-]){re.escape(cluster)}(?![\w.-])")
    lines = [line for line in log.splitlines() if named.search(line) and re.search(r"\t(error|warn)", line)]
    return [" ".join(line.split())[:300] for line in lines[-limit:]]


def restart(client: KubernetesClient, timeout: float) -> list[str]:
    """Restart istiod of every revision. A new pod starts before an old one ends.

    :returns: names of the Deployments.
    :raises ExomeshError: ``istiod_not_restarted``: istiod did not become ready again.
    """
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    names = [deployment["metadata"]["name"] for deployment in istiods(client)]
    for name in names:
        ref = ObjectRef("apps/v1", "Deployment", name, ISTIO_NAMESPACE)
        annotations = {"exomesh.istio/restarted-at": stamp}
        client.apply(
            {
                "apiVersion": ref.api_version,
                "kind": ref.kind,
                "metadata": {"name": ref.name, "namespace": ref.namespace},
                "spec": {"template": {"metadata": {"annotations": annotations}}},
            }
        )
        if wait_unless_it_lasts(lambda ref=ref: deployment_unmet(client.get(ref)), timeout):  # type: ignore[misc]
            unready = explain_deployment(client, ISTIO_NAMESPACE, name)
            raise ExomeshError(
                f"istiod did not come up again after its restart: {unready.told}",
                "istiod_not_restarted",
                cluster=client.name,
                cause=unready.cause.told if unready.cause else None,
                next_step=f"{unready.next_step or 'Cure what keeps its new pods from being ready'}. The old "
                "ones still serve",
            )
    return names


def environment(deployment: Object) -> Mapping[str, str | None]:
    """Return the environment variables of istiod; None for a variable whose value comes from elsewhere."""
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        if container["name"] == _CONTAINER:
            return {variable["name"]: variable.get("value") for variable in container.get("env") or []}
    return {}


def version(deployment: Object) -> tuple[int, ...]:
    """Return istiod's release from the tag of its image, as in (1, 31, 1); empty if the tag is no release."""
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        tag = re.search(r":v?(\d+)\.(\d+)\.(\d+)[^/:]*$", container["image"].split("@")[0])
        if container["name"] == _CONTAINER and tag:
            return tuple(int(part) for part in tag.groups())
    return ()


def debug(client: KubernetesClient, replica: str, page: str) -> Any:
    """Return a page of a replica's debug interface.

    :raises ExomeshError: ``istiod_silent``, or an error of the API.
    """
    answer = client.get_from_pod(ISTIO_NAMESPACE, replica, _DEBUG_PORT, f"/debug/{page}", _ANSWER_SECONDS)
    try:
        return load_json(answer, page)
    except DocumentError as error:
        raise _silent(client, replica, str(error)) from None


@contextmanager
def _understood(client: KubernetesClient, replica: str, page: str) -> Iterator[None]:
    """Raise ``istiod_silent`` if a page of the debug interface has an unexpected form."""
    try:
        yield
    except MALFORMED as error:
        raise _silent(client, replica, f"{page} has another form than expected ({error})") from None


def _silent(client: KubernetesClient, replica: str, cause: str) -> ExomeshError:
    return ExomeshError(
        f"Pod {ISTIO_NAMESPACE}/{replica} does not tell what it knows of the other clusters",
        "istiod_silent",
        cluster=client.name,
        cause=cause,
        next_step="Look at its log",
    )
