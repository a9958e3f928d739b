# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning and running an installation, with a program in istioctl's place and a small Kubernetes API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import (
    ExomeshError,
    MissingRequirementError,
)
from ansible_collections.exomesh.istio.plugins.module_utils._istio.install import install, plan
from ansible_collections.exomesh.istio.plugins.module_utils._istio.operator import (
    OperatorSettings,
    istio_operator,
)
from ansible_collections.exomesh.istio.plugins.module_utils._istio.rendering import Istioctl
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.lock import INSTALL_LOCK, ClusterLock
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.objects import summarise
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.readiness import wait_ready
from kubeconfigs import run_module
from kubernetes_api import ApiServer, Object
from patience import ends_within

ISTIOD = "/apis/apps/v1/namespaces/istio-system/deployments/istiod"
NAMESPACE = "/api/v1/namespaces/istio-system"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
INJECTOR = f"{WEBHOOKS}/mutatingwebhookconfigurations/istio-sidecar-injector"
DEFAULT_TAG = {
    f"{WEBHOOKS}/mutatingwebhookconfigurations/istio-revision-tag-default": (
        f"{WEBHOOKS[6:]}",
        "MutatingWebhookConfiguration",
        "istio-revision-tag-default",
    ),
    f"{WEBHOOKS}/validatingwebhookconfigurations/istiod-default-validator": (
        f"{WEBHOOKS[6:]}",
        "ValidatingWebhookConfiguration",
        "istiod-default-validator",
    ),
    "/api/v1/namespaces/istio-system/services/istiod-revision-tag-default": (
        "v1",
        "Service",
        "istiod-revision-tag-default",
    ),
}
NEVER = {"matchLabels": {"istio.io/deactivated": "never-match"}}
CONFIG = "/api/v1/namespaces/istio-system/configmaps/istio"
OWNING = "install.operator.istio.io/owning-resource"
OWNER = {
    "operator.istio.io/managed": "Reconcile",
    "operator.istio.io/version": "1.31.1",
    "install.operator.istio.io/owning-resource": "exomesh",
    "install.operator.istio.io/owning-resource-namespace": "istio-system",
    "istio.io/rev": "default",
}
SETTINGS = OperatorSettings(network="network-vie")

# Renders two objects after a warning, as istioctl does; "install" keeps what it was given.
PROGRAM = """#!/bin/sh
echo "$@" >> {folder}/calls
echo "$HOME $KUBECONFIG" > {folder}/environment
case "$1" in
version) echo '{{"clientVersion": {{"version": "1.31.1"}}}}' ;;
tag) cat {folder}/tag.yaml ;;
manifest) echo "! values.x is deprecated"; cat {folder}/manifest.yaml; cat > /dev/null ;;
install) cat > {folder}/operator.yaml; [ -e {folder}/slow ] && sleep 30 && touch {folder}/installed
  [ -e {folder}/broken ] || exit 0
  echo "  |  /|  "; echo "Error: failed to wait for resource" >&2; exit 1 ;;
esac
"""


