# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs: parse, check, rename and merge them (private to the collection).

No code here puts a key, a token or a line of the file into a message or a description.
"""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from .._base.certificates import fingerprint, serial, time_text
from .._base.documents import DocumentError, load_yaml
from .._base.errors import ExomeshError
from .._base.requirements import require
from .._base.text import is_plain_url, printable
from .access import place_of, same_server

with suppress(ImportError):  # require() reports it
    import yaml
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import NameOID

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
class Certificate:
    """The facts about an X.509 certificate that may be shown."""

    subject: str
    common_name: str
    organizations: tuple[str, ...]
    serial: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    public_key: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """The fingerprint without colons, as it is in the records of kubeconfigs."""
        return self.fingerprint.replace(":", "")

    @classmethod
    def load_all(cls, pem: bytes) -> list[Certificate]:
        """Return the certificates of a PEM bundle, in order. Raise ValueError when one is no certificate."""
        return [cls._from_x509(certificate) for certificate in x509.load_pem_x509_certificates(pem)]

    @classmethod
    def _from_x509(cls, certificate: x509.Certificate) -> Certificate:
        def values(oid: x509.ObjectIdentifier) -> tuple[str, ...]:
            attributes = certificate.subject.get_attributes_for_oid(oid)
            return tuple(str(attribute.value) for attribute in attributes)

        return cls(
            subject=certificate.subject.rfc4514_string(),
            common_name=next(iter(values(NameOID.COMMON_NAME)), ""),
            organizations=values(NameOID.ORGANIZATION_NAME),
            serial=serial(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            fingerprint=fingerprint(certificate),
            public_key=certificate.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
        )


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

    def certificates(self) -> tuple[Certificate | None, list[Certificate]]:
        """Return the client certificate, if there is one, and the certificates of the CA bundle.

        Raise KubeconfigError when one cannot be read, or when key and certificate are not a pair.
        """
        client: Certificate | None = None
        authorities: list[Certificate] = []
        part = "certificate-authority-data"
        try:
            if pem := self.certificate_authority:
                authorities = Certificate.load_all(pem)
            part = "client-certificate-data"
            if pem := self.client_certificate:
                client = Certificate.load_all(pem)[0]
                part = "client-key-data"
                # Skip the check of the key's primes, which takes long. A broken key fails when it is used.
                key = serialization.load_pem_private_key(
                    self.client_key or b"", password=None, unsafe_skip_rsa_key_validation=True
                )
                public_key = key.public_key().public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
                if public_key != client.public_key:
                    raise KubeconfigError(
                        f"client key and client certificate of context {self.name} are not a pair",
                        "kubeconfig_invalid",
                    )
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The library's own message might quote what it could not read.
            message = f"{part} of context {self.name} cannot be read"
            raise KubeconfigError(message, "kubeconfig_invalid") from None
        return client, authorities

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
                    content[f"{key}-data"] = base64.b64encode(path.read_bytes()).decode()
                except OSError as error:
                    raise KubeconfigError(
                        f"context {self.name} refers to {path}, which cannot be read: {error.strerror}",
                        "kubeconfig_incomplete",
                    ) from error
        if token_file := sections["user"].get("tokenFile"):
            sections["user"]["tokenFile"] = str(directory / Path(str(token_file)).expanduser())
        return Entry(self.name, sections["cluster"], sections["user"], self.context)

    def describe(self) -> dict[str, Any]:
        """Return what may be shown of the entry: no key, no token. RETURN of the modules lists the fields."""
        client, authorities = self.certificates()
        description: dict[str, Any] = {
            "context": self.name,
            "server": self.server,
            "authentication": self.authentication,
            "ca_fingerprints": [authority.fingerprint for authority in authorities],
            "ca_not_after": time_text(min(each.not_after for each in authorities)) if authorities else None,
        }
        if token := self.user.get("token"):
            description["token_sha256"] = hashlib.sha256(str(token).encode()).hexdigest()[:16]
        if client:
            description |= {
                "subject": client.subject,
                "user": client.common_name,
                "groups": list(client.organizations),
                "not_before": time_text(client.not_before),
                "not_after": time_text(client.not_after),
                "fingerprint": client.fingerprint,
                "serial": client.serial,
            }
        return description


class Kubeconfig:
    """A parsed kubeconfig. It keeps unknown fields and the order of the entries."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        require("PyYAML", "cryptography")
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
    def parse(cls, text: str, source: str = "the kubeconfig") -> Kubeconfig:
        """Read YAML or JSON. An empty text is an empty kubeconfig.

        :param source: name of the text in errors.
        """
        require("PyYAML", "cryptography")

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
                if not isinstance(item.get(item_key), dict):
                    raise invalid(f"an item of {section} has no {item_key}")
        if not any(key in data for key in ("apiVersion", "kind", "current-context")) and not data["contexts"]:
            raise invalid("it has no contexts")
        return cls(data)

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
        """Return the named context, or else the current one, or else the only one."""
        names = self.context_names
        name = context or self.current_context or (names[0] if len(names) == 1 else "")
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


def described(text: str | None) -> str:
    """Return the contexts of a kubeconfig without secrets, for a diff; empty for None, which is no file."""
    if text is None:
        return ""
    try:
        config = Kubeconfig.parse(text)
    except KubeconfigError:
        return "(not a kubeconfig)\n"
    blocks = []
    for name in config.context_names:
        try:
            description = config.entry(name).describe()
        except KubeconfigError:
            description = {"context": f"{name} (cannot be read)"}
        blocks.append("".join(f"{key}: {value}\n" for key, value in description.items() if value is not None))
    return printable("\n".join([*blocks, f"current-context: {config.current_context}\n"]), None)


def comma_list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _decoded(content: dict[str, Any], key: str, context: str) -> bytes | None:
    value = content.get(key)
    if not value:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise KubeconfigError(f"{key} of context {context} is not base64", "kubeconfig_invalid") from None
