# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that change a running mesh: what they do, what they refuse, what they only say in check mode."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeconfigs import run_module
from kubernetes_api import Object
from running_mesh import ISTIOD, NAMES, RunningCluster, RunningMesh

DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/cart-v1"
SECRETS = "/api/v1/namespaces/istio-system/secrets"
OURS = {"app.kubernetes.io/managed-by": "exomesh.istio"}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = RunningMesh(tmp_path)
    yield mesh
    mesh.close()


# Failover drill


@pytest.fixture
def shop(mesh: RunningMesh) -> RunningMesh:
    """The service shop/cart in both clusters; each answers its own clients while it can."""
    for cluster in mesh.clusters.values():
        template = {"metadata": {"labels": {"app": "cart"}}, "spec": {"containers": []}}
        spec = {"replicas": 1, "template": template}
        cluster.put("Deployment", "cart-v1", OURS, "shop", spec=spec)
        cluster.put("Service", "cart", {}, "shop", spec={"selector": {"app": "cart"}})
        cluster.put("Pod", f"cart-{cluster.name}", {"app": "cart"}, "shop", spec={"containers": []})
        cluster.api.run_command = cart_asked_from(mesh, cluster)
    return mesh


def cart_asked_from(mesh: RunningMesh, cluster: RunningCluster) -> Any:
    def ask(_pod: str, _command: list[str]) -> tuple[Iterable[str], int]:
        def answers() -> Iterator[str]:
            for _number in range(400):
                local_first = sorted(NAMES, key=lambda name: name != cluster.name)
                living = (n for n in local_first if mesh[n].api.objects[DEPLOYMENT]["spec"]["replicas"])
                yield f"cart-{next(living, 'nobody')}\n@@exomesh 200 \n"
                time.sleep(0.02)

        return answers(), 0

    return ask


def drill(mesh: RunningMesh, **options: Any) -> Object:
    known = {"cluster": "vie", "namespace": "shop", "service": "cart", "gateways": []}
    return mesh.run("failover_drill", **{**known, "within": 10, "hold": 1, "timeout": 20, **options})


def replicas(mesh: RunningMesh, cluster: str = "vie") -> int:
    return int(mesh[cluster].api.objects[DEPLOYMENT]["spec"]["replicas"])


def test_requests_move_to_the_other_cluster_and_back(shop: RunningMesh) -> None:
    result = drill(shop)
    figures = {entry["client"]: entry for entry in result["figures"]}
    assert figures["vie"]["answered_by_before"] == ["vie"]
    assert figures["vie"]["answered_by_drained"] == ["fra"]
    assert figures["vie"]["back_after"] is not None
    assert figures["fra"]["answered_by_before"] == figures["fra"]["answered_by_drained"] == ["fra"]
    assert figures["vie"]["failed"] == 0
    assert replicas(shop) == 1
    assert result["drained"] == ["Deployment shop/cart-v1"]
    assert not [path for path in shop["vie"].api.objects if "exomesh-drill" in path]


def test_requests_that_do_not_move_are_a_failure_and_all_is_restored(shop: RunningMesh) -> None:
    stuck = "@@exomesh 503 upstream connect error\n"
    healthy = shop["vie"].api.run_command

    def ask(pod: str, command: list[str]) -> tuple[Iterable[str], int]:
        answers, code = healthy(pod, command)
        return (stuck if "cart-fra" in answer else answer for answer in answers), code

    shop["vie"].api.run_command = ask
    result = drill(shop, within=1)
    assert result["failure"]["code"] == "failover_failed"
    assert "drained in vie: Deployment shop/cart-v1" in result["report"]
    assert result["failure"]["details"]["figures"]
    assert replicas(shop) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("@@exomesh 503 no healthy upstream\n", "the last answer was no healthy upstream"),
        ("hello\n@@exomesh 200 \n", "answers do not name a pod of the service"),
        ("", "answers came"),
    ],
)
def test_what_does_not_work_is_not_drained(shop: RunningMesh, answer: str, said: str) -> None:
    shop["vie"].api.run_command = lambda _pod, _command: ([answer] * 5, 0)
    result = drill(shop, timeout=9)
    assert result["failure"]["code"] == "traffic_not_healthy"
    assert said in result["msg"]
    assert replicas(shop) == 1


