"""mesh_verify on three real clusters: thirty faults and more, each found by its own code at its own place.

The test workload stays while faults come and go, so that a fault takes seconds: it is put in, the mesh is
looked at until exactly the expected findings are there, and what was changed is put back.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import os
import re
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import wait_until_met
from ansible_collections.exomesh.istio.plugins.module_utils._istio.names import SEND_UNREADY_BY_DEFAULT
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ApiError, ObjectRef
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._peering.remote_secrets import reader_account
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import chain_pem, key_pem
from ansible_collections.exomesh.istio.plugins.module_utils._verify.verification import Verification
from ansible_collections.exomesh.istio.plugins.module_utils._verify.workload import Workload
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .runs import (
    ISTIO_TOOLS,
    PROJECT,
    RunningLab,
    call,
    end_playbook,
    run_playbook,
    tool_of_istio,
    wait_for,
)
from .shapes import namespaces, shapes

NAMES = ("cluster1", "cluster2", "cluster3")
SYSTEM = "istio-system"
WORKLOAD = Workload(
    "exo.container-registry.com/exoscale-images/exo-webtest:v2", "docker.io/curlimages/curl:8.16.0"
)
Object = dict[str, Any]
Found = list[tuple[str, str]]


class Mesh:
    """The mesh under test, and the ways to harm it. What is changed is put back when a context ends."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.clients = {name: KubernetesClient(str(self.kubeconfig(name)), name=name) for name in NAMES}
        self.members = [
            Member(name, f"network-{name}", str(self.kubeconfig(name)), None, self._peers(name))
            for name in NAMES
        ]

    @staticmethod
    def _peers(name: str) -> tuple[str, ...]:
        return tuple(other for other in NAMES if other != name)

    def kubeconfig(self, name: str) -> Path:
        return self.lab.path / "mesh" / name / "kubeconfig"

    def gateway_address(self, name: str) -> str:
        service = self.clients[name].get(GATEWAY_SERVICE)
        assert service
        return str(service["status"]["loadBalancer"]["ingress"][0]["ip"])

    def api_address(self, name: str) -> str:
        return self.clients[name].server.removeprefix("https://").rpartition(":")[0]

    @contextmanager
    def changed(self, cluster: str, ref: ObjectRef, change: Callable[[Object], Any]) -> Iterator[None]:
        before = self._write(cluster, ref, change)

        def put_back(live: Object) -> None:
            version = live["metadata"]["resourceVersion"]
            live.clear()
            live.update(copy.deepcopy(before))
            live["metadata"]["resourceVersion"] = version

        try:
            yield
        finally:
            self._write(cluster, ref, put_back)

    def _write(self, cluster: str, ref: ObjectRef, change: Callable[[Object], Any]) -> Object:
        """Change an object in place; again where a controller was quicker. Gives what it was."""
        client = self.clients[cluster]
        while True:
            before = client.get(ref)
            assert before, ref
            after = copy.deepcopy(before)
            change(after)
            try:
                client.replace(after)
            except ApiError as error:
                if error.reason != "Conflict":
                    raise
            else:
                return before

    @contextmanager
    def deleted(self, cluster: str, ref: ObjectRef) -> Iterator[None]:
        client = self.clients[cluster]
        before = client.get(ref)
        assert before, ref
        client.delete(ref)
        try:
            yield
        finally:
            for field in ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"):
                before["metadata"].pop(field, None)
            client.create(before)

    @contextmanager
    def created(self, cluster: str, *objects: Object) -> Iterator[None]:
        client = self.clients[cluster]
        for obj in objects:
            client.apply(obj, "test")
        try:
            yield
        finally:
            for obj in reversed(objects):
                client.delete(ObjectRef.of(obj))

    @contextmanager
    def rule(self, cluster: str, *words: str, table: str = "filter") -> Iterator[None]:
        """A rule of the packet filter on a cluster's node."""
        self.on_node(cluster, "iptables", "-w", "-t", table, "-I", *words)
        try:
            yield
        finally:
            self.on_node(cluster, "iptables", "-w", "-t", table, "-D", *words)

    def on_node(self, cluster: str, *words: str) -> None:
        namespace = Path("/run/netns") / f"exolab-{self.lab.name}-{cluster}"
        result = call("nsenter", f"--net={namespace}", *words)
        assert result.returncode == 0, result.stderr

    def running(self, cluster: str, namespace: str, pod: str) -> None:
        """Wait until a pod runs."""

        def unmet() -> str | None:
            phase = (self.clients[cluster].get(ObjectRef("v1", "Pod", pod, namespace)) or {}).get(
                "status", {}
            )
            return None if phase.get("phase") == "Running" else str(phase)

        assert wait_until_met(unmet, 60, 0.3) is None


def secret(name: str) -> ObjectRef:
    return ObjectRef("v1", "Secret", name, SYSTEM)


def remote(cluster: str) -> ObjectRef:
    return secret(f"istio-remote-secret-{cluster}")


def reader_binding(cluster: str) -> ObjectRef:
    return ObjectRef("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", reader_account(cluster))


GATEWAY_SERVICE = ObjectRef("v1", "Service", "istio-eastwestgateway", SYSTEM)
GATEWAY_DEPLOYMENT = ObjectRef("apps/v1", "Deployment", "istio-eastwestgateway", SYSTEM)
ISTIOD = ObjectRef("apps/v1", "Deployment", "istiod", SYSTEM)
EXPOSE = ObjectRef("networking.istio.io/v1", "Gateway", "cross-network-gateway", SYSTEM)
NAMESPACE = ObjectRef("v1", "Namespace", SYSTEM)
MESH_CONFIG = ObjectRef("v1", "ConfigMap", "istio", SYSTEM)
CACERTS = secret("cacerts")
READER = "istio-reader-service-account"

