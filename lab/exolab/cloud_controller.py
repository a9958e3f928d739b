"""The lab's cloud controller: gives every Service of type LoadBalancer an IPv4 address, and takes it back.

It behaves as Exoscale's does where a user can see it: one network load balancer a Service, IPv4 only, at most 10 ports,
a refusal where a cluster has several node pools and the Service does not say which, Events, and the finalizer that
keeps a Service until its load balancer is gone. It runs outside the clusters, with an account of its own in each.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import urllib3
from kubernetes import client, config, watch

from exolab import cloud_state
from exolab.layout import Cluster, Record

COMPONENT = "service-controller"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
PREFIX = "service.beta.kubernetes.io/exoscale-loadbalancer-"
MAX_PORTS = 10
RETRY_SECONDS = 5.0
RESYNC_SECONDS = 300

log = logging.getLogger("cloud-controller")


class Refused(Exception):
    """Why a Service gets no load balancer, in the words of the real controller."""


class ServiceController:
    """Watches the Services of one cluster."""

    def __init__(self, cluster: Cluster, cloud: Path) -> None:
        self.cluster = cluster
        self.cloud = cloud
        self.core = client.CoreV1Api(config.new_client_from_config(str(cluster.etc / "cloud-controller-manager.kubeconfig")))
        self.addresses: dict[str, str] = {}  # Service UID -> address

    def run(self) -> None:
        """Watch for ever; an API server that is away is asked again."""
        while True:
            try:
                self._watch()
            except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
                log.info("%s: %s; again in %.0f s", self.cluster.name, type(error).__name__, RETRY_SECONDS)
                time.sleep(RETRY_SECONDS / 5)

    def _watch(self) -> None:
        listing = self.core.list_service_for_all_namespaces()
        # Addresses in use first, so that nobody new is given one of them.
        self.addresses = {
            service.metadata.uid: service.status.load_balancer.ingress[0].ip
            for service in listing.items
            if service.status.load_balancer.ingress
        }
        for service in listing.items:
            self._sync(service)
        events = watch.Watch().stream(
            self.core.list_service_for_all_namespaces,
            resource_version=listing.metadata.resource_version,
            timeout_seconds=RESYNC_SECONDS,
            _request_timeout=RESYNC_SECONDS + 30,
        )
        for event in events:
            if event["type"] in ("ADDED", "MODIFIED"):
                self._sync(event["object"])
            elif event["type"] == "DELETED":
                self.addresses.pop(event["object"].metadata.uid, None)

    def _sync(self, service: client.V1Service) -> None:
        wanted = service.spec.type == "LoadBalancer" and not service.metadata.deletion_timestamp
        has = FINALIZER in (service.metadata.finalizers or [])
        try:
            if wanted:
                self._ensure(service, announce=not has)
            elif has:
                self._release(service)
        except Refused as reason:
            message = f"Error syncing load balancer: failed to ensure load balancer: {reason}"
            self._event(service, "Warning", "SyncLoadBalancerFailed", message)
        except client.ApiException as error:
            if error.status not in (404, 409):  # gone or changed meanwhile: the watch tells us more
                raise

    def _ensure(self, service: client.V1Service, *, announce: bool) -> None:
        current = [entry.ip for entry in service.status.load_balancer.ingress or []]
        if announce:
            self._event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        self._check(service)
        address = self.addresses.get(service.metadata.uid) or self._free_address()
        self.addresses[service.metadata.uid] = address
        annotations = service.metadata.annotations or {}
        if announce or f"{PREFIX}id" not in annotations:
            name = annotations.get(f"{PREFIX}name", f"k8s-{service.metadata.uid}")
            identity = str(uuid.uuid5(uuid.UUID(service.metadata.uid), "nlb"))
            finalizers = [*(service.metadata.finalizers or []), *([FINALIZER] if announce else [])]
            metadata = {"finalizers": finalizers, "annotations": {f"{PREFIX}id": identity, f"{PREFIX}name": name}}
            self._patch(service, {"metadata": metadata})
        if current != [address]:
            status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
            self.core.patch_namespaced_service_status(service.metadata.name, service.metadata.namespace, status)
            self._event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")

    def _check(self, service: client.V1Service) -> None:
        if len(service.spec.ports) > MAX_PORTS:
            raise Refused(f"a Network Load Balancer has at most {MAX_PORTS} services, {len(service.spec.ports)} ports given")
        annotations = service.metadata.annotations or {}
        chosen = {f"{PREFIX}service-instancepool-id", f"{PREFIX}service-sks-nodepool-name"} & set(annotations)
        clusters = [entry for entry in cloud_state.load(self.cloud).clusters if entry.id == self.cluster.id]
        if not chosen and any(len(entry.nodepools) > 1 for entry in clusters):
            raise Refused("multiple Instance Pools detected across cluster Nodes, an Instance Pool ID must be specified")

    def _release(self, service: client.V1Service) -> None:
        self._event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        self.addresses.pop(service.metadata.uid, None)
        if not service.metadata.deletion_timestamp:  # no longer of type LoadBalancer
            empty = {"status": {"loadBalancer": {"ingress": None}}}
            self.core.patch_namespaced_service_status(service.metadata.name, service.metadata.namespace, empty)
        self._event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")
        left = [name for name in service.metadata.finalizers if name != FINALIZER]
        self._patch(service, {"metadata": {"finalizers": left or None}})

    def _free_address(self) -> str:
        for address in self.cluster.load_balancers.hosts():
            if str(address) not in self.addresses.values():
                return str(address)
        raise Refused("quota exceeded: no address is left")

    def _patch(self, service: client.V1Service, body: dict[str, object]) -> None:
        self.core.patch_namespaced_service(service.metadata.name, service.metadata.namespace, body)

    def _event(self, service: client.V1Service, kind: str, reason: str, message: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        log.info("%s: %s/%s: %s: %s", self.cluster.name, service.metadata.namespace, service.metadata.name, reason, message)
        self.core.create_namespaced_event(
            service.metadata.namespace,
            client.CoreV1Event(
                metadata=client.V1ObjectMeta(generate_name=f"{service.metadata.name}."),
                involved_object=client.V1ObjectReference(
                    api_version="v1",
                    kind="Service",
                    name=service.metadata.name,
                    namespace=service.metadata.namespace,
                    uid=service.metadata.uid,
                    resource_version=service.metadata.resource_version,
                ),
                type=kind,
                reason=reason,
                message=message,
                source=client.V1EventSource(component=COMPONENT),
                first_timestamp=now,
                last_timestamp=now,
                count=1,
            ),
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
    controllers = [ServiceController(cluster, record.lab.cloud) for cluster in record.members[: options.clusters]]
    threads = [threading.Thread(target=controller.run, name=controller.cluster.name) for controller in controllers]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
