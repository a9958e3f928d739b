# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module root_rotation on small APIs: phases, gates, guards, and the way back."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import pause
from ansible_collections.exomesh.istio.plugins.module_utils._trust import rotation_proof, rotation_steps
from ansible_collections.exomesh.istio.plugins.module_utils._trust import x509 as rules
from ansible_collections.exomesh.istio.plugins.module_utils._trust.next_root import NextRoot
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import Authority, KeyKind
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from kubeconfigs import NOW, Pair, issue, run_module
from kubernetes_api import Object
from running_mesh import ISTIOD, NAMES, SYSTEM, RunningCluster, RunningMesh, text_of
from signing import sign, sign_intermediate

CACERTS = f"/api/v1/namespaces/{SYSTEM}/secrets/cacerts"
FORMER = f"/api/v1/namespaces/{SYSTEM}/secrets/cacerts-before-rotation"
RECORD = f"/api/v1/namespaces/{SYSTEM}/configmaps/exomesh"
RUNNING = f"/api/v1/namespaces/{SYSTEM}/configmaps/istio-ca-root-cert"
AGENT = {"name": "PROXY_CONFIG_XDS_AGENT", "value": "true"}


class Followed:
    """A cluster whose istiod and proxies take what is written into cacerts, but for those that lag."""

    def __init__(self, cluster: RunningCluster) -> None:
        self.cluster = cluster
        self.lagging: set[str] = set()
        self.istiod_lags = False
        self.also = ""
        self.written: list[tuple[str, list[str]]] = []
        cluster.api.after_apply = self.follow
        for name, variables in (
            ("istiod", [{"name": "ISTIO_MULTIROOT_MESH", "value": "true"}]),
            ("web-1", [AGENT]),
            ("gateway-1", [AGENT]),
        ):
            set_environment(cluster, name, variables)

    def text(self, key: str, path: str = CACERTS) -> str:
        return base64.b64decode(self.cluster.api.objects[path]["data"][key]).decode()

    @property
    def roots(self) -> list[str]:
        """The roots that are trusted, as often as they are there."""
        return [fingerprint(root) for root in rules.read_chain(self.text("root-cert.pem"), "")]

    @property
    def signer(self) -> str:
        return fingerprint(rules.read_chain(self.text("cert-chain.pem"), "")[-1])

    def follow(self, path: str) -> None:
        if path != CACERTS:
            return
        self.written.append((self.signer, self.roots))
        chain = rules.read_chain(self.text("cert-chain.pem"), "")
        key = rules.read_key(self.text("ca-key.pem"), None, "")
        trusted = self.text("root-cert.pem")
        self.cluster.api.objects[RUNNING]["data"]["root-cert.pem"] = trusted
        leaf = issue("web", not_after=NOW + timedelta(days=1), issuer=Pair(chain[0], key))
        pem = self.cluster.folder / f"{self.cluster.name}-reloaded.pem"
        pem.write_bytes(leaf.pem + leaf.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        if not self.istiod_lags:
            self.cluster.api.listen(ISTIOD, 15012, {}, context)
            self.cluster.api.listen("istiod-2", 15012, {}, context)
        # istiod appends all roots to the chain of a proxy.
        held = {"inline_bytes": text_of(leaf.pem + (rules.chain_pem(chain[:-1]) + trusted).encode())}
        own = {"name": "default", "secret": {"tls_certificate": {"certificate_chain": held}}}
        # Envoy has each root once.
        once = rules.chain_pem(list(dict.fromkeys(rules.read_chain(trusted + self.also, ""))))
        validation = {"validation_context": {"trusted_ca": {"inline_bytes": text_of(once)}}}
        pages = {
            **self.cluster.proxy_pages(),
            "/config_dump?resource=dynamic_active_secrets": {
                "configs": [own, {"name": "ROOTCA", "secret": validation}]
            },
        }
        for pod in {"gateway-1", "web-1"} - self.lagging:
            self.cluster.api.listen(pod, 15000, pages)


def set_environment(cluster: RunningCluster, name: str, variables: list[Object]) -> None:
    """Give variables to a proxy, or to istiod."""
    if name == "istiod":
        deployment = cluster.api.objects[f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/istiod"]
        deployment["spec"]["template"]["spec"]["containers"][0]["env"] = variables
        return
    namespace = "shop" if name == "web-1" else SYSTEM
    pod = cluster.api.objects[f"/api/v1/namespaces/{namespace}/pods/{name}"]
    container = pod["spec"]["initContainers"][0]
    container["env"] = [item for item in container["env"] if item["name"] != AGENT["name"]] + variables


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":")


def record(rotated: Rotated, cluster: str, members: Sequence[str]) -> None:
    """Write the record of a cluster."""
    content = {
        "mesh": "mesh1",
        "cluster": cluster,
        "network": f"network-{cluster}",
        "members": json.dumps([{"name": name, "network": f"network-{name}"} for name in members]),
    }
    rotated.mesh[cluster].put("ConfigMap", "exomesh", data=content)


class Rotated:
    """A mesh whose root can be rotated, to a root that the user gives."""

    def __init__(self, folder: Path) -> None:
        self.mesh = RunningMesh(folder)
        self.clusters = {name: Followed(self.mesh[name]) for name in NAMES}
        key = rules.new_key(KeyKind("ecdsa-p256"))
        self.new = Authority((rules.new_root(key, "Istio", timedelta(days=3650), NOW),), key)
        self.old = fingerprint(self.mesh["vie"].root.certificate)
        for name in NAMES:
            record(self, name, NAMES)

    def step(self, step: str, check: bool = False, **options: Any) -> Object:
        given = {"certificate": rules.chain_pem(self.new.chain), "timeout": 20, **options}
        return self.mesh.run("root_rotation", step=step, check=check, **given)

    def sign(self, name: str) -> Object:
        """Give a cluster its intermediate CA of the new root, as the role does it."""
        given: dict[str, Any] = {
            "kubeconfig": str(self.mesh[name].api.kubeconfig),
            "name": name,
            "issuer": rules.chain_pem(self.new.chain),
            "old_root": rules.chain_pem(self.mesh[name].root.chain),
            "key_type": "ecdsa-p256",
        }
        asked = run_module("intermediate_ca", **given)
        if not asked.get("request"):
            return asked
        request = x509.load_pem_x509_csr(asked["request"].encode())
        chain = sign(self.new, request, datetime.now(UTC) + timedelta(days=365), datetime.now(UTC))
        return run_module("intermediate_ca", **given, signed=rules.chain_pem(chain[:1]))

    def until(self, phase: int) -> None:
        """Bring every cluster into a phase."""
        if phase >= 1:
            assert self.step("trust")["changed"]
        if phase >= 2:
            for name in NAMES:
                assert "failure" not in self.sign(name)
                assert "failure" not in self.step("prove", only=[name])

    @property
    def roots(self) -> list[list[str]]:
        return [self.clusters[name].roots for name in NAMES]

    def ended(self) -> bool:
        """Whether nothing of a rotation is left in the clusters."""
        apis = [self.mesh[name].api for name in NAMES]
        return not any(
            FORMER in api.objects or api.objects[CACERTS]["metadata"].get("annotations") for api in apis
        )


@pytest.fixture
def rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rotated]:
    monkeypatch.setattr(rotation_proof, "_DELIVERED_WITHIN", timedelta())
    monkeypatch.setattr(rotation_proof, "_INTERVAL", 0.2)
    rotated = Rotated(tmp_path)
    yield rotated
    rotated.mesh.close()