Harm = Callable[[Mesh], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and what must be found.

    :param requests: whether it shows only in requests; everything else must show without them.
    :param heals: whether it may be gone by itself before anybody has looked, and is then made again.
    """

    name: str
    harm: Harm
    found: Found
    requests: bool = False
    heals: bool = False


# Ways to harm


def without_secret(mesh: Mesh) -> AbstractContextManager[None]:
    return mesh.deleted("cluster1", remote("cluster2"))


def kubeconfig_of(secret_object: Object) -> Any:
    ((key, value),) = secret_object["data"].items()
    return key, yaml.safe_load(base64.b64decode(value))


def with_kubeconfig(change: Callable[[Any], Any]) -> Callable[[Object], None]:
    """A change of the kubeconfig in a remote secret."""

    def apply(secret_object: Object) -> None:
        key, document = kubeconfig_of(secret_object)
        change(document)
        secret_object["data"][key] = base64.b64encode(yaml.safe_dump(document).encode()).decode()

    return apply


def with_other_key(secret_object: Object) -> None:
    secret_object["data"] = {"somewhere": next(iter(secret_object["data"].values()))}


@contextmanager
def second_secret(mesh: Mesh) -> Iterator[None]:
    copied = mesh.clients["cluster1"].get(remote("cluster3"))
    assert copied
    metadata = {key: copied["metadata"][key] for key in ("namespace", "labels", "annotations")}
    with mesh.created("cluster1", {**copied, "metadata": {**metadata, "name": "by-hand"}}):
        yield


@contextmanager
def stranger(mesh: Mesh) -> Iterator[None]:
    """What a cluster leaves behind that left the mesh."""
    copied = mesh.clients["cluster2"].get(remote("cluster1"))
    assert copied
    _key, document = kubeconfig_of(copied)
    document["clusters"][0]["cluster"]["server"] = "https://192.0.2.1:6443"
    left = obj(
        "Secret",
        "istio-remote-secret-gone",
        SYSTEM,
        metadata={
            "labels": {"istio/multiCluster": "true"},
            "annotations": {"networking.istio.io/cluster": "gone"},
        },
        data={"gone": base64.b64encode(yaml.safe_dump(document).encode()).decode()},
    )
    with mesh.created("cluster2", left):
        yield


@contextmanager
def revoked_token(mesh: Mesh) -> Iterator[None]:
    """A token that was valid, and is no more."""
    client, name = mesh.clients["cluster3"], "short-lived"
    made: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": SYSTEM,
            "annotations": {"kubernetes.io/service-account.name": READER},
        },
        "type": "kubernetes.io/service-account-token",
    }
    client.create(made)
    assert (
        wait_until_met(lambda: None if (client.get(secret(name)) or {}).get("data") else "empty", 20) is None
    )
    token = base64.b64decode((client.get(secret(name)) or {})["data"]["token"]).decode()
    change = with_kubeconfig(lambda document: document["users"][0]["user"].update(token=token))
    with mesh.changed("cluster1", remote("cluster3"), change):
        client.delete(secret(name))
        yield


def server(address: str) -> Callable[[Object], None]:
    return with_kubeconfig(lambda document: document["clusters"][0]["cluster"].update(server=address))


def foreign_ca(mesh: Mesh) -> Callable[[Object], None]:
    pem = base64.b64encode(authority(mesh)[2].encode()).decode()
    return with_kubeconfig(
        lambda document: document["clusters"][0]["cluster"].update({"certificate-authority-data": pem})
    )


def authority(mesh: Mesh) -> tuple[Any, x509.Certificate, str]:
    """Key and certificate of the mesh's root."""
    folder = mesh.lab.path / "mesh" / "ca"
    pem = (folder / "root-cert.pem").read_text()
    key = load_pem_private_key((folder / "root-key.pem").read_bytes(), None)
    return key, x509.load_pem_x509_certificate(pem.encode()), pem


def new_ca(mesh: Mesh, key: Any, days: float, issuer_key: Any = None) -> Callable[[Object], None]:
    """The secret cacerts with another certificate of its intermediate; key None: the one that it has."""
    root_key, root, _pem = authority(mesh)

    def change(cacerts: Object) -> None:
        held = x509.load_pem_x509_certificate(base64.b64decode(cacerts["data"]["ca-cert.pem"]))
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(held.subject)
            .issuer_name(root.subject)
            .public_key(key.public_key() if key else held.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=90))
            .not_valid_after(now + timedelta(days=days))
        )
        for extension in held.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        made = builder.sign(root_key, hashes.SHA256())
        texts = {"ca-cert.pem": chain_pem([made]), "cert-chain.pem": chain_pem([made, root])}
        if key:
            texts["ca-key.pem"] = key_pem(key)
        cacerts["data"].update(
            {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
        )

    return change


def foreign_root(cacerts: Object) -> None:
    """A whole CA of another root."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Another root")])
    now = datetime.now(UTC)
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=900))
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    text = base64.b64encode(chain_pem([root]).encode()).decode()
    cacerts["data"].update(dict.fromkeys(("root-cert.pem", "ca-cert.pem", "cert-chain.pem"), text))
    cacerts["data"]["ca-key.pem"] = base64.b64encode(key_pem(key).encode()).decode()


def labels(**changes: str | None) -> Callable[[Object], None]:
    """Labels of an object, the network's among them; None takes one away."""

    def change(obj: Object) -> None:
        held = obj["metadata"].setdefault("labels", {})
        for key, value in changes.items():
            name = "topology.istio.io/network" if key == "network" else key
            if value is None:
                held.pop(name)
            else:
                held[name] = value

    return change


def replicas(count: int) -> Callable[[Object], None]:
    return lambda obj: obj["spec"].update(replicas=count)


def mesh_config(change: Callable[[Any], Any]) -> Callable[[Object], None]:
    def apply(config_map: Object) -> None:
        document = yaml.safe_load(config_map["data"]["mesh"])
        change(document)
        config_map["data"]["mesh"] = yaml.safe_dump(document)

    return apply


def port_15443(**changes: Any) -> Callable[[Object], None]:
    def change(service: Object) -> None:
        next(port for port in service["spec"]["ports"] if port["port"] == 15443).update(changes)

    return change


def obj(kind: str, name: str, namespace: str, api_version: str = "v1", **fields: Any) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **fields.pop("metadata", {})},
        **fields,
    }


