# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The APIs of many members of a mesh on loopback, each with TLS on a port of its own.

They answer what a run without a change asks: discovery, an object, a list, a dry run of server-side apply
that changes nothing, and istiod's debug pages through a forwarded port. Everything else is refused with 501
and kept in mind, so that a run that ends well was not answered by guesses. All requests are counted.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ansible_collections.exomesh.istio.plugins.module_utils._istio.manifest import without_own_changes
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import Object
from exolab import pki
from kubernetes.utils.quantity import parse_quantity
from kubernetes_api import labels_of, matches, status
from pod_streams import Stream

from scale_model.recording import Member

DISCOVERY, GET, LIST, WATCH, DRY_RUN, POD = "discovery", "get", "list", "watch", "dry run", "pod"
WRITE, REFUSED = "write", "refused"

_LIST_OPTIONS = {"labelSelector", "fieldSelector", "limit"}
_WATCH_OPTIONS = {
    "allowWatchBookmarks": "true",
    "resourceVersionMatch": "NotOlderThan",
    "sendInitialEvents": "true",
    "watch": "true",
}
"""A watch that begins with what is there, as Go's informers ask for it."""

_OBJECT = re.compile(
    r"(?P<group>/api/v1|/apis/[^/]+/[^/]+)(/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(/(?P<name>[^/]+))?"
)


class Refusal(Exception):  # noqa: N818 - it is an answer
    """The recording does not tell what the API would answer."""


@dataclass
class Traffic:
    """What was asked of one member: requests by kind, bytes of bodies both ways, and what was refused."""

    requests: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    refused: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, size: int, refused: str = "") -> None:
        with self._lock:
            self.requests[kind] += 1
            self.bytes += size
            self.refused += [refused] if refused else []


