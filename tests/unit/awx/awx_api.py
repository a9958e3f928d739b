"""A stand-in for AWX's API v2 on loopback, in memory: what awx.awx 24.6.1 asks of it, and nothing else.

It is written from the requests of awx.awx and the rules in AWX's published sources; it was not compared with
a server. Where AWX ignores a field that it does not know, this refuses it.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from survey_rules import survey_errors

Object = dict[str, Any]
ENCRYPTED = "$encrypted$"


@dataclass(frozen=True)
class Kind:
    """What the objects of an endpoint are.

    fields: what they have, with its default; None is nothing yet. references: fields with the ID of another
    object, by the endpoint of that. required: what a new one must have. lists: what can be associated.
    """

    type: str
    fields: dict[str, Any]
    references: dict[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ("name",)
    lists: dict[str, str] = field(default_factory=dict)


ORGANIZATION = {"organization": "organizations"}
NODES = "workflow_job_template_nodes"
NOTIFICATIONS = {
    f"notification_templates_{event}": "notification_templates" for event in ("started", "success", "error")
}
ROLES = ("JobTemplate Execute", "WorkflowJobTemplate Execute", "WorkflowJobTemplate Approve")
KINDS = {
    "organizations": Kind("organization", {}),
    "credential_types": Kind(
        "credential_type",
        {"kind": None, "inputs": {}, "injectors": {}, "managed": False},
        required=("name", "kind"),
    ),
    "credentials": Kind(
        "credential",
        {"inputs": {}},
        {**ORGANIZATION, "credential_type": "credential_types"},
        required=("name", "organization", "credential_type"),
    ),
    "execution_environments": Kind(
        "execution_environment",
        {"image": "", "pull": ""},
        {**ORGANIZATION, "credential": "credentials"},
        ("name", "image"),
    ),
    "projects": Kind(
        "project",
        {"scm_type": "", "scm_url": "", "scm_branch": "", "scm_revision": "0" * 40},
        {**ORGANIZATION, "credential": "credentials"},
    ),
    "inventories": Kind(
        "inventory",
        {"kind": "", "host_filter": None, "variables": ""},
        ORGANIZATION,
        ("name", "organization"),
    ),
    "inventory_sources": Kind(
        "inventory_source",
        {
            "source": "",
            "source_path": "",
            "overwrite": False,
            "overwrite_vars": False,
            "update_on_launch": False,
            "update_cache_timeout": 0,
        },
        {
            "inventory": "inventories",
            "source_project": "projects",
            "credential": "credentials",
            "execution_environment": "execution_environments",
        },
        ("name", "inventory"),
    ),
    "job_templates": Kind(
        "job_template",
        {
            "job_type": "run",
            "playbook": "",
            "diff_mode": False,
            "survey_enabled": False,
            "ask_limit_on_launch": False,
            "forks": 0,
            "timeout": 0,
        },
        {
            **ORGANIZATION,
            "project": "projects",
            "inventory": "inventories",
            "execution_environment": "execution_environments",
        },
        ("name", "project", "playbook"),
        {"credentials": "credentials", **NOTIFICATIONS},
    ),
    "workflow_job_templates": Kind(
        "workflow_job_template",
        {"survey_enabled": False, "ask_limit_on_launch": False},
        ORGANIZATION,
        lists={**NOTIFICATIONS, "notification_templates_approvals": "notification_templates"},
    ),
    NODES: Kind(
        "workflow_job_template_node",
        {"identifier": ""},
        {"workflow_job_template": "workflow_job_templates", "unified_job_template": "unified_job_templates"},
        ("identifier", "workflow_job_template"),
        dict.fromkeys(("success_nodes", "failure_nodes", "always_nodes"), NODES),
    ),
    "notification_templates": Kind("notification_template", {}, ORGANIZATION),
    "teams": Kind("team", {}, ORGANIZATION),
    "role_definitions": Kind("role_definition", {}),
    "role_team_assignments": Kind(
        "role_team_assignment",
        {"object_id": 0},
        {"role_definition": "role_definitions", "team": "teams"},
        ("role_definition", "team", "object_id"),
    ),
    "workflow_approval_templates": Kind("workflow_approval_template", {"timeout": 0}),
    "schedules": Kind(
        "schedule",
        {"rrule": "", "enabled": True},
        {"unified_job_template": "unified_job_templates"},
        ("name", "rrule", "unified_job_template"),
    ),
}
UNIFIED = (
    "projects",
    "inventory_sources",
    "job_templates",
    "workflow_job_templates",
    "workflow_approval_templates",
)
# These may have the name of another, or have none.
NAMELESS = ("workflow_approval_templates", "role_team_assignments")
# What goes with an object. Everything else that refers to it forgets it.
CASCADES = {("inventories", "inventory_sources"), ("workflow_job_templates", NODES)} | {
    (endpoint, "schedules") for endpoint in UNIFIED
}


class RefusedError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, body: Object) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class Awx:
    """What is in AWX. writes: method and path of every request that changed something."""

    def __init__(self, token: str, password: str, playbooks: set[str]) -> None:
        self.token = token
        self.password = password
        self.playbooks = playbooks
        self.objects: dict[str, dict[int, Object]] = {endpoint: {} for endpoint in KINDS}
        self.lists: dict[tuple[int, str], list[int]] = {}
        self.surveys: dict[int, Object] = {}
        self.writes: list[tuple[str, str]] = []
        self.url = ""
        self._ids = itertools.count(1)
        self.create("organizations", {"name": "Default"})
        for name in ROLES:
            self.create("role_definitions", {"name": name})

    def named(self, endpoint: str, name: str) -> Object:
        """The object of that name, secrets and all."""
        return next(
            item
            for item in self.objects[endpoint].values()
            if name in (item.get("name"), item.get("identifier"))
        )

    def snapshot(self) -> str:
        """Everything, to be compared."""
        return json.dumps([self.objects, list(self.lists.items()), self.surveys], default=str, sort_keys=True)

    def create(self, endpoint: str, given: Object) -> Object:
        """Make an object, or refuse."""
        kind = KINDS[endpoint]
        defaults = {"name": "", "description": "", **kind.fields, **dict.fromkeys(kind.references)}
        if missing := [name for name in kind.required if not given.get(name)]:
            raise RefusedError(400, {name: ["This field is required."] for name in missing})
        item = {**defaults, "id": next(self._ids), "type": kind.type}
        self._assign(endpoint, item, given)
        self.objects[endpoint][item["id"]] = item
        return item

    def change(self, endpoint: str, item: Object, given: Object) -> Object:
        """Change an object, or refuse."""
        changed = {**item}
        self._assign(endpoint, changed, given)
        item.update(changed)
        return item

    def _assign(self, endpoint: str, item: Object, given: Object) -> None:
        kind = KINDS[endpoint]
        for name, value in given.items():
            if name not in item:
                raise RefusedError(400, {name: [f"{endpoint} have no such field."]})
            if name == "type" and value != kind.type:
                raise RefusedError(400, {name: ["It cannot be changed."]})
            if name in kind.references and value is not None:
                self.find(kind.references[name], value)
            default = kind.fields.get(name)
            if default is not None and type(value) is not type(default):
                raise RefusedError(400, {name: [f"Not a valid {type(default).__name__}: {value!r}"]})
            if name == "inputs" and endpoint == "credentials":
                kept = {key: item["inputs"][key] for key, text in value.items() if text == ENCRYPTED}
                item[name] = value | kept
            else:
                item[name] = value
        identity = [
            item.get(name) for name in ("name", "identifier", "organization", "workflow_job_template")
        ]
        for other in self.objects[endpoint].values():
            same = identity == [
                other.get(n) for n in ("name", "identifier", "organization", "workflow_job_template")
            ]
            if same and other["id"] != item["id"] and endpoint not in NAMELESS:
                raise RefusedError(400, {"__all__": [f"{identity} already exists."]})
        check = getattr(self, f"_check_{endpoint}", None)
        if check:
            check(item)

    def _check_credentials(self, item: Object) -> None:
        inputs = self.find("credential_types", item["credential_type"])["inputs"]
        unknown = item["inputs"].keys() - {entry["id"] for entry in inputs["fields"]}
        if unknown:
            raise RefusedError(400, {"inputs": [f"unexpected: {sorted(unknown)}"]})

    def _check_job_templates(self, item: Object) -> None:
        item["organization"] = self.find("projects", item["project"])["organization"]
        if item["playbook"] not in self.playbooks:
            raise RefusedError(400, {"playbook": ["Playbook not found for project."]})

    def _check_schedules(self, item: Object) -> None:
        if not re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=[A-Z]+;INTERVAL=\d+.*", item["rrule"]):
            raise RefusedError(400, {"rrule": ["Valid DTSTART and RRULE with INTERVAL required."]})
        questions = self.surveys.get(item["unified_job_template"], {}).get("spec", [])
        if any(question["required"] for question in questions):
            raise RefusedError(400, {"variables_needed_to_start": ["value missing"]})

    def find(self, endpoint: str, number: Any) -> Object:
        """The object of that ID."""
        for name in UNIFIED if endpoint == "unified_job_templates" else (endpoint,):
            if int(number) in self.objects.get(name, {}):
                return self.objects[name][int(number)]
        raise RefusedError(404, {"detail": f"Not found: {endpoint} {number}"})

    def matching(self, endpoint: str, filters: dict[str, str]) -> list[Object]:
        """The objects whose fields have these values."""
        sources = UNIFIED if endpoint == "unified_job_templates" else (endpoint,)
        found = [item for source in sources for item in self.objects[source].values()]
        for name, value in filters.items():
            if found and not any(name in item for item in found):
                raise RefusedError(400, {"detail": f"{endpoint} has no field named '{name}'"})
            found = [item for item in found if str(item.get(name)) == value]
        return found

    def delete(self, endpoint: str, item: Object) -> None:
        """Delete the object and what goes with it."""
        if endpoint == "credential_types" and self.matching(
            "credentials", {"credential_type": str(item["id"])}
        ):
            raise RefusedError(403, {"detail": "Credential types that are in use cannot be deleted."})
        approval = item.get("unified_job_template") if endpoint == NODES else None
        if approval in self.objects["workflow_approval_templates"]:
            del self.objects["workflow_approval_templates"][approval]
        del self.objects[endpoint][item["id"]]
        rights = self.objects["role_team_assignments"]
        for number in [number for number, right in rights.items() if right["object_id"] == item["id"]]:
            del rights[number]
        self.surveys.pop(item["id"], None)
        for key in [key for key in self.lists if key[0] == item["id"]]:
            del self.lists[key]
        for associated in self.lists.values():
            associated[:] = [number for number in associated if number != item["id"]]
        for other_endpoint, kind in KINDS.items():
            fields = [name for name, target in kind.references.items() if self._refers(target, endpoint)]
            for other in list(self.objects[other_endpoint].values()):
                for name in fields:
                    if other.get(name) == item["id"] and (endpoint, other_endpoint) in CASCADES:
                        self.delete(other_endpoint, other)
                        break
                    if other.get(name) == item["id"]:
                        other[name] = None

    @staticmethod
    def _refers(target: str, endpoint: str) -> bool:
        return target == endpoint or (target == "unified_job_templates" and endpoint in UNIFIED)

    def shown(self, item: Object) -> Object:
        """The object as the API shows it: with links, without secrets."""
        endpoint = next(name for name, kind in KINDS.items() if kind.type == item["type"])
        url = f"/api/v2/{endpoint}/{item['id']}/"
        shown = {**item, "url": url, "related": {}, "summary_fields": {}}
        if endpoint == "credentials":
            fields = self.find("credential_types", item["credential_type"])["inputs"]["fields"]
            secret = {entry["id"] for entry in fields if entry.get("secret")}
            shown["inputs"] = {
                key: ENCRYPTED if key in secret else text for key, text in item["inputs"].items()
            }
        if endpoint in ("job_templates", "workflow_job_templates"):
            shown["related"]["survey_spec"] = f"{url}survey_spec/"
        if endpoint == "projects":
            shown["summary_fields"]["current_update"] = {"id": item["id"]}
        if endpoint == NODES and item["unified_job_template"]:
            job = self.find("unified_job_templates", item["unified_job_template"])
            shown["related"]["unified_job_template"] = self.shown(job)["url"]
        return shown

    def answer(  # noqa: PLR0911
        self, method: str, path: str, filters: dict[str, str], body: Any
    ) -> tuple[int, Any]:
        """The status and the content for a request."""
        match path.removeprefix("/api/v2/").strip("/").split("/"):
            case ["project_updates", _] if method == "GET":
                return 200, {"status": "successful"}
            case [endpoint] if method == "GET":
                found = [self.shown(item) for item in self.matching(endpoint, filters)]
                return 200, {"count": len(found), "next": None, "previous": None, "results": found}
            case [endpoint] if method == "POST":
                return 201, self.shown(self.create(endpoint, body))
            case [endpoint, number]:
                return self._one(method, endpoint, self.find(endpoint, number), body)
            case [endpoint, number, "survey_spec"]:
                return self._survey(method, self.find(endpoint, number), body)
            case [endpoint, number, "create_approval_template"] if method == "POST" and endpoint == NODES:
                approval = self.create("workflow_approval_templates", body)
                self.find(endpoint, number)["unified_job_template"] = approval["id"]
                return 201, self.shown(approval)
            case [endpoint, number, name] if name in KINDS[endpoint].lists:
                return self._associate(
                    method, KINDS[endpoint].lists[name], (self.find(endpoint, number)["id"], name), body
                )
        raise RefusedError(404, {"detail": f"Not found: {method} {path}"})

    def _one(self, method: str, endpoint: str, item: Object, body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, self.shown(item)
        if method == "PATCH":
            return 200, self.shown(self.change(endpoint, item, body))
        self.delete(endpoint, item)
        return (202 if endpoint == "inventories" else 204), {}

    def _survey(self, method: str, item: Object, body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, self.surveys.get(item["id"], {})
        if method == "POST":
            if errors := survey_errors(body):
                raise RefusedError(400, {"error": errors[0]})
            self.surveys[item["id"]] = body
        else:
            self.surveys.pop(item["id"], None)
        return 200, {}

    def _associate(self, method: str, endpoint: str, key: tuple[int, str], body: Any) -> tuple[int, Any]:
        associated = self.lists.setdefault(key, [])
        if method == "GET":
            found = [self.shown(self.find(endpoint, number)) for number in associated]
            return 200, {"count": len(found), "next": None, "previous": None, "results": found}
        number = self.find(endpoint, body["id"])["id"]
        if body.get("disassociate"):
            associated.remove(number)
        else:
            types = [self.find(endpoint, known).get("credential_type") for known in associated]
            if endpoint == "credentials" and self.find(endpoint, number)["credential_type"] in types:
                raise RefusedError(400, {"error": "Cannot assign multiple credentials of one type."})
            associated.append(number)
        return 204, {}


class _Handler(BaseHTTPRequestHandler):
    awx: Awx

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}") if length else {}
        url = urlsplit(self.path)
        try:
            status, answer = self._answer(url.path, dict(parse_qsl(url.query)), body)
        except RefusedError as refused:
            status, answer = refused.status, refused.body
        content = b"" if status == 204 else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, path: str, filters: dict[str, str], body: Any) -> tuple[int, Any]:
        login = self.headers.get("Authorization", "")
        if path.startswith("/api/v2/tokens/"):
            basic = base64.b64encode(f"admin:{self.awx.password}".encode()).decode()
            if login != f"Basic {basic}":
                raise RefusedError(401, {"detail": "Invalid username/password."})
            return (204, {}) if self.command == "DELETE" else (201, {"id": 1, "token": self.awx.token})
        if login != f"Bearer {self.awx.token}":
            raise RefusedError(401, {"detail": "Authentication credentials were not provided."})
        answer = self.awx.answer(self.command, path, filters, body)
        if self.command != "GET":
            self.awx.writes.append((self.command, path))
        return answer

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the test's output clean."""


@contextmanager
def serve(awx: Awx) -> Iterator[Awx]:
    """Serve AWX on loopback while the context lasts; its `url` says where."""
    handler = type("Handler", (_Handler,), {"awx": awx})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        awx.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        try:
            yield awx
        finally:
            server.shutdown()
