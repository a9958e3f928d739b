# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What mesh_verify reads and says; its requests are tested on the lab."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils import _findings as findings
from ansible_collections.exomesh.istio.plugins.module_utils._findings import Finding, Kind
from ansible_collections.exomesh.istio.plugins.module_utils._members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._mesh_verify import (
    ClusterState,
    PairState,
    Verification,
    Workload,
    json_of,
    matrix,
    parse_endpoints,
    workload_name,
    workload_objects,
)

ENDPOINT = {"endpoint": {"address": {"socket_address": {"address": "198.51.100.7", "port_value": 15443}}}}
DUMP = {
    "configs": [
        {
            "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump.DynamicEndpointConfig",
            "endpoint_config": {
                "cluster_name": "outbound|3000||verify-fra.exomesh-verify.svc.cluster.local",
                "endpoints": [{"locality": {"region": "fra"}, "lb_endpoints": [ENDPOINT]}, {}],
            },
        },
        {"endpoint_config": {"cluster_name": "outbound|80||empty.n.svc.cluster.local"}},
    ]
}


def test_endpoints_are_read_behind_log_lines() -> None:
    output = f"2026-11-23T04:11:25Z\twarn\tOS CA Cert {{could}} not be found\n{json.dumps(DUMP, indent=1)}\n"
    assert parse_endpoints(output) == {
        "outbound|3000||verify-fra.exomesh-verify.svc.cluster.local": ["198.51.100.7:15443"],
        "outbound|80||empty.n.svc.cluster.local": [],
    }


def test_output_without_json_is_told() -> None:
    assert json_of('warn\n[{"id": "vie"}]\nmore') == [{"id": "vie"}]
    with pytest.raises(ValueError, match="no JSON in 'permission denied'"):
        json_of("permission denied\n")


def test_matrix_shows_every_ordered_pair() -> None:
    assert matrix(["vie", "fra"], [("fra", "vie")], asked=True) == [
        "from \\ to  vie        fra",
        "vie        -          ok",
        "fra        FAIL       -",
    ]
    assert "ready" in "".join(matrix(["vie", "fra"], [], asked=False))


@pytest.mark.parametrize("name", ["a", "x" * 56, "x" * 57, "x" * 63, "long-" * 12 + "end"])
def test_workload_names_are_dns_labels(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", workload_name(name))


def test_long_names_stay_apart() -> None:
    assert workload_name("x" * 62 + "a") != workload_name("x" * 62 + "b")


def test_workload_is_in_its_own_namespace_with_limits() -> None:
    namespace, service, pod = workload_objects("vie", Workload("server:1", "client:1"))
    assert namespace["metadata"]["labels"]["istio-injection"] == "enabled"
    assert service["spec"]["selector"]["app"] == pod["metadata"]["labels"]["app"] == "verify-vie"
    assert {container["image"] for container in pod["spec"]["containers"]} == {"server:1", "client:1"}
    assert all(container["resources"]["limits"] for container in pod["spec"]["containers"])


def test_every_kind_of_finding_is_whole() -> None:
    kinds = [value for value in vars(findings).values() if isinstance(value, Kind)]
    assert len({kind.code for kind in kinds}) == len(kinds) > 10
    for kind in kinds:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", kind.code)
        assert kind.message
        assert kind.cause
        assert kind.next_step


def test_finding_names_its_place() -> None:
    pair = Finding(findings.REQUEST_FAILED, source="vie", destination="fra", evidence=["status 503"])
    assert pair.as_dict()["source"] == "vie"
    assert "cluster" not in pair.as_dict()
    assert pair.lines()[0].startswith("error request-failed [vie -> fra]: ")
    assert Finding(findings.ISTIOD_MISSING, cluster="vie").where == "vie"


class Judged(Verification):
    """A verification of vie and fra that has seen what the test says."""

    def __init__(self) -> None:
        members = [Member(name, f"network-{name}", "none") for name in ("vie", "fra")]
        super().__init__(members, Workload("server:1", "client:1"), 0)
        self.vie, self.fra = self._clusters
        self.pair, self.back = self._pairs
        for cluster in (self.vie, self.fra):
            cluster.workload_ready = True
            cluster.root = "the root"
            cluster.gateway_addresses = [f"{cluster.name}.gateway"]
        for pair in self._pairs:
            pair.secret = pair.synced = pair.answered = True
            pair.endpoints = [f"{pair.destination}.gateway:15443"]

    def codes(self) -> list[tuple[str, str]]:
        return [(finding.kind.code, finding.where) for finding in self._verdict().findings]

    def failed(self) -> list[tuple[str, str]]:
        return self._verdict().failed_pairs


def test_healthy_mesh_has_no_findings() -> None:
    judged = Judged()
    assert judged.codes() == []
    assert judged.failed() == []


def test_first_cause_is_told_and_the_rest_is_evidence() -> None:
    judged = Judged()
    judged.pair.secret = judged.pair.synced = judged.pair.answered = False
    judged.pair.endpoints = []
    judged.pair.request_kind, judged.pair.request_evidence = findings.NAME_NOT_RESOLVED, "could not resolve"
    assert judged.codes() == [("remote-secret-missing", "vie -> fra")]
    assert judged._verdict().findings[0].evidence[-1] == "could not resolve"
    assert judged.failed() == [("vie", "fra")]


def refuse(pair: PairState) -> None:
    pair.answered, pair.request_kind = False, findings.REQUEST_FAILED


def test_broken_gateway_spares_the_way_out() -> None:
    judged = Judged()
    judged.fra.found(findings.GATEWAY_NOT_READY, "no pods")
    refuse(judged.pair)
    assert judged.codes() == [("gateway-not-ready", "fra")]
    assert judged.failed() == [("vie", "fra")]


@pytest.mark.parametrize(
    ("endpoints", "code"),
    [
        ([], "endpoint-missing"),
        (["192.168.0.7:3000"], "endpoint-not-gateway"),
        (["fra.gateway:15443", "192.168.0.7:3000"], "endpoint-not-gateway"),
    ],
)
def test_endpoints_must_be_the_gateway(endpoints: list[str], code: str) -> None:
    judged = Judged()
    judged.fra.gateway_addresses = ["203.0.113.9"] if code == "endpoint-not-gateway" else ["fra.gateway"]
    judged.pair.endpoints = [endpoint.replace("fra.gateway", "203.0.113.9") for endpoint in endpoints]
    assert judged.codes() == [(code, "vie -> fra")]


def test_gateway_with_a_host_name_may_have_any_address() -> None:
    judged = Judged()
    judged.pair.endpoints = ["203.0.113.9:15443"]
    assert judged.codes() == []


@pytest.mark.parametrize("cluster", ["vie", "fra"])
def test_roots_must_be_the_same(cluster: str) -> None:
    judged = Judged()
    state: ClusterState = getattr(judged, cluster)
    state.root = "another root"
    assert judged.codes() == [("roots-differ", "vie -> fra"), ("roots-differ", "fra -> vie")]


def test_unanswered_request_without_other_cause_fails_its_pair() -> None:
    judged = Judged()
    refuse(judged.back)
    assert judged.codes() == [("request-failed", "fra -> vie")]
    assert judged.failed() == [("fra", "vie")]
