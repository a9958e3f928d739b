"""The lab's cloud controller.

Gives every Service of type LoadBalancer an IPv4 address, and takes it back.

It behaves as Exoscale's does where a user can see it: one network load balancer a Service, IPv4 only, at
most 10 ports, a refusal where a cluster has several node pools and the Service does not say which, Events,
and the finalizer that keeps a Service until its load balancer is gone. It runs outside the clusters, with
an account of its own in each.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, watch

from exolab import cloud_state
from exolab.layout import Cluster, Record

COMPONENT = "service-controller"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
PREFIX = "service.beta.kubernetes.io/exoscale-loadbalancer-"
MAX_PORTS = 10
RETRY_SECONDS = 1.0
RESYNC_SECONDS = 300

log = logging.getLogger("cloud-controller")


Service = dict[str, Any]


class RefusedError(Exception):
    """Why a Service gets no load balancer, in the words of the real controller."""


class ServiceController:
    """Watches the Services of one cluster, which it handles as the API gives them: JSON objects."""

    def __init__(self, cluster: Cluster, cloud: Path) -> None:
        self.cluster = cluster
        self.cloud = cloud
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
        self.addresses = {
            service["metadata"]["uid"]: addresses[0]
            for service in listing["items"]
            if (addresses := _addresses(service))
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
        uid, annotations = metadata["uid"], metadata.get("annotations", {})
        if announce:
            self._event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        self._check(service)
        address = self.addresses.get(uid) or self._free_address()
        self.addresses[uid] = address
        if announce:
            name = annotations.get(f"{PREFIX}name", f"k8s-{uid}")
            identity = str(uuid.uuid5(uuid.UUID(uid), "nlb"))
            finalizers = {*metadata.get("finalizers", []), FINALIZER}
            made = {f"{PREFIX}id": identity, f"{PREFIX}name": name}
            # The watch brings the Service back as changed, and then it is given its address.
            self._patch(service, {"finalizers": sorted(finalizers), "annotations": made})
        elif _addresses(service) != [address]:
            self._patch_status(service, [{"ip": address}])
            self._event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")

    def _check(self, service: Service) -> None:
        ports = len(service["spec"].get("ports", []))
        if ports > MAX_PORTS:
            raise RefusedError(
                f"a Network Load Balancer has at most {MAX_PORTS} services, {ports} ports given"
            )
        chosen = {f"{PREFIX}service-instancepool-id", f"{PREFIX}service-sks-nodepool-name"}
        if chosen & set(service["metadata"].get("annotations", {})):
            return
        clusters = [entry for entry in cloud_state.load(self.cloud).clusters if entry.id == self.cluster.id]
        if any(len(entry.nodepools) > 1 for entry in clusters):
            raise RefusedError(
                "multiple Instance Pools detected across cluster Nodes, an Instance Pool ID must be specified"
            )

    def _release(self, service: Service) -> None:
        metadata = service["metadata"]
        self._event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        self.addresses.pop(metadata["uid"], None)
        if "deletionTimestamp" not in metadata:  # no longer of type LoadBalancer
            self._patch_status(service, None)
        self._event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")
        left = [name for name in metadata["finalizers"] if name != FINALIZER]
        self._patch(service, {"finalizers": left or None})

    def _free_address(self) -> str:
        for address in self.cluster.load_balancers.hosts():
            if str(address) not in self.addresses.values():
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
        self.core.create_namespaced_event(where["namespace"], event)


def _addresses(service: Service) -> list[str]:
    return [entry["ip"] for entry in service["status"]["loadBalancer"].get("ingress", [])]


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
    controllers = [
        ServiceController(cluster, record.lab.cloud) for cluster in record.members[: options.clusters]
    ]
    threads = [
        threading.Thread(target=controller.run, name=controller.cluster.name) for controller in controllers
    ]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
