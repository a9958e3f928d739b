# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether an API server accepts a kubeconfig, and what it allows us (private to the collection)."""

from __future__ import annotations

from dataclasses import dataclass

from .._base.errors import ExomeshError
from .._base.waiting import concurrently
from .client import KubernetesClient


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
    :param patience: seconds for which the server may send nothing.
    """

    def __init__(self, kubeconfig: str, context: str | None, name: str | None, patience: float) -> None:
        super().__init__(kubeconfig, context, name)
        self._patience = patience
        # Who only wants to know whether the server answers wants to know it soon.
        self._retries = self._retries.new(connect=1, read=0, status=0)

    def identity(self) -> Identity:
        """Ask who we are.

        :raises ClusterUnreachableError: the server does not answer, or cannot be trusted.
        :raises ApiError: it refuses us.
        """
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self._request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        user = answer.get("status", {}).get("userInfo", {})
        return Identity(
            username=str(user.get("username", "")),
            groups=[str(group) for group in user.get("groups", [])],
            version=self.version().removeprefix("v"),
            clock_skew=self.clock_skew,
        )

    def require_rights(self, rights: list[Right]) -> None:
        """Raise ``missing_rights`` unless we have all of these rights."""
        if missing := [str(right) for right in self.missing_rights(rights)]:
            raise ExomeshError(
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
            path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            answer = self._request("POST", path, body=review)
            return bool(answer.get("status", {}).get("allowed"))

        # A user who may do everything, such as one in system:masters, needs no check of each right.
        if not rights or allowed(Right("*", "*", "*")):
            return []
        return [right for right, ok in zip(rights, concurrently(allowed, rights), strict=True) if not ok]
