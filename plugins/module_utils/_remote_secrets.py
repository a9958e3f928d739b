# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remote secrets: how istiod of one cluster gets to the APIs of the others (private to the collection).

Names, labels, keys and content are those of ``istioctl create-remote-secret``, so either can take over from
the other. Tokens stay in here: what leaves are hashes.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

from ansible_collections.exomesh.istio.plugins.module_utils._errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import (
    ISTIO_NAMESPACE,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ApiError,
    KubernetesClient,
    Object,
    ObjectRef,
    concurrently,
)
from ansible_collections.exomesh.istio.plugins.module_utils._objects import (
    CREATE,
    DELETE,
    UNCHANGED,
    UPDATE,
    Fields,
    ObjectChange,
    hash_of,
)

with suppress(ImportError):  # whoever connects to a cluster is told that it is missing
    import yaml

MULTI_CLUSTER_LABEL = "istio/multiCluster"
CLUSTER_ANNOTATION = "networking.istio.io/cluster"
READER_ACCOUNT = "istio-reader-service-account"
TOKEN_SECRET = f"{READER_ACCOUNT}-istio-remote-secret-token"
SECRET_PREFIX = "istio-remote-secret-"  # noqa: S105 - a name

_UNKNOWN = "known once the peer has made its token"


@dataclass(frozen=True)
class Peer:
    """A cluster that is to be reached.

    :param server: address of its API as the other clusters reach it; the one of its kubeconfig when None.
    """

    name: str
    kubeconfig: str
    server: str | None = None


@dataclass(frozen=True)
class _Access:
    """What a remote secret holds; ``ca`` (base64) and ``token`` are None until the peer has made them."""

    cluster: str
    server: str
    tls_server_name: str | None
    ca: str | None
    token: str | None

    def kubeconfig(self) -> dict[str, Any]:
        """The document in the form that istiod accepts: one cluster, one user with a token."""
        name = self.cluster
        cluster = {"certificate-authority-data": self.ca, "server": self.server}
        if self.tls_server_name:
            cluster["tls-server-name"] = self.tls_server_name
        return {
            "apiVersion": "v1",
            "clusters": [{"cluster": cluster, "name": name}],
            "contexts": [{"context": {"cluster": name, "user": name}, "name": name}],
            "current-context": name,
            "kind": "Config",
            "users": [{"name": name, "user": {"token": self.token}}],
        }

    def secret(self) -> Object:
        content = base64.b64encode(yaml.safe_dump(self.kubeconfig()).encode()).decode()
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": SECRET_PREFIX + self.cluster,
                "namespace": ISTIO_NAMESPACE,
                "labels": {MULTI_CLUSTER_LABEL: "true", MANAGED_BY_LABEL: MANAGED_BY},
                "annotations": {CLUSTER_ANNOTATION: self.cluster},
            },
            "type": "Opaque",
            "data": {self.cluster: content},
        }


def secret_ref(cluster: str) -> ObjectRef:
    """Where a cluster keeps its access to ``cluster``."""
    return ObjectRef("v1", "Secret", SECRET_PREFIX + cluster, ISTIO_NAMESPACE)


def synchronise(
    client: KubernetesClient, peers: Sequence[Peer], timeout: float, prune: bool, check_mode: bool
) -> list[ObjectChange]:
    """Make the remote secrets of one cluster those of its peers.

    :param client: the cluster that gets the secrets.
    :param timeout: seconds that a peer may take to fill in a token.
    :param prune: delete the secrets we once made for clusters that are no peers any more.
    :returns: what changed, or would: secrets of this cluster, and token Secrets made in peers.
    :raises ExomeshError: naming every peer that failed, when all others are done.
    """
    failures: list[ExomeshError] = []

    def one(peer: Peer) -> list[ObjectChange]:
        try:
            return _synchronise_peer(client, peer, timeout, check_mode)
        except ExomeshError as error:
            failures.append(error)
            return []

    changes = [change for found in concurrently(one, peers) for change in found]
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExomeshError(
            f"{len(failures)} of {len(peers)} remote secrets could not be made: "
            + " ".join(map(str, failures)),
            "peers_failed",
            cluster=client.name,
            details={"failures": [error.failure() for error in failures]},
        )
    if prune:
        changes += _prune(client, {peer.name for peer in peers}, check_mode)
    return changes


