# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remote secrets, against a small Kubernetes API of real HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._istio.probe import api_hash
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.objects import render_diff, summarise
from ansible_collections.exomesh.istio.plugins.module_utils._peering.peering import Options, Peering
from ansible_collections.exomesh.istio.plugins.module_utils._peering.remote_secrets import Access, holds_token
from kubernetes_api import ApiServer, Object, status

SECRETS = "/api/v1/namespaces/istio-system/secrets"
ACCOUNT = "/api/v1/namespaces/istio-system/serviceaccounts/istio-reader-service-account"
TOKEN_NAME = "istio-reader-service-account-istio-remote-secret-token"
TOKEN = f"{SECRETS}/{TOKEN_NAME}"
REMOTE = f"{SECRETS}/istio-remote-secret-fra"
SERVER = "https://fra.example:6443"
CLUSTER_ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
GOOD, BAD = (
    "exomesh-answer 0 200 0.01 0 \n",
    "exomesh-answer 0 000 0.01 6 Could not resolve host: fra.example\n",
)


class Mesh:
    """Cluster vie gets the secrets, cluster fra is its peer and has Istio's reader account."""

    def __init__(self, folder: Path) -> None:
        self.vie, self.fra = ApiServer(folder, "vie"), ApiServer(folder, "fra")
        self.fra.put(ACCOUNT, {"metadata": {"name": "istio-reader-service-account"}})

    def synchronise(self, *others: Member, **options: Any) -> dict[str, str]:
        """Actions by object, and the diff under ``diff``. All share one account, unless told otherwise."""
        client = KubernetesClient(str(self.vie.kubeconfig), name="vie")
        members = [
            Member("vie", "network-vie", str(self.vie.kubeconfig), "https://vie.example:6443", ("fra",)),
            Member("fra", "network-fra", str(self.fra.kubeconfig), SERVER, ("vie",)),
            *others,
        ]
        settings = {"own_accounts": False, "prune": True, "timeout": 5, **options}
        changes = Peering(client, members, Options(**settings)).run().changes
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
    "drift", ["annotation", "label", "token", "server", "surplus key", "rubbish", "other user", "no context"]
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
    elif drift == "no context":
        del document["current-context"]
    elif drift == "surplus key":
        secret["data"]["other"] = "eA=="
    secret["data"]["fra"] = base64.b64encode(
        b"rubbish" if drift == "rubbish" else yaml.safe_dump(document).encode()
    ).decode()
    secret["metadata"].setdefault("labels", {})["theirs"] = "stays"
    assert mesh.synchronise(check_mode=True)["istio-remote-secret-fra"] == "change"
    assert mesh.synchronise()["istio-remote-secret-fra"] == "change"
    assert mesh.synchronise()["istio-remote-secret-fra"] == "unchanged"
    assert mesh.vie.objects[REMOTE]["metadata"]["labels"]["theirs"] == "stays"


def test_the_token_that_istiod_uses_counts() -> None:
    """It uses that of the current context, wherever that is in the file."""
    document = Access("fra", SERVER, None, "Q0E=", "used").kubeconfig()
    document["users"].insert(0, {"name": "other", "user": {"token": "unused"}})
    content = base64.b64encode(yaml.safe_dump(document).encode()).decode()
    secret = {"metadata": {"name": "istio-remote-secret-fra"}, "data": {"fra": content}}
    assert holds_token(secret, "fra", "used")
    assert not holds_token(secret, "fra", "unused")


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


