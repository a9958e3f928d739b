# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test workload: what it is made of, and what its answers say; its requests are tested on the lab."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import (
    Sample,
    workload_name,
)
from ansible_collections.exomesh.istio.plugins.module_utils._verify.workload import (
    Marks,
    Workload,
    parse_answer,
    parse_endpoints,
    parse_transfers,
    workload_objects,
)

MARKS = Marks()
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


def test_endpoints_are_read_by_host() -> None:
    assert parse_endpoints(json.dumps(DUMP)) == {
        "verify-fra.exomesh-verify.svc.cluster.local": ["198.51.100.7:15443"],
        "empty.n.svc.cluster.local": [],
    }
    with pytest.raises(ExomeshError, match="permission denied"):
        parse_endpoints("permission denied\n")


def test_an_answer_tells_who_gave_it() -> None:
    headers = ["fra", "spiffe://s", "spiffe://d", "-----BEGIN%20X", "203.0.113.9:15443", "- "]
    answer = parse_answer("<html>\npage" + MARKS.told("0", "200", *headers, ""), MARKS)
    assert (answer.status, answer.cluster, answer.upstream) == (200, "fra", "203.0.113.9:15443")
    assert (answer.source_identity, answer.destination_identity) == ("spiffe://s", "spiffe://d")
    assert (answer.certificate, answer.details, answer.error) == ("-----BEGIN X", "", "")


def test_a_request_that_failed_tells_why() -> None:
    headers = ["", "", "", "-", "", "URX,UF delayed_connect_error:_Connection_refused"]
    answer = parse_answer("upstream connect error" + MARKS.told("0", "503", *headers, ""), MARKS)
    assert (answer.status, answer.error) == (503, "upstream connect error")
    assert answer.details.startswith("URX,UF delayed")
    assert parse_answer("curl: not found", MARKS).exit_code == -1


def test_what_curl_tells_is_read_by_its_urls() -> None:
    transfers = ("0", "200", "0.004"), ("0", "503", "0.9"), ("2", "0.001", "200", "", "Subject: x\n")
    output = "".join(
        MARKS.told(*fields) for fields in (*transfers, ("1", "0.000", "000", "Recv failure", ""))
    )
    seen = parse_transfers(output, MARKS)
    assert seen[0] == [["200", "0.004"], ["503", "0.9"]]
    assert seen[1] == [["0.000", "000", "Recv failure", ""]]
    assert seen[2] == [["0.001", "200", "", "Subject: x\n"]]
    assert not seen[3]


def test_quantiles_are_nearest_ranks() -> None:
    sample = Sample(tuple(float(number) for number in range(1, 101)))
    assert (sample.quantile(0.5), sample.quantile(0.99)) == (50.0, 99.0)
    assert Sample((7.0,)).quantile(0.99) == 7.0


@pytest.mark.parametrize("name", ["a", "x" * 56, "x" * 57, "x" * 63, "long-" * 12 + "end"])
def test_workload_names_are_dns_labels(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", workload_name(name))


def test_long_names_stay_apart() -> None:
    assert workload_name("x" * 62 + "a") != workload_name("x" * 62 + "b")


def test_workload_is_in_its_own_namespace_with_limits() -> None:
    objects = {obj["kind"]: obj for obj in workload_objects("vie", Workload("server:1", "client:1"), {6443})}
    pod, spec = objects["Pod"], objects["Pod"]["spec"]
    assert objects["Namespace"]["metadata"]["labels"]["istio-injection"] == "enabled"
    assert objects["PeerAuthentication"]["spec"]["mtls"]["mode"] == "STRICT"
    assert objects["Service"]["spec"]["selector"]["app"] == pod["metadata"]["labels"]["app"] == "verify-vie"
    assert {container["image"] for container in spec["containers"]} == {"server:1", "client:1"}
    assert all(container["resources"]["limits"] for container in spec["containers"])
    assert spec["activeDeadlineSeconds"] == 1800
    assert pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeOutboundPorts"] == "6443,15443"


def test_workload_brings_what_policies_quotas_and_taints_ask_for() -> None:
    tolerated = [{"key": "mesh", "operator": "Exists"}]
    made = workload_objects("vie", Workload("server:1", "client:1", server_user=65532), {6443}, tolerated)
    objects = {obj["kind"]: obj for obj in made}
    (rule,) = objects["AuthorizationPolicy"]["spec"]["rules"]
    assert rule == {"from": [{"source": {"namespaces": ["exomesh-verify"]}}]}
    kinds = [obj["kind"] for obj in made]
    assert kinds.index("AuthorizationPolicy") < kinds.index("Pod"), "a sidecar that starts has it at once"
    pod = objects["Pod"]
    assert pod["spec"]["tolerations"] == tolerated
    annotations = pod["metadata"]["annotations"]
    assert {"sidecar.istio.io/proxyCPULimit", "sidecar.istio.io/proxyMemoryLimit"} <= set(annotations)
    for container in pod["spec"]["containers"]:
        context = container["securityContext"]
        assert context["runAsNonRoot"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
