# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read from a kubeconfig how to reach an API, trust it and authenticate (private to the collection).

The package kubernetes writes keys to temporary files. They stay behind when a process ends as Ansible's
processes do. So keys and certificates are read here, and the package gets the rest: tokens and identity
providers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .._base.connections import client_context
from .._base.documents import load_yaml
from .._base.errors import ExomeshError
from .._base.programs import run_program

with suppress(ImportError):  # require("kubernetes") reports it
    import urllib3
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config_from_dict
    from kubernetes.config.config_exception import ConfigException
    from requests.utils import should_bypass_proxies

Part = dict[str, Any]

_EXEC_SECONDS = 60.0
"""Seconds that a credential plugin may take. It may ask a service of its own, which can be slow."""


@dataclass(frozen=True)
class Access:
    """Access to one API: its address, TLS settings and our credentials.

    :param server: URL of the API.
    :param proxy: URL of the proxy to it, with the proxy's credentials.
    """

    server: str
    tls: ssl.SSLContext
    proxy: str | None
    verifies: bool
    _ca: bytes | None
    _configuration: Any
    _token: str | None = None

    @classmethod
    def of(cls, path: str, context: str | None) -> Access:
        """Read a kubeconfig.

        :raises OSError: a file cannot be read.
        :raises ValueError: the kubeconfig cannot be used. The message quotes no secret.
        """
        folder = Path(path).expanduser().absolute().parent
        with open(path, encoding="utf-8") as stream:
            document = load_yaml(stream.read(), path)
        name, cluster, user = _parts(document, context)
        ca = _content(cluster, "certificate-authority", folder)
        certificate, key = _content(user, "client-certificate", folder), _content(user, "client-key", folder)
        if command := user.pop("exec", None):
            token, certificate, key = _asked(command, cluster, ca, folder)
            user |= {"token": token} if token else {}
        if token_file := user.get("tokenFile"):
            user["tokenFile"] = str(folder / Path(str(token_file)).expanduser())
        verifies = not cluster.get("insecure-skip-tls-verify")
        if not verifies:
            # Code that checks kubeconfigs warns of this once; not every connection should repeat it.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        configuration = Configuration()
        try:
            load_kube_config_from_dict(  # type: ignore[no-untyped-call]
                document, context=name, client_configuration=configuration, persist_config=False
            )
        except (ConfigException, TypeError, AttributeError, binascii.Error) as error:
            raise ValueError(str(error)) from None
        server = str(cluster["server"]).rstrip("/")
        proxy = cluster.get("proxy-url") or configuration.proxy
        if proxy and should_bypass_proxies(server, configuration.no_proxy or ""):
            proxy = None
        tls = client_context(ca, certificate, key, verifies)
        return cls(server, tls, proxy, verifies, ca, configuration)

    def with_token(self, token: str) -> Access:
        """Return access to the same API with the identity of a token, and nothing of this identity."""
        return replace(self, tls=client_context(self._ca, None, None, self.verifies), _token=token)

    @property
    def credentials(self) -> str:
        """The name of what authenticates us, for messages."""
        return "token" if self._token is not None else "kubeconfig's credentials"

    def headers(self) -> Mapping[str, str]:
        """Return the headers that authenticate us; none when a certificate does that."""
        if self._token is not None:
            return {"authorization": f"Bearer {self._token}"}
        settings = self._configuration.auth_settings()
        return {each["key"]: each["value"] for each in settings.values() if each.get("in") == "header"}

    def websocket_proxy(self) -> dict[str, Any]:
        """Return the options that send a WebSocket through the proxy; none without a proxy."""
        if not self.proxy:
            return {}
        proxy = urlsplit(self.proxy)
        credentials = (unquote(proxy.username), unquote(proxy.password or "")) if proxy.username else None
        return {
            "http_proxy_host": proxy.hostname,
            "http_proxy_port": proxy.port,
            "http_proxy_auth": credentials,
            "proxy_type": proxy.scheme if proxy.scheme.startswith("socks") else "http",
        }


def _parts(document: Any, context: str | None) -> tuple[str, Part, Part]:
    """Return the name of the context, its cluster and its user, as they are in the document."""
    try:
        name = context or document["current-context"]
        wanted = _named(document, "contexts", name)["context"]
        cluster = _named(document, "clusters", wanted["cluster"])["cluster"]
        users = {"users": document.get("users") or []}
        user = _named(users, "users", wanted["user"]).setdefault("user", {}) if wanted.get("user") else {}
    except (KeyError, TypeError, StopIteration):
        raise ValueError(f"its context {context or 'current-context'} is incomplete") from None
    if not isinstance(cluster, dict) or not isinstance(user, dict):
        raise ValueError("its cluster or its user is empty")
    return name, cluster, user


def _named(document: Any, section: str, name: str) -> Part:
    return next(item for item in document[section] if item["name"] == name)


def _content(part: Part, key: str, folder: Path) -> bytes | None:
    """Remove a PEM text from a part and return it. It is in the part or in a file that the part names."""
    data, file = part.pop(f"{key}-data", None), part.pop(key, None)
    try:
        if data:
            return base64.b64decode(data)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError(f"{key}-data is no base64") from None
    return (folder / Path(str(file)).expanduser()).read_bytes() if file else None


def _asked(
    command: Part, cluster: Part, ca: bytes | None, folder: Path
) -> tuple[str | None, bytes | None, bytes | None]:
    """Run the credential plugin that a kubeconfig names; return token, certificate and key.

    Its protocol: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
    """
    told: Part = {
        "apiVersion": command.get("apiVersion"),
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    if command.get("provideClusterInfo"):
        names = {
            "server": "server",
            "tls-server-name": "tls-server-name",
            "insecure-skip-tls-verify": "insecure-skip-tls-verify",
        }
        about = {name: cluster[key] for name, key in names.items() if key in cluster}
        authority = {"certificate-authority-data": base64.b64encode(ca).decode()} if ca else {}
        told["spec"]["cluster"] = about | authority
    variables = {str(item["name"]): str(item["value"]) for item in command.get("env") or []}
    program = str(command.get("command") or "")
    if "/" in program:
        program = str(folder / Path(program).expanduser())
    try:
        # It is the user's own plugin, and needs the user's own environment.
        ended = run_program(
            [program, *map(str, command.get("args") or [])],
            {**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(told)},
            _EXEC_SECONDS,
        )
        status = json.loads(ended.output)["status"] if ended.code == 0 else None
    except TimeoutError:
        raise ValueError(f"its plugin {program} did not end in time, and was ended") from None
    except OSError as error:
        raise ValueError(f"its plugin {program} cannot be run: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"its plugin {program} gave no credentials") from None
    if status is None:
        said = ended.errors.strip()[-300:]
        raise ValueError(f"its plugin {program} failed with exit code {ended.code}: {said}")
    ends = status.get("expirationTimestamp")
    if ends and datetime.fromisoformat(ends) <= datetime.now(UTC):
        raise ValueError(f"its plugin {program} gave credentials that have ended")
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    return status.get("token"), certificate and certificate.encode(), key and key.encode()


@dataclass(frozen=True)
class KubeconfigEntry:
    """The entry of one cluster in a kubeconfig, without credentials."""

    cluster: str
    server: str
    tls_server_name: str | None


def kubeconfig_entry(path: str, context: str | None = None, name: str | None = None) -> KubeconfigEntry:
    """Return the cluster of a kubeconfig's context (the current one when None).

    :param name: the cluster's name in error messages.
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
