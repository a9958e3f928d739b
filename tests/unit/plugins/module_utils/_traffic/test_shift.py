# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shifts over a real HTTP server that follows the routes' weights, and real HTTP to two small APIs."""

from __future__ import annotations

import math
import random
import re
import signal
import threading
from collections.abc import Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import Interrupted
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.requests import (
    Answer,
    Tally,
    ask_urls,
    parse_answers,
)
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.route import ISTIO, route_ref
from ansible_collections.exomesh.istio.plugins.module_utils._traffic.shift import (
    UNDERWAY_ANNOTATION,
    ClusterRoute,
    Limits,
    Shift,
)
from kubernetes_api import ApiServer, Object, status

ROUTE = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/cart"
PATTERN = re.compile(r"VERSION: (\w+)")


def a_route(weights: dict[str, int], note: str | None = None) -> Object:
    destinations = [
        {"destination": {"host": "cart", "subset": version}, "weight": weight}
        for version, weight in weights.items()
    ]
    metadata: Object = {"name": "cart", "namespace": "shop"}
    if note:
        metadata["annotations"] = {UNDERWAY_ANNOTATION: note, "mine": "stays"}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": {"http": [{"route": destinations}]},
    }


class World:
    """Two clusters with the same route, and a server that answers as the route of the first one says."""

    def __init__(self, folder: Path) -> None:
        self.apis = [ApiServer(folder, name) for name in ("vie", "fra")]
        self.failing: set[str] = set()
        self.late: float = 0  # so many requests still go where the route said before it was changed
        self.asked = 0
        self._followed: dict[str, int] = {}
        self._behind = 0
        self._random = random.Random(7)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.put({"v1": 100, "v2": 0})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for api in self.apis:
            api.close()

    def put(self, *weights: dict[str, int], note: str | None = None) -> None:
        for number, api in enumerate(self.apis):
            api.put(ROUTE, a_route(weights[min(number, len(weights) - 1)], note))

    def weights(self) -> list[dict[str, int]]:
        return [
            {
                entry["destination"]["subset"]: entry["weight"]
                for entry in api.objects[ROUTE]["spec"]["http"][0]["route"]
            }
            for api in self.apis
        ]

    def notes(self) -> list[dict[str, str]]:
        return [api.objects[ROUTE]["metadata"].get("annotations", {}) for api in self.apis]

    def shift(self, **options: Any) -> Shift:
        routes = [
            ClusterRoute(
                KubernetesClient(str(api.kubeconfig), name=api.name),
                route_ref(ISTIO, "shop", "cart"),
                "v1",
                "v2",
                None,
            )
            for api in self.apis
        ]
        limits = Limits(requests=60, seconds=0.1, max_error_percent=5, settle=options.pop("settle", 0.5))
        shift = Shift(routes, "v1", "v2", options.pop("steps", [10, 50, 100]), limits, PATTERN)
        shift.ask = lambda count, seconds: ask_urls([self.url], {"Host": "cart"}, count, seconds)
        return shift

    def _split(self) -> dict[str, int]:
        split = self.weights()[0]
        if split != self._followed:
            if self._followed and self._behind < self.late:
                self._behind += 1
            else:
                self._followed, self._behind = split, 0
        return self._followed

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                world.asked += 1
                split = world._split()
                version = world._random.choices(list(split), list(split.values()))[0]
                self.send_response(500 if version in world.failing else 200)
                self.end_headers()
                self.wfile.write(f"VERSION: {version}\n".encode())

            def log_message(self, *_args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_every_step_is_checked_before_the_next(world: World) -> None:
    shift = world.shift()
    shift.run()
    assert [check.percent for check in shift.checks] == [0, 10, 50, 100]
    assert {check.tally.failed for check in shift.checks} == {0}
    assert world.weights() == [{"v1": 0, "v2": 100}] * 2
    assert world.notes() == [{}, {}]


def test_a_plan_asks_nobody_and_writes_nothing(world: World) -> None:
    assert world.shift().plan() == [10, 50, 100]
    assert world.asked == 0
    assert not [line for api in world.apis for line in api.requests if not line.startswith("GET")]


def test_what_is_done_is_not_done_again(world: World) -> None:
    world.put({"v1": 0, "v2": 100})
    shift = world.shift()
    shift.run()
    assert (shift.plan(), shift.changed, world.asked) == ([], False, 0)


def test_errors_bring_everything_back(world: World) -> None:
    world.failing = {"v2"}
    shift = world.shift()
    with pytest.raises(
        ExomeshError, match=r"Rolled back to v1, as with v2 at \d+ % .* requests failed"
    ) as caught:
        shift.run()
    assert caught.value.code == "shift_rolled_back"
    assert caught.value.cause == "After the roll-back requests are answered again"
    assert world.weights() == [{"v1": 100, "v2": 0}] * 2
    assert world.notes() == [{}, {}]
    failed = shift.checks[-2]
    assert failed.tally.failed == 4  # three may fail; then nobody asks any more
    assert "v2 at" in shift.report()[-2]


def test_proxies_may_follow_a_roll_back_late(world: World) -> None:
    world.put({"v1": 0, "v2": 100}, note="v1 to v2")
    world.failing, world.late = {"v2"}, 6
    shift = world.shift(settle=20)
    with pytest.raises(ExomeshError, match="Rolled back to v1") as caught:
        shift.run()
    assert caught.value.cause == "After the roll-back requests are answered again"
    assert [check.tally.failed for check in shift.checks] == [4, 0]


def test_a_roll_back_that_does_not_help_says_so(world: World) -> None:
    world.put({"v1": 0, "v2": 100}, note="v1 to v2")
    world.failing = {"v1", "v2"}
    with pytest.raises(ExomeshError, match="Rolled back to v1") as caught:
        world.shift().run()
    assert "After the roll-back it still does not work: 4 of" in str(caught.value.cause)


def test_nothing_is_moved_when_requests_fail_before(world: World) -> None:
    world.failing = {"v1"}
    with pytest.raises(ExomeshError, match="Nothing was moved: 4 of"):
        world.shift().run()
    assert world.weights() == [{"v1": 100, "v2": 0}] * 2
    assert not [line for api in world.apis for line in api.requests if line.startswith("PUT")]


@pytest.mark.parametrize("already_under_way", [False, True])
def test_what_nobody_foresaw_is_rolled_back(world: World, already_under_way: bool) -> None:
    if already_under_way:
        world.put({"v1": 50, "v2": 50}, note="v1 to v2")
    shift = world.shift()
    healthy = shift.ask

    def ask(count: int, seconds: float) -> Generator[Answer]:
        if world.weights()[0]["v2"]:
            raise ValueError("invalid literal for int() with base 10: 'x\x1b[2J'")
        yield from healthy(count, seconds)

    shift.ask = ask
    with pytest.raises(ExomeshError) as caught:
        shift.run()
    assert caught.value.code == "shift_rolled_back"
    assert "ValueError: invalid literal" in caught.value.message
    assert "\x1b" not in str(caught.value.fail_arguments())
    assert world.weights() == [{"v1": 100, "v2": 0}] * 2


@pytest.mark.parametrize("end", [Interrupted(signal.SIGINT), KeyboardInterrupt()])
def test_a_shift_that_is_ended_leaves_nobody_with_what_was_not_checked(
    world: World, end: BaseException
) -> None:
    shift = world.shift()
    healthy = shift.ask

    def ask(count: int, seconds: float) -> Generator[Answer]:
        if world.weights()[0]["v2"]:
            raise end
        yield from healthy(count, seconds)

    shift.ask = ask
    with pytest.raises(type(end)):
        shift.run()
    assert world.weights() == [{"v1": 100, "v2": 0}] * 2


def test_a_page_cannot_end_a_shift() -> None:
    words = ["@@exomesh x", "@@exomesh 500 down", "@@", "@@mark 200 "]
    (answer,) = parse_answers(iter(words), "@@mark ")
    assert (answer.status, answer.body) == (200, "\n".join(words[:3]))


def test_a_route_that_nobody_follows_is_rolled_back(world: World) -> None:
    world.late = math.inf
    with pytest.raises(ExomeshError, match="the proxies do not follow the route"):
        world.shift(steps=[50, 100]).run()
    assert world.weights() == [{"v1": 100, "v2": 0}] * 2


def test_an_interrupted_shift_goes_on_where_it_was(world: World) -> None:
    world.put({"v1": 50, "v2": 50}, {"v1": 90, "v2": 10}, note="v1 to v2")
    shift = world.shift()
    assert shift.plan() == [50, 100]
    shift.run()
    assert [check.percent for check in shift.checks] == [10, 50, 100]
    assert world.notes() == [{"mine": "stays"}] * 2


def test_the_check_of_the_last_step_is_made_up_for(world: World) -> None:
    world.put({"v1": 0, "v2": 100}, note="v1 to v2")
    world.failing = {"v2"}
    with pytest.raises(ExomeshError, match="Rolled back to v1, as with v2 at 100 %"):
        world.shift().run()
    assert world.weights() == [{"v1": 100, "v2": 0}] * 2


def test_a_conflict_is_tried_again_and_a_refusal_rolled_back(world: World) -> None:
    world.apis[0].failures[("PUT", ROUTE)] = [status(409, "Conflict")]
    world.shift(steps=[100]).run()
    assert world.weights() == [{"v1": 0, "v2": 100}] * 2
    world.put({"v1": 100, "v2": 0})
    world.apis[1].failures[("PUT", ROUTE)] = [status(403, "Forbidden")]
    with pytest.raises(ExomeshError, match="Rolled back to v1, as with v2 at 100 % cluster fra"):
        world.shift(steps=[100]).run()
    assert world.weights() == [{"v1": 100, "v2": 0}] * 2


def test_a_roll_back_that_fails_says_so(world: World) -> None:
    world.failing = {"v2"}
    world.apis[1].failures[("PUT", ROUTE)] = [(200, {}), status(403, "Forbidden")]
    with pytest.raises(ExomeshError, match="And the roll-back to v1 failed: cluster fra"):
        world.shift(steps=[50]).run()


@pytest.mark.parametrize("weights", [{"v1": 0, "v2": 0, "v3": 100}, {"v1": 100}])
def test_what_cannot_be_moved_is_told(world: World, weights: dict[str, int]) -> None:
    world.put(weights)
    with pytest.raises(ExomeshError, match=r"any requests|0 rules with both"):
        world.shift().plan()


def test_a_missing_route_is_named_with_its_cluster(world: World) -> None:
    del world.apis[1].objects[ROUTE]
    with pytest.raises(ExomeshError, match="cluster fra: There is no VirtualService shop/cart"):
        world.shift().plan()


def test_no_answer_is_a_failure() -> None:
    tally = Tally(PATTERN)
    for answer in ask_urls(["http://127.0.0.1:1/"], {}, 3, 0.01):
        tally.add(answer)
    assert (tally.sent, tally.failed) == (3, 3)
    assert "ConnectionRefusedError" in tally.first_error


def test_answers_of_curl_are_told_apart() -> None:
    lines = iter(["<p>VERSION: v1", "</p>", "", "@@mark 200 ", "", "@@mark 000 Connection refused"])
    first, second = parse_answers(lines, "@@mark ")
    assert (first.status, first.body, first.failed) == (200, "<p>VERSION: v1\n</p>\n", False)
    assert (second.status, second.error, second.failed) == (0, "Connection refused", True)