def failure(result: Object) -> str:
    return str(result["failure"]["code"])


def test_a_rotation_from_end_to_end(rotated: Rotated) -> None:
    old, new = rotated.old, fingerprint(rotated.new.certificate)
    plan = rotated.step("plan")
    assert (plan["changed"], plan["done"], plan["phase"], plan["proxies"]) == (False, False, 0, 4)
    assert rotated.step("trust", check=True)["changed"]
    assert rotated.roots == [[old]] * 2

    assert rotated.step("trust")["phase"] == 1
    assert rotated.roots == [[old, new]] * 2
    assert [cluster.signer for cluster in rotated.clusters.values()] == [old] * 2

    assert rotated.sign("vie")["changed"]
    assert rotated.step("prove", only=["vie"])["clusters"] == {"vie": 2, "fra": 1}
    assert rotated.roots == [[old, new, new], [old, new]]
    assert rotated.clusters["vie"].signer == new
    assert rotated.sign("fra")["changed"]

    finished = rotated.step("finish")
    assert (finished["done"], finished["phase"]) == (True, 3)
    assert rotated.roots == [[new]] * 2
    assert rotated.ended()
    again = rotated.step("plan")
    assert (again["done"], again["changed"]) == (True, False)


@pytest.mark.parametrize("phase", [1, 2])
def test_return_from_a_phase(rotated: Rotated, phase: int) -> None:
    before = [rotated.clusters[name].text("ca-cert.pem") for name in NAMES]
    rotated.until(phase)
    assert rotated.step("plan", back=True)["phase"] == phase
    result = rotated.step("back")
    assert (result["done"], result["changed"]) == (True, True)
    assert rotated.roots == [[rotated.old]] * 2
    assert [rotated.clusters[name].text("ca-cert.pem") for name in NAMES] == before
    assert rotated.ended()
    assert rotated.step("back")["changed"] is False


