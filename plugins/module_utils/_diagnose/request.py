# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send one real request from a pod of the user (private to the collection).

It is a ``GET`` without a body, sent once, by curl or wget in a container of the pod, which both must have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._base.errors import ExomeshError
from .._base.text import printable_line
from .._kubernetes.api import Object
from .._kubernetes.client import KubernetesClient
from .._verify.state import PROXY

_SECONDS = 10
_CONTAINERS = 3
"""The number of containers of a pod in which a client is looked for."""
_MOST_BYTES = 4000
_BY_PROXY = ("RBAC: access denied", "fault filter abort", "Jwt ", "local_rate_limited")
"""How answers of proxies begin that have the status of an answer of the service."""
_AT_THE_END = (401, 403, 429)
"""What also the proxy before the service answers, by policies."""
# The output is cut in the pod, so that a large page is not fetched. A proxy of the environment is not asked.
_SCRIPT = f"""
if command -v curl >/dev/null 2>&1; then
  curl -q -sS -i -g -L --max-redirs 5 --proto-redir =http --noproxy '*' \\
    -A exomesh-diagnose --max-time {_SECONDS} "$1" 2>&1
elif command -v wget >/dev/null 2>&1; then
  http_proxy= wget -S -O - -T {_SECONDS} -U exomesh-diagnose "$1" 2>&1
fi | head -c {_MOST_BYTES}
"""


@dataclass(frozen=True)
class Sent:
    """A request that was really sent.

    :param status: HTTP status of the answer; 0 if there was none.
    :param text: the beginning of an error's page, or what the client says if there is no answer. A page that
        is well is the user's.
    :param upstream: whether the sidecar got the answer from elsewhere, and did not make it itself.
    :param why_not: why no request was sent.
    """

    status: int = 0
    text: str = ""
    upstream: bool = False
    why_not: str = "it was not asked for"

    @property
    def made(self) -> bool:
        return not self.why_not

    @property
    def arrived(self) -> bool:
        """Return whether the service answered, if only that the page is not there."""
        return 0 < self.status < 500 and not self.text.startswith(_BY_PROXY) and not self.is_unclear

    @property
    def is_unclear(self) -> bool:
        """Return whether it is an error that the service or a proxy may have made, as nothing tells which."""
        return self.status >= 400 and not self.text and (not self.upstream or self.status in _AT_THE_END)

    @property
    def is_of_sidecar(self) -> bool:
        """Return whether it is an error, or one redirect too many, of the pod's own sidecar, as it seems."""
        return self.status >= 300 and not self.upstream


def send(client: KubernetesClient, pod: Object, url: str) -> Sent:
    """Send the request from the first container of a pod that has a shell and a client."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    containers = [each["name"] for each in pod["spec"]["containers"] if each["name"] != PROXY]
    reasons = ["no container of the pod has a shell with curl or wget"]
    for container in containers[:_CONTAINERS]:
        command = ["sh", "-c", _SCRIPT, "sh", url]
        try:
            result = client.exec(namespace, name, container, command, _SECONDS + 5)
        except ExomeshError as error:
            if _has_no_shell(str(error)):
                continue
            return Sent(why_not=printable_line(str(error), 300))
        if result.exit_code is None:
            return Sent(0, f"no answer within {_SECONDS} s", why_not="")
        if result.stdout.strip():
            return read_answer(result.stdout)
        if result.stderr.strip() and not _has_no_shell(result.stderr):
            reasons.append(printable_line(result.stderr.strip(), 300))
    return Sent(why_not=reasons[-1])


def _has_no_shell(text: str) -> bool:
    return "executable file not found" in text or "no such file or directory" in text


# wget indents what it writes of headers, and some versions only write the status of an error.
_HEAD = re.compile(
    r"(?m)^(?P<by_wget>[ \t]+|wget: server returned error: |)HTTP/[\d.]+ (?P<status>\d{3})"
    r".*(?P<headers>(?:\n[ \t]*[^\s:]+:.*)*)"
)


def read_answer(output: str) -> Sent:
    """Return what curl or wget wrote as an answer. After redirects, it is the last one."""
    output = output.replace("\r", "")
    heads = list(_HEAD.finditer(output))
    if not heads:
        return Sent(0, _beginning(output), why_not="")
    # Only a redirect, or word that the answer comes later, has another answer behind it.
    head = next((each for each in heads if each["status"][0] not in "13"), heads[-1])
    status = int(head["status"])
    # wget does not write the page of an error.
    shown = status >= 400 and not head["by_wget"]
    return Sent(
        status,
        _beginning(output[head.end() :]) if shown else "",
        re.search(r"(?im)^\s*x-envoy-upstream-service-time:", head["headers"]) is not None,
        "",
    )


def _beginning(text: str) -> str:
    return printable_line(" ".join(text.split()), 200)
