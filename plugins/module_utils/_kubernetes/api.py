# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to one cluster's Kubernetes API (private to the collection)."""

from __future__ import annotations

import copy
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Self, cast
from urllib.parse import quote, urlencode, urlsplit

from .._base.connections import PATIENCE, BusyServerError, broke_off, connection_pool, retries
from .._base.documents import load_json
from .._base.errors import ExomeshError
from .._base.requirements import require
from .._base.waiting import TimeUpError, remaining
from .access import Access, folder_of, read_entry, unusable
from .causes import cause_in
from .kubeconfig import KubeconfigError
from .unreached import Trouble, trouble_of

with suppress(ImportError):  # require("kubernetes") reports it
    import urllib3


Object = dict[str, Any]

REQUEST_TIMEOUT = PATIENCE
"""Seconds for which the API may send nothing."""

LOOK_SECONDS = 15.0
"""Seconds in which a healthy API has answered who it is; for code that asks many APIs."""

LARGEST_ANSWER = 128 << 20
"""Bytes that an answer may have; the list of all pods of a large cluster has fewer."""

MAX_CONNECTIONS = 6
"""Connections to one API. A new one costs more than most requests, so threads wait for a free one."""


class ApiError(ExomeshError):
    """The cluster's API refused a request.

    :param status: HTTP status of the answer.
    :param reason: the API's own word for the reason, such as ``Conflict``.
    """

    def __init__(self, message: str, status: int, reason: str, *, cluster: str | None = None) -> None:
        known = cause_in(message) if status >= 400 else None
        cause = known.told if known else None
        next_step = {
            401: "Fetch a new kubeconfig (playbook exomesh.istio.kubeconfig, or module sks_kubeconfig with "
            "force=true), or give another file",
            403: "Use a kubeconfig whose user may do this (for example one of group system:masters)"
            if _is_about_the_user(message)
            else "See what its words name: an admission plugin of the cluster refuses it, whoever asks",
            409: "See who else changes the same, and run it again",
            429: "Run it again later, and see who else asks this API so often",
        }.get(status)
        if reason == "NotJson":
            next_step = "See what answers at the address in the kubeconfig, as a proxy or a page to log in"
        if reason == "NoSuchKind":
            next_step = "Install what brings that kind to the cluster, then run it again"
        if status >= 500:
            next_step = "See whether the cluster's control plane is well, and its admission webhooks"
        if known:
            next_step = known.next_step()
        super().__init__(
            message,
            "credentials_rejected" if status == 401 else "kubernetes_api_error",
            cluster=cluster,
            cause="They have expired, or are of another cluster" if status == 401 else cause,
            next_step=next_step,
            details={"status": status, "reason": reason},
        )
        self.status = status
        self.reason = reason

    @property
    def is_webhook_failure(self) -> bool:
        """Whether an admission webhook did not answer. It is normal for a moment while its server starts."""
        return self.status == 500 and "failed calling webhook" in self.message


def _is_about_the_user(message: str) -> bool:
    """Return whether a refusal (403) is about the rights of the user, not about the object."""
    return " is forbidden: " not in message or 'is forbidden: User "' in message


class ClusterUnreachableError(ExomeshError):
    """No answer came from the cluster's API, or from a server that cannot be trusted.

    :param cause: what failed, in the library's words.
    :param trouble: the known reason, which says more.
    """

    def __init__(
        self, server: str, cause: str, trouble: Trouble | None = None, *, cluster: str | None = None
    ) -> None:
        trusted = not (trouble and trouble.distrust)
        super().__init__(
            f"The API server {server} {'does not answer' if trusted else 'cannot be trusted'}",
            "cluster_unreachable" if trusted else "untrusted_server",
            cluster=cluster,
            cause=trouble.cause if trouble else cause,
            next_step=trouble.next_step
            if trouble
            else "Check that the address is right and that firewalls and proxies let this machine through",
        )


