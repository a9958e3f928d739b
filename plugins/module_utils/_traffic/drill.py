# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drain one cluster while requests continue, and restore it (private to the collection).

A Deployment that is scaled to 0 keeps its number of replicas in an annotation. Both are written in the same
request, so any later run can restore the Deployment, no matter how the drill ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from .._base.cleanup import afterwards
from .._base.errors import ExomeshError
from .._base.waiting import concurrently, in_threads, remaining, wait_until_met
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.causes import cause_in, wait_unless_it_lasts
from .._kubernetes.client import KubernetesClient
from .._kubernetes.objects import write_anew
from .._kubernetes.readiness import wait_ready
from .requests import Answer, MeshClient

REPLICAS_ANNOTATION = "exomesh.istio/drill-replicas"
"""Annotation on a Deployment that a drill scaled to 0. It holds the number of replicas from before."""

CLIENT_NAME = "exomesh-drill-client"

_BASELINE_ANSWERS = 10  # good ones in a row, before anything is drained
_POLL_SECONDS = 0.2
_REFUSED, _SAID = 400, 200
"""The first HTTP status that is no answer of the service, and the characters of its page that are shown."""


@dataclass(frozen=True)
class Service:
    """The HTTP service to which requests are sent. Its answers must name the pod that sent them."""

    namespace: str
    name: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.name}.{self.namespace}.svc.cluster.local:{self.port}/"


@dataclass(frozen=True)
class Limits:
    """The times of a drill, in seconds, and its rate of requests.

    :param within: the time within which requests must move to other clusters.
    :param hold: the time for which they must then succeed.
    :param ready: the time that each of these may take: clients become ready, requests succeed before the
        drain, drained Deployments become ready again, and requests return.
    :param per_second: requests per second of each client.
    """

    within: float
    hold: float
    ready: float
    per_second: float

    def require_time(self) -> None:
        """Check, before anything is drained, that there is time for the drill and for the restoration.

        :raises ExomeshError: ``too_late``.
        """
        needed = self.within + self.hold
        if (left := remaining()) < needed:
            raise ExomeshError(
                f"Nothing was drained: {left:.0f} s are left, and requests may take {needed:.0f} s to move",
                "too_late",
                cause="Until the clients were ready and the service worked, the rest of the time was over",
                next_step="Give the drill more time (failover_drill_timeout)",
            )


@dataclass
class Figures:
    """The figures of one client. Seconds count from the drain, or from the restoration."""

    client: str
    answered_by_before: list[str]
    answered_by_drained: list[str] = field(default_factory=list)
    sent: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    first_answer_elsewhere: float | None = None
    stable_after: float | None = None
    back_after: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        """Return the figures as a line for people."""

        def seconds(value: float | None) -> str:
            return "never" if value is None else f"{value:.1f} s"

        text = (
            f"asked from {self.client}: answered by {', '.join(self.answered_by_before)}, drained by "
            f"{', '.join(self.answered_by_drained) or 'nobody'}; {self.sent} requests, {self.failed} failed"
        )
        if self.errors:
            text += f" ({', '.join(self.errors)})"
        if self.answered_by_before == self.answered_by_drained:
            return text
        return (
            f"{text}; first answer from elsewhere after {seconds(self.first_answer_elsewhere)}, stable after "
            f"{seconds(self.stable_after)}, back after {seconds(self.back_after)}"
        )