SHOP: Object = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}},
}


def shop_pod(cluster: str, *others: Object, **metadata: Any) -> Harm:
    """A pod in an injected namespace, with other objects."""
    container = {"readinessProbe": metadata["readiness"]} if "readiness" in metadata else {}

    @contextmanager
    def harm(mesh: Mesh) -> Iterator[None]:
        made = obj(
            "Pod",
            "web",
            "shop",
            metadata={
                "labels": {"app": "web", **metadata.get("labels", {})},
                "annotations": metadata.get("annotations", {}),
            },
            spec={
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "web", "image": WORKLOAD.server_image, **container}],
            },
        )
        with mesh.created(cluster, *others, made):
            mesh.running(cluster, "shop", "web")
            yield

    return harm


def shared(with_pods: tuple[str, ...], spec: Object, *others: Object, **metadata: Any) -> Harm:
    """Service web in two clusters, with pods in some of them; the first cluster also has other objects."""

    @contextmanager
    def harm(mesh: Mesh) -> Iterator[None]:
        service = copy.deepcopy(SHOP_SERVICE)
        service["spec"].update(spec)
        with ExitStack() as stack:
            for cluster in NAMES[:2]:
                stack.enter_context(mesh.created(cluster, copy.deepcopy(service)))
            for cluster in with_pods:
                stack.enter_context(shop_pod(cluster, **metadata)(mesh))
            stack.enter_context(mesh.created(NAMES[0], *others))
            yield

    return harm


@contextmanager
def services_that_differ(mesh: Mesh) -> Iterator[None]:
    """Pods with rules and another Service for them, of which cluster2 has other ones or none."""
    istio = "networking.istio.io/v1"
    route = {"destination": {"host": "web", "subset": "v2"}}
    labels = {"version": "v2"}
    rules = (
        obj("VirtualService", "web", "shop", istio, spec={"hosts": ["web"], "http": [{"route": [route]}]}),
        obj(
            "DestinationRule",
            "web",
            "shop",
            istio,
            spec={"host": "web", "subsets": [{"name": "v2", "labels": labels}]},
        ),
        obj(
            "ServiceEntry",
            "api",
            "shop",
            istio,
            spec={
                "hosts": ["api.shop.example"],
                "location": "MESH_INTERNAL",
                "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "workloadSelector": {"labels": labels},
            },
        ),
    )
    with ExitStack() as stack:
        stack.enter_context(shared(NAMES[:2], {}, *rules, labels=labels)(mesh))
        for cluster, port in (("cluster1", 80), ("cluster2", 81)):
            spec = {"selector": labels, "ports": [{"name": "http", "port": port}]}
            stack.enter_context(mesh.created(cluster, obj("Service", "other", "shop", spec=spec)))
        yield


def differences() -> Found:
    codes = ("host-not-exposed", "routes-differ", "service-port-number-differs", "subset-unknown-to-peer")
    return [(code, "cluster2") for code in codes]


@contextmanager
def unready_there(mesh: Mesh) -> Iterator[None]:
    """An istiod that gives out pods that are not ready, because somebody told it to."""

    def tell(deployment: Object) -> None:
        environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        next(entry for entry in environment if entry["name"] == SEND_UNREADY_BY_DEFAULT)["value"] = "true"

    probe = {"exec": {"command": ["/nothing"]}}
    with ExitStack() as stack:
        stack.enter_context(shop_pod("cluster1", SHOP_SERVICE)(mesh))
        stack.enter_context(shop_pod("cluster2", SHOP_SERVICE, readiness=probe)(mesh))
        stack.enter_context(mesh.changed("cluster1", ISTIOD, tell))
        yield


@contextmanager
def headless_in_one(mesh: Mesh) -> Iterator[None]:
    service = copy.deepcopy(SHOP_SERVICE)
    service["spec"]["clusterIP"] = "None"
    with shop_pod("cluster1", SHOP_SERVICE)(mesh), shop_pod("cluster2", service)(mesh):
        yield


def in_shop(cluster: str, *objects: Object) -> Harm:
    return lambda mesh: mesh.created(cluster, *objects)


SHOP_SERVICE = obj("Service", "web", "shop", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})


@contextmanager
def clash(mesh: Mesh) -> Iterator[None]:
    """One address in two clusters, for two Services."""
    with mesh.created("cluster1", obj("Service", "orders", "shop", spec={"ports": [{"port": 5432}]})):
        made = mesh.clients["cluster1"].get(ObjectRef("v1", "Service", "orders", "shop"))
        assert made
        address = made["spec"]["clusterIP"]
        other = obj("Service", "bills", "shop", spec={"clusterIP": address, "ports": [{"port": 5432}]})
        with mesh.created("cluster2", other):
            yield


@contextmanager
def middlebox(mesh: Mesh) -> Iterator[None]:
    """Something else than the gateway answers TLS at its address: the API server."""
    words = ("PREROUTING", "-d", mesh.gateway_address("cluster2"), "-p", "tcp", "--dport", "15443")
    target = ("-j", "DNAT", "--to-destination", f"{mesh.api_address('cluster2')}:6443")
    with mesh.rule("cluster2", *words, *target, table="nat"):
        yield


def blocked(cluster: str, address: Callable[[Mesh], str], port: int) -> Harm:
    """A firewall on the way from a cluster's pods."""
    return lambda mesh: mesh.rule(
        cluster, "FORWARD", "-d", address(mesh), "-p", "tcp", "--dport", str(port), "-j", "DROP"
    )


@contextmanager
def nobody_gets_to_gateway(mesh: Mesh) -> Iterator[None]:
    words = (
        "PREROUTING",
        "-d",
        mesh.gateway_address("cluster3"),
        "-p",
        "tcp",
        "--dport",
        "15443",
        "-j",
        "DROP",
    )
    with mesh.rule("cluster3", *words, table="raw"):
        yield


