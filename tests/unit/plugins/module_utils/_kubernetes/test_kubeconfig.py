"""Kubeconfigs with real certificates: every reason to renew one, merging, and what must never be shown."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig import (
    Kubeconfig,
    KubeconfigError,
    same_server,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig_certificates import (
    certificates_of,
    describe,
    described,
)
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.kubeconfig_renewal import (
    Wanted,
    parse_duration,
    why_renew,
)
from kubeconfigs import CA_OF_TESTS, NOW, Pair, encoded, issue, kubeconfig, secrets_of

SERVER = "https://0f3c.sks-de-fra-1.exo.io:443"
CA = CA_OF_TESTS
OTHER_CA = issue("control-plane-ca", not_after=NOW + timedelta(days=18000))
CLIENT = issue("exomesh-a", ("system:masters",), issuer=CA)
WANTED = Wanted("a", SERVER.removesuffix(":443"), "0f3c", "exomesh-a", ("system:masters",), None)


def ours(ca: Pair = CA, client: Pair = CLIENT, server: str = SERVER, **record: Any) -> str:
    """A file as sks_kubeconfig writes it."""
    entry = Kubeconfig.parse(kubeconfig("0f3c", server, ca, client)).entry()
    fingerprints = [each.sha256 for each in certificates_of(entry)[1]]
    config = Kubeconfig()
    config.put(entry.renamed("a", {"cluster_id": "0f3c", "zone": "de-fra-1", "ca": fingerprints, **record}))
    return config.dump()


def reason(text: str | None, now: datetime = NOW, **changes: Any) -> str | None:
    renewal = why_renew(text, dataclasses.replace(WANTED, **changes), now)
    return renewal.code if renewal else None


def test_a_good_one_is_kept() -> None:
    assert reason(ours()) is None


def test_one_that_the_user_put_there_is_kept_too() -> None:
    assert reason(kubeconfig("a", SERVER, CA, CLIENT)) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "missing"),
        ("", "unreadable"),
        ("hello", "unreadable"),
        ("a: [", "unreadable"),
        ("kind: Deployment", "unreadable"),
        (ours().replace("client-key-data: ", "client-key-data: '!'#"), "unreadable"),
        (kubeconfig("b", SERVER, CA, CLIENT), "other_context"),
        (ours(server="https://77aa.sks-de-fra-1.exo.io:443"), "other_cluster"),
        (ours(cluster_id="77aa"), "other_cluster"),
        (ours().replace(encoded(CA.pem), "''"), "other_ca"),
        (ours(client=issue("root", ("system:masters",), issuer=CA)), "other_user"),
        (ours(client=issue("exomesh-a", ("a", "b"), issuer=CA)), "other_groups"),
    ],
)
def test_reasons_to_renew(text: str | None, code: str) -> None:
    assert reason(text) == code


def test_a_key_of_another_certificate_is_no_pair() -> None:
    mixed = Pair(CLIENT.certificate, OTHER_CA.key)
    renewal = why_renew(kubeconfig("a", SERVER, CA, mixed), WANTED, NOW)
    assert renewal
    assert renewal.text == "client key and client certificate of context a are not a pair"


def test_an_exchanged_ca_is_noticed() -> None:
    assert reason(ours().replace(encoded(CA.pem), encoded(OTHER_CA.pem))) == "other_ca"


def test_a_token_instead_of_a_certificate_is_replaced() -> None:
    data = yaml.safe_load(ours())
    data["users"][0]["user"] = {"token": "abc"}
    assert reason(yaml.safe_dump(data)) == "no_certificate"


def test_endings() -> None:
    text = ours()
    end = CLIENT.certificate.not_valid_after_utc
    assert reason(text, now=end) == "expired"
    assert reason(text, now=end - timedelta(days=9)) == "expires_soon", "a third of 30 days"
    assert reason(text, now=end - timedelta(days=11)) is None
    assert reason(text, now=end - timedelta(days=9), renew_before=timedelta(days=8)) is None
    assert reason(text, now=end - timedelta(days=11), renew_before=timedelta(days=12)) == "expires_soon"


def test_a_ca_that_ends_soon_is_a_reason() -> None:
    old = issue("control-plane-ca", not_after=NOW + timedelta(days=3))
    client = issue("exomesh-a", ("system:masters",), issuer=old)
    renewal = why_renew(ours(ca=old, client=client), WANTED, NOW)
    assert renewal
    assert renewal.code == "expires_soon"
    assert "CA certificate" in renewal.text


def test_groups_are_a_set() -> None:
    client = issue("exomesh-a", ("b", "a"), issuer=CA)
    assert reason(ours(client=client), groups=("a", "b")) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://x.exo.io", "https://x.exo.io:443", True),
        ("https://X.exo.io/", "https://x.exo.io:443", True),
        ("https://x.exo.io", "https://x.exo.io:6443", False),
        ("https://x.exo.io", "http://x.exo.io", False),
        ("https://x.exo.io", "https://y.exo.io", False),
        ("https://x.exo.io:bad", "https://x.exo.io", False),
    ],
)
def test_same_server(one: str, other: str, same: bool) -> None:
    assert same_server(one, other) is same


@pytest.mark.parametrize(
    ("text", "seconds"), [("3600", 3600), ("90s", 90), ("12h", 43200), ("1d12h", 129600), ("2w", 1209600)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text, "ttl") == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-5", "1y", "soon", "1.5h", "12 h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ExomeshError, match="ttl is no duration"):
        parse_duration(text, "ttl")


FOREIGN = {
    "apiVersion": "v1",
    "kind": "Config",
    "preferences": {"colors": True},
    "clusters": [{"name": "work", "cluster": {"server": "https://work:6443", "tls-server-name": "w"}}],
    "users": [{"name": "me", "user": {"exec": {"apiVersion": "v1", "command": "login", "args": None}}}],
    "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me", "namespace": "x"}}],
    "current-context": "work",
}


def entry_of(text: str, name: str = "a", **record: Any) -> Any:
    return Kubeconfig.parse(text).entry().renamed(name, record or {"server": SERVER})


def test_merging_keeps_what_is_not_ours() -> None:
    config = Kubeconfig(FOREIGN)
    config.put(entry_of(ours()))
    assert config.current_context == "work"
    for section in ("clusters", "users", "contexts"):
        assert config.data[section][0] == FOREIGN[section][0]
        assert [item["name"] for item in config.data[section]][1:] == ["a"]
    assert config.data["preferences"] == {"colors": True}
    config.drop("a")
    assert config.data == FOREIGN


def test_two_clusters_with_one_user_name_do_not_collide() -> None:
    first, second = issue("me", issuer=CA), issue("me", issuer=OTHER_CA)
    config = Kubeconfig()
    config.put(entry_of(kubeconfig("1", SERVER, CA, first, user="me"), "a"))
    config.put(entry_of(kubeconfig("2", "https://b:443", OTHER_CA, second, user="me"), "b"))
    assert [config.entry(name).client_certificate for name in ("a", "b")] == [first.pem, second.pem]
    assert config.current_context == "a"


def test_a_foreign_context_of_the_same_name_is_not_replaced() -> None:
    config = Kubeconfig(FOREIGN)
    with pytest.raises(KubeconfigError, match="context work is already there") as caught:
        config.put(entry_of(ours(), "work"))
    assert caught.value.code == "context_taken"
    config.put(entry_of(ours(), "work"), force=True)
    assert config.entry("work").server == SERVER


def test_a_cluster_entry_that_another_context_uses_is_not_replaced() -> None:
    config = Kubeconfig(FOREIGN)
    config.data["contexts"].append({"name": "other", "context": {"cluster": "a", "user": "me"}})
    config.data["clusters"].append({"name": "a", "cluster": {"server": "https://elsewhere"}})
    with pytest.raises(KubeconfigError, match="is used by context other"):
        config.put(entry_of(ours()))


def test_files_are_embedded(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    (tmp_path / "c.pem").write_bytes(CLIENT.pem)
    (tmp_path / "k.pem").write_bytes(CLIENT.key_pem)
    data = yaml.safe_load(ours())
    data["clusters"][0]["cluster"] = {"server": SERVER, "certificate-authority": "ca.pem"}
    data["users"][0]["user"] = {"client-certificate": str(tmp_path / "c.pem"), "client-key": "k.pem"}
    entry = Kubeconfig.parse(yaml.safe_dump(data)).entry()
    assert certificates_of(entry.flattened(tmp_path))[0]
    with pytest.raises(KubeconfigError, match=r"refers to .*ca.pem, which cannot be read"):
        entry.flattened(tmp_path / "elsewhere")


def test_the_empty_namespace_of_sks_is_read() -> None:
    text = ours().replace("    user: a\n", "    user: a\n    namespace:\n")
    assert "namespace" not in Kubeconfig.parse(text).entry().renamed("b").context


def test_no_secret_is_shown() -> None:
    text = ours()
    entry = Kubeconfig.parse(text).entry()
    shown = described(text) + repr(entry) + str(describe(entry))
    assert "CN=exomesh-a" in shown
    assert not [secret for secret in secrets_of(text) if secret in shown]


def test_a_broken_line_is_not_quoted() -> None:
    text = ours().replace("client-key-data: ", "client-key-data: {")
    with pytest.raises(KubeconfigError, match=r"no valid YAML at line \d+") as caught:
        Kubeconfig.parse(text)
    assert not [secret for secret in secrets_of(ours()) if secret in str(caught.value)]
    assert caught.value.__cause__ is None


def test_times_are_utc() -> None:
    entry = Kubeconfig.parse(ours()).entry()
    expected = CLIENT.certificate.not_valid_after_utc.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert describe(entry)["not_after"] == expected
