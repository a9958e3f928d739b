# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client takes from its kubeconfig, and what it says of one that it cannot use."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig import Kubeconfig
from kubeconfigs import CA_OF_TESTS, issue, kubeconfig, secrets_of
from kubernetes_api import ApiServer

TEXT = kubeconfig("a", "https://a.example:443", CA_OF_TESTS, issue("admin", issuer=CA_OF_TESTS))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, "a")
    yield server
    server.close()


def changed(change: Callable[[dict[str, Any]], object], text: str = TEXT) -> str:
    document = yaml.safe_load(text)
    change(document)
    return str(yaml.safe_dump(document))


def error_of(path: Path, text: str | bytes, context: str | None = None) -> ExomeshError:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ExomeshError) as caught:
        KubernetesClient(str(path), context, name="vienna")
    return caught.value


def double(document: dict[str, Any]) -> None:
    """Add a second item of the same name to each section, for another server."""
    for section in ("clusters", "users", "contexts"):
        document[section].append(copy.deepcopy(document[section][0]))
    document["clusters"][1]["cluster"]["server"] = "http://127.0.0.1:1"
    document["users"][1]["user"] = {"token": "of another"}


def test_of_two_items_with_one_name_the_first_counts(api: ApiServer) -> None:
    api.kubeconfig.write_text(changed(double, api.kubeconfig.read_text()))
    client = KubernetesClient(str(api.kubeconfig))
    assert client.server == api.url
    assert client.version() == "v1.36.3"


def test_the_file_is_read_once(api: ApiServer) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        stream.write(api.kubeconfig.read_text())
    assert KubernetesClient(f"/dev/fd/{reader}").version() == "v1.36.3"
    os.close(reader)


def test_a_client_needs_no_cryptography() -> None:
    """To import that package takes long, and most tasks do without it."""
    code = f"import json, sys, {KubernetesClient.__module__}; print(json.dumps(list(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cryptography" not in json.loads(ended.stdout)


NOBODY: dict[str, Callable[[dict[str, Any]], object]] = {
    "the context names no user": lambda it: it["contexts"][0]["context"].pop("user"),
    "the user has no content": lambda it: it["users"][0].pop("user"),
    "the user's content is null": lambda it: it["users"][0].update(user=None),
}


@pytest.mark.parametrize("change", NOBODY.values(), ids=list(NOBODY))
def test_an_api_may_do_without_a_user(api: ApiServer, change: Callable[[dict[str, Any]], object]) -> None:
    text = changed(change, api.kubeconfig.read_text())
    assert Kubeconfig.parse(text).entry().authentication == "none"
    api.kubeconfig.write_text(text)
    assert KubernetesClient(str(api.kubeconfig)).server == api.url


def cluster_of(it: dict[str, Any]) -> dict[str, Any]:
    cluster: dict[str, Any] = it["clusters"][0]["cluster"]
    return cluster


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("a: [\n", "kubeconfig_invalid", "no valid YAML at line 2"),
        ("- no\n", "kubeconfig_invalid", "no mapping at its top"),
        (b"\xff\xfe\xfd", "kubeconfig_invalid", "no valid YAML"),
        ("kind: Deployment\n", "kubeconfig_invalid", "its kind is not Config"),
        ("", "context_not_found", "has no current context. Its contexts: none"),
        (
            changed(lambda it: it.pop("current-context")),
            "context_not_found",
            "has no current context. Its contexts: a",
        ),
        (
            changed(lambda it: it.update(clusters=[])),
            "kubeconfig_invalid",
            "context a names a cluster that is not there",
        ),
        (
            changed(lambda it: it.update(users=[])),
            "kubeconfig_invalid",
            "context a names a user that is not there",
        ),
        (
            changed(lambda it: cluster_of(it).pop("server")),
            "kubeconfig_invalid",
            "the server of context a is not a URL",
        ),
        (
            changed(lambda it: cluster_of(it).update({"certificate-authority-data": "!"})),
            "kubeconfig_invalid",
            "certificate-authority-data of context a is not base64",
        ),
    ],
)
def test_a_kubeconfig_that_is_of_no_use(tmp_path: Path, text: str | bytes, code: str, told: str) -> None:
    error = error_of(tmp_path / "it", text)
    assert error.code == code
    assert str(error).startswith(f"cluster vienna: The kubeconfig {tmp_path}/it cannot be used. ")
    assert told in str(error)
    assert error.next_step