@contextmanager
def stale_replicas(mesh: Mesh) -> Iterator[None]:
    """New replicas of istiod that never got to one of the peers' APIs."""
    with ExitStack() as stack:
        for cluster, peer in (("cluster1", "cluster3"), ("cluster2", "cluster1")):
            stack.enter_context(blocked(cluster, lambda mesh, peer=peer: mesh.api_address(peer), 6443)(mesh))  # type: ignore[misc]
            stack.enter_context(mesh.changed(cluster, ISTIOD, replicas(2)))
        yield


@contextmanager
def clock(mesh: Mesh, cluster: str, seconds: int) -> Iterator[None]:
    """The cluster's API with another clock: a relay that shifts the date of its answers."""
    number = NAMES.index(cluster)
    member = mesh.members[number]
    document = yaml.safe_load(Path(member.kubeconfig).read_text())
    user = document["users"][0]["user"]
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name in ("client-certificate-data", "client-key-data"):
            files[name] = Path(folder) / name
            files[name].write_bytes(base64.b64decode(user[name]))
        context = ssl.create_default_context(
            cadata=base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        )
        context.check_hostname = False
        context.load_cert_chain(files["client-certificate-data"], files["client-key-data"])
        api = (mesh.api_address(cluster), 6443)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=_relay, args=(listener, api, context, seconds), daemon=True).start()
            here = f"http://127.0.0.1:{listener.getsockname()[1]}"
            document["clusters"][0]["cluster"] = {"server": here}
            shifted = Path(folder) / "kubeconfig"
            shifted.write_text(yaml.safe_dump(document))
            there = mesh.clients[cluster].server
            mesh.members[number] = Member(member.name, member.network, str(shifted), there, member.peers)
            try:
                yield
            finally:
                mesh.members[number] = member
                listener.shutdown(socket.SHUT_RDWR)


def _relay(listener: socket.socket, api: tuple[str, int], context: ssl.SSLContext, seconds: int) -> None:
    def shift(answer: bytes) -> bytes:
        def later(match: re.Match[bytes]) -> bytes:
            date = parsedate_to_datetime(match[1].decode()) + timedelta(seconds=seconds)
            return b"Date: " + format_datetime(date, usegmt=True).encode()

        return re.sub(rb"Date: ([^\r]+)", later, answer)

    def copy_bytes(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(change(data))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    while True:
        try:
            client, _address = listener.accept()
            upstream = context.wrap_socket(socket.create_connection(api))
        except OSError:
            return
        for words in ((client, upstream, bytes), (upstream, client, shift)):
            threading.Thread(target=copy_bytes, args=words, daemon=True).start()


@contextmanager
def unreachable(mesh: Mesh) -> Iterator[None]:
    member = mesh.members[2]
    with tempfile.TemporaryDirectory() as folder:
        document = yaml.safe_load(Path(member.kubeconfig).read_text())
        document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
        (Path(folder) / "kubeconfig").write_text(yaml.safe_dump(document))
        mesh.members[2] = Member(member.name, member.network, f"{folder}/kubeconfig", None, member.peers)
        try:
            yield
        finally:
            mesh.members[2] = member


@contextmanager
def expired_leaf(mesh: Mesh) -> Iterator[None]:
    """A proxy whose agent hangs, so that its short-lived certificate is not renewed."""
    settings = {"proxy.istio.io/config": '{"proxyMetadata": {"SECRET_TTL": "20s"}}'}
    with shop_pod("cluster2", annotations=settings)(mesh):
        mesh_pod = ObjectRef("v1", "Pod", "web", "shop")
        ready = lambda: None if _is_ready(mesh.clients["cluster2"].get(mesh_pod)) else "not ready"  # noqa: E731
        assert wait_until_met(ready, 60) is None
        agent = _agent_of("shop", "web")
        os.kill(agent, signal.SIGSTOP)
        try:
            time.sleep(21)
            yield
        finally:
            os.kill(agent, signal.SIGCONT)


def _is_ready(pod: Object | None) -> bool:
    conditions = (pod or {}).get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _agent_of(namespace: str, pod: str) -> int:
    """The process of a pod's agent, by its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = set((folder / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        wanted = {f"POD_NAME={pod}".encode(), f"POD_NAMESPACE={namespace}".encode()}
        if words[0].endswith(b"pilot-agent") and wanted <= environment:
            return int(folder.name)
    raise AssertionError(f"no agent of {namespace}/{pod}")


def change(cluster: str, ref: ObjectRef, how: Callable[[Object], Any]) -> Harm:
    return lambda mesh: mesh.changed(cluster, ref, how)


def delete(cluster: str, ref: ObjectRef) -> Harm:
    return lambda mesh: mesh.deleted(cluster, ref)


def both_to(cluster: str, code: str) -> Found:
    return [(code, f"{other} -> {cluster}") for other in NAMES if other != cluster]


@contextmanager
def refused_rollout(mesh: Mesh) -> Iterator[None]:
    """A rollout of the gateway that a ResourceQuota refuses, while the old pod serves."""
    pods = mesh.clients["cluster1"].list_objects("v1", "Pod", SYSTEM)
    staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    quota = obj("ResourceQuota", "full", SYSTEM, spec={"hard": {"pods": str(len(staying))}})
    with mesh.created("cluster1", quota):

        def restart(deployment: Object) -> None:
            deployment["spec"]["template"]["metadata"].setdefault("annotations", {})["test"] = "restarted"

        with mesh.changed("cluster1", GATEWAY_DEPLOYMENT, restart):
            yield


def denied(cluster: str, namespace: str = SYSTEM) -> Harm:
    """A policy, in the root namespace or another, that refuses every request to the test workload."""
    selector = {"matchLabels": {"app": f"verify-{cluster}"}}
    spec = {"action": "DENY", "selector": selector, "rules": [{}]}
    policy = obj("AuthorizationPolicy", "deny-all", namespace, "security.istio.io/v1", spec=spec)
    return lambda mesh: mesh.created(cluster, policy)


def network_policy(cluster: str) -> Harm:
    spec = {
        "podSelector": {"matchLabels": {"istio": "eastwestgateway"}},
        "policyTypes": ["Ingress"],
        "ingress": [],
    }
    return in_shop(cluster, obj("NetworkPolicy", "deny", SYSTEM, "networking.k8s.io/v1", spec=spec))


def of_pods(name: str, **spec: Any) -> Object:
    """A NetworkPolicy for all pods of the shop."""
    return obj("NetworkPolicy", name, "shop", "networking.k8s.io/v1", spec={"podSelector": {}, **spec})


def second_gateway() -> Object:
    """A Gateway on port 15443 for hosts that the mesh's own Gateway has, too. Envoy takes only one."""
    server = {
        "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
        "tls": {"mode": "AUTO_PASSTHROUGH"},
        "hosts": ["*.kube-system.svc.cluster.local"],
    }
    spec = {"selector": {"istio": "eastwestgateway"}, "servers": [server]}
    return obj("Gateway", "more", "shop", "networking.istio.io/v1", spec=spec)


@contextmanager
def from_before_injection(mesh: Mesh) -> Iterator[None]:
    """A pod that runs since before its namespace got the label; nothing leads to it."""
    namespace = obj_of_cluster("Namespace", "before", {})
    pod = obj(
        "Pod",
        "client",
        "before",
        spec={
            "containers": [{"name": "web", "image": WORKLOAD.server_image}],
            "terminationGracePeriodSeconds": 0,
        },
    )
    with mesh.created("cluster1", namespace, pod):
        mesh.running("cluster1", "before", "client")
        mesh.clients["cluster1"].apply(
            obj_of_cluster("Namespace", "before", SHOP["metadata"]["labels"]), "test"
        )
        yield


def obj_of_cluster(kind: str, name: str, labels: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}}


