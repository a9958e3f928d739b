# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTPS requests from inside a cluster, by a short-lived pod (private to the collection).

The pods of a cluster may reach other addresses than this machine does. So a pod makes the requests, with one
curl. A Secret contains the configuration of curl, with addresses and CAs, so that no argument shows them.

The pod never gets a credential: its image is somebody else's, and a swapped image could steal the credential.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from .._base.cleanup import afterwards
from .._base.errors import ExomeshError
from .._base.text import new_mark
from .._base.waiting import concurrently, wait_until_met
from .._kubernetes.api import Object, ObjectRef
from .._kubernetes.causes import cause_in
from .._kubernetes.client import MANAGED_BY, MANAGED_BY_LABEL, KubernetesClient
from .._kubernetes.containers import NOBODY, client_container
from .._kubernetes.images import require_image
from .._kubernetes.objects import delete_for_sure
from .._kubernetes.readiness import pod_unmet
from .istiod import tolerations as istiods_own
from .names import ISTIO_NAMESPACE

PROBE_LABEL = "exomesh.istio/probe"

_CONNECT_SECONDS = 5
_REQUEST_SECONDS = 10
_IN_THE_MAKING = timedelta(minutes=1)
"""Time that a Secret may exist before its pod, and that an ended pod may exist before its log is read."""
_OTHER_NAMESPACE = "default"
"""Namespace of probes before Istio's namespace exists."""

_NAMESPACES = (ISTIO_NAMESPACE, _OTHER_NAMESPACE)
_FOLDER = "/etc/exomesh-probe"
_CONTAINER = "curl"


@dataclass(frozen=True)
class Target:
    """An address to ask.

    :param ca: certificates (PEM), one of which must have signed the server's certificate; None to check only
        whether the server answers.
    :param tls_server_name: the name in the server's certificate, if it is not that of the address.
    """

    name: str
    url: str
    ca: bytes | None = None
    tls_server_name: str | None = None


@dataclass(frozen=True)
class Answer:
    """The answer of one target: an HTTP status, or the reason why there is none, in curl's words."""

    name: str
    status: int | None
    error: str | None
    seconds: float


def api_hash(server: str, ca: bytes, tls_server_name: str | None) -> str:
    """Return a hash that identifies an API by its address, CA and TLS server name. Facts may hold it."""
    told = [server.rstrip("/"), ca.decode(errors="replace").strip(), tls_server_name]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def probe(
    client: KubernetesClient,
    targets: Sequence[Target],
    image: str,
    timeout: float,
    tolerations: Sequence[Mapping[str, Any]] = (),
) -> list[Answer]:
    """Ask all targets at once from one pod of the cluster. Return their answers in the order of targets.

    The pod and its Secret are deleted afterwards.

    :param image: image with curl as its entrypoint, or in its path.
    :param timeout: seconds that the pod may take to run and end.
    :param tolerations: those of the istiod to be installed; if there are none, those of the present istiod.
    :raises ExomeshError: ``probe_failed``: the pod did not run, so nothing is known; ``left_behind``: the pod
        or its Secret could not be deleted; ``image_invalid``.
    """
    if not targets:
        return []
    # curl quotes text of servers, such as the subject of a certificate. No server can know the mark.
    mark = new_mark()
    pod_of = partial(
        _pod, image=require_image(image), timeout=timeout, tolerations=[*(tolerations or istiods_own(client))]
    )
    with _running(client, curl_files(targets, mark), pod_of) as pod:
        missing = wait_until_met(lambda: _not_ended(client.get(pod)), timeout, 0.25)
        log = "" if missing else client.logs(pod.namespace or "", pod.name, _CONTAINER)
        answers = _answers(log, mark)
        if not answers:
            said = log.strip()[-300:] or missing or "it said nothing"
            events = client.events("Pod", pod.namespace or "", pod.name, 3, warnings_only=True)
            causes = (cause_in(text, pod.namespace) for text in (missing or "", *events))
            known = next(filter(None, causes), None)
            raise ExomeshError(
                f"A pod that was to ask {', '.join(target.url for target in targets[:3])} did not",
                "probe_failed",
                cluster=client.name,
                cause="; ".join([said, *events]),
                next_step=known.next_step()
                if known
                else f"Check that the cluster can run pods of image {image}, or name another with curl",
            )
    unanswered = (None, "curl gave no answer in time", 0.0)
    return [Answer(target.name, *answers.get(i, unanswered)) for i, target in enumerate(targets)]


