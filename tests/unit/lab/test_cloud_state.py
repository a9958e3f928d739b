"""The files that the lab and its Exoscale API share."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from exolab import cloud_state
from exolab.cloud_state import CloudState, CloudStateError, Cluster, Credential, NodePool
from exolab.faults import Fault, Faults
from exolab.faults import main as faults_main


def cluster() -> Cluster:
    return Cluster(
        id="3c2d",
        name="one",
        zone="de-fra-1",
        server="https://198.18.1.2:6443",
        endpoint="https://198.18.1.2:6443",
        ca_certificate="ca.pem",
        ca_key="ca-key.pem",
        version="1.36.3",
        created_at="2026-08-01T09:00:00Z",
        labels={"mesh": "m1"},
        nodepools=(NodePool("9f", "default", 2),),
        authorities={"kubelet": "kubelet-ca.pem"},
    )


def test_what_is_saved_is_loaded_and_private(tmp_path: Path) -> None:
    state = CloudState((Credential("EXO1", "s"),), (cluster(),))
    cloud_state.save(tmp_path / "state", state)
    assert cloud_state.load(tmp_path / "state") == state
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "cloud.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["cloud.json"]


def test_no_file_is_an_empty_cloud(tmp_path: Path) -> None:
    assert cloud_state.load(tmp_path) == CloudState()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "list"),
        ('{"clusters":[{"name":"a","zone":"xx-1"}]}', "unknown zone 'xx-1'"),
        ('{"clusters":[{"name":"a","zone":"de-fra-1"}]}', "missing"),
        ('{"credentials":[{"key":"a","secret":"b","role":"c"}]}', "role"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "cloud.json").write_text(content)
    with pytest.raises(CloudStateError, match=f"cloud.json: .*{reason}"):
        cloud_state.load(tmp_path)


def test_faults_are_counted_down_by_concurrent_takers(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    faults.set("500", times=5)
    faults.set("503", zone="at-vie-2")
    hits: list[Fault | None] = []
    threads = [
        threading.Thread(target=lambda: hits.append(Faults(tmp_path).take("de-fra-1", "list-sks-clusters")))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(hit is not None for hit in hits) == 5
    assert faults.active() == [Fault("503", zone="at-vie-2")]


@pytest.mark.parametrize(
    ("fault", "zone", "operation", "hit"),
    [
        (Fault("403"), "de-fra-1", "list-sks-clusters", True),
        (Fault("403"), "ch-gva-2", "list-zones", False),
        (Fault("403", operation="list-zones"), "ch-gva-2", "list-zones", True),
        (Fault("500"), "ch-gva-2", "list-zones", True),
        (Fault("zone-down", zone="de-fra-1"), "ch-gva-2", "list-zones", False),
        (Fault("zone-down", zone="ch-gva-2"), "ch-gva-2", "list-zones", True),
        (Fault("garbage"), "de-fra-1", "list-sks-clusters", False),
        (Fault("garbage"), "de-fra-1", "generate-sks-cluster-kubeconfig", True),
    ],
)
def test_which_requests_a_fault_hits(fault: Fault, zone: str, operation: str, hit: bool) -> None:
    assert fault.hits(zone, operation) is hit


def test_the_command_line_of_the_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path)]
    arguments = ["set", "hang", "--zone", "de-fra-1", "--operation", "get-sks-cluster", "--times", "2"]
    assert faults_main([*state, *arguments]) == 0
    assert Faults(tmp_path).active() == [Fault("hang", "de-fra-1", "get-sks-cluster", 2)]
    assert faults_main([*state, "list"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "hang"
    assert faults_main([*state, "clear"]) == 0
    assert Faults(tmp_path).active() == []
    for wrong in (["set", "418"], ["set", "500", "--zone", "moon-1"], ["set", "500", "--times", "0"]):
        with pytest.raises(SystemExit) as exit_:
            faults_main([*state, *wrong])
        assert exit_.value.code == 2
