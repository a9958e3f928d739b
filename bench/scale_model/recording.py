# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API of one cluster of a healthy mesh holds, and the same as any member of a larger mesh has it.

Of two clusters one is recorded. What it has for its peer, each member has for every peer: an account with its
rights and token, and a remote secret. All else is the same but for names and the cluster's certificate.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils._base.waiting import concurrently
from ansible_collections.exomesh.istio.plugins.module_utils._istio import istiod
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import Object
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._peering.remote_secrets import (
    Access,
    secret_ref,
    token_ref,
)
from ansible_collections.exomesh.istio.plugins.module_utils._trust.cluster import (
    CA_CERTIFICATE,
    CA_KEY,
    CACERTS_REF,
    CHAIN,
    secret_text,
)
from ansible_collections.exomesh.istio.plugins.module_utils._trust.x509 import (
    Authority,
    Profile,
    chain_pem,
    kind_of,
    read_key,
)
from signing import sign_intermediate

Names = Mapping[str, str]

_SECRETS = "/api/v1/secrets"
_PAGES = ("clusterz",)
"""What runs without a change ask of istiod."""


@dataclass(frozen=True)
class Recording:
    """The API of cluster ``name``, whose only peer is ``peer``.

    :param documents: the API's version and discovery, by path.
    :param lists: objects as JSON by path of their kind, as in ``/apis/apps/v1/deployments``.
    :param pages: entries of istiod's debug pages as JSON.
    :param root: of the mesh, to give each member its CA.
    """

    name: str
    peer: str
    documents: Mapping[str, Object]
    lists: Mapping[str, Sequence[str]]
    pages: Mapping[str, Sequence[str]]
    root: Authority


@dataclass(frozen=True)
class Member:
    """A member of the mesh that is played: what the recorded cluster would be in its place.

    :param objects: by path of their kind.
    """

    name: str
    documents: Mapping[str, Object]
    objects: Mapping[str, Sequence[Object]]
    pages: Mapping[str, Sequence[Any]]


def record(client: KubernetesClient, peer: str, root: Authority) -> Recording:
    """Everything that the API of a cluster lists, its secrets too: for the memory of this process only."""

    def document(path: str) -> Object:
        return client._request("GET", path)

    found = [version for group in document("/apis")["groups"] for version in group["versions"]]
    groups = {version["groupVersion"]: f"/apis/{version['groupVersion']}" for version in found}
    paths = ["/version", "/apis", "/api/v1", *groups.values()]
    documents = dict(zip(paths, concurrently(document, paths), strict=True))
    plurals = {
        (group, resource["kind"]): f"{path}/{resource['name']}"
        for group, path in {"v1": "/api/v1", **groups}.items()
        for resource in documents[path]["resources"]
        if "/" not in resource["name"]
    }
    kinds = client.kinds()
    lists = concurrently(lambda kind: client.list_objects(kind.api_version, kind.name), kinds)
    replicas, _lacking = istiod.replicas(client)
    return Recording(
        client.name,
        peer,
        documents,
        {
            plurals[kind.api_version, kind.name]: [json.dumps(obj) for obj in objects]
            for kind, objects in zip(kinds, lists, strict=True)
        },
        {page: [json.dumps(entry) for entry in istiod.debug(client, replicas[0], page)] for page in _PAGES},
        root,
    )


def address_for_peers(name: str) -> str:
    """Where the peers of a member would find its API; none of them asks there when nothing has changed."""
    return f"https://{name}.invalid:6443"


def member(recording: Recording, name: str, peers: Sequence[str]) -> Member:
    """The member ``name`` of a mesh with these peers."""
    one = functools.partial(_as_members, name=name, peers=peers, recording=recording)
    objects = {path: one(texts) for path, texts in recording.lists.items()}
    secrets = {secret["metadata"]["name"]: secret for secret in objects[_SECRETS]}
    cacerts = secrets[CACERTS_REF.name]
    own = {CACERTS_REF.name: {**cacerts["data"], **_intermediate(recording.root, cacerts, name)}}
    for peer in peers:
        # All members are one cluster, so what it made for its peer is what each gave to each.
        token = secrets[token_ref(peer).name]
        access = Access(
            peer, address_for_peers(peer), None, token["data"]["ca.crt"], secret_text(token, "token")
        )
        own[secret_ref(peer).name] = access.secret()["data"]
    objects[_SECRETS] = [
        *(secrets[name] | {"data": data} for name, data in own.items()),
        *(secret for name, secret in secrets.items() if name not in own),
    ]
    pages = {page: one(texts) for page, texts in recording.pages.items()}
    return Member(name, recording.documents, objects, pages)


def _as_members(texts: Sequence[str], name: str, peers: Sequence[str], recording: Recording) -> list[Any]:
    """Recorded items as this member has them: those that are named after the peer once for each peer."""
    found = []
    for text in texts:
        if recording.name not in text and recording.peer not in text:
            found.append(_shared(text))
        elif recording.peer in _name_in(text):
            found += [_renamed(text, {recording.name: name, recording.peer: peer}) for peer in peers]
        else:
            found.append(_renamed(text, {recording.name: name}))
    return found


@functools.cache
def _shared(text: str) -> Any:
    return json.loads(text)


@functools.cache
def _name_in(text: str) -> str:
    item = json.loads(text)
    return str(item["metadata"]["name"] if "metadata" in item else item["id"])


def _renamed(text: str, names: Names) -> Any:
    whole = rf"(?<![A-Za-z0-9])({'|'.join(map(re.escape, names))})(?![A-Za-z0-9])"
    return json.loads(re.sub(whole, lambda found: names[found[0]], text))


def _intermediate(root: Authority, cacerts: Object, name: str) -> dict[str, str]:
    """What is a member's own in its secret ``cacerts``: the certificate, not the key."""
    key = read_key(secret_text(cacerts, CA_KEY), None, CA_KEY)
    kind = kind_of(key.public_key())
    if kind is None:
        raise ValueError("the recorded key is of a kind that this collection does not make")
    profile = Profile(name, "Istio", kind, timedelta(days=365), timedelta(days=30))
    chain = sign_intermediate(root, key, profile, datetime.now(UTC))
    texts = {CA_CERTIFICATE: chain_pem(chain[:1]), CHAIN: chain_pem(chain)}
    return {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
