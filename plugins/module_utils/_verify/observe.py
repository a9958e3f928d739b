# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the state of the clusters of a mesh, without changing or judging it (private)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from .._base.documents import MALFORMED, load_json
from .._base.errors import ExomeshError
from .._base.members import Member
from .._base.text import is_plain_url, is_token
from .._base.waiting import as_far_as_time_goes, concurrently, pause
from .._istio.names import ISTIO_NAMESPACE, VERIFY_NAMESPACE
from .._istio.record import RECORD_REF, Record, require_cluster, require_identity
from .._istio.services import may_merge, mesh_config_in
from .._kubernetes.api import ApiError, Object
from .._kubernetes.cilium import CILIUM_REF
from .._kubernetes.client import KubernetesClient, labels_of
from .._kubernetes.kubeconfig import KubeconfigError
from .._kubernetes.readiness import pod_unmet
from .._peering.remote_secrets import CLUSTER_ANNOTATION, MULTI_CLUSTER_LABEL, parse_secret
from .._trust.inventory import WORKLOAD, Seen, look_at_cluster
from .proxies import look_at_proxies
from .state import (
    CILIUM,
    DENIALS,
    GIVEN_ADDRESSES,
    INJECTION,
    POLICIES,
    ROLLOUTS,
    Access,
    ClusterState,
    Istiod,
    PairState,
    RemoteSecret,
    annotations_of,
    exposed_by,
)
from .unready import ask_why_unready

_ISTIOD_DEBUG_PORT = 15014
_ANSWER_SECONDS = 10.0
_AGAIN_SECONDS = 1.0
"""Seconds after which a pod that did not answer is asked once more. It may just have been replaced."""

RIGHTS = {
    "list namespaces": ("", "namespaces"),
    "list nodes": ("", "nodes"),
    "list pods": ("", "pods"),
    "list services": ("", "services"),
    "list endpointslices": ("discovery.k8s.io", "endpointslices"),
    "list secrets": ("", "secrets"),
}
"""The rights of a reader account that are checked, each with its API group and resource."""

_READ_SECRETS = "list secrets"


def reach_cluster(member: Member) -> ClusterState:
    """Return the state of one cluster, with only its remote secrets read."""
    state = ClusterState(member)
    try:
        client = KubernetesClient(member.kubeconfig, name=member.name)
        require_cluster(client, member.name, member.mesh)
        _read_secrets(state, client)
    except ExomeshError as error:
        state.error = str(error)
    else:
        state.client = client
    return state


def observe_cluster(member: Member, policies: bool = False) -> ClusterState:
    """Return the state of one cluster, with everything read that can be read.

    :param policies: also read what istiod applies to the whole mesh.
    """
    state = ClusterState(member)
    try:
        client = KubernetesClient(member.kubeconfig, name=member.name)
        state.kubernetes_version = client.version()
        state.clock_skew = client.clock_skew
        state.server = member.server or client.server
        concurrently(lambda read: read(state, client), _READERS)
        of_pods = [partial(read_certificates, state, client)]
        of_pods += [partial(ask_istiod, client, istiod) for istiod in state.istiods]
        of_pods.append(partial(ask_why_unready, state, client))
        of_pods += [partial(read_policies, state, client)] if policies else []
        concurrently(lambda read: read(), of_pods)
        if not state.gateway_addresses:
            for service in state.gateway_services:
                name = service["metadata"]["name"]
                state.gateway_events += client.events("Service", ISTIO_NAMESPACE, name, 2)
    except ExomeshError as error:
        state.error = str(error)
    else:
        state.client = client
    return state


def ask_istiod(client: KubernetesClient, istiod: Istiod) -> None:
    """Ask a replica of istiod which clusters and gateways it knows."""
    if istiod.unmet and "Ready" not in istiod.unmet:
        return
    istiod.silent, istiod.answered = None, False

    pages = ("/debug/clusterz", "/debug/networkz")
    try:
        clusters, gateways = (
            load_json(text, f"What istiod {istiod.name} tells") or []
            for text in client.get_all_from_pod(
                ISTIO_NAMESPACE, istiod.name, _ISTIOD_DEBUG_PORT, pages, _ANSWER_SECONDS
            )
        )
        istiod.synced = {entry["id"]: entry["syncStatus"] for entry in clusters}
        istiod.gateways = [(entry["Network"], entry["Addr"], entry["Port"]) for entry in gateways]
        istiod.answered = True
    except (ExomeshError, *MALFORMED) as error:
        istiod.silent = str(error)


