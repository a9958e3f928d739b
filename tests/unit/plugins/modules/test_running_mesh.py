# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that look into a running mesh, and what they say when a part of it is not as it should be."""

from __future__ import annotations

import base64
import json
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._verify.observe import RIGHTS
from kubeconfigs import issue, run_module
from kubernetes_api import Object, status
from running_mesh import GATEWAY, ISTIOD, RunningMesh

POD = "/api/v1/namespaces/{}/pods/{}"
POD_OF_GATEWAY = f"/pods/{GATEWAY}"
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
    assert result["healthy"], "\n".join(result["report"])
    assert [pair["state"] for pair in result["verification"]["pairs"]] == ["ok", "ok"]
    written = [request for request in mesh["vie"].api.requests if not request.startswith("GET")]
    reviews = {"selfsubjectrulesreviews", "tokenreviews", "subjectaccessreviews"}
    assert {request.rpartition("/")[2] for request in written} == reviews


def token_of(account: str) -> str:
    """A token as Kubernetes makes them; nobody here looks at its signature."""
    payload = base64.urlsafe_b64encode(json.dumps({"sub": account}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def test_an_account_tells_all_its_rights_by_one_request(mesh: RunningMesh) -> None:
    account = "system:serviceaccount:istio-system:exomesh-reader-fra"
    mesh.trust("fra", "vie", token_of(account))
    result = mesh.run("mesh_verify", read_only=True)
    asked = [request for request in mesh["vie"].api.requests if request.startswith("POST")]
    # Once for the whole cluster; and once more for Secrets of istio-system, which it may not read everywhere.
    assert asked == ["POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews"] * 2
    pair = next(pair for pair in result["verification"]["pairs"] if pair["source"] == "fra")
    assert pair["rights"] == {right: right != "list secrets" for right in RIGHTS}
    assert pair["state"] == "ok"


@pytest.mark.parametrize("code", [403, 404])
def test_an_account_that_may_not_ask_is_asked_about(mesh: RunningMesh, code: int) -> None:
    mesh.trust("fra", "vie", token_of("somebody"))
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    mesh["vie"].api.failures["POST", path] = [status(code, "Forbidden")]
    result = mesh.run("mesh_verify", read_only=True)
    pair = next(pair for pair in result["verification"]["pairs"] if pair["source"] == "fra")
    assert pair["rights"] == {right: right != "list secrets" for right in RIGHTS}


def test_a_token_that_is_not_taken_is_a_finding(mesh: RunningMesh) -> None:
    token = token_of("somebody")
    mesh.trust("fra", "vie", token)
    mesh["vie"].api.rejected_tokens.add(token)
    result = mesh.run("mesh_verify", read_only=True, timeout=20)
    assert codes(result) == {"credentials-rejected"}


# A proof that is kept


def sent(mesh: RunningMesh) -> bool:
    """Whether requests were sent since this was asked last."""
    api = mesh["vie"].api
    found = any(request.startswith("DELETE") for request in api.requests)
    api.requests.clear()
    return found


def prove(mesh: RunningMesh, folder: Path, hours: int = 24, **options: Object) -> Object:
    return mesh.run(
        "mesh_verify", proof_file=str(folder / "state/it.proof"), proof_hours=hours, timeout=20, **options
    )


def test_a_proof_holds_while_nothing_changes(mesh: RunningMesh, tmp_path: Path) -> None:
    assert "proved" not in prove(mesh, tmp_path)["verification"]["mesh"]
    assert sent(mesh)
    assert stat.S_IMODE((tmp_path / "state/it.proof").stat().st_mode) == 0o600
    result = prove(mesh, tmp_path)
    assert not sent(mesh)
    assert result["healthy"]
    assert result["verification"]["mesh"]["mode"] == "status"
    proved = result["verification"]["mesh"]["proved"]
    assert f"No requests were sent: at {proved} they got through for every pair," in result["report"]
    assert result["report"][1].split() == ["vie", "-", "ok"]
    # Asked for, they are sent all the same.
    assert "proved" not in prove(mesh, tmp_path, hours=0)["verification"]["mesh"]
    assert sent(mesh)
    # To look only at what can be read is what was asked for; the proof is told all the same.
    assert prove(mesh, tmp_path, read_only=True)["verification"]["mesh"]["proved"]


def other_policy(mesh: RunningMesh) -> None:
    metadata = {"name": "deny", "namespace": "istio-system"}
    mesh["fra"].policies = [{"kind": "AuthorizationPolicy", "metadata": metadata, "spec": {}}]
    mesh["fra"].serve()


CHANGES = {
    "an istiod": lambda mesh: mesh["fra"].put(
        "Pod",
        ISTIOD,
        {"app": "istiod"},
        spec={"containers": [{"name": "discovery", "image": "pilot:1.30.9"}]},
    ),
    "a gateway": lambda mesh: mesh["fra"].put(
        "Pod", GATEWAY, {"istio": "eastwestgateway"}, spec={"containers": []}
    ),
    "a policy": other_policy,
    "a setting": lambda mesh: mesh["fra"].put("ConfigMap", "istio-sidecar-injector", data={"config": "x"}),
    "an account": lambda mesh: mesh.trust("vie", "fra", "another-token"),
    "the namespace": lambda mesh: mesh["fra"].put(
        "Namespace", "istio-system", {"topology.istio.io/network": "network-fra", "pod-security": "x"}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_a_request_depends_on_ends_its_proof(
    mesh: RunningMesh, tmp_path: Path, change: Callable[[RunningMesh], object]
) -> None:
    prove(mesh, tmp_path)
    change(mesh)
    sent(mesh)
    result = prove(mesh, tmp_path)
    assert sent(mesh)
    assert result["healthy"], "\n".join(result["report"])
    prove(mesh, tmp_path)
    assert not sent(mesh)


def test_an_old_a_broken_and_a_future_proof_are_none(mesh: RunningMesh, tmp_path: Path) -> None:
    prove(mesh, tmp_path)
    file = tmp_path / "state/it.proof"
    good = json.loads(file.read_text())
    for hours in (-25, 1):
        moment = datetime.fromisoformat(good["proved"]) + timedelta(hours=hours)
        file.write_text(json.dumps({**good, "proved": moment.isoformat()}))
        sent(mesh)
        prove(mesh, tmp_path)
        assert sent(mesh)
    for text in ("", "{", "[]", '{"subject": "x", "proved": 7}', "null"):
        file.write_text(text)
        prove(mesh, tmp_path)
        assert sent(mesh)


def test_a_mesh_that_is_not_well_has_no_proof(mesh: RunningMesh, tmp_path: Path) -> None:
    prove(mesh, tmp_path)
    (removed,) = [
        mesh["vie"].api.objects.pop(path)
        for path in list(mesh["vie"].api.objects)
        if path.endswith(POD_OF_GATEWAY)
    ]
    assert not prove(mesh, tmp_path, hours=24)["healthy"]
    assert not (tmp_path / "state/it.proof").exists()
    assert removed


def test_what_istiod_does_not_tell_is_not_proved(mesh: RunningMesh, tmp_path: Path) -> None:
    mesh["fra"].policies = [{"kind": "a policy without metadata"}]
    mesh["fra"].serve()
    assert prove(mesh, tmp_path)["healthy"]
    assert not (tmp_path / "state/it.proof").exists()


def test_check_mode_and_some_pairs_prove_nothing(mesh: RunningMesh, tmp_path: Path) -> None:
    prove(mesh, tmp_path, check=True)
    prove(mesh, tmp_path, only=["vie"])
    assert not (tmp_path / "state").exists()


# A workload that is started beforehand


def test_a_workload_that_was_started_is_taken(mesh: RunningMesh) -> None:
    assert mesh.run("mesh_verify", workload="start", only=["vie"])["changed"] is False
    started = mesh["vie"].api.objects[f"{VERIFY}/pods/verify-vie"]
    assert f"{VERIFY}/pods/verify-fra" not in mesh["fra"].api.objects
    seen = []
    run_command = mesh["vie"].api.run_command

    def run(pod: str, command: list[str]) -> object:
        seen.append(mesh["vie"].api.objects[f"{VERIFY}/pods/verify-vie"]["metadata"]["uid"])
        return run_command(pod, command)

    mesh["vie"].api.run_command = run  # type: ignore[assignment]
    result = mesh.run("mesh_verify", workload="started", timeout=20)
    assert result["healthy"], "\n".join(result["report"])
    assert set(seen) == {started["metadata"]["uid"]}
    assert VERIFY not in mesh["vie"].api.objects
    # Without the word for it, what is there was left behind by somebody.
    mesh.run("mesh_verify", workload="start")
    seen.clear()
    former = mesh["vie"].api.objects[f"{VERIFY}/pods/verify-vie"]["metadata"]["uid"]
    assert mesh.run("mesh_verify", timeout=20)["healthy"]
    assert former not in seen


def test_no_workload_is_started_in_check_mode_or_to_read_only(mesh: RunningMesh) -> None:
    mesh.run("mesh_verify", workload="start", check=True)
    mesh.run("mesh_verify", workload="start", read_only=True)
    assert VERIFY not in mesh["vie"].api.objects


def test_a_cluster_in_which_no_workload_can_be_started_is_named(mesh: RunningMesh) -> None:
    mesh["vie"].put("Namespace", "exomesh-verify")
    result = mesh.run("mesh_verify", workload="start")
    assert (result["failure"]["cluster"], result["failure"]["code"]) == ("vie", "foreign_namespace")


LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/exomesh-verify"


def test_who_verifies_has_the_namespace_for_itself(mesh: RunningMesh) -> None:
    held = []
    run_command = mesh["vie"].api.run_command

    def run(pod: str, command: list[str]) -> object:
        held.append({LEASE in cluster.api.objects for cluster in mesh.clusters.values()})
        return run_command(pod, command)

    mesh["vie"].api.run_command = run  # type: ignore[assignment]
    assert mesh.run("mesh_verify", timeout=20)["healthy"]
    assert held
    assert all(seen == {True} for seen in held)
    assert not any(LEASE in cluster.api.objects for cluster in mesh.clusters.values())


@pytest.mark.parametrize("workload", ["own", "start"])
def test_a_workload_of_another_run_is_left_alone(mesh: RunningMesh, workload: str) -> None:
    mesh.run("mesh_verify", workload="start")
    theirs = mesh["fra"].api.objects[f"{VERIFY}/pods/verify-fra"]["metadata"]["uid"]
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 30, "renewTime": "2099-01-01T00:00:00Z"}
    lease = {
        "kind": "Lease",
        "metadata": {"name": "exomesh-verify", "namespace": "kube-system"},
        "spec": spec,
    }
    mesh["fra"].api.put(LEASE, lease)
    result = mesh.run("mesh_verify", workload=workload, timeout=3)
    assert result.get("failure", {}).get("code") == "locked", result
    assert result["failure"]["cluster"] == "fra"
    assert "other has been changing this cluster" in result["msg"]
    for name in ("vie", "fra"):
        assert f"{VERIFY}/pods/verify-{name}" in mesh[name].api.objects
    assert mesh["fra"].api.objects[f"{VERIFY}/pods/verify-fra"]["metadata"]["uid"] == theirs


def test_a_verification_that_lost_its_lock_stops_and_removes_nothing(mesh: RunningMesh) -> None:
    run_command = mesh["vie"].api.run_command

    def steal(pod: str, command: list[str]) -> object:
        lease = mesh["vie"].api.objects[LEASE]
        if lease["spec"]["holderIdentity"] != "other":
            mesh["vie"].api.put(LEASE, {**lease, "spec": {**lease["spec"], "holderIdentity": "other"}})
            time.sleep(9)
        return run_command(pod, command)

    mesh["vie"].api.run_command = steal  # type: ignore[assignment]
    result = mesh.run("mesh_verify", timeout=30)
    assert result["failure"]["code"] == "lock_lost", result
    assert "other has had it" in result["msg"]
    assert f"{VERIFY}/pods/verify-vie" in mesh["vie"].api.objects, "it is the other one's by now"
    assert VERIFY not in mesh["fra"].api.objects


def test_a_cluster_that_lets_nobody_lock_it_is_a_finding(mesh: RunningMesh) -> None:
    mesh["vie"].api.failures["GET", LEASE] = [status(403, "Forbidden")]
    result = mesh.run("mesh_verify", timeout=5)
    assert not result["healthy"]
    assert "exomesh-verify" in str(result["findings"])


def test_a_request_goes_both_ways_and_the_workload_goes_again(mesh: RunningMesh, tmp_path: Path) -> None:
    result = mesh.run("mesh_verify", timeout=20, output_dir=str(tmp_path / "out"))
    assert result["healthy"], "\n".join(result["report"])
    assert result["failed_pairs"] == []
    assert not {VERIFY, f"{VERIFY}/pods/verify-vie"} & set(mesh["vie"].api.objects)
    files = {"verification.json", "junit.xml"}
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
    result = mesh.run("mesh_verify", timeout=20)
    assert not result["healthy"]
    assert "is not ours" in str(result["findings"])
    assert VERIFY in mesh["vie"].api.objects
    assert "could not be removed" in str(result["warnings"])


def test_a_workload_that_does_not_start_is_told_with_its_events(mesh: RunningMesh) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    container = {"name": "server", "state": {"waiting": waiting}}
    pending = {"phase": "Pending", "containerStatuses": [container]}
    mesh["fra"].api.run_pod = lambda pod: pod.update(status=pending)
    result = mesh.run("mesh_verify", timeout=15)
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
    result = mesh.run("mesh_verify", timeout=15)
    assert result["failed_pairs"] == ["vie -> fra"]


def test_a_cluster_that_is_away_does_not_hide_the_other(mesh: RunningMesh) -> None:
    mesh["fra"].api.close()
    result = mesh.run("mesh_verify", read_only=True, timeout=15)
    assert "cluster-unreachable" in codes(result) or "unreachable" in str(codes(result))
    assert not result["healthy"]


def test_an_istiod_that_says_nothing_is_told(mesh: RunningMesh) -> None:
    mesh["vie"].api.listen(ISTIOD, 15014, {"/debug/clusterz": b"<html>"})
    result = mesh.run("mesh_verify", read_only=True, timeout=15)
    assert "istiod-unresponsive" in str(codes(result)), codes(result)


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
    return run_module("istiod_ca_reload", kubeconfig=kubeconfig, name="vie", timeout=20, **options)


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
    return mesh.run("support_bundle", directory=str(folder), mesh_id="mesh1", timeout=60, **options)


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
