"""What `--check` says of an installation, compared with what a run does; drift; choices of role istio."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import RunningLab, run_playbook

MEMBERS = ("cluster1", "cluster2")
NAMESPACE = ("-n", "istio-system")
CALLBACKS = Path(__file__).parent / "callback_plugins"

Objects = dict[str, list[str]]


@dataclass
class Outcome:
    """A run: its output, and what its modules returned."""

    process: subprocess.CompletedProcess[str]
    results: list[dict[str, Any]]

    @property
    def changed(self) -> set[tuple[str, str]]:
        """Hosts and the roles that change something there."""
        return {(result["host"], role_of(result)) for result in self.results if result["changed"]}

    def objects(self) -> dict[tuple[str, str], Objects]:
        """What happens to which object, by host and role.

        By role, as a run begins some of what it predicts earlier than a prediction can know.
        """
        found: dict[tuple[str, str], Objects] = {}
        for result in self.results:
            for action, names in (result["objects"] or {}).items():
                if action != "unchanged":
                    happens = found.setdefault((result["host"], role_of(result)), {})
                    happens[action] = sorted([*happens.get(action, []), *names])
        return found

    def differences(self, host: str) -> dict[str, Any]:
        """Fields that change, by object: the diff of every task on a host that says it changes something."""
        found: dict[str, Any] = {}
        for result in self.results:
            if result["host"] == host and result["changed"]:
                for side in ("before", "after"):
                    fields = yaml.safe_load((result["diff"] or {}).get(side) or "") or {}
                    for name, content in fields.items():
                        found.setdefault(name, {})[side] = content
        return found


def role_of(result: dict[str, Any]) -> str:
    return str(result["task"]).partition(" : ")[0]


def run(lab: RunningLab, playbook: str, folder: Path, *arguments: str) -> Outcome:
    """Run a playbook, and keep what its modules return."""
    path = folder / "results.jsonl"
    path.unlink(missing_ok=True)
    environment = {
        "EXOMESH_RESULTS": str(path),
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
        "ANSIBLE_CALLBACKS_ENABLED": "results",
    }
    process = run_playbook(lab, playbook, *arguments, **environment)
    assert process.returncode == 0, process.stdout[-5000:]
    return Outcome(process, [json.loads(line) for line in path.read_text().splitlines()])


def check(lab: RunningLab, folder: Path, playbook: str = "site.yml") -> Outcome:
    return run(lab, playbook, folder, "--check", "--diff")


@pytest.fixture(scope="module")
def predicted_and_done(lab: RunningLab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    """Two clusters that hold nothing but what Kubernetes brings: a prediction, then the run."""
    folder = tmp_path_factory.mktemp("first")
    lab.up(len(MEMBERS))
    # Without credentials nothing in a cluster can be compared, and check mode makes none.
    run(lab, "playbooks/kubeconfig.yml", folder)
    return check(lab, folder), run(lab, "site.yml", folder)


@pytest.fixture(scope="module")
def mesh(lab: RunningLab, predicted_and_done: tuple[Outcome, Outcome]) -> RunningLab:
    return lab


def test_check_mode_predicts_the_first_run_object_by_object(
    predicted_and_done: tuple[Outcome, Outcome],
) -> None:
    predicted, done = (outcome.objects() for outcome in predicted_and_done)
    # Role certificates makes the namespace; a prediction cannot know that it will be there by then.
    for objects in predicted.values():
        objects["create"] = [name for name in objects["create"] if name != "Namespace istio-system"]
    assert predicted == done
    assert predicted_and_done[0].changed == predicted_and_done[1].changed


def test_what_was_predicted_is_there_and_nothing_else(
    mesh: RunningLab, predicted_and_done: tuple[Outcome, Outcome]
) -> None:
    columns = "-o=custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name"
    for cluster in MEMBERS:
        predicted = {
            name
            for (host, role), objects in predicted_and_done[0].objects().items()
            if host == cluster and role in ("exomesh.istio.istio", "exomesh.istio.gateway")
            for name in objects["create"]
        }
        kinds = {name.split()[0] for name in predicted}
        labelled = ("--selector=install.operator.istio.io/owning-resource", "--all-namespaces")
        lines = mesh.kubectl(cluster, "get", ",".join(kinds), *labelled, columns, "--no-headers")
        rows = [line.split() for line in lines.splitlines()]
        found = {
            f"{kind} {name}" if place == "<none>" else f"{kind} {place}/{name}" for kind, place, name in rows
        }
        # Neither has a label of the installer.
        assert found == predicted - {"Namespace istio-system", "Gateway istio-system/cross-network-gateway"}
        assert len(found) > 30


def test_a_second_run_changes_nothing(mesh: RunningLab, tmp_path: Path) -> None:
    assert run(mesh, "site.yml", tmp_path, "--diff").changed == set()


@pytest.mark.parametrize("tag", ["certificates", "gateway"])
def test_one_step_of_site_by_its_tag(mesh: RunningLab, tmp_path: Path, tag: str) -> None:
    done = run(mesh, "site.yml", tmp_path, "--tags", tag)
    assert done.changed == set()
    assert f"exomesh.istio.{tag}" in {role_of(result) for result in done.results}


@dataclass(frozen=True)
class Drift:
    """A change by hand: kubectl's words, and the object and field that check mode must name.

    Without a field, the object must be created.
    """

    words: tuple[str, ...]
    object: str
    field: str | tuple[str, ...] = ""

    def apply(self, lab: RunningLab, cluster: str) -> None:
        lab.kubectl(cluster, *self.words, *NAMESPACE)

    def check(self, sides: dict[str, Any]) -> None:
        """Look at what check mode says of the object, before and after."""
        if not self.field:
            assert sides == {"after": "created"}, self
            return
        fields = {name for side in sides.values() for name in side}
        assert fields, self
        assert not [name for name in fields if not name.startswith(self.field)], (self, fields)


def patched(kind: str, name: str, operation: str, path: str, value: Any = None) -> tuple[str, ...]:
    change = {"op": operation, "path": path, **({} if value is None else {"value": value})}
    return ("patch", kind, name, "--type=json", f"--patch={json.dumps([change])}")


FOREIGN_WEBHOOK = {
    "name": "foreign.example.com",
    "clientConfig": {"service": {"name": "foreign", "namespace": "default"}},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "failurePolicy": "Ignore",
}
CONTAINER = "spec.template.spec.containers[discovery]"
# Several at once for each cluster. A check names them, and nothing else; the next check proves the repair.
DRIFTS: dict[str, tuple[Sequence[Drift], Sequence[Drift]]] = {
    "labels, variables, ports, networks, rights": (
        (
            Drift(
                ("label", "deployment", "istiod", "istio.io/rev-"),
                "Deployment istio-system/istiod",
                "metadata.labels['istio.io/rev']",
            ),
            Drift(
                patched("service", "istio-eastwestgateway", "replace", "/spec/ports/1/port", 15444),
                "Service istio-system/istio-eastwestgateway",
                "spec.ports[tls].port",
            ),
            Drift(
                (
                    "patch",
                    "configmap",
                    "istio",
                    '--patch={"data": {"meshNetworks": "networks: {other: {}}"}}',
                ),
                "ConfigMap istio-system/istio",
                "data.meshNetworks",
            ),
        ),
        (
            Drift(
                ("set", "env", "deployment/istiod", "CLUSTER_ID=elsewhere"),
                "Deployment istio-system/istiod",
                f"{CONTAINER}.env[CLUSTER_ID].value",
            ),
            Drift(
                ("delete", "gateway", "cross-network-gateway"), "Gateway istio-system/cross-network-gateway"
            ),
            Drift(
                patched("clusterrole", "istiod-clusterrole-istio-system", "remove", "/rules/0"),
                "ClusterRole istiod-clusterrole-istio-system",
                "rules[",
            ),
        ),
    ),
    "replicas, autoscalers, images, webhooks, secrets": (
        (
            Drift(
                ("scale", "deployment", "istio-eastwestgateway", "--replicas=0"),
                "Deployment istio-system/istio-eastwestgateway",
                "spec.replicas",
            ),
            Drift(
                ("patch", "hpa", "istiod", '--patch={"spec": {"maxReplicas": 9}}'),
                "HorizontalPodAutoscaler istio-system/istiod",
                "spec.maxReplicas",
            ),
            Drift(
                (
                    "patch",
                    "secret",
                    "istio-remote-secret-cluster2",
                    '--patch={"stringData": {"cluster2": "{}"}}',
                ),
                "Secret istio-system/istio-remote-secret-cluster2",
                ("kubeconfig", "server", "ca", "token", "rest"),
            ),
        ),
        (
            Drift(
                patched(
                    "mutatingwebhookconfiguration",
                    "istio-sidecar-injector",
                    "add",
                    "/webhooks/-",
                    FOREIGN_WEBHOOK,
                ),
                "MutatingWebhookConfiguration istio-sidecar-injector",
                "webhooks[foreign.example.com]",
            ),
            Drift(
                ("set", "image", "deployment/istiod", "discovery=docker.io/istio/pilot:none"),
                "Deployment istio-system/istiod",
                f"{CONTAINER}.image",
            ),
            Drift(
                ("delete", "service", "istiod-revision-tag-default"),
                "Service istio-system/istiod-revision-tag-default",
            ),
        ),
    ),
}


def test_each_drift_is_named_alone_and_repaired(mesh: RunningLab, tmp_path: Path) -> None:
    for title, drifts in DRIFTS.items():
        of_cluster = dict(zip(MEMBERS, drifts, strict=True))
        for cluster in MEMBERS:
            for drift in of_cluster[cluster]:
                drift.apply(mesh, cluster)
        predicted = check(mesh, tmp_path)
        for cluster in MEMBERS:
            found = predicted.differences(cluster)
            assert sorted(found) == sorted(drift.object for drift in of_cluster[cluster]), (title, found)
            for drift in of_cluster[cluster]:
                drift.check(found[drift.object])
        repaired = run(mesh, "playbooks/install.yml", tmp_path, "playbooks/peering.yml")
        assert repaired.changed == predicted.changed, title
    # It ends with the verification of every pair.
    assert run(mesh, "site.yml", tmp_path).changed == set()


CHOICES = """
- hosts: cluster1
  gather_facts: false
  vars:
    mesh_ha: true
    istio_revision: canary
    istio_revision_tags: [default, prod]
    istio_mtls_strict: true
    istio_resources: {requests: {cpu: 50m, memory: 128Mi}}
  roles:
    - role: exomesh.istio.istioctl
    - role: exomesh.istio.istio
    - role: exomesh.istio.gateway
