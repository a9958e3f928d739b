# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small typed client of one cluster's Kubernetes API (private to the collection).

Credentials and TLS come from the ``kubernetes`` package, out of one named kubeconfig. Objects are plain
dicts. What is not built into Kubernetes is looked up in the API's own discovery, so custom resources need
nothing. One client may be used by many threads.
"""

from __future__ import annotations

import copy
import json
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

from .._base.connections import PATIENCE, BusyServerError, broke_off, connection_pool, open_socket, retries
from .._base.documents import load_json, load_yaml
from .._base.errors import ExomeshError
from .._base.names import checked_list, checked_object
from .._base.waiting import TimeUpError, concurrently, remaining, told_in_time, wait_until_met
from .access import Access, require_kubernetes
from .pod_streams import STATUS, STDERR, STDOUT, Channels, PodPort

with suppress(ImportError):  # require_kubernetes() tells
    import urllib3
    import yaml
    from websocket import WebSocket, WebSocketBadStatusException, WebSocketException

__all__ = ["concurrently", "wait_until_met"]

Object = dict[str, Any]

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "exomesh.istio"
FIELD_MANAGER = "exomesh.istio"
ISTIO_NAMESPACE = "istio-system"
NETWORK_LABEL = "topology.istio.io/network"
OWNER_LABEL = "install.operator.istio.io/owning-resource"
GATEWAY_PORT = 15443
"""Port of east-west gateways for services of other networks."""

EVENTS_UNREAD = "its Events cannot be read"
"""In place of an object's Events."""

REQUEST_TIMEOUT = PATIENCE
"""Seconds for which the API may say nothing."""

LARGEST_ANSWER = 128 << 20
"""Bytes of an answer; the list of all pods of a large cluster is within it."""

MAX_CONNECTIONS = 6
"""To one API. To open one costs both sides more than most requests, so threads wait for one that is free."""

KUBERNETES_ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "timeout": {"type": "int", "default": 600},
}
"""The options of the documentation fragment ``exomesh.istio.kubernetes``."""


class ApiError(ExomeshError):
    """The cluster answered, and refused.

    :param status: HTTP status of the answer.
    :param reason: the API's own word for it, as in ``Conflict``.
    """

    def __init__(self, message: str, status: int, reason: str, *, cluster: str | None = None) -> None:
        next_step = {
            401: "Renew the kubeconfig: its credentials are not accepted, or no longer",
            403: "Use a kubeconfig whose user may do this (for example one of group system:masters)",
            409: "See who else changes the same, and run it again",
            429: "Run it again later, and see who else asks this API so often",
        }.get(status)
        if reason == "NotJson":
            next_step = "See what answers at the address in the kubeconfig, as a proxy or a page to log in"
        if reason == "NoSuchKind":
            next_step = "Install what brings that kind to the cluster, then run it again"
        if status >= 500:
            next_step = "See whether the cluster's control plane is well, and its admission webhooks"
        super().__init__(
            message,
            "kubernetes_api_error",
            cluster=cluster,
            next_step=next_step,
            details={"status": status, "reason": reason},
        )
        self.status = status
        self.reason = reason

    @property
    def is_webhook_failure(self) -> bool:
        """Whether an admission webhook did not answer; usual for a moment while its server starts."""
        return self.status == 500 and "failed calling webhook" in self.message