def test_only_our_own_secrets_of_members_that_are_no_peers_go(mesh: Mesh) -> None:
    label = {"istio/multiCluster": "true"}
    ours = {**label, "app.kubernetes.io/managed-by": "exomesh.istio"}
    for name, labels in (("muc", ours), ("sof", label), ("absent", ours)):
        metadata = {"name": f"istio-remote-secret-{name}", "namespace": "istio-system", "labels": labels}
        mesh.vie.put(f"{SECRETS}/istio-remote-secret-{name}", {"metadata": metadata})
    others = [Member(name, f"network-{name}", "/none", SERVER, ()) for name in ("muc", "sof")]
    assert mesh.synchronise(*others, prune=False).get("istio-remote-secret-muc") is None
    assert mesh.synchronise(*others, check_mode=True)["istio-remote-secret-muc"] == "delete"
    assert f"{SECRETS}/istio-remote-secret-muc" in mesh.vie.objects
    assert mesh.synchronise(*others)["istio-remote-secret-muc"] == "delete"
    assert sorted(mesh.vie.objects) == [
        f"{SECRETS}/istio-remote-secret-absent",
        REMOTE,
        f"{SECRETS}/istio-remote-secret-sof",
    ]


def test_token_that_another_run_makes_at_the_same_time_is_used(mesh: Mesh) -> None:
    mesh.fra.put(
        TOKEN,
        {"metadata": {"name": TOKEN_NAME, "namespace": "istio-system"}, "apiVersion": "v1", "kind": "Secret"},
    )
    token = base64.b64encode(b"their-token").decode()
    mesh.fra.objects[TOKEN]["data"] = {"token": token, "ca.crt": "Y2E="}
    # The first look finds nothing, the creation meets theirs.
    mesh.fra.failures[("GET", SECRETS)] = [(200, {"items": []})]
    assert TOKEN_NAME not in mesh.synchronise()
    assert kubeconfig_in(mesh.vie.objects[REMOTE])["users"][0]["user"]["token"] == "their-token"


def test_conflict_is_looked_at_again(mesh: Mesh) -> None:
    mesh.synchronise()
    mesh.vie.objects[REMOTE]["metadata"]["annotations"] = {}
    mesh.vie.failures[("PUT", REMOTE)] = [status(409, "Conflict")]
    assert mesh.synchronise()["istio-remote-secret-fra"] == "change"