def test_no_proxy_is_told_of_a_new_signer_before_every_istiod_has_it(rotated: Rotated) -> None:
    """A proxy that asked an istiod with the former one would not ask again."""
    old, new = rotated.old, fingerprint(rotated.new.certificate)
    rotated.until(1)
    vie = rotated.clusters["vie"]
    vie.istiod_lags = True
    assert rotated.sign("vie")["changed"]
    result = rotated.step("prove", only=["vie"], timeout=4)
    assert failure(result) == "rotation_lagging"
    assert "older CA" in result["msg"]
    assert (vie.signer, vie.roots) == (new, [old, new])
    vie.istiod_lags = False
    vie.follow(CACERTS)
    assert rotated.step("prove", only=["vie"])["changed"]
    assert (vie.signer, vie.roots) == (new, [old, new, new])
    # The way back.
    vie.istiod_lags = True
    assert failure(rotated.step("back", timeout=4)) == "rotation_lagging"
    assert (vie.signer, vie.roots) == (old, [old, new, new])
    vie.istiod_lags = False
    vie.follow(CACERTS)
    # The way on again, from there.
    assert rotated.step("trust")["changed"]
    assert vie.roots == [old, new]


def test_a_late_istiod_keeps_a_phase_from_being_proved(rotated: Rotated) -> None:
    rotated.until(2)
    vie = rotated.clusters["vie"]
    vie.istiod_lags = True
    rotated.mesh["vie"].serve()  # the istiod has the first CA of all
    vie.follow(CACERTS)
    result = rotated.step("finish", timeout=4)
    assert failure(result) == "rotation_lagging"
    assert "vie: istiod-1 serves a certificate of an older CA" in result["msg"]
    assert vie.roots == [rotated.old, *[fingerprint(rotated.new.certificate)] * 2]


def test_an_istiod_that_is_not_ready_is_no_proof(rotated: Rotated) -> None:
    pod = rotated.mesh["vie"].put("Pod", "istiod-2", {"app": "istiod"}, spec={"containers": []})
    pod["spec"].pop("initContainers")
    pod["status"]["conditions"][0]["status"] = "False"
    result = rotated.step("trust", timeout=4)
    assert failure(result) == "rotation_lagging"
    assert "vie: istiod-2: its phase is" in result["msg"]


@pytest.mark.parametrize("way", ["finish", "back"])
def test_with_several_istiods_a_root_that_stays_alone_is_told_twice(rotated: Rotated, way: str) -> None:
    """The second time, every istiod has dropped the other one, whichever a proxy asks."""
    for cluster in rotated.clusters.values():
        pod = cluster.cluster.put("Pod", "istiod-2", {"app": "istiod"}, spec={"containers": []})
        pod["spec"].pop("initContainers")
        cluster.follow(CACERTS)
    rotated.until(2 if way == "finish" else 1)
    assert rotated.step(way)["done"]
    stays = rotated.old if way == "back" else fingerprint(rotated.new.certificate)
    for cluster in rotated.clusters.values():
        assert [roots for _signer, roots in cluster.written[-3:]] == [[stays], [stays] * 2, [stays]]


def test_the_way_on_waits_for_the_kubelets_and_the_way_back_does_not(
    rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation_proof, "_DELIVERED_WITHIN", timedelta(seconds=100))
    result = rotated.step("trust", timeout=4)
    assert failure(result) == "rotation_lagging"
    assert "left to deliver istio-ca-root-cert" in result["msg"]
    assert rotated.step("back")["done"]


def test_a_proxy_that_stopped_the_rotation_does_not_stop_the_return(rotated: Rotated) -> None:
    rotated.clusters["fra"].lagging = {"web-1"}
    assert failure(rotated.step("trust", timeout=4)) == "rotation_lagging"
    assert rotated.step("back")["done"]
    assert rotated.ended()


