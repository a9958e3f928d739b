# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask Exoscale with its official Python client, ``exoscale`` (private to the collection)."""

from __future__ import annotations

import base64
import binascii
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .._base.connections import PATIENCE, BoundedSslSocket, connection_pool
from .._base.requirements import require
from .._base.waiting import TimeUpError, pause, remaining, sparing, time_limit
from .interface import (
    Cluster,
    Credentials,
    Exoscale,
    ExoscaleError,
    cluster_ambiguous,
    cluster_not_found,
    refused,
    timed_out,
    unreachable,
    unreadable_answer,
    untrusted,
    zone_not_found,
)

with suppress(ImportError):  # require("exoscale") reports it
    import requests
    from exoscale.api.exceptions import ExoscaleAPIException  # type: ignore[import-untyped]
    from exoscale.api.v2 import Client  # type: ignore[import-untyped]
    from urllib3.exceptions import NewConnectionError

_RATE_LIMITED = 429
_RETRIED_STATUSES = (_RATE_LIMITED, 500, 502, 503, 504)
RETRY_PAUSES = (1.0, 2.0, 4.0)
"""Seconds before each further attempt, if the answer does not name them (Retry-After)."""


class ExoscaleApi(Exoscale):
    """The Exoscale API with a given key. Retries and time limits are ours, as the Python client has none.

    :param endpoint: base endpoint with its /v2; it knows the endpoint of every zone.
    :param timeout: seconds that one question may take with all its attempts.
    """

    def __init__(self, credentials: Credentials, endpoint: str, timeout: float) -> None:
        require("exoscale")
        self._credentials = credentials
        self._endpoint = endpoint
        self._timeout = timeout
        self._zone_endpoints: dict[str, str] = {}
        self._lock = threading.Lock()

    def zones(self) -> list[str]:
        return sorted(self._endpoints())

    def names(self, zone: str) -> list[Cluster]:
        return self.clusters(zone)

    def clusters(self, zone: str) -> list[Cluster]:
        answer = self._call(zone, "list_sks_clusters")
        listed = answer.get("sks-clusters", [])
        if not isinstance(listed, list):
            raise unreadable_answer("the list of clusters")
        return [_cluster(item, zone) for item in listed]

    def _one(self, zone: str, cluster: str) -> Cluster:
        found = [each for each in self.clusters(zone) if cluster in (each.name, each.id)]
        if not found:
            raise cluster_not_found(cluster)
        if len(found) > 1:
            raise cluster_ambiguous(cluster)
        return found[0]

    def _mint(self, cluster: Cluster, user: str, groups: list[str], ttl: int | None) -> str:
        lifetime = {} if ttl is None else {"ttl": ttl}
        answer = self._call(
            cluster.zone,
            "generate_sks_cluster_kubeconfig",
            id=cluster.id,
            user=user,
            groups=groups,
            **lifetime,
            repeatable=False,
        )
        try:
            return base64.b64decode(answer["kubeconfig"], validate=True).decode()
        except (KeyError, TypeError, binascii.Error, ValueError):
            raise unreadable_answer("what was returned as a kubeconfig") from None

    def _endpoints(self) -> dict[str, str]:
        """Return the endpoint of every zone, read once. The request is not signed: anybody may send it."""
        with self._lock:
            if not self._zone_endpoints:

                def ask() -> Any:
                    with _bounded(requests.Session()) as session:
                        response = session.get(f"{self._endpoint}/zone")
                    if not response.ok:
                        raise ExoscaleAPIException(f"status {response.status_code}", response)
                    return response.json()

                answer = self._attempt(ask)
                try:
                    self._zone_endpoints = {zone["name"]: zone["api-endpoint"] for zone in answer["zones"]}
                except (KeyError, TypeError):
                    raise unreadable_answer("the list of zones") from None
            return self._zone_endpoints

    def _call(self, zone: str, operation: str, repeatable: bool = True, **arguments: Any) -> dict[str, Any]:
        endpoints = self._endpoints()
        if zone not in endpoints:
            raise zone_not_found(zone)

        def ask() -> Any:
            client = Client(self._credentials.key, self._credentials.secret, url=endpoints[zone])
            with _bounded(client.http_client):
                return getattr(client, operation)(**arguments)

        answer = self._attempt(ask, repeatable)
        if not isinstance(answer, dict):
            raise unreadable_answer(f"the answer to {operation.replace('_', '-')}")
        return answer

    def _attempt(self, ask: Callable[[], Any], repeatable: bool = True) -> Any:
        """Ask until there is an answer, a refusal, or no time left.

        :param repeatable: whether a request may be sent again when no answer came, although it may have been
            carried out. If not, it is sent again only when it was surely not carried out.
        """
        last: ExoscaleError | None = None
        try:
            with time_limit(self._timeout), sparing():
                for seconds in (*RETRY_PAUSES, None):
                    answer, failure = self._once(ask, repeatable)
                    if failure is None:
                        return answer
                    asked = failure.details.pop("retry_after", "")
                    wait = float(asked) if asked.isdigit() else seconds
                    if seconds is None or wait is None or wait >= remaining():
                        raise failure
                    last = failure
                    pause(wait)
        except TimeUpError as error:
            if error.interrupted:
                raise
            if last:  # no later attempt got an answer
                raise last from None
            failure = timed_out(f"the Exoscale API ({self._endpoint})", self._timeout)
            raise failure if repeatable else _perhaps_done(failure) from None
        raise AssertionError("unreachable")

    def _once(self, ask: Callable[[], Any], repeatable: bool) -> tuple[Any, ExoscaleError | None]:
        """Ask once; return the answer, or the failure after which a further attempt is allowed."""
        retry_after = ""
        try:
            return ask(), None
        except requests.exceptions.SSLError as error:
            raise untrusted(_root_cause(error)) from None
        except requests.exceptions.JSONDecodeError:
            failure = unreadable_answer("what was received")
            raise failure if repeatable else _perhaps_done(failure) from None
        except requests.exceptions.Timeout as error:
            failure = timed_out(f"the Exoscale API ({self._endpoint})", self._timeout)
            not_done = isinstance(error, requests.exceptions.ConnectTimeout)
            raise failure if repeatable or not_done else _perhaps_done(failure) from None
        except requests.exceptions.RequestException as error:
            failure = unreachable(_root_cause(error))
            not_done = _never_connected(error)
        except ExoscaleAPIException as error:
            response = error.response
            failure = refused(response.status_code, _message(response))
            if response.status_code not in _RETRIED_STATUSES:
                raise failure from None
            retry_after = str(response.headers.get("Retry-After") or "")
            not_done = response.status_code == _RATE_LIMITED
        if not repeatable and not not_done:
            raise _perhaps_done(failure)
        failure.details["retry_after"] = retry_after
        return None, failure


