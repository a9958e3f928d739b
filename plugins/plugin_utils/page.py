# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render a verification as one self-contained HTML page (private to the collection).

The verification has the form of ``docs/schema/verification.schema.json``. The page loads nothing, and needs
no script to be read. All texts of the verification are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..module_utils._base.text import printable_data

FOLDER = Path(__file__).parent

CA_THRESHOLDS = (60, 30, 7)
"""Days before a CA expires from which the page shows a notice, a warning and an alarm."""

MOST_WITH_LABELS = 4
"""With more clusters than this, the picture labels only the pairs that are not ok."""

MOST_IN_FULL = 6
"""With more clusters than this, the picture shows only their names, and comes after the matrix."""

MOST_IN_WIDE_PICTURE = 16
MOST_IN_NARROW_PICTURE = 10

_LEVELS = ("ok", "notice", "warning", "critical", "ended")
_STATE_OF_LEVEL = {
    "ok": "ok",
    "notice": "warning",
    "warning": "warning",
    "critical": "failed",
    "ended": "failed",
}
_WORST_FIRST = ("failed", "warning", "unknown", "ok")
_RING_RADIUS = 30


def html(verification: Mapping[str, Any]) -> str:
    """Return the page. ``verification`` has the form of the published schema."""
    verification = printable_data(verification)
    # S701 wants autoescape to be on; it is.
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(moment=_moment, milliseconds=_milliseconds)
    clusters, pairs = verification["clusters"], verification["pairs"]
    certificates = certificate_clocks(clusters)
    by_pair = {(pair["source"], pair["destination"]): pair for pair in pairs}
    return environment.get_template("page.html.j2").render(
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        schema=verification["schema"],
        mesh=verification["mesh"],
        clusters=clusters,
        pairs=pairs,
        by_pair=by_pair,
        not_ok=sorted((pair for pair in pairs if pair["state"] != "ok"), key=_worst_first),
        findings=verification["findings"],
        many=len(clusters) > MOST_IN_FULL,
        pictures=pictures(clusters, pairs),
        certificates=certificates,
        first_to_end=min(certificates, key=lambda clock: clock.days_left, default=None),
        slowest=max(
            ((latency, pair) for pair in pairs if (latency := latency_of(pair)) is not None),
            key=lambda item: item[0],
            default=None,
        ),
        thresholds=CA_THRESHOLDS,
        ring=2 * math.pi * _RING_RADIUS,
        ring_radius=_RING_RADIUS,
        label_of=label_of,
    )


def latency_of(pair: Mapping[str, Any]) -> float | None:
    """Return the median of requests over a kept connection, or else over new ones, in milliseconds."""
    for sample in ("kept", "new"):
        told = (pair["latency"] or {}).get(sample)
        if told:
            return float(told["median_ms"])
    return None


def label_of(pair: Mapping[str, Any]) -> str:
    """Return a short label of a pair: how quick it is, or at which check it breaks."""
    if pair["state"] == "failed":
        # A check that fails because of its cluster is left unknown. The way breaks at such a check, too.
        for state in ("failed", "unknown"):
            if broken := [check["name"] for check in pair["checks"] if check["state"] == state]:
                return str(broken[0])
        return "failed"
    latency = latency_of(pair)
    return str(pair["state"]) if latency is None else _milliseconds(latency)


def _worst_first(pair: Mapping[str, Any]) -> int:
    return _WORST_FIRST.index(pair["state"])


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _moment(text: str) -> str:
    """Return an ISO 8601 date and time in a form for people."""
    return text.replace("T", " ").replace("Z", " UTC")


# Certificates


@dataclass(frozen=True)
class Clock:
    """The life of a CA that is left.

    :param owners: the clusters in which the CA was seen.
    :param left: the share of its life that is left, from 0 to 1.
    :param marks: the thresholds, as shares of its life.
    """

    role: str
    owners: list[str]
    certificate: Mapping[str, Any]
    left: float
    marks: list[float]
    level: str

    @property
    def days_left(self) -> int:
        return int(self.certificate["days_left"])

    @property
    def state(self) -> str:
        return _STATE_OF_LEVEL[self.level]


def certificate_clocks(clusters: Sequence[Mapping[str, Any]]) -> list[Clock]:
    """Return every CA once: first the roots, then the intermediates in the clusters' order."""
    seen: dict[tuple[str, str], Clock] = {}
    for role in ("root", "intermediate"):
        for cluster in clusters:
            for certificate in cluster["certificates"]:
                if certificate["role"] != role:
                    continue
                clock = seen.setdefault((role, certificate["fingerprint"]), _clock(role, certificate))
                if cluster["name"] not in clock.owners:
                    clock.owners.append(cluster["name"])
    return list(seen.values())


