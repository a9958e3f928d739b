# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Granting readers access to a cluster, and revoking it (private to the collection).

A reader is a cluster whose istiod reads this one. Each reader has its own account and token, or all readers
share those of Istio. A token that works is reused. A token that is no longer accepted is replaced.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass

from .._base.errors import ExomeshError
from .._base.text import is_token
from .._base.waiting import concurrently, wait_until_met
from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import ApiError, Object, ObjectRef
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient, is_ours
from .._kubernetes.objects import CREATE, DELETE, UPDATE, Fields, ObjectChange, flatten, hash_of
from .._trust.cluster import secret_text
from .remote_secrets import (
    ACCOUNT_ANNOTATION,
    RBAC,
    READER_LABEL,
    READER_OF_SECRETS_ROLE,
    READER_ROLE,
    SHARED_ACCOUNT,
    SHARED_TOKEN,
    TOKEN_TYPE,
    annotations_of,
    reader_objects,
    secrets_binding,
    shared_token_secret,
    token_ref,
    token_secret,
)

_UID_ANNOTATION = "kubernetes.io/service-account.uid"
_SHARED_TOKEN_REF = ObjectRef("v1", "Secret", SHARED_TOKEN, ISTIO_NAMESPACE)
_SHARED_ACCOUNT_REF = ObjectRef("v1", "ServiceAccount", SHARED_ACCOUNT, ISTIO_NAMESPACE)
_OWNED_KINDS = (
    (f"{RBAC}/v1", "ClusterRoleBinding", None),
    (f"{RBAC}/v1", "RoleBinding", ISTIO_NAMESPACE),
    ("v1", "Secret", ISTIO_NAMESPACE),
    ("v1", "ServiceAccount", ISTIO_NAMESPACE),
)


@dataclass(frozen=True)
class Grant:
    """The access of a reader: CA (base64) and token; both None in check mode if they do not exist yet."""

    ca: str | None
    token: str | None
    changes: list[ObjectChange]


def grant(client: KubernetesClient, reader: str, secrets: bool, timeout: float, check_mode: bool) -> Grant:
    """Ensure an account, rights and a token for one reader alone.

    :param secrets: whether the reader may read Secrets, too.
    :raises ExomeshError: ``istio_not_installed`` or ``no_token``.
    """
    changes: list[ObjectChange] = []
    account: Object | None = None
    for obj in reader_objects(reader, secrets):
        live, change = _ensure(client, obj, check_mode)
        account = account or live  # the account is the first object
        changes += change
    found = client.get(token_ref(reader))
    wanted = token_secret(reader)
    token = _token(client, account, [found] if found else [], wanted, timeout, check_mode)
    return Grant(token.ca, token.token, changes + token.changes)


def grant_shared(client: KubernetesClient, timeout: float, check_mode: bool) -> Grant:
    """Ensure a token of the account that Istio itself creates for all readers.

    :raises ExomeshError: ``istio_not_installed`` or ``no_token``.
    """
    account = client.get(_SHARED_ACCOUNT_REF)
    if account is None and not check_mode:
        raise _not_installed(f"It has no service account {ISTIO_NAMESPACE}/{SHARED_ACCOUNT}")
    found = _shared_tokens(client) if account else []
    return _token(client, account, found, shared_token_secret(), timeout, check_mode)


def readers(client: KubernetesClient) -> dict[str, list[ObjectRef]]:
    """Return the existing objects for readers with accounts of their own, by reader."""
    selector = f"{MANAGED_BY_LABEL}={MANAGED_BY},{READER_LABEL}"
    found: dict[str, list[ObjectRef]] = {}
    for api_version, kind, namespace in _OWNED_KINDS:
        for obj in client.list_objects(api_version, kind, namespace, labels=selector):
            found.setdefault(obj["metadata"]["labels"][READER_LABEL], []).append(ObjectRef.of(obj))
    return found


def revoke(client: KubernetesClient, refs: Iterable[ObjectRef], check_mode: bool) -> list[ObjectChange]:
    """Delete objects that were created for readers."""
    doomed = list(refs)
    if not check_mode:
        concurrently(client.delete, doomed)
    return [ObjectChange(ref, DELETE, {}, {}) for ref in doomed]


def roles(client: KubernetesClient) -> list[ObjectRef]:
    """Return those roles of all readers that exist and are ours."""
    wanted = [
        ObjectRef(f"{RBAC}/v1", "ClusterRole", READER_ROLE),
        ObjectRef(f"{RBAC}/v1", "ClusterRole", READER_OF_SECRETS_ROLE),
        ObjectRef(f"{RBAC}/v1", "Role", READER_ROLE, ISTIO_NAMESPACE),
    ]
    return [ref for ref in wanted if (live := client.get(ref)) and is_ours(live)]


def binding_for_secrets(client: KubernetesClient, reader: str) -> list[ObjectRef]:
    """Return the binding that lets a reader with its own account read Secrets; empty if there is none."""
    ref = ObjectRef(f"{RBAC}/v1", "ClusterRoleBinding", secrets_binding(reader))
    return [ref] if client.get(ref) else []


def our_shared_token(client: KubernetesClient) -> tuple[ObjectRef, str] | None:
    """Return the Secret and the token that all readers share; None if we did not make it."""
    secret = client.get(_SHARED_TOKEN_REF)
    if secret is None or not is_ours(secret):
        return None
    return _SHARED_TOKEN_REF, secret_text(secret, "token")


