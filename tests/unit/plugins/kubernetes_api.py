# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small Kubernetes API on loopback: real HTTP, objects in memory, server-side apply as a merge.

It knows what the modules need (discovery, get, list by label, create, replace, apply with dry run, delete,
ports of pods and commands in them), and can be told to answer with an error. What needs the real rules of
Kubernetes is tested on the lab.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from pod_streams import Stream
from web_server import Server

RESOURCES = {
    "/api/v1": [
        ("Namespace", "namespaces", False),
        ("Node", "nodes", False),
        ("Secret", "secrets", True),
        ("ConfigMap", "configmaps", True),
        ("Service", "services", True),
        ("ServiceAccount", "serviceaccounts", True),
        ("Event", "events", True),
        ("Pod", "pods", True),
    ],
    "/apis/apps/v1": [
        ("DaemonSet", "daemonsets", True),
        ("Deployment", "deployments", True),
        ("ReplicaSet", "replicasets", True),
    ],
    "/apis/autoscaling/v2": [("HorizontalPodAutoscaler", "horizontalpodautoscalers", True)],
    "/apis/policy/v1": [("PodDisruptionBudget", "poddisruptionbudgets", True)],
    "/apis/rbac.authorization.k8s.io/v1": [
        ("ClusterRole", "clusterroles", False),
        ("ClusterRoleBinding", "clusterrolebindings", False),
        ("Role", "roles", True),
        ("RoleBinding", "rolebindings", True),
    ],
    "/apis/admissionregistration.k8s.io/v1": [
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False),
    ],
    "/apis/discovery.k8s.io/v1": [("EndpointSlice", "endpointslices", True)],
    "/apis/coordination.k8s.io/v1": [("Lease", "leases", True)],
    "/apis/apiextensions.k8s.io/v1": [("CustomResourceDefinition", "customresourcedefinitions", False)],
    "/apis/networking.k8s.io/v1": [("NetworkPolicy", "networkpolicies", True)],
    "/apis/networking.istio.io/v1": [
        ("Gateway", "gateways", True),
        ("VirtualService", "virtualservices", True),
        ("DestinationRule", "destinationrules", True),
        ("ServiceEntry", "serviceentries", True),
    ],
    "/apis/gateway.networking.k8s.io/v1": [("Gateway", "gateways", True), ("HTTPRoute", "httproutes", True)],
    "/apis/networking.istio.io/v1alpha3": [("EnvoyFilter", "envoyfilters", True)],
    "/apis/security.istio.io/v1": [
        ("AuthorizationPolicy", "authorizationpolicies", True),
        ("PeerAuthentication", "peerauthentications", True),
    ],
    "/apis/authentication.k8s.io/v1": [("TokenReview", "tokenreviews", False)],
    "/apis/authorization.k8s.io/v1": [
        ("SelfSubjectRulesReview", "selfsubjectrulesreviews", False),
        ("SubjectAccessReview", "subjectaccessreviews", False),
    ],
}
REVIEWS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "TokenReview": lambda spec: {"authenticated": True, "user": {"username": f"bearer of {spec['token']}"}},
    "SelfSubjectReview": lambda _spec: {"userInfo": {"username": "operator", "groups": []}},
    "SelfSubjectAccessReview": lambda _spec: {"allowed": True},
    "SubjectAccessReview": lambda spec: {"allowed": spec["resourceAttributes"]["resource"] != "secrets"},
    "SelfSubjectRulesReview": lambda _spec: {
        "incomplete": False,
        "resourceRules": [
            {
                "verbs": ["get", "list", "watch"],
                "apiGroups": [""],
                "resources": ["namespaces", "nodes", "pods"],
            },
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["services", "endpointslices"]},
            {"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["only-one"]},
        ],
    },
}

PLURALS = {plural for group in RESOURCES.values() for _kind, plural, _namespaced in group}
PLURALS |= {"ciliumnetworkpolicies"}  # some clusters have them