def _clock(role: str, certificate: Mapping[str, Any]) -> Clock:
    begins, ends = (_parsed(certificate[key]) for key in ("not_before", "not_after"))
    days = max((ends - begins).total_seconds() / 86400, 1.0)
    days_left = certificate["days_left"]
    passed = sum(days_left < threshold for threshold in CA_THRESHOLDS)
    return Clock(
        role,
        [],
        certificate,
        left=min(max(days_left / days, 0.0), 1.0),
        marks=[threshold / days for threshold in CA_THRESHOLDS if threshold < days],
        level="ended" if days_left < 0 else _LEVELS[passed],
    )


def _parsed(moment: str) -> datetime:
    return datetime.fromisoformat(moment.replace("Z", "+00:00"))


# The picture of the mesh


@dataclass(frozen=True)
class Layout:
    """The layout of a picture.

    :param card: whether clusters are cards with all details, or only show their names.
    :param labels: whether each pair has a line and a label of its own, even if it is ok.
    :param room: the number of characters of a cluster's name that fit.
    :param first_angle: the first cluster's place on the ellipse in degrees; 0 is on the right, 90 at the
        bottom.
    :param least_bow: the minimum distance by which a line bends to its right.
    """

    width: int
    height: int
    node_width: int
    node_height: int
    card: bool
    labels: bool
    room: int
    first_angle: float
    margin_x: int = 6
    margin_y: int = 6
    least_bow: int = 30


@dataclass(frozen=True)
class Node:
    """A cluster in the picture; ``x`` and ``y`` are its centre."""

    cluster: Mapping[str, Any]
    x: float
    y: float
    width: int
    height: int
    name: str
    lines: list[str]
    gateway: str

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    def edge_towards(self, x: float, y: float) -> tuple[float, float]:
        """Return where a straight line from the centre towards (x, y) leaves the node."""
        dx, dy = x - self.x, y - self.y
        margin = 5
        scale = min(
            (self.width / 2 + margin) / abs(dx) if dx else math.inf,
            (self.height / 2 + margin) / abs(dy) if dy else math.inf,
        )
        return self.x + dx * scale, self.y + dy * scale


@dataclass(frozen=True)
class Edge:
    """The way from one cluster to another, or both ways if ``arrow`` is empty.

    :param path: the line, as an SVG path.
    :param arrow: points of the arrow's head.
    :param label: the text at (``label_x``, ``label_y``); may be empty.
    """

    state: str
    path: str
    arrow: str = ""
    label: str = ""
    label_x: float = 0
    label_y: float = 0

    @property
    def label_width(self) -> float:
        return 32 + 7.8 * len(self.label)


@dataclass(frozen=True)
class Picture:
    """A drawing of the mesh for one kind of screen."""

    kind: str
    layout: Layout
    nodes: list[Node]
    edges: list[Edge]


