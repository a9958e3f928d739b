# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remote secrets, against a small Kubernetes API of real HTTP."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._objects import render_diff, summarise
from ansible_collections.exomesh.istio.plugins.module_utils._remote_secrets import Peer, synchronise
from kubernetes_api import ApiServer, Object, status

SECRETS = "/api/v1/namespaces/istio-system/secrets"
ACCOUNT = "/api/v1/namespaces/istio-system/serviceaccounts/istio-reader-service-account"
TOKEN_NAME = "istio-reader-service-account-istio-remote-secret-token"
TOKEN = f"{SECRETS}/{TOKEN_NAME}"
REMOTE = f"{SECRETS}/istio-remote-secret-fra"
SERVER = "https://fra.example:6443"


class Mesh:
    """Cluster vie gets the secrets, cluster fra is its peer and has Istio's reader account."""

    def __init__(self, folder: Path) -> None:
        self.vie, self.fra = ApiServer(folder, "vie"), ApiServer(folder, "fra")
        self.fra.put(ACCOUNT, {"metadata": {"name": "istio-reader-service-account"}})

    def synchronise(
        self, *, prune: bool = True, check_mode: bool = False, timeout: float = 5
    ) -> dict[str, str]:
        """Actions by secret, and the diff under ``diff``."""
        client = KubernetesClient(str(self.vie.kubeconfig), name="vie")
        peers = [Peer("fra", str(self.fra.kubeconfig), SERVER)]
        changes = synchronise(client, peers, timeout, prune, check_mode)
        actions = {change.ref.name: change.action for change in changes}
        return {**actions, "diff": str(render_diff(changes)), "objects": str(summarise(changes))}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.vie.close()
    mesh.fra.close()


def kubeconfig_in(secret: Object, key: str = "fra") -> Object:
    document: Object = yaml.safe_load(base64.b64decode(secret["data"][key]))
    return document


def test_secret_is_what_istioctl_makes(mesh: Mesh) -> None:
    assert mesh.synchronise()["istio-remote-secret-fra"] == "create"
    secret = mesh.vie.objects[REMOTE]
    assert secret["metadata"]["labels"]["istio/multiCluster"] == "true"
    assert secret["metadata"]["annotations"] == {"networking.istio.io/cluster": "fra"}
    assert list(secret["data"]) == ["fra"]
    document = kubeconfig_in(secret)
    assert document["clusters"][0]["cluster"]["server"] == SERVER
    assert base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]) == b"the CA"
    assert document["users"] == [{"name": "fra", "user": {"token": "token-of-fra"}}]
    assert document["current-context"] == document["contexts"][0]["name"] == "fra"
    assert mesh.fra.objects[TOKEN]["type"] == "kubernetes.io/service-account-token"


def test_second_run_changes_nothing(mesh: Mesh) -> None:
    mesh.synchronise()
    mesh.vie.requests.clear()
    mesh.fra.requests.clear()
    assert mesh.synchronise()["istio-remote-secret-fra"] == "unchanged"
    assert [
        request for request in mesh.vie.requests + mesh.fra.requests if not request.startswith("GET")
    ] == []


def test_check_mode_writes_nothing_and_predicts_the_run(mesh: Mesh) -> None:
    predicted = mesh.synchronise(check_mode=True)
    assert mesh.vie.objects == {}
    assert TOKEN not in mesh.fra.objects
    assert mesh.synchronise()["objects"] == predicted["objects"]


def test_check_mode_works_before_istio_is_installed(mesh: Mesh) -> None:
    del mesh.fra.objects[ACCOUNT]
    predicted = mesh.synchronise(check_mode=True)
    assert (predicted["istio-remote-secret-fra"], predicted[TOKEN_NAME]) == ("create", "create")


def test_without_istio_the_run_names_the_peer_and_the_role(mesh: Mesh) -> None:
    del mesh.fra.objects[ACCOUNT]
    with pytest.raises(ExomeshError, match=r"cluster fra: .*Run the role istio") as caught:
        mesh.synchronise()
    assert caught.value.code == "istio_not_installed"


@pytest.mark.parametrize(
    "drift", ["annotation", "label", "token", "server", "surplus key", "rubbish", "other user"]
)
def test_drift_is_repaired(mesh: Mesh, drift: str) -> None:
    mesh.synchronise()
    secret = mesh.vie.objects[REMOTE]
    document = kubeconfig_in(secret)
    if drift == "annotation":
        secret["metadata"]["annotations"]["networking.istio.io/cluster"] = "other"
    elif drift == "label":
        del secret["metadata"]["labels"]["istio/multiCluster"]
    elif drift == "token":
        document["users"][0]["user"]["token"] = "stale"
    elif drift == "server":
        document["clusters"][0]["cluster"]["server"] = "https://elsewhere"
    elif drift == "other user":
        document["users"][0]["user"]["exec"] = {"command": "evil"}
    elif drift == "surplus key":
        secret["data"]["other"] = "eA=="
    secret["data"]["fra"] = base64.b64encode(
        b"rubbish" if drift == "rubbish" else yaml.safe_dump(document).encode()
    ).decode()
    secret["metadata"].setdefault("labels", {})["theirs"] = "stays"
    assert mesh.synchronise(check_mode=True)["istio-remote-secret-fra"] == "update"
    assert mesh.synchronise()["istio-remote-secret-fra"] == "update"
    assert mesh.synchronise()["istio-remote-secret-fra"] == "unchanged"
    assert mesh.vie.objects[REMOTE]["metadata"]["labels"]["theirs"] == "stays"