def test_a_root_that_the_rotation_is_not_about_does_not_stop_it(rotated: Rotated) -> None:
    """As one of meshConfig.caCertificates."""
    other = rules.new_root(rules.new_key(KeyKind("ecdsa-p256")), "Other", timedelta(days=99), NOW)
    for cluster in rotated.clusters.values():
        cluster.also = rules.chain_pem([other])
        cluster.follow(CACERTS)
    rotated.until(2)
    assert rotated.step("finish")["done"]


def unfit(former: Object, root: Authority) -> None:
    """The key of another CA."""
    former["data"]["ca-key.pem"] = text_of(rules.key_pem(rules.new_key(KeyKind("ecdsa-p256"))))


def expired(former: Object, root: Authority) -> None:
    key = rules.new_key(KeyKind("ecdsa-p256"))
    year = timedelta(days=365)
    profile = rules.Profile("fra", "Istio", KeyKind("ecdsa-p256"), year, timedelta(days=30))
    chain = sign_intermediate(root, key, profile, NOW - year - timedelta(days=1))
    texts = {"ca-cert.pem": rules.chain_pem(chain[:1]), "cert-chain.pem": rules.chain_pem(chain)}
    texts["ca-key.pem"] = rules.key_pem(key)
    former["data"] |= {name: text_of(text) for name, text in texts.items()}


@pytest.mark.parametrize("spoil", [unfit, expired])
def test_a_former_ca_that_cannot_sign_is_found_before_a_cluster_returns(rotated: Rotated, spoil: Any) -> None:
    rotated.until(2)
    spoil(rotated.mesh["fra"].api.objects[FORMER], rotated.mesh["fra"].root)
    before = rotated.roots
    for step, options in (("plan", {"back": True}), ("back", {})):
        result = rotated.step(step, **options)
        assert failure(result) == "former_ca_unfit"
        assert "fra" in result["msg"]
    assert rotated.roots == before
    assert rotated.step("finish")["done"]