def read_policies(state: ClusterState, client: KubernetesClient) -> None:
    """Ask an istiod for its configuration of the root namespace, which applies to every workload."""
    ready = next((istiod.name for istiod in state.istiods if istiod.unmet is None), None)
    if ready is None:
        return
    with suppress(ExomeshError, *MALFORMED):
        text = client.get_from_pod(
            ISTIO_NAMESPACE, ready, _ISTIOD_DEBUG_PORT, "/debug/configz", _ANSWER_SECONDS
        )
        found = [
            [entry["kind"], entry["metadata"]["name"], entry.get("spec")]
            for entry in load_json(text, f"What istiod {ready} tells") or []
            if entry["metadata"].get("namespace") == ISTIO_NAMESPACE
        ]
        state.policies = sorted(found, key=lambda entry: (entry[0], entry[1]))


def observe_credentials(pair: PairState, source: ClusterState, destination: ClusterState) -> None:
    """Ask the destination's API whose token is in the source's remote secret, and what its account may do."""
    access = access_to(source, destination.name)
    client = destination.client
    if access is None or client is None:
        return
    try:
        try:
            known = _ask_account(pair, client.with_token(access.token), account_of(access.token))
        except ApiError as error:
            if error.status == 401:
                pair.user = ""
                return
            known = False
        if not known:
            _ask_for_account(pair, client, access.token)
    except ExomeshError as error:
        pair.untold = str(error)


def account_of(token: str) -> str:
    """Return the account that a token names, or an empty string if it names none.

    Only trust it after an API has accepted the token.
    """
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    with suppress(*MALFORMED):
        claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return str(load_json(claims, "The payload of a token")["sub"])
    return ""


def _ask_account(pair: PairState, reader: KubernetesClient, account: str) -> bool:
    """Ask for all rights of the account at once, as the account itself.

    Return False if the API does not know them all, or the account has no name.

    :raises ApiError: the API rejects the token (401), or does not let the account ask.
    """

    def rules(namespace: str) -> tuple[list[Object], bool]:
        answer = reader.create(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectRulesReview",
                "metadata": {"name": ""},
                "spec": {"namespace": namespace},
            }
        )["status"]
        return answer.get("resourceRules") or [], not answer.get("incomplete")

    # Nobody gets rights in this namespace alone. A right in this namespace holds in the whole cluster.
    everywhere, complete = rules(VERIFY_NAMESPACE)
    if not (complete and account):
        return False
    pair.rights = {right: _allowed(everywhere, right) for right in RIGHTS}
    if not pair.rights[_READ_SECRETS]:
        pair.rights[_READ_SECRETS] = _allowed(rules(ISTIO_NAMESPACE)[0], _READ_SECRETS)
    pair.user = account
    return True


def _allowed(rules: Iterable[Object], right: str) -> bool:
    group, resource = RIGHTS[right]
    return any(
        {"list", "*"} & set(rule["verbs"])
        and {group, "*"} & set(rule.get("apiGroups") or [])
        and {resource, "*"} & set(rule.get("resources") or [])
        and not rule.get("resourceNames")
        for rule in rules
    )


def _ask_for_account(pair: PairState, client: KubernetesClient, token: str) -> None:
    """Ask, as an administrator, whose token it is, and which of the rights its account has."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {"name": ""}}
    status = client.create({**review, "spec": {"token": token}}).get("status", {})
    user = status.get("user") or {}
    pair.user = user.get("username", "") if status.get("authenticated") else ""
    if pair.user:
        pair.rights = dict(
            zip(RIGHTS, concurrently(lambda right: _may(client, user, right), RIGHTS), strict=True)
        )


def access_to(source: ClusterState, destination: str) -> Access | None:
    """Return the access to the destination in the source's remote secret, or None."""
    return next((secret.access for secret in source.secrets if destination in secret.keys), None)


def _may(client: KubernetesClient, user: Mapping[str, Any], right: str) -> bool:
    group, resource = RIGHTS[right]
    attributes = {"verb": "list", "group": group, "resource": resource}
    if resource == "secrets":
        # Secrets are most sensitive in this namespace. A right for all namespaces holds here, too.
        attributes["namespace"] = ISTIO_NAMESPACE
    answer = client.create(
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {"name": ""},
            "spec": {
                "user": user["username"],
                "groups": user.get("groups") or [],
                "resourceAttributes": attributes,
            },
        }
    )
    return bool(answer["status"].get("allowed"))