def pictures(clusters: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Return a picture for wide screens and paper, and one for phones, unless there are too many clusters."""
    count = len(clusters)
    drawn = []
    if 2 <= count <= MOST_IN_WIDE_PICTURE:
        drawn.append(_drawn("wide", _wide_layout(count), clusters, pairs))
    if 2 <= count <= MOST_IN_NARROW_PICTURE:
        drawn.append(_drawn("narrow", _narrow_layout(count), clusters, pairs))
    return drawn


def _wide_layout(count: int) -> Layout:
    # With an even number, two clusters are at the top. That uses the width.
    first = 180.0 if count == 2 else -90 - (180 / count if count % 2 == 0 else 0)
    if count <= MOST_WITH_LABELS:
        height = {2: 230, 3: 430, 4: 480}[count]
        return Layout(960, height, 214, 104, True, True, room=21, first_angle=first, margin_x=36, margin_y=36)
    if count <= MOST_IN_FULL:
        return Layout(960, 560, 214, 104, True, False, room=21, first_angle=first)
    return Layout(960, 620, 136, 36, False, False, room=14, first_angle=first)


def _narrow_layout(count: int) -> Layout:
    if count == 2:
        return Layout(344, 440, 214, 104, True, True, room=21, first_angle=-90, least_bow=110)
    if count <= MOST_WITH_LABELS:
        first = -90.0 if count == 3 else -135.0
        return Layout(344, 380, 108, 34, False, True, room=10, first_angle=first, margin_y=36)
    return Layout(344, 560, 80, 28, False, False, room=7, first_angle=-90)


def _drawn(
    kind: str, layout: Layout, clusters: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]
) -> Picture:
    places = _places(layout, len(clusters))
    nodes = {
        cluster["name"]: _node(layout, cluster, *place)
        for cluster, place in zip(clusters, places, strict=True)
    }
    middle = 0.5 if len(clusters) == 2 else 0.36
    states = {(pair["source"], pair["destination"]): pair["state"] for pair in pairs}
    edges = []
    for pair in pairs:
        ends = pair["source"], pair["destination"]
        if not set(ends) <= set(nodes):
            continue
        source, destination = (nodes[name] for name in ends)
        if not layout.labels and states[ends] == states.get(ends[::-1]) == "ok":
            if ends < ends[::-1]:
                edges.append(_both_ways(source, destination))
        else:
            edges.append(_one_way(pair, source, destination, middle, layout))
    # Pairs with faults are drawn last, over the others.
    edges.sort(key=lambda edge: -_WORST_FIRST.index(edge.state))
    return Picture(kind, layout, list(nodes.values()), edges)


def _places(layout: Layout, count: int) -> list[tuple[float, float]]:
    """Return the centres of `count` nodes around an ellipse that fills the picture's width and height."""
    angles = [math.radians(layout.first_angle + 360 * number / count) for number in range(count)]
    margin_x = layout.node_width / 2 + layout.margin_x
    margin_y = layout.node_height / 2 + layout.margin_y
    across = _spread([math.cos(angle) for angle in angles], layout.width, margin_x)
    down = _spread([math.sin(angle) for angle in angles], layout.height, margin_y)
    return list(zip(across, down, strict=True))


def _spread(values: list[float], size: float, margin: float) -> list[float]:
    low, high = min(values), max(values)
    if high - low < 0.01:
        return [size / 2] * len(values)
    return [round(margin + (value - low) / (high - low) * (size - 2 * margin), 1) for value in values]


def _node(layout: Layout, cluster: Mapping[str, Any], x: float, y: float) -> Node:
    gateways = cluster["gateways"]
    addresses = [address for gateway in gateways for address in gateway["addresses"]]
    return Node(
        cluster,
        x,
        y,
        layout.node_width,
        layout.node_height,
        _shortened(cluster["name"], layout.room),
        [
            _shortened(cluster["zone"] or "zone not known", layout.room + 4),
            _shortened(cluster["network"], layout.room + 4),
        ],
        _shortened(", ".join(addresses) if addresses else "no gateway address", layout.room + 2),
    )


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _both_ways(source: Node, destination: Node) -> Edge:
    (x1, y1), (x2, y2) = (
        source.edge_towards(destination.x, destination.y),
        destination.edge_towards(source.x, source.y),
    )
    return Edge("ok", f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}")


def _one_way(pair: Mapping[str, Any], source: Node, destination: Node, middle: float, layout: Layout) -> Edge:
    """Return a line that bends to its right, so that the two ways between two clusters do not meet."""
    dx, dy = destination.x - source.x, destination.y - source.y
    distance = math.hypot(dx, dy) or 1.0
    bow = max(0.16 * distance, layout.least_bow) if layout.labels else 14.0
    bend_x = (source.x + destination.x) / 2 - dy / distance * bow
    bend_y = (source.y + destination.y) / 2 + dx / distance * bow
    x1, y1 = source.edge_towards(bend_x, bend_y)
    x2, y2 = destination.edge_towards(bend_x, bend_y)
    ahead_x, ahead_y = x2 - bend_x, y2 - bend_y
    length = math.hypot(ahead_x, ahead_y) or 1.0
    ahead_x, ahead_y = ahead_x / length, ahead_y / length
    head = 11
    back_x, back_y = x2 - ahead_x * head, y2 - ahead_y * head
    corners = (
        (x2, y2),
        (back_x - ahead_y * head / 2, back_y + ahead_x * head / 2),
        (back_x + ahead_y * head / 2, back_y - ahead_x * head / 2),
    )
    rest = 1 - middle
    return Edge(
        pair["state"],
        f"M{x1:.1f} {y1:.1f}Q{bend_x:.1f} {bend_y:.1f} {back_x:.1f} {back_y:.1f}",
        " ".join(f"{x:.1f},{y:.1f}" for x, y in corners),
        label_of(pair) if layout.labels or (layout.card and pair["state"] != "ok") else "",
        round(rest * rest * x1 + 2 * rest * middle * bend_x + middle * middle * x2, 1),
        round(rest * rest * y1 + 2 * rest * middle * bend_y + middle * middle * y2, 1),
    )