"""
INJECTED = """
apiVersion: v1
kind: Namespace
metadata: {name: NAME, labels: {LABEL}}
---
apiVersion: v1
kind: Pod
metadata: {name: pod, namespace: NAME}
spec: {containers: [{name: app, image: docker.io/curlimages/curl:8.16.0, command: [sleep, inf]}]}
"""


def test_a_revision_with_tags_high_availability_and_strict_mtls(mesh: RunningLab, tmp_path: Path) -> None:
    """Beside the istiod that has no revision: it takes over the default tag and the gateway."""
    choices = tmp_path / "choices.yml"
    choices.write_text(CHOICES)
    predicted = check(mesh, tmp_path, str(choices))
    done = run(mesh, str(choices), tmp_path)
    assert predicted.objects() == done.objects()
    installed = done.objects()["cluster1", "exomesh.istio.istio"]
    assert set(installed["create"]) >= {
        "Deployment istio-system/istiod-canary",
        "PodDisruptionBudget istio-system/istiod-canary",
        "MutatingWebhookConfiguration istio-revision-tag-prod",
    }
    assert "MutatingWebhookConfiguration istio-revision-tag-default" in installed["change"]
    assert check(mesh, tmp_path, str(choices)).changed == set()
    ready = ("get", "deployment", "-o=jsonpath={.status.readyReplicas}", *NAMESPACE)
    assert mesh.kubectl("cluster1", *ready, "istiod-canary") == "2"
    assert mesh.kubectl("cluster1", *ready, "istio-eastwestgateway") == "2"
    for name, label in {"by-default": "istio-injection: enabled", "by-tag": "istio.io/rev: prod"}.items():
        mesh.kubectl("cluster1", "apply", "-f-", stdin=INJECTED.replace("NAME", name).replace("LABEL", label))
        pod = mesh.kubectl("cluster1", "get", "pod", "pod", "-n", name, "-o=yaml")
        assert "istiod-canary.istio-system.svc:15012" in pod
    mode = ("get", "peerauthentication", "default", "-o=jsonpath={.spec.mtls.mode}", *NAMESPACE)
    assert mesh.kubectl("cluster1", *mode) == "STRICT"
    plain = ("-e", "istio_mtls_strict=false")
    switched = run(mesh, str(choices), tmp_path, *plain)
    assert [names["delete"] for names in switched.objects().values() if names["delete"]] == [
        ["PeerAuthentication istio-system/default"]
    ]