class ClusterUnreachableError(ExomeshError):
    """No answer came from the cluster's API."""

    def __init__(self, server: str, cause: str, *, cluster: str | None = None) -> None:
        super().__init__(
            f"The API server {server} does not answer",
            "cluster_unreachable",
            cluster=cluster,
            cause=cause,
            next_step="Check that the address is right and that firewalls let this machine through",
        )


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether the object has the label of what this collection made."""
    return bool((obj["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY)


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
class Kind:
    """A kind of objects that a cluster has."""

    api_version: str
    name: str
    namespaced: bool


@dataclass(frozen=True)
class ExecResult:
    """What a command in a container gave. ``exit_code`` is None when it did not end in time."""

    stdout: str
    stderr: str
    exit_code: int | None


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
"""Kinds that every Kubernetes has, so that nobody needs to ask for them."""

_READ_AS = {
    (api_version, kind): _Resource(_plural(kind), True)
    for api_version, kinds in (
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("networking.istio.io/v1", "DestinationRule Gateway VirtualService"),
        ("security.istio.io/v1", "AuthorizationPolicy PeerAuthentication"),
    )
    for kind in kinds.split()
}
"""Kinds that a cluster may have or not: without the kind there are no objects, and reading asks no more."""


class KubernetesClient:
    """The API of one cluster.

    :param kubeconfig: path of the file with address and credentials.
    :param context: context of that file; its current one when None.
    :param name: what messages call the cluster; the context's cluster when None.
    :raises ExomeshError: ``kubeconfig_missing`` or ``kubeconfig_invalid``.
    """

    def __init__(self, kubeconfig: str, context: str | None = None, name: str | None = None) -> None:
        require_kubernetes()
        entry = kubeconfig_entry(kubeconfig, context, name)
        self.name = name or entry.cluster
        self.server = entry.server
        self.tls_server_name = entry.tls_server_name
        try:
            self._access = Access.of(kubeconfig, context)
        except (OSError, ValueError) as error:
            raise ExomeshError(
                f"The kubeconfig {kubeconfig} cannot be used",
                "kubeconfig_invalid",
                cluster=self.name,
                cause=str(error),
                next_step="Write it anew (role kubeconfig)",
            ) from None
        except TimeUpError as error:
            raise error.about(cluster=self.name) from None
        self._pool = self._new_pool()
        self._retries = retries()
        self._resources = dict(_BUILT_IN)
        self._discovered: dict[str, float] = {}
        """When each group was asked for its kinds, by the monotonic clock."""
        self._discovery_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.clock_skew: float | None = None
        """Seconds by which the server's clock is ahead of ours, by its last answer; None before one."""

    def _new_pool(self) -> Any:
        server_name = {"server_hostname": self.tls_server_name} if self.tls_server_name else {}
        return connection_pool(self._access.tls, MAX_CONNECTIONS, self._access.proxy, **server_name)

    def with_token(self, token: str) -> KubernetesClient:
        """The same API with another identity: that of a token, and nothing else."""
        other = copy.copy(self)
        other._access = self._access.with_token(token)
        other._pool = other._new_pool()
        return other

    def accepts(self, token: str) -> bool:
        """Whether the API takes a token for somebody's."""
        try:
            self.with_token(token).version()
        except ApiError as error:
            if error.status == 401:
                return False
            raise
        return True

    def get(self, ref: ObjectRef) -> Object | None:
        """The object, or None where it, its namespace or its kind does not exist."""
        path = self._path_to_read(ref.api_version, ref.kind, ref.namespace, ref.name)
        if path is None:
            return None
        try:
            answer = checked_object(self._request("GET", path), str(ref))
            return {**answer, "apiVersion": ref.api_version, "kind": ref.kind}
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list_objects(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
    ) -> list[Object]:
        """The objects of a kind that match the selectors; none where the kind does not exist."""
        path = self._path_to_read(api_version, kind, namespace)
        if path is None:
            return []
        query = {"labelSelector": labels, "fieldSelector": fields}
        try:
            answer = self._request("GET", path, query={key: value for key, value in query.items() if value})
        except ApiError as error:
            if error.status == 404:
                return []
            raise
        # The items of a list do not say what they are.
        return [
            {**item, "apiVersion": api_version, "kind": kind} for item in checked_list(answer, f"the {kind}s")
        ]

    def list_rows(self, api_version: str, kind: str, namespace: str) -> list[dict[str, Any]]:
        """The objects of a kind as ``kubectl get`` shows them: of a Secret its type, and none of its data."""
        path = self._require_path(ObjectRef(api_version, kind, "", namespace), collection=True)
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        response = self._send("GET", path, {"includeObject": "None"}, accept=accept)
        if response.status >= 400:
            message = f"The {kind}s of {namespace} cannot be listed"
            raise ApiError(message, response.status, str(response.status), cluster=self.name)
        table = load_json(response.data, f"The list of {kind}s")
        if (
            not isinstance(table, dict) or table.get("kind") != "Table"
        ):  # a server that does not know tables would give all the data
            raise ApiError(f"The API does not list {kind}s as a table", 0, "NoTable", cluster=self.name)
        columns = [column["name"] for column in table["columnDefinitions"]]
        return [dict(zip(columns, row["cells"], strict=True)) for row in table["rows"]]

    def create(self, obj: Object) -> Object:
        return self._request("POST", self._require_path(ObjectRef.of(obj), collection=True), body=obj)

    def replace(self, obj: Object, dry_run: bool = False) -> Object:
        """Write the whole object; a Conflict (409) when it changed since its resourceVersion."""
        query = {"dryRun": "All"} if dry_run else None
        return self._request("PUT", self._require_path(ObjectRef.of(obj)), query=query, body=obj)

    def apply(self, obj: Object, field_manager: str = FIELD_MANAGER, dry_run: bool = False) -> Object:
        """Server-side apply, taking over fields that others manage, as ``istioctl install`` does."""
        query = {"fieldManager": field_manager, "force": "true"}
        if dry_run:
            query["dryRun"] = "All"
        path = self._require_path(ObjectRef.of(obj))
        return self._request(
            "PATCH", path, query=query, body=obj, content_type="application/apply-patch+yaml"
        )

    def scale(self, ref: ObjectRef, replicas: int) -> None:
        """Set the number of replicas of a Deployment."""
        self._request(
            "PATCH",
            f"{self._require_path(ref)}/scale",
            body={"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
        )

    def delete(
        self, ref: ObjectRef, propagation: str = "Background", resource_version: str | None = None
    ) -> bool:
        """Delete the object; False where it did not exist.

        :param resource_version: delete only what is still of this version; a Conflict (409) otherwise.
        """
        body = {"preconditions": {"resourceVersion": resource_version}} if resource_version else None
        path = self._path(ref.api_version, ref.kind, ref.namespace, ref.name)
        if path is None:
            return False
        try:
            self._request("DELETE", path, query={"propagationPolicy": propagation}, body=body)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def kinds(self) -> list[Kind]:
        """The kinds that can be listed and deleted, each in its group's preferred version."""
        found = self._request("GET", "/apis")["groups"]
        groups = ["v1", *(group["preferredVersion"]["groupVersion"] for group in found)]

        def kinds_of(api_version: str) -> list[Kind]:
            try:
                entries = self._request("GET", self._group_path(api_version))["resources"]
            except ApiError as error:
                if error.status in (404, 503):  # a group whose own server is away
                    return []
                raise
            return [
                Kind(api_version, entry["kind"], entry["namespaced"])
                for entry in entries
                if {"list", "delete"} <= set(entry["verbs"]) and "/" not in entry["name"]
            ]

        return [kind for kinds in concurrently(kinds_of, groups) for kind in kinds]

    def version(self) -> str:
        """The Kubernetes version, as in ``v1.36.3``."""
        return str(self._request("GET", "/version")["gitVersion"])

    def exec(
        self, namespace: str, pod: str, container: str, command: list[str], timeout: float
    ) -> ExecResult:
        """Run a command in a container, without a shell around it.

        :raises ApiError: when it cannot be started.
        """
        output = {STDOUT: b"", STDERR: b""}
        exit_code = None
        deadline = time.monotonic() + timeout
        with self._command(namespace, pod, container, command) as channels:
            try:
                while message := channels.receive(max(deadline - time.monotonic(), 0.01)):
                    channel, content = message
                    if channel == STATUS:
                        exit_code = _exit_code(content)
                    elif channel in output:
                        output[channel] += content
            except TimeoutError:
                exit_code = None
        stdout, stderr = (output[channel].decode(errors="replace") for channel in (STDOUT, STDERR))
        return ExecResult(stdout, stderr, exit_code)

    def exec_lines(self, namespace: str, pod: str, container: str, command: list[str]) -> Iterator[str]:
        """Run a command in a container: its output, by lines as it comes, until it ends.

        :raises ApiError: when it cannot be started, or the connection breaks.
        """
        text = b""
        with self._command(namespace, pod, container, command) as channels:
            while True:
                try:
                    message = channels.receive(1)
                except TimeoutError:
                    continue
                if message is None:
                    return
                if message[0] == STDOUT:
                    *lines, text = (text + message[1]).split(b"\n")
                    yield from (line.decode(errors="replace") for line in lines)

    @contextmanager
    def _command(self, namespace: str, pod: str, container: str, command: list[str]) -> Iterator[Channels]:
        """A command that runs in a container."""
        query = [("container", container), ("stdout", "true"), ("stderr", "true")]
        query += [("command", word) for word in command]
        try:
            channels = self._open_stream(namespace, pod, "exec", query)
        except (OSError, WebSocketException, ValueError) as error:
            raise ApiError(
                f"Cannot run {command[0]} in container {container} of pod {namespace}/{pod}: "
                f"{_stream_failure(error)}",
                getattr(error, "status_code", 0),
                "ExecFailed",
                cluster=self.name,
            ) from None
        except TimeUpError as error:
            raise self._told(error, f"{command[0]} in pod {namespace}/{pod}") from None
        try:
            yield channels
        except TimeUpError as error:
            raise self._told(error, f"{command[0]} in pod {namespace}/{pod}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"Running {command[0]} in pod {namespace}/{pod} broke off: {error}"
            raise ApiError(message, 0, "ExecFailed", cluster=self.name) from None
        finally:
            channels.close()

    def _open_stream(
        self, namespace: str, pod: str, action: str, query: Sequence[tuple[str, str]]
    ) -> Channels:
        """Open a WebSocket to something of a pod.

        :raises OSError: the API cannot be reached.
        :raises WebSocketException: it refuses.
        """
        access, address = self._access, urlsplit(self._access.server)
        path = f"/api/v1/namespaces/{_segment(namespace)}/pods/{_segment(pod)}/{action}?{urlencode(query)}"
        options: dict[str, Any] = access.websocket_proxy()
        if not options:
            encrypted = address.scheme == "https"
            plain = open_socket(address.hostname or "", address.port or (443 if encrypted else 80))
            name = self.tls_server_name or address.hostname
            options["socket"] = access.tls.wrap_socket(plain, server_hostname=name) if encrypted else plain
        server_name = {"server_hostname": self.tls_server_name} if self.tls_server_name else {}
        websocket = WebSocket(sslopt={"context": access.tls, **server_name}, skip_utf8_validation=True)
        websocket.settimeout(remaining(REQUEST_TIMEOUT))
        websocket.connect(  # type: ignore[no-untyped-call]
            f"{access.server.replace('http', 'ws', 1)}{path}",
            header=[f"{name}: {value}" for name, value in access.headers().items()],
            subprotocols=["v4.channel.k8s.io"],
            suppress_origin=True,
            **options,
        )
        return Channels(websocket)

    def served_certificate(self, namespace: str, pod: str, port: int, server_name: str) -> bytes:
        """The certificate (DER) with which a pod answers TLS on a port, reached through the API.

        It is not verified here: whoever asks wants to know what is served.

        :raises ApiError: when there is no answer.
        """
        with self._forwarded(namespace, pod, port, "TLS", REQUEST_TIMEOUT) as connection:
            return connection.served_certificate(server_name)

    def get_from_pod(self, namespace: str, pod: str, port: int, path: str, timeout: float) -> bytes:
        """What a pod answers to an HTTP request that it takes for one of its own, reached through the API.

        :raises ApiError: when there is no answer, or another status than 200.
        """
        return self.get_all_from_pod(namespace, pod, port, [path], timeout)[0]

    def get_all_from_pod(
        self, namespace: str, pod: str, port: int, paths: Sequence[str], timeout: float
    ) -> list[bytes]:
        """The same for several requests over one connection, which is what costs the API something."""
        contents = []
        with self._forwarded(namespace, pod, port, "HTTP", timeout) as plain:
            for path in paths:
                connection = "close" if path == paths[-1] else "keep-alive"
                plain.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode()
                )
                response = HTTPResponse(cast(Any, plain))
                response.begin()
                content = response.read(LARGEST_ANSWER)
                if response.status != 200:
                    message = f"Pod {namespace}/{pod} answers {path} with status {response.status}"
                    raise ApiError(message, response.status, "PodRefused", cluster=self.name)
                contents.append(content)
        return contents

    @contextmanager
    def _forwarded(
        self, namespace: str, pod: str, port: int, protocol: str, patience: float
    ) -> Iterator[PodPort]:
        """A connection to a port of a pod, through the API."""
        channels: Channels | None = None
        try:
            channels = self._open_stream(namespace, pod, "portforward", [("ports", str(port))])
            yield PodPort(channels, patience)
        except TimeUpError as error:
            raise self._told(error, f"port {port} of pod {namespace}/{pod}") from None
        except (HTTPException, OSError, ValueError, WebSocketException) as error:
            raise ApiError(
                f"Port {port} of pod {namespace}/{pod} does not answer {protocol}: {_stream_failure(error)}",
                0,
                "PortForwardFailed",
                cluster=self.name,
            ) from None
        finally:
            if channels:
                channels.close()

    def events(
        self, kind: str, namespace: str, name: str, limit: int = 5, warnings_only: bool = False
    ) -> list[str]:
        """The newest Events about an object, newest last, as ``Reason: message``; for error messages.

        What they are to explain is told in any case: where they cannot be read in time, that is the one line.
        """
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        if warnings_only:
            selector += ",type=Warning"
        found = told_in_time(lambda: self.list_objects("v1", "Event", namespace, fields=selector), None)
        if found is None:
            return [EVENTS_UNREAD]
        found.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
        lines = [f"{event.get('reason')}: {str(event.get('message', '')).strip()}" for event in found]
        return list(dict.fromkeys(lines))[-limit:]

    def logs(
        self, namespace: str, pod: str, container: str, tail: int | None = None, previous: bool = False
    ) -> str:
        """What a container has said so far, its last ``tail`` lines, or all.

        :param previous: of the container before it was restarted.
        """
        query = {"container": container} | ({"tailLines": str(tail)} if tail else {})
        query |= {"previous": "true"} if previous else {}
        path = f"/api/v1/namespaces/{_segment(namespace)}/pods/{_segment(pod)}/log"
        response = self._send("GET", path, query, accept="*/*")
        if response.status < 400:
            return str(response.data.decode(errors="replace"))
        message = f"The log of container {container} of pod {namespace}/{pod} cannot be read"
        raise ApiError(message, response.status, str(response.status), cluster=self.name)

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
        """The API's answer as it came."""
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
            cause = f"{method} {path}: {getattr(error, 'reason', None) or error}"
            raise ClusterUnreachableError(self.server, cause, cluster=self.name) from None
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
            timeout=remaining(REQUEST_TIMEOUT),
            retries=self._retries,
            preload_content=False,
            decode_content=False,
        )
        content = b""
        # The last read, of nothing, is the one that notices that the answer broke off.
        while len(content) <= LARGEST_ANSWER and (part := response.read(LARGEST_ANSWER + 1)):
            content += part
        if len(content) > LARGEST_ANSWER:
            response.close()
            message = f"{method} {urlsplit(url).path} is answered with more than {LARGEST_ANSWER >> 20} MiB"
            raise ApiError(message, response.status, "TooLarge", cluster=self.name)
        response.release_conn()
        return _Answer(response.status, response.headers, content)

    def _told(self, error: ExomeshError, what: str) -> ExomeshError:
        """The error of one who waits for this API, who knows neither it nor what is waited for."""
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
        """As :meth:`_path`, for requests whose answer 404 says the same as that there is no such kind."""
        known = _READ_AS.get((api_version, kind)) or self._resource(api_version, kind)
        return self._path_of(known, api_version, namespace, name)

    def _path(
        self, api_version: str, kind: str, namespace: str | None, name: str | None = None
    ) -> str | None:
        """Path of an object, or of its collection without ``name``; None where the kind does not exist."""
        return self._path_of(self._resource(api_version, kind), api_version, namespace, name)

    def _path_of(
        self, resource: _Resource | None, api_version: str, namespace: str | None, name: str | None
    ) -> str | None:
        if resource is None:
            return None
        parts = [self._group_path(api_version)]
        if resource.namespaced and namespace:
            parts += ["namespaces", _segment(namespace)]
        parts.append(resource.plural)
        if name:
            parts.append(_segment(name))
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
            # Not found is not remembered, as an installation brings new kinds; but one answer does for all
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


