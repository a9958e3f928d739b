# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks before an installation: what would make it fail, or break what runs (private to the collection).

They read one cluster. A short-lived pod in the cluster asks whether the peers answer. Every check returns an
outcome. The caller decides what follows from it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from .._base.check import ERROR, NOTE, OK, WARNING, Check
from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.waiting import concurrently
from .._istio.names import ISTIO_NAMESPACE, NETWORK_LABEL
from .._istio.ownership import revision_of
from .._istio.probe import Answer, probe
from .._istio.registries import REPLACEMENT_HUB, retired
from .._istio.releases import Release, kubernetes_window, unsupported
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import KubernetesClient
from .._kubernetes.fitness import check_clock, check_version
from .._peering.remote_secrets import MULTI_CLUSTER_LABEL, SECRET_PREFIX
from .capacity import Amount, Pod, has_ended, unplaced, usable_nodes
from .extensions import api_checks
from .installed import (
    deactivated,
    identity_of,
    images_of,
    is_of_deployment,
    is_of_istio,
    name_of,
    version_of,
    why_fixed,
)
from .mesh_config import overlay_checks
from .owners import Owners
from .targets import PeerTarget, targets_of, unconnected
from .wanted import Wanted

NODE_POOL_LABEL = "node.exoscale.net/nodepool-id"
ANNOTATION_PREFIX = "service.beta.kubernetes.io/exoscale-loadbalancer-"
POOL_ANNOTATIONS = (
    f"{ANNOTATION_PREFIX}service-instancepool-id",
    f"{ANNOTATION_PREFIX}service-sks-nodepool-name",
)


@dataclass
class _Seen:
    """The data that was read from the cluster."""

    kubernetes: str
    nodes: list[Object]
    pods: list[Object]
    istiods: list[Object]
    namespaces: list[Object]
    webhooks: list[Object]
    remote_secrets: set[str]
    gateways: list[Object]

    @property
    def namespace(self) -> Object | None:
        """Return Istio's namespace."""
        return next((each for each in self.namespaces if each["metadata"]["name"] == ISTIO_NAMESPACE), None)