def of_version(version: str) -> dict[str, str]:
    """What makes a proxy tell another version of Istio."""
    return {"proxy.istio.io/config": json.dumps({"proxyMetadata": {"ISTIO_META_ISTIO_VERSION": version}})}


NOT_THE_SHOP = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["shop"]}


def waiting_gateway_pod() -> Object:
    """A second pod of the gateway, for which no node is right."""
    spec = {
        "containers": [{"name": "istio-proxy", "image": WORKLOAD.server_image}],
        "nodeSelector": {"room": "none"},
        "terminationGracePeriodSeconds": 0,
    }
    selected = {
        "app": "istio-eastwestgateway",
        "istio": "eastwestgateway",
        "topology.istio.io/network": "network-cluster1",
        "sidecar.istio.io/inject": "false",
    }
    return obj("Pod", "second", SYSTEM, metadata={"labels": selected}, spec=spec)


@contextmanager
def unacceptable_filter(mesh: Mesh) -> Iterator[None]:
    """A filter without a field that Envoy requires, in a pod that runs already."""
    kind = "type.googleapis.com/envoy.extensions.filters.network.ratelimit.v3.RateLimit"
    value = {
        "name": "envoy.filters.network.ratelimit",
        "typed_config": {"@type": kind, "stat_prefix": "x"},
    }
    manager = {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}
    patch = {
        "applyTo": "NETWORK_FILTER",
        "match": {"context": "SIDECAR_OUTBOUND", "listener": manager},
        "patch": {"operation": "INSERT_BEFORE", "value": value},
    }
    made = obj(
        "EnvoyFilter", "broken", "shop", "networking.istio.io/v1alpha3", spec={"configPatches": [patch]}
    )
    with shop_pod("cluster3")(mesh), mesh.created("cluster3", made):
        yield


def tls_rule(name: str, namespace: str, host: str, mode: str) -> Object:
    spec = {"host": host, "trafficPolicy": {"tls": {"mode": mode}}}
    return obj("DestinationRule", name, namespace, "networking.istio.io/v1", spec=spec)


def peer_authentication(namespace: str, **spec: Any) -> Object:
    return obj("PeerAuthentication", "off", namespace, "security.istio.io/v1", spec=spec)