def test_a_secret_that_is_deleted_in_between_is_made_anew(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.synchronise()
    mesh.vie.objects[REMOTE]["metadata"]["annotations"] = {}
    replace = mesh.vie._replace

    def gone(path: str, *arguments: Any) -> tuple[int, Any]:
        if path != REMOTE:
            return replace(path, *arguments)
        del mesh.vie.objects[REMOTE]
        return status(404, "NotFound")

    monkeypatch.setattr(mesh.vie, "_replace", gone)
    assert mesh.synchronise()["istio-remote-secret-fra"] in ("change", "create")
    assert kubeconfig_in(mesh.vie.objects[REMOTE])


def test_token_that_does_not_come_is_named(mesh: Mesh) -> None:
    mesh.fra.fills_tokens = False
    with pytest.raises(
        ExomeshError, match=f"cluster fra: Secret istio-system/{TOKEN_NAME} has no token after 0 s"
    ):
        mesh.synchronise(timeout=0)


def test_loopback_address_is_refused(mesh: Mesh) -> None:
    client = KubernetesClient(str(mesh.vie.kubeconfig), name="vie")
    fra = Member("fra", "network-fra", str(mesh.fra.kubeconfig), None, ("vie",))
    with pytest.raises(ExomeshError, match=r"cluster fra: .*Set peering_server"):
        Peering(client, [fra], Options()).run()


def test_every_peer_that_fails_is_named(mesh: Mesh, tmp_path: Path) -> None:
    others = [
        Member(name, f"network-{name}", str(tmp_path / name), SERVER, ("vie",)) for name in ("muc", "sof")
    ]
    with pytest.raises(ExomeshError) as caught:
        mesh.synchronise(*others)
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


def token_in(mesh: Mesh) -> str:
    """The token in the remote secret of vie."""
    return str(kubeconfig_in(mesh.vie.objects[REMOTE])["users"][0]["user"]["token"])


@pytest.mark.parametrize("own_accounts", [True, False])
def test_a_token_that_is_not_accepted_any_more_is_replaced(mesh: Mesh, own_accounts: bool) -> None:
    mesh.synchronise(own_accounts=own_accounts)
    token = token_in(mesh)
    mesh.fra.rejected_tokens = {token}
    assert mesh.synchronise(own_accounts=own_accounts, check_mode=True)["istio-remote-secret-fra"] == "change"
    done = mesh.synchronise(own_accounts=own_accounts)
    assert done["exomesh-reader-vie-token" if own_accounts else TOKEN_NAME] == "change"
    assert token_in(mesh) == f"{token}-2"
    assert "change" not in mesh.synchronise(own_accounts=own_accounts).values()


def test_a_token_of_an_account_that_was_made_anew_is_replaced(mesh: Mesh) -> None:
    mesh.synchronise()
    mesh.fra.objects[ACCOUNT]["metadata"]["uid"] = "new"
    mesh.fra.objects[TOKEN]["metadata"]["annotations"]["kubernetes.io/service-account.uid"] = "old"
    assert mesh.synchronise()[TOKEN_NAME] == "change"


def test_a_dead_token_of_someone_else_stays(mesh: Mesh) -> None:
    mesh.synchronise()
    del mesh.fra.objects[TOKEN]["metadata"]["labels"]
    mesh.fra.rejected_tokens = {"token-of-fra"}
    assert mesh.synchronise()[f"{TOKEN_NAME}-exomesh"] == "create"
    assert token_in(mesh) == "token-of-fra-2"
    assert TOKEN in mesh.fra.objects


def test_an_own_account_is_made_as_predicted_and_then_left_alone(mesh: Mesh) -> None:
    predicted = mesh.synchronise(own_accounts=True, check_mode=True)
    done = mesh.synchronise(own_accounts=True)
    assert done["objects"] == predicted["objects"]
    assert "ServiceAccount istio-system/exomesh-reader-vie in fra" in done["objects"]
    mesh.vie.requests.clear()
    mesh.fra.requests.clear()
    assert set(mesh.synchronise(own_accounts=True).values()) >= {"unchanged"}
    requests = mesh.vie.requests + mesh.fra.requests
    assert [request for request in requests if not request.startswith("GET")] == []
    assert len(requests) < 30


@pytest.mark.parametrize("drift", ["rules", "subject", "role", "label"])
def test_drift_of_rights_is_repaired(mesh: Mesh, drift: str) -> None:
    mesh.synchronise(own_accounts=True)
    if drift == "rules":
        mesh.fra.objects[f"{CLUSTER_ROLES}/exomesh-reader"]["rules"].append({"resources": ["secrets"]})
    binding = mesh.fra.objects[f"{BINDINGS}/exomesh-reader-vie"]
    if drift == "subject":
        binding["subjects"][0]["name"] = "other"
    elif drift == "role":
        binding["roleRef"]["name"] = "cluster-admin"
    elif drift == "label":
        del binding["metadata"]["labels"]["exomesh.istio/reader"]
    name = "exomesh-reader" if drift == "rules" else "exomesh-reader-vie"
    nothing = "'change': []"
    assert nothing not in mesh.synchronise(own_accounts=True, check_mode=True)["objects"]
    assert nothing not in mesh.synchronise(own_accounts=True)["objects"]
    assert nothing in mesh.synchronise(own_accounts=True)["objects"], name


def test_changing_over_removes_what_nobody_uses_any_more(mesh: Mesh) -> None:
    mesh.synchronise()
    predicted = mesh.synchronise(own_accounts=True, check_mode=True)
    assert predicted[TOKEN_NAME] == "delete"
    assert mesh.synchronise(own_accounts=True)["objects"] == predicted["objects"]
    assert TOKEN not in mesh.fra.objects
    predicted = mesh.synchronise(check_mode=True)
    assert mesh.synchronise()["objects"] == predicted["objects"]
    assert [path for path in mesh.fra.objects if "exomesh-reader" in path] == []


def test_the_shared_token_stays_while_another_reader_uses_it_or_someone_else_made_it(
    mesh: Mesh, tmp_path: Path
) -> None:
    muc = ApiServer(tmp_path, "muc")
    try:
        mesh.synchronise()
        muc.put(REMOTE, mesh.vie.objects[REMOTE])
        member = Member("muc", "network-muc", str(muc.kubeconfig), "https://muc.example", ("fra",))
        mesh.synchronise(member, own_accounts=True)
        assert TOKEN in mesh.fra.objects
        del muc.objects[REMOTE]
        del mesh.fra.objects[TOKEN]["metadata"]["labels"]
        mesh.synchronise(member, own_accounts=True)
        assert TOKEN in mesh.fra.objects
    finally:
        muc.close()


def test_without_least_privilege_only_a_binding_of_its_own_lets_read_secrets(mesh: Mesh) -> None:
    mesh.synchronise(own_accounts=True)
    assert f"{BINDINGS}/exomesh-reader-vie:secrets" in mesh.fra.objects
    assert mesh.synchronise(own_accounts=True, least_privilege=True)["exomesh-reader-vie:secrets"] == "delete"
    assert "secrets" not in str(mesh.fra.objects[f"{CLUSTER_ROLES}/exomesh-reader"])
    assert mesh.synchronise(own_accounts=True, least_privilege=True)["istio-remote-secret-fra"] == "unchanged"


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        ("1.31.1-distroless", "false", "istiod 1.31.1 cannot do without the Secrets.*ends with a panic"),
        ("1.99.0", None, "REMOTE_CREDENTIALS_CONTROLLER is not false.*Run role istio"),
    ],
)
def test_least_privilege_is_refused_where_istiod_cannot_do_with_it(
    mesh: Mesh, tag: str, value: str | None, said: str
) -> None:
    variable = {"name": "PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER", "value": value}
    container = {"name": "discovery", "image": f"mirror:5000/pilot:{tag}", "env": [variable] if value else []}
    mesh.vie.put(
        "/apis/apps/v1/namespaces/istio-system/deployments/istiod",
        {
            "metadata": {"name": "istiod", "labels": {"app": "istiod"}},
            "spec": {"template": {"spec": {"containers": [container]}}},
        },
    )
    with pytest.raises(ExomeshError, match=said) as caught:
        mesh.synchronise(own_accounts=True, least_privilege=True)
    assert caught.value.code == "least_privilege_impossible"
    assert mesh.fra.objects.keys() == {ACCOUNT}


