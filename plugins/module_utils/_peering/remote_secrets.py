# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remote secrets: the access of one cluster's istiod to the APIs of the others (private to the collection).

Names, labels, keys and content are those of ``istioctl create-remote-secret``, so either can take over from
the other. Changes show hashes instead of tokens. This module also defines the objects that a peer has for
each of its readers. Module ``reader_access`` creates these objects.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._base.documents import MALFORMED
from .._base.waiting import concurrently
from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient
from .._kubernetes.kubeconfig import Kubeconfig, KubeconfigError
from .._kubernetes.objects import CREATE, DELETE, UNCHANGED, UPDATE, Fields, ObjectChange, hash_of, write_anew

with suppress(ImportError):  # require("kubernetes") reports it
    import yaml

MULTI_CLUSTER_LABEL = "istio/multiCluster"
CLUSTER_ANNOTATION = "networking.istio.io/cluster"
ACCOUNT_ANNOTATION = "kubernetes.io/service-account.name"
TOKEN_TYPE = "kubernetes.io/service-account-token"  # noqa: S105 - a type
READER_LABEL = "exomesh.istio/reader"
SHARED_ACCOUNT = "istio-reader-service-account"
SHARED_TOKEN = f"{SHARED_ACCOUNT}-istio-remote-secret-token"
SECRET_PREFIX = "istio-remote-secret-"  # noqa: S105 - a name

RBAC = "rbac.authorization.k8s.io"
READER_ROLE = "exomesh-reader"
READER_OF_SECRETS_ROLE = f"{READER_ROLE}:secrets"

_UNKNOWN = "known once the peer has made its token"


@dataclass(frozen=True)
class Access:
    """The content of a remote secret. ``ca`` (base64) and ``token`` are None until the peer has made them."""

    cluster: str
    server: str
    tls_server_name: str | None
    ca: str | None
    token: str | None

    def kubeconfig(self) -> dict[str, Any]:
        """Return the kubeconfig in the form that istiod accepts: one cluster, one user with a token."""
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
    """Return the Secret in which a reader keeps its access to ``cluster``."""
    return ObjectRef("v1", "Secret", SECRET_PREFIX + cluster, ISTIO_NAMESPACE)


def reader_account(reader: str) -> str:
    """Return the name of the service account for a reader. The account's bindings have the same name."""
    return f"{READER_ROLE}-{reader}"


def token_ref(reader: str) -> ObjectRef:
    """Return the Secret with the token of the account that a cluster has for one of its readers."""
    return ObjectRef("v1", "Secret", f"{reader_account(reader)}-token", ISTIO_NAMESPACE)


def token_secret(reader: str) -> Object:
    """Return a Secret into which the cluster puts a token of the reader's account."""
    return _token_secret(token_ref(reader).name, reader_account(reader), {READER_LABEL: reader})


def shared_token_secret() -> Object:
    """Return a Secret for a token of the account that all readers share, as ``istioctl`` makes it."""
    return _token_secret(SHARED_TOKEN, SHARED_ACCOUNT, {})


def _token_secret(name: str, account: str, labels: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": ISTIO_NAMESPACE,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, **labels},
            "annotations": {ACCOUNT_ANNOTATION: account},
        },
        "type": TOKEN_TYPE,
    }


def reader_objects(reader: str, secrets: bool = False) -> list[Object]:
    """Return the objects that a cluster has for one of its readers, without the token.

    The roles are the same for all readers. They allow what istiod, istioctl and Kiali watch in a remote
    cluster, and no more.

    :param secrets: also let the reader read all Secrets. istiod insists on that unless it is told otherwise.
    """
    account = reader_account(reader)
    roles = [_role("ClusterRole", READER_ROLE, _CLUSTER_RULES), _role("Role", READER_ROLE, _NAMESPACE_RULES)]
    bindings = [("ClusterRole", account, READER_ROLE), ("Role", account, READER_ROLE)]
    if secrets:
        roles.append(_role("ClusterRole", READER_OF_SECRETS_ROLE, _SECRETS_RULES))
        bindings.append(("ClusterRole", secrets_binding(reader), READER_OF_SECRETS_ROLE))
    own = {MANAGED_BY_LABEL: MANAGED_BY, READER_LABEL: reader}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": ISTIO_NAMESPACE, "labels": own},
        },
        *roles,
        *(_binding(kind, name, role, own, account) for kind, name, role in bindings),
    ]


def secrets_binding(reader: str) -> str:
    """Return the name of the binding that lets a reader read Secrets."""
    return f"{reader_account(reader)}:secrets"


def _role(kind: str, name: str, rules: list[Object]) -> Object:
    labels = {MANAGED_BY_LABEL: MANAGED_BY}
    metadata: Object = {"name": name, "labels": labels, **_namespace(kind)}
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules}


def _binding(kind: str, name: str, role: str, labels: Mapping[str, str], account: str) -> Object:
    metadata: Object = {"name": name, "labels": labels, **_namespace(kind)}
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": ISTIO_NAMESPACE}],
    }


def _namespace(kind: str) -> Object:
    return {"namespace": ISTIO_NAMESPACE} if kind == "Role" else {}


def _read(group: str, *resources: str) -> Object:
    return {"apiGroups": [group], "resources": list(resources), "verbs": ["get", "list", "watch"]}


