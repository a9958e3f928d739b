# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect what a helper needs to know about a mesh in one archive without secrets (private).

Nothing here fails because a cluster does not answer or a part cannot be read: the archive says what is
missing. The data of Secrets is not requested, and everything that is read goes through
:mod:`_diagnose.redact`. Names that come from a cluster are never used as a path. No object and no log can
make the archive larger than its limits.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from .._base.errors import ExomeshError
from .._base.files import FILE_MODE, locked, write_private
from .._base.members import Member
from .._base.waiting import concurrently
from .._istio import istiod
from .._istio.envoy import ADMIN_PORT
from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import Object
from .._kubernetes.client import KubernetesClient, labels_of
from .._verify import report as verification_report
from .._verify.state import is_running, sidecar_of
from .._verify.verification import Verification
from .redact import Redactor, printable

MAX_FILE = 4 * 2**20
MAX_CLUSTER = 64 * 2**20
"""Bytes before compression: of one file, which is cut, and of one cluster, whose last files are left out."""
MAX_TEXT = 2**20
"""Characters of one text in an object. A longer text is left out, as half of it may not show what it is."""

_MAX_NAME = 100
_DEEPEST = 60

_ANSWER_SECONDS = 30.0
_SETTLE_SECONDS = 10.0
"""The time for which unhealthy parts of the mesh are looked at again."""
_ISTIOD_PAGES = ("clusterz", "networkz", "syncz", "endpointShardz")
_GROUPS = re.compile(r"(?:^|\.)istio\.io/|^gateway\.networking\.k8s\.io/")
_GATEWAY_LABELS = ("istio", "gateway.networking.k8s.io/gateway-name")
_SYSTEM_KINDS = (
    ("apps/v1", "Deployment"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "Event"),
    ("v1", "ConfigMap"),
)
_CLUSTER_KINDS = (
    ("v1", "Node"),
    ("v1", "Namespace"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
)

Source = Callable[[], Any]


@dataclass(frozen=True)
class Request:
    """The content that a bundle is to have.

    :param versions: versions of the software in use, as the bundle reports them.
    :param log_lines: the number of newest log lines of each container.
    """

    members: Sequence[Member]
    mesh_id: str
    at: datetime
    versions: Mapping[str, str | None]
    log_lines: int
    least_privilege: bool

    @property
    def name(self) -> str:
        """Return the name of the archive and of the folder in it."""
        return f"support-{_file_name(self.mesh_id)}-{self.at:%Y%m%dT%H%M%SZ}"


@dataclass
class Bundle:
    """The redacted files of a bundle, by path.

    :param redacted: the number of redactions, by path and kind.
    :param problems: what could not be read, by cluster; ``mesh`` stands for the verification.
    :param not_reached: clusters that did not answer at all.
    :param known: secrets that were found. In the end, all files are searched for them.
    """

    files: dict[str, str] = field(default_factory=dict)
    redacted: dict[str, Counter[str]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    not_reached: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set, repr=False)

    def add(self, path: str, content: Any) -> str:
        """Add a text or a JSON object, and return its path in the bundle."""
        path = _path(*path.split("/"))
        redactor = Redactor(self.known)
        newest = path.endswith(".log")
        try:
            if isinstance(content, str):
                text = redactor.text(_shortened_text(content, newest))
            else:
                text = json.dumps(redactor.value(_bounded(content, MAX_FILE)[0]), indent=1) + "\n"
        except RecursionError:
            text = "[left out: too deep]\n"
        self.files[path] = _shortened_text(text, newest)
        if redactor.found:
            self.redacted[path] = redactor.found
        return path

    def miss(self, cluster: str, what: str, error: object) -> None:
        """Note that something could not be read."""
        said = Redactor(self.known).text(f"{what}: {error}"[:MAX_TEXT])
        self.problems.setdefault(cluster, []).append(said[:2000])

    def redact_repeated(self) -> None:
        """Redact in every file the secrets that were found in another file."""
        for path, text in self.files.items():
            redactor = Redactor(self.known)
            self.files[path] = redactor.repeated(text)
            if redactor.found:
                self.redacted[path] = self.redacted.get(path, Counter()) + redactor.found
        for cluster, told in self.problems.items():
            self.problems[cluster] = [Redactor(self.known).repeated(problem) for problem in told]

    def take(self, other: Bundle) -> None:
        """Add everything of another bundle to this one."""
        self.files |= other.files
        self.redacted |= other.redacted
        self.problems |= other.problems
        self.not_reached += other.not_reached
        self.known |= other.known

    def totals(self) -> dict[str, int]:
        """Return the number of redactions, by kind."""
        return dict(sorted(sum(self.redacted.values(), Counter[str]()).items()))


def collect(request: Request) -> Bundle:
    """Read the whole mesh: all clusters and the verification at the same time."""
    bundle = Bundle()
    parts = [partial(_verification, request)]
    parts += [partial(_cluster, member, request) for member in request.members]
    for part in concurrently(lambda part: part(), parts):
        bundle.take(part)
    bundle.add("versions.json", dict(request.versions))
    bundle.redact_repeated()
    if bundle.problems:
        bundle.add("problems.json", dict(sorted(bundle.problems.items())))
    bundle.files["redactions.json"] = json.dumps(bundle.redacted, indent=1, sort_keys=True) + "\n"
    bundle.files["README.txt"] = "\n".join(_readme(request, bundle)) + "\n"
    return bundle


def write(request: Request, bundle: Bundle, folder: Path) -> Path:
    """Write the archive, completely or not at all, and return its path.

    :raises ExomeshError: the archive cannot be written.
    """
    path = folder / f"{request.name}.tar.gz"
    with locked(path):
        write_private(path, archive(request, bundle))
    return path


def archive(request: Request, bundle: Bundle) -> bytes:
    """Return the archive's content. The same files give the same bytes."""
    stamp = int(request.at.timestamp())
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=stamp) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, text in sorted(bundle.files.items()):
            content = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"{request.name}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), stamp, FILE_MODE
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def report(bundle: Bundle, path: Path | str, size: int) -> list[str]:
    """Return lines for people: where the archive is, what it contains, and what is missing."""
    told = [f"{path}, {size / 1024:.0f} KiB, {len(bundle.files)} files"]
    told += [f"  {line}" for line in _contents(bundle)]
    counted = (f"{number} x {kind}" for kind, number in bundle.totals().items())
    told.append(f"redacted: {', '.join(counted) or 'nothing, as nothing looked like a secret'}")
    told += [
        f"not read, {cluster}: {problem}"
        for cluster, problems in sorted(bundle.problems.items())
        for problem in problems
    ]
    return told