def test_a_cluster_that_answers_nobody_is_not_drained(shop: RunningMesh) -> None:
    shop["vie"].api.run_command = shop["fra"].api.run_command
    assert drill(shop)["failure"]["code"] == "nothing_to_drain"


def test_check_mode_names_what_would_be_drained(shop: RunningMesh) -> None:
    result = drill(shop, check=True)
    assert result["report"] == ["would drain in vie: Deployment shop/cart-v1"]
    assert not [request for request in shop["vie"].api.requests if not request.startswith("GET")]


def test_what_a_killed_drill_left_is_restored_first(shop: RunningMesh) -> None:
    deployment = shop["vie"].api.objects[DEPLOYMENT]
    deployment["metadata"]["annotations"] = {"exomesh.istio/drill-replicas": "1"}
    deployment["spec"]["replicas"] = 0
    told = shop.run("failover_drill", state="restored", check=True)
    assert told["restored"] == ["Deployment shop/cart-v1 in vie"]
    assert replicas(shop) == 0
    assert shop.run("failover_drill", state="restored")["changed"]
    assert replicas(shop) == 1
    assert not shop.run("failover_drill", state="restored")["changed"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"cluster": "gva"}, "unknown_member"),
        ({"service": "till"}, "nothing_to_drain"),
        ({"gateways": ["istio-system/none"]}, "nothing_to_drain"),
        ({"gateways": ["istio-system/istiod"]}, "not_confirmed"),
    ],
)
def test_a_drill_of_what_is_not_there_or_not_ours_is_refused(
    shop: RunningMesh, options: Object, code: str
) -> None:
    assert drill(shop, **options)["failure"]["code"] == code
    assert replicas(shop) == 1


# Gateways' addresses


def address_of(mesh: RunningMesh, **options: Any) -> Object:
    return run_module("load_balancer_info", kubeconfig=str(mesh["vie"].api.kubeconfig), timeout=8, **options)


def test_the_gateway_of_a_network_is_found_with_its_address(mesh: RunningMesh) -> None:
    found = address_of(mesh, network="network-vie")
    assert (found["name"], found["addresses"]) == ("istio-eastwestgateway", ["203.0.113.1"])
    assert address_of(mesh, name="istio-eastwestgateway", check=True)["address"] == "203.0.113.1"


def test_a_network_without_a_gateway_is_a_failure_except_in_check_mode(mesh: RunningMesh) -> None:
    assert address_of(mesh, network="network-gva")["failure"]["code"] == "gateway_missing"
    assert address_of(mesh, network="network-gva", check=True)["address"] == ""
    nothing = run_module("load_balancer_info", check=True, kubeconfig="/nonexistent", name="gateway")
    assert (nothing["address"], nothing["name"]) == ("", "gateway")


# Peers


def peer(mesh: RunningMesh, **options: Any) -> Object:
    members = [{**member, "server": f"https://{member['name']}.example:6443"} for member in mesh.members]
    known = {"kubeconfig": str(mesh["vie"].api.kubeconfig), "name": "vie", "timeout": 30, "members": members}
    return mesh.run("remote_secrets", **{**known, **options})


def test_remote_secrets_are_made_once(mesh: RunningMesh) -> None:
    reach = "exomesh-answer 0 200 0.01 0 \n"
    mesh["vie"].api.pod_log = mesh["fra"].api.pod_log = reach
    for cluster in mesh.clusters.values():
        cluster.api.run_pod = lambda pod: pod.update(status={"phase": "Succeeded"})
    foretold = peer(mesh, check=True)
    done = peer(mesh)
    assert done.get("changed"), done
    assert foretold["objects"] == done["objects"]
    assert "token-of-" not in str(done)
    assert not peer(mesh)["changed"]


def test_no_least_privilege_with_the_account_that_all_share(mesh: RunningMesh) -> None:
    refused = peer(mesh, least_privilege=True, own_accounts=False)
    assert refused["failure"]["code"] == "least_privilege_impossible"


def test_peers_of_a_cluster_that_is_still_to_come_cannot_be_told(mesh: RunningMesh) -> None:
    assert peer(mesh, kubeconfig="/nonexistent", check=True)["changed"]
    assert peer(mesh, kubeconfig="/nonexistent")["failure"]["code"] == "kubeconfig_missing"


# Leaving


