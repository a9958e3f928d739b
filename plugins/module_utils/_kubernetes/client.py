# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small typed client of one cluster's Kubernetes API (private to the collection).

Credentials and TLS settings come from one named kubeconfig, in part through the ``kubernetes`` package.
Objects are plain dicts. Kinds that are not built into Kubernetes are looked up in the API's own discovery, so
custom resources need no code here. Many threads may use one client.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from .._base.connections import open_socket
from .._base.documents import load_json
from .._base.names import checked_list, checked_object
from .._base.waiting import TimeUpError, concurrently, remaining, told_in_time
from .api import LARGEST_ANSWER, REQUEST_TIMEOUT, Api, ApiError, Object, ObjectRef, segment
from .pod_streams import STATUS, STDERR, STDOUT, Channels, PodPort

with suppress(ImportError):  # require("kubernetes") reports it
    from websocket import WebSocket, WebSocketBadStatusException, WebSocketException


MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "exomesh.istio"
FIELD_MANAGER = "exomesh.istio"

EVENTS_UNREAD = "its Events cannot be read"
"""The line that replaces an object's Events when they cannot be read."""


_DERIVED = ("Event", "Endpoints", "EndpointSlice")
"""Kinds that Kubernetes derives from other objects, whose labels it copies."""


def labels_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of an object; empty if it has none."""
    return obj["metadata"].get("labels") or {}


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Return whether the object has the label that this collection sets on its objects."""
    return labels_of(obj).get(MANAGED_BY_LABEL) == MANAGED_BY


def is_derived(obj: Mapping[str, Any]) -> bool:
    """Return whether an object is made from another one, and goes with it."""
    return obj["kind"] in _DERIVED or bool(obj["metadata"].get("ownerReferences"))


@dataclass(frozen=True)
class Kind:
    """A kind of object that a cluster has."""

    api_version: str
    name: str
    namespaced: bool


@dataclass(frozen=True)
class ExecResult:
    """Result of a command in a container. ``exit_code`` is None when the command did not end in time."""

    stdout: str
    stderr: str
    exit_code: int | None