def test_tokens_are_never_shown(mesh: Mesh) -> None:
    created = mesh.synchronise()
    document = kubeconfig_in(mesh.vie.objects[REMOTE])
    document["users"][0]["user"]["token"] = "stale-token"
    content = base64.b64encode(yaml.safe_dump(document).encode()).decode()
    mesh.vie.objects[REMOTE]["data"]["fra"] = content
    updated = mesh.synchronise()
    assert "sha256:" in updated["diff"]
    for shown in (*created.values(), *updated.values()):
        assert "token-of-fra" not in shown
        assert "stale-token" not in shown
        assert base64.b64encode(b"token-of-fra").decode() not in shown


def test_only_our_own_secrets_of_departed_clusters_go(mesh: Mesh) -> None:
    label = {"istio/multiCluster": "true"}
    ours = {**label, "app.kubernetes.io/managed-by": "exomesh.istio"}
    for name, labels in (("gone", ours), ("theirs", label)):
        metadata = {"name": f"istio-remote-secret-{name}", "namespace": "istio-system", "labels": labels}
        mesh.vie.put(f"{SECRETS}/istio-remote-secret-{name}", {"metadata": metadata})
    assert mesh.synchronise(prune=False).get("istio-remote-secret-gone") is None
    assert mesh.synchronise(check_mode=True)["istio-remote-secret-gone"] == "delete"
    assert f"{SECRETS}/istio-remote-secret-gone" in mesh.vie.objects
    assert mesh.synchronise()["istio-remote-secret-gone"] == "delete"
    assert sorted(mesh.vie.objects) == [REMOTE, f"{SECRETS}/istio-remote-secret-theirs"]


def test_token_that_another_run_makes_at_the_same_time_is_used(mesh: Mesh) -> None:
    mesh.fra.put(
        TOKEN,
        {"metadata": {"name": TOKEN_NAME, "namespace": "istio-system"}, "apiVersion": "v1", "kind": "Secret"},
    )
    token = base64.b64encode(b"their token").decode()
    mesh.fra.objects[TOKEN]["data"] = {"token": token, "ca.crt": "Y2E="}
    # The first look finds nothing, the creation meets theirs.
    mesh.fra.failures[("GET", TOKEN)] = [status(404, "NotFound")]
    assert TOKEN_NAME not in mesh.synchronise()
    assert kubeconfig_in(mesh.vie.objects[REMOTE])["users"][0]["user"]["token"] == "their token"


def test_conflict_is_looked_at_again(mesh: Mesh) -> None:
    mesh.synchronise()
    mesh.vie.objects[REMOTE]["metadata"]["annotations"] = {}
    mesh.vie.failures[("PUT", REMOTE)] = [status(409, "Conflict")]
    assert mesh.synchronise()["istio-remote-secret-fra"] == "update"


def test_token_that_does_not_come_is_named(mesh: Mesh) -> None:
    mesh.fra.fills_tokens = False
    with pytest.raises(
        ExomeshError, match=f"cluster fra: Secret istio-system/{TOKEN_NAME} has no token after 0 s"
    ):
        mesh.synchronise(timeout=0)


def test_loopback_address_is_refused(mesh: Mesh) -> None:
    client = KubernetesClient(str(mesh.vie.kubeconfig), name="vie")
    with pytest.raises(ExomeshError, match="Set peering_server"):
        synchronise(client, [Peer("fra", str(mesh.fra.kubeconfig))], 1, False, False)


def test_every_peer_that_fails_is_named(mesh: Mesh, tmp_path: Path) -> None:
    client = KubernetesClient(str(mesh.vie.kubeconfig), name="vie")
    peers = [Peer(name, str(tmp_path / name), SERVER) for name in ("muc", "sof")]
    with pytest.raises(ExomeshError) as caught:
        synchronise(client, [*peers, Peer("fra", str(mesh.fra.kubeconfig), SERVER)], 5, False, False)
    assert caught.value.code == "peers_failed"
    assert "cluster muc" in str(caught.value)
    assert "cluster sof" in str(caught.value)
    assert REMOTE in mesh.vie.objects


def test_refusals_do_not_quote_the_secret(mesh: Mesh) -> None:
    mesh.vie.failures[("POST", SECRETS)] = [status(422, "Invalid", "cannot read token-of-fra")]
    with pytest.raises(ExomeshError) as caught:
        mesh.synchronise()
    assert "Invalid" in str(caught.value)
    assert "token-of-fra" not in str(caught.value)