FAULTS = [
    # Peering
    Fault("remote secret deleted", without_secret, [("remote-secret-missing", "cluster1 -> cluster2")]),
    Fault(
        "remote secret deleted elsewhere",
        delete("cluster3", remote("cluster1")),
        [("remote-secret-missing", "cluster3 -> cluster1")],
    ),
    Fault(
        "remote secret with another key",
        change("cluster2", remote("cluster3"), with_other_key),
        [("remote-secret-invalid", "cluster2 -> cluster3")],
    ),
    Fault(
        "second remote secret by hand", second_secret, [("remote-secret-duplicate", "cluster1 -> cluster3")]
    ),
    Fault("token revoked", revoked_token, [("credentials-rejected", "cluster1 -> cluster3")]),
    Fault(
        "token garbled",
        change(
            "cluster3", remote("cluster2"), with_kubeconfig(lambda d: d["users"][0]["user"].update(token="x"))
        ),
        [("credentials-rejected", "cluster3 -> cluster2")],
    ),
    Fault(
        "API address wrong",
        change("cluster1", remote("cluster2"), server("https://192.0.2.1:6443")),
        [("remote-secret-address", "cluster1 -> cluster2")],
    ),
    Fault(
        "CA of the API wrong",
        lambda mesh: mesh.changed("cluster2", remote("cluster1"), foreign_ca(mesh)),
        [("api-untrusted", "cluster2 -> cluster1")],
    ),
    Fault(
        "API blocked by a firewall",
        blocked("cluster1", lambda mesh: mesh.api_address("cluster2"), 6443),
        [("api-unreachable", "cluster1 -> cluster2")],
        requests=True,
    ),
    Fault(
        "reader's role binding deleted",
        delete("cluster2", reader_binding("cluster1")),
        [("reader-underprivileged", "cluster1 -> cluster2")],
    ),
    Fault(
        "remote secret for a stranger",
        stranger,
        [("remote-secret-unknown", "cluster2")],
    ),
    Fault("istiod scaled to 0", change("cluster3", ISTIOD, replicas(0)), [("istiod-missing", "cluster3")]),
    Fault(
        "two stale replicas of istiod",
        stale_replicas,
        [("istiod-not-synced", "cluster1 -> cluster3"), ("istiod-not-synced", "cluster2 -> cluster1")],
    ),
    # Trust
    Fault(
        "wrong root in one secret",
        change("cluster2", CACERTS, foreign_root),
        [("cacerts-not-in-use", "cluster2")],
    ),
    Fault(
        "secret cacerts without its key",
        change("cluster1", CACERTS, lambda s: s["data"].pop("ca-key.pem")),
        [("cacerts-invalid", "cluster1")],
    ),
    Fault("secret cacerts deleted", delete("cluster3", CACERTS), [("cacerts-missing", "cluster3")]),
    Fault(
        "intermediate expired",
        lambda mesh: mesh.changed("cluster3", CACERTS, new_ca(mesh, None, -1)),
        [("certificate-expired", "cluster3")],
    ),
    Fault(
        "intermediate expires in a week",
        lambda mesh: mesh.changed("cluster1", CACERTS, new_ca(mesh, None, 7)),
        [("certificate-expiring", "cluster1")],
    ),
    Fault(
        "intermediate renewed, not loaded",
        lambda mesh: mesh.changed(
            "cluster2", CACERTS, new_ca(mesh, rsa.generate_private_key(65537, 2048), 90)
        ),
        [("ca-not-loaded", "cluster2")],
        heals=True,  # the kubelet brings it to istiod within a minute or so, or at this very moment
    ),
    Fault("leaf expired", expired_leaf, [("certificate-expired", "cluster2")]),
    Fault(
        "trust domain of its own",
        change("cluster3", MESH_CONFIG, mesh_config(lambda d: d.update(trustDomain="other.local"))),
        [("trust-domain-differs", "cluster3")],
    ),
    # Clusters
    Fault("clock ahead", lambda mesh: clock(mesh, "cluster2", 600), [("clock-skew", "cluster2")]),
    Fault("clock behind", lambda mesh: clock(mesh, "cluster3", -180), [("clock-skew", "cluster3")]),
    Fault("API of a cluster gone", unreachable, [("cluster-unreachable", "cluster3")]),
    Fault(
        "network label removed",
        change("cluster3", NAMESPACE, labels(network=None)),
        [("network-label-wrong", "cluster3")],
    ),
    Fault(
        "network label of another",
        change("cluster1", NAMESPACE, labels(network="network-cluster2")),
        [("network-label-wrong", "cluster1")],
    ),
    Fault(
        "proxy on another network",
        shop_pod("cluster2", labels={"topology.istio.io/network": "elsewhere"}),
        [("proxy-network-wrong", "cluster2")],
    ),
    Fault(
        "DNS capture off in the mesh",
        change(
            "cluster1",
            MESH_CONFIG,
            mesh_config(lambda d: d["defaultConfig"]["proxyMetadata"].update(ISTIO_META_DNS_CAPTURE="false")),
        ),
        [("dns-capture-disabled", "cluster1")],
    ),
    Fault(
        "DNS capture off in a running pod",
        shop_pod(
            "cluster3",
            annotations={"proxy.istio.io/config": '{"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "false"}}'},
        ),
        [("dns-capture-missing", "cluster3")],
    ),
    Fault(
        "image of a retired registry",
        in_shop(
            "cluster1",
            obj(
                "Pod",
                "old",
                "default",
                spec={
                    "containers": [
                        {"name": "old", "image": "registry.istio.io/release/examples-helloworld-v1:1.0"}
                    ],
                    "terminationGracePeriodSeconds": 0,
                },
            ),
        ),
        [("retired-registry", "cluster1")],
    ),
    # Gateways
    Fault(
        "gateway scaled to 0",
        change("cluster2", GATEWAY_DEPLOYMENT, replicas(0)),
        [("gateway-not-ready", "cluster2")],
    ),
    Fault(
        "gateway's Service selects nothing",
        change("cluster3", GATEWAY_SERVICE, lambda s: s["spec"]["selector"].update(istio="nothing")),
        [("gateway-not-ready", "cluster3")],
    ),
    Fault(
        "gateway's Service without network",
        change("cluster1", GATEWAY_SERVICE, labels(network=None)),
        [("gateway-missing", "cluster1")],
    ),
    Fault(
        "gateway's port leads elsewhere",
        change("cluster3", GATEWAY_SERVICE, port_15443(targetPort=15021)),
        [("gateway-port-wrong", "cluster3")],
    ),
    Fault("quota refuses the gateway's new pod", refused_rollout, [("rollout-stuck", "cluster1")]),
    Fault(
        "policy refuses the test", denied("cluster2"), both_to("cluster2", "request-denied"), requests=True
    ),
    Fault("expose Gateway deleted", delete("cluster3", EXPOSE), [("gateway-not-exposed", "cluster3")]),
    Fault(
        "expose Gateway with a wrong selector",
        change("cluster1", EXPOSE, lambda g: g["spec"].update(selector={"istio": "ingress"})),
        [("gateway-not-exposed", "cluster1")],
    ),
    Fault(
        "expose Gateway for other hosts",
        change(
            "cluster3", EXPOSE, lambda g: g["spec"]["servers"][0].update(hosts=["*.shop.svc.cluster.local"])
        ),
        [("gateway-hosts-restricted", "cluster3")],
        requests=True,
    ),
    Fault("NetworkPolicy blocks 15443", network_policy("cluster2"), [("gateway-blocked", "cluster2")]),
    Fault(
        "second Gateway for the same hosts",
        in_shop("cluster2", second_gateway()),
        [("gateway-config-rejected", "cluster2")],
    ),
    Fault(
        "second pod of the gateway waits",
        in_shop("cluster1", waiting_gateway_pod()),
        [("gateway-degraded", "cluster1")],
    ),
    # Proxies of users, and what they need
    Fault("EnvoyFilter that Envoy rejects", unacceptable_filter, [("proxy-config-rejected", "cluster3")]),
    Fault(
        "NetworkPolicy without egress",
        shop_pod("cluster1", of_pods("closed", policyTypes=["Egress"])),
        [("istiod-blocked", "cluster1"), ("peers-blocked", "cluster1")],
    ),
    Fault(
        "NetworkPolicy for callers of one namespace",
        shop_pod("cluster2", SHOP_SERVICE, of_pods("own", ingress=[{"from": [{"podSelector": {}}]}])),
        [("endpoint-blocked", "cluster2")],
    ),
    # Sidecars, and what gives them
    Fault(
        "pod from before injection",
        from_before_injection,
        [("sidecar-missing", "cluster1")],
    ),
    Fault(
        "revision that is not there",
        in_shop("cluster2", obj_of_cluster("Namespace", "lost", {"istio.io/rev": "1-20"})),
        [("injector-missing", "cluster2")],
    ),
    Fault(
        "pod of a version from long ago",
        shop_pod("cluster3", annotations=of_version("1.28.3")),
        [("proxy-version-unsupported", "cluster3")],
    ),
    Fault(
        "discovery selectors without the shop",
        change(
            "cluster2",
            MESH_CONFIG,
            mesh_config(lambda d: d.update(discoverySelectors=[{"matchExpressions": [NOT_THE_SHOP]}])),
        ),
        [("namespace-hidden", "cluster2")],
    ),
    Fault(
        "Cilium that balances past sidecars",
        in_shop(
            "cluster3",
            obj("ConfigMap", "cilium-config", "kube-system", data={"kube-proxy-replacement": "true"}),
        ),
        [("sidecars-bypassed", "cluster3")],
    ),
    # Services that do not cross
    Fault(
        "headless Service with pods elsewhere",
        shared(("cluster1",), {"clusterIP": "None"}),
        [("headless-service", "cluster1")],
    ),
    # Services that two clusters have
    Fault("Services that differ", services_that_differ, differences()),
    Fault("no pod ready there, and peers are sent", unready_there, [("unready-pods-called", "cluster2")]),
    Fault("headless in one cluster", headless_in_one, [("service-shape-differs", "cluster2")]),
    Fault(
        "pod without sidecar",
        shop_pod("cluster2", SHOP_SERVICE, labels={"sidecar.istio.io/inject": "false"}),
        [("endpoint-without-sidecar", "cluster2")],
    ),
    Fault(
        "mTLS off in a namespace",
        in_shop("cluster3", peer_authentication("shop", mtls={"mode": "DISABLE"})),
        [("mtls-disabled", "cluster3")],
    ),
    Fault(
        "DestinationRule DISABLE",
        in_shop("cluster1", SHOP_SERVICE, tls_rule("plain", "shop", "web", "DISABLE")),
        [("destination-rule-not-mutual", "cluster1")],
    ),
    Fault(
        "DestinationRule DISABLE for all",
        in_shop("cluster2", tls_rule("plain", SYSTEM, "*.local", "DISABLE")),
        [("destination-rule-not-mutual", "cluster2")],
        requests=True,
    ),
    Fault("two Services, one address", clash, [("service-address-conflict", "cluster1 -> cluster2")]),
    # The way of a request
    Fault(
        "15443 blocked from one cluster",
        blocked("cluster1", lambda mesh: mesh.gateway_address("cluster2"), 15443),
        [("gateway-unreachable", "cluster1 -> cluster2")],
        requests=True,
    ),
    Fault(
        "15443 blocked for all",
        nobody_gets_to_gateway,
        both_to("cluster3", "gateway-unreachable"),
        requests=True,
    ),
    Fault(
        "something else answers at 15443",
        middlebox,
        both_to("cluster2", "gateway-tls-untrusted"),
        requests=True,
    ),
    Fault(
        "Service that its gateway does not see",
        change(
            "cluster3",
            ObjectRef("v1", "Service", "verify-cluster3", "exomesh-verify"),
            lambda s: s["metadata"].update(annotations={"networking.istio.io/exportTo": "."}),
        ),
        both_to("cluster3", "connection-closed"),
        requests=True,
    ),
    Fault(
        "AuthorizationPolicy denies",
        denied("cluster1", "exomesh-verify"),
        both_to("cluster1", "request-denied"),
        requests=True,
    ),
    Fault(
        "Sidecar hides the peers' services",
        in_shop(
            "cluster2",
            obj(
                "Sidecar",
                "narrow",
                "exomesh-verify",
                "networking.istio.io/v1",
                spec={"egress": [{"hosts": ["istio-system/*"]}]},
            ),
        ),
        [("endpoint-missing", "cluster2 -> cluster1"), ("endpoint-missing", "cluster2 -> cluster3")],
        requests=True,
    ),
]