def targets(client: KubernetesClient, service: Service, gateways: Sequence[str]) -> list[Object]:
    """Return the Deployments to drain: those behind the service, and the gateways.

    :raises ExomeshError: ``nothing_to_drain``.
    """
    found = client.get(ObjectRef("v1", "Service", service.name, service.namespace))
    selector = (found or {}).get("spec", {}).get("selector") or {}
    deployments = [
        deployment
        for deployment in client.list_objects("apps/v1", "Deployment", service.namespace)
        if selector
        and selector.items() <= (deployment["spec"]["template"]["metadata"].get("labels") or {}).items()
        and deployment["spec"].get("replicas", 1) > 0
    ]
    if not deployments:
        raise ExomeshError(
            f"No Deployment with pods is behind service {service.namespace}/{service.name}",
            "nothing_to_drain",
            cluster=client.name,
            next_step="Name a cluster that answers for the service, or another service",
        )
    for gateway in gateways:
        namespace, _slash, name = gateway.partition("/")
        deployment = client.get(ObjectRef("apps/v1", "Deployment", name, namespace))
        if deployment is None:
            raise ExomeshError(
                f"There is no gateway {gateway}",
                "nothing_to_drain",
                cluster=client.name,
                next_step="Correct the name, or leave gateways alone",
            )
        deployments.append(deployment)
    return deployments


def left_behind(client: KubernetesClient) -> list[ObjectRef]:
    """Return the Deployments that a drill has scaled to 0 and not restored."""
    return [
        ObjectRef.of(deployment)
        for deployment in client.list_objects("apps/v1", "Deployment")
        if REPLICAS_ANNOTATION in (deployment["metadata"].get("annotations") or {})
    ]


def restore(client: KubernetesClient, timeout: float) -> list[ObjectRef]:
    """Restore the replicas that a drill took, and wait until they are ready. Return what was restored.

    :raises ExomeshError: ``not_ready``.
    """
    refs = give_back(client)
    wait_ready(client, refs, timeout)
    return refs


def give_back(client: KubernetesClient) -> list[ObjectRef]:
    """Restore the replicas that a drill took, and return the Deployments that have them again."""
    refs = left_behind(client)

    def edit(deployment: Object) -> None:
        replicas = deployment["metadata"]["annotations"].pop(REPLICAS_ANNOTATION, None)
        if replicas is not None and not deployment["spec"].get("replicas"):
            deployment["spec"]["replicas"] = int(replicas)

    concurrently(lambda ref: _edit(client, ref, edit), refs)
    return refs


def drain(client: KubernetesClient, refs: Sequence[ObjectRef]) -> None:
    """Scale the Deployments to 0. Each keeps its number of replicas in an annotation."""

    def take(deployment: Object) -> None:
        replicas = deployment["spec"].get("replicas", 1)
        if replicas:
            notes = deployment["metadata"].setdefault("annotations", {})
            notes[REPLICAS_ANNOTATION] = str(replicas)
            deployment["spec"]["replicas"] = 0

    concurrently(lambda ref: _edit(client, ref, take), refs)


def _edit(client: KubernetesClient, ref: ObjectRef, change: Callable[[Object], None]) -> None:
    def write(deployment: Object | None) -> Object | None:
        if deployment is None:
            return None
        change(deployment)
        return client.replace(deployment)

    write_anew(client, ref, write)  # the Deployment's controller writes its status all the time


class Observer:
    """A client in one cluster that sends requests to the service all the time, and remembers every answer."""

    def __init__(self, pod: MeshClient, cluster: str, service: Service, per_second: float) -> None:
        self.cluster = cluster
        self.error: ExomeshError | None = None
        self.pod = pod
        self._answers: list[Answer] = []
        self._url = service.url
        self._per_second = per_second

    def since(self, moment: float) -> list[Answer]:
        """Return the answers that came at that moment or later."""
        return [answer for answer in list(self._answers) if answer.at >= moment]

    def ask(self) -> None:
        """Send requests until the thread has to end."""
        try:
            for answer in self.pod.ask(self._url, self._per_second):
                self._answers.append(answer)
        except ExomeshError as error:
            self.error = error


