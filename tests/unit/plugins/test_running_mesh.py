# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that look into a running mesh, and what they say when a part of it is not as it should be."""

from __future__ import annotations

import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubeconfigs import issue, run_module
from kubernetes_api import Object, status
from running_mesh import GATEWAY, ISTIOD, RunningMesh

POD = "/api/v1/namespaces/{}/pods/{}"
CACERTS = "/api/v1/namespaces/istio-system/secrets/cacerts"
VERIFY = "/api/v1/namespaces/exomesh-verify"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = RunningMesh(tmp_path)
    yield mesh
    mesh.close()


def codes(result: Object) -> set[str]:
    return {finding["code"] for finding in result["findings"]}


# Verification


def test_a_mesh_is_looked_at_without_changing_anything(mesh: RunningMesh) -> None:
    result = mesh.run("mesh_verify", read_only=True)
    assert result["healthy"], result["report"]
    assert [pair["state"] for pair in result["verification"]["pairs"]] == ["ok", "ok"]
    written = [request for request in mesh["vie"].api.requests if not request.startswith("GET")]
    assert {request.rpartition("/")[2] for request in written} == {"tokenreviews", "subjectaccessreviews"}


def test_a_request_goes_both_ways_and_the_workload_goes_again(mesh: RunningMesh, tmp_path: Path) -> None:
    result = mesh.run("mesh_verify", timeout=20, output_dir=str(tmp_path / "out"))
    assert result["healthy"], result["report"]
    assert result["failed_pairs"] == []
    assert not {VERIFY, f"{VERIFY}/pods/verify-vie"} & set(mesh["vie"].api.objects)
    files = {"verification.json", "junit.xml", "verification.html"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert json.loads((tmp_path / "out/verification.json").read_text())["mesh"]["healthy"]


def test_an_output_folder_that_is_none_is_told(mesh: RunningMesh, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    result = mesh.run("mesh_verify", read_only=True, output_dir=str(tmp_path / "out"))
    assert result["failure"]["code"] == "report_not_written"


def test_a_member_that_is_none_cannot_be_verified(mesh: RunningMesh) -> None:
    assert mesh.run("mesh_verify", only=["gva"])["failure"]["code"] == "unknown_member"


def test_a_namespace_of_somebody_else_is_neither_used_nor_removed(mesh: RunningMesh) -> None:
    mesh["vie"].put("Namespace", "exomesh-verify")
    result = mesh.run("mesh_verify", timeout=5)
    assert not result["healthy"]
    assert "is not ours" in str(result["findings"])
    assert VERIFY in mesh["vie"].api.objects
    assert "could not be removed" in str(result["warnings"])


def test_a_workload_that_does_not_start_is_told_with_its_events(mesh: RunningMesh) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    container = {"name": "server", "state": {"waiting": waiting}}
    pending = {"phase": "Pending", "containerStatuses": [container]}
    mesh["fra"].api.run_pod = lambda pod: pod.update(status=pending)
    result = mesh.run("mesh_verify", timeout=1)
    assert "ImagePullBackOff: no such image" in str(result["findings"])
    assert VERIFY not in mesh["fra"].api.objects


def test_a_request_that_fails_is_a_failed_pair(mesh: RunningMesh) -> None:
    works = mesh["vie"].run_command

    def refuse(pod: str, command: list[str]) -> tuple[list[str], int]:
        words = " ".join(command)
        if "time_connect" in words or "verify-fra" not in words:
            return works(pod, command)
        headers = ["", "", "", "", "203.0.113.2:15443", "UF connection refused"]
        return ["\t".join(["no healthy upstream~exomesh~0", "503", *headers, ""])], 0

    mesh["vie"].api.run_command = refuse
    result = mesh.run("mesh_verify", timeout=1)
    assert result["failed_pairs"] == ["vie -> fra"]


def test_a_cluster_that_is_away_does_not_hide_the_other(mesh: RunningMesh) -> None:
    mesh["fra"].api.close()
    result = mesh.run("mesh_verify", read_only=True, timeout=1)
    assert "cluster-unreachable" in codes(result) or "unreachable" in str(codes(result))
    assert not result["healthy"]


def test_an_istiod_that_says_nothing_is_told(mesh: RunningMesh) -> None:
    mesh["vie"].api.listen(ISTIOD, 15014, {"/debug/clusterz": b"<html>"})
    result = mesh.run("mesh_verify", read_only=True, timeout=1)
    assert "istiod-silent" in str(codes(result)), codes(result)


# Certificates


def test_every_certificate_is_seen_on_the_wire(mesh: RunningMesh) -> None:
    result = mesh.run("mesh_certificates_info")
    seen = {(item["cluster"], item["role"]) for item in result["certificates"]}
    roles = ("root", "intermediate", "istiod", "workload")
    assert seen == {(name, role) for name in ("vie", "fra") for role in roles}
    assert result["same_root"]
    assert (result["worst"], result["problems"]) == ("ok", [])
    assert 'exomesh_certificate_problems{cluster="vie"} 0' in result["prometheus"]
    assert "exomesh_mesh_same_root 1" in result["prometheus"]


def test_what_is_missing_or_away_is_a_problem_of_its_cluster(mesh: RunningMesh) -> None:
    del mesh["vie"].api.objects[CACERTS]
    mesh["fra"].api.close()
    problems = mesh.run("mesh_certificates_info")["problems"]
    assert "cluster vie: it has no secret istio-system/cacerts" in problems
    assert any("cluster fra: " in problem and "does not answer" in problem for problem in problems)


def test_an_istiod_of_an_older_ca_and_a_silent_proxy_are_problems(mesh: RunningMesh) -> None:
    mesh["vie"].new_intermediate()
    mesh["fra"].api.listen(GATEWAY, 15000, {"/config_dump?resource=dynamic_active_secrets": b"no JSON"})
    problems = " ".join(mesh.run("mesh_certificates_info")["problems"])
    assert f"cluster vie: pod {ISTIOD} does not serve the CA of its secret" in problems
    assert "gateway-1 shows no certificate" in problems


def reload_ca(mesh: RunningMesh, **options: Object) -> Object:
    kubeconfig = str(mesh["vie"].api.kubeconfig)
    return run_module("istiod_ca_reload", kubeconfig=kubeconfig, name="vie", timeout=1, **options)


def test_istiod_that_serves_the_ca_is_left_alone(mesh: RunningMesh) -> None:
    result = reload_ca(mesh)
    assert (result["changed"], result["installed"], result["restarted"]) == (False, True, False)
    assert result["leaf"]["subject"]
    assert POD.format("istio-system", "exomesh-certificate-probe") not in mesh["vie"].api.objects


def test_istiod_that_keeps_an_older_ca_is_restarted(mesh: RunningMesh) -> None:
    vie = mesh["vie"]
    vie.leaf = vie.new_intermediate()
    assert reload_ca(mesh, check=True)["restarted"]
    deployment = "/apis/apps/v1/namespaces/istio-system/deployments/istiod"
    before = vie.api.objects[deployment]
    assert "exomesh.istio/restarted-at" not in str(before)
    restarted = vie.api.put

    def put(path: str, obj: Object) -> Object:
        if path == deployment:
            vie.serve()  # the new pod reads the secret
        return restarted(path, obj)

    vie.api.put = put  # type: ignore[method-assign]
    result = reload_ca(mesh)
    assert (result["changed"], result["restarted"]) == (True, True)
    assert "exomesh.istio/restarted-at" in str(vie.api.objects[deployment])


def test_istiod_that_never_serves_the_ca_is_a_failure(mesh: RunningMesh) -> None:
    mesh["vie"].new_intermediate()
    assert reload_ca(mesh)["failure"]["code"] == "istiod_not_reloaded"


def test_a_proxy_with_a_certificate_of_another_ca_is_a_failure(mesh: RunningMesh) -> None:
    mesh["vie"].leaf = issue("somebody else's")
    for pod in ("exomesh-certificate-probe",):
        mesh["vie"].api.listen(pod, 15000, mesh["vie"].proxy_pages())
    result = reload_ca(mesh)
    assert result["failure"]["code"] == "leaf_of_another_ca"
    assert POD.format("istio-system", "exomesh-certificate-probe") not in mesh["vie"].api.objects


def test_without_secret_or_istiod_there_is_nothing_to_reload(mesh: RunningMesh, tmp_path: Path) -> None:
    objects = mesh["vie"].api.objects
    del objects["/apis/apps/v1/namespaces/istio-system/deployments/istiod"]
    assert not reload_ca(mesh)["installed"]
    del objects[CACERTS]
    assert reload_ca(mesh)["failure"]["code"] == "cacerts_missing"
    none = str(tmp_path / "none")
    result = run_module("istiod_ca_reload", check=True, kubeconfig=none, name="vie")
    assert not result["changed"]
    assert "still to come" in str(result["warnings"])


# Support bundle


def bundle(mesh: RunningMesh, folder: Path, **options: Object) -> Object:
    return mesh.run("support_bundle", directory=str(folder), mesh_id="mesh1", timeout=1, **options)


def contents(path: str) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {
            name.partition("/")[2]: stream.read().decode()
            for name in archive.getnames()
            if (stream := archive.extractfile(name))
        }


def test_the_bundle_has_both_clusters_and_no_secret(mesh: RunningMesh, tmp_path: Path) -> None:
    mesh["vie"].api.pod_log = "a line\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz0123456789\n"
    result = bundle(mesh, tmp_path / "out", collection_version="1.0.0")
    files = contents(result["path"])
    assert sorted(files) == result["files"]
    assert stat.S_IMODE(Path(result["path"]).stat().st_mode) == 0o600
    for name in ("vie", "fra"):
        place = f"clusters/{name}"
        assert json.loads(files[f"{place}/istiod/{ISTIOD}/clusterz.json"])
        assert "ClustersConfigDump" in files[f"{place}/gateways/istio-system/{GATEWAY}.json"]
        assert "a line" in files[f"{place}/logs/istio-system/{GATEWAY}.istio-proxy.log"] or name == "fra"
        assert f"{place}/logs/istio-system/{GATEWAY}.istio-proxy.previous.log" in files
        secrets = json.loads(files[f"{place}/istio-system/Secret.json"])
        assert {"Name": "cacerts", "Type": "Opaque"} in secrets
    whole = "".join(files.values())
    for secret in ("a key that nobody may see", "token-for-", "abcdefghijklmnopqrstuvwxyz", "PRIVATE KEY"):
        assert secret not in whole
    assert json.loads(files["verification.json"])["mesh"]["healthy"]
    assert result["redacted"]
    assert any(line.startswith("redacted: ") for line in result["report"])


def test_what_cannot_be_read_is_said_in_its_place(mesh: RunningMesh, tmp_path: Path) -> None:
    mesh["fra"].api.close()
    mesh["vie"].api.listen(ISTIOD, 15014, {})
    mesh["vie"].api.listen(GATEWAY, 15000, {"/config_dump?include_eds": b"{}"})
    services = ("GET", "/api/v1/namespaces/istio-system/events")
    mesh["vie"].api.failures[services] = [status(403, "Forbidden", "you may not list events")]
    result = bundle(mesh, tmp_path)
    assert result["not_reached"] == ["fra"]
    problems = " ".join(result["problems"]["vie"])
    assert "its proxy did not answer with its configuration" in problems
    assert "istiod/istiod-1/clusterz.json" in problems
    assert "Not reached: fra" in contents(result["path"])["README.txt"]
    assert any(line.startswith("not read, fra: the cluster") for line in result["report"])


def test_check_mode_names_the_archive_and_writes_none(mesh: RunningMesh, tmp_path: Path) -> None:
    result = bundle(mesh, tmp_path / "out", check=True)
    assert result["path"].startswith(f"{tmp_path}/out/support-mesh1-")
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_cannot_be_written_is_a_failure(mesh: RunningMesh, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    assert bundle(mesh, tmp_path / "out")["failed"]