# Tests


@pytest.fixture(scope="module")
def mesh(mesh_of_three: RunningLab) -> Mesh:
    """Three clusters in one mesh, with a namespace of users' workloads."""
    built = Mesh(mesh_of_three)
    for client in built.clients.values():
        client.apply(SHOP, "test")
    return built


class Looks:
    """Verifications of the mesh, with and without requests."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.evidence: list[str] = []
        self._full = Verification(mesh.members, WORKLOAD, 90)

    def __enter__(self) -> Looks:
        self._full.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._full.__exit__(None, None, None)

    def found(self, requests: bool, settle: float = 2) -> Found:
        verification = self._full if requests else Verification(self._mesh.members, None, settle)
        verification._timeout = settle if requests else verification._timeout
        _mesh, verdict = verification.look()
        self.evidence = [line for finding in verdict.findings for line in finding.evidence]
        return sorted(
            (finding.kind.code, finding.cluster or f"{finding.source} -> {finding.destination}")
            for finding in verdict.findings
        )

    def until(
        self, expected: Found, requests: bool, seconds: float = 60, settle: float = 2
    ) -> tuple[Found, float]:
        """Look until exactly this is found; gives the last that was found, and how long it took."""
        begun = time.monotonic()
        while True:
            found = self.found(requests, settle)
            taken = time.monotonic() - begun
            if found == sorted(expected) or taken > seconds:
                return found, taken


@pytest.fixture(scope="module")
def looks(mesh: Mesh) -> Iterator[Looks]:
    with Looks(mesh) as running:
        yield running


def test_a_healthy_mesh_has_no_findings(looks: Looks) -> None:
    assert looks.found(requests=True, settle=90) == []
    assert looks.found(requests=False) == []


@pytest.mark.parametrize("words", ISTIO_TOOLS)
def test_tools_of_istio_work_on_a_mesh_of_three(mesh: Mesh, tmp_path: Path, words: str) -> None:
    tool_of_istio(mesh.lab, words, tmp_path)


def test_workloads_of_ten_shapes_that_are_well_have_no_findings(mesh: Mesh, looks: Looks) -> None:
    for name in NAMES[:2]:
        peers = [mesh.gateway_address(other) for other in NAMES if other != name]
        for obj in shapes(WORKLOAD.server_image, peers):
            mesh.clients[name].apply(obj, "test")
    for name in NAMES[:2]:
        pods = [ObjectRef.of(obj) for obj in shapes(WORKLOAD.server_image, []) if obj["kind"] == "Pod"]
        wait_for(lambda name=name, pods=pods: all(map(_is_ready, map(mesh.clients[name].get, pods))), 120)
    assert looks.until([], requests=False)[0] == [], looks.evidence
    assert looks.until([], requests=True, settle=90)[0] == [], looks.evidence
    gone = [ObjectRef.of(obj) for obj in namespaces()]
    for name, ref in itertools.product(NAMES[:2], gone):
        mesh.clients[name].delete(ref)
    for name in NAMES[:2]:
        wait_for(lambda name=name: not any(map(mesh.clients[name].get, gone)), 60)


ROWS: list[tuple[str, str, str, float]] = []


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name.replace(" ", "-") for fault in FAULTS])
def test_a_fault_is_found_by_its_own_code_at_its_own_place(fault: Fault, mesh: Mesh, looks: Looks) -> None:
    for _attempt in range(3 if fault.heals else 1):
        with fault.harm(mesh):
            found, seconds = looks.until(fault.found, fault.requests, seconds=20 if fault.heals else 60)
        if found == sorted(fault.found):
            break
    told = ", ".join(f"{code} [{place}]" for code, place in found)
    ROWS.append((fault.name, "requests" if fault.requests else "status", told, seconds))
    assert found == sorted(fault.found)


def test_the_mesh_is_healthy_again_and_the_table_is_shown(looks: Looks) -> None:
    assert looks.until([], requests=False)[0] == []
    assert looks.until([], requests=True)[0] == []
    widths = [max(len(str(row[column])) for row in ROWS) for column in range(3)] if ROWS else [0, 0, 0]
    print("\n\nFaults and what was found:")
    for name, way, told, seconds in ROWS:
        print(f"  {name:{widths[0]}}  {way:{widths[1]}}  {told:{widths[2]}}  {seconds:5.1f} s")


def test_accounts_that_may_read_secrets_are_told_where_they_must_not(mesh: Mesh) -> None:
    seen, verdict = Verification(mesh.members, None, 2, least_privilege=True).look()
    assert {finding.kind.code for finding in verdict.findings} == {"reader-overprivileged"}
    assert len(verdict.findings) == len(seen.pairs) == 6
    assert verdict.healthy


def test_files_of_a_verification_are_of_their_published_form(mesh: Mesh, tmp_path: Path) -> None:
    with mesh.deleted("cluster1", remote("cluster2")):
        result = run_playbook(
            mesh.lab, "playbooks/status.yml", "-e", f"verify_output_dir={tmp_path}", "-e", "verify_timeout=15"
        )
    assert result.returncode == 2, result.stdout[-3000:]
    assert "Failed: cluster1 -> cluster2" in " ".join(result.stdout.split())
    told = json.loads((tmp_path / "verification.json").read_text())
    schema = json.loads((PROJECT / "docs/schema/verification.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(told)
    assert [finding["code"] for finding in told["findings"]] == ["remote-secret-missing"]
    suites = {suite.name: suite for suite in junitparser.JUnitXml.fromfile(str(tmp_path / "junit.xml"))}
    assert suites["pairs from cluster1"].failures == 1
    assert sum(suite.failures for suite in suites.values()) == 1


def test_a_killed_verification_is_noticed_and_cleared_up(mesh: Mesh, looks: Looks) -> None:
    # An istiod whose remote secrets came and went so often may not take up the last one; peering restarts it.
    repaired = run_playbook(mesh.lab, "playbooks/peering.yml")
    assert repaired.returncode == 0, repaired.stdout[-3000:]
    print("\n".join(re.findall(r"istiod of .* was restarted", repaired.stderr + repaired.stdout)))
    assert looks.until([], requests=False, settle=10)[0] == [], looks.evidence
    looks.__exit__()
    namespace = ObjectRef("v1", "Namespace", "exomesh-verify")
    there = partial(mesh.clients["cluster1"].get, namespace)
    for client in mesh.clients.values():
        assert wait_until_met(lambda client=client: "there" if client.get(namespace) else None, 60) is None
    end_playbook(signal.SIGINT, there, mesh.lab, "playbooks/verify.yml")
    for client in mesh.clients.values():
        gone = lambda client=client: "there" if client.get(namespace) else None  # noqa: E731
        assert wait_until_met(gone, 30) is None
    end_playbook(signal.SIGKILL, there, mesh.lab, "playbooks/verify.yml")
    # Its half hour has passed.
    for client in mesh.clients.values():
        live = client.get(namespace)
        if live:
            live["metadata"]["annotations"]["exomesh.istio/expires"] = "1"
            client.replace(live)
    left = [("workload-leftover", name) for name, client in mesh.clients.items() if client.get(namespace)]
    assert left
    assert looks.until(left, requests=False, settle=10)[0] == left
    result = run_playbook(mesh.lab, "playbooks/verify.yml")
    assert result.returncode == 0, result.stdout[-3000:]
    for client in mesh.clients.values():
        assert wait_until_met(lambda client=client: "there" if client.get(namespace) else None, 30) is None
    assert run_playbook(mesh.lab, "playbooks/status.yml").returncode == 0
