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
from .._base.errors import ExomeshError
from .._base.programs import run_program
from .kubeconfig import Entry, Kubeconfig, KubeconfigError

with suppress(ImportError):  # require("kubernetes") reports it
    import urllib3
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config_from_dict
    from kubernetes.config.config_exception import ConfigException
    from requests.utils import should_bypass_proxies

Part = dict[str, Any]

_READ_HERE = {"certificate-authority-data", "client-certificate-data", "client-key-data", "exec"}
"""Fields of a kubeconfig that the package kubernetes does not get."""

_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")

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
    def of(cls, entry: Entry, folder: Path) -> Access:
        """Return access with what a kubeconfig says.

        :param entry: a context with all files embedded.
        :param folder: the kubeconfig's folder, where the relative path of a plugin starts.
        :raises ValueError: the kubeconfig cannot be used. The message quotes no secret.
        :raises KubeconfigError: something in it is not base64, or the file with the token cannot be read.
        """
        ca, certificate, key = entry.certificate_authority, entry.client_certificate, entry.client_key
        cluster, user = (
            {key: value for key, value in part.items() if key not in _READ_HERE and value not in (None, "")}
            for part in (entry.cluster, entry.user)
        )
        if command := entry.user.get("exec"):
            token, certificate, key = _asked(command, cluster, ca, folder)
            user |= {"token": token} if token else {}
        verifies = not cluster.get("insecure-skip-tls-verify")
        if not verifies:
            # Code that checks kubeconfigs warns of this once; not every connection should repeat it.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        document = Kubeconfig.of(replace(entry, cluster=cluster, user=user).renamed("it")).data
        configuration = Configuration()
        try:
            load_kube_config_from_dict(  # type: ignore[no-untyped-call]
                document, client_configuration=configuration, persist_config=False
            )
        except (ConfigException, TypeError, AttributeError, binascii.Error) as error:
            raise ValueError(str(error)) from None
        except OSError as error:
            told = f"context {entry.name} refers to {error.filename}, which cannot be read: {error.strerror}"
            raise KubeconfigError(told, "kubeconfig_incomplete") from None
        server = entry.server.rstrip("/")
        proxy = cluster.get("proxy-url") or configuration.proxy
        if proxy and should_bypass_proxies(server, configuration.no_proxy or ""):
            proxy = None
        if proxy and not _is_proxy(proxy):
            source = (
                "proxy-url in the kubeconfig"
                if cluster.get("proxy-url")
                else "HTTPS_PROXY in the environment"
            )
            raise ValueError(f"{source} is not the URL of a proxy, such as http://proxy.example:3128")
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


def _is_proxy(url: Any) -> bool:
    """Return whether a URL names a proxy that the client can use. It may hold credentials."""
    try:
        parts = urlsplit(url)
        return parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except (AttributeError, TypeError, ValueError):
        return False


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


def read_entry(path: str, context: str | None = None, name: str | None = None) -> Entry:
    """Return a context of a kubeconfig (the current one when None). Files that it refers to are embedded.

    :param name: the cluster's name in error messages.
    :raises ExomeshError: ``kubeconfig_missing``, or one of :func:`unusable`.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except (OSError, ValueError) as error:
        raise ExomeshError(
            f"The kubeconfig {path} cannot be read",
            "kubeconfig_missing",
            cluster=name,
            cause=getattr(error, "strerror", None) or "it is no path",
            next_step="Fetch it first (playbook exomesh.istio.kubeconfig), or correct mesh_kubeconfig",
        ) from None
    try:
        return Kubeconfig.parse(content, "it").entry(context).flattened(folder_of(path))
    except KubeconfigError as error:
        raise unusable(path, name, error) from None


def folder_of(path: str) -> Path:
    """Return the folder of a kubeconfig, where relative paths in it start."""
    return Path(path).expanduser().absolute().parent


def unusable(path: str, name: str | None, error: ValueError | KubeconfigError) -> ExomeshError:
    """Return the error for a kubeconfig with which a cluster cannot be reached.

    Its code is ``kubeconfig_invalid``, ``kubeconfig_incomplete`` or ``context_not_found``.

    :param name: the cluster's name.
    """
    known = error if isinstance(error, KubeconfigError) else KubeconfigError(str(error), "kubeconfig_invalid")
    return ExomeshError(
        f"The kubeconfig {path} cannot be used",
        known.code,
        cluster=name,
        cause=known.message,
        next_step=known.next_step or "Write it anew (role kubeconfig), or name another context",
    )
