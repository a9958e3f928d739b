# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send requests from this machine to an ingress, or from a pod in the mesh (private to the collection)."""

from __future__ import annotations

import http.client
import itertools
import re
import ssl
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from .._base.cleanup import afterwards
from .._base.connections import client_context, open_socket
from .._base.errors import ExomeshError
from .._base.text import new_mark, printable_line
from .._base.waiting import TimeUpError, in_threads, pause, remaining, time_limit, wait_until_met
from .._istio.istiod import tolerations
from .._istio.names import SMALL_SIDECAR
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.causes import wait_unless_it_lasts
from .._kubernetes.client import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient, is_ours
from .._kubernetes.containers import POD_SECURITY, client_container
from .._kubernetes.images import require_image
from .._kubernetes.objects import apply_patiently, delete_for_sure
from .._kubernetes.readiness import Unready, explain_pod, pod_unmet

REQUEST_SECONDS = 5

_BODY_LIMIT = 65536
_VERSION_LIMIT = 100
_CLEANUP_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """The result of one request.

    :param status: HTTP status of the answer; 0 if there was no answer.
    :param at: when the answer came, by this machine's monotonic clock.
    :param error: why there is no status.
    """

    status: int
    body: str
    at: float
    error: str = ""

    @property
    def failed(self) -> bool:
        return self.status == 0 or self.status >= 500


@dataclass
class Tally:
    """Counts of requests, by the status and the version of their answers."""

    pattern: re.Pattern[str]
    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    failed: int = 0
    first_error: str = ""

    def add(self, answer: Answer) -> None:
        self.sent += 1
        self.statuses[str(answer.status or answer.error or "no answer")] += 1
        found = self.pattern.search(answer.body)
        if found:
            # The service writes this text. It may be a name, or anything else.
            self.versions[printable_line(found.group(1) or "", _VERSION_LIMIT)] += 1
        if answer.failed:
            self.failed += 1
            self.first_error = self.first_error or answer.error or f"status {answer.status}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "failed": self.failed,
            "statuses": dict(self.statuses),
            "versions": dict(self.versions),
        }

    def __str__(self) -> str:
        def counts(counter: Counter[str]) -> str:
            return ", ".join(f"{count} {what}" for what, count in sorted(counter.items())) or "none"

        return (
            f"{self.sent} requests, {self.failed} failed "
            f"(by version: {counts(self.versions)}; by status: {counts(self.statuses)})"
        )


def ask_urls(
    urls: Sequence[str], headers: Mapping[str, str], count: int, seconds: float, threads: int = 4
) -> Generator[Answer]:
    """Request the pages in turn from this machine, evenly over ``seconds``, and yield answers as they come.

    No connection is used twice, so that every request is routed anew. Closing the generator stops the
    requests.
    """
    started = time.monotonic()
    numbers = itertools.count()  # only one thread takes each number
    answers: SimpleQueue[Answer] = SimpleQueue()

    def work() -> None:
        while (number := next(numbers)) < count:
            pause(max(0.0, started + seconds * number / count - time.monotonic()))
            answers.put(_ask(urls[number % len(urls)], headers))

    with in_threads(*[work] * threads):
        for number in range(count):
            try:
                yield answers.get(timeout=remaining(REQUEST_SECONDS + seconds + 1))
            except Empty:
                remaining(what=f"answer {number + 1} of {count} from {', '.join(urls)}")
                return


def _ask(url: str, headers: Mapping[str, str]) -> Answer:
    parts = urlsplit(url)
    host, encrypted = parts.hostname or "", parts.scheme == "https"
    connection = http.client.HTTPConnection(parts.netloc.rpartition("@")[2])
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        # The time limit also holds if a server only sends a byte now and then.
        with time_limit(REQUEST_SECONDS):
            plain = open_socket(host, parts.port or (443 if encrypted else 80))
            connection.sock = _tls().wrap_socket(plain, server_hostname=host) if encrypted else plain
            connection.request("GET", path, headers=dict(headers))
            response = connection.getresponse()
            body = response.read(_BODY_LIMIT).decode(errors="replace")
        return Answer(response.status, body, time.monotonic())
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, "", time.monotonic(), f"{type(error).__name__}: {error}")
    except TimeUpError:
        return Answer(0, "", time.monotonic(), f"TimeoutError: no answer within {REQUEST_SECONDS} s")
    finally:
        connection.close()