class PlayedCluster(ThreadingHTTPServer):
    """One member's API."""

    request_queue_size = 256

    def __init__(self, member: Member, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        # Hands are shaken in the thread of each connection, so that none waits for another.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.name = member.name
        self.traffic = Traffic()
        self._member = member
        self._objects = {
            (kind, obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj
            for kind, objects in member.objects.items()
            for obj in objects
        }

    def write_kubeconfig(self, path: Path, authority: Path) -> None:
        name, server = self.name, f"https://127.0.0.1:{self.server_port}"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": name, "cluster": {"server": server, "certificate-authority": str(authority)}}
            ],
            "users": [{"name": name, "user": {"token": "anyone"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(document))

    def answer(self, method: str, url: str, body: bytes) -> tuple[str, int, Object]:
        """Kind of the request, status and answer.

        :raises Refusal: the answer is not known.
        """
        split = urlsplit(url)
        path, query = unquote(split.path), parse_qs(split.query)
        for limit in ("timeout", "timeoutSeconds", "resourceVersion"):
            query.pop(limit, None)  # how long the answer may take, and how old it may be
        if method == "GET" and path in self._member.documents:
            return DISCOVERY, 200, self._member.documents[path]
        group = re.match(r"/apis/[^/]+/[^/]+", path)
        if method == "GET" and group and group[0] not in self._member.documents:
            return DISCOVERY if path == group[0] else GET, *status(404, "NotFound")
        found = _OBJECT.fullmatch(path)
        kind = f"{found['group']}/{found['plural']}" if found else ""
        if found is None or kind not in self._member.objects:
            raise Refusal("not recorded")
        if method == "GET" and found["name"] is None:
            watches = "watch" in query
            if watches and {name: query.pop(name, [""])[0] for name in _WATCH_OPTIONS} != _WATCH_OPTIONS:
                raise Refusal("only watches that begin with what is there are recorded")
            return WATCH if watches else LIST, 200, self._list(kind, found["namespace"], query)
        live = self._objects.get((kind, found["namespace"], found["name"]))
        if method == "GET" and not query:
            return GET, *((200, live) if live else status(404, "NotFound"))
        if method == "PATCH" and query.get("dryRun") == ["All"] and live:
            self._require_unchanged(live, json.loads(body))
            return DRY_RUN, 200, live
        raise Refusal("only reading is recorded")

    def page(self, pod: str, port: str, request: bytes) -> bytes:
        """The answer to an HTTP request for one of istiod's debug pages.

        :raises Refusal: the answer is not known.
        """
        page = request.split(b" ")[1].decode().removeprefix("/debug/")
        if port != "15014" or not pod.startswith("istiod-") or page not in self._member.pages:
            raise Refusal(f"port {port} of {pod}: not recorded")
        content = json.dumps(self._member.pages[page]).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are no error here."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def _list(self, kind: str, namespace: str | None, query: Mapping[str, list[str]]) -> Object:
        if unknown := query.keys() - _LIST_OPTIONS:
            raise Refusal(f"lists with {', '.join(sorted(unknown))} are not recorded")
        labels, fields = (query.get(name, [""])[0] for name in ("labelSelector", "fieldSelector"))
        items = [
            obj
            for obj in self._member.objects[kind]
            if namespace in (None, obj["metadata"].get("namespace"))
            and matches(labels, labels_of(obj))
            and _has_fields(obj, fields)
        ]
        # The items of a list do not say what they are.
        bare = [
            {key: part for key, part in obj.items() if key not in ("apiVersion", "kind")} for obj in items
        ]
        group, _slash, plural = kind.rpartition("/")
        resources = self._member.documents[group]["resources"]
        name = next(resource["kind"] for resource in resources if resource["name"] == plural)
        return {"apiVersion": group.split("/", 2)[2], "kind": f"{name}List", "items": bare}

    @staticmethod
    def _require_unchanged(live: Object, wanted: Object) -> None:
        path = difference(without_own_changes(live), without_own_changes(wanted))
        if path:
            raise Refusal(f"it would change {path}")


def difference(live: Any, wanted: Any) -> str | None:
    """Where an applied object is not part of the live one; None where applying it would change nothing."""
    if isinstance(live, Mapping) and isinstance(wanted, Mapping):
        # What is empty, or 0, has its default.
        given = {key: value for key, value in wanted.items() if value or value is False}
        for key, value in given.items():
            inner = difference(live[key], value) if key in live else ""
            if inner is not None:
                return f".{key}{inner}"
        return None
    if isinstance(live, list) and isinstance(wanted, list):
        missing = [
            i for i, item in enumerate(wanted) if all(difference(other, item) is not None for other in live)
        ]
        return f"[{missing[0]}]" if missing else None
    return None if live == wanted or _same_quantity(live, wanted) else ""


def _same_quantity(live: Any, wanted: Any) -> bool:
    """Whether two texts are the same amount, as 2000m and 2 are."""
    try:
        return bool(parse_quantity(live) == parse_quantity(wanted))  # type: ignore[no-untyped-call]
    except (ValueError, TypeError):
        return False


def _has_fields(obj: Object, selector: str) -> bool:
    metadata = obj["metadata"]
    fields = {
        "type": obj.get("type"),
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace"),
    }
    for name, differs, value in re.findall(r"([^!=,]+)(!?)==?([^,]*)", selector):
        if name not in fields:
            raise Refusal(f"lists by {name} are not recorded")
        if (fields[name] == value) is bool(differs):
            return False
    return True


class _Handler(BaseHTTPRequestHandler):
    server: PlayedCluster
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for each answer
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        forwarded = re.fullmatch(
            r"/api/v1/namespaces/istio-system/pods/([^/]+)/portforward\?ports=(\d+)", self.path
        )
        if forwarded:
            self._forward(*forwarded.groups())
            return
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        refused = ""
        try:
            kind, code, answer = self.server.answer(self.command, self.path, body)
        except Refusal as refusal:
            kind, refused = (
                _kind_of_refused(self.command, self.path),
                f"{self.command} {self.path}: {refusal}",
            )
            code, answer = status(501, "NotRecorded", str(refusal))
        content = b"".join(_events(answer)) if kind == WATCH else _json(answer)
        self.server.traffic.count(kind, len(body) + len(content), refused)
        self.send_response(code)
        self.send_header("content-type", "application/json")
        if kind == WATCH:
            self._keep_open(content)
        else:
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def _keep_open(self, content: bytes) -> None:
        """Send the beginning of a watch, in which nothing happens until the client has had enough."""
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
        self.wfile.flush()
        self.rfile.read(1)
        self.close_connection = True

    def _forward(self, pod: str, port: str) -> None:
        stream = Stream(self)

        def respond(request: bytes) -> bytes:
            try:
                answer, refused = self.server.page(pod, port, request), ""
            except Refusal as refusal:
                answer, refused = b"HTTP/1.1 501 Not Recorded\r\ncontent-length: 0\r\n\r\n", str(refusal)
            self.server.traffic.count(REFUSED if refused else POD, len(request) + len(answer), refused)
            return answer

        stream.answer(int(port), respond)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_args: Any) -> None:
        pass


def _json(document: Object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _events(found: Object) -> Iterator[bytes]:
    """What a watch begins with: every object of a list, and that this was all."""
    kind = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
    for item in found["items"]:
        yield _json({"type": "ADDED", "object": {**kind, **item}}) + b"\n"
    end = {"annotations": {"k8s.io/initial-events-end": "true"}, "resourceVersion": "1"}
    yield _json({"type": "BOOKMARK", "object": {**kind, "metadata": end}}) + b"\n"


def _kind_of_refused(method: str, url: str) -> str:
    return WRITE if method != "GET" and "dryRun" not in url else REFUSED


class PlayedMesh:
    """The members of a mesh, all at once; a context manager.

    :param state: folder for a kubeconfig of each, as ``mesh_state_dir`` has them.
    """

    def __init__(self, members: Iterable[Member], state: Path) -> None:
        authority = pki.Authority(state / "api-servers")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("server", "server", addresses=["127.0.0.1"]))
        self.clusters = [PlayedCluster(member, context) for member in members]
        for cluster in self.clusters:
            cluster.write_kubeconfig(state / cluster.name / "kubeconfig", authority.certificate_path)

    def __enter__(self) -> PlayedMesh:
        for cluster in self.clusters:
            threading.Thread(target=cluster.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_failure: object) -> None:
        for cluster in self.clusters:
            cluster.shutdown()
            cluster.server_close()

    def traffic(self) -> list[Traffic]:
        """What was asked of each since this was last called."""
        taken = [cluster.traffic for cluster in self.clusters]
        for cluster in self.clusters:
            cluster.traffic = Traffic()
        return taken