@dataclass(frozen=True, order=True)
class ObjectRef:
    """Names one object of a cluster."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = None

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> ObjectRef:
        metadata = obj["metadata"]
        return cls(obj["apiVersion"], obj["kind"], metadata["name"], metadata.get("namespace"))

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True)
class _Resource:
    plural: str
    namespaced: bool


def _plural(kind: str) -> str:
    return re.sub("([^aeiou])ys$", r"\1ies", f"{kind.lower()}s")


_RBAC = "rbac.authorization.k8s.io/v1"

_BUILT_IN = {
    (api_version, kind): _Resource(_plural(kind), namespaced)
    for api_version, namespaced, kinds in (
        ("v1", False, "Namespace Node"),
        ("v1", True, "ConfigMap Event Pod Secret Service ServiceAccount"),
        ("admissionregistration.k8s.io/v1", False, "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io/v1", False, "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io/v1", False, "CustomResourceDefinition"),
        ("apps/v1", True, "DaemonSet Deployment ReplicaSet"),
        ("authentication.k8s.io/v1", False, "TokenReview"),
        ("authorization.k8s.io/v1", False, "SelfSubjectRulesReview SubjectAccessReview"),
        ("autoscaling/v2", True, "HorizontalPodAutoscaler"),
        ("coordination.k8s.io/v1", True, "Lease"),
        ("networking.k8s.io/v1", True, "NetworkPolicy"),
        ("policy/v1", True, "PodDisruptionBudget"),
        (_RBAC, False, "ClusterRole ClusterRoleBinding"),
        (_RBAC, True, "Role RoleBinding"),
    )
    for kind in kinds.split()
}
"""Kinds that every Kubernetes has, so the API is not asked for them."""

_READ_AS = {
    (api_version, kind): _Resource(_plural(kind), True)
    for api_version, kinds in (
        ("cilium.io/v2", "CiliumClusterwideNetworkPolicy CiliumNetworkPolicy"),
        ("crd.projectcalico.org/v1", "GlobalNetworkPolicy NetworkPolicy"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("networking.istio.io/v1", "DestinationRule Gateway VirtualService"),
        ("security.istio.io/v1", "AuthorizationPolicy PeerAuthentication"),
    )
    for kind in kinds.split()
}
"""Kinds that a cluster may lack. Reading does not ask for them: without the kind, no object exists."""


class Api:
    """Requests to the API of one cluster.

    :param kubeconfig: path of the file with address and credentials.
    :param context: context of that file; its current one when None.
    :param name: the cluster's name in messages; the name of the context's cluster when None.
    :raises ExomeshError: ``kubeconfig_missing``, ``kubeconfig_invalid``, ``kubeconfig_incomplete`` or
        ``context_not_found``.
    """

    def __init__(self, kubeconfig: str, context: str | None = None, name: str | None = None) -> None:
        require("kubernetes")
        entry = read_entry(kubeconfig, context, name)
        self.name = name or entry.cluster_name
        self.server = entry.server
        self.tls_server_name = entry.tls_server_name
        try:
            self._access = Access.of(entry, folder_of(kubeconfig))
        except (KubeconfigError, ValueError) as error:
            raise unusable(kubeconfig, self.name, error) from None
        except TimeUpError as error:
            raise error.about(cluster=self.name) from None
        self._pool = self._new_pool()
        self._retries = retries()
        self._patience = REQUEST_TIMEOUT
        self._resources = dict(_BUILT_IN)
        self._discovered: dict[str, float] = {}
        """When each group was last asked for its kinds, by the monotonic clock."""
        self._discovery_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.clock_skew: float | None = None
        """Seconds by which the server's clock is ahead of ours, by its last answer; None before that."""

    def _new_pool(self) -> Any:
        server_name = {"server_hostname": self.tls_server_name} if self.tls_server_name else {}
        return connection_pool(self._access.tls, MAX_CONNECTIONS, self._access.proxy, **server_name)

    def with_token(self, token: str) -> Self:
        """Return a client of the same API that has only the identity of a token."""
        other = copy.copy(self)
        other._access = self._access.with_token(token)
        other._pool = other._new_pool()
        return other

    def accepts(self, token: str) -> bool:
        """Return whether the API accepts a token."""
        try:
            self.with_token(token).version()
        except ApiError as error:
            if error.status == 401:
                return False
            raise
        return True

    def version(self) -> str:
        """Return the Kubernetes version, such as ``v1.36.3``."""
        return str(self._request("GET", "/version")["gitVersion"])

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        response = self._send(method, path, query, body, content_type)
        try:
            answer = load_json(response.data, path)
            if not isinstance(answer, dict):
                raise ValueError("not an object")
        except ValueError:
            answer = {"message": response.data[:200].decode(errors="replace"), "reason": "NotJson"}
            if response.status < 400:
                message = (
                    f"{method} {path} was answered by something that is not Kubernetes: {answer['message']}"
                )
                raise ApiError(message, response.status, "NotJson", cluster=self.name) from None
        if response.status < 400:
            return cast(Object, answer)
        reason = str(answer.get("reason") or response.status)
        message = str(answer.get("message") or reason)
        if body is not None and body.get("kind") in ("Secret", "TokenReview"):
            # The API may quote what it could not read.
            message = f"{reason} (its words are left out, as they may quote the secret)"
        if response.status == 401:
            message = f"The API server {self.server} does not accept the {self._access.credentials}"
            raise ApiError(message, 401, reason, cluster=self.name)
        raise ApiError(f"{method} {path} failed: {message}", response.status, reason, cluster=self.name)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> _Answer:
        """Send a request; return the API's answer unchanged."""
        url = f"{self._access.server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"accept": accept, **self._access.headers()}
        if body is not None:
            headers["content-type"] = content_type
        content = None if body is None else json.dumps(body)
        try:
            try:
                answer = self._ask_once(method, url, content, headers)
            except urllib3.exceptions.HTTPError as error:
                if method != "GET" or not broke_off(error):
                    raise
                answer = self._ask_once(method, url, content, headers)
        except urllib3.exceptions.HTTPError as error:
            reason = str(getattr(error, "reason", None) or error)
            cause = f"{method} {path}: {reason}"
            raise ClusterUnreachableError(self.server, cause, trouble_of(reason), cluster=self.name) from None
        except (BusyServerError, TimeUpError) as error:
            raise self._told(error, f"{method} {path}") from None
        self.clock_skew = _clock_skew(answer.headers.get("Date"))
        return answer

    def _ask_once(self, method: str, url: str, body: str | None, headers: Mapping[str, str]) -> _Answer:
        response = self._pool.request(
            method,
            url,
            body=body,
            headers=headers,
            timeout=remaining(self._patience),
            retries=self._retries,
            preload_content=False,
            decode_content=False,
        )
        content = b""
        # Read until nothing comes: only this last read notices an answer that broke off.
        while len(content) <= LARGEST_ANSWER and (part := response.read(LARGEST_ANSWER + 1)):
            content += part
        if len(content) > LARGEST_ANSWER:
            response.close()
            message = f"{method} {urlsplit(url).path} is answered with more than {LARGEST_ANSWER >> 20} MiB"
            raise ApiError(message, response.status, "TooLarge", cluster=self.name)
        response.release_conn()
        return _Answer(response.status, response.headers, content)

    def _told(self, error: ExomeshError, what: str) -> ExomeshError:
        """Add the cluster and the request to the error of a wait, which knows neither; return the error."""
        waited = f"It was waiting for {what} of {self.server}"
        if isinstance(error, BusyServerError):
            waited = f"{error.cause}. {waited}"
        elif error.cause:
            waited = error.cause
        error.cause = waited
        return error.about(cluster=self.name)

    def _path_to_read(
        self, api_version: str, kind: str, namespace: str | None, name: str | None = None
    ) -> str | None:
        """Return a path like :meth:`_path`, for requests where a 404 means the same as a missing kind."""
        known = _READ_AS.get((api_version, kind)) or self._resource(api_version, kind)
        return self._path_of(known, api_version, namespace, name)

    def _path(
        self, api_version: str, kind: str, namespace: str | None, name: str | None = None
    ) -> str | None:
        """Return the path of an object, or of its collection without ``name``; None for an unknown kind."""
        return self._path_of(self._resource(api_version, kind), api_version, namespace, name)

    def _path_of(
        self, resource: _Resource | None, api_version: str, namespace: str | None, name: str | None
    ) -> str | None:
        if resource is None:
            return None
        parts = [self._group_path(api_version)]
        if resource.namespaced and namespace:
            parts += ["namespaces", segment(namespace)]
        parts.append(resource.plural)
        if name:
            parts.append(segment(name))
        return "/".join(parts)

    def _require_path(self, ref: ObjectRef, collection: bool = False) -> str:
        path = self._path(ref.api_version, ref.kind, ref.namespace, None if collection else ref.name)
        if path is None:
            message = f"{ref} cannot be written: the cluster has no kind {ref.kind} of {ref.api_version}"
            raise ApiError(message, 404, "NoSuchKind", cluster=self.name)
        return path

    def _resource(self, api_version: str, kind: str) -> _Resource | None:
        known = self._resources.get((api_version, kind))
        if known:
            return known
        wanted = time.monotonic()
        with self._discovery_locks[api_version]:
            # A missing kind is not remembered, as an installation brings new kinds. But one answer serves all
            # threads that waited for it.
            if self._discovered.get(api_version, 0.0) < wanted:
                self._resources |= self._discover(api_version)
                self._discovered[api_version] = time.monotonic()
            return self._resources.get((api_version, kind))

    def _discover(self, api_version: str) -> dict[tuple[str, str], _Resource]:
        try:
            found = self._request("GET", self._group_path(api_version))["resources"]
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        return {
            (api_version, entry["kind"]): _Resource(entry["name"], entry["namespaced"])
            for entry in found
            if "/" not in entry["name"]
        }

    @staticmethod
    def _group_path(api_version: str) -> str:
        return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def segment(name: str) -> str:
    """Return any name as one part of an API path, with special characters quoted.

    :raises ExomeshError: the name would lead to another path.
    """
    if name in (".", ".."):
        raise ExomeshError(f"{name!r} is no name of an object", "invalid_name")
    return quote(name, safe="")


def _clock_skew(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time() if date else None
    except ValueError:
        return None
