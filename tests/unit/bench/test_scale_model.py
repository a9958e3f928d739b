# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small mesh is recorded and played as a larger one; the modules must be content with it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from ansible_collections.exomesh.istio.plugins.module_utils._istio.istiod import sync_states
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ApiError, Object, ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubeconfigs import run_module
from running_mesh import ISTIOD, RunningMesh
from scale_model.played_api import DRY_RUN, GET, LIST, REFUSED, WRITE, PlayedMesh, difference
from scale_model.recording import address_for_peers, member, record

NAMES = ("a", "b", "c", "d")
DEPLOYMENT = ObjectRef("apps/v1", "Deployment", "istiod", "istio-system")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def mesh(state: Path) -> Iterator[PlayedMesh]:
    small = RunningMesh(state)
    options = [{**options, "server": f"https://{options['name']}.example"} for options in small.members]
    for name, cluster in small.clusters.items():
        kubeconfig = str(cluster.api.kubeconfig)
        run_module(
            "remote_secrets", members=options, kubeconfig=kubeconfig, name=name, probe=False, timeout=3
        )
    client = KubernetesClient(str(small["vie"].api.kubeconfig), name="vie")
    recording = record(client, "fra", small["vie"].root)
    small.close()
    members = (member(recording, name, [peer for peer in NAMES if peer != name]) for name in NAMES)
    with PlayedMesh(members, state) as played:
        yield played


def client_of(state: Path, name: str) -> KubernetesClient:
    return KubernetesClient(str(state / name / "kubeconfig"), name=name)


def members_of(state: Path) -> list[Object]:
    return [
        {
            "name": name,
            "network": f"network-{name}",
            "kubeconfig": str(state / name / "kubeconfig"),
            "server": address_for_peers(name),
        }
        for name in NAMES
    ]


def test_each_member_is_like_the_recorded_one_with_names_of_its_own(mesh: PlayedMesh, state: Path) -> None:
    client = client_of(state, "c")
    namespace = client.get(ObjectRef("v1", "Namespace", "istio-system"))
    assert namespace
    assert namespace["metadata"]["labels"] == {"topology.istio.io/network": "network-c"}
    accounts = client.list_objects("v1", "ServiceAccount", "istio-system", labels="exomesh.istio/reader")
    assert [account["metadata"]["name"] for account in accounts] == [f"exomesh-reader-{n}" for n in "abd"]
    assert sync_states(client, ISTIOD) == dict.fromkeys("cabd", "synced")
    assert client.get(ObjectRef("v1", "Secret", "nothing", "istio-system")) is None
    assert client.list_objects("example.com/v1", "Nothing") == []


def test_a_module_finds_nothing_to_change_and_its_requests_are_counted(mesh: PlayedMesh, state: Path) -> None:
    mesh.traffic()
    kubeconfig = str(state / "b" / "kubeconfig")
    result = run_module(
        "remote_secrets", members=members_of(state), kubeconfig=kubeconfig, name="b", prune=True, timeout=3
    )
    assert result.get("changed") is False, result
    traffic = mesh.traffic()
    assert not [line for one in traffic for line in one.refused]
    assert traffic[1].requests["pod"] == 1
    assert all(one.requests[GET] and one.bytes > 1000 for one in traffic)
    assert traffic[1].requests[LIST]


def test_peers_are_looked_at_in_as_many_requests_however_many_they_are(mesh: PlayedMesh, state: Path) -> None:
    mesh.traffic()
    for count in (2, 4):
        result = run_module("peering_info", members=members_of(state)[:count], prune=False)
        assert result["gaps"] == {}
        assert [one.requests.total() for one in mesh.traffic()[:count]] == [12] * count


def test_each_member_has_a_ca_of_its_own_under_the_root(mesh: PlayedMesh, state: Path) -> None:
    secret = client_of(state, "d").get(ObjectRef("v1", "Secret", "cacerts", "istio-system"))
    assert secret
    result = run_module(
        "intermediate_ca",
        kubeconfig=str(state / "d" / "kubeconfig"),
        name="d",
        network="network-d",
        issuer=base64.b64decode(secret["data"]["root-cert.pem"]).decode(),
        key_type="ecdsa-p256",
    )
    assert result.get("changed") is False, result
    assert "L=d" in result["certificate"]["subject"]


def test_a_dry_run_is_answered_only_where_it_changes_nothing(mesh: PlayedMesh, state: Path) -> None:
    client = client_of(state, "a")
    live = client.get(DEPLOYMENT)
    assert live
    mesh.traffic()
    assert (
        client.apply({key: live[key] for key in ("apiVersion", "kind", "metadata", "spec")}, dry_run=True)
        == live
    )
    with pytest.raises(ApiError, match=r"it would change \.spec\.replicas") as refused:
        client.apply({**live, "spec": {"replicas": 7}}, dry_run=True)
    assert refused.value.status == 501
    requests = mesh.traffic()[0].requests
    assert (requests[DRY_RUN], requests[REFUSED]) == (1, 1)


def test_a_watch_begins_with_what_is_there_and_stays_open(mesh: PlayedMesh, state: Path) -> None:
    client = client_of(state, "a")
    options = "allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true"
    selector = "fieldSelector=metadata.namespace%21%3Dkube-system"
    answer = client._pool.request(
        "GET", f"{client.server}/api/v1/services?{options}&{selector}", preload_content=False, timeout=0.5
    )
    events = [json.loads(answer.readline()) for _ in range(2)]
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert events[0]["object"]["metadata"]["name"] == "istio-eastwestgateway"
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        answer.readline()
    with pytest.raises(ApiError, match="only watches that begin with what is there"):
        client._request("GET", "/api/v1/services", query={"watch": "true"})


def test_what_is_not_recorded_is_refused_and_told(mesh: PlayedMesh, state: Path) -> None:
    client = client_of(state, "a")
    mesh.traffic()
    with pytest.raises(ApiError) as refused:
        client.delete(DEPLOYMENT)
    assert refused.value.status == 501
    with pytest.raises(ApiError) as refused:
        client.get_from_pod("istio-system", ISTIOD, 15014, "/debug/syncz", 3)
    assert refused.value.status == 501
    with pytest.raises(ApiError):
        client.logs("istio-system", ISTIOD, "discovery")
    told = mesh.traffic()[0]
    assert told.requests[WRITE] == 1
    assert len(told.refused) == 3


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ({"cpu": "2000m", "env": [], "targetPort": 0}, None),
        ({"ports": [{"name": "b"}]}, None),
        ({"ports": [{"name": "c"}]}, ".ports[0]"),
        ({"cpu": "3"}, ".cpu"),
        ({"new": "x"}, ".new"),
    ],
)
def test_part_of_an_object_as_an_api_stores_it(wanted: Object, where: str | None) -> None:
    assert difference({"cpu": "2", "ports": [{"name": "a"}, {"name": "b"}]}, wanted) == where
