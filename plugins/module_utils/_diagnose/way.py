# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a request: who sends it, where it goes, and what was seen of it (private to the collection)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .._kubernetes.api import Object
from .._verify.state import ClusterState, name_of
from .envoy import EnvoyConfig
from .request import Sent
from .routes import Request

OK, FOLLOWS, STOP, UNTOLD, UNKNOWN = "ok", "follows", "stop", "untold", "unknown"
"""The states of a step.

FOLLOWS means that the step is wrong because of a later step, which stops the way; UNTOLD that nobody can tell
whether it is well; UNKNOWN that nobody looked at it.
"""


@dataclass(frozen=True)
class Service:
    """The service to which the request is sent."""

    name: str
    namespace: str
    port: int

    @property
    def host(self) -> str:
        return f"{self.name}.{self.namespace}.svc.cluster.local"

    @property
    def request(self) -> Request:
        return Request(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}:{self.port}"


@dataclass(frozen=True)
class Target:
    """The Envoy cluster to which a route sends a request.

    :param share: the share of the requests, in percent, that goes there.
    """

    name: str
    port: int
    subset: str
    host: str
    share: float = 100.0

    @classmethod
    def of(cls, cluster: str, share: float = 100.0) -> Target | None:
        """Return the target of that name; None if it is no service, as PassthroughCluster."""
        match = re.fullmatch(r"outbound\|(\d+)\|([^|]*)\|(.+)", cluster)
        return cls(cluster, int(match[1]), match[2], match[3], share) if match else None

    @property
    def is_service(self) -> bool:
        """Return whether it is a Service of Kubernetes, and not of a ServiceEntry."""
        return self.host.endswith(".svc.cluster.local")

    @property
    def sni(self) -> str:
        return f"outbound_.{self.port}_.{self.subset}_.{self.host}"

    @property
    def service(self) -> tuple[str, str]:
        """Return the namespace and name of the Service."""
        name, namespace, *_rest = [*self.host.split("."), ""]
        return namespace, name


@dataclass(frozen=True)
class Step:
    """The result of one step of the way.

    :param told: the result in a few words.
    :param share: the share of the requests, in percent, that a stop concerns.
    """

    name: str
    state: str
    told: str = ""
    evidence: tuple[str, ...] = ()
    cause: str = ""
    next_step: str = ""
    share: float = 100.0


@dataclass
class Way:
    """Everything that was seen of the way of one request.

    :param pod: the workload that sends the request, as ``namespace/name``.
    :param asked: whether the user named the destination.
    :param known_to: by replica of istiod, what it reports of the pod's sidecar; empty if it does not know it.
    :param gateways: by member, the configuration of its gateway, if the gateway was asked.
    :param inbound: the listeners of pods that should answer, by member and pod.
    :param silent: why such pods did not tell their listeners, by member and pod.
    :param objects: objects of the source that may change what proxies do, by kind.
    :param workloads: by member, the Deployments and StatefulSets of Services that have no pods there.
    :param untold: what did not answer, and why: the name of an istiod, or that of a member for its gateway.
    :param states: all members that answered.
    :param sent: the request that was really sent, or why none was.
    """

    service: Service
    source: ClusterState
    destination: ClusterState
    pod: str
    proxy: EnvoyConfig
    asked: bool = False
    known_to: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gateways: Mapping[str, EnvoyConfig] = field(default_factory=dict)
    inbound: Mapping[tuple[str, str], EnvoyConfig] = field(default_factory=dict)
    silent: Mapping[tuple[str, str], str] = field(default_factory=dict)
    objects: Mapping[str, Sequence[Object]] = field(default_factory=dict)
    workloads: Mapping[str, Sequence[Object]] = field(default_factory=dict)
    untold: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, ClusterState] = field(default_factory=dict)
    sent: Sent = field(default_factory=Sent)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        ends = {state.name: state for state in (self.source, self.destination)}
        self.states = {**self.states, **ends}

    def crosses(self, state: ClusterState) -> bool:
        """Return whether a request has to go through the gateway of a cluster."""
        return self.source.member.network != state.member.network

    @property
    def pod_namespace(self) -> str:
        return self.pod.partition("/")[0]

    @property
    def pod_name(self) -> str:
        return self.pod.partition("/")[2]

    @property
    def caller(self) -> Object:
        """Return the pod that sends the request."""
        return next(
            (pod for pod in self.source.pods if name_of(pod) == self.pod), {"metadata": {}, "spec": {}}
        )

    @property
    def identity(self) -> str:
        """Return the identity in the certificate of the workload that sends the request."""
        account = (self.caller.get("spec") or {}).get("serviceAccountName", "default")
        return f"spiffe://{self.source.trust_domain}/ns/{self.pod_namespace}/sa/{account}"


def service_in(state: ClusterState, namespace: str, name: str) -> Object | None:
    return next((found for found in state.services if name_of(found) == f"{namespace}/{name}"), None)


def lines(way: Way, steps: Sequence[Step]) -> list[str]:
    """Return the way as lines for people: the request, each step, and where the way stops."""
    words = {OK: "ok", FOLLOWS: "!", STOP: "STOP", UNTOLD: "?", UNKNOWN: "-"}
    told = [f"{way.pod} in {way.source.name} asks for {way.service}, of {way.destination.name}:", ""]
    for step in steps:
        told.append(f"{words[step.state]:<6}{step.name:<15}{step.told}")
        told += [f"{'':<21}saw: {line}" for line in step.evidence]
        if step.state in (STOP, UNTOLD):
            told += [f"{'':<21}likely cause: {step.cause}"] if step.cause else []
            told += [f"{'':<21}next: {step.next_step}"] if step.next_step else []
    if unsure := untold(steps):
        told += ["", f"Whether the request arrives cannot be told: see {', '.join(unsure)}."]
    elif not any(step.state == STOP for step in steps):
        told += [
            "",
            "Every step is well. " + ("" if way.sent.made else "No request was sent. ") + "Not looked at:",
        ]
        told += ["policies of Cilium and Calico, the application itself."]
    return told


def untold(steps: Sequence[Step]) -> list[str]:
    """Return the steps of which nobody can tell whether they are well; none if a request proves the way."""
    if any(step.state == STOP for step in steps) or (steps[-1].name == "request" and steps[-1].state == OK):
        return []
    return [step.name for step in steps if step.state == UNTOLD]