@dataclass(frozen=True)
class KubeconfigEntry:
    """What a kubeconfig says of one cluster, without credentials."""

    cluster: str
    server: str
    tls_server_name: str | None


def kubeconfig_entry(path: str, context: str | None = None, name: str | None = None) -> KubeconfigEntry:
    """The cluster of a kubeconfig's context (the current one when None).

    :param name: what error messages call the cluster.
    :raises ExomeshError: ``kubeconfig_missing`` or ``kubeconfig_invalid``.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            document = load_yaml(stream.read(), path)
    except OSError as error:
        raise ExomeshError(
            f"The kubeconfig {path} cannot be read",
            "kubeconfig_missing",
            cluster=name,
            cause=error.strerror,
            next_step="Fetch it first (playbook exomesh.istio.kubeconfig), or correct mesh_kubeconfig",
        ) from None
    except ValueError:
        document = None
    try:
        wanted = context or document["current-context"]
        cluster = {entry["name"]: entry["context"] for entry in document["contexts"]}[wanted]["cluster"]
        details = {entry["name"]: entry["cluster"] for entry in document["clusters"]}[cluster]
        return KubeconfigEntry(cluster, details["server"], details.get("tls-server-name"))
    except (KeyError, TypeError) as error:
        raise ExomeshError(
            f"The kubeconfig {path} cannot be used",
            "kubeconfig_invalid",
            cluster=name,
            cause=f"no kubeconfig, or its context {context or 'current-context'} is incomplete ({error})",
            next_step="Write it anew (role kubeconfig), or name another context",
        ) from None


def kubeconfig_is_to_come(module: Any) -> bool:
    """Whether this is check mode before the first run, when the cluster's kubeconfig was only predicted.

    Warns, as nothing can be compared then.
    """
    path = module.params["kubeconfig"]
    if not module.check_mode or os.path.exists(path):
        return False
    module.warn(f"{path} is still to come: what would change in its cluster cannot be told yet")
    return True


def yaml_loader() -> Any:
    """A loader as safe as yaml.safe_load's, in C where there is that: in a twentieth of the time."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _segment(name: str) -> str:
    """A name as a part of a path of the API, whatever is in it.

    :raises ExomeshError: it would lead elsewhere.
    """
    if name in (".", ".."):
        raise ExomeshError(f"{name!r} is no name of an object", "invalid_name")
    return quote(name, safe="")