def test_the_contexts_that_are_there_are_told(tmp_path: Path) -> None:
    error = error_of(tmp_path / "it", TEXT, "b")
    assert (error.code, error.cause) == ("context_not_found", "the kubeconfig has no context b")
    assert error.next_step == "Its contexts: a"


def test_a_token_in_a_file(api: ApiServer, tmp_path: Path) -> None:
    def refer(document: dict[str, Any]) -> None:
        document["users"][0]["user"] = {"tokenFile": "token", "token": ""}

    text = changed(refer, api.kubeconfig.read_text())
    error = error_of(api.kubeconfig, text)
    assert error.code == "kubeconfig_incomplete"
    told = f"context it refers to {tmp_path}/token, which cannot be read: No such file or directory"
    assert error.cause == told
    (tmp_path / "token").write_text("operator-token")
    assert KubernetesClient(str(api.kubeconfig)).version() == "v1.36.3"


@pytest.mark.parametrize(("content", "why"), [(None, "No such file or directory"), (b"", "it is empty")])
def test_a_file_that_is_not_there_is_told(tmp_path: Path, content: bytes | None, why: str) -> None:
    def refer(document: dict[str, Any]) -> None:
        cluster = document["clusters"][0]["cluster"]
        del cluster["certificate-authority-data"]
        cluster["certificate-authority"] = "ca.pem"

    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    error = error_of(tmp_path / "it", changed(refer))
    assert error.code == "kubeconfig_incomplete"
    assert error.cause == f"context a refers to {tmp_path}/ca.pem, which cannot be read: {why}"


def test_a_broken_key_is_not_quoted(tmp_path: Path) -> None:
    secrets = secrets_of(TEXT)
    error = error_of(tmp_path / "it", TEXT.replace("client-key-data: ", "client-key-data: '!'#"))
    assert error.cause == "client-key-data of context a is not base64"
    assert not [secret for secret in secrets if secret in str(error.fail_arguments())]


def test_line_ends_may_be_in_base64(tmp_path: Path) -> None:
    def fold(document: dict[str, Any]) -> None:
        for part in (document["clusters"][0]["cluster"], document["users"][0]["user"]):
            part |= {key: f"{value[:64]}\n{value[64:]}\n" for key, value in part.items() if "-data" in key}

    path = tmp_path / "it"
    path.write_text(changed(fold))
    assert KubernetesClient(str(path)).server == "https://a.example:443"
    assert Kubeconfig.parse(path.read_text()).entry().certificate_authority == CA_OF_TESTS.pem


@pytest.mark.parametrize(
    "url", ["proxy.example:3128", "proxy", "ftp://a.example", "http://", "http://a:b", 7]
)
def test_a_proxy_that_is_no_url_is_refused(url: object, tmp_path: Path) -> None:
    def add(document: dict[str, Any]) -> None:
        document["clusters"][0]["cluster"]["proxy-url"] = url

    error = error_of(tmp_path / "kubeconfig", changed(add))
    assert error.code == "kubeconfig_invalid"
    assert "proxy-url in the kubeconfig is not the URL of a proxy" in str(error.cause)


def test_a_proxy_of_the_environment_that_is_no_url_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "user:hidden@proxy.example:3128")
    error = error_of(tmp_path / "kubeconfig", TEXT)
    assert "HTTPS_PROXY in the environment is not the URL of a proxy" in str(error.cause)
    assert "hidden" not in f"{error.message}{error.cause}{error.next_step}"
