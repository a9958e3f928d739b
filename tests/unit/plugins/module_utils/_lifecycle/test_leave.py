# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may leave a mesh, and what goes with it, against small Kubernetes APIs of real HTTP.

Clusters vie and fra stay, gva leaves. There is no istiod here: that it forgets is tested on the lab.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._lifecycle.leave import (
    Choices,
    Departure,
    Outcome,
    _Replica,
)
from ansible_collections.exomesh.istio.plugins.module_utils._trust import x509 as rules
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import KeyKind
from kubeconfigs import NOW
from kubernetes_api import ApiServer, Object
from running_mesh import text_of

SECRETS = "/api/v1/namespaces/istio-system/secrets"
ACCOUNTS = "/api/v1/namespaces/istio-system/serviceaccounts"
OURS = {"app.kubernetes.io/managed-by": "exomesh.istio"}
NAMES = ("vie", "fra", "gva")


class Mesh:
    """Every cluster has remote secrets and reader accounts of all others."""

    def __init__(self, folder: Path) -> None:
        self.clusters = {name: ApiServer(folder, name) for name in NAMES}
        self.folder = folder
        for name, cluster in self.clusters.items():
            cluster.put("/api/v1/namespaces/istio-system", {"metadata": {"name": "istio-system"}})
            for peer in NAMES:
                if peer != name:
                    cluster.put(*remote_secret(peer, OURS))
                    labels = {**OURS, "exomesh.istio/reader": peer}
                    account = {
                        "name": f"exomesh-reader-{peer}",
                        "namespace": "istio-system",
                        "labels": labels,
                    }
                    cluster.put(f"{ACCOUNTS}/exomesh-reader-{peer}", {"metadata": account})

    def leave(
        self,
        name: str = "gva",
        members: tuple[str, ...] = NAMES,
        check_mode: bool = False,
        lost_services: bool = True,
        foreign_secrets: bool = False,
    ) -> Outcome:
        choices = Choices(lost_services, foreign_secrets, drain=0, timeout=2)
        entries = [
            Member(member, f"network-{member}", str(self.folder / f"{member}.kubeconfig"))
            for member in members
        ]
        kubeconfig = str(self.folder / f"{name}.kubeconfig")
        return Departure(name, kubeconfig, entries, choices).run(check_mode)

    def held(self, name: str) -> set[str]:
        return {path.rpartition("/")[2] for path in self.clusters[name].objects} - {"istio-system"}

    def close(self) -> None:
        for cluster in self.clusters.values():
            cluster.close()


def remote_secret(peer: str, labels: dict[str, str], name: str | None = None) -> tuple[str, Object]:
    name = name or f"istio-remote-secret-{peer}"
    metadata = {
        "name": name,
        "namespace": "istio-system",
        "labels": {**labels, "istio/multiCluster": "true"},
        "annotations": {"networking.istio.io/cluster": peer},
    }
    data = {peer: base64.b64encode(b"a kubeconfig").decode()}
    return f"{SECRETS}/{name}", {"metadata": metadata, "data": data}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.close()


def deleted(outcome: Outcome) -> dict[str, set[str]]:
    return {
        name: {change.ref.name for change in changes} for name, changes in outcome.changes.items() if changes
    }


def test_both_sides_forget_each_other_and_only_that(mesh: Mesh) -> None:
    predicted = mesh.leave(check_mode=True)
    assert mesh.held("vie") == {f"{kind}-{peer}" for kind in KINDS for peer in ("fra", "gva")}
    done = mesh.leave()
    assert deleted(done) == deleted(predicted)
    assert mesh.held("vie") == {f"{kind}-fra" for kind in KINDS}
    assert mesh.held("fra") == {f"{kind}-vie" for kind in KINDS}
    assert mesh.held("gva") == set()
    assert any("Take gva out of the inventory" in line for line in done.report("gva"))


def test_a_cluster_that_leaves_in_a_rotation_of_the_root_is_in_none_after_it(mesh: Mesh) -> None:
    """Its copy of the former intermediate CA goes, too."""
    gva = mesh.clusters["gva"]
    root = rules.new_root(rules.new_key(KeyKind("ecdsa-p256")), "Istio", timedelta(days=9), NOW)
    data = dict.fromkeys(
        ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"), text_of(rules.chain_pem([root]))
    )
    for name in ("cacerts", "cacerts-before-rotation"):
        metadata: Object = {"name": name, "namespace": "istio-system", "labels": OURS}
        gva.put(f"{SECRETS}/{name}", {"metadata": metadata, "data": data})
    cacerts = gva.objects[f"{SECRETS}/cacerts"]["metadata"]
    cacerts["annotations"] = {"exomesh.istio/root-rotation": json.dumps({"old": "aa", "new": "bb"})}
    gva._applied[f"{SECRETS}/cacerts"] = set(cacerts["annotations"])
    predicted = mesh.leave(check_mode=True)
    assert mesh.held("gva") > {"cacerts", "cacerts-before-rotation"}
    done = mesh.leave()
    assert deleted(done) == deleted(predicted)
    assert mesh.held("gva") == {"cacerts"}
    left = gva.objects[f"{SECRETS}/cacerts"]
    assert not left["metadata"]["annotations"]
    assert left["data"] == data
    assert any("gva leaves while the root is rotated" in line for line in done.report("gva"))


