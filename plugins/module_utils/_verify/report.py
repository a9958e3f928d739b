# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Present a verification as data, as lines for a terminal, and as JUnit XML (private to the collection).

:func:`result` returns the form that ``docs/schema/verification.schema.json`` describes. The other forms are
made from that result alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from .._base.certificates import fingerprint, time_text
from .._base.text import printable_data
from .._kubernetes.load_balancer import service_addresses
from .._kubernetes.readiness import pod_unmet
from .._trust.x509 import describe
from .judge import RANKS, PairVerdict, Verdict
from .state import ClusterState, MeshState, Sample

SCHEMA = 1

Result = dict[str, Any]

_CELLS = {"ok": "ok", "warning": "warn", "failed": "FAIL", "unknown": "?"}
_JUNIT = {"error": "failure", "unknown": "error"}
"""JUnit's element for findings of a severity. An error in JUnit is a test that could not be made."""
_WIDEST = 100
"""A matrix that is wider than this many characters shows numbers as its column titles."""
_SLOWEST = 12
"""The number of pairs whose latency is shown in the terminal, slowest first."""


def result(mesh: MeshState, verdict: Verdict, seconds: float, only: Sequence[str] = ()) -> Result:
    """Return the verification as plain data. Its texts are safe to show, although clusters wrote many."""
    reached = mesh.reached
    members = {name: cluster.member for name, cluster in mesh.clusters.items()}
    told: Result = {
        "schema": SCHEMA,
        "mesh": {
            "healthy": verdict.healthy,
            "state": verdict.state,
            "mode": "full" if mesh.full else "status",
            **({"proved": time_text(mesh.proved)} if mesh.proved else {}),
            "begun": time_text(mesh.now),
            "seconds": round(seconds, 2),
            "roots": sorted({fingerprint(root) for cluster in reached for root in cluster.running_roots}),
            "trust_domains": sorted({cluster.trust_domain for cluster in reached}),
            **({"only": sorted(only)} if only else {}),
        },
        "clusters": [
            _cluster(cluster, verdict.cluster_states[name], mesh) for name, cluster in mesh.clusters.items()
        ],
        "pairs": [_pair(pair) for pair in verdict.pairs],
        "findings": [finding.as_dict(members) for finding in verdict.findings],
    }
    return dict(printable_data(told))


def lines(verification: Result) -> list[str]:
    """Return the verification as lines for people: the matrix of pairs, latencies, rights and findings."""
    told = matrix(verification) + latencies(verification) + rights(verification)
    if proved := verification["mesh"].get("proved"):
        told += [
            "",
            f"No requests were sent: at {proved} they got through for every pair,",
            "and nothing that they depended on has changed since.",
        ]
    elif verification["mesh"]["mode"] == "status":
        told += ["", "Only what can be read was looked at, and no requests were sent."]
    for finding in verification["findings"]:
        place = finding.get("cluster") or f"{finding['source']} -> {finding['destination']}"
        told += [
            "",
            f"{finding['severity']} [{place}] {_explained(finding).replace(chr(10), chr(10) + '    ')}",
        ]
    return [line for text in told for line in (text.split("\n") if text else [""])]


def matrix(verification: Result) -> list[str]:
    """Return a table of all pairs: a row for each source, worst first, and a column for each destination."""
    states = {(pair["source"], pair["destination"]): pair["state"] for pair in verification["pairs"]}
    sent = verification["mesh"]["mode"] == "full" or "proved" in verification["mesh"]
    good = _CELLS["ok"] if sent else "ready"
    names = [cluster["name"] for cluster in verification["clusters"]]

    def badness(source: str) -> list[int]:
        # Most failures first. Sources with equal counts keep the order of the inventory.
        mine = [state for (begin, _end), state in states.items() if begin == source]
        return [-mine.count(state) for state in RANKS[:-1]]

    def cell(source: str, destination: str) -> str:
        state = states.get((source, destination))
        if state is None:
            return "-"
        return good if state == "ok" else _CELLS[state]

    corner = "from \\ to"
    width = max(len(name) for name in names) + 2
    numbered = width * (len(names) + 1) > _WIDEST
    titles = {name: f"{number}:{name}" if numbered else name for number, name in enumerate(names, 1)}
    first = max(len(text) for text in [corner, *titles.values()]) + 2
    columns = [title.partition(":")[0] for title in titles.values()] if numbered else names
    others = max(6, *(len(column) + 2 for column in columns))
    rows = [[corner, *columns]]
    rows += [[titles[name], *(cell(name, other) for other in names)] for name in sorted(names, key=badness)]
    return [(row[0].ljust(first) + "".join(text.ljust(others) for text in row[1:])).rstrip() for row in rows]