def _verification(request: Request) -> Bundle:
    """Return the verification of the mesh, as playbook `status` makes it."""
    bundle = Bundle()
    begun = time.monotonic()
    try:
        with Verification(
            request.members, None, _SETTLE_SECONDS, least_privilege=request.least_privilege
        ) as verification:
            mesh, verdict = verification.look()
        told = verification_report.result(mesh, verdict, time.monotonic() - begun)
        bundle.add("verification.json", told)
        bundle.add("verification.txt", "\n".join(verification_report.lines(told)) + "\n")
    except ExomeshError as error:
        bundle.miss("mesh", "verification", error)
    return bundle


def _cluster(member: Member, request: Request) -> Bundle:
    """Return everything about one cluster."""
    bundle = Bundle()
    try:
        client = KubernetesClient(member.kubeconfig, name=member.name)
        version = client.version()
        sources: dict[str, Source] = {
            "version.json": lambda: {"kubernetes": version, "server": client.server},
            **_objects(client),
            **_pods(client, request.log_lines),
        }
    except ExomeshError as error:
        bundle.not_reached.append(member.name)
        bundle.miss(member.name, "the cluster", error)
        return bundle

    space = MAX_CLUSTER
    taking = threading.Lock()

    def read(path: str) -> None:
        nonlocal space
        full = f"left out, as more than {MAX_CLUSTER} bytes came before it"
        part = Bundle(known=bundle.known)
        if space <= 0:
            part.miss(member.name, path, full)
        else:
            try:
                # Redact at once, so that large contents are not kept until everything is read.
                name = part.add(f"clusters/{_file_name(member.name)}/{path}", sources[path]())
            except ExomeshError as error:
                part.miss(member.name, path, error)
        with taking:
            for name, text in part.files.items():
                space -= len(text.encode(errors="replace"))
                if space < 0:
                    part = Bundle()
                    part.miss(member.name, name, full)
            problems = bundle.problems.get(member.name, []) + part.problems.pop(member.name, [])
            bundle.take(part)
            if problems:
                bundle.problems[member.name] = problems

    concurrently(read, sorted(sources))
    for told in bundle.problems.values():
        told.sort()
    return bundle


def _objects(client: KubernetesClient) -> dict[str, Source]:
    """Return the sources of one cluster's objects, with a file for each kind."""

    def lists(api_version: str, kind: str, namespace: str | None = None) -> Source:
        return lambda: [_shortened(obj) for obj in client.list_objects(api_version, kind, namespace)]

    sources = {f"{kind}.json": lists(group, kind) for group, kind in _CLUSTER_KINDS}
    sources |= {
        f"{ISTIO_NAMESPACE}/{kind}.json": lists(group, kind, ISTIO_NAMESPACE) for group, kind in _SYSTEM_KINDS
    }
    sources[f"{ISTIO_NAMESPACE}/Secret.json"] = lambda: client.list_rows("v1", "Secret", ISTIO_NAMESPACE)
    sources |= {
        _path("istio", f"{kind.name}.{kind.api_version.partition('/')[0]}.json"): lists(
            kind.api_version, kind.name
        )
        for kind in client.kinds()
        if _GROUPS.search(kind.api_version)
    }
    return sources


