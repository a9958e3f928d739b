# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs: parse, check, rename and merge them (private to the collection).

All code that reads a kubeconfig reads it here: that of a file, of Exoscale and of a remote secret. Every
client of a cluster needs this, so nothing here imports the package cryptography, which takes long. Module
``kubeconfig_certificates`` reads the certificates.

No code here puts a key, a token or a line of the file into a message.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._base.documents import DocumentError, load_yaml
from .._base.errors import ExomeshError
from .._base.requirements import require
from .._base.text import is_plain_url

with suppress(ImportError):  # require("PyYAML") reports it
    import yaml

RECORD_NAME = "exomesh.istio"
"""Name of the extension with which this collection marks the contexts that it wrote."""

_SECTIONS = (("clusters", "cluster"), ("users", "user"), ("contexts", "context"))
_FROM_AN_API = {
    "cluster": {"server", "certificate-authority-data"},
    "user": {"client-certificate-data", "client-key-data", "token"},
    "context": {"cluster", "user", "namespace", "extensions"},
}
"""All fields that a kubeconfig from an API may have, by part."""

_MEANINGS = {
    "exec": "it would run a program on this machine",
    "auth-provider": "it would run a program on this machine",
    "insecure-skip-tls-verify": "any server could pass for the cluster's",
    "tls-server-name": "another server could pass for the cluster's",
    "proxy-url": "all requests would go to somebody else first",
    "certificate-authority": "it would read a file of this machine",
    "client-certificate": "it would read a file of this machine",
    "client-key": "it would read a file of this machine",
    "tokenFile": "it would read a file of this machine",
}

_EMBEDDED_FILES = (
    ("cluster", "certificate-authority"),
    ("user", "client-certificate"),
    ("user", "client-key"),
)


class KubeconfigError(ExomeshError):
    """A kubeconfig cannot be used, or must not be changed in this way."""


@dataclass(frozen=True)
class Entry:
    """One context of a kubeconfig with the cluster and the user that it names."""

    name: str
    cluster: dict[str, Any] = field(repr=False)
    user: dict[str, Any] = field(repr=False)
    context: dict[str, Any] = field(repr=False)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self.cluster.get("server", ""))

    @property
    def cluster_name(self) -> str:
        """Name of the cluster in the kubeconfig."""
        return str(self.context.get("cluster", ""))

    @property
    def tls_server_name(self) -> str | None:
        """Name that the API server's certificate has; None if it is the one in the server's URL."""
        return self.cluster.get("tls-server-name") or None

    @property
    def certificate_authority(self) -> bytes | None:
        """PEM bundle to check the API server's certificate with."""
        return _decoded(self.cluster, "certificate-authority-data", self.name)

    @property
    def client_certificate(self) -> bytes | None:
        """PEM of the client certificate."""
        return _decoded(self.user, "client-certificate-data", self.name)

    @property
    def client_key(self) -> bytes | None:
        """PEM of the client key: a secret."""
        return _decoded(self.user, "client-key-data", self.name)

    @property
    def authentication(self) -> str:
        """Way of authentication: client-certificate, token, exec, auth-provider, basic or none."""
        kinds = {
            "client-certificate-data": "client-certificate",
            "token": "token",
            "tokenFile": "token",
            "exec": "exec",
            "auth-provider": "auth-provider",
            "username": "basic",
        }
        return next((kind for key, kind in kinds.items() if self.user.get(key)), "none")

    @property
    def record(self) -> dict[str, Any]:
        """The record that this collection added when it wrote the context: cluster_id, zone, ca.

        Empty in a context that somebody else wrote.
        """
        extensions = self.context.get("extensions")
        for extension in extensions if isinstance(extensions, list) else []:
            if isinstance(extension, dict) and extension.get("name") == RECORD_NAME:
                record = extension.get("extension")
                return record if isinstance(record, dict) else {}
        return {}

    def distrust(self) -> str | None:
        """Return why an entry that comes from an API must not be used; None if it may be used.

        An API may say where a cluster is and who we are there. A kubeconfig can also make this machine run a
        program, read a file or skip the check of a certificate. Only the user's own kubeconfig may do that.
        """
        for part, known in _FROM_AN_API.items():
            content: dict[str, Any] = getattr(self, part)
            if surplus := sorted(str(key) for key, value in content.items() if value and key not in known):
                meaning = next(
                    (_MEANINGS[key] for key in surplus if key in _MEANINGS), "nobody asked for that"
                )
                return f"its {part} has {', '.join(surplus)}: {meaning}"
            if any(not isinstance(content.get(key) or "", str) for key in known if key != "extensions"):
                return f"its {part} has something else than texts"
        if not is_plain_url(self.server):
            return f"its server {self.server} is no https address"
        if not self.cluster.get("certificate-authority-data"):
            return "it has no CA, so that any server could pass for the cluster's"
        if self.authentication == "none":
            return "it has neither a certificate nor a token"
        return None

    def doubt(self) -> str | None:
        """Return a warning about an entry from the user's own kubeconfig; None if it needs no warning."""
        without_check = bool(self.cluster.get("insecure-skip-tls-verify"))
        if not without_check and place_of(self.server)[0] == "https":
            return None
        what = "insecure-skip-tls-verify" if without_check else "a server without TLS"
        return (
            f"its kubeconfig has {what}: whoever stands between this machine and {self.server} can read and "
            "change all that is sent. Give it the https address of the API server, and its CA"
        )

    def renamed(self, name: str, record: dict[str, Any] | None = None) -> Entry:
        """Return a copy whose cluster, user and context are all called ``name``, with the given record."""
        context = {**copy.deepcopy(self.context), "cluster": name, "user": name}
        if context.get("namespace") is None:
            context.pop("namespace", None)
        if record is not None:
            extensions = context.get("extensions")
            others = [
                item
                for item in (extensions if isinstance(extensions, list) else [])
                if isinstance(item, dict) and item.get("name") != RECORD_NAME
            ]
            context["extensions"] = [*others, {"name": RECORD_NAME, "extension": record}]
        return Entry(name, copy.deepcopy(self.cluster), copy.deepcopy(self.user), context)

    def flattened(self, directory: Path) -> Entry:
        """Return a copy with the files that it refers to embedded, as ``kubectl config view --flatten`` does.

        :param directory: the kubeconfig's directory, where relative paths start.
        """
        sections = {"cluster": copy.deepcopy(self.cluster), "user": copy.deepcopy(self.user)}
        for section, key in _EMBEDDED_FILES:
            content = sections[section]
            reference = content.pop(key, None)
            if reference and not content.get(f"{key}-data"):
                path = directory / Path(str(reference)).expanduser()
                try:
                    data = path.read_bytes()
                    why = "" if data else "it is empty"
                except (OSError, ValueError) as error:
                    why = getattr(error, "strerror", None) or "it is no path"
                if why:
                    raise KubeconfigError(
                        f"context {self.name} refers to {path}, which cannot be read: {why}",
                        "kubeconfig_incomplete",
                    )
                content[f"{key}-data"] = base64.b64encode(data).decode()
        if token_file := sections["user"].get("tokenFile"):
            sections["user"]["tokenFile"] = str(directory / Path(str(token_file)).expanduser())
        return Entry(self.name, sections["cluster"], sections["user"], self.context)