# Readers: each fills in a part of the state


def _lists(
    attribute: str, api_version: str, kind: str, namespace: str | None = None
) -> Callable[[ClusterState, KubernetesClient], None]:
    def read(state: ClusterState, client: KubernetesClient) -> None:
        setattr(state, attribute, client.list_objects(api_version, kind, namespace))

    return read


def _read_pods(state: ClusterState, client: KubernetesClient) -> None:
    state.pods = client.list_objects("v1", "Pod")
    state.istiods = [
        Istiod(pod["metadata"]["name"], _version_of(pod), pod_unmet(pod)) for pod in state.istiod_pods
    ]


def _read_secrets(state: ClusterState, client: KubernetesClient) -> None:
    found = client.list_objects("v1", "Secret", ISTIO_NAMESPACE, labels=f"{MULTI_CLUSTER_LABEL}=true")
    state.secrets = [remote_secret(secret) for secret in found]


def _read_mesh_config(state: ClusterState, client: KubernetesClient) -> None:
    maps = client.list_objects("v1", "ConfigMap", ISTIO_NAMESPACE)
    by_name = {entry["metadata"]["name"]: entry.get("data") or {} for entry in maps}
    state.settings = {name: data for name, data in by_name.items() if name != RECORD_REF.name}
    if data := by_name.get(RECORD_REF.name):
        state.record = Record.parse({"data": data}, client.name)
        require_identity(state.record, client.name, state.member.mesh)
    state.api_ca = by_name.get("kube-root-ca.crt", {}).get("ca.crt", "")
    try:
        state.mesh_config = mesh_config_in(by_name)
    except MALFORMED as error:  # istiod keeps the configuration that it read before
        state.untold["mesh configuration"] = [f"the mesh configuration in a ConfigMap istio: {error}"]


def _read_services(state: ClusterState, client: KubernetesClient) -> None:
    state.services = client.list_objects("v1", "Service")
    if any(may_merge(service) and not service["spec"].get("selector") for service in state.services):
        _if_allowed(GIVEN_ADDRESSES, _read_slices, "given_addresses")(state, client)


def _read_slices(state: ClusterState, client: KubernetesClient) -> None:
    slices = client.list_objects("discovery.k8s.io/v1", "EndpointSlice", labels=_MADE_BY_HAND)
    state.given_addresses = {
        f"{entry['metadata']['namespace']}/{labels_of(entry).get('kubernetes.io/service-name')}"
        for entry in slices
        if entry.get("endpoints")
    }


_MADE_BY_HAND = "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io"


def _read_gateways(state: ClusterState, client: KubernetesClient) -> None:
    found = client.list_objects("networking.istio.io/v1", "Gateway")
    # A Gateway of another namespace is applied to these pods, too.
    state.gateways += [gateway for gateway in found if _is_here(gateway) or exposed_by(gateway)]
    state.gateways += client.list_objects("gateway.networking.k8s.io/v1", "Gateway", ISTIO_NAMESPACE)


def _is_here(obj: Object) -> bool:
    return bool(obj["metadata"]["namespace"] == ISTIO_NAMESPACE)


def _if_allowed(
    part: str, read: Callable[[ClusterState, KubernetesClient], None], attribute: str | None = None
) -> Callable[[ClusterState, KubernetesClient], None]:
    """Return a reader whose refusal leaves only its own part untold.

    :param attribute: what of the state is None then.
    """

    def reader(state: ClusterState, client: KubernetesClient) -> None:
        try:
            read(state, client)
        except ApiError as error:
            if error.status != 403:
                raise
            state.untold[part] = [f"{part}: {error}"]
            if attribute:
                setattr(state, attribute, None)

    return reader


def _list_if_allowed(
    part: str, attribute: str, api_version: str, kind: str, namespace: str | None = None
) -> Callable[[ClusterState, KubernetesClient], None]:
    return _if_allowed(part, _lists(attribute, api_version, kind, namespace), attribute)