class Drill:
    """One drill.

    :param cluster: the cluster to drain.
    :param refs: the Deployments of this cluster to drain.
    """

    def __init__(
        self,
        clients: Mapping[str, KubernetesClient],
        cluster: str,
        refs: Sequence[ObjectRef],
        service: Service,
        image: str,
        limits: Limits,
    ) -> None:
        self._clients = clients
        self._cluster = cluster
        self._refs = refs
        self._service = service
        self._limits = limits
        self._observers = [
            Observer(
                MeshClient(client, service.namespace, CLIENT_NAME, image), name, service, limits.per_second
            )
            for name, client in clients.items()
        ]
        self._pods: dict[str, str] = {}
        self._pods_read = 0.0
        self.figures: list[Figures] = []
        self.drained = False
        """Whether the drain has begun."""

    def run(self) -> None:
        """Drain the cluster, watch the requests, and restore the cluster in any case.

        :raises ExomeshError: ``traffic_not_healthy`` before the drain, ``failover_failed`` after it.
        """
        client, ready = self._clients[self._cluster], self._limits.ready
        with afterwards(*(observer.pod.remove for observer in self._observers)):
            concurrently(lambda observer: observer.pod.start(ready), self._observers)
            with in_threads(*(observer.ask for observer in self._observers)):
                self._look_before()
                self._limits.require_time()
                with afterwards(partial(give_back, client)):
                    drained, self.drained = time.monotonic(), True
                    drain(client, self._refs)
                    problem = wait_until_met(
                        lambda: self._unmoved(drained), self._limits.within + self._limits.hold, _POLL_SECONDS
                    )
                    restored = time.monotonic()
                    self._look_drained(drained, restored)
                try:
                    wait_ready(client, list(self._refs), ready)
                    self._look_restored(restored)
                except ExomeshError:
                    if not problem:
                        raise
        if problem:
            raise ExomeshError(
                f"Requests did not move within {self._limits.within:.0f} s: {problem}",
                "failover_failed",
                cluster=self._cluster,
                cause=(
                    "no other cluster answers for the service, its DestinationRule has no outlier detection, "
                    "or another cluster's gateway does not work"
                ),
                next_step="The cluster is restored. Run playbook exomesh.istio.verify",
                details={"figures": [figures.as_dict() for figures in self.figures]},
            )

    def report(self) -> list[str]:
        """Return what was drained and the figures, as lines for people; empty if nothing was drained."""
        if not self.drained:
            return []
        drained = f"drained in {self._cluster}: {', '.join(map(str, self._refs))}"
        return [drained, *(figures.line() for figures in self.figures)]

    def _look_before(self) -> None:
        """Check that the service works, and note which clusters answer each client."""

        def unmet() -> str | None:
            for observer in self._observers:
                answers = observer.since(0)[-_BASELINE_ANSWERS:]
                good = [answer for answer in answers if self._answered_by(answer)]
                if len(good) < _BASELINE_ANSWERS:
                    return f"asked from {observer.cluster}, {self._what_is_wrong(observer, answers)}"
            return None

        problem = wait_unless_it_lasts(unmet, self._limits.ready, _POLL_SECONDS)
        if problem:
            cause = cause_in(problem)
            raise ExomeshError(
                f"Nothing was drained, as the service does not work: {problem}",
                "traffic_not_healthy",
                cause=cause.told if cause else None,
                next_step=cause.next_step()
                if cause
                else "Run playbook exomesh.istio.verify, and look at the service",
            )
        self.figures = [
            Figures(observer.cluster, self._clusters(observer.since(0)[-_BASELINE_ANSWERS:]))
            for observer in self._observers
        ]
        if not any(self._cluster in figures.answered_by_before for figures in self.figures):
            raise ExomeshError(
                f"Nothing was drained, as {self._cluster} answers nobody's requests: nothing would move",
                "nothing_to_drain",
                next_step="Drain a cluster that answers: "
                + "; ".join(f"{f.client} asks {', '.join(f.answered_by_before)}" for f in self.figures),
            )

    def _what_is_wrong(self, observer: Observer, answers: Sequence[Answer]) -> str:
        if observer.error:
            return str(observer.error)
        failed = [answer for answer in answers if answer.failed]
        if failed:
            return f"the last answer was {failed[-1].error or failed[-1].status}"
        if answers and answers[-1].status >= _REFUSED:
            return f"the last answer was {answers[-1].status}: {answers[-1].body.strip()[:_SAID]}"
        if answers and not self._answered_by(answers[-1]):
            return "answers do not name a pod of the service, so that nobody can tell which cluster gave them"
        return f"{len(answers)} of {_BASELINE_ANSWERS} answers came"

    def _unmoved(self, drained: float) -> str | None:
        """Return which client's requests have not moved, or not succeeded for long enough, or None."""
        now = time.monotonic()
        for observer in self._observers:
            if observer.error:
                raise observer.error
            settled = self._settled(observer, drained)
            answers = observer.since(settled)
            if not any(self._answered_by(answer) for answer in answers if answer.at > settled):
                return f"asked from {observer.cluster}, nobody else answers"
            if now - settled < self._limits.hold:
                return f"asked from {observer.cluster}, the last failure is {now - settled:.1f} s ago"
        return None

    def _settled(self, observer: Observer, drained: float) -> float:
        """Return when the last answer came that failed, or that the drained cluster gave."""
        bad = [
            answer.at
            for answer in observer.since(drained)
            if answer.failed or self._answered_by(answer) == self._cluster
        ]
        return max(bad, default=drained)

    def _look_drained(self, drained: float, end: float) -> None:
        for observer, figures in zip(self._observers, self.figures, strict=True):
            answers = [answer for answer in observer.since(drained) if answer.at <= end]
            settled = self._settled(observer, drained)
            elsewhere = [a.at for a in answers if self._answered_by(a) not in (None, self._cluster)]
            figures.sent = len(answers)
            figures.failed = sum(answer.failed for answer in answers)
            figures.errors = _errors(answers)
            figures.answered_by_drained = self._clusters([a for a in answers if a.at > settled])
            figures.first_answer_elsewhere = round(min(elsewhere) - drained, 2) if elsewhere else None
            figures.stable_after = round(settled - drained, 2) if end - settled >= self._limits.hold else None

    def _look_restored(self, restored: float) -> None:
        """Note which clients get answers of the drained cluster again, and when."""
        waiting = {
            observer.cluster: figures
            for observer, figures in zip(self._observers, self.figures, strict=True)
            if self._cluster in figures.answered_by_before
        }

        def unmet() -> str | None:
            for observer in self._observers:
                if observer.cluster in waiting:
                    back = [a.at for a in observer.since(restored) if self._answered_by(a) == self._cluster]
                    if back:
                        waiting.pop(observer.cluster).back_after = round(min(back) - restored, 2)
            return ", ".join(waiting) or None

        wait_until_met(unmet, self._limits.ready, _POLL_SECONDS)

    def _clusters(self, answers: Sequence[Answer]) -> list[str]:
        return sorted({cluster for answer in answers if (cluster := self._answered_by(answer))})

    def _answered_by(self, answer: Answer) -> str | None:
        """Return the cluster whose pod the answer names; None for a failed answer or an unknown pod."""
        if answer.failed:
            return None
        found = self._cluster_in(answer.body)
        if found is None and time.monotonic() - self._pods_read > 1:
            self._read_pods()
            found = self._cluster_in(answer.body)
        return found

    def _cluster_in(self, body: str) -> str | None:
        return next((cluster for pod, cluster in self._pods.items() if pod in body), None)

    def _read_pods(self) -> None:
        """Read the names of the pods that exist. The names of deleted pods stay known."""
        for name, client in self._clients.items():
            for pod in client.list_objects("v1", "Pod", self._service.namespace):
                self._pods[pod["metadata"]["name"]] = name
        self._pods_read = time.monotonic()


def _errors(answers: Sequence[Answer]) -> list[str]:
    counted = Counter(answer.error or f"status {answer.status}" for answer in answers if answer.failed)
    return [f"{count} x {what}" for what, count in counted.most_common(3)]