@cache
def _tls() -> ssl.SSLContext:
    return client_context(None, None, None)


class MeshClient:
    """A pod that sends requests from a namespace of the mesh, with ``curl`` and a sidecar.

    :param namespace: the pod's namespace, which must exist and have injection.
    """

    def __init__(self, client: KubernetesClient, namespace: str, name: str, image: str) -> None:
        self._client = client
        self._ref = ObjectRef("v1", "Pod", name, namespace)
        self._image = require_image(image)

    @contextmanager
    def running(self, timeout: float) -> Iterator[MeshClient]:
        """Start the pod for the block, and remove it afterwards, as well as one that a killed run left.

        :raises ExomeshError: see :meth:`start`.
        """
        with afterwards(self.remove):
            self.start(timeout)
            yield self

    def ask(self, url: str, per_second: float, limit: int = 100_000) -> Generator[Answer]:
        """Request one page again and again, evenly, and yield answers as they come, until this is closed."""
        # Pages and curl's own output come in one stream. The mark separates them, as no page can know it.
        mark = f"@@{new_mark()} "
        command = ["curl", "--silent", "--max-time", str(REQUEST_SECONDS)]
        command += ["--rate", f"{round(per_second * 60)}/m"]
        command += ["--write-out", f"\\n{mark}%{{http_code}} %{{errormsg}}\\n", f"{url}#[1-{limit}]"]
        lines = self._client.exec_lines(self._ref.namespace or "", self._ref.name, "client", command)
        return parse_answers(lines, mark)

    def start(self, timeout: float) -> None:
        """Start the pod, and wait until it is ready. A pod that a killed run left is removed first.

        :raises ExomeshError: ``client_not_ready``, or the pod of that name was not made by this collection.
        """
        self.remove()
        apply_patiently(self._client, self._pod(), FIELD_MANAGER, timeout)
        started = time.monotonic()
        missing = wait_unless_it_lasts(lambda: pod_unmet(self._client.get(self._ref)), timeout)
        if missing:
            pod = self._client.get(self._ref)
            unready = explain_pod(self._client, pod) if pod else Unready(missing)
            raise ExomeshError(
                f"The client {self._ref} is not ready after {time.monotonic() - started:.0f} s",
                "client_not_ready",
                cluster=self._client.name,
                cause=unready.told,
                next_step=unready.next_step or "Cure what it says; another image can be given",
            )

    def remove(self) -> None:
        """Delete the pod.

        :raises ExomeshError: the pod was not made by this collection, or ``left_behind``.
        """
        pod = self._client.get(self._ref)
        if pod is None:
            return
        if not is_ours(pod):
            raise ExomeshError(
                f"{self._ref} is there, but not ours", "foreign_object", cluster=self._client.name
            )
        delete_for_sure(self._client, self._ref)
        wait_until_met(lambda: "it is there" if self._client.get(self._ref) else None, _CLEANUP_SECONDS)

    def _pod(self) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self._ref.name,
                "namespace": self._ref.namespace,
                "labels": {MANAGED_BY_LABEL: MANAGED_BY, "sidecar.istio.io/inject": "true"},
                "annotations": dict(SMALL_SIDECAR),
            },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": False,
                "tolerations": tolerations(self._client),
                "securityContext": POD_SECURITY,
                "containers": [client_container("client", self._image, ["sleep", "infinity"])],
            },
        }


def parse_answers(lines: Iterator[str], mark: str) -> Generator[Answer]:
    """Yield the answers in the output of :meth:`MeshClient.ask`'s command. Long pages are cut."""
    body: list[str] = []
    room = _BODY_LIMIT
    for line in lines:
        if not line.startswith(mark):
            if room > 0:
                body.append(line[:room])
            room -= len(line) + 1
            continue
        status, _space, error = line.removeprefix(mark).partition(" ")
        yield Answer(int(status), "\n".join(body), time.monotonic(), error.strip())
        body.clear()
        room = _BODY_LIMIT