class Kubeconfig:
    """A parsed kubeconfig. It keeps unknown fields and the order of the entries."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        require("PyYAML")
        self.data: dict[str, Any] = (
            copy.deepcopy(data)
            if data
            else {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [],
                "users": [],
                "contexts": [],
                "current-context": "",
            }
        )

    @classmethod
    def parse(cls, text: str | bytes, source: str = "the kubeconfig") -> Kubeconfig:
        """Read YAML or JSON. An empty text is an empty kubeconfig.

        :param source: name of the text in errors.
        """
        require("PyYAML")

        def invalid(why: str) -> KubeconfigError:
            return KubeconfigError(f"{source} is not a kubeconfig: {why}", "kubeconfig_invalid")

        try:
            data = load_yaml(text, source)
        except DocumentError as error:
            raise invalid(error.why) from None
        if data is None:
            return cls()
        if not isinstance(data, dict):
            raise invalid("no mapping at its top")
        if data.get("kind", "Config") != "Config":
            raise invalid("its kind is not Config")
        for section, item_key in _SECTIONS:
            items = data.get(section)
            if items is None:
                data[section] = items = []
            if not isinstance(items, list):
                raise invalid(f"{section} is not a list")
            for item in items:
                if not (isinstance(item, dict) and isinstance(item.get("name"), str)):
                    raise invalid(f"an item of {section} has no name")
                if item.get(item_key) is None:
                    item[item_key] = {}  # as for kubectl
                if not isinstance(item[item_key], dict):
                    raise invalid(f"an item of {section} has no {item_key}")
        if not any(key in data for key in ("apiVersion", "kind", "current-context")) and not data["contexts"]:
            raise invalid("it has no contexts")
        return cls(data)

    @classmethod
    def of(cls, entry: Entry) -> Kubeconfig:
        """Return a kubeconfig that has only this renamed entry."""
        config = cls()
        config.put(entry)
        return config

    def dump(self) -> str:
        """Return the file's text."""
        return str(yaml.safe_dump(self.data, sort_keys=False, default_flow_style=False, width=4096))

    @property
    def current_context(self) -> str:
        """Name of the current context; empty if there is none."""
        return str(self.data.get("current-context") or "")

    @property
    def context_names(self) -> list[str]:
        """Names of the contexts, in the file's order."""
        return [item["name"] for item in self.data["contexts"]]

    def entry(self, context: str | None = None) -> Entry:
        """Return the named context, or else the current one.

        :raises KubeconfigError: ``context_not_found``, or ``kubeconfig_invalid`` for an incomplete context.
        """
        names = self.context_names
        name = context or self.current_context
        if name not in names:
            raise KubeconfigError(
                f"the kubeconfig has no context {name}" if name else "the kubeconfig has no current context",
                "context_not_found",
                next_step=f"Its contexts: {comma_list(names)}",
            )
        content = self._item("contexts", name) or {}
        parts = {}
        for section, key in (("clusters", "cluster"), ("users", "user")):
            part = self._item(section, str(content.get(key, "")))
            if part is None and key == "user" and not content.get(key):
                part = {}  # as for kubectl: an API such as that of ``kubectl proxy`` needs no user
            if part is None:
                raise KubeconfigError(f"context {name} names a {key} that is not there", "kubeconfig_invalid")
            parts[key] = part
        entry = Entry(name, parts["cluster"], parts["user"], content)
        if place_of(entry.server)[0] not in ("https", "http"):
            raise KubeconfigError(f"the server of context {name} is not a URL", "kubeconfig_invalid")
        return entry

    def put(self, entry: Entry, *, make_current: bool = False, force: bool = False) -> None:
        """Set the context, cluster and user of a renamed entry; all others stay as they are.

        Without ``force``, raise KubeconfigError rather than change what belongs to somebody else.
        """
        if not force:
            self._refuse_foreign(entry)
        contents = {"clusters": entry.cluster, "users": entry.user, "contexts": entry.context}
        for section, key in _SECTIONS:
            items = self.data[section]
            item = {"name": entry.name, key: copy.deepcopy(contents[section])}
            positions = [index for index, present in enumerate(items) if present["name"] == entry.name]
            if positions:
                items[positions[0]] = item
            else:
                items.append(item)
        if make_current or not self.current_context:
            self.data["current-context"] = entry.name

    def drop(self, name: str) -> bool:
        """Remove a context, and its cluster and user unless others use them; return whether it existed."""
        content = self._item("contexts", name)
        if content is None:
            return False
        self.data["contexts"] = [item for item in self.data["contexts"] if item["name"] != name]
        for section, key in (("clusters", "cluster"), ("users", "user")):
            if not self._users_of(key, content.get(key)):
                self.data[section] = [item for item in self.data[section] if item["name"] != content.get(key)]
        if self.current_context == name:
            self.data["current-context"] = ""
        return True

    def _item(self, section: str, name: str) -> dict[str, Any] | None:
        key = dict(_SECTIONS)[section]
        # Of two items with the same name, the first counts, as for kubectl.
        return next((item[key] for item in self.data[section] if item["name"] == name), None)

    def _users_of(self, key: str, name: str | None, besides: str | None = None) -> list[str]:
        return [
            item["name"]
            for item in self.data["contexts"]
            if item["context"].get(key) == name and item["name"] != besides
        ]

    def _refuse_foreign(self, entry: Entry) -> None:
        next_step = "Give another context name, or set force=true to replace it"
        if entry.name in self.context_names:
            present = self.entry(entry.name)
            if not present.record and not same_server(present.server, entry.server):
                raise KubeconfigError(
                    f"context {entry.name} is already there, for another server, {present.server}",
                    "context_taken",
                    next_step=next_step,
                )
        for section, key, content in (("clusters", "cluster", entry.cluster), ("users", "user", entry.user)):
            users = self._users_of(key, entry.name, besides=entry.name)
            if users and self._item(section, entry.name) not in (None, content):
                raise KubeconfigError(
                    f"the {key} entry {entry.name} is already there and is used by context {users[0]}",
                    "context_taken",
                    next_step=next_step,
                )


def same_server(one: str, other: str) -> bool:
    """Return whether two URLs name the same API server. The API omits a port that a kubeconfig contains."""
    return place_of(one) == place_of(other)


def place_of(url: str) -> tuple[str, str | None, int | None, str]:
    """Return scheme, host, port and path of a URL. A text that is no URL becomes the path."""
    try:
        parts = urlsplit(url)
        default = {"https": 443, "http": 80}.get(parts.scheme)
        return parts.scheme, parts.hostname, parts.port or default, parts.path.rstrip("/")
    except ValueError:
        return "", None, None, url


def comma_list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _decoded(content: dict[str, Any], key: str, context: str) -> bytes | None:
    value = content.get(key)
    if not value:
        return None
    # As for kubectl, line ends may be within it, and nothing else.
    lines = value.replace("\r", "").replace("\n", "") if isinstance(value, str) else ""
    with suppress(ValueError):
        if decoded := base64.b64decode(lines, validate=True):
            return decoded
    raise KubeconfigError(f"{key} of context {context} is not base64", "kubeconfig_invalid")
