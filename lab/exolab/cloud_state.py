"""`cloud.json`: which clusters and which API keys the lab's Exoscale API knows.

The lab program writes the file, the API reads it again whenever it changes.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CLOUD_FILE = "cloud.json"

#: Every zone of Exoscale, as its API lists them.
ZONES = (
    "at-vie-1",
    "at-vie-2",
    "bg-sof-1",
    "ch-dk-2",
    "ch-gva-2",
    "de-fra-1",
    "de-muc-1",
    "hr-zag-1",
)


class CloudStateError(ValueError):
    """`cloud.json` is not what the API expects; the message says where."""


@dataclass(frozen=True)
class Credential:
    """An API key and its secret."""

    key: str
    secret: str


@dataclass(frozen=True)
class NodePool:
    """A node pool as the API lists it; `size` counts its nodes."""

    id: str
    name: str
    size: int


@dataclass(frozen=True)
class Cluster:
    """One SKS look-alike.

    server: URL in the kubeconfigs, with port. endpoint: URL in the API's answers; SKS's has no port.
    ca_certificate, ca_key: PEM files of the CA that the cluster's API server trusts for clients.
    created_at: RFC 3339. authorities: other CA certificates by name (aggregation, kubelet), PEM files.
    auto_upgrade, enable_kube_proxy: None leaves the field out of the answer, on which the exo CLI panics.
    """

    id: str
    name: str
    zone: str
    server: str
    endpoint: str
    ca_certificate: str
    ca_key: str
    version: str
    created_at: str
    labels: dict[str, str] = field(default_factory=dict)
    nodepools: tuple[NodePool, ...] = ()
    authorities: dict[str, str] = field(default_factory=dict)
    state: str = "running"
    cni: str = "calico"
    level: str = "pro"
    description: str = ""
    addons: tuple[str, ...] = ("exoscale-cloud-controller", "metrics-server")
    auto_upgrade: bool | None = False
    enable_kube_proxy: bool | None = True


@dataclass(frozen=True)
class CloudState:
    """All that the API knows."""

    credentials: tuple[Credential, ...] = ()
    clusters: tuple[Cluster, ...] = ()


def load(state_dir: Path) -> CloudState:
    """Read `cloud.json`; a missing file is an empty cloud. Raises CloudStateError."""
    path = state_dir / CLOUD_FILE
    try:
        document = json.loads(path.read_text())
        return CloudState(
            credentials=tuple(Credential(**entry) for entry in document.get("credentials", [])),
            clusters=tuple(_cluster(entry) for entry in document.get("clusters", [])),
        )
    except FileNotFoundError:
        return CloudState()
    except (ValueError, TypeError, AttributeError) as error:
        raise CloudStateError(f"{path}: {error}") from error


def save(state_dir: Path, state: CloudState) -> None:
    """Write `cloud.json` with mode 0600, whole or not at all."""
    write_private(state_dir / CLOUD_FILE, json.dumps(asdict(state), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace `path` with `text` atomically; only the owner may read it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _cluster(entry: dict[str, Any]) -> Cluster:
    known = dict(entry)
    if known.get("zone") not in ZONES:
        raise ValueError(f"cluster {known.get('name')!r}: unknown zone {known.get('zone')!r}")
    known["nodepools"] = tuple(NodePool(**pool) for pool in known.get("nodepools", []))
    if "addons" in known:
        known["addons"] = tuple(known["addons"])
    return Cluster(**known)