class Place:
    """A cluster, and a program in istioctl's place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = ApiServer(folder, "vie")
        self.client = KubernetesClient(str(self.api.kubeconfig))
        program = folder / "istioctl"
        program.write_text(PROGRAM.format(folder=folder))
        program.chmod(0o755)
        self.istioctl = Istioctl(str(program), str(self.api.kubeconfig))
        self.manifest = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "istio", "namespace": "istio-system", "labels": None},
                "data": {"mesh": "a: 1\n"},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod"}},
                "spec": {"selector": {"matchLabels": {"app": "istiod"}}},
            },
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "istio-sidecar-injector"},
                "webhooks": [webhook("injector")],
            },
        ]
        self.tag = [tag_object(*names) for names in DEFAULT_TAG.values()]
        (folder / "tag.yaml").write_text("---\n".join(yaml.safe_dump(obj) for obj in self.tag))
        (folder / "manifest.yaml").write_text("---\n".join(yaml.safe_dump(obj) for obj in self.manifest))

    def put_installed(self) -> None:
        """The cluster as the installer leaves it."""
        self.api.put(
            NAMESPACE,
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": "network-vie"}},
            },
        )
        for path, obj in zip((CONFIG, ISTIOD, INJECTOR), self.manifest, strict=True):
            labels = {**(obj["metadata"].get("labels") or {}), **OWNER}
            self.api.put(path, {**obj, "metadata": {**obj["metadata"], "labels": labels}})
        (injector,) = self.api.objects[INJECTOR]["webhooks"]
        injector |= {"namespaceSelector": NEVER, "objectSelector": NEVER}
        injector["clientConfig"]["caBundle"] = "aXN0aW9kJ3M="
        kept = {"install.operator.istio.io/owning-resource-not-pruned": "true"}
        for path, obj in zip(DEFAULT_TAG, self.tag, strict=True):
            labels = {**obj["metadata"]["labels"], **OWNER, **kept, "operator.istio.io/component": "Pilot"}
            self.api.put(path, {**obj, "metadata": {**obj["metadata"], "labels": labels}})
        self.api.objects[ISTIOD]["spec"]["replicas"] = 1
        self.api.objects[ISTIOD]["status"] = {"updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}

    def by_the_names_of_before(self, mesh_id: str = "mesh1") -> None:
        """What :meth:`put_installed` put there, as the collection left it before it had names of its own."""
        for obj in self.api.objects.values():
            if OWNING in (labels := obj["metadata"].get("labels") or {}):
                labels[OWNING] = "installed-state"
        # An installation of the gateway came last.
        for path in DEFAULT_TAG:
            self.api.objects[path]["metadata"]["labels"][OWNING] = "eastwest"
        fields = {"f:metadata": {"f:labels": {"f:topology.istio.io/network": {}}}}
        entry = {"manager": "exomesh.istio", "operation": "Apply", "fieldsV1": fields}
        self.api.objects[NAMESPACE]["metadata"]["managedFields"] = [entry]
        self.api.objects[CONFIG]["data"]["mesh"] = f"defaultConfig: {{meshId: {mesh_id}}}\n"
        environment = [{"name": "CLUSTER_ID", "value": "vie"}]
        pod = {"spec": {"containers": [{"name": "discovery", "env": environment}]}}
        self.api.objects[ISTIOD]["spec"]["template"] = pod
        self.manifest[0]["data"] = self.api.objects[CONFIG]["data"]
        self.manifest[1]["spec"] = {**self.manifest[1]["spec"], "template": pod}
        manifest = "---\n".join(yaml.safe_dump(obj) for obj in self.manifest)
        (self.folder / "manifest.yaml").write_text(manifest)

    def owners(self) -> dict[str, str]:
        """Whose each object is, by its name."""
        labels = {path: obj["metadata"].get("labels") or {} for path, obj in self.api.objects.items()}
        return {path.rpartition("/")[2]: of[OWNING] for path, of in labels.items() if OWNING in of}

    def install(self) -> None:
        install(self.client, self.istioctl, SETTINGS, plan(self.client, self.istioctl, SETTINGS), 5)

    def plan(self) -> dict[str, list[str]]:
        return summarise(plan(self.client, self.istioctl, SETTINGS).changes)

    @property
    def calls(self) -> str:
        return (self.folder / "calls").read_text()


def webhook(name: str) -> Object:
    return {"name": name, "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system"}}}


def tag_object(api_version: str, kind: str, name: str) -> Object:
    metadata = {"name": name, "labels": {"istio.io/tag": "default"}}
    if kind == "Service":
        return {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {**metadata, "namespace": "istio-system"},
            "spec": {"ports": [{"port": 443, "name": "https-webhook"}]},
        }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "webhooks": [webhook("w")]}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.api.close()


def test_empty_cluster_is_predicted(place: Place) -> None:
    found = place.plan()
    assert found["create"] == [
        "Namespace istio-system",
        "ConfigMap istio-system/istio",
        "Deployment istio-system/istiod",
        "MutatingWebhookConfiguration istio-sidecar-injector",
        "MutatingWebhookConfiguration istio-revision-tag-default",
        "ValidatingWebhookConfiguration istiod-default-validator",
        "Service istio-system/istiod-revision-tag-default",
    ]
    assert found["change"] == found["unchanged"] == []
    assert place.api.objects == {}
    assert "install" not in place.calls


def test_untouched_installation_differs_in_nothing(place: Place) -> None:
    place.put_installed()
    assert len(place.plan()["unchanged"]) == 7
    assert not [request for request in place.api.requests if request.split()[0] in ("POST", "PUT", "DELETE")]


def test_istioctl_gets_no_ambient_identity(place: Place) -> None:
    place.plan()
    home, kubeconfig = (place.folder / "environment").read_text().split()
    assert home != str(Path.home())
    assert not Path(home).exists()
    assert kubeconfig == "/dev/null"
    assert f"--kubeconfig {place.api.kubeconfig}" in place.calls


def test_upgrade_is_seen_in_the_installers_label(place: Place) -> None:
    place.put_installed()
    place.api.objects[CONFIG]["metadata"]["labels"]["operator.istio.io/version"] = "1.30.5"
    assert place.plan()["change"] == ["ConfigMap istio-system/istio"]


def test_lost_network_label_needs_no_installer(place: Place) -> None:
    place.put_installed()
    del place.api.objects[NAMESPACE]["metadata"]["labels"]["topology.istio.io/network"]
    found = plan(place.client, place.istioctl, SETTINGS)
    assert found.differs
    install(place.client, place.istioctl, SETTINGS, found, 5)
    assert place.api.objects[NAMESPACE]["metadata"]["labels"]["topology.istio.io/network"] == "network-vie"
    assert "install" not in place.calls


def test_deployment_without_pods_is_scaled_up(place: Place) -> None:
    place.put_installed()
    place.api.objects[ISTIOD]["spec"]["replicas"] = 0
    found = plan(place.client, place.istioctl, SETTINGS)
    (change,) = [change for change in found.changes if change.action != "unchanged"]
    assert (change.before, change.after) == ({"spec.replicas": 0}, {"spec.replicas": 1})
    install(place.client, place.istioctl, SETTINGS, found, 5)
    assert place.api.objects[ISTIOD]["spec"]["replicas"] == 1


@pytest.mark.parametrize("path", DEFAULT_TAG)
def test_part_of_the_default_tag_is_made_again_without_the_installer(place: Place, path: str) -> None:
    place.put_installed()
    del place.api.objects[path]
    assert len(place.plan()["create"]) == 1
    place.install()
    assert path in place.api.objects
    assert "\ninstall" not in place.calls
    assert not place.plan()["create"]


def test_default_tag_may_be_owned_by_any_installation(place: Place) -> None:
    place.put_installed()
    for path in DEFAULT_TAG:
        place.api.objects[path]["metadata"]["labels"]["install.operator.istio.io/owning-resource"] = (
            "somebody-elses"
        )
    assert len(place.plan()["unchanged"]) == 7


def test_switched_on_injector_is_told(place: Place) -> None:
    place.put_installed()
    place.api.objects[INJECTOR]["webhooks"][0]["objectSelector"] = {}
    assert place.plan()["change"] == ["MutatingWebhookConfiguration istio-sidecar-injector"]


def test_webhook_that_someone_added_is_told_and_removed(place: Place) -> None:
    place.put_installed()
    place.api.objects[INJECTOR]["webhooks"].append(webhook("foreign"))
    found = plan(place.client, place.istioctl, SETTINGS)
    (change,) = [change for change in found.changes if change.action != "unchanged"]
    assert {path.split(".")[0] for path in change.before} == {"webhooks[foreign]"}
    assert change.after == {}
    install(place.client, place.istioctl, SETTINGS, found, 5)
    assert [entry["name"] for entry in place.api.objects[INJECTOR]["webhooks"]] == ["injector"]


def test_tag_of_another_revision_is_left_alone(place: Place) -> None:
    place.put_installed()
    for path in DEFAULT_TAG:
        place.api.objects[path]["metadata"]["labels"]["istio.io/rev"] = "1-30-5"
    canary = OperatorSettings(network="network-vie", revision="canary")
    changed = [str(change.ref) for change in plan(place.client, place.istioctl, canary).changes]
    assert not [name for name in changed if "default" in name]
    assert "tag generate" not in place.calls


def test_default_tag_that_a_new_revision_takes_over(place: Place) -> None:
    place.put_installed()
    canary = OperatorSettings(network="network-vie", revision="canary", revision_tags=["default"])
    changes = [change for change in plan(place.client, place.istioctl, canary).changes if change.before]
    taken = [change for change in changes if "default" in change.ref.name]
    assert len(taken) == 3
    assert {value for change in taken for value in change.after.values()} == {"canary"}


def test_tag_with_the_name_of_a_revision_is_refused(place: Place) -> None:
    with pytest.raises(ExomeshError, match="The revision tag canary is called like a revision"):
        plan(place.client, place.istioctl, OperatorSettings(revision="canary", revision_tags=["canary"]))


@pytest.mark.parametrize(
    "settings",
    [
        OperatorSettings(hub="registry.istio.io/release"),
        OperatorSettings(spec={"values": {"global": {"hub": "gcr.io/istio-release"}}}),
        OperatorSettings(spec={"values": {"pilot": {"image": "gcr.io/istio-release/pilot:1.30.0"}}}),
    ],
)
def test_retired_registry_is_refused(place: Place, settings: OperatorSettings) -> None:
    with pytest.raises(ExomeshError, match=r"goes away in December 2026.*Set istio_hub") as caught:
        plan(place.client, place.istioctl, settings)
    assert caught.value.code == "retired_registry"


def test_retired_registry_in_the_manifest_is_refused(place: Place) -> None:
    place.manifest[0]["data"]["values"] = '{"global": {"hub": "registry.istio.io/release"}}'
    (place.folder / "manifest.yaml").write_text(yaml.safe_dump(place.manifest[0]))
    with pytest.raises(ExomeshError, match=r"registry of registry\.istio\.io/release goes"):
        plan(place.client, place.istioctl, SETTINGS)


def test_selectors_that_hide_istio_from_istiod_are_refused(place: Place) -> None:
    shop, named = ({"matchLabels": {key: value}} for key, value in (("team", "shop"), ("network", "n")))
    ours = {"matchLabels": {"topology.istio.io/network": "network-vie"}}
    for selectors, refused in (([shop, named], True), ([shop, ours], False), ([], False)):
        spec = {"meshConfig": {"discoverySelectors": selectors}}
        settings = OperatorSettings(network="network-vie", spec=spec)
        if not refused:
            plan(place.client, place.istioctl, settings)
            continue
        with pytest.raises(ExomeshError, match="hide istio-system from istiod") as caught:
            plan(place.client, place.istioctl, settings)
        assert caught.value.code == "namespace_hidden"


def test_missing_pull_secret_is_told_once_there_is_a_namespace(place: Place) -> None:
    settings = OperatorSettings(image_pull_secrets=["mirror"])
    found = plan(place.client, place.istioctl, settings)
    with pytest.raises(ExomeshError, match="no Secret mirror to pull images with"):
        install(place.client, place.istioctl, settings, found, 5)
    place.put_installed()
    with pytest.raises(ExomeshError, match="no Secret mirror to pull images with"):
        plan(place.client, place.istioctl, settings)
    secret: Object = {"metadata": {"name": "mirror"}}
    place.api.put("/api/v1/namespaces/istio-system/secrets/mirror", secret)
    plan(place.client, place.istioctl, settings)


def test_surplus_of_an_earlier_installation_is_told(place: Place) -> None:
    place.put_installed()
    component = {"operator.istio.io/component": "Pilot"}
    surplus: Object = {
        "metadata": {"name": "old", "namespace": "istio-system", "labels": {**OWNER, **component}}
    }
    place.api.put("/api/v1/configmaps/old", surplus)
    assert place.plan()["delete"] == ["ConfigMap istio-system/old"]


def test_installer_gets_the_operator(place: Place) -> None:
    found = plan(place.client, place.istioctl, SETTINGS)
    install(place.client, place.istioctl, SETTINGS, found, 7)
    assert yaml.safe_load((place.folder / "operator.yaml").read_text()) == istio_operator(SETTINGS, "1.31.1")
    assert "install --skip-confirmation --readiness-timeout 7s" in place.calls


# Whose it is

MEMBER = {"mesh_id": "mesh1", "cluster_name": "vie"}


def test_what_has_a_name_of_before_is_renamed_and_nothing_else(place: Place) -> None:
    place.put_installed()
    place.by_the_names_of_before()
    component = {"operator.istio.io/component": "Pilot"}
    surplus: Object = {
        "metadata": {
            "name": "old",
            "namespace": "istio-system",
            "labels": {**OWNER, OWNING: "installed-state", **component},
        }
    }
    place.api.put(f"{NAMESPACE}/configmaps/old", surplus)
    # Of an IstioOperator of the same name, but of another revision.
    theirs: Object = {
        "metadata": {
            "name": "theirs",
            "namespace": "istio-system",
            "labels": {**OWNER, OWNING: "installed-state", "istio.io/rev": "theirs", **component},
        }
    }
    place.api.put(f"{NAMESPACE}/configmaps/theirs", theirs)
    before = place.owners()
    specs = {path: obj.get("spec") for path, obj in place.api.objects.items()}
    foretold = module(place, check=True, **MEMBER)
    assert place.owners() == before
    assert len(foretold["objects"]["change"]) == 6
    assert foretold["objects"]["delete"] == ["ConfigMap istio-system/old"]
    assert f"metadata.labels['{OWNING}']: exomesh" in foretold["diff"]["after"]
    del place.api.objects[f"{NAMESPACE}/configmaps/old"]  # which the real installer would do
    asked(place)
    done = module(place, **MEMBER)
    assert done["objects"]["change"] == foretold["objects"]["change"]
    assert "install" not in asked(place)
    assert place.owners() == {**dict.fromkeys(place.owners(), "exomesh"), "theirs": "installed-state"}
    assert {path: obj.get("spec") for path, obj in place.api.objects.items()} == {
        path: spec for path, spec in specs.items() if not path.endswith("/old")
    }
    assert not module(place, **MEMBER)["changed"]


def test_a_renaming_that_was_interrupted_goes_on(place: Place) -> None:
    place.put_installed()
    place.by_the_names_of_before()
    path = f"{WEBHOOKS}/mutatingwebhookconfigurations/istio-sidecar-injector"
    place.api.failures["PATCH", path] = [(500, {"kind": "Status", "code": 500, "message": "no"})]
    assert module(place, **MEMBER)["failed"]
    assert set(place.owners().values()) > {"exomesh"}
    assert place.owners()["istiod"] == "installed-state", "the proof comes last"
    done = module(place, **MEMBER)
    assert done["changed"]
    assert set(place.owners().values()) == {"exomesh"}
    assert not module(place, **MEMBER)["changed"]


@pytest.mark.parametrize(
    "what", ["plain", "another mesh", "another cluster", "not told", "labelled by others"]
)
def test_an_istio_of_somebody_else_is_refused_unless_it_is_adopted(place: Place, what: str) -> None:
    place.put_installed()
    place.by_the_names_of_before("mesh2" if what == "another mesh" else "mesh1")
    member = {**MEMBER, **({"cluster_name": "fra"} if what == "another cluster" else {})}
    if what == "plain":
        place.api.objects[CONFIG]["data"]["mesh"] = "a: 1\n"
    elif what == "labelled by others":
        place.api.objects[NAMESPACE]["metadata"]["managedFields"][0]["manager"] = "kubectl"
    elif what == "not told":
        member = {}
    before = dict(place.api.objects)
    asked(place)
    for check in (True, False):
        refused = module(place, check=check, **member)
        assert refused["failure"]["code"] == "foreign_istio"
        assert "IstioOperator istio-system/installed-state" in refused["msg"]
        assert "istio_adopt: true" in refused["msg"]
        assert "another istio_revision" in refused["msg"]
    assert place.api.objects == before
    assert "install" not in asked(place)
    foretold = module(place, check=True, adopt=True, **member)
    assert "Deployment istio-system/istiod" in foretold["objects"]["change"]
    assert place.api.objects == before
    module(place, adopt=True, **member)
    assert "install" in asked(place), "which writes the mark of ours"
    assert yaml.safe_load((place.folder / "operator.yaml").read_text())["metadata"]["name"] == "exomesh"


def test_another_revision_is_installed_beside_an_istio_of_somebody_else(place: Place) -> None:
    place.put_installed()
    place.by_the_names_of_before()
    place.api.objects[NAMESPACE]["metadata"]["managedFields"] = []
    manifest = (place.folder / "manifest.yaml").read_text()
    (place.folder / "manifest.yaml").write_text(manifest.replace("name: istiod\n", "name: istiod-canary\n"))
    beside = module(place, check=True, revision="canary", **MEMBER)
    assert "Deployment istio-system/istiod-canary" in beside["objects"]["create"]
    # One of the same revision, in another namespace, would share its webhooks.
    elsewhere = {**place.api.objects[ISTIOD], "metadata": {"name": "istiod-x", "namespace": "other"}}
    elsewhere["metadata"]["labels"] = {"app": "istiod", "istio.io/rev": "canary"}
    place.api.put("/apis/apps/v1/namespaces/other/deployments/istiod-x", elsewhere)
    refused = module(place, check=True, revision="canary", **MEMBER)
    assert "Deployment other/istiod-x belongs to somebody unknown" in refused["msg"]


def test_the_name_that_everybody_has_is_no_mark(place: Place) -> None:
    place.put_installed()
    place.by_the_names_of_before()
    place.api.objects[NAMESPACE]["metadata"]["managedFields"] = []
    assert module(place, name="installed-state")["failure"]["code"] == "foreign_istio"
    for obj in place.api.objects.values():
        if OWNING in (labels := obj["metadata"].get("labels") or {}):
            labels[OWNING] = "mine"
    assert not module(place, name="mine")["changed"]


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("part", ["eastwest", "ingress"])
def test_a_gateway_is_ours_by_what_else_is_there(place: Place, part: str, ours: bool) -> None:
    namespace = {"eastwest": "istio-system", "ingress": "front"}[part]
    metadata = {"name": f"istio-{part}gateway", "namespace": namespace}
    labels = {**OWNER, OWNING: part, "operator.istio.io/component": "IngressGateways"}
    found: list[Object] = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 1}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "LoadBalancer"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**metadata, "name": "account"}},
    ]
    (place.folder / "manifest.yaml").write_text("---\n".join(yaml.safe_dump(obj) for obj in found))
    paths = [f"/apis/apps/v1/namespaces/{namespace}/deployments/istio-{part}gateway"]
    paths += [f"/api/v1/namespaces/{namespace}/services/istio-{part}gateway"]
    paths += [f"/api/v1/namespaces/{namespace}/serviceaccounts/account"]
    for path, obj in zip(paths, found, strict=True):
        place.api.put(path, {**obj, "metadata": {**obj["metadata"], "labels": dict(labels)}})
    place.api.objects[paths[0]]["status"] = {"updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}
    if ours and part == "eastwest":
        annotations = {"exomesh.istio/address": "192.0.2.7"}
        place.api.objects[paths[1]]["metadata"]["annotations"] = annotations
    managed = {"app.kubernetes.io/managed-by": "exomesh.istio"} if ours else {}
    place.api.put(
        "/api/v1/namespaces/front",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "front", "labels": managed}},
    )
    before = place.owners()
    foretold = module(place, check=True, name=f"exomesh-{part}")
    assert place.owners() == before
    done = module(place, name=f"exomesh-{part}")
    if ours:
        assert done["objects"] == foretold["objects"]
        assert len(done["objects"]["change"]) == 3
        assert set(place.owners().values()) == {f"exomesh-{part}"}
        assert "install" not in asked(place)
        assert not module(place, name=f"exomesh-{part}")["changed"]
    else:
        assert {foretold["failure"]["code"], done["failure"]["code"]} == {"foreign_istio"}
        assert place.owners() == before
        assert module(place, check=True, name=f"exomesh-{part}", adopt=True)["changed"]


def of_charts(place: Place, *charts: str) -> None:
    """Say of every object of the manifest which chart it comes from."""
    for obj, chart in zip(place.manifest, charts, strict=True):
        obj["metadata"]["labels"] = {**(obj["metadata"]["labels"] or {}), "helm.sh/chart": chart}
    manifest = "---\n".join(yaml.safe_dump(obj) for obj in place.manifest)
    (place.folder / "manifest.yaml").write_text(manifest)


CHARTS = ("base-1.0.0", "istiod-1.0.0", "istio-ingress-1.0.0")
COMPONENTS = dict(zip((CONFIG, ISTIOD, INJECTOR), ("Base", "Pilot", "IngressGateways"), strict=True))


def test_a_new_installation_is_applied_as_the_installer_would(place: Place) -> None:
    place.manifest[2]["metadata"].setdefault("labels", {})
    of_charts(place, *CHARTS)
    place.install()
    assert "install" not in asked(place)
    for path, component in COMPONENTS.items():
        labels = place.api.objects[path]["metadata"]["labels"]
        assert labels.items() >= {**OWNER, "operator.istio.io/component": component}.items()
    assert place.api.objects[INJECTOR]["webhooks"][0]["namespaceSelector"] == NEVER
    patched = [request for request in place.api.requests if request.startswith("PATCH")]
    assert patched.index(f"PATCH {ISTIOD}") > patched.index(f"PATCH {INJECTOR}")
    assert set(DEFAULT_TAG) <= place.api.objects.keys()
    place.api.objects[ISTIOD]["spec"]["replicas"] = 1
    assert place.plan()["create"] == place.plan()["change"] == place.plan()["delete"] == []


def test_a_run_that_was_interrupted_goes_on(place: Place) -> None:
    place.manifest[2]["metadata"].setdefault("labels", {})
    of_charts(place, *CHARTS)
    place.install()
    del place.api.objects[ISTIOD]
    place.install()
    assert ISTIOD in place.api.objects
    assert "install" not in asked(place)


@pytest.mark.parametrize("what", ["another object", "another chart", "an older form"])
def test_the_installer_does_what_is_more_than_to_apply(place: Place, what: str) -> None:
    place.manifest[2]["metadata"].setdefault("labels", {})
    of_charts(place, "cni-1.0.0" if what == "another chart" else CHARTS[0], *CHARTS[1:])
    if what == "another object":
        metadata = {"name": "old", "namespace": "istio-system"}
        labels = {**OWNER, "operator.istio.io/component": "Pilot"}
        old = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "labels": labels}}
        place.api.put(f"{NAMESPACE}/configmaps/old", old)
    elif what == "an older form":
        place.api.put(CONFIG, {**place.manifest[0], "data": {"mesh": "a: 2\n"}})
    place.install()
    assert "install" in asked(place)


def test_failed_installation_says_what_istioctl_says(place: Place) -> None:
    (place.folder / "broken").touch()
    found = plan(place.client, place.istioctl, SETTINGS)
    with pytest.raises(ExomeshError) as caught:
        install(place.client, place.istioctl, SETTINGS, found, 5)
    assert caught.value.cause == "Error: failed to wait for resource"
    assert caught.value.code == "istioctl_failed"


def test_who_lost_the_lock_ends_its_istioctl_and_says_who_has_it(place: Place) -> None:
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/exomesh-istio-install"
    place.put_installed()
    place.api.put(CONFIG, {**place.manifest[0], "data": {"mesh": "a: 2\n"}})
    found = plan(place.client, place.istioctl, SETTINGS)
    (place.folder / "slow").touch()

    def steal() -> None:
        theirs = place.api.objects[lease]
        place.api.put(lease, {**theirs, "spec": {**theirs["spec"], "holderIdentity": "somebody else"}})

    held = ClusterLock(place.client, INSTALL_LOCK, 0, 4)
    with ends_within(15), pytest.raises(ExomeshError) as caught, held as lock:  # noqa: PT012
        threading.Timer(0.5, steal).start()
        install(lock.client, place.istioctl, SETTINGS, found, 60, lock.require)
    assert caught.value.code == "lock_lost"
    assert "somebody else has had it since" in str(caught.value)
    assert (place.folder / "operator.yaml").read_text(), "it had begun"
    assert not (place.folder / "installed").exists()
    assert place.api.objects[lease]["spec"]["holderIdentity"] == "somebody else"


def test_failed_installation_says_which_deployment_is_not_ready(place: Place) -> None:
    place.put_installed()
    place.api.objects[ISTIOD]["status"]["availableReplicas"] = 0
    place.api.put(
        "/api/v1/namespaces/istio-system/pods/istiod-1",
        {
            "metadata": {"name": "istiod-1", "namespace": "istio-system", "labels": {"app": "istiod"}},
            "status": {
                "containerStatuses": [
                    {
                        "name": "discovery",
                        "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
                    }
                ]
            },
        },
    )
    with pytest.raises(ExomeshError) as caught:
        wait_ready(place.client, [ObjectRef("apps/v1", "Deployment", "istiod", "istio-system")], 0)
    assert str(caught.value).startswith("Not ready after 0 s: istio-system/istiod.")
    assert "0 of 1 replicas are available; Pod istiod-1: container discovery waits: ErrImagePull" in str(
        caught.value
    )
    assert "reason=Failed; name an image that the nodes can pull" in str(caught.value.next_step)


def test_istioctl_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingRequirementError, match=r"is not at .*istioctl_binary"):
        Istioctl(str(tmp_path / "none"), "kubeconfig")


def test_program_of_another_kind(tmp_path: Path) -> None:
    program = tmp_path / "istioctl"
    program.write_bytes(b"\x7fELF not for this machine")
    program.chmod(0o755)
    with pytest.raises(MissingRequirementError, match="cannot be run"):
        Istioctl(str(program), "kubeconfig").version()


def module(place: Place, **options: Any) -> Object:
    known = {
        "kubeconfig": str(place.api.kubeconfig),
        "istioctl": str(place.folder / "istioctl"),
        "timeout": 10,
    }
    return run_module("istio_install", **{**known, "network": "network-vie", **options})


def test_the_module_says_what_an_installation_would_change(place: Place) -> None:
    foretold = module(place, check=True)
    assert (foretold["changed"], foretold["version"], foretold["revision"]) == (True, "1.31.1", "default")
    assert "Deployment istio-system/istiod" in foretold["objects"]["create"]
    place.put_installed()
    kept = module(place)
    assert not kept["changed"], kept["objects"]
    assert not (place.folder / "operator.yaml").exists()


def test_the_module_tells_why_it_cannot_install(place: Place) -> None:
    (place.folder / "broken").touch()
    failed = module(place)
    assert failed["failure"]["cluster"] == "vie"
    assert "failed to wait for resource" in failed["msg"]
    assert module(place, istioctl="/nonexistent/istioctl")["failed"]
    assert module(place, kubeconfig="/nonexistent/kubeconfig", check=True)["changed"]


def asked(place: Place) -> list[str]:
    """What istioctl was called for, since this was asked the last time."""
    calls = place.folder / "calls"
    words = [line.split()[0] for line in calls.read_text().splitlines()] if calls.exists() else []
    calls.unlink(missing_ok=True)
    return words


ALL_QUESTIONS = ["version", "manifest", "tag"]


def test_istioctl_is_asked_once_where_its_answers_are_kept(place: Place) -> None:
    place.put_installed()
    cache = place.folder / "state" / "vie" / "istiod.cache"
    without = module(place)
    assert asked(place) == ALL_QUESTIONS
    assert module(place, cache_file=str(cache), check=True)["objects"] == without["objects"]
    assert asked(place) == ALL_QUESTIONS
    assert not cache.exists()
    for _run in range(2):
        assert module(place, cache_file=str(cache))["objects"] == without["objects"]
    assert asked(place) == ALL_QUESTIONS
    assert cache.stat().st_mode & 0o777 == 0o600
    assert module(place, cache_file=str(cache), check=True)["objects"] == without["objects"]
    assert asked(place) == []
    # What somebody changed in the cluster is seen all the same.
    place.api.objects[CONFIG]["data"]["mesh"] = "a: 2\n"
    assert module(place, cache_file=str(cache), check=True)["objects"]["change"] == [
        "ConfigMap istio-system/istio"
    ]
    assert asked(place) == []


def test_istioctl_is_asked_again_for_what_its_answers_are_made_of(place: Place) -> None:
    place.put_installed()
    cache = place.folder / "istiod.cache"

    def questions(**options: Any) -> list[str]:
        assert "failed" not in module(place, cache_file=str(cache), **options)
        return asked(place)

    questions()
    assert questions(network="network-zrh", check=True) == ["manifest"]
    place.api.objects[INJECTOR]["webhooks"][0]["clientConfig"]["caBundle"] = "YW5vdGhlcg=="
    assert questions() == ["tag"]
    own_charts = {"installPackagePath": "/charts"}
    assert questions(spec=own_charts) == questions(spec=own_charts) == ["manifest"]
    program = place.folder / "istioctl"
    program.write_text(program.read_text() + "# another release\n")
    assert questions() == ALL_QUESTIONS
    for broken in ("", "{", "[]", '{"version": "1.31.1", "manifest": {}, "tag": {"question": "x"}}'):
        cache.write_text(broken)
        assert questions() == ALL_QUESTIONS
    assert questions() == []


def test_a_cache_that_cannot_be_written_is_none(place: Place) -> None:
    place.put_installed()
    (place.folder / "file").touch()
    for _run in range(2):
        assert "failed" not in module(place, cache_file=str(place.folder / "file" / "istiod.cache"))
        assert asked(place) == ALL_QUESTIONS


POLICY = "/apis/security.istio.io/v1/namespaces/istio-system/peerauthentications/default"


def test_plain_text_is_refused_or_allowed_as_asked(place: Place) -> None:
    place.put_installed()
    assert "PeerAuthentication istio-system/default" not in str(module(place)["objects"])
    foretold = module(place, mtls_strict=True, check=True)
    assert foretold["objects"]["create"] == ["PeerAuthentication istio-system/default"]
    assert POLICY not in place.api.objects
    done = module(place, mtls_strict=True)
    assert (done["changed"], done["objects"]) == (True, foretold["objects"])
    assert place.api.objects[POLICY]["spec"] == {"mtls": {"mode": "STRICT"}}
    assert not module(place, mtls_strict=True)["changed"]
    gone = module(place, mtls_strict=False)
    assert gone["objects"]["delete"] == ["PeerAuthentication istio-system/default"]
    assert POLICY not in place.api.objects
    assert not module(place, mtls_strict=False)["changed"]


def test_a_policy_of_somebody_else_is_left_alone(place: Place) -> None:
    place.put_installed()
    metadata = {"name": "default", "namespace": "istio-system"}
    own = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata}
    place.api.put(POLICY, {**own, "spec": {"mtls": {"mode": "DISABLE"}}})
    refused = module(place, mtls_strict=True)
    assert refused["failure"]["code"] == "foreign_object"
    assert not module(place, mtls_strict=False)["changed"]
    assert place.api.objects[POLICY]["spec"] == {"mtls": {"mode": "DISABLE"}}
