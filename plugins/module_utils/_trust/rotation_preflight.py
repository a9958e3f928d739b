# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what would make a rotation of the root drop requests, before it begins (private)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .._istio import istiod
from .._istio.operator import MULTI_ROOT_ENVIRONMENT, MULTI_ROOT_METADATA
from .._istio.record import read_record
from .._kubernetes.api import Object
from .._kubernetes.workloads import workload_of
from .proxies import proxy_of
from .rotation import MeshTrust, Place
from .rotation_proof import proxied_pods
from .x509 import BACKDATING

_LEAST_VERSION = (1, 30)
"""Older ones compare bundles as texts, and refuse one that has the same root twice."""

_SHOWN = 5


@dataclass
class Readiness:
    """Whether a cluster can go through a rotation.

    :param proxies: number of its proxies; each asks istiod for a new certificate in each phase.
    :param problems: what keeps it from that, each with what to do.
    """

    cluster: str
    proxies: int = 0
    problems: list[str] = field(default_factory=list)


def look(mesh: MeshTrust) -> list[Readiness]:
    """Return whether each cluster can go through a rotation. All are asked at once."""
    names = {place.name for place in mesh.places}
    return concurrently(lambda place: _look(place, names), mesh.places)


def require_ready(found: Sequence[Readiness]) -> None:
    """Raise ExomeshError ``rotation_not_ready``, with all that keeps clusters from a rotation."""
    problems = [f"{cluster.cluster}: {problem}" for cluster in found for problem in cluster.problems]
    if problems:
        raise ExomeshError(
            "The root cannot be rotated without dropping requests, so nothing was changed",
            "rotation_not_ready",
            cause=". ".join(f"({number}) {text.rstrip('.')}" for number, text in enumerate(problems, 1)),
            next_step="Correct that, then run this again",
            details={"problems": problems},
        )


def _look(place: Place, names: set[str]) -> Readiness:
    found = Readiness(place.name)
    pods = proxied_pods(place.client)
    found.proxies = len(pods)
    found.problems = [
        *_of_members(place, names),
        *_of_clock(place),
        *_of_istiod(place),
        *_of_ambient(place),
        *_of_proxies([pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]),
    ]
    return found


def _of_members(place: Place, names: set[str]) -> Iterator[str]:
    record = read_record(place.client)
    if record is None:
        yield (
            "it has no record of the members, so one that takes no part could lose its trust. Write it: "
            "ansible-playbook exomesh.istio.site"
        )
    missing = sorted(set(record.members) - names) if record else []
    if missing:
        yield (
            f"by its record, {', '.join(missing)} is a member, too, but takes no part in this run, and would "
            "lose its trust. Put it into the inventory, or take it out of the mesh: "
            "ansible-playbook exomesh.istio.remove_cluster"
        )


def _of_clock(place: Place) -> Iterator[str]:
    skew = place.trust.clock_skew
    if skew is None:
        yield "its API server does not tell its time. See what is between: it sends the header Date"
    elif abs(skew) > BACKDATING.total_seconds():
        yield f"its clock differs by {abs(skew):.0f} s from that of this machine. Set both (NTP)"


def _of_istiod(place: Place) -> Iterator[str]:
    deployments = istiod.istiods(place.client)
    if not deployments:
        yield "it has no istiod. Install it: ansible-playbook exomesh.istio.site"
    for deployment in deployments:
        name = deployment["metadata"]["name"]
        environment = istiod.environment(deployment)
        missing = [key for key, value in MULTI_ROOT_ENVIRONMENT.items() if environment.get(key) != value]
        if missing:
            yield (
                f"{name} lacks {', '.join(f'{key}=true' for key in missing)}, so it ignores other roots. "
                "Roll it out: ansible-playbook exomesh.istio.istio, and then restart what has a proxy"
            )
        version = istiod.version(deployment)
        if not version:
            yield f"the image of {name} does not tell its version. Give it one whose tag does"
        elif version[:2] < _LEAST_VERSION:
            yield f"{name} is Istio {'.'.join(map(str, version))}, and 1.30 is the first that can do this"
    ready, lacking = istiod.replicas(place.client)
    if lacking or (deployments and not ready):
        yield f"istiod is not ready: {'; '.join(lacking[:_SHOWN]) or 'it has no pod'}"


def _of_ambient(place: Place) -> Iterator[str]:
    if place.client.list_objects("v1", "Pod", labels="app=ztunnel"):
        yield "it has ztunnel (ambient mode), which takes no other root while it runs"


def _of_proxies(pods: Sequence[Object]) -> Iterator[str]:
    """Report the proxies that would keep the old root until their pods are restarted."""
    old = [pod for pod in pods if not _takes_roots(pod)]
    if old:
        owners = dict.fromkeys(_restart(pod) for pod in old)
        more = f" and {len(owners) - _SHOWN} more" if len(owners) > _SHOWN else ""
        yield (
            f"{len(old)} of {len(pods)} proxies lack "
            f"{', '.join(f'{key}={value}' for key, value in MULTI_ROOT_METADATA.items())}, as their pods are "
            f"older than that setting, and would keep the old root. Restart them: "
            f"{'; '.join(list(owners)[:_SHOWN])}{more}"
        )


def _takes_roots(pod: Object) -> bool:
    container = proxy_of(pod) or {}
    environment = {item["name"]: item.get("value") for item in container.get("env") or []}
    return environment.items() >= MULTI_ROOT_METADATA.items()


def _restart(pod: Object) -> str:
    """Return the command that replaces a pod by one with the present settings."""
    kubectl = f"kubectl -n {pod['metadata']['namespace']}"
    if workload := workload_of(pod):
        return f"{kubectl} rollout restart {workload}"
    return f"{kubectl} delete pod {pod['metadata']['name']}, and have it made again"