def _exit_code(status: bytes) -> int:
    """How a command ended, out of the API's message about it."""
    told = json.loads(status)
    if told["status"] == "Success":
        return 0
    causes = told.get("details", {}).get("causes", [])
    return int(next(cause["message"] for cause in causes if cause.get("reason") == "ExitCode"))


def _stream_failure(error: Exception) -> str:
    """Why a WebSocket was not opened, in the API's words where it has some."""
    if isinstance(error, WebSocketBadStatusException):
        try:
            return str(json.loads(error.resp_body or b"{}")["message"])
        except (ValueError, KeyError, TypeError):
            return f"the API answers with status {error.status_code}"
    return str(error) or type(error).__name__


def _clock_skew(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time() if date else None
    except ValueError:
        return None


def deployment_unmet(deployment: Object | None) -> str | None:
    """What keeps a Deployment from being ready; None when it is."""
    if deployment is None:
        return "it does not exist"
    status = deployment.get("status", {})
    wanted = deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "its newest form was not yet taken up by the deployment controller"
    updated = status.get("updatedReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} replicas are of the newest form"
    if status.get("replicas", 0) > updated:
        return f"{status['replicas'] - updated} replicas of the old form wait for new ones to be ready"
    if status.get("availableReplicas", 0) < wanted:
        return f"{status.get('availableReplicas', 0)} of {wanted} replicas are available"
    return None


def pod_unmet(pod: Object | None) -> str | None:
    """What keeps a Pod from being ready, as its containers and conditions say it; None when it is ready."""
    if pod is None:
        return "it does not exist"
    status = pod.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
            return f"container {container['name']} waits: {_reason(waiting)}"
    for condition in ("PodScheduled", "Initialized", "ContainersReady"):
        if conditions.get(condition, {}).get("status") == "False":
            return f"condition {condition} is False: {_reason(conditions[condition])}"
    return f"its phase is {status.get('phase', 'unknown')}"


def _reason(state: Mapping[str, Any]) -> str:
    return ": ".join(str(state[key]) for key in ("reason", "message") if state.get(key)) or "no reason given"


def explain_deployment(client: KubernetesClient, namespace: str, name: str) -> str:
    """Why a Deployment is not ready: itself, its pods, and the newest Events of both; for error messages."""
    otherwise = f"Deployment {namespace}/{name}: the API does not tell in time what keeps it"
    return told_in_time(lambda: _explanation(client, namespace, name), otherwise)


def _explanation(client: KubernetesClient, namespace: str, name: str) -> str:
    deployment = client.get(ObjectRef("apps/v1", "Deployment", name, namespace))
    parts = [f"Deployment {namespace}/{name}: {deployment_unmet(deployment) or 'it is ready by now'}"]
    if deployment is None:
        return parts[0]
    parts += [f"event: {line}" for line in client.events("Deployment", namespace, name, 2, True)]
    selector = ",".join(
        f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items()
    )
    pods = client.list_objects("v1", "Pod", namespace, labels=selector)
    for pod in pods:
        missing = pod_unmet(pod)
        if missing:
            parts.append(f"Pod {pod['metadata']['name']}: {missing}")
            parts += [
                f"event: {line}" for line in client.events("Pod", namespace, pod["metadata"]["name"], 3, True)
            ]
    if not pods:
        for replica_set in client.list_objects("apps/v1", "ReplicaSet", namespace, labels=selector):
            lines = client.events("ReplicaSet", namespace, replica_set["metadata"]["name"], 2, True)
            parts += [f"event: {line}" for line in lines]
    return "; ".join(parts)
