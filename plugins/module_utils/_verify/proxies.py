# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the running proxies of a cluster what they trust, and what they rejected (private)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .._istio.envoy import (
    ADMIN_PORT,
    REJECTED_CLUSTERS,
    REJECTED_LISTENERS,
    REJECTED_ROUTES,
    SECRETS,
    SERVER_INFO,
    UPDATES_REJECTED,
    Dump,
    has_rejected,
    istio_version,
    rejected,
)
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient
from .._trust.proxies import own_chain, trusted_roots
from .state import ClusterState, Proxy, is_ready, is_running, name_of, sidecar_of

_ANSWER_SECONDS = 10.0

_MOST = 60
"""The number of proxies that are asked in a cluster, besides those of the east-west gateway.

Each is of another workload. They are the oldest ones, which had most time to miss a change.
"""


def look_at_proxies(state: ClusterState, client: KubernetesClient) -> None:
    """Fill in what the proxies of a cluster tell, and which of them could not be asked."""
    asked = sample(state)
    gateways = set(map(name_of, state.pods_of_gateways))
    answers = concurrently(lambda pod: _ask(client, pod, name_of(pod) in gateways), asked)
    state.proxies = [answer for answer in answers if isinstance(answer, Proxy)]
    state.untold["proxies"] = [answer for answer in answers if isinstance(answer, str)]


def sample(state: ClusterState) -> list[Object]:
    """Return the pods whose proxies are asked: all of the gateway, and the oldest of each other workload."""
    gateways = [pod for pod in state.pods_of_gateways if is_running(pod) and sidecar_of(pod)]
    first = {name_of(pod): pod for pod in gateways}
    others: dict[tuple[str, str], Object] = {}
    for pod in sorted(state.proxied_pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp"))):
        if name_of(pod) not in first:
            others.setdefault((pod["metadata"]["namespace"], owner_of(pod)), pod)
    return [*first.values(), *list(others.values())[:_MOST]]


def owner_of(pod: Object) -> str:
    """Return what made a pod, as a ReplicaSet; a pod that nothing made stands for itself."""
    owners: Sequence[Object] = pod["metadata"].get("ownerReferences") or []
    names = (f"{owner['kind']}/{owner['name']}" for owner in owners if owner.get("controller"))
    return next(names, f"Pod/{pod['metadata']['name']}")


def _ask(client: KubernetesClient, pod: Object, is_gateway: bool) -> Proxy | str | None:
    """Return what a pod's proxy tells, or why it could not be asked; None if that is normal."""
    try:
        return _look(client, pod, is_gateway)
    except (ExomeshError, *MALFORMED) as error:
        # A pod that starts or ends cannot be asked. Others know why it is not ready.
        if not _is_still_ready(client, pod):
            return None
        return f"the proxy of pod {name_of(pod)}: {error}"


def _is_still_ready(client: KubernetesClient, pod: Object) -> bool:
    try:
        now = client.get(ObjectRef("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"]))
    except ExomeshError:
        return is_ready(pod)
    return now is not None and is_ready(now)


def _look(client: KubernetesClient, pod: Object, is_gateway: bool) -> Proxy:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]

    def ask(*paths: str) -> list[bytes]:
        return client.get_all_from_pod(namespace, name, ADMIN_PORT, paths, _ANSWER_SECONDS)

    def entries(answers: Iterable[bytes]) -> list[Dump]:
        told = (load_json(answer, f"What the proxy of pod {namespace}/{name} tells") for answer in answers)
        return [entry for answer in told for entry in answer.get("configs") or []]

    secrets, stats, routes, server = ask(SECRETS, UPDATES_REJECTED, REJECTED_ROUTES, SERVER_INFO)
    refused = rejected(entries([routes]))
    if has_rejected(stats.decode(errors="replace")):
        refused |= rejected(entries(ask(REJECTED_LISTENERS, *REJECTED_CLUSTERS)))
    held, what = entries([secrets]), f"of pod {namespace}/{name}"
    return Proxy(
        name_of(pod),
        is_gateway,
        own_chain(held, f"the certificate {what}"),
        trusted_roots(held, f"the roots {what}"),
        istio_version(load_json(server, f"What the proxy {what} tells of itself")),
        refused,
    )
