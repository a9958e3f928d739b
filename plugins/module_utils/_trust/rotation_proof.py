# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove at every running proxy that it has taken a phase of a rotation of the root (private)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from .._base.certificates import fingerprint
from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.waiting import concurrently, remaining, wait_until_met
from .._istio.envoy import ADMIN_PORT, SECRETS
from .._istio.record import fingerprints
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient
from .cluster import ROOT, RUNNING_ROOT_REF, Rotation
from .proxies import PROXY, is_below, own_chain, proxy_of, trusted_roots
from .rotation import MeshTrust, Phase, Place, wanted_roots
from .serving import not_taken

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509

_ANSWER_SECONDS = 10.0
_INTERVAL = 2.0
_AT_ONCE = 16
"""The number of proxies that are asked at the same time, in all clusters."""

_SHOWN = 10
"""The number of proxies that a message names."""

_DELIVERED_WITHIN = timedelta(seconds=100)
"""Time in which a kubelet gives the files of its pods the content of a config map, or of a secret.

It looks once a minute, with up to half of that added at random. A pilot-agent trusts istiod by such a file.
"""


@dataclass
class Proved:
    """What was proved.

    :param proxies: number of proxies that have taken the phase.
    :param lagging: those that have not, with what they have; and what could not be told.
    """

    proxies: int = 0
    seconds: float = 0.0
    lagging: list[str] = field(default_factory=list)


class Gate:
    """The question whether every proxy of these clusters has taken the phase of its cluster.

    A proxy that answered well is not asked again. New ones are found each time.

    :param back: whether this is on the way back to the old root, which every file has already.
    """

    def __init__(
        self, mesh: MeshTrust, rotation: Rotation, places: Sequence[Place], back: bool = False
    ) -> None:
        self._roots = mesh.roots
        self._rotation = rotation
        self._places = places
        self._back = back
        self._proved: set[tuple[str, str]] = set()
        self._ended: set[str] = set()
        self.lagging: list[str] = []

    @property
    def proxies(self) -> int:
        return len(self._proved)

    def ask(self) -> None:
        """Ask every proxy that has not yet answered well."""
        pods = concurrently(lambda place: proxied_pods(place.client), self._places)
        self._ended = set()
        asked = [
            (place, pod)
            for place, found in zip(self._places, pods, strict=True)
            for pod in found
            if (place.name, pod["metadata"]["uid"]) not in self._proved
        ]
        answers = concurrently(lambda pair: self._lags(*pair), asked, _AT_ONCE)
        good = [pair for pair, answer in zip(asked, answers, strict=True) if answer is None]
        self._proved |= {(place.name, pod["metadata"]["uid"]) for place, pod in good}
        self.lagging = [answer for answer in answers if answer]

    def unmet(self) -> str | None:
        """Ask, and return what is missing; None if nothing is."""
        late = [told for place in concurrently(self._cluster_lags, self._places) for told in place if told]
        self.ask()
        # A pod of a StatefulSet comes again by the same name, and only the next list has it.
        ended = [f"{pod} ended while it was asked, and may have come again" for pod in sorted(self._ended)]
        missing = [*self.lagging, *late, *ended]
        if not missing:
            return None
        more = f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        return "; ".join(missing[:_SHOWN]) + more

    def _lags(self, place: Place, pod: Object) -> str | None:
        """Return what a proxy has instead; None if it has taken the phase, or is gone."""
        where = f"{place.name}: {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        try:
            chain, roots = _look(place.client, pod)
        except (ExomeshError, *MALFORMED) as error:
            remaining()  # a question that the time limit has cut off says nothing of the proxy
            if "deletionTimestamp" in pod["metadata"]:
                return None
            if _still_runs(place.client, pod):
                return f"{where} could not be asked ({error})"
            self._ended.add(where)
            return None
        lag = lag_of(chain, roots, place.phase, self._rotation, self._roots, self._back)
        return f"{where} {lag}" if lag else None

    def _cluster_lags(self, place: Place) -> tuple[str | None, ...]:
        """Return what istiod of a cluster, and the roots that it gives to pods as a file, lack."""
        stale = not_taken(place.client, place.held.chain[0])
        return (f"{place.name}: {stale}" if stale else None), self._file_lags(place)

    def _file_lags(self, place: Place) -> str | None:
        """Return what is wrong with the roots that istiod gives to pods as a file; None if nothing is."""
        name = RUNNING_ROOT_REF.name
        maps = place.client.list_objects("v1", "ConfigMap", fields=f"metadata.name={name}")
        if not maps:
            return f"{place.name}: no namespace has config map {name}"
        roots = {item["metadata"]["namespace"]: set(fingerprints(_text_of(item)).split(",")) for item in maps}
        others = [
            namespace
            for namespace, held in roots.items()
            if _unlike(held, place.phase, self._rotation, self._back)
        ]
        if others:
            wanted, _signer = wanted_roots(place.phase, self._rotation)
            return f"{place.name}: config map {name} of {', '.join(others[:3])} has not {_told(wanted)} only"
        if place.phase != Phase.BOTH or self._back:
            return None
        # istiod gets a certificate of the new root next, and its proxies check that by this file.
        left = max(seconds_to_deliver(place.client, item) for item in maps)
        return f"{place.name}: the kubelets have {left:.0f} s left to deliver {name}" if left > 0 else None


