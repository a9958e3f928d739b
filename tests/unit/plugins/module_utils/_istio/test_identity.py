# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters are who the record says, before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._istio import record as records
from ansible_collections.exomesh.istio.plugins.module_utils._istio.identity import identify
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubernetes_api import ApiServer
from records import NAMES, record


@pytest.fixture
def client(apis: dict[str, ApiServer]) -> KubernetesClient:
    return KubernetesClient(str(apis["fra"].kubeconfig), name="fra")


def member(apis: dict[str, ApiServer], name: str, cluster: str | None = None) -> Member:
    """A member, whose kubeconfig may be that of another cluster."""
    return Member(name, f"network-{name}", str(apis[cluster or name].kubeconfig), mesh="mesh1")


def test_all_that_is_mixed_up_is_told_at_once(apis: dict[str, ApiServer], client: KubernetesClient) -> None:
    assert identify([member(apis, name) for name in NAMES]).uids == {"fra": "uid-fra", "vie": "uid-vie"}
    with pytest.raises(ExomeshError, match=r"same cluster as gva: .* UID uid-vie") as error:
        identify([member(apis, "gva", "vie"), member(apis, "vie")])
    assert error.value.code == "same_cluster"
    records.write_record(client, record())
    with pytest.raises(ExomeshError, match="cluster fra of mesh mesh1") as error:
        identify([member(apis, "fra"), member(apis, "vie", "fra"), member(apis, "gva", "fra")])
    assert "2 kubeconfigs are not those of their clusters" in str(error.value)


def test_who_does_not_answer_is_told(apis: dict[str, ApiServer], tmp_path: Path) -> None:
    apis["vie"].close()
    missing = replace(member(apis, "fra"), name="gva", kubeconfig=str(tmp_path / "none"))
    found = identify([member(apis, "fra"), member(apis, "vie"), missing])
    assert found.uids == {"fra": "uid-fra"}
    assert set(found.silent) == {"vie", "gva"}