_CLUSTER_RULES = [
    _read("", "namespaces", "nodes", "pods", "services"),
    _read("discovery.k8s.io", "endpointslices"),
    _read("apiextensions.k8s.io", "customresourcedefinitions"),
    # istiod reads workload entries. istioctl and Kiali use the same accounts, and wait for all kinds.
    *(_read(f"{group}.istio.io", "*") for group in ("extensions", "networking", "security", "telemetry")),
    _read("gateway.networking.k8s.io", "gateways"),
    # For clusters where multi-cluster services (MCS) are switched on.
    _read("multicluster.x-k8s.io", "serviceexports", "serviceimports"),
]
# For the mesh configuration, which has the trust domain.
_NAMESPACE_RULES = [_read("", "configmaps")]
_SECRETS_RULES = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}]


def compare_secret(client: KubernetesClient, access: Access) -> ObjectChange:
    """Return what writing the remote secret would change."""
    return _compare(client.get(secret_ref(access.cluster)), access)


def write_secret(client: KubernetesClient, access: Access) -> ObjectChange:
    """Write the remote secret. If someone else changes it in between, read and compare it again."""
    seen: list[ObjectChange] = []

    def write(live: Object | None) -> Object | None:
        seen.append(_compare(live, access))
        if seen[-1].action == UNCHANGED:
            return None
        if live is None:
            return client.create(access.secret())
        return client.replace(_replacement(live, access.secret()))

    write_anew(client, secret_ref(access.cluster), write)
    return seen[-1]


def holds_token(secret: Object | None, cluster: str, token: str) -> bool:
    """Return whether a remote secret holds this token for the access to ``cluster``."""
    fields = _live_fingerprint(secret, cluster) if secret else {}
    return fields.get("token") == hash_of(token)


def our_secrets(client: KubernetesClient) -> dict[str, ObjectRef]:
    """Return the remote secrets that we made, by the cluster that they give access to."""
    selector = f"{MULTI_CLUSTER_LABEL}=true,{MANAGED_BY_LABEL}={MANAGED_BY}"
    found = client.list_objects("v1", "Secret", ISTIO_NAMESPACE, labels=selector)
    prefix = secret_ref("").name
    refs = map(ObjectRef.of, found)
    return {ref.name.removeprefix(prefix): ref for ref in refs if ref.name.startswith(prefix)}


def delete_secrets(
    client: KubernetesClient, refs: Iterable[ObjectRef], check_mode: bool
) -> list[ObjectChange]:
    """Delete remote secrets that we made."""
    doomed = list(refs)
    if not check_mode:
        concurrently(client.delete, doomed)
    return [ObjectChange(ref, DELETE, {}, {}) for ref in doomed]


def _compare(live: Object | None, access: Access) -> ObjectChange:
    ref, after = secret_ref(access.cluster), _fingerprint(access)
    before = _live_fingerprint(live, access.cluster) if live else {}
    different = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    action = UPDATE if live else CREATE
    return ObjectChange(
        ref,
        action if different else UNCHANGED,
        {key: before[key] for key in different if key in before},
        {key: after[key] for key in different if key in after},
    )


def _replacement(live: Object, secret: Object) -> Object:
    """Return our secret to replace the live one. Others' labels and annotations stay, but not their keys."""
    metadata = secret["metadata"]
    merged = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "resourceVersion": live["metadata"]["resourceVersion"],
        "labels": {**(live["metadata"].get("labels") or {}), **metadata["labels"]},
        "annotations": {**annotations_of(live), **metadata["annotations"]},
    }
    return {**secret, "metadata": merged, "type": live.get("type", secret["type"])}


def _fingerprint(access: Access) -> Fields:
    """Return what counts in a remote secret for comparison and diff, with hashes of what is secret."""
    return {
        "label": "true",
        "annotation": access.cluster,
        "keys": [access.cluster],
        **_kubeconfig_fingerprint(Kubeconfig(access.kubeconfig())),
    }


def _live_fingerprint(secret: Object, cluster: str) -> Fields:
    data = secret.get("data") or {}
    fields: Fields = {
        "label": (secret["metadata"].get("labels") or {}).get(MULTI_CLUSTER_LABEL),
        "annotation": annotations_of(secret).get(CLUSTER_ANNOTATION),
        "keys": sorted(data),
    }
    try:
        return fields | _kubeconfig_fingerprint(parse_secret(data[cluster]))
    except (KubeconfigError, *MALFORMED):
        return fields | {"kubeconfig": "not one with a certificate and a token"}


def parse_secret(content: str) -> Kubeconfig:
    """Return the kubeconfig in one key of a remote secret's ``data``.

    :raises KubeconfigError: it is none. One of MALFORMED is raised if it is not even base64.
    """
    return Kubeconfig.parse(base64.b64decode(content), "a remote secret")


def _kubeconfig_fingerprint(config: Kubeconfig) -> Fields:
    """Return the kubeconfig with hashes of certificate and token. ``rest`` is a hash of all other content.

    What counts is the current context, as for istiod. This takes the parts out of ``config``.
    """
    config.data.pop("preferences", None)  # an empty map that some versions of istioctl write
    entry = config.entry()
    ca, token = entry.cluster.pop("certificate-authority-data"), entry.user.pop("token")
    return {
        "server": entry.cluster.pop("server"),
        "ca": hash_of(ca) if ca else _UNKNOWN,
        "token": hash_of(token) if token else _UNKNOWN,
        "rest": hash_of(json.dumps(config.data, sort_keys=True)),
    }


def annotations_of(obj: Mapping[str, Any]) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}
