# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether an API server accepts a kubeconfig, and what it allows us (private to the collection)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .._base.connections import BusyServerError
from .._base.documents import load_json
from .._base.errors import ExomeshError
from .._base.waiting import TimeUpError, concurrently, remaining
from .client import KubernetesClient

with suppress(ImportError):  # require("kubernetes") reports it
    import urllib3


class ApiServerError(ExomeshError):
    """The API server cannot be reached, cannot be trusted, or does not let us in."""


@dataclass(frozen=True)
class Identity:
    """Our user and groups at the API server, with the server's version and clock."""

    username: str
    groups: list[str]
    version: str
    """Kubernetes version without the v, such as 1.36.3."""
    clock_skew: float | None
    """Seconds by which the server's clock is ahead of ours; None when it does not send the time."""


@dataclass(frozen=True)
class Right:
    """An action in the cluster that needs a permission."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {resource}" + (f" in {self.namespace}" if self.namespace else "")


class ApiServer(KubernetesClient):
    """The API server of a kubeconfig.

    :param kubeconfig: path of the file.
    :param context: context of that file; its current one when None.
    :param name: the cluster's name in messages.
    :param timeout: seconds to wait for one answer.
    """

    def __init__(self, kubeconfig: str, context: str | None, name: str | None, timeout: float) -> None:
        super().__init__(kubeconfig, context, name)
        self._timeout = timeout

    def identity(self) -> Identity:
        """Ask who we are. Raise ApiServerError when the server is unreachable, untrusted, or refuses us."""
        asked_at = datetime.now(UTC)
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        headers, answer = self._ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        _headers, version = self._ask("GET", "/version")
        user = answer.get("status", {}).get("userInfo", {})
        date = headers.get("Date")
        skew = (parsedate_to_datetime(date) - asked_at).total_seconds() if date else None
        return Identity(
            username=str(user.get("username", "")),
            groups=[str(group) for group in user.get("groups", [])],
            version=str(version.get("gitVersion", "")).removeprefix("v"),
            clock_skew=skew,
        )

    def require_rights(self, rights: list[Right]) -> None:
        """Raise ApiServerError unless we have all of these rights."""
        if missing := [str(right) for right in self.missing_rights(rights)]:
            raise ApiServerError(
                f"the kubeconfig's user may not {', '.join(missing)}",
                "missing_rights",
                cluster=self.name,
                next_step="Use a kubeconfig of group system:masters, or grant these rights to its user",
                details={"missing_rights": missing},
            )

    def missing_rights(self, rights: list[Right]) -> list[Right]:
        """Return the rights that we do not have."""

        def allowed(right: Right) -> bool:
            attributes = {"verb": right.verb, "group": right.group, "resource": right.resource}
            if right.namespace:
                attributes["namespace"] = right.namespace
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }
            _headers, answer = self._ask(
                "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review
            )
            return bool(answer.get("status", {}).get("allowed"))

        # A user who may do everything, such as one in system:masters, needs no check of each right.
        if not rights or allowed(Right("*", "*", "*")):
            return []
        return [right for right, ok in zip(rights, concurrently(allowed, rights), strict=True) if not ok]

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[Mapping[str, str], dict[str, Any]]:
        headers = {
            "accept": "application/json",
            "content-type": "application/json",
            **self._access.headers(),
        }
        try:
            response = self._pool.request(
                method,
                f"{self._access.server}{path}",
                body=json.dumps(body) if body else None,
                headers=headers,
                timeout=remaining(self._timeout),
                retries=self._retries.new(connect=1, read=0, status=0),
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._unreached(str(getattr(error, "reason", None) or error)) from None
        except (BusyServerError, TimeUpError) as error:
            raise self._told(error, f"{method} {path}") from None
        try:
            answer = load_json(response.data, path)
        except ValueError:
            answer = None
        if response.status == 401:
            raise ApiServerError(
                f"the API server {self.server} does not accept the kubeconfig's credentials",
                "credentials_rejected",
                cluster=self.name,
                cause="They have expired, or are of another cluster",
                next_step="Mint a new kubeconfig (sks_kubeconfig with force=true), or give another file",
            )
        if response.status >= 400 or not isinstance(answer, dict):
            said = answer.get("message") if isinstance(answer, dict) else "no answer of Kubernetes"
            raise ApiServerError(
                f"the API server {self.server} answered {response.status} to {method} {path}: {said}",
                "api_server_failed",
                cluster=self.name,
                next_step="See whether the cluster's state is running",
            )
        return response.headers, answer

    def _unreached(self, reason: str) -> ApiServerError:
        trouble = next((known for known in _TROUBLES if known.sign in reason), None)
        distrust = trouble is not None and trouble.distrust
        return ApiServerError(
            f"the API server {self.server} cannot be {'trusted' if distrust else 'reached'}",
            "untrusted_server" if distrust else "unreachable_server",
            cluster=self.name,
            cause=trouble.cause if trouble else reason,
            next_step=trouble.next_step
            if trouble
            else "Check that firewalls and proxies let this machine reach the address",
        )


@dataclass(frozen=True)
class _Trouble:
    """A known reason why a connection fails, and the sign to recognise it by."""

    sign: str
    distrust: bool
    cause: str
    next_step: str


_TROUBLES = (
    _Trouble(
        "not yet valid",
        True,
        "The server's certificate is not valid yet: this machine's clock may be behind",
        "Set the clock of this machine",
    ),
    _Trouble(
        "certificate has expired",
        True,
        "The server's certificate has expired, or this machine's clock is ahead",
        "Set the clock of this machine, or have the cluster's certificates renewed",
    ),
    _Trouble(
        "mismatch",
        True,
        "The server's certificate is for another name or address",
        "Check the server's address in the kubeconfig",
    ),
    _Trouble(
        "CERTIFICATE_VERIFY_FAILED",
        True,
        "The kubeconfig's CA did not sign its certificate: another server, a cluster made anew, or a proxy",
        "Mint a new kubeconfig, and let no proxy stand between this machine and the API server",
    ),
    _Trouble(
        "resolve",
        False,
        "Its name cannot be resolved",
        "Check the DNS of this machine, and that the cluster still exists",
    ),
    _Trouble("refused", False, "Nothing listens there", "Check that the cluster is running"),
)