@contextmanager
def _running(
    client: KubernetesClient, files: Mapping[str, bytes], pod_of: Callable[[Object], Object]
) -> Iterator[ObjectRef]:
    in_istio = client.get(ObjectRef("v1", "Namespace", ISTIO_NAMESPACE))
    metadata = {
        "name": f"exomesh-probe-{secrets.token_hex(4)}",
        "namespace": ISTIO_NAMESPACE if in_istio else _OTHER_NAMESPACE,
        "labels": {
            MANAGED_BY_LABEL: MANAGED_BY,
            PROBE_LABEL: "true",
            "sidecar.istio.io/inject": "false",
            "istio.io/dataplane-mode": "none",
        },
    }
    secret = _secret(metadata, files)
    pod = pod_of(metadata)
    refs = [ObjectRef.of(obj) for obj in (pod, secret)]
    with afterwards(*(partial(delete_for_sure, client, ref) for ref in refs)):
        _remove_left_behind(client, client.create(secret))
        client.create(pod)
        yield refs[0]


def _remove_left_behind(client: KubernetesClient, secret: Object) -> None:
    """Delete the objects that other runs could not delete. The cluster's own clock decides about their age.

    Pods end by themselves (``activeDeadlineSeconds``). A pod that still runs belongs to another run, with its
    Secret: both stay.
    """
    now = _created(secret)
    places = [(kind, namespace) for kind in ("Pod", "Secret") for namespace in _NAMESPACES]
    found = concurrently(
        lambda place: client.list_objects("v1", *place, labels=f"{PROBE_LABEL}=true"), places
    )
    objects = [obj for listed in found for obj in listed]
    running = {_place(obj) for obj in objects if obj["kind"] == "Pod" and not _has_ended(obj, now)}
    for obj in objects:
        if _place(obj) not in running and now - _created(obj) > _IN_THE_MAKING:
            # The run that created the object has reported it. A failure here must not stop this run.
            with suppress(ExomeshError):
                client.delete(ObjectRef.of(obj))


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _has_ended(pod: Object, now: datetime) -> bool:
    limit = pod.get("spec", {}).get("activeDeadlineSeconds", 0)
    overdue = now - _created(pod) > timedelta(seconds=limit) + _IN_THE_MAKING  # its node is gone
    return overdue or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _created(obj: Object) -> datetime:
    return datetime.fromisoformat(obj["metadata"]["creationTimestamp"])


def curl_files(targets: Sequence[Target], mark: str) -> dict[str, bytes]:
    """Return the files for the one curl that asks all targets."""
    files = {f"ca-{i}.pem": target.ca for i, target in enumerate(targets) if target.ca is not None}
    return {**files, "curl.conf": curl_config(targets, mark).encode()}


def _secret(metadata: Object, files: Mapping[str, bytes]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {name: base64.b64encode(value).decode() for name, value in files.items()},
    }


def curl_config(targets: Sequence[Target], mark: str) -> str:
    """Return curl's options, in the format of ``curl --config``."""
    lines = ["silent", "parallel", "parallel-immediate"]
    for i, target in enumerate(targets):
        options = {
            "url": target.url,
            "output": "/dev/null",
            "write-out": f"{mark} {i} %{{http_code}} %{{time_total}} %{{exitcode}} %{{errormsg}}\n",
            "connect-timeout": str(_CONNECT_SECONDS),
            "max-time": str(_REQUEST_SECONDS),
        }
        if target.tls_server_name:
            # curl takes the name for TLS from the URL only.
            address = urlsplit(target.url)
            port = address.port or 443
            server = f"{target.tls_server_name}:{port}"
            options["url"] = address._replace(netloc=server).geturl()
            host = f"[{address.hostname}]" if ":" in (address.hostname or "") else address.hostname
            options["connect-to"] = f"{server}:{host}:{port}"
        if target.ca is not None:
            options["cacert"] = f"{_FOLDER}/ca-{i}.pem"
        lines += ["next"] if i else []
        lines += [f"{name} = {_quoted(value)}" for name, value in options.items()]
        lines += [] if target.ca is not None else ["insecure"]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(character, written)
    return f'"{value}"'


def _pod(metadata: Object, image: str, timeout: float, tolerations: list[Any]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": max(1, ceil(timeout)),
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"fsGroup": NOBODY},
            "tolerations": tolerations,
            "containers": [
                client_container(
                    _CONTAINER,
                    image,
                    ["curl", "--config", f"{_FOLDER}/curl.conf"],
                    volumeMounts=[{"name": "config", "mountPath": _FOLDER, "readOnly": True}],
                )
            ],
            "volumes": [{"name": "config", "secret": {"secretName": metadata["name"], "defaultMode": 0o440}}],
        },
    }


def _not_ended(pod: Object | None) -> str | None:
    # curl's exit code is about one target only. Its log is about each of them.
    ended = pod is not None and pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return None if ended else pod_unmet(pod) or "it still runs"


def _answers(log: str, mark: str) -> dict[int, tuple[int | None, str | None, float]]:
    """Return status, error and seconds, by number of the target."""
    found = re.finditer(rf"^{mark} (\d+) (\d+) ([\d.]+) (\d+) (.*)$", log, re.MULTILINE)
    return {
        int(number): (
            int(status) or None,
            None if code == "0" else message or f"curl ended with exit code {code}",
            float(seconds),
        )
        for number, status, seconds, code, message in (match.groups() for match in found)
    }