Object = dict[str, Any]
RunCommand = Callable[[str, list[str]], tuple[Iterable[str], int]]


class ApiServer:
    """One cluster. ``objects`` is by path; ``failures`` gives the next answers to a method and path.

    Pods end at once, having said ``pod_log``, unless ``run_pod`` does something else with a new one.
    ``after_apply`` is called with the path of each object that was applied.
    ``run_command`` gives the output and exit code of a command in a pod.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.objects: dict[str, Object] = {}
        self.failures: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        self.requests: list[str] = []
        self.fills_tokens = True
        self.after_apply: Callable[[str], None] = lambda _path: None
        self._applied: dict[str, set[str]] = {}
        self.rejected_tokens: set[str] = set()
        self.pod_log = ""
        self.run_pod: Callable[[Object], None] = lambda pod: pod.setdefault("status", {"phase": "Succeeded"})
        self.run_command: RunCommand = lambda _pod, _command: ([], 127)
        self._ports: dict[tuple[str, int], tuple[Mapping[str, Any], ssl.SSLContext | None]] = {}
        self._servers: list[Server] = []
        self._lock = threading.Lock()
        self._version = 0
        self._server = self._start(self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.kubeconfig = folder / f"{name}.kubeconfig"
        self.write_kubeconfig()

    def write_kubeconfig(self) -> None:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": self.name, "cluster": {"server": self.url}}],
            "contexts": [{"name": "it", "context": {"cluster": self.name, "user": "me"}}],
            "users": [{"name": "me", "user": {"token": "operator-token"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    def _start(self, handler: type[BaseHTTPRequestHandler]) -> Server:
        """Have a server answer on loopback."""
        server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)
        return server

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def listen(
        self, pod: str, port: int, pages: Mapping[str, Any], context: ssl.SSLContext | None = None
    ) -> None:
        """Have a port of a pod answer with these objects by path, over TLS where there is a context."""
        self._ports[pod, port] = (pages, context)

    def serve(self, pages: Mapping[str, Any]) -> str:
        """Have a server outside of the cluster answer with these objects by path; its address."""
        return f"http://127.0.0.1:{self._start(handler_of(pages)).server_port}"

    def stream(self, request: BaseHTTPRequestHandler) -> bool:
        """Answer a request that goes on to a pod; False where it is another."""
        split = urlsplit(request.path)
        pod, _slash, action = split.path.rpartition("/pods/")[2].partition("/")
        query = parse_qs(split.query)
        if action == "exec":
            output, exit_code = self.run_command(pod, query["command"])
            words = " ".join(query["command"])
            Stream(request).run((as_curl_writes(text, words) for text in output), exit_code)
        elif action == "portforward":
            port = int(query["ports"][0])
            served = self._ports.get((pod, port))
            if served is None:
                request.send_error(500, "nothing listens there")
            else:
                Stream(request).forward(port, connection_to(*served))
        return action in ("exec", "portforward")

    def put(self, path: str, obj: Object) -> Object:
        self._version += 1
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(self._version)
        obj["metadata"].setdefault("creationTimestamp", datetime.now(UTC).isoformat())
        obj["metadata"].setdefault("uid", f"{self.name}-{self._version}")
        if obj.get("kind") == "Pod":
            self.run_pod(obj)
        if obj.get("type") == "kubernetes.io/service-account-token" and self.fills_tokens:
            account = obj["metadata"].get("annotations", {}).get("kubernetes.io/service-account.name", "")
            text = f"token-of-{self.name}" + ("-alone" if account.startswith("exomesh-") else "")
            token = base64.b64encode((text + "-2" * (text in self.rejected_tokens)).encode()).decode()
            obj["data"] = {"token": token, "ca.crt": base64.b64encode(b"the CA").decode()}
        self.objects[path] = obj
        return obj

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        split = urlsplit(url)
        path, query = unquote(split.path), parse_qs(split.query)
        with self._lock:
            self.requests.append(f"{method} {path}")
            waiting = self.failures.get((method, path))
            if waiting:
                return waiting.pop(0)
            if path.endswith("/log"):
                secrets = [obj for obj in self.objects.values() if "curl.conf" in (obj.get("data") or {})]
                options = "".join(base64.b64decode(obj["data"]["curl.conf"]).decode() for obj in secrets)
                return 200, as_curl_writes(self.pod_log, options)
            if path == "/version":
                return 200, {"gitVersion": "v1.36.3"}
            if path == "/apis":
                groups = [group.removeprefix("/apis/") for group in RESOURCES if group.startswith("/apis/")]
                versions = [{"groupVersion": group} for group in groups]
                return 200, {"groups": [{"preferredVersion": one, "versions": [one]} for one in versions]}
            if path in RESOURCES:
                return 200, {
                    "resources": [
                        {"kind": kind, "name": plural, "namespaced": namespaced, "verbs": ["list", "delete"]}
                        for kind, plural, namespaced in RESOURCES[path]
                    ]
                }
            return self._answer_object(method, path, query, body)

    def _answer_object(
        self, method: str, path: str, query: dict[str, list[str]], body: Any
    ) -> tuple[int, Any]:
        if method == "POST":
            review = REVIEWS.get(body["kind"])
            if review:
                return 201, {**body, "status": review(body.get("spec", {}))}
            return self._create(f"{path}/{body['metadata']['name']}", body)
        if method == "PATCH":
            return self._patch(path, body, dry_run="dryRun" in query)
        if method == "GET" and path.rsplit("/", 1)[1] in PLURALS:
            return self._list(path, query.get("labelSelector", [""])[0], query.get("fieldSelector", [""])[0])
        live = self.objects.get(path)
        return status(404, "NotFound") if live is None else self._answer_live(method, path, live, query, body)

    def _answer_live(
        self, method: str, path: str, live: Object, query: dict[str, list[str]], body: Any
    ) -> tuple[int, Any]:
        if method == "PUT":
            return self._replace(path, live, body, "dryRun" in query)
        return self._delete(path, live, body or {}) if method == "DELETE" else (200, live)

    def _list(self, path: str, selector: str, fields: str) -> tuple[int, Any]:
        group, plural = path.rsplit("/", 1)
        found = [
            obj
            for key, obj in self.objects.items()
            if (parts := key.rsplit("/", 1)[0]) == path
            or (parts.startswith(f"{group}/namespaces/") and parts.endswith(f"/{plural}"))
        ]
        return 200, {
            "items": [obj for obj in found if matches(selector, labels_of(obj)) and has_field(fields, obj)]
        }

    def _create(self, path: str, body: Object) -> tuple[int, Any]:
        return status(409, "AlreadyExists") if path in self.objects else (201, self.put(path, body))

    def _patch(self, path: str, body: Object, dry_run: bool) -> tuple[int, Any]:
        if path.endswith("/scale"):
            self.objects[path.removesuffix("/scale")]["spec"]["replicas"] = body["spec"]["replicas"]
            return 200, body
        merged = merge(self.objects.get(path) or {"metadata": {}}, body)
        if dry_run:
            return 200, merged
        # Annotations that were applied before, and are not applied now, go.
        annotations = dict(body["metadata"].get("annotations") or {})
        for gone in self._applied.get(path, set()) - set(annotations):
            merged["metadata"]["annotations"].pop(gone, None)
        self._applied[path] = set(annotations)
        written = self.put(path, merged)
        self.after_apply(path)
        return 200, written

    def _replace(self, path: str, live: Object, body: Object, dry_run: bool) -> tuple[int, Any]:
        if body["metadata"].get("resourceVersion") != live["metadata"]["resourceVersion"]:
            return status(409, "Conflict")
        return 200, body if dry_run else self.put(path, body)

    def _delete(self, path: str, live: Object, body: Object) -> tuple[int, Any]:
        version = body.get("preconditions", {}).get("resourceVersion")
        if version not in (None, live["metadata"]["resourceVersion"]):
            return status(409, "Conflict")
        return 200, self.objects.pop(path)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet for each answer

            def handle_any(self) -> None:
                if api.stream(self):
                    return
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                token = self.headers.get("authorization", "").removeprefix("Bearer ")
                code, answer = (
                    status(401, "Unauthorized")
                    if token in api.rejected_tokens
                    else api.answer(self.command, self.path, body)
                )
                if "as=Table" in self.headers.get("accept", ""):
                    answer = table_of(answer["items"])
                content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_args: Any) -> None:
                pass

        return Handler


def handler_of(pages: Mapping[str, Any]) -> type[BaseHTTPRequestHandler]:
    """What answers with these objects by path."""

    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = self.path in pages
            content = pages[self.path] if found else b""
            text = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(200 if found else 404)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_args: Any) -> None:
            pass

    return Pages


def connection_to(pages: Mapping[str, Any], context: ssl.SSLContext | None) -> socket.socket:
    """A connection to a pod: it needs no server that waits, as only its API can connect to it."""
    near, far = socket.socketpair()

    def answer() -> None:
        # The client may go, or not trust us, at any time.
        with far, suppress(OSError), context.wrap_socket(far, server_side=True) if context else far as served:
            handler_of(pages)(served, ("pod", 0), None)  # type: ignore[arg-type]

    threading.Thread(target=answer, daemon=True).start()
    return near


def as_curl_writes(text: str, options: str) -> str:
    """What a test has curl write, with the mark that is in its options, which tests cannot know."""
    if not (mark := re.search("exomesh-[0-9a-f]{32}", options)):
        return text
    fields = [part.replace("\t", f"~{mark[0]}|") for part in text.split("~exomesh~")]
    text = f"~{mark[0]}~".join([text.split("~exomesh~", maxsplit=1)[0], *fields[1:]])
    return text.replace("@@exomesh ", f"@@{mark[0]} ").replace("exomesh-answer ", f"{mark[0]} ")


def status(code: int, reason: str, message: str = "") -> tuple[int, Object]:
    """An answer as Kubernetes gives it when it refuses."""
    return code, {"kind": "Status", "code": code, "reason": reason, "message": message or reason}


def table_of(objects: list[Object]) -> Object:
    """A list as ``kubectl get`` asks for it."""
    rows = [{"cells": [obj["metadata"]["name"], obj.get("type", "Opaque")]} for obj in objects]
    return {"kind": "Table", "columnDefinitions": [{"name": "Name"}, {"name": "Type"}], "rows": rows}


def labels_of(obj: Object) -> dict[str, str]:
    labels: dict[str, str] = obj["metadata"].get("labels") or {}
    return labels


def has_field(selector: str, obj: Object) -> bool:
    """Whether an object has the values of a field selector; an empty one selects all."""
    for part in filter(None, selector.split(",")):
        path, _, value = part.partition("=")
        found: Any = obj
        for name in path.removesuffix("!").split("."):
            found = (found or {}).get(name)
        if (found != value) != path.endswith("!"):
            return False
    return True


def matches(selector: str, labels: Object) -> bool:
    """Whether labels match a selector: ``key=value``, ``key!=value``, ``key in (a,b)``, ``key``, ``!key``."""
    for wanted in filter(None, re.split(r",(?![^(]*\))", selector)):
        if choice := re.fullmatch(r"(\S+) in \((.*)\)", wanted):
            if labels.get(choice[1]) not in choice[2].split(","):
                return False
            continue
        if "!=" in wanted:
            key, _equals, value = wanted.partition("!=")
            if labels.get(key) == value:
                return False
            continue
        key, equals, value = wanted.lstrip("!").partition("=")
        if (labels.get(key) == value if equals else key in labels) is wanted.startswith("!"):
            return False
    return True


def merge(base: Any, overlay: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(overlay, dict)):
        return copy.deepcopy(overlay)
    return {
        key: merge(base[key], overlay[key])
        if key in base and key in overlay
        else overlay.get(key, base.get(key))
        for key in {**base, **overlay}
    }