class Preflight:
    """The preflight of one cluster."""

    def __init__(self, client: KubernetesClient, wanted: Wanted, members: Sequence[Member]) -> None:
        self._client = client
        self._wanted = wanted
        self._members = members
        self._release = Release.parse(wanted.version)
        self._seen = self._look()
        self.reached: list[str] = []
        """Hashes (:func:`probe.api_hash`) of the APIs that answered a pod of this cluster."""

    @property
    def is_new(self) -> bool:
        """Return whether there is no istiod yet."""
        return not self._seen.istiods

    def checks(self) -> list[Check]:
        """Return all checks that need only reading."""
        return [self._judged(check) for check in self._all_checks()]

    def unproven_peers(self) -> list[Member]:
        """Return the peers that this cluster was never shown to reach.

        Before there is an istiod, these are all peers. Later, these are the peers without a remote secret.
        """
        me = next((member for member in self._members if member.name == self._wanted.cluster), None)
        names = set(me.peers) if me else set()
        if self._seen.istiods:
            names -= self._seen.remote_secrets
        return [member for member in self._members if member.name in names]

    def probe(self, image: str, timeout: float) -> list[Check]:
        """Check from inside the cluster whether the unproven peers answer."""
        found = concurrently(targets_of, self.unproven_peers())
        checks = [check for _targets, unknown in found for check in unknown]
        targets = [target for known, _unknown in found for target in known]
        if targets:
            try:
                istiod = next(iter(self._wanted.workloads), None)
                tolerations = istiod.tolerations if istiod else ()
                answers = probe(self._client, targets, image, timeout, tolerations)
                found_out = [
                    self._reached(target, answer) for target, answer in zip(targets, answers, strict=True)
                ]
                self.reached = [
                    target.api
                    for target, check in zip(targets, found_out, strict=True)
                    if target.api and check.outcome == OK
                ]
                checks += found_out
            except ExomeshError as error:
                checks.append(
                    Check(
                        "probe",
                        WARNING,
                        "No pod in the cluster could be asked whether it reaches its peers",
                        [error.message],
                        error.cause or "",
                        error.next_step or "",
                    )
                )
        return [self._judged(check) for check in checks]

    def _judged(self, check: Check) -> Check:
        if check.outcome == ERROR and check.acceptable and check.code in self._wanted.accepted:
            return replace(check, outcome=WARNING)
        return check

    def _look(self) -> _Seen:
        client = self._client
        registration = "admissionregistration.k8s.io/v1"
        kubernetes = client.version()
        kinds: list[tuple[str, str, str | None, str | None]] = [
            ("v1", "Namespace", None, None),
            ("v1", "Node", None, None),
            ("v1", "Pod", None, None),
            ("apps/v1", "Deployment", None, "app=istiod"),
            (registration, "MutatingWebhookConfiguration", None, None),
            (registration, "ValidatingWebhookConfiguration", None, None),
            ("v1", "Secret", ISTIO_NAMESPACE, f"{MULTI_CLUSTER_LABEL}=true"),
            ("v1", "Service", ISTIO_NAMESPACE, f"{NETWORK_LABEL}={self._wanted.network}"),
        ]
        namespaces, nodes, pods, istiods, mutating, validating, secrets, gateways = concurrently(
            lambda arguments: client.list_objects(*arguments), kinds
        )
        names = {secret["metadata"]["name"].removeprefix(SECRET_PREFIX) for secret in secrets}
        return _Seen(kubernetes, nodes, pods, istiods, namespaces, mutating + validating, names, gateways)

    def _all_checks(self) -> Iterator[Check]:
        yield check_version(self._seen.kubernetes, kubernetes_window(self._release))
        yield from self._support()
        yield from self._installed()
        yield self._trust_domains()
        yield from self._network_label()
        yield self._webhooks()
        yield self._capacity()
        yield self._node_pools()
        yield self._registries()
        yield from overlay_checks(self._wanted, self._seen.namespaces)
        yield from api_checks(self._client, self._wanted)
        yield check_clock(self._client.clock_skew, self._wanted.max_clock_skew)

    def _support(self) -> Iterator[Check]:
        if reason := unsupported(self._release, datetime.now(UTC).date()):
            yield Check(
                "istio-support",
                WARNING,
                f"Istio {self._wanted.version} gets no more fixes: {reason}",
                next_step="Set mesh_istio_version to a release that is supported",
            )

    # The existing Istio

    def _installed(self) -> Iterator[Check]:
        owners = Owners(self._client, self._wanted, self._seen.namespace, self._seen.istiods)
        yield from owners.gateway()
        if not self._seen.istiods:
            yield Check("istio-owner", OK, "There is no Istio yet")
        for istiod in self._seen.istiods:
            yield owners.istiod(istiod)
            yield self._version(istiod)
            yield from self._identity(istiod)

    def _version(self, istiod: Object) -> Check:
        installed, wanted = version_of(istiod), self._wanted.version
        where = f"Deployment {name_of(istiod)}"
        if installed == wanted or revision_of(istiod) != (self._wanted.revision or "default"):
            return Check("istio-version", OK, f"{where} is of Istio {installed}")
        try:
            old = Release.parse(installed)
        except ExomeshError:
            return Check("istio-version", NOTE, f"{where} is of Istio {installed}; it will be {wanted}")
        if old > self._release:
            return Check(
                "istio-version",
                ERROR,
                f"{where} is of Istio {installed}, newer than the wanted {wanted}",
                cause="An older istiod does not know what a newer one has written",
                next_step=f"Set mesh_istio_version to {installed} or newer",
            )
        if old.line[0] != self._release.line[0] or self._release.minor - old.minor > 1:
            return Check(
                "istio-version",
                ERROR,
                f"{where} is of Istio {installed}; {wanted} is more than one minor release ahead",
                cause="Istio is upgraded in place by one minor release at a time",
                next_step=f"Set mesh_istio_version to the newest {old.major}.{old.minor + 1} first",
            )
        return Check(
            "istio-version",
            WARNING,
            f"{where} is of Istio {installed}, and will be upgraded in place to {wanted}",
            next_step="Restart the workloads afterwards: their sidecars stay of the old release until then",
        )

    def _identity(self, istiod: Object) -> Iterator[Check]:
        wanted = self._wanted
        values = {
            "mesh-id": ("mesh ID", "mesh_id", wanted.mesh_id),
            "cluster-name": ("cluster name", "mesh_cluster_name", wanted.cluster),
            "network": ("network", "mesh_network", wanted.network),
            "trust-domain": ("trust domain", "istio_trust_domain", wanted.trust_domain),
        }
        found = identity_of(self._client, istiod)
        for code, (words, variable, value) in values.items():
            if found.get(code) in (None, value):
                continue
            fixed = why_fixed(self._client, wanted, code)
            yield Check(
                code,
                ERROR,
                f"Deployment {name_of(istiod)} has the {words} {found[code]}, not {value}",
                cause=f"Running proxies have the {words}, too: a change cuts them off until a restart",
                next_step=f"Set {variable} to {found[code]}"
                + (f". {fixed}" if fixed else f", or accept that: preflight_accept: [{code}]"),
                acceptable=not fixed,
            )

    def _trust_domains(self) -> Check:
        wanted = self._wanted
        others = [
            f"{name} has {domain}"
            for name, domain in wanted.trust_domains.items()
            if domain != wanted.trust_domain
        ]
        if not others:
            return Check("trust-domain", OK, f"All members have the trust domain {wanted.trust_domain}")
        return Check(
            "trust-domain",
            ERROR,
            f"The trust domain is {wanted.trust_domain} here, and another one elsewhere in the mesh",
            others,
            "Proxies take the identities of another trust domain for strangers",
            "Set istio_trust_domain to the same for all members",
        )

    def _network_label(self) -> Iterator[Check]:
        if self._seen.namespace is None:
            return
        label = (self._seen.namespace["metadata"].get("labels") or {}).get(NETWORK_LABEL)
        wanted = self._wanted.network
        why = "istiod takes the network of pods and gateways without a label of their own from it"
        if label is None:
            yield Check(
                "network-label",
                WARNING,
                f"Namespace {ISTIO_NAMESPACE} has no label {NETWORK_LABEL}; it will be set to {wanted}",
                cause=why,
            )
        elif label != wanted:
            yield Check(
                "network-label",
                WARNING,
                f"Namespace {ISTIO_NAMESPACE} has {NETWORK_LABEL}={label}; it will be set to {wanted}",
                cause=why,
                next_step=f"Set mesh_network to {label} if that is the cluster's network",
            )
        else:
            yield Check("network-label", OK, f"Namespace {ISTIO_NAMESPACE} has {NETWORK_LABEL}={label}")

    def _webhooks(self) -> Check:
        """Check for webhooks of an Istio that is gone.

        They keep the API from creating pods, or let requests pass unchecked.
        """
        blocking: list[str] = []
        passed_over: list[str] = []
        waiting: list[str] = []
        find = functools.cache(self._client.get)  # many webhooks have the same Service
        for configuration in self._seen.webhooks:
            for webhook in configuration.get("webhooks") or []:
                service = (webhook.get("clientConfig") or {}).get("service")
                if not service or not is_of_istio(configuration, webhook) or deactivated(webhook):
                    continue
                place = (service["namespace"], service["name"])
                if find(ObjectRef("v1", "Service", place[1], place[0])):
                    continue
                where = f"{configuration['kind']} {configuration['metadata']['name']}"
                line = (
                    f"{where}, webhook {webhook['name']}: there is no Service {'/'.join(place)}, "
                    f"failurePolicy {webhook.get('failurePolicy', 'Fail')}"
                )
                if place == (ISTIO_NAMESPACE, self._wanted.istiod):
                    waiting.append(line)
                elif webhook.get("failurePolicy") == "Ignore":
                    passed_over.append(line)
                else:
                    blocking.append(line)
        if blocking:
            return Check(
                "webhook-leftover",
                ERROR,
                "Webhooks of an Istio that is gone are still asked, and nobody answers",
                blocking,
                "With failurePolicy Fail no pod is created in the namespaces that they select",
                "Delete these webhook configurations",
            )
        if passed_over:
            return Check(
                "webhook-leftover",
                WARNING,
                "Webhooks are asked that nobody answers; failurePolicy Ignore lets requests pass",
                passed_over,
                next_step="Delete these webhooks if nothing needs them",
            )
        if waiting:
            return Check(
                "webhook-leftover",
                NOTE,
                "Webhooks wait for an istiod that is gone; the one to be installed will answer them",
                waiting,
            )
        return Check("webhook-leftover", OK, "Every webhook of Istio has its Service")

    # What the cluster has

    def _capacity(self) -> Check:
        nodes = usable_nodes(self._seen.nodes, self._seen.pods)
        to_come = [
            pod for workload in self._wanted.workloads for pod in workload.pods(self._running(workload.name))
        ]
        evidence = [
            f"node {node.name} has {node.free} and {node.pods} pods left"
            for node in nodes
            if any(pod.may_be_on(node) for pod in to_come or [Pod("", Amount())])
        ]
        without = unplaced(nodes, to_come)
        if without:
            return Check(
                "capacity",
                ERROR,
                f"No node has room for {', '.join(without)}",
                evidence
                or ["no node takes them: none is ready, or all are cordoned, tainted or not selected"],
                next_step="Add nodes, take larger ones, or lower the requests (istio_resources)",
            )
        return Check("capacity", OK, f"There is room for {len(to_come)} pods to come", evidence)

    def _running(self, name: str) -> int:
        """Return the number of the Deployment's pods that have a node and have not ended."""
        return sum(
            pod["spec"].get("nodeName") is not None and not has_ended(pod)
            for pod in self._seen.pods
            if pod["metadata"]["namespace"] == ISTIO_NAMESPACE and is_of_deployment(pod, name)
        )

    def _node_pools(self) -> Check:
        pools: dict[str, int] = {}
        for node in self._seen.nodes:
            if pool := (node["metadata"].get("labels") or {}).get(NODE_POOL_LABEL):
                pools[pool] = pools.get(pool, 0) + 1
        evidence = [f"node pool {pool}: {count} nodes" for pool, count in pools.items()]
        chosen = set(self._wanted.annotations).union(
            *(gateway["metadata"].get("annotations") or {} for gateway in self._seen.gateways)
        )
        if len(pools) < 2 or chosen.intersection(POOL_ANNOTATIONS):
            return Check("node-pools", OK, "The gateway's load balancer has one node pool to serve", evidence)
        return Check(
            "node-pools",
            ERROR,
            f"The cluster has {len(pools)} node pools, and none is chosen for the gateway's load balancer",
            evidence,
            "A load balancer of Exoscale serves one node pool; without a choice the gateway gets no address",
            "Name the pool whose nodes are to take the mesh's traffic: gateway_nlb: {node_pool: NAME}",
        )

    def _registries(self) -> Check:
        users: dict[str, list[str]] = {}
        for pod in self._seen.pods:
            if has_ended(pod):
                continue
            for image in sorted(images_of(pod)):
                if retired(image):
                    users.setdefault(image, []).append(name_of(pod))
        if not users:
            return Check("retired-registry", OK, "No pod's image is on a registry that Istio gives up")
        return Check(
            "retired-registry",
            WARNING,
            f"{sum(map(len, users.values()))} containers are of registries that go away in December 2026",
            [f"{image} in {_few(pods)}" for image, pods in sorted(users.items())],
            "These pods cannot be started on another node once the registry is gone",
            f"Take the images from {REPLACEMENT_HUB} or a mirror; sidecars do so at their pods' restart",
        )

    def _reached(self, target: PeerTarget, answer: Answer) -> Check:
        if answer.error is None or (target.ca is None and not unconnected(answer.error)):
            return Check(
                target.code,
                OK,
                f"{target.what} answers pods of this cluster in {answer.seconds:.2f} s",
                [target.url],
            )
        return Check(
            target.code,
            target.severity,
            f"Pods of this cluster do not reach {target.what}",
            [f"{target.url}: {answer.error}"],
            target.cause,
            target.next_step,
        )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