def _synchronise_peer(
    client: KubernetesClient, peer: Peer, timeout: float, check_mode: bool
) -> list[ObjectChange]:
    if check_mode and not os.path.exists(peer.kubeconfig):
        ref = secret_ref(peer.name)  # the peer's kubeconfig is still to come
        return [ObjectChange(ref, UNCHANGED if client.get(ref) else CREATE, {}, {})]
    peer_client = KubernetesClient(peer.kubeconfig, name=peer.name)
    server = peer.server or peer_client.server
    _refuse_loopback(peer.name, server)
    try:
        ca, token, token_change = _reader_token(peer_client, timeout, check_mode)
    except ExomeshError as error:
        raise error.about(cluster=peer.name) from None
    access = _Access(peer.name, server, peer_client.tls_server_name, ca, token)
    try:
        return [*token_change, _write(client, access, check_mode)]
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None


def _refuse_loopback(peer: str, server: str) -> None:
    host = urlparse(server).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        raise ExomeshError(
            f"Its kubeconfig names the API {server}, which no other cluster can reach",
            "server_is_loopback",
            cluster=peer,
            next_step="Set peering_server for this cluster to the address that its peers reach",
        )


def _reader_token(
    client: KubernetesClient, timeout: float, check_mode: bool
) -> tuple[str | None, str | None, list[ObjectChange]]:
    """CA (base64) and token of the reader account of a peer; made where there is none yet."""
    account = client.get(ObjectRef("v1", "ServiceAccount", READER_ACCOUNT, ISTIO_NAMESPACE))
    ref = ObjectRef("v1", "Secret", TOKEN_SECRET, ISTIO_NAMESPACE)
    secret = _token_secret(client) if account else None
    if account is None and not check_mode:
        raise ExomeshError(
            f"It has no service account {ISTIO_NAMESPACE}/{READER_ACCOUNT}",
            "istio_not_installed",
            cause="Istio is not installed there, or without its reader account",
            next_step="Run the role istio for this cluster first",
        )
    if secret:
        return *_wait_for_token(client, secret, timeout), []
    created = ObjectChange(ref, CREATE, {}, {"cluster": client.name, "serviceAccount": READER_ACCOUNT})
    if check_mode:
        return None, None, [created]
    try:
        secret = client.create(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": TOKEN_SECRET,
                    "namespace": ISTIO_NAMESPACE,
                    "labels": {MANAGED_BY_LABEL: MANAGED_BY},
                    "annotations": {"kubernetes.io/service-account.name": READER_ACCOUNT},
                },
                "type": "kubernetes.io/service-account-token",
            }
        )
    except ApiError as error:
        # Another cluster's run made it a moment ago.
        secret = client.get(ref) if error.reason == "AlreadyExists" else None
        if secret is None:
            raise
        return *_wait_for_token(client, secret, timeout), []
    return *_wait_for_token(client, secret, timeout), [created]


def _token_secret(client: KubernetesClient) -> Object | None:
    """The token Secret of the reader account: by the usual name, else any that refers to the account."""
    by_name = client.get(ObjectRef("v1", "Secret", TOKEN_SECRET, ISTIO_NAMESPACE))
    if by_name:
        return by_name
    tokens = client.list_objects(
        "v1", "Secret", ISTIO_NAMESPACE, fields="type=kubernetes.io/service-account-token"
    )
    for secret in tokens:
        if _annotations(secret).get("kubernetes.io/service-account.name") == READER_ACCOUNT:
            return secret
    return None