def prove(
    mesh: MeshTrust, rotation: Rotation, places: Sequence[Place], timeout: float, back: bool = False
) -> Proved:
    """Wait until every proxy of these clusters has taken the phase of its cluster.

    :param back: whether this is on the way back to the old root.
    :raises ExomeshError: ``rotation_lagging``, with the proxies that have not.
    """
    gate = Gate(mesh, rotation, places, back)
    begun = datetime.now(UTC)
    missing = wait_until_met(gate.unmet, timeout, _INTERVAL)
    seconds = (datetime.now(UTC) - begun).total_seconds()
    if missing is None:
        return Proved(gate.proxies, seconds)
    names = ", ".join(place.name for place in places)
    raise ExomeshError(
        f"Not every proxy of {names} has taken this phase after {seconds:.0f} s, so the rotation stops here. "
        "Requests go on",
        "rotation_lagging",
        cause=missing,
        next_step="See why (kubectl -n istio-system logs deployment/istiod), or restart those workloads; "
        "then run this again: it goes on where it is" + ("" if back else ". To return: -e rotate_back=true"),
        details={"lagging": gate.lagging, "proved": gate.proxies},
    )


def lag_of(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    phase: Phase,
    rotation: Rotation,
    known: Mapping[str, x509.Certificate],
    back: bool = False,
) -> str | None:
    """Return what a proxy has instead of what a phase gives it; None if it has taken the phase.

    :param chain: its certificate and those above it.
    :param roots: the roots that it trusts.
    :param known: the roots of the mesh, by fingerprint.
    :param back: whether this is on the way back, for which the old root is enough.
    """
    wanted, signer = wanted_roots(phase, rotation)
    held = {fingerprint(root) for root in roots}
    if _unlike(held, phase, rotation, back):
        return f"trusts {_told(held)}, not {_told(wanted)}"
    if not is_below(chain, known[signer]):
        return f"has no certificate of {_told([signer])}"
    return None


def proxied_pods(client: KubernetesClient) -> list[Object]:
    """Return every pod of a cluster whose proxy runs. One that is being deleted still sends requests."""
    pods = client.list_objects("v1", "Pod", fields="status.phase!=Succeeded,status.phase!=Failed")
    return [pod for pod in pods if proxy_of(pod) and _has_running_proxy(pod)]


def seconds_to_deliver(client: KubernetesClient, obj: Object) -> float:
    """Return the seconds that kubelets still have to give a config map or secret to pods; 0 or less if none.

    :param obj: the object as the API has it, with the time of its last change.
    """
    now = datetime.now(UTC) + timedelta(seconds=client.clock_skew or 0.0)
    return (_DELIVERED_WITHIN - (now - _written(obj))).total_seconds()


def _unlike(held: set[str], phase: Phase, rotation: Rotation, back: bool) -> bool:
    """Return whether these roots are not those of a phase, among the old and the new one."""
    wanted, _signer = wanted_roots(phase, rotation)
    ours = held & {rotation.old, rotation.new}
    return not {rotation.old} <= ours <= wanted if back else ours != wanted


def _has_running_proxy(pod: Object) -> bool:
    """Return whether a pod's proxy runs: a native sidecar does so before the pod is in phase Running."""
    status = pod.get("status") or {}
    started = status.get("initContainerStatuses") or []
    return status.get("phase") == "Running" or any(
        item.get("name") == PROXY and "running" in (item.get("state") or {}) for item in started
    )


def _look(
    client: KubernetesClient, pod: Object
) -> tuple[tuple[x509.Certificate, ...], tuple[x509.Certificate, ...]]:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    what = f"pod {namespace}/{name}"
    answer = client.get_from_pod(namespace, name, ADMIN_PORT, SECRETS, _ANSWER_SECONDS)
    entries = load_json(answer, f"What the proxy of {what} tells").get("configs") or []
    return own_chain(entries, f"the certificate of {what}"), trusted_roots(entries, f"the roots of {what}")


def _still_runs(client: KubernetesClient, pod: Object) -> bool:
    ref = ObjectRef("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
    with suppress(ExomeshError):
        now = client.get(ref)
        return bool(
            now
            and now["metadata"]["uid"] == pod["metadata"]["uid"]
            and "deletionTimestamp" not in now["metadata"]
            and _has_running_proxy(now)
        )
    return True


def _text_of(config_map: Object) -> str:
    return str((config_map.get("data") or {}).get(ROOT, ""))


def _written(obj: Object) -> datetime:
    metadata: Mapping[str, object] = obj["metadata"]
    fields: Sequence[Mapping[str, str]] = obj["metadata"].get("managedFields") or []
    times = [entry["time"] for entry in fields if entry.get("time")] or [str(metadata["creationTimestamp"])]
    return max(datetime.fromisoformat(time) for time in times)


def _told(roots: Sequence[str] | set[str] | frozenset[str]) -> str:
    return " and ".join(f"{root[:11]}..." for root in sorted(roots)) or "no root"