def _pods(client: KubernetesClient, log_lines: int) -> dict[str, Source]:
    """Return the sources of the logs of istiod and the gateways, and of what they know."""
    found = client.list_objects("v1", "Pod", ISTIO_NAMESPACE)
    for labels in _GATEWAY_LABELS:
        found += client.list_objects("v1", "Pod", labels=labels)
    sources: dict[str, Source] = {}
    for pod in found:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        status = pod.get("status", {})
        for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
            path = _path("logs", namespace, f"{name}.{container['name']}")
            log = partial(client.logs, namespace, name, container["name"], log_lines)
            sources[f"{path}.log"] = log
            if container.get("restartCount"):
                sources[f"{path}.previous.log"] = partial(log, previous=True)
        if not is_running(pod):
            continue
        if namespace == ISTIO_NAMESPACE and labels_of(pod).get("app") == "istiod":
            for page in _ISTIOD_PAGES:
                sources[_path("istiod", name, f"{page}.json")] = partial(istiod.debug, client, name, page)
        elif sidecar_of(pod):
            sources[_path("gateways", namespace, f"{name}.json")] = partial(
                _config_dump, client, namespace, name
            )
    return sources


def _config_dump(client: KubernetesClient, namespace: str, pod: str) -> Any:
    """Return the configuration of a gateway's proxy, without the part that holds its keys."""
    path = "/config_dump?include_eds"
    answer = client.get_from_pod(namespace, pod, ADMIN_PORT, path, _ANSWER_SECONDS)
    try:
        configs = json.loads(answer)["configs"]
        return [config for config in configs if not str(config.get("@type")).endswith("SecretsConfigDump")]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ExomeshError("its proxy did not answer with its configuration", "proxy_silent") from None


def _shortened(obj: Object) -> Object:
    (obj.get("metadata") or {}).pop("managedFields", None)
    return obj


def _shortened_text(text: str, newest: bool) -> str:
    """Return as many whole lines as a file may have, and a line that says how much is missing.

    No line is cut, because a cut line could contain a secret without its name.
    """
    if len(text) <= MAX_FILE and len(text.encode(errors="replace")) <= MAX_FILE:
        return text
    kept, size = [], 0
    lines = text.splitlines(keepends=True)
    for line in reversed(lines) if newest else lines:
        size += len(line.encode(errors="replace"))
        if size > MAX_FILE:
            break
        kept.append(line)
    left_out = len(text) - sum(map(len, kept))
    said = [f"[{left_out} more characters were here]\n"]
    return "".join(said + kept[::-1] if newest else kept + said)


def _bounded(value: Any, space: int, depth: int = 0) -> tuple[Any, int]:
    """Return a JSON object that fits into the space, and its approximate size."""
    if isinstance(value, str):
        if len(value) > min(space, MAX_TEXT):
            value = f"[left out: {len(value)} characters]"
        return value, len(value)
    if not isinstance(value, dict | list):
        return value, 8
    if depth > _DEEPEST:
        return "[left out: too deep]", 20
    used = 2
    entries: list[Any] = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if used > space:
            more = len(value) - len(entries)
            entries.append(
                ("[left out]", f"{more} more") if isinstance(value, dict) else f"[left out: {more} more]"
            )
            break
        kept, size = _bounded(item, space - used, depth + 1)
        entries.append((str(key)[:MAX_TEXT], kept) if isinstance(value, dict) else kept)
        used += size + (len(str(key)) + 4 if isinstance(value, dict) else 2)
    return (dict(entries) if isinstance(value, dict) else entries), used


def _contents(bundle: Bundle) -> list[str]:
    """Return a line for each folder, with the number of its files."""
    folders = Counter("/".join(path.split("/")[:2]) if "/" in path else path for path in bundle.files)
    return [
        name if name in bundle.files else f"{name}: {number} files"
        for name, number in sorted(folders.items())
    ]


def _readme(request: Request, bundle: Bundle) -> list[str]:
    told = [
        f"The mesh {printable(request.mesh_id)} on {request.at:%Y-%m-%d %H:%M:%S} UTC,",
        "for somebody who helps.",
        "",
        "verification.*     findings and pairs, as playbook status tells them, without requests",
        "clusters/*/        objects, logs, what istiod knows, how the gateways' proxies are configured",
        "problems.json      what could not be read, if there was any",
        "redactions.json    what was taken out of which file; [REDACTED ...] stands in its place",
        "",
        "The data of Secrets were never read into it. Names, addresses and certificates are as they are.",
        "",
    ]
    return told + [f"Not reached: {printable(name)}" for name in sorted(bundle.not_reached)]


def _path(*names: str) -> str:
    """Return a path in the archive, made of names that may come from a cluster."""
    return "/".join(map(_file_name, names))


def _file_name(name: str) -> str:
    """Return a safe file name. A name that has to be changed gets a hash, so that it stays unique."""
    plain = re.sub(r"[^A-Za-z0-9_.-]|\.{2,}", "_", name).lstrip(".-")
    if plain == name and 0 < len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    extension = re.search(r"(?:\.(?:json|log|txt))?$", plain)[0]  # type: ignore[index]
    return f"{plain.removesuffix(extension)[: _MAX_NAME - 20]}_{digest}{extension}"
