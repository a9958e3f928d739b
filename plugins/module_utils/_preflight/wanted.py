# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wanted installation, as input of the preflight checks (private to the collection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .capacity import Amount, Pod


@dataclass(frozen=True)
class Workload:
    """A Deployment to be installed, with what each of its pods requests, and where the pods may be."""

    name: str
    replicas: int
    request: Amount
    tolerations: Sequence[Mapping[str, Any]] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)

    def pods(self, running: int) -> list[Pod]:
        """Return the pods that are still to come."""
        name = f"{self.name} ({self.request})"
        pod = Pod(name, self.request, self.tolerations, self.node_selector)
        return [pod] * (self.replicas - running)


@dataclass(frozen=True)
class Wanted:
    """The wanted installation.

    :param owner: name of the IstioOperator of istiod.
    :param trust_domains: the trust domains of all members, by name of the member.
    :param annotations: the annotations of the east-west gateway's Service.
    :param accepted: codes of checks that only warn when they fail.
    :param overlay: merged over the ``spec`` of istiod's IstioOperator.
    :param gateway_overlay: merged over the ``spec`` of the gateway's IstioOperator.
    :param gateway_parameters: merged over the objects of a gateway of the Gateway API.
    :param gateway_api: whether the gateway is of the Gateway API.
    :param demo: namespace of the demo; empty without a demo.
    """

    version: str
    revision: str
    owner: str
    mesh_id: str
    cluster: str
    network: str
    trust_domain: str
    trust_domains: Mapping[str, str]
    workloads: Sequence[Workload]
    annotations: Mapping[str, str]
    max_clock_skew: float
    accepted: frozenset[str]
    overlay: Mapping[str, Any] = field(default_factory=dict)
    gateway_overlay: Mapping[str, Any] = field(default_factory=dict)
    gateway_parameters: Mapping[str, Any] = field(default_factory=dict)
    gateway_api: bool = False
    demo: str = ""

    @property
    def istiod(self) -> str:
        """Name of istiod's Deployment and Service."""
        return f"istiod-{self.revision}" if self.revision else "istiod"