def test_members_that_are_no_peers_any_more_lose_their_accounts(mesh: Mesh) -> None:
    mesh.synchronise(own_accounts=True, reciprocal=True)
    account = "/api/v1/namespaces/istio-system/serviceaccounts/exomesh-reader-fra"
    assert account in mesh.vie.objects
    client = KubernetesClient(str(mesh.vie.kubeconfig), name="vie")
    vie = Member("vie", "network-vie", str(mesh.vie.kubeconfig), None, ())
    fra = Member("fra", "network-fra", str(mesh.fra.kubeconfig), None, ())
    Peering(client, [vie, fra], Options(prune=False)).run()
    assert account in mesh.vie.objects
    Peering(client, [vie, fra], Options(prune=True)).run()
    assert [path for path in mesh.vie.objects if "exomesh-reader-fra" in path or path == REMOTE] == []


def test_who_is_not_in_the_inventory_keeps_its_ties_and_is_named(mesh: Mesh) -> None:
    """A line that is commented out, or a zone that does not answer, takes nobody out of the mesh."""
    mesh.synchronise(own_accounts=True, reciprocal=True)
    before = dict(mesh.vie.objects)
    client = KubernetesClient(str(mesh.vie.kubeconfig), name="vie")
    vie = Member("vie", "network-vie", str(mesh.vie.kubeconfig), None, ())
    outcome = Peering(client, [vie], Options(prune=True)).run()
    assert mesh.vie.objects == before
    assert outcome.changes == []
    assert outcome.strangers == ["fra"]


def test_reciprocal_gives_peers_their_secrets_too(mesh: Mesh) -> None:
    assert mesh.synchronise(own_accounts=True, reciprocal=True)["istio-remote-secret-vie"] == "create"
    assert f"{SECRETS}/istio-remote-secret-vie" in mesh.fra.objects
    assert mesh.synchronise(own_accounts=True, reciprocal=True)["istio-remote-secret-vie"] == "unchanged"


