# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real request: what curl and wget write, and which container can send one."""

from __future__ import annotations

from typing import cast

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._diagnose.request import Sent, read_answer, send
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import (
    ExecResult,
    KubernetesClient,
)

HTTP = "HTTP/1.1 200 OK\r\nserver: envoy\r\nx-envoy-upstream-service-time: 3\r\n\r\nhello\nyou"
NO_SHELL = ExomeshError('exec: "sh": executable file not found in $PATH', "kubernetes_api_error")


class Pod:
    """A client whose containers answer as told."""

    def __init__(self, **answers: ExecResult | ExomeshError) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def exec(
        self, _namespace: str, _pod: str, container: str, command: list[str], _timeout: float
    ) -> ExecResult:
        self.asked.append(container)
        assert command[-1] == "http://cart.shop:80/"
        answer = self.answers[container]
        if isinstance(answer, ExomeshError):
            raise answer
        return answer


def sent(**answers: ExecResult | ExomeshError) -> Sent:
    names = [*answers, "istio-proxy"]
    pod = {
        "metadata": {"name": "web-1", "namespace": "shop"},
        "spec": {"containers": [{"name": name} for name in names]},
    }
    return send(cast(KubernetesClient, Pod(**answers)), pod, "http://cart.shop:80/")


def said(stdout: str = "", stderr: str = "", code: int | None = 0) -> ExecResult:
    return ExecResult(stdout, stderr, code)


RBAC_BY_WGET = (
    "Connecting to web.shop (10.96.0.7:80)\n  HTTP/1.1 403 Forbidden\n  content-length: 19\n"
    "  x-envoy-upstream-service-time: 3\nwget: server returned error: HTTP/1.1 403 Forbidden\n"
)
REDIRECTED_BY_WGET = (
    "HTTP request sent, awaiting response... \n  HTTP/1.1 301 Moved Permanently\n  Location: /x\n"
    "  x-envoy-upstream-service-time: 3\nHTTP request sent, awaiting response... \n"
)
PAGE_BY_WGET = (
    "Connecting to web.shop (10.96.0.7:80)\n  HTTP/1.1 200 OK\n  Set-Cookie: session=SECRET\n"
    "  x-envoy-upstream-service-time: 3\n  \nHTTP/1.1 500 is what the page says\n"
)
MISSING_BY_WGET = (
    "HTTP request sent, awaiting response... \n  HTTP/1.1 404 Not Found\n  Set-Cookie: session=SECRET\n"
    "2026-11-29 20:00:00 ERROR 404: Not Found.\n"
)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (HTTP, Sent(200, "", True, "")),
        (f"HTTP/1.1 302 Found\r\nlocation: /x\r\n\r\n{HTTP}", Sent(200, "", True, "")),
        (
            "HTTP/1.1 503 Service Unavailable\r\n\r\nfault filter abort",
            Sent(503, "fault filter abort", False, ""),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 500 is what the page says", Sent(200, "", False, "")),
        (
            "HTTP/1.1 500 Error\r\nset-cookie: session=SECRET\r\n\r\nno database",
            Sent(500, "no database", False, ""),
        ),
        (
            "curl: (6) Could not resolve host: cart",
            Sent(0, "curl: (6) Could not resolve host: cart", False, ""),
        ),
        ("wget: server returned error: HTTP/1.1 503 Service Unavailable", Sent(503, "", False, "")),
        (RBAC_BY_WGET, Sent(403, "", True, "")),
        (PAGE_BY_WGET, Sent(200, "", True, "")),
        (MISSING_BY_WGET, Sent(404, "", False, "")),
        (f"{REDIRECTED_BY_WGET}  HTTP/1.1 200 OK\n  \nhi", Sent(200, "", False, "")),
        (f"{REDIRECTED_BY_WGET}  HTTP/1.1 500 Internal\n", Sent(500, "", False, "")),
        (REDIRECTED_BY_WGET, Sent(301, "", True, "")),
    ],
)
def test_an_answer_is_read(output: str, expected: Sent) -> None:
    assert read_answer(output) == expected


def test_the_first_container_with_a_client_sends_it() -> None:
    assert sent(app=NO_SHELL, tools=said(HTTP)) == Sent(200, "", True, "")
    assert sent(app=said(), tools=said(HTTP)).status == 200


def test_without_a_client_none_is_sent_and_it_is_said() -> None:
    assert sent(app=NO_SHELL).why_not == "no container of the pod has a shell with curl or wget"
    assert "forbidden" in sent(app=ExomeshError("pods/exec is forbidden", "x")).why_not
    assert sent(app=said(stderr="sh: head: not found")).why_not == "sh: head: not found"
    assert not sent(app=said()).made


def test_a_request_that_hangs_is_no_answer() -> None:
    found = sent(app=said(code=None))
    assert found.made
    assert (found.status, found.arrived) == (0, False)


@pytest.mark.parametrize(
    ("answer", "arrived", "unclear"),
    [
        (Sent(0, "", False, ""), False, False),
        (Sent(200, "", False, ""), True, False),
        (Sent(404, "", True, ""), True, False),
        (Sent(404, "no such page", False, ""), True, False),
        (Sent(404, "", False, ""), False, True),
        (Sent(403, "log in first", True, ""), True, False),
        (Sent(403, "", True, ""), False, True),
        (Sent(503, "", True, ""), False, False),
        (Sent(503, "upstream connect error", False, ""), False, False),
        (Sent(503, "", False, ""), False, True),
    ],
)
def test_only_an_answer_that_is_surely_of_the_service_has_arrived(
    answer: Sent, arrived: bool, unclear: bool
) -> None:
    assert (answer.arrived, answer.is_unclear) == (arrived, unclear)


@pytest.mark.parametrize("text", ["RBAC: access denied", "fault filter abort"])
def test_an_answer_of_a_proxy_is_no_arrival(text: str) -> None:
    assert not Sent(403, text, True, "").arrived


def test_an_error_without_the_mark_of_another_end_is_of_the_sidecar() -> None:
    assert Sent(404, "", False, "").is_of_sidecar
    assert not Sent(404, "", True, "").is_of_sidecar
    assert Sent(301, "", False, "").is_of_sidecar
    assert not Sent(200, "", False, "").is_of_sidecar
