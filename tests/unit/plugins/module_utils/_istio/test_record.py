# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster is in its mesh: kept in it, compared before anything changes, and nobody's to mix up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._istio import record as records
from ansible_collections.exomesh.istio.plugins.module_utils._istio.record import Entry, Record
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.objects import (
    CREATE,
    UNCHANGED,
    UPDATE,
)
from kubernetes_api import ApiServer, status
from records import record

PATH = "/api/v1/namespaces/istio-system/configmaps/exomesh"


@pytest.fixture
def client(apis: dict[str, ApiServer]) -> KubernetesClient:
    return KubernetesClient(str(apis["fra"].kubeconfig), name="fra")


def kept(api: ApiServer) -> Record:
    return Record.parse(api.objects[PATH], "fra")


def test_it_is_written_once_and_read_as_it_was(client: KubernetesClient, apis: dict[str, ApiServer]) -> None:
    assert records.read_record(client) is None
    assert records.write_record(client, record()).action == CREATE
    assert records.read_record(client) == record(generation=1)
    assert records.write_record(client, record()).action == UNCHANGED
    assert kept(apis["fra"]).generation == 1
    assert records.write_record(client, record(root="cc:dd")).action == UPDATE
    assert (kept(apis["fra"]).generation, kept(apis["fra"]).root) == (2, "cc:dd")


def test_who_is_recorded_stays_until_it_leaves(client: KubernetesClient, apis: dict[str, ApiServer]) -> None:
    records.write_record(client, record("fra", "vie", "gva"))
    assert records.write_record(client, record("fra", "vie")).action == UNCHANGED
    assert set(kept(apis["fra"]).members) == {"fra", "vie", "gva"}
    records.forget_member(client, "gva")
    assert set(kept(apis["fra"]).members) == {"fra", "vie"}
    records.forget_member(client, "gva")
    assert kept(apis["fra"]).generation == 2


def test_what_is_not_known_now_is_taken_from_what_was(client: KubernetesClient) -> None:
    records.write_record(client, record())
    silent = {name: replace(entry, uid="") for name, entry in record().members.items()}
    assert records.write_record(client, record(root="", members=silent)).action == UNCHANGED


def test_what_another_writes_in_between_is_not_lost(
    client: KubernetesClient, apis: dict[str, ApiServer]
) -> None:
    records.write_record(client, record("fra"))
    api = apis["fra"]
    answer = api.answer

    def answer_late(method: str, url: str, body: Any) -> tuple[int, Any]:
        if method != "PUT":
            return answer(method, url, body)
        api.answer = answer  # type: ignore[method-assign]
        api.put(PATH, replace(kept(api), members=record("fra", "gva").members, generation=7).object())
        return status(409, "Conflict")

    api.answer = answer_late  # type: ignore[method-assign]
    records.write_record(client, record("fra", "vie"))
    assert set(kept(api).members) == {"fra", "gva", "vie"}
    assert kept(api).generation == 8


@pytest.mark.parametrize(
    ("name", "mesh", "network"),
    [("vie", None, None), ("fra", "mesh2", None), ("fra", "mesh1", "alps"), (None, None, "alps")],
)
def test_another_cluster_is_refused(
    client: KubernetesClient, name: str | None, mesh: str | None, network: str | None
) -> None:
    records.write_record(client, record())
    with pytest.raises(
        ExomeshError, match=r"is that of cluster fra of mesh mesh1.*Nothing was changed"
    ) as error:
        records.require_cluster(client, name, mesh, network)
    assert error.value.code == "wrong_cluster"


def test_its_own_cluster_is_taken(client: KubernetesClient) -> None:
    assert records.require_cluster(client, "fra", "mesh1", "network-fra") is None
    records.write_record(client, record())
    assert records.require_cluster(client, "fra", "mesh1", "network-fra") == record(generation=1)
    assert records.require_cluster(client, None) == record(generation=1)
    with pytest.raises(ExomeshError, match="is that of cluster fra"):
        records.write_record(client, record(cluster="vie"))


HOSTILE: dict[str, dict[str, Any]] = {
    "no data": {},
    "no list": {"members": "{}", "mesh": "mesh1", "cluster": "fra", "network": "n"},
    "no JSON": {"members": "[", "mesh": "mesh1", "cluster": "fra"},
    "deep": {"members": "[" * 100_000, "mesh": "mesh1", "cluster": "fra"},
    "a path": {"members": "[]", "mesh": "mesh1", "cluster": "../../x"},
    "a member that is a path": {
        "members": json.dumps([{"name": "../x", "network": "n"}]),
        "mesh": "mesh1",
        "cluster": "fra",
    },
    "a template for a variable": {
        "members": json.dumps([{"name": "x", "network": "n", "variables": {"mesh_hub": {"a": 1}}}]),
        "mesh": "mesh1",
        "cluster": "fra",
    },
    "a generation": {"members": "[]", "mesh": "mesh1", "cluster": "fra", "generation": "x"},
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_record_is_refused(
    client: KubernetesClient, apis: dict[str, ApiServer], data: dict[str, Any]
) -> None:
    metadata = {"name": "exomesh", "namespace": "istio-system"}
    apis["fra"].put(PATH, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    if data.get("members") == "{}":
        assert records.read_record(client) is not None  # it names nobody
        return
    with pytest.raises(ExomeshError, match="cannot be read") as error:
        records.read_record(client)
    assert error.value.code == "record_unreadable"


def test_variables_that_are_not_ours_are_left_out(client: KubernetesClient) -> None:
    entry = Entry("fra", "network-fra", variables={"sks_zone": "at-vie-2", "ansible_connection": "ssh"})
    records.write_record(client, record(members={"fra": entry}))
    found = records.read_record(client)
    assert found is not None
    assert found.members["fra"].variables == {"sks_zone": "at-vie-2"}
