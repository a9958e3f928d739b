"""How long status takes: with many workloads, with more clusters, and with one that is silent."""

from __future__ import annotations

import json
import time

from ..copies import up_empty, up_mesh
from ..runs import RunningLab, all_ok, run_playbook, silent, succeed, verdicts, wait_for
from .figures import figures

THREE = tuple(f"cluster{number}" for number in range(1, 4))
SIX = tuple(f"cluster{number}" for number in range(1, 7))
WORKLOADS = 100
LIMITS = {len(THREE): 10, len(SIX): 20}
TIME_OUT = 15
IMAGE = "exo.container-registry.com/exoscale-images/exo-webtest:v2"


def seconds_of_status(lab: RunningLab, names: tuple[str, ...]) -> float:
    """How long a user waits for the status of a healthy mesh."""
    begun = time.monotonic()
    done = succeed(run_playbook(lab, "playbooks/status.yml"))
    taken = time.monotonic() - begun
    assert verdicts(done.stdout) == all_ok(names)
    return taken


def start_workloads(lab: RunningLab, names: tuple[str, ...], count: int) -> None:
    """Start so many Deployments with a sidecar and a Service each, and wait until they are ready."""
    for place, name in enumerate(names):
        numbers = range(place, count, len(names))
        objects = [namespace(), *(obj for number in numbers for obj in workload(f"web-{number}"))]
        lab.kubectl(
            name, "apply", "-f", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": objects})
        )
    for name in names:
        wait_for(lambda name=name: all_ready(lab, name), 600)


def all_ready(lab: RunningLab, name: str) -> bool:
    """Whether all Deployments have their pod."""
    words = ("get", "deployments", "-n", "many", "-o=jsonpath={range .items[*]}{.status.readyReplicas},{end}")
    return "" not in lab.kubectl(name, *words).rstrip(",").split(",")


def namespace() -> dict[str, object]:
    labels = {"istio-injection": "enabled"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many", "labels": labels}}


def workload(name: str) -> list[dict[str, object]]:
    labels = {"app": name}
    small = {"sidecar.istio.io/proxyCPU": "1m", "sidecar.istio.io/proxyMemory": "16Mi"}
    pod = {
        "metadata": {"labels": labels, "annotations": small},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "web", "image": IMAGE}]},
    }
    metadata = {"name": name, "namespace": "many"}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 3000}]},
        },
    ]


def test_status_of_three_clusters_with_many_workloads_takes_seconds(lab: RunningLab) -> None:
    up_mesh(lab, len(THREE))
    with figures("status", "status of three clusters", "test_mesh") as found:
        alone = seconds_of_status(lab, THREE)
        start_workloads(lab, THREE, WORKLOADS)
        many = seconds_of_status(lab, THREE)
        with silent(lab, THREE[-1]):
            begun = time.monotonic()
            run_playbook(lab, "playbooks/status.yml")
            without = time.monotonic() - begun
        found |= {
            "workloads": WORKLOADS,
            "seconds with the demo alone": round(alone),
            "seconds with the workloads": round(many),
            "seconds with a silent cluster": round(without),
        }
        assert many <= LIMITS[len(THREE)]
        assert without <= many + TIME_OUT + 5
    lab.down()


def test_status_of_six_clusters_takes_seconds(lab: RunningLab) -> None:
    with figures("status of six", "status of six clusters", "test_mesh") as found:
        up_empty(lab, 1)
        lab.up(len(SIX))
        succeed(run_playbook(lab, "site.yml"))
        taken = seconds_of_status(lab, SIX)
        found |= {"seconds": round(taken)}
        assert taken <= LIMITS[len(SIX)]
    lab.down()