def _read_injectors(state: ClusterState, client: KubernetesClient) -> None:
    found = client.list_objects("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None)
    state.injectors = [
        webhook
        for configuration in found
        for webhook in configuration.get("webhooks") or []
        if webhook["name"].endswith(_INJECTOR)
    ]


def _read_cilium(state: ClusterState, client: KubernetesClient) -> None:
    state.cilium = client.get(CILIUM_REF)


def _read_foreign_policies(state: ClusterState, client: KubernetesClient) -> None:
    for api_version, kind in _FOREIGN_POLICIES:
        try:
            if number := len(client.list_objects(api_version, kind)):
                state.foreign_policies[f"{kind}.{api_version.partition('/')[0]}"] = number
        except ApiError as error:
            if error.status != 403:
                raise
            state.untold[POLICIES] = [f"{POLICIES}: {error}"]


_INJECTOR = "sidecar-injector.istio.io"
"""End of the names of all webhooks of Istio that give pods a sidecar."""

_FOREIGN_POLICIES = (
    ("cilium.io/v2", "CiliumNetworkPolicy"),
    ("cilium.io/v2", "CiliumClusterwideNetworkPolicy"),
    ("crd.projectcalico.org/v1", "NetworkPolicy"),
    ("crd.projectcalico.org/v1", "GlobalNetworkPolicy"),
)
"""Kinds of policies for networks that are not judged here."""

_READERS: tuple[Callable[[ClusterState, KubernetesClient], None], ...] = (
    _read_pods,
    _read_secrets,
    _read_mesh_config,
    _lists("namespaces", "v1", "Namespace"),
    _read_services,
    _read_gateways,
    _list_if_allowed("routes of Services", "virtual_services", "networking.istio.io/v1", "VirtualService"),
    _lists("destination_rules", "networking.istio.io/v1", "DestinationRule"),
    _list_if_allowed("hosts of ServiceEntries", "service_entries", "networking.istio.io/v1", "ServiceEntry"),
    _lists("peer_authentications", "security.istio.io/v1", "PeerAuthentication"),
    _list_if_allowed(DENIALS, "authorization_policies", "security.istio.io/v1", "AuthorizationPolicy"),
    _list_if_allowed(ROLLOUTS, "deployments", "apps/v1", "Deployment", ISTIO_NAMESPACE),
    _lists("network_policies", "networking.k8s.io/v1", "NetworkPolicy"),
    _read_foreign_policies,
    _if_allowed(INJECTION, _read_injectors),
    _if_allowed(CILIUM, _read_cilium),
)


def read_certificates(state: ClusterState, client: KubernetesClient) -> None:
    """Read the certificates that a cluster has and serves; once more if something did not answer."""
    _read_certificates(state, client)
    if any(state.untold.get(part) for part in ("certificates", "proxies")):
        with as_far_as_time_goes():
            pause(_AGAIN_SECONDS)
            _read_certificates(state, client)


def _read_certificates(state: ClusterState, client: KubernetesClient) -> None:
    try:
        found = look_at_cluster(client)
        state.certificates, state.running_roots = found.seen, found.running_roots
        state.rotation = found.rotation
        state.untold["certificates"] = found.unread
    except ExomeshError as error:
        if error.code not in ("cacerts_partial", "certificate_unreadable"):
            raise
        state.certificates_problem = str(error)
    look_at_proxies(state, client)
    known = {seen.where for seen in state.certificates}
    state.certificates += [
        Seen(state.name, WORKLOAD, f"pod {proxy.pod}", proxy.chain[0])
        for proxy in state.proxies
        if proxy.chain and f"pod {proxy.pod}" not in known
    ]


def remote_secret(secret: Object) -> RemoteSecret:
    """Return a Secret, parsed as a remote secret."""
    data = secret.get("data") or {}
    keys = tuple(sorted(data))
    return RemoteSecret(
        secret["metadata"]["name"],
        keys,
        annotations_of(secret).get(CLUSTER_ANNOTATION),
        _access(data[keys[0]]) if keys else None,
    )


def _access(content: str) -> Access | None:
    try:
        entry = parse_secret(content).entry()
        ca, server, token = entry.certificate_authority, entry.server, entry.user["token"]
        # Both the server and the token become part of requests.
        if not (ca and is_plain_url(server, ("https", "http")) and is_token(token)):
            return None
        return Access(server, ca.decode(), token)
    except (KubeconfigError, *MALFORMED):
        return None


def _version_of(istiod: Object) -> str | None:
    """Return the version in the tag of istiod's image, or the label of its chart; None without any.

    An image with a digest may have no tag.
    """
    images = [str(container.get("image", "")) for container in istiod["spec"]["containers"]]
    label = f":{labels_of(istiod).get('app.kubernetes.io/version', '')}"
    found = (re.search(r":(\d+\.\d+\.\d+[^@/]*)", told) for told in [*images, label])
    return next((match[1] for match in found if match), None)