def _ensure(
    client: KubernetesClient, obj: Object, check_mode: bool
) -> tuple[Object | None, list[ObjectChange]]:
    """Ensure an object. Return its live form, and the changes."""
    ref = ObjectRef.of(obj)
    live = client.get(ref)
    if live is None:
        if check_mode:
            return None, [ObjectChange(ref, CREATE, {}, {})]
        try:
            return client.create(obj), [ObjectChange(ref, CREATE, {}, {})]
        except ApiError as error:
            if error.reason == "AlreadyExists":  # another reader's run has just made it
                return client.get(ref), []
            if error.status == 404:
                raise _not_installed(f"It has no namespace {ISTIO_NAMESPACE}") from None
            raise
    before, after = _different(live, obj)
    if before == after:
        return live, []
    change = ObjectChange(ref, UPDATE, before, after)
    if not check_mode:
        if live.get("roleRef") != obj.get("roleRef"):  # Kubernetes does not allow changing it
            client.delete(ref)
        live = client.apply(obj)
    return live, [change]


def _different(live: Object, obj: Object) -> tuple[Fields, Fields]:
    """Return the differing fields, before and after. Metadata that others added does not count."""
    labels = live["metadata"].get("labels") or {}
    wanted = obj["metadata"]["labels"]
    parts = [part for part in ("rules", "roleRef", "subjects") if part in obj]
    before = flatten({"labels": {key: labels.get(key) for key in wanted}, **{p: live.get(p) for p in parts}})
    after = flatten({"labels": wanted, **{part: obj[part] for part in parts}})
    different = {path for path in before | after if before.get(path) != after.get(path)}
    return (
        {path: value for path, value in before.items() if path in different},
        {path: value for path, value in after.items() if path in different},
    )


def _shared_tokens(client: KubernetesClient) -> list[Object]:
    """Return the token Secrets of the shared account, the one with the usual name first."""
    tokens = client.list_objects("v1", "Secret", ISTIO_NAMESPACE, fields=f"type={TOKEN_TYPE}")
    found = [
        secret
        for secret in tokens
        if annotations_of(secret).get(ACCOUNT_ANNOTATION) == SHARED_ACCOUNT
        or secret["metadata"]["name"] == SHARED_TOKEN
    ]
    return sorted(found, key=lambda secret: secret["metadata"]["name"] != SHARED_TOKEN)


def _token(
    client: KubernetesClient,
    account: Object | None,
    candidates: list[Object],
    wanted: Object,
    timeout: float,
    check_mode: bool,
) -> Grant:
    """Return a token that works: the first candidate that works, or a new token."""
    ref = ObjectRef.of(wanted)
    rejected: dict[ObjectRef, tuple[str, bool]] = {}
    for secret in candidates:
        ca, token = _wait_for_token(client, secret, timeout)
        if _belongs(secret, account) and client.accepts(token):
            return Grant(ca, token, [])
        rejected[ObjectRef.of(secret)] = (hash_of(token), is_ours(secret))
    if ref in rejected and not rejected[ref][1]:
        # It belongs to somebody else, so we must not delete it.
        wanted = {**wanted, "metadata": {**wanted["metadata"], "name": f"{ref.name}-exomesh"}}
        ref = ObjectRef.of(wanted)
    change = ObjectChange(ref, CREATE, {}, {"serviceAccount": annotations_of(wanted)[ACCOUNT_ANNOTATION]})
    if ref in rejected:
        before = {"token": f"{rejected[ref][0]}, which is not accepted any more"}
        change = ObjectChange(ref, UPDATE, before, {"token": "a new one"})
    if check_mode or account is None:
        return Grant(None, None, [change])
    if ref in rejected:
        client.delete(ref)
    try:
        secret = client.create(wanted)
    except ApiError as error:
        # Another cluster's run has just made it.
        found = client.get(ref) if error.reason == "AlreadyExists" else None
        if found is None:
            raise
        return Grant(*_wait_for_token(client, found, timeout), [])
    return Grant(*_wait_for_token(client, secret, timeout), [change])


def _belongs(secret: Object, account: Object | None) -> bool:
    """Return whether a token is of this account, and not of a deleted account with the same name."""
    uid = annotations_of(secret).get(_UID_ANNOTATION)
    return uid is None or account is None or uid == account["metadata"].get("uid")


def _wait_for_token(client: KubernetesClient, secret: Object, timeout: float) -> tuple[str, str]:
    ref = ObjectRef.of(secret)
    started = time.monotonic()
    found = [secret]

    def unmet() -> str | None:
        if secret_text(found[-1], "ca.crt") and is_token(secret_text(found[-1], "token")):
            return None
        found.append(client.get(ref) or secret)
        return "the token controller of this cluster has not filled it in"

    if cause := wait_until_met(unmet, timeout, 0.2):
        raise ExomeshError(
            f"{ref} has no token after {time.monotonic() - started:.0f} s",
            "no_token",
            cause=cause,
            next_step="Delete that Secret if its account does not exist, then run this again",
        )
    ca, token = secret_text(found[-1], "ca.crt"), secret_text(found[-1], "token")
    return base64.b64encode(ca.encode()).decode(), token


def _not_installed(message: str) -> ExomeshError:
    return ExomeshError(
        message,
        "istio_not_installed",
        cause="Istio is not installed there, or without its reader account",
        next_step="Run the role istio for this cluster first",
    )
