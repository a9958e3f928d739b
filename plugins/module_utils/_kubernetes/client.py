# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small typed client of one cluster's Kubernetes API (private to the collection).

Credentials and TLS come from the ``kubernetes`` package, out of one named kubeconfig. Objects are plain
dicts. What is not built into Kubernetes is looked up in the API's own discovery, so custom resources need
nothing. One client may be used by many threads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
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

with suppress(ImportError):  # require("kubernetes") tells
    from websocket import WebSocket, WebSocketBadStatusException, WebSocketException


MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "exomesh.istio"
FIELD_MANAGER = "exomesh.istio"

EVENTS_UNREAD = "its Events cannot be read"
"""In place of an object's Events."""


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether the object has the label of what this collection made."""
    return bool((obj["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY)


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


class KubernetesClient(Api):
    """The objects of one cluster, and its pods."""

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

    def set_labels(self, ref: ObjectRef, labels: Mapping[str, str], uid: str | None = None) -> None:
        """Set labels of an object that is there, and leave all else in it as it is.

        :param uid: set them of this very object only; a Conflict (409) otherwise.
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
        path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/log"
        response = self._send("GET", path, query, accept="*/*")
        if response.status < 400:
            return str(response.data.decode(errors="replace"))
        message = f"The log of container {container} of pod {namespace}/{pod} cannot be read"
        raise ApiError(message, response.status, str(response.status), cluster=self.name)


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
