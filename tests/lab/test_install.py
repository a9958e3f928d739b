"""First runs, and what `--check` says of them; drift; choices of role istio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .copies import Making, by_api
from .outcomes import Outcome, role_of, run
from .runs import RunningLab, all_ok, changes, verdicts
from .secret_values import secret_values

MEMBERS = ("cluster1", "cluster2")
NAMESPACE = ("-n", "istio-system")


def check(lab: RunningLab, folder: Path, playbook: str = "site.yml") -> Outcome:
    return run(lab, playbook, folder, "--check", "--diff")


@pytest.fixture(scope="module")
def mesh(mesh_of_two: RunningLab) -> RunningLab:
    return mesh_of_two


# The making of the mesh, by an inventory whose hosts come from the Exoscale API


def test_check_mode_on_empty_clusters_changes_nothing_there(making: Making) -> None:
    assert all(changes(making.blind.output)[name] > 0 for name in making.empty)
    assert making.after_blind == making.empty
    assert making.state == []
    minted = [request for request in making.requests if not request.startswith("GET ")]
    assert len(minted) == len(making.empty), "one for each cluster, and none where it is forbidden"
    assert all("/sks-cluster-kubeconfig/" in request for request in minted)


def test_the_first_plan_names_the_objects_of_every_cluster_and_says_what_was_minted(making: Making) -> None:
    words = " ".join(making.predicted.output.split())
    for name in making.empty:
        assert f"cluster {name}: for this check a kubeconfig was minted that ends at 20" in words
        created = making.predicted.objects()[name, "exomesh.istio.istio"]["create"]
        assert "Deployment istio-system/istiod" in created


def test_a_plan_that_may_mint_nothing_says_what_it_could_not_look_at(making: Making) -> None:
    words = " ".join(making.blind.output.split())
    assert "The mesh was not looked at, as kubeconfigs are still to come: cluster" in words
    assert "cluster-unreachable" not in words
    assert "was minted" not in words


def test_the_first_run_ends_with_the_page_from_the_other_cluster(making: Making) -> None:
    assert "VERSION: v2" in making.first.output
    assert verdicts(making.first.output) == all_ok(MEMBERS)


def test_no_secret_is_in_the_output_at_any_verbosity(mesh: RunningLab, making: Making) -> None:
    for what, forms in secret_values(mesh, MEMBERS).items():
        assert not [form for form in forms if form in making.first.output], what
    assert "PRIVATE KEY" not in making.first.output


def test_check_mode_predicts_the_first_run_object_by_object(making: Making) -> None:
    predicted, done = making.predicted.objects(), making.first.objects()
    # Role certificates makes the namespace; a prediction cannot know that it will be there by then.
    for objects in predicted.values():
        objects["create"] = [name for name in objects["create"] if name != "Namespace istio-system"]
    assert predicted == done
    assert making.predicted.changed == making.first.changed


def test_what_was_predicted_is_there_and_nothing_else(mesh: RunningLab, making: Making) -> None:
    columns = "-o=custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name"
    for cluster in MEMBERS:
        predicted = {
            name
            for (host, role), objects in making.predicted.objects().items()
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
    dynamic = by_api(mesh, tmp_path / "dynamic")
    assert run(dynamic, "site.yml", tmp_path, "--diff").changed == set()


def test_an_inventory_with_other_words_for_the_same_clusters_changes_their_records_alone(
    mesh: RunningLab, tmp_path: Path
) -> None:
    done = run(mesh, "site.yml", tmp_path, "--diff")
    assert {role for _host, role in done.changed} == {"exomesh.istio.peering"}
    changed = {name for happens in done.objects().values() for names in happens.values() for name in names}
    assert changed == {"ConfigMap istio-system/exomesh"}


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