def leave(mesh: RunningMesh, **options: Any) -> Object:
    known = {"name": "fra", "kubeconfig": str(mesh["fra"].api.kubeconfig), "drain": 0, "timeout": 40}
    return mesh.run("mesh_leave", **{**known, **options})


def forget(mesh: RunningMesh, cluster: str, peer_name: str) -> None:
    """Have istiod forget a peer as soon as its secret is gone."""
    delete = mesh[cluster].api._delete

    def forgetting(path: str, live: Object, body: Object) -> tuple[int, Any]:
        if path.endswith(f"istio-remote-secret-{peer_name}"):
            left = [{"id": cluster, "syncStatus": "synced"}]
            pages = {"clusterz": left, "networkz": [], "endpointShardz": {}}
            mesh[cluster].api.listen(ISTIOD, 15014, {f"/debug/{k}": v for k, v in pages.items()})
        return delete(path, live, body)

    mesh[cluster].api._delete = forgetting  # type: ignore[method-assign]


def test_a_member_leaves_and_both_istiods_forget(mesh: RunningMesh) -> None:
    forget(mesh, "vie", "fra")
    forget(mesh, "fra", "vie")
    foretold = leave(mesh, check=True)
    assert f"{SECRETS}/istio-remote-secret-fra" in mesh["vie"].api.objects
    done = leave(mesh)
    assert done.get("changed"), done
    assert (done["objects"], done["restarted"]) == (foretold["objects"], [])
    assert f"{SECRETS}/istio-remote-secret-fra" not in mesh["vie"].api.objects
    assert f"{SECRETS}/istio-remote-secret-vie" not in mesh["fra"].api.objects
    assert {header["before_header"] for header in done["diff"]} == set(NAMES)
    assert not leave(mesh)["changed"]


def test_services_that_only_the_leaving_member_has_are_not_lost_without_a_word(mesh: RunningMesh) -> None:
    shards = {"cart.shop.svc.cluster.local": {"shop": {"Shards": {"Kubernetes/fra": [{}]}}}}
    clusterz = [{"id": name, "syncStatus": "synced"} for name in NAMES]
    networkz = [{"Network": "network-fra", "Addr": "203.0.113.2", "Port": 15443, "Cluster": "fra"}]
    pages = {"clusterz": clusterz, "networkz": networkz, "endpointShardz": shards}
    mesh["vie"].api.listen(ISTIOD, 15014, {f"/debug/{page}": answer for page, answer in pages.items()})
    refused = leave(mesh)
    assert refused["failed"]
    assert "shop/cart" in refused["msg"]
    assert f"{SECRETS}/istio-remote-secret-fra" in mesh["vie"].api.objects


# Teardown


def teardown(mesh: RunningMesh, **options: Any) -> Object:
    known = {"kubeconfig": str(mesh["vie"].api.kubeconfig), "name": "vie", "mesh_id": "mesh1", "timeout": 20}
    return run_module("mesh_teardown", **{**known, **options})


def test_a_teardown_is_foretold_done_and_then_nothing_is_left_to_do(mesh: RunningMesh) -> None:
    foretold = teardown(mesh, check=True)
    assert foretold["changed"]
    assert f"{SECRETS}/cacerts" in mesh["vie"].api.objects
    done = teardown(mesh)
    assert done["objects"] == foretold["objects"]
    assert f"{SECRETS}/cacerts" not in mesh["vie"].api.objects
    assert not teardown(mesh)["changed"]


def test_a_teardown_leaves_the_lock_of_its_run_to_that(mesh: RunningMesh) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    for name in ("exomesh-run", "exomesh-verify"):
        labels = {"app.kubernetes.io/managed-by": "exomesh.istio"}
        metadata = {"name": name, "namespace": "kube-system", "labels": labels}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
        mesh["vie"].api.put(f"{leases}/{name}", lease)
    teardown(mesh)
    assert f"{leases}/exomesh-run" in mesh["vie"].api.objects
    assert f"{leases}/exomesh-verify" not in mesh["vie"].api.objects, "a run that was killed left it"
    assert not teardown(mesh)["changed"]


def test_a_teardown_of_a_cluster_that_is_not_there_or_away(mesh: RunningMesh) -> None:
    assert not teardown(mesh, kubeconfig="/nonexistent", check=True)["changed"]
    mesh["vie"].api.close()
    failure = teardown(mesh)["failure"]
    assert (failure["code"], failure["cluster"]) == ("cluster_unreachable", "vie")