class KubernetesClient(Api):
    """A client for the objects of one cluster, and for its pods."""

    def get(self, ref: ObjectRef) -> Object | None:
        """Return the object, or None when it, its namespace or its kind does not exist."""
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
        """Return the objects of a kind that match the selectors; none when the kind does not exist."""
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
        # The items of a list do not name their kind.
        return [
            {**item, "apiVersion": api_version, "kind": kind} for item in checked_list(answer, f"the {kind}s")
        ]

    def find(self, kinds: Iterable[Kind], labels: str) -> list[Object]:
        """Return the objects of these kinds that match a label selector, but no derived ones."""
        wanted = [kind for kind in kinds if kind.name not in _DERIVED]
        lists = concurrently(
            lambda kind: self.list_objects(kind.api_version, kind.name, labels=labels), wanted
        )
        return [obj for found in lists for obj in found if not is_derived(obj)]

    def list_rows(self, api_version: str, kind: str, namespace: str) -> list[dict[str, Any]]:
        """Return the objects of a kind as rows of ``kubectl get``: of a Secret its type, but no data."""
        path = self._require_path(ObjectRef(api_version, kind, "", namespace), collection=True)
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        response = self._send("GET", path, {"includeObject": "None"}, accept=accept)
        if response.status >= 400:
            message = f"The {kind}s of {namespace} cannot be listed"
            raise ApiError(message, response.status, str(response.status), cluster=self.name)
        table = load_json(response.data, f"The list of {kind}s")
        if (
            not isinstance(table, dict) or table.get("kind") != "Table"
        ):  # a server that does not know tables would send all the data
            raise ApiError(f"The API does not list {kind}s as a table", 0, "NoTable", cluster=self.name)
        columns = [column["name"] for column in table["columnDefinitions"]]
        return [dict(zip(columns, row["cells"], strict=True)) for row in table["rows"]]

    def create(self, obj: Object) -> Object:
        return self._request("POST", self._require_path(ObjectRef.of(obj), collection=True), body=obj)

    def replace(self, obj: Object, dry_run: bool = False) -> Object:
        """Write the whole object. Raise a Conflict (409) when it has changed since its resourceVersion."""
        query = {"dryRun": "All"} if dry_run else None
        return self._request("PUT", self._require_path(ObjectRef.of(obj)), query=query, body=obj)

    def apply(self, obj: Object, field_manager: str = FIELD_MANAGER, dry_run: bool = False) -> Object:
        """Do a server-side apply that takes over fields of other managers, as ``istioctl install`` does."""
        query = {"fieldManager": field_manager, "force": "true"}
        if dry_run:
            query["dryRun"] = "All"
        path = self._require_path(ObjectRef.of(obj))
        return self._request(
            "PATCH", path, query=query, body=obj, content_type="application/apply-patch+yaml"
        )

    def set_labels(self, ref: ObjectRef, labels: Mapping[str, str], uid: str | None = None) -> None:
        """Set labels of an existing object, and leave everything else in it as it is.

        :param uid: set them only on the object with this UID; raise a Conflict (409) for any other.
        """
        metadata = {"labels": dict(labels), **({"uid": uid} if uid else {})}
        self._request(
            "PATCH",
            self._require_path(ref),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": metadata},
            content_type="application/merge-patch+json",
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
        """Delete the object; return False when it did not exist.

        :param resource_version: delete the object only in this version; raise a Conflict (409) otherwise.
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
        """Return the kinds that can be listed and deleted, each in its group's preferred version."""
        found = self._request("GET", "/apis")["groups"]
        groups = ["v1", *(group["preferredVersion"]["groupVersion"] for group in found)]

        def kinds_of(api_version: str) -> list[Kind]:
            try:
                entries = self._request("GET", self._group_path(api_version))["resources"]
            except ApiError as error:
                if error.status in (404, 503):  # the group's own server is away
                    return []
                raise
            return [
                Kind(api_version, entry["kind"], entry["namespaced"])
                for entry in entries
                if {"list", "delete"} <= set(entry["verbs"]) and "/" not in entry["name"]
            ]

        return [kind for kinds in concurrently(kinds_of, groups) for kind in kinds]

    def exec(
        self, namespace: str, pod: str, container: str, command: list[str], timeout: float
    ) -> ExecResult:
        """Run a command in a container, without a shell around it.

        :raises ApiError: the command cannot be started.
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
        """Run a command in a container; yield the lines of its output as they come, until it ends.

        :raises ApiError: the command cannot be started, or the connection breaks.
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
        """Start a command in a container; yield its channels, and close them at the end."""
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
        """Open a WebSocket for an action of a pod, such as ``exec``.

        :raises OSError: the API cannot be reached.
        :raises WebSocketException: the API refuses.
        """
        access, address = self._access, urlsplit(self._access.server)
        path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/{action}?{urlencode(query)}"
        options: dict[str, Any] = access.websocket_proxy()
        if not options:
            encrypted = address.scheme == "https"
            plain = open_socket(address.hostname or "", address.port or (443 if encrypted else 80))
            name = self.tls_server_name or address.hostname
            options["socket"] = access.tls.wrap_socket(plain, server_hostname=name) if encrypted else plain
        server_name = {"server_hostname": self.tls_server_name} if self.tls_server_name else {}
        websocket = WebSocket(sslopt={"context": access.tls, **server_name}, skip_utf8_validation=True)
        websocket.settimeout(remaining(REQUEST_TIMEOUT))
        websocket.connect(  # type: ignore[no-untyped-call]  # the package has no types
            f"{access.server.replace('http', 'ws', 1)}{path}",
            header=[f"{name}: {value}" for name, value in access.headers().items()],
            subprotocols=["v4.channel.k8s.io"],
            suppress_origin=True,
            **options,
        )
        return Channels(websocket)

    def served_certificate(self, namespace: str, pod: str, port: int, server_name: str) -> bytes:
        """Return the certificate (DER) that a pod serves for TLS on a port, reached through the API.

        It is not verified here: the caller wants to know what is served.

        :raises ApiError: there is no answer.
        """
        with self._forwarded(namespace, pod, port, "TLS", REQUEST_TIMEOUT) as connection:
            return connection.served_certificate(server_name)

    def get_from_pod(self, namespace: str, pod: str, port: int, path: str, timeout: float) -> bytes:
        """Return a pod's answer to an HTTP request, sent through the API.

        To the pod, the request seems to come from the pod itself.

        :raises ApiError: there is no answer, or its status is not 200.
        """
        return self.get_all_from_pod(namespace, pod, port, [path], timeout)[0]

    def get_all_from_pod(
        self, namespace: str, pod: str, port: int, paths: Sequence[str], timeout: float
    ) -> list[bytes]:
        """Return the answers to several requests over one connection; a new one is a load for the API."""
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
        """Open a connection to a port of a pod, through the API; close it at the end."""
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
        """Return the newest Events about an object, newest last, as ``Reason: message``; for error messages.

        The error itself must be reported in any case. So when the Events cannot be read in time, return one
        line that says so.
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
        """Return the log of a container so far: its last ``tail`` lines, or all lines.

        :param previous: return the log of the container before its restart.
        """
        query = {"container": container} | ({"tailLines": str(tail)} if tail else {})
        query |= {"previous": "true"} if previous else {}
        path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/log"
        response = self._send("GET", path, query, accept="*/*")
        if response.status < 400:
            return str(response.data.decode(errors="replace"))
        message = f"The log of container {container} of pod {namespace}/{pod} cannot be read"
        raise ApiError(message, response.status, str(response.status), cluster=self.name)


def _exit_code(status: bytes) -> int:
    """Return the exit code of a command, from the API's message about its end.

    :raises ValueError: the command never ran, as the container does not have it.
    """
    told = json.loads(status)
    if told["status"] == "Success":
        return 0
    causes = told.get("details", {}).get("causes", [])
    codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
    if not codes:
        raise ValueError(told.get("message") or "the API does not say why it ended")
    return int(codes[0])


def _stream_failure(error: Exception) -> str:
    """Return why a WebSocket was not opened, in the API's words if it sent some."""
    if isinstance(error, WebSocketBadStatusException):
        try:
            return str(json.loads(error.resp_body or b"{}")["message"])
        except (ValueError, KeyError, TypeError):
            return f"the API answers with status {error.status_code}"
    return str(error) or type(error).__name__