def latencies(verification: Result) -> list[str]:
    """Return lines with the median and 99th percentile of the slowest pairs; none if nothing was measured."""
    measured = [pair for pair in verification["pairs"] if pair["latency"] and pair["latency"]["kept"]]
    measured.sort(key=lambda pair: float(pair["latency"]["kept"]["median_ms"]), reverse=True)
    if not measured:
        return []
    rows = [
        [
            f"{pair['source']} -> {pair['destination']}",
            *(_told(pair["latency"][kind]) for kind in ("kept", "new")),
        ]
        for pair in measured[:_SLOWEST]
    ]
    rows.insert(0, ["median / p99 in ms", "kept connection", "new connection"])
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(3)]
    told = [
        "".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    more = len(measured) - _SLOWEST
    return ["", *told, *([f"and {more} quicker pairs"] if more > 0 else [])]


def rights(verification: Result) -> list[str]:
    """Return what the accounts of the remote secrets may read in the peers. Equal pairs share a line."""
    pairs: dict[tuple[tuple[str, bool], ...], list[str]] = {}
    for pair in verification["pairs"]:
        if pair["rights"]:
            held = tuple(pair["rights"].items())
            pairs.setdefault(held, []).append(f"{pair['source']} -> {pair['destination']}")
    told = []
    for held, places in pairs.items():
        where = "all" if len(pairs) == 1 else ", ".join(places)
        may, may_not = (", ".join(right for right, yes in held if yes is wanted) for wanted in (True, False))
        told.append(f"{where}: may {may or 'nothing'}" + (f"; may not {may_not}" if may_not else ""))
    return ["", "Accounts of remote secrets, in the destination:", *told] if told else []


def junit(verification: Result) -> str:
    """Return the verification as JUnit XML: a test suite for the clusters, and one for each source."""
    verification = printable_data(verification)  # XML cannot represent some characters
    root = ElementTree.Element("testsuites", name="mesh")
    findings = verification["findings"]
    clusters = [cluster["name"] for cluster in verification["clusters"]]
    cases = [(name, [f for f in findings if f.get("cluster") == name]) for name in clusters]
    _suite(root, "clusters", [(name, found, None) for name, found in cases])
    for source in clusters:
        rows = []
        for pair in verification["pairs"]:
            if pair["source"] == source:
                destination = pair["destination"]
                found = [
                    f for f in findings if (f.get("source"), f.get("destination")) == (source, destination)
                ]
                rows.append((f"{source} -> {destination}", found, pair["state"]))
        if rows:
            _suite(root, f"pairs from {source}", rows)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", str(verification["mesh"]["seconds"]))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(
    root: ElementTree.Element, name: str, cases: Sequence[tuple[str, list[Mapping[str, Any]], str | None]]
) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=name, tests=str(len(cases)))
    counts = {"failure": 0, "error": 0, "skipped": 0}
    for title, found, state in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"mesh.{name}", name=title)
        for severity, tag in _JUNIT.items():
            if told := [finding for finding in found if finding["severity"] == severity]:
                counts[tag] += 1
                message = "; ".join(f"{finding['code']}: {finding['message']}" for finding in told)
                failure = ElementTree.SubElement(case, tag, type=told[0]["code"], message=message)
                failure.text = "\n\n".join(map(_explained, told))
                break
        else:
            if state in ("failed", "unknown"):
                counts["skipped"] += 1
                ElementTree.SubElement(
                    case, "skipped", message="a finding about one of the two clusters explains it"
                )
        if warnings := [finding for finding in found if finding["severity"] == "warning"]:
            ElementTree.SubElement(case, "system-out").text = "\n\n".join(map(_explained, warnings))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    suite.set("skipped", str(counts["skipped"]))


def _explained(finding: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            f"{finding['code']}: {finding['message']}",
            *(f"saw: {line}" for line in finding["evidence"]),
            f"likely cause: {finding['cause']}",
            f"next: {finding['next_step']}",
            f"more: {finding['link']}",
        ]
    )


def _cluster(cluster: ClusterState, state: str, mesh: MeshState) -> Result:
    there = cluster.client is not None
    return {
        "name": cluster.name,
        "network": cluster.member.network,
        "zone": cluster.member.zone,
        "state": state,
        "kubernetes_version": cluster.kubernetes_version,
        "istio_version": cluster.istio_version,
        "trust_domain": cluster.trust_domain if there else None,
        "dns_capture": cluster.dns_capture if there else None,
        "clock_skew_seconds": None if cluster.clock_skew is None else round(cluster.clock_skew, 1),
        "istiods": [{"name": istiod.name, "ready": istiod.unmet is None} for istiod in cluster.istiods],
        "gateways": [
            {
                "name": service["metadata"]["name"],
                "addresses": service_addresses(service),
                "pods": len(pods := cluster.gateway_pods(service)),
                "ready_pods": sum(pod_unmet(pod) is None for pod in pods),
            }
            for service in cluster.gateway_services
        ],
        "certificates": [
            {
                "role": seen.role,
                "where": seen.where,
                **describe(seen.certificate),
                "days_left": seen.days_left(mesh.now),
            }
            for seen in cluster.certificates
        ],
    }


def _pair(verdict: PairVerdict) -> Result:
    pair, answer = verdict.pair, verdict.pair.answer
    words = {None: "unknown", True: "passed", False: "failed"}
    return {
        "source": pair.source,
        "destination": pair.destination,
        "state": verdict.state,
        "checks": [{"name": name, "state": words[passed]} for name, passed in verdict.passed.items()],
        "answered_by": (answer and answer.cluster) or None,
        "upstream": (answer and answer.upstream) or None,
        "source_identity": (answer and answer.source_identity) or None,
        "destination_identity": (answer and answer.destination_identity) or None,
        "latency": {"new": _sample(pair.new), "kept": _sample(pair.kept)} if pair.kept or pair.new else None,
        "rights": pair.rights,
    }


def _sample(sample: Sample | None) -> Result | None:
    if sample is None:
        return None
    return {
        "requests": len(sample.times),
        "median_ms": round(sample.quantile(0.5), 2),
        "p99_ms": round(sample.quantile(0.99), 2),
    }


def _told(sample: Mapping[str, Any] | None) -> str:
    return f"{sample['median_ms']:.1f} / {sample['p99_ms']:.1f}" if sample else "-"