def test_a_secret_that_changes_after_the_proof_stops_the_last_phase(
    rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated.until(2)
    prove = rotation_steps.prove

    def proved(*arguments: Any, **options: Any) -> Any:
        api = rotated.mesh["fra"].api
        api.put(CACERTS, api.objects[CACERTS])
        return prove(*arguments, **options)

    monkeypatch.setattr(rotation_steps, "prove", proved)
    before = rotated.roots
    assert failure(rotated.step("finish")) == "rotation_gate"
    assert rotated.roots == before


@pytest.mark.parametrize("lagging", [True, False])
def test_proxies_are_asked_before_anything_is_written(
    rotated: Rotated, tmp_path: Path, lagging: bool
) -> None:
    if lagging:
        rotated.mesh["fra"].root = rotated.new
        rotated.mesh["fra"].api.listen("web-1", 15000, rotated.mesh["fra"].proxy_pages())
    else:
        rotated.mesh["fra"].api.listen("web-1", 15000, {})
    state = tmp_path / "state"
    state.mkdir()
    result = local(rotated, state, "plan", old_root=rotated.old[:11], timeout=4)
    assert failure(result) == "rotation_not_ready"
    assert f"fra: shop/web-1 {'trusts' if lagging else 'could not be asked'}" in result["msg"]
    assert not (state / "ca" / "next").exists()


def test_a_return_that_was_ended_early_may_go_on_forward_again(rotated: Rotated) -> None:
    rotated.until(1)
    proxies = {"web-1", "gateway-1"}
    rotated.clusters["fra"].lagging = proxies
    assert failure(rotated.step("back", timeout=4)) == "rotation_lagging"
    assert rotated.roots == [[rotated.old]] * 2
    assert rotated.step("plan")["phase"] == 0
    rotated.clusters["fra"].lagging = set()
    assert rotated.step("trust")["phase"] == 1


def test_a_proxy_that_runs_before_its_pod_does_is_asked(rotated: Rotated) -> None:
    fra = rotated.mesh["fra"]
    pod = fra.put("Pod", "starting", {}, "shop", spec={"containers": [{"name": "app"}]})
    running = [{"name": "istio-proxy", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]
    pod["status"] |= {"phase": "Pending", "initContainerStatuses": running}
    result = rotated.step("trust", timeout=4)
    assert "fra: shop/starting could not be asked" in result["msg"]
    pod["status"]["initContainerStatuses"] = []
    assert rotated.step("trust")["phase"] == 1


def test_a_pod_that_is_being_deleted_is_asked_and_may_be_silent(rotated: Rotated) -> None:
    fra = rotated.mesh["fra"]
    metadata = fra.api.objects["/api/v1/namespaces/shop/pods/web-1"]["metadata"]
    metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    rotated.clusters["fra"].lagging = {"web-1"}
    assert "fra: shop/web-1 trusts" in rotated.step("trust", timeout=4)["msg"]
    fra.api.listen("web-1", 15000, {})
    assert rotated.step("trust")["phase"] == 1


def test_a_pod_that_comes_again_while_it_is_asked_is_asked_again(
    rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    fra = rotated.mesh["fra"]
    path = "/api/v1/namespaces/shop/pods/web-1"
    asked: list[str] = []
    look = rotation_proof._look

    def replaced(client: Any, pod: Object) -> Any:
        name = pod["metadata"]["name"]
        if client.name == "fra" and name == "web-1" and not asked:
            asked.append(pod["metadata"]["uid"])
            fra.api.objects[path]["metadata"]["uid"] = "another"
            raise ExomeshError("It has gone", "gone")
        if client.name == "fra" and name == "web-1":
            asked.append(pod["metadata"]["uid"])
        return look(client, pod)

    assert rotated.step("trust")["phase"] == 1
    monkeypatch.setattr(rotation_proof, "_look", replaced)
    assert rotated.step("trust")["phase"] == 1
    assert asked[1:] == ["another"]


def test_no_return_from_the_last_phase(rotated: Rotated) -> None:
    rotated.until(2)
    rotated.clusters["fra"].lagging = {"web-1"}
    assert failure(rotated.step("finish", timeout=4)) == "rotation_lagging"
    assert rotated.roots == [[fingerprint(rotated.new.certificate)]] * 2
    assert failure(rotated.step("back")) == "rotation_too_far"
    rotated.clusters["fra"].lagging = set()
    rotated.clusters["fra"].follow(CACERTS)
    assert rotated.step("finish")["done"]


def test_a_proxy_that_lags_stops_the_rotation_and_is_named(rotated: Rotated) -> None:
    rotated.clusters["fra"].lagging = {"web-1"}
    result = rotated.step("trust", timeout=4)
    assert failure(result) == "rotation_lagging"
    assert "fra: shop/web-1 trusts" in result["msg"]
    assert "vie:" not in result["msg"]
    # It cannot be passed over.
    assert failure(rotated.step("finish")) == "rotation_gate"
    report = rotated.mesh.run("mesh_certificates_info")
    assert any("fra: shop/web-1 trusts" in problem for problem in report["problems"])
    assert "The root is being rotated" in "\n".join(report["report"])


def test_a_question_that_the_time_limit_cuts_off_says_nothing_of_a_proxy(
    rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated.clusters["fra"].lagging = {"web-1"}
    look, asked = rotation_proof._look, []

    def slow(client: Any, pod: Object) -> Any:
        asked.append(pod)
        if len(asked) > 4:
            pause(60)
        return look(client, pod)

    monkeypatch.setattr(rotation_proof, "_look", slow)
    result = rotated.step("trust", timeout=4)
    assert "fra: shop/web-1 trusts" in result["msg"]
    assert "could not be asked" not in result["msg"]


def test_a_proxy_that_does_not_answer_is_no_proof(rotated: Rotated) -> None:
    rotated.mesh["fra"].put("Pod", "deaf", {}, "shop", spec={"containers": [{"name": "app"}]})
    result = rotated.step("trust", timeout=4)
    assert failure(result) == "rotation_lagging"
    assert "fra: shop/deaf could not be asked" in result["msg"]


def test_an_intermediate_ca_of_the_new_root_needs_trust_in_both(rotated: Rotated) -> None:
    assert failure(rotated.sign("vie")) == "rotation_gate"
    assert rotated.roots == [[rotated.old]] * 2


def without_switch(rotated: Rotated) -> None:
    set_environment(rotated.mesh["vie"], "istiod", [])


def with_old_proxy(rotated: Rotated) -> None:
    set_environment(rotated.mesh["vie"], "web-1", [])


def with_old_istio(rotated: Rotated) -> None:
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/istiod"
    container = rotated.mesh["vie"].api.objects[path]["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "docker.io/istio/pilot:1.29.3"


def with_unready_istiod(rotated: Rotated) -> None:
    pod = rotated.mesh["vie"].api.objects[f"/api/v1/namespaces/{SYSTEM}/pods/{ISTIOD}"]
    pod["status"]["conditions"][0]["status"] = "False"


def with_ambient(rotated: Rotated) -> None:
    rotated.mesh["vie"].put("Pod", "ztunnel-1", {"app": "ztunnel"}, spec={"containers": []})


def without_istiod(rotated: Rotated) -> None:
    del rotated.mesh["vie"].api.objects[f"/api/v1/namespaces/{SYSTEM}/pods/{ISTIOD}"]


def without_version(rotated: Rotated) -> None:
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/istiod"
    container = rotated.mesh["vie"].api.objects[path]["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "docker.io/istio/pilot@sha256:" + "0" * 64


def without_record(rotated: Rotated) -> None:
    del rotated.mesh["vie"].api.objects[RECORD]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (without_istiod, "istiod is not ready: it has no pod"),
        (without_version, "does not tell its version"),
        (without_record, "no record of the members"),
        (without_switch, "istiod lacks ISTIO_MULTIROOT_MESH=true"),
        (with_old_proxy, "1 of 2 proxies lack PROXY_CONFIG_XDS_AGENT=true"),
        (with_old_istio, "is Istio 1.29.3"),
        (with_unready_istiod, "istiod is not ready"),
        (with_ambient, "ambient"),
    ],
)
def test_what_would_drop_requests_is_refused(rotated: Rotated, spoil: Any, expected: str) -> None:
    spoil(rotated)
    result = rotated.step("plan")
    assert failure(result) == "rotation_not_ready"
    assert expected in result["msg"]
    assert "vie" in result["msg"]
    assert rotated.roots == [[rotated.old]] * 2


def test_a_member_that_is_not_in_the_inventory_is_not_cut_off(rotated: Rotated) -> None:
    record(rotated, "vie", (*NAMES, "gva"))
    result = rotated.step("plan")
    assert failure(result) == "rotation_not_ready"
    assert "gva" in result["msg"]


def test_a_cluster_that_is_away_stops_a_phase_before_it(rotated: Rotated) -> None:
    rotated.mesh["fra"].api.failures[("GET", CACERTS)] = [(503, {}) for _number in range(40)]
    assert "fra" in rotated.step("trust", timeout=5)["msg"]
    assert rotated.roots == [[rotated.old]] * 2


def test_clusters_with_different_roots_are_refused(rotated: Rotated) -> None:
    rotated.mesh["fra"].root = rotated.new
    rotated.mesh["fra"].new_intermediate()
    assert failure(rotated.step("plan")) == "roots_differ"


def test_other_runs_leave_a_rotation_alone(rotated: Rotated, tmp_path: Path) -> None:
    rotated.until(1)
    before = [rotated.clusters[name].text("cert-chain.pem") for name in NAMES]
    state = tmp_path / "state"
    for certificate in (rotated.mesh["vie"].root.chain, rotated.new.chain):
        given = rules.chain_pem(certificate)
        assert failure(rotated.mesh.run("root_ca", certificate=given)) == "rotation_under_way"
        result = run_module(
            "intermediate_ca",
            kubeconfig=str(rotated.mesh["vie"].api.kubeconfig),
            name="vie",
            issuer=given,
            renew=True,
        )
        assert failure(result) == "rotation_under_way"
        assert "rotate_root" in result["msg"]
    (state / "ca").mkdir(parents=True)
    (state / "ca" / "root-cert.pem").write_text(rules.chain_pem(rotated.mesh["vie"].root.chain))
    assert failure(rotated.mesh.run("root_ca", state_dir=str(state))) == "rotation_under_way"
    assert [rotated.clusters[name].text("cert-chain.pem") for name in NAMES] == before


def test_status_tells_the_phase_and_who_lags(rotated: Rotated) -> None:
    rotated.until(1)
    result = rotated.mesh.run("mesh_verify", read_only=True)
    found = [finding for finding in result["findings"] if finding["code"] == "root-rotation"]
    assert [finding["cluster"] for finding in found] == ["vie", "fra"]
    assert found[0]["evidence"] == [
        "vie is in phase 1 of 3: it trusts both roots, and signs with the old one."
    ]
    assert {finding["code"] for finding in result["findings"]} == {"root-rotation"}

    rotated.clusters["vie"].lagging = {"web-1"}
    assert rotated.sign("vie")["changed"]
    result = rotated.mesh.run("mesh_verify", read_only=True)
    evidence = next(item["evidence"] for item in result["findings"] if item["code"] == "root-rotation")
    assert any(line.startswith("shop/web-1 has no certificate of") for line in evidence)


# The new root in the mesh's state


def local(rotated: Rotated, state: Path, step: str, check: bool = False, **options: Any) -> Object:
    given = {"state_dir": str(state), "key_type": "ecdsa-p256", "timeout": 20, **options}
    return rotated.mesh.run("root_rotation", step=step, check=check, **given)


@pytest.fixture
def state(rotated: Rotated, tmp_path: Path) -> Path:
    """The state folder of a mesh whose root key is lost."""
    folder = tmp_path / "state"
    (folder / "ca").mkdir(parents=True)
    (folder / "ca" / "root-cert.pem").write_text(rules.chain_pem(rotated.mesh["vie"].root.chain))
    return folder


def test_a_new_root_is_made_only_for_the_root_that_is_named(rotated: Rotated, state: Path) -> None:
    assert failure(local(rotated, state, "plan")) == "old_root_unnamed"
    assert failure(local(rotated, state, "plan", old_root="00:11:22:33")) == "old_root_unknown"
    assert local(rotated, state, "plan", check=True, old_root=rotated.old[:11])["changed"]
    assert not (state / "ca" / "next").exists()
    made = local(rotated, state, "plan", old_root=rotated.old[:11])
    assert made["changed"]
    again = local(rotated, state, "plan", old_root=rotated.old[:11])
    assert (again["changed"], again["certificate"]) == (False, made["certificate"])


def test_a_name_of_a_root_is_compared_in_one_form_and_long_enough(rotated: Rotated, state: Path) -> None:
    for short in ("4", "4f:53", rotated.old[:10], "no-root!"):
        result = local(rotated, state, "plan", check=True, old_root=short)
        assert failure(result) == "old_root_unclear"
        assert f"rotate_old_root={rotated.old[:11]}" in result["msg"]
    for name in (rotated.old[:11], rotated.old.replace(":", "").upper(), rotated.old.replace(":", "")[:8]):
        assert local(rotated, state, "plan", check=True, old_root=name)["changed"]


def given(root: Authority) -> Object:
    return {"certificate": rules.chain_pem(root.chain), "key_content": rules.key_pem(root.key)}


def test_a_given_key_without_a_passphrase_is_warned_of(rotated: Rotated, state: Path) -> None:
    result = local(rotated, state, "plan", **given(rotated.new))
    assert "has no passphrase" in str(result.get("warnings"))


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_a_state_folder_that_was_lost_takes_the_given_root_of_the_rotation(
    rotated: Rotated, state: Path, phase: int
) -> None:
    rotated.until(min(phase, 2))
    if phase == 3:
        rotated.clusters["fra"].lagging = {"web-1"}
        assert failure(rotated.step("finish", timeout=4)) == "rotation_lagging"
        rotated.clusters["fra"].lagging = set()
        rotated.clusters["fra"].follow(CACERTS)
    assert failure(local(rotated, state, "plan")) == "new_root_differs"
    key = rules.new_key(KeyKind("ecdsa-p256"))
    other = Authority((rules.new_root(key, "Istio", timedelta(days=3650), NOW),), key)
    assert failure(local(rotated, state, "plan", **given(other))) == "new_root_differs"
    assert not (state / "ca" / "next").exists()
    assert local(rotated, state, "plan", **given(rotated.new))["changed"]
    if phase > 1:
        assert local(rotated, state, "finish")["done"]
        assert (state / "ca" / "root-cert.pem").read_text() == rules.chain_pem(rotated.new.chain)


def test_the_key_of_the_old_root_does_not_stay_beside_the_new_certificate(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    key = rules.new_key(KeyKind("ecdsa-p256"))
    roots = [rules.chain_pem([rules.new_root(key, name, timedelta(days=99), NOW)]) for name in ("A", "B")]
    (ca / "next").mkdir(parents=True)
    (ca / "root-key.pem").write_text("the old key")
    (ca / "root-cert.pem").write_text(roots[0])
    (ca / "next" / "root-cert.pem").write_text(roots[1])
    NextRoot(tmp_path, None).adopt()
    assert (ca / "root-cert.pem").read_text() == roots[1]
    assert not (ca / "root-key.pem").exists()
    (kept,) = ca.glob("former-*")
    assert (kept / "root-key.pem").read_text() == "the old key"


def test_a_copy_of_a_key_is_never_overwritten(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    key = rules.new_key(KeyKind("ecdsa-p256"))
    root = rules.new_root(key, "A", timedelta(days=99), NOW)
    kept = ca / f"unused-{fingerprint(root).replace(':', '')[:16]}"
    for folder, text in ((kept, "kept"), (ca / "next", "other")):
        folder.mkdir(parents=True)
        (folder / "root-key.pem").write_text(text)
    (ca / "next" / "root-cert.pem").write_text(rules.chain_pem([root]))
    NextRoot(tmp_path, None).abandon()
    assert (kept / "root-key.pem").read_text() == "kept"


def test_the_new_root_takes_its_place_without_the_old_key(rotated: Rotated, state: Path) -> None:
    plan = local(rotated, state, "plan", old_root=rotated.old[:11])
    key = rules.read_key((state / "ca" / "next" / "root-key.pem").read_text(), None, "")
    rotated.new = Authority(rules.read_chain(plan["certificate"], ""), key)
    rotated.until(2)
    assert local(rotated, state, "finish")["done"]
    assert (state / "ca" / "root-cert.pem").read_text() == plan["certificate"]
    assert rules.read_key((state / "ca" / "root-key.pem").read_text(), None, "") is not None
    assert not (state / "ca" / "next").exists()
    former = state / "ca" / f"former-{rotated.old.replace(':', '')[:16]}"
    assert [path.name for path in former.iterdir()] == ["root-cert.pem"]
    result = rotated.mesh.run("root_ca", state_dir=str(state))
    assert result["changed"] is False
    assert local(rotated, state, "plan", old_root=rotated.old[:11])["done"]
    assert failure(local(rotated, state, "plan")) == "old_root_unnamed"


def test_a_run_that_was_ended_while_it_moved_the_root_continues(rotated: Rotated, state: Path) -> None:
    plan = local(rotated, state, "plan", old_root=rotated.old[:11])
    key = rules.read_key((state / "ca" / "next" / "root-key.pem").read_text(), None, "")
    rotated.new = Authority(rules.read_chain(plan["certificate"], ""), key)
    rotated.until(2)
    # The key was moved, and its certificate was not.
    kept = state / "ca" / f"former-{rotated.old.replace(':', '')[:16]}"
    kept.mkdir()
    (kept / "root-cert.pem").write_text((state / "ca" / "root-cert.pem").read_text())
    (state / "ca" / "next" / "root-key.pem").rename(state / "ca" / "root-key.pem")
    assert local(rotated, state, "plan")["phase"] == 2
    assert local(rotated, state, "finish")["done"]
    assert [path.name for path in kept.iterdir()] == ["root-cert.pem"]
    # All was moved, but the clusters did not learn that it has ended.
    for name in NAMES:
        rotation = json.dumps({"old": rotated.old, "new": fingerprint(rotated.new.certificate)})
        metadata = rotated.mesh[name].api.objects[CACERTS]["metadata"]
        metadata["annotations"] = {"exomesh.istio/root-rotation": rotation}
        rotated.mesh[name].api._applied[CACERTS] = {"exomesh.istio/root-rotation"}
    assert local(rotated, state, "plan")["phase"] == 3
    assert not rotated.ended()
    assert local(rotated, state, "finish")["done"]
    assert rotated.ended()


def test_after_a_return_the_new_root_is_set_aside(rotated: Rotated, state: Path) -> None:
    plan = local(rotated, state, "plan", old_root=rotated.old[:11])
    key = rules.read_key((state / "ca" / "next" / "root-key.pem").read_text(), None, "")
    rotated.new = Authority(rules.read_chain(plan["certificate"], ""), key)
    rotated.until(1)
    assert local(rotated, state, "back")["done"]
    assert not (state / "ca" / "next").exists()
    (kept,) = (state / "ca").glob("unused-*")
    assert sorted(path.name for path in kept.iterdir()) == ["root-cert.pem", "root-key.pem"]
    assert (state / "ca" / "root-cert.pem").read_text() == rules.chain_pem(rotated.mesh["vie"].root.chain)


def test_another_new_root_is_refused_in_the_middle(rotated: Rotated) -> None:
    rotated.until(1)
    key = rules.new_key(KeyKind("ecdsa-p256"))
    other = rules.new_root(key, "Istio", timedelta(days=3650), NOW)
    assert failure(rotated.step("plan", certificate=rules.chain_pem([other]))) == "new_root_differs"


def test_a_new_root_that_signs_no_ca_is_refused(rotated: Rotated) -> None:
    key = rules.new_key(KeyKind("ecdsa-p256"))
    other = rules.new_root(key, "Istio", timedelta(days=1), NOW - timedelta(days=9))
    assert failure(rotated.step("plan", certificate=rules.chain_pem([other]))) == "root_unfit"
    assert rotated.roots == [[rotated.old]] * 2