KINDS = ("istio-remote-secret", "exomesh-reader")


def test_a_second_run_only_reads(mesh: Mesh) -> None:
    mesh.leave()
    for cluster in mesh.clusters.values():
        cluster.requests.clear()
    assert deleted(mesh.leave()) == {}
    for cluster in mesh.clusters.values():
        assert [request for request in cluster.requests if not request.startswith("GET")] == []


def test_a_cluster_that_does_not_answer_leaves_by_its_name(mesh: Mesh) -> None:
    mesh.clusters["gva"].close()
    (mesh.folder / "gva.kubeconfig").unlink()
    outcome = mesh.leave(members=("vie", "fra"))
    assert set(deleted(outcome)) == {"vie", "fra"}
    assert any("gva itself was left as it is" in line for line in outcome.report("gva"))
    assert mesh.held("vie") == {f"{kind}-fra" for kind in KINDS}


def test_a_secret_of_something_else_stops_all_unless_the_user_asks(mesh: Mesh) -> None:
    path, secret = remote_secret("gva", {}, "by-hand")
    mesh.clusters["fra"].put(path, secret)
    before = {name: mesh.held(name) for name in NAMES}
    with pytest.raises(ExomeshError, match=r"fra has by-hand\. Nothing was changed") as caught:
        mesh.leave()
    assert caught.value.code == "foreign_remote_secret"
    assert {name: mesh.held(name) for name in NAMES} == before
    assert "by-hand" in deleted(mesh.leave(foreign_secrets=True))["fra"]


def test_a_foreign_secret_of_that_name_for_another_cluster_is_left_and_told(mesh: Mesh) -> None:
    name = "istio-remote-secret-gva"
    _path, secret = remote_secret("elsewhere", {}, name)
    mesh.clusters["fra"].put(f"{SECRETS}/{name}", secret)
    outcome = mesh.leave(foreign_secrets=True)
    assert name in mesh.held("fra")
    assert any(f"fra keeps Secret {name}" in line for line in outcome.report("gva"))


def test_a_misspelt_name_is_told_and_one_that_nobody_knows_is_none(mesh: Mesh) -> None:
    with pytest.raises(ExomeshError, match=r"did you mean fra\?") as caught:
        mesh.leave("fraa")
    assert caught.value.code == "unknown_cluster"
    left = mesh.leave("zuerich", members=("vie", "fra"))
    assert deleted(left) == {}
    assert "No cluster of this mesh knows zuerich. The members are vie, fra" in " ".join(
        left.report("zuerich")
    )


def test_nothing_is_changed_where_a_survivor_does_not_answer(mesh: Mesh) -> None:
    mesh.clusters["fra"].close()
    before = mesh.held("vie")
    with pytest.raises(ExomeshError, match="Nothing was changed") as caught:
        mesh.leave()
    assert caught.value.cluster == "fra"
    assert mesh.held("vie") == before


def test_without_istiod_nobody_knows_which_services_would_be_lost(mesh: Mesh) -> None:
    with pytest.raises(ExomeshError, match="No istiod is ready in") as caught:
        mesh.leave(lost_services=False)
    assert caught.value.code == "istiod_not_ready"


def test_what_an_istiod_knows_of_another_cluster() -> None:
    replica = _Replica(
        "istiod-1",
        {"vie": "synced", "fra": "timeout", "gva": "synced", "lux": "synced"},
        {"vie": {"198.51.100.1"}, "gva": {"198.51.100.3"}, "old": {"198.51.100.4"}},
        {"shop/cart": frozenset({"vie", "gva"}), "shop/pay": frozenset({"stale"})},
    )
    assert replica.lacks("gva") is None
    assert replica.lacks("fra") == "istiod-1 has not read fra (timeout)"
    assert replica.lacks("lux") == "istiod-1 has no gateway of lux"
    assert replica.knows("gva") == "istiod-1 still reads it (synced)"
    assert replica.knows("stale") == "istiod-1 still has endpoints of it"
    assert replica.knows("old") is None