def test_what_the_probe_refuses_is_not_handed_out(mesh: Mesh) -> None:
    mesh.vie.pod_log = BAD
    with pytest.raises(ExomeshError) as caught:
        mesh.synchronise(probe_image="curl:1")
    for part in ("vie", "fra", SERVER, "Could not resolve host", "peering_server"):
        assert part in str(caught.value)
    assert caught.value.code == "peer_api_unreachable"
    assert mesh.vie.objects == {}
    mesh.vie.pod_log = GOOD
    assert mesh.synchronise(probe_image="curl:1")["istio-remote-secret-fra"] == "create"


@pytest.mark.parametrize("code", ["200", "401", "403"])
def test_a_pod_proves_the_way_without_a_token(mesh: Mesh, code: str) -> None:
    seen: list[dict[str, Any]] = []
    put = mesh.vie.put
    mesh.vie.put = lambda path, obj: seen.append(obj) or put(path, obj)  # type: ignore
    mesh.vie.pod_log = f"exomesh-answer 0 {code} 0.01 0 \n"
    assert mesh.synchronise(probe_image="curl:1")["istio-remote-secret-fra"] == "create"
    made = [obj for obj in seen if "exomesh.istio/probe" in obj["metadata"].get("labels", {})]
    assert {obj["kind"] for obj in made} == {"Pod", "Secret"}
    told = " ".join(base64.b64decode(text).decode() for obj in made for text in obj.get("data", {}).values())
    assert SERVER in told
    assert "token" not in told + json.dumps(made)
    assert "uthorization" not in told


def test_another_server_at_a_peers_address_is_found_out(mesh: Mesh) -> None:
    mesh.vie.pod_log = "exomesh-answer 0 404 0.01 0 \n"
    with pytest.raises(ExomeshError, match="another server is there"):
        mesh.synchronise(probe_image="curl:1")


REACHED = frozenset([api_hash(SERVER, b"the CA", None)])


def test_what_pods_just_reached_is_not_asked_by_another_pod(mesh: Mesh) -> None:
    mesh.vie.pod_log = BAD
    mesh.synchronise(probe_image="curl:1", reached=REACHED)
    assert REMOTE in mesh.vie.objects
    assert not [request for request in mesh.vie.requests if "pods" in request and "POST" in request]


@pytest.mark.parametrize(
    "other",
    [
        ("https://fra.example:6443/k8s/clusters/x", b"the CA", None),
        (SERVER, b"x", None),
        (SERVER, b"the CA", "x"),
    ],
    ids=["address", "CA", "TLS name"],
)
def test_another_api_is_still_to_be_proved(mesh: Mesh, other: tuple[str, bytes, str | None]) -> None:
    mesh.vie.pod_log = BAD
    with pytest.raises(ExomeshError, match="does not get a secret"):
        mesh.synchronise(probe_image="curl:1", reached=frozenset([api_hash(*other)]))


def test_before_istiod_only_what_pods_reached_is_written_and_nothing_awaited(mesh: Mesh) -> None:
    before: dict[str, Any] = {"own_accounts": True, "before_istiod": True, "probe_image": "curl:1"}
    assert "istio-remote-secret-fra" not in mesh.synchronise(**before)
    done = mesh.synchronise(**before, reached=REACHED)
    assert done["istio-remote-secret-fra"] == "create"
    assert mesh.synchronise(**before, reached=REACHED)["istio-remote-secret-fra"] == "unchanged"
    assert not [request for request in mesh.vie.requests if request.endswith("/pods")]


def test_no_probe_where_nothing_is_to_be_written(mesh: Mesh) -> None:
    mesh.synchronise()
    mesh.vie.requests.clear()
    mesh.vie.pod_log = BAD
    assert mesh.synchronise(probe_image="curl:1")["istio-remote-secret-fra"] == "unchanged"
    assert not [request for request in mesh.vie.requests if request.startswith("POST")]
