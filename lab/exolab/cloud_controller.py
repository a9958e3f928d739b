"""The lab's cloud controller.

Gives every Service of type LoadBalancer an IPv4 address, and takes it back.

It behaves as Exoscale's does where a user can see it: one network load balancer a Service, IPv4 only, at
most 10 ports, the annotations with its refusals and its words, Events, and the finalizer that keeps a Service
until its load balancer is gone. It runs outside the clusters, with an account of its own in each.

Two things are the lab's own, to show what other clouds do and what happens on a bad day: the annotation
`exolab/hostname` makes the load balancer known by that name instead of its address, and
`spec.loadBalancerIP` moves it to another address.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import urllib3
from kubernetes import client, config, watch

from exolab import cloud_state, network
from exolab.layout import Cluster, Record
from exolab.load_balancers import HealthCheck, LoadBalancer, LoadBalancers, NlbService

COMPONENT = "service-controller"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
PREFIX = "service.beta.kubernetes.io/exoscale-loadbalancer-"
HOSTNAME = "exolab/hostname"
MAX_PORTS = 10
RETRY_SECONDS = 1.0
RESYNC_SECONDS = 300

log = logging.getLogger("cloud-controller")


Service = dict[str, Any]


class RefusedError(Exception):
    """Why a Service gets no load balancer, in the words of the real controller."""


class ServiceController:
    """Watches the Services of one cluster, which it handles as the API gives them: JSON objects."""

    def __init__(self, cluster: Cluster, balancers: LoadBalancers) -> None:
        self.cluster = cluster
        self.balancers = balancers
        kubeconfig = cluster.etc / "cloud-controller-manager.kubeconfig"
        api: Any = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
        self.core: Any = client.CoreV1Api(api)
        self.addresses: dict[str, str] = {}  # Service UID -> address

    def run(self) -> None:
        """Watch for ever; an API server that is away is asked again."""
        while True:
            try:
                self._watch()
            except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
                log.info("%s: %s; again in %.0f s", self.cluster.name, type(error).__name__, RETRY_SECONDS)
                time.sleep(RETRY_SECONDS)

    def _watch(self) -> None:
        listing = json.loads(self.core.list_service_for_all_namespaces(_preload_content=False).data)
        # Addresses in use first, so that nobody new is given one of them.
        known = {balancer.id: balancer.ip for balancer in self.balancers.all()}
        self.addresses = {
            service["metadata"]["uid"]: known[identity]
            for service in listing["items"]
            if (identity := _annotation(service, "id")) in known
        }
        for service in listing["items"]:
            self._sync(service)
        watcher: Any = watch.Watch()  # type: ignore[no-untyped-call]
        events = watcher.stream(
            self.core.list_service_for_all_namespaces,
            resource_version=listing["metadata"]["resourceVersion"],
            timeout_seconds=RESYNC_SECONDS,
            _request_timeout=RESYNC_SECONDS + 30,
        )
        for event in events:
            service = event["raw_object"]
            if event["type"] in ("ADDED", "MODIFIED"):
                self._sync(service)
            elif event["type"] == "DELETED":
                self.addresses.pop(service["metadata"]["uid"], None)

    def _sync(self, service: Service) -> None:
        metadata = service["metadata"]
        wanted = service["spec"]["type"] == "LoadBalancer" and "deletionTimestamp" not in metadata
        has = FINALIZER in metadata.get("finalizers", [])
        try:
            if wanted:
                self._ensure(service, announce=not has)
            elif has:
                self._release(service)
        except RefusedError as reason:
            message = f"Error syncing load balancer: failed to ensure load balancer: {reason}"
            self._event(service, "Warning", "SyncLoadBalancerFailed", message)
        except client.ApiException as error:
            if error.status not in (404, 409):  # gone or changed meanwhile: the watch tells us more
                raise

    def _ensure(self, service: Service, *, announce: bool) -> None:
        metadata = service["metadata"]
        if announce:
            self._event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        balancer = self._balancer(service)
        former = self.addresses.get(metadata["uid"], balancer.ip)
        if former != balancer.ip:
            network.forward(self.cluster, former, {})
        self.addresses[metadata["uid"]] = balancer.ip
        pool = balancer.services[0].instance_pool
        made = {f"{PREFIX}id": balancer.id, f"{PREFIX}service-instancepool-id": pool}
        if made.items() <= metadata.get("annotations", {}).items() and not announce:
            self._give(service, balancer)
        else:
            finalizers = sorted({*metadata.get("finalizers", []), FINALIZER})
            # The watch brings the Service back as changed, and then it is given its address.
            self._patch(service, {"finalizers": finalizers, "annotations": made})

    def _give(self, service: Service, balancer: LoadBalancer) -> None:
        """Let the balancer serve, and tell its address."""
        ports = {port["port"]: port["nodePort"] for port in service["spec"]["ports"]}
        if self.balancers.put(balancer):
            # A node takes what comes to an address that its Services name; a host name names none.
            network.forward(self.cluster, balancer.ip, ports if balancer.hostname else {})
        ingress = {"hostname": balancer.hostname} if balancer.hostname else {"ip": balancer.ip}
        told = [{key: entry.get(key) for key in ingress} for entry in _ingress(service)]
        if told != [ingress]:
            self._patch_status(service, [ingress])
            self._event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")

    def _balancer(self, service: Service) -> LoadBalancer:
        """The load balancer as the Service describes it.

        :raises RefusedError: there can be none.
        """
        uid, spec = service["metadata"]["uid"], service["spec"]
        pool = self._instance_pool(service)
        if len(spec["ports"]) > MAX_PORTS:
            raise RefusedError(
                f"a Network Load Balancer has at most {MAX_PORTS} services, {len(spec['ports'])} ports given"
            )
        existing = self._existing(service)
        external = existing is not None and existing.external
        strategy = _annotation(service, "service-strategy", "round-robin")
        return LoadBalancer(
            id=existing.id if existing else str(uuid.uuid5(uuid.UUID(uid), "nlb")),
            name=existing.name
            if existing and existing.external
            else _annotation(service, "name", f"k8s-{uid}"),
            # As with the real one, a later description changes nothing.
            description=existing.description if existing else _annotation(service, "description"),
            zone=self.cluster.zone,
            ip=self._address(service, existing),
            hostname=service["metadata"].get("annotations", {}).get(HOSTNAME, ""),
            external=external,
            services=tuple(
                NlbService(
                    name=f"{uid}-{port['port']}",
                    port=port["port"],
                    target_port=port["nodePort"],
                    strategy=strategy,
                    instance_pool=pool,
                    healthcheck=_health_check(service, port["nodePort"]),
                )
                for port in spec["ports"]
            ),
        )

    def _existing(self, service: Service) -> LoadBalancer | None:
        identity, name = _annotation(service, "id"), _annotation(service, "name")
        external = _annotation(service, "external").lower() == "true"
        if external and not identity and not name:
            raise RefusedError(
                "NLB instance marked as external in Service annotations, but no ID or name specified"
            )
        by_name = external and not identity
        for balancer in self.balancers.all():
            if balancer.id == identity or (by_name and balancer.name == name):
                return balancer
        if by_name:
            raise RefusedError(
                f'NLB instance is marked external by name "{name}", but no matching NLB was found'
            )
        if external:
            raise RefusedError("NLB instance marked as external in Service annotations, cannot create")
        return None

    def _instance_pool(self, service: Service) -> str:
        """Id of the one instance pool that the load balancer serves."""
        clusters = cloud_state.load(self.cluster.lab.cloud).clusters
        pool_name, cluster_name = (
            _annotation(service, key) for key in ("service-sks-nodepool-name", "sks-cluster-name")
        )
        if pool_name and not cluster_name:
            raise RefusedError("SKS node pool name specified without SKS cluster name")
        if pool_name:
            named = [entry for entry in clusters if cluster_name in (entry.name, entry.id)]
            if not named:
                raise RefusedError(f"SKS cluster with name {cluster_name} not found")
            for pool in named[0].nodepools:
                if pool.name.lower() == pool_name.lower():
                    return pool.id
            raise RefusedError(f"SKS node pool with name {pool_name} not found")
        chosen = _annotation(service, "service-instancepool-id")
        if chosen:
            return chosen
        pools = [pool.id for entry in clusters if entry.id == self.cluster.id for pool in entry.nodepools]
        if len(pools) > 1:
            raise RefusedError(
                "multiple Instance Pools detected across cluster Nodes, "
                "an Instance Pool ID must be specified in Service manifest annotations"
            )
        return pools[0]

    def _release(self, service: Service) -> None:
        metadata = service["metadata"]
        self._event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        address = self.addresses.pop(metadata["uid"], None)
        if address:
            network.forward(self.cluster, address, {})
        self.balancers.release(_annotation(service, "id"))
        if "deletionTimestamp" not in metadata:  # no longer of type LoadBalancer
            self._patch_status(service, None)
        self._event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")
        left = [name for name in metadata["finalizers"] if name != FINALIZER]
        self._patch(service, {"finalizers": left or None})

    def _address(self, service: Service, existing: LoadBalancer | None) -> str:
        wanted = service["spec"].get("loadBalancerIP")
        own = self.addresses.get(service["metadata"]["uid"])
        taken = {address for address in self.addresses.values() if address != own}
        if wanted and wanted not in taken:
            return str(wanted)
        if existing:
            return existing.ip
        for address in self.cluster.load_balancers.hosts():
            if str(address) not in taken:
                return str(address)
        raise RefusedError("quota exceeded: no address is left")

    def _patch(self, service: Service, metadata: dict[str, object]) -> None:
        where = service["metadata"]
        self.core.patch_namespaced_service(where["name"], where["namespace"], {"metadata": metadata})

    def _patch_status(self, service: Service, ingress: list[dict[str, str]] | None) -> None:
        where = service["metadata"]
        body = {"status": {"loadBalancer": {"ingress": ingress}}}
        self.core.patch_namespaced_service_status(where["name"], where["namespace"], body)

    def _event(self, service: Service, kind: str, reason: str, message: str) -> None:
        where = service["metadata"]
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        log.info("%s: %s/%s: %s", self.cluster.name, where["namespace"], where["name"], message)
        reference = {key: where[key] for key in ("name", "namespace", "uid", "resourceVersion")}
        event = {
            "metadata": {"generateName": f"{where['name']}."},
            "involvedObject": {"apiVersion": "v1", "kind": "Service", **reference},
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": COMPONENT},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self.core.create_namespaced_event(where["namespace"], event)
        except client.ApiException as error:
            # A namespace that is about to go takes no Events; its load balancers must go all the same.
            log.info("%s: no Event: %s", self.cluster.name, error.reason)


def _annotation(service: Service, name: str, default: str = "") -> str:
    return str(service["metadata"].get("annotations", {}).get(f"{PREFIX}{name}", default))


def _ingress(service: Service) -> list[dict[str, str]]:
    return list(service["status"]["loadBalancer"].get("ingress", []))


def _health_check(service: Service, node_port: int) -> HealthCheck:
    def value(name: str, default: object) -> str:
        return _annotation(service, f"service-healthcheck-{name}", str(default))

    def seconds(name: str, default: str) -> int:
        text = value(name, default)
        if not re.fullmatch(r"\d+s", text):
            raise RefusedError(f'time: missing unit in duration "{text}"')
        return int(text[:-1])

    return HealthCheck(
        mode=value("mode", "tcp"),
        port=int(value("port", node_port)),
        uri=value("uri", ""),
        interval=seconds("interval", "10s"),
        timeout=seconds("timeout", "5s"),
        retries=int(value("retries", 1)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a controller for each cluster of a lab, until stopped."""
    parser = argparse.ArgumentParser(prog="python -m exolab.cloud_controller", description=__doc__)
    parser.add_argument("--lab", required=True, help="name of the lab")
    parser.add_argument("--clusters", required=True, type=int, help="how many clusters it has")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    record = Record.load(options.lab)
    if not record:
        parser.error(f"there is no lab {options.lab}")
    balancers = LoadBalancers(record.lab.cloud)
    controllers = [ServiceController(cluster, balancers) for cluster in record.members[: options.clusters]]
    threads = [
        threading.Thread(target=controller.run, name=controller.cluster.name) for controller in controllers
    ]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
