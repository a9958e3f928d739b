# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs that an API gives: who says where a cluster is may not say what this machine runs and reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale.interface import Cluster
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale.kubeconfig import (
    Request,
    ensure_present,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig import Kubeconfig
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig_certificates import (
    described,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig_renewal import (
    Wanted,
    why_renew,
)
from corpus import DOCUMENTS, PROOF, SHAPES, TEXTS, assert_safe
from kubeconfigs import CA_OF_TESTS, NOW, issue, kubeconfig

CLIENT = issue("admin", ("system:masters",), issuer=CA_OF_TESTS)
ENDPOINT = "https://a.sks-de-fra-1.exo.io"
CLUSTER = Cluster("id-of-a", "a", "de-fra-1", state="running", endpoint=ENDPOINT)
GOOD = kubeconfig("id-of-a", f"{ENDPOINT}:443", CA_OF_TESTS, CLIENT, "admin")

Change = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], object]
"""Does something to cluster, user and context."""


def with_server(text: str) -> Change:
    return lambda c, _u, _x: c.update(server=text)


HOSTILE: dict[str, Change] = {
    "runs a program": lambda _c, u, _x: u.update(
        exec={"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [PROOF]}
    ),
    "runs a program instead": lambda _c, u, _x: (
        u.clear(),
        u.update(exec={"command": "touch", "args": [PROOF]}),
    ),
    "runs a program of old": lambda _c, u, _x: u.update(
        {"auth-provider": {"name": "gcp", "config": {"cmd-path": "touch", "cmd-args": PROOF}}}
    ),
    "reads a token": lambda _c, u, _x: u.update(tokenFile="/etc/shadow"),
    "reads a key": lambda _c, u, _x: u.update({"client-key": "/etc/ssl/private/key.pem"}),
    "reads a certificate": lambda _c, u, _x: u.update({"client-certificate": "../../../etc/passwd"}),
    "reads a CA": lambda c, _u, _x: c.update({"certificate-authority": "/etc/passwd"}),
    "trusts everybody": lambda c, _u, _x: c.update({"insecure-skip-tls-verify": True}),
    "trusts everybody, as a text": lambda c, _u, _x: c.update({"insecure-skip-tls-verify": "true"}),
    "another server's name": lambda c, _u, _x: c.update({"tls-server-name": "evil.example"}),
    "by a proxy": lambda c, _u, _x: c.update({"proxy-url": "http://evil.example:3128"}),
    "a password": lambda _c, u, _x: u.update(username="admin", password="secret"),
    "somebody else": lambda _c, u, _x: u.update({"as": "system:admin"}),
    "something new": lambda _c, u, _x: u.update(credentialPlugin={"run": PROOF}),
    "no CA": lambda c, _u, _x: c.pop("certificate-authority-data"),
    "an empty CA": lambda c, _u, _x: c.update({"certificate-authority-data": ""}),
    "nobody": lambda _c, u, _x: u.clear(),
    "without TLS": lambda c, _u, _x: c.update(server=ENDPOINT.replace("https", "http")),
    "another cluster": lambda c, _u, _x: c.update(server="https://b.sks-de-fra-1.exo.io:443"),
    "another port": lambda c, _u, _x: c.update(server=f"{ENDPOINT}:8443"),
    "this machine": lambda c, _u, _x: c.update(server="https://127.0.0.1:6443"),
    "a user in the address": lambda c, _u, _x: c.update(server="https://a.sks-de-fra-1.exo.io@evil.example"),
    "no address": lambda c, _u, _x: c.update(server="https://[a"),
    "an address that is a list": lambda c, _u, _x: c.update(server=[ENDPOINT]),
    "a token that is a list": lambda _c, u, _x: u.update(token=["a"]),
    "a certificate that is a number": lambda _c, u, _x: u.update({"client-certificate-data": 7}),
    "no certificate": lambda _c, u, _x: u.update({"client-certificate-data": "bm9uZQ=="}),
    **{f"the server {name}": with_server(text) for name, text in TEXTS.items()},
}


def changed(change: Change) -> str:
    document = yaml.safe_load(GOOD)
    parts = [document[section][0][key] for section, key in SECTIONS]
    change(*parts)
    return str(yaml.safe_dump(document, allow_unicode=False))


SECTIONS = (("clusters", "cluster"), ("users", "user"), ("contexts", "context"))


class Api:
    """Gives this for a kubeconfig."""

    def __init__(self, text: str) -> None:
        self.text = text

    def cluster(self, _zone: str, _name: str) -> Cluster:
        return CLUSTER

    def kubeconfig(self, *_arguments: Any) -> str:
        return self.text


def fetch(text: str, path: Path) -> dict[str, Any]:
    request = Request(
        path,
        context="a",
        cluster="a",
        zone="de-fra-1",
        user="admin",
        groups=("system:masters",),
        ttl=None,
        renew_before=timedelta(hours=1),
        backup=False,
        force=False,
        check_mode=False,
    )
    return ensure_present(Api(text), request, None).result  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_one_that_exoscale_gives_is_taken(here: Path) -> None:
    assert fetch(GOOD, here / "kubeconfig")["server"] == f"{ENDPOINT}:443"
    assert not fetch("", here / "kubeconfig")["changed"]
    empty = changed(
        lambda c, u, x: (c.update({"proxy-url": ""}), u.update(token=None), x.update(namespace=""))
    )
    assert fetch(empty, here / "other")["changed"]


@pytest.mark.parametrize("change", HOSTILE.values(), ids=list(HOSTILE))
def test_another_one_is_refused_and_not_written(here: Path, change: Change) -> None:
    text = changed(change)
    with pytest.raises(ExomeshError) as refused:
        fetch(text, here / "kubeconfig")
    failure = refused.value.fail_arguments()
    assert_safe(failure)
    assert failure["msg"].startswith("cluster a, zone de-fra-1: ")
    assert not list(here.iterdir())
    # Also where an older release has taken it.
    (here / "kubeconfig").write_text(text)
    wanted = Wanted("a", ENDPOINT, "id-of-a", "admin", ("system:masters",), None)
    assert why_renew(text, wanted, NOW) is not None
    assert_safe(described(text))


@pytest.mark.parametrize("text", [*DOCUMENTS.values(), *TEXTS.values()], ids=[*DOCUMENTS, *TEXTS])
def test_what_is_none_is_told_so(here: Path, text: str | bytes) -> None:
    for work in (
        lambda: Kubeconfig.parse(text, "it").entry(),  # type: ignore[arg-type]
        lambda: fetch(text, here / "kubeconfig"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ExomeshError) as refused:
            work()
        assert_safe(refused.value.fail_arguments())
    assert not list(here.iterdir())


@pytest.mark.parametrize("text", [*DOCUMENTS.values(), *TEXTS.values()], ids=[*DOCUMENTS, *TEXTS])
def test_a_client_tells_it_too(here: Path, text: str | bytes) -> None:
    path = here / "kubeconfig"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    with pytest.raises(ExomeshError) as refused:
        KubernetesClient(str(path), name="a")
    failure = refused.value.fail_arguments()
    assert_safe(failure)
    assert failure["msg"].startswith(f"cluster a: The kubeconfig {path} cannot be used. ")


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_parts_of_another_form(here: Path, shape: Any) -> None:
    document = yaml.safe_load(GOOD)
    places: list[tuple[Any, Any]] = [(document, key) for key in document]
    for section, key in SECTIONS:
        places += [(document[section], 0), (document[section][0], "name"), (document[section][0], key)]
        places += [(document[section][0][key], each) for each in document[section][0][key]]
    places.append((document["contexts"][0]["context"], "extensions"))
    for container, key in places:
        before = container.get(key) if isinstance(container, dict) else container[key]
        container[key] = shape
        text = yaml.safe_dump(document)
        container[key] = before
        if before is None:
            del container[key]
        try:
            fetch(text, here / "kubeconfig")
        except ExomeshError as error:
            assert_safe(error.fail_arguments())
        described(text)


def test_the_user_may_do_without_the_check_and_is_told_so() -> None:
    def doubt(change: Change) -> str | None:
        return Kubeconfig.parse(changed(change)).entry().doubt()

    assert doubt(lambda *_parts: None) is None
    assert "insecure-skip-tls-verify" in str(doubt(HOSTILE["trusts everybody"]))
    assert "without TLS" in str(doubt(HOSTILE["without TLS"]))
    assert doubt(HOSTILE["runs a program"]) is None