def _wait_for_token(client: KubernetesClient, secret: Object, timeout: float) -> tuple[str, str]:
    ref = ObjectRef.of(secret)
    deadline = time.monotonic() + timeout
    while True:
        data = secret.get("data") or {}
        if data.get("token") and data.get("ca.crt"):
            return data["ca.crt"], base64.b64decode(data["token"]).decode()
        if time.monotonic() >= deadline:
            raise ExomeshError(
                f"{ref} has no token after {timeout:.0f} s",
                "no_token",
                cause="the token controller of this cluster has not filled it in",
                next_step=f"Delete that Secret if it does not refer to {READER_ACCOUNT}, then run this again",
            )
        time.sleep(0.2)
        secret = client.get(ref) or secret


def _write(client: KubernetesClient, access: _Access, check_mode: bool) -> ObjectChange:
    """Make the remote secret for one peer; a change made by someone else in between is looked at again."""
    ref = secret_ref(access.cluster)
    after = _fingerprint(access)
    while True:
        live = client.get(ref)
        before = _live_fingerprint(live, access.cluster) if live else {}
        if before == after:
            return ObjectChange(ref, UNCHANGED, {}, {})
        different = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        change = ObjectChange(
            ref,
            UPDATE if live else CREATE,
            {key: before[key] for key in different if key in before},
            {key: after[key] for key in different if key in after},
        )
        if check_mode:
            return change
        try:
            if live is None:
                client.create(access.secret())
            else:
                client.replace(_replacement(live, access.secret()))
        except ApiError as error:
            if error.status != 409:
                raise
        else:
            return change


def _replacement(live: Object, secret: Object) -> Object:
    """Our secret in place of the live one; labels and annotations of others stay, other keys do not."""
    metadata = secret["metadata"]
    merged = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "resourceVersion": live["metadata"]["resourceVersion"],
        "labels": {**(live["metadata"].get("labels") or {}), **metadata["labels"]},
        "annotations": {**_annotations(live), **metadata["annotations"]},
    }
    return {**secret, "metadata": merged, "type": live.get("type", secret["type"])}


def _fingerprint(access: _Access) -> Fields:
    """What counts in a remote secret, with hashes for what is secret; for comparison and diff."""
    return {
        "label": "true",
        "annotation": access.cluster,
        "keys": [access.cluster],
        **_kubeconfig_fingerprint(access.kubeconfig()),
    }


def _live_fingerprint(secret: Object, cluster: str) -> Fields:
    data = secret.get("data") or {}
    fields: Fields = {
        "label": (secret["metadata"].get("labels") or {}).get(MULTI_CLUSTER_LABEL),
        "annotation": _annotations(secret).get(CLUSTER_ANNOTATION),
        "keys": sorted(data),
    }
    try:
        return fields | _kubeconfig_fingerprint(yaml.safe_load(base64.b64decode(data[cluster])))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, yaml.YAMLError):
        return fields | {"kubeconfig": "not one with a certificate and a token"}


def _kubeconfig_fingerprint(document: Any) -> Fields:
    """The kubeconfig with hashes for certificate and token; ``rest`` tells apart whatever else is in it."""
    document = copy.deepcopy(document)
    document.pop("preferences", None)  # an empty map that some versions of istioctl write
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    ca, token = cluster.pop("certificate-authority-data"), user.pop("token")
    return {
        "server": cluster.pop("server"),
        "ca": hash_of(ca) if ca else _UNKNOWN,
        "token": hash_of(token) if token else _UNKNOWN,
        "rest": hash_of(json.dumps(document, sort_keys=True)),
    }


def _prune(client: KubernetesClient, peers: set[str], check_mode: bool) -> list[ObjectChange]:
    selector = f"{MULTI_CLUSTER_LABEL}=true,{MANAGED_BY_LABEL}={MANAGED_BY}"
    found = client.list_objects("v1", "Secret", ISTIO_NAMESPACE, labels=selector)
    wanted = {secret_ref(peer).name for peer in peers}
    surplus = [ObjectRef.of(secret) for secret in found if secret["metadata"]["name"] not in wanted]
    if not check_mode:
        concurrently(client.delete, surplus)
    return [ObjectChange(ref, DELETE, {}, {}) for ref in surplus]


def _annotations(obj: Mapping[str, Any]) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}
