# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what is wrong with a mesh from the state that was seen (private to the collection).

Nothing here asks a cluster. Each check is a function from that state to findings. A finding that follows from
another one is not reported: a gateway without pods is one finding, not one for every peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from . import findings
from .checks_cluster import about_cluster
from .checks_mesh import about_mesh
from .checks_pair import PAIR_CHECKS
from .findings import CHECKS, UNKNOWN, Finding, Kind
from .state import MeshState, PairState


@dataclass(frozen=True)
class PairVerdict:
    """The outcome for one pair.

    :param passed: by check, whether it passed; None if another fault kept it from being looked at.
    """

    pair: PairState
    state: str
    passed: dict[str, bool | None]


@dataclass(frozen=True)
class Verdict:
    """The outcome for the whole mesh, with the worst findings first."""

    findings: list[Finding]
    pairs: list[PairVerdict]
    cluster_states: dict[str, str]

    @property
    def state(self) -> str:
        """Return ``healthy``, ``unhealthy``, or ``unknown`` if something could not be looked at."""
        worst = _worst(self.findings)
        return {"failed": "unhealthy", "unknown": "unknown"}.get(worst, "healthy")

    @property
    def healthy(self) -> bool:
        return self.state == "healthy"


def judge(mesh: MeshState) -> Verdict:
    """Return everything that is wrong, without what only follows from it."""
    of_clusters = about_clusters(mesh)
    verdicts, of_pairs = [], []
    for pair in mesh.pairs:
        verdict, found = judge_pair(pair, mesh, of_clusters)
        verdicts.append(verdict)
        of_pairs += found
    worst = list(_STATES)
    ranked = sorted([*of_clusters, *of_pairs], key=lambda finding: worst.index(finding.severity))
    states = {
        name: "failed"
        if cluster.error
        else _worst(finding for finding in of_clusters if finding.cluster == name)
        for name, cluster in mesh.clusters.items()
    }
    return Verdict(ranked, verdicts, states)


def judge_pair(
    pair: PairState, mesh: MeshState, of_clusters: Iterable[Finding]
) -> tuple[PairVerdict, list[Finding]]:
    """Judge a pair up to the first check that fails, and return the verdict with its findings.

    The checks behind it fail as a consequence, or cannot be decided.
    """
    passed: dict[str, bool | None] = dict.fromkeys(CHECKS)
    found: list[Finding] = []
    untold: list[str] = []
    state = "ok"
    for check in CHECKS:
        causes = [cause for cause in of_clusters if cause.explains(check, pair.source, pair.destination)]
        if any(cause.severity != UNKNOWN for cause in causes):
            state = "failed" if any(cause.is_error for cause in causes) else "unknown"
            break
        if causes:  # later checks may be made all the same
            state = "unknown"
        outcome, problems = PAIR_CHECKS[check](pair, mesh)
        found += problems
        if isinstance(outcome, str):
            untold += [] if causes else [f"{check}: {outcome}"]
        else:
            passed[check] = outcome
        if outcome is False:
            break
    if untold and state == "ok":
        found.append(
            Finding(findings.NOT_TOLD, source=pair.source, destination=pair.destination, evidence=untold)
        )
    return PairVerdict(pair, min(state, _worst(found), key=RANKS.index), passed), found


def about_clusters(mesh: MeshState) -> list[Finding]:
    """Return the findings about clusters, without those that follow from another about the same cluster."""
    found = list(about_mesh(mesh))
    for cluster in mesh.clusters.values():
        found += about_cluster(cluster, mesh)
    there = {(finding.cluster, finding.kind) for finding in found}
    return [
        finding
        for finding in found
        if not any((finding.cluster, cause) in there for cause in _CAUSES.get(finding.kind, ()))
    ]


_CAUSES: dict[Kind, tuple[Kind, ...]] = {
    findings.WORKLOAD_NOT_READY: (
        findings.ISTIOD_MISSING,
        findings.WORKLOAD_NOT_INJECTED,
        findings.NAMESPACE_HIDDEN,
    ),
    findings.WORKLOAD_NOT_INJECTED: (findings.ISTIOD_MISSING,),
    findings.SIDECAR_UNRESPONSIVE: (findings.WORKLOAD_NOT_READY, findings.WORKLOAD_NOT_INJECTED),
    findings.GATEWAY_NOT_READY: (findings.GATEWAY_PORT_WRONG,),
    findings.GATEWAY_NOT_EXPOSED: (findings.GATEWAY_NOT_READY, findings.GATEWAY_MISSING),
    findings.GATEWAY_WITHOUT_ADDRESS: (findings.GATEWAY_MISSING,),
}
"""For findings about a cluster: the other findings about the same cluster that explain them."""


def _worst(found: Iterable[Finding]) -> str:
    severities = {finding.severity for finding in found}
    return next((state for severity, state in _STATES.items() if severity in severities), "ok")


_STATES = {findings.ERROR: "failed", findings.UNKNOWN: "unknown", findings.WARNING: "warning"}
"""The state of a cluster or pair with a finding of this severity, worst first."""
RANKS = (*_STATES.values(), "ok")
"""All states, worst first."""