def _never_connected(error: BaseException) -> bool:
    """Return whether a request failed before anything of it was sent."""
    reason = getattr(next(iter(error.args), None), "reason", None)
    return isinstance(reason, NewConnectionError)


def _perhaps_done(failure: ExoscaleError) -> ExoscaleError:
    """Return the failure of a request that must not be sent twice. Add that it may have been carried out."""
    failure.cause = " ".join(
        f"{text.rstrip('.')}."
        for text in (
            failure.cause,
            "It was not asked for again: a kubeconfig may be made all the same, and none can be revoked",
        )
        if text
    )
    return failure


def _bounded(session: Any) -> Any:
    """Make requests of a session end with the time limit, even if answers are slow. Return the session."""
    adapter = _BoundedAdapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


with suppress(NameError):

    class _BoundedAdapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *_arguments: Any, **_options: Any) -> None:
            # requests itself adds the certificates that it trusts.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.sslsocket_class = BoundedSslSocket
            self._context = context
            self.poolmanager = connection_pool(context, 1)

        def proxy_manager_for(self, proxy: str, **_options: Any) -> Any:
            if proxy not in self.proxy_manager:
                self.proxy_manager[proxy] = connection_pool(self._context, 1, proxy)
            return self.proxy_manager[proxy]

        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            return super().send(request, *arguments, **{**options, "timeout": remaining(PATIENCE)})


def _cluster(item: Any, zone: str) -> Cluster:
    if not isinstance(item, dict):
        raise unreadable_answer("the list of clusters")
    return Cluster(
        id=str(item.get("id", "")),
        name=str(item.get("name", "")),
        zone=zone,
        state=str(item.get("state") or ""),
        version=str(item.get("version") or ""),
        cni=str(item.get("cni") or ""),
        level=str(item.get("level") or ""),
        description=str(item.get("description") or ""),
        endpoint=str(item.get("endpoint") or ""),
        created_at=str(item.get("created-at") or ""),
        auto_upgrade=item.get("auto-upgrade"),
        addons=[str(addon) for addon in item.get("addons") or []],
        labels={str(key): str(value) for key, value in (item.get("labels") or {}).items()},
        nodepools=[
            {"id": str(pool.get("id", "")), "name": str(pool.get("name", ""))}
            for pool in item.get("nodepools") or []
        ],
    )


def _message(response: Any) -> str:
    """Return what the API says about an error: a bare message, or an RFC 9457 problem."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return "it gives no reason"
    if message := body.get("message"):
        return str(message)
    reasons = [str(body[key]) for key in ("title", "detail") if body.get(key)]
    reasons += [
        f"{error.get('location', '')}: {error.get('detail', '')}".strip(": ")
        for error in body.get("errors") or []
        if isinstance(error, dict)
    ]
    return ": ".join(reasons) or "it gives no reason"


def _root_cause(error: BaseException) -> str:
    """Return the innermost reason of a network error, in a few words."""
    while inner := (error.__cause__ or getattr(error, "reason", None) or next(iter(error.args), None)):
        if not isinstance(inner, BaseException):
            break
        error = inner
    return str(getattr(error, "strerror", None) or error).strip()
