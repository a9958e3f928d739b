"""The network load balancers of the lab's cloud: `load_balancers.json` beside `cloud.json`.

The cloud controller writes it; whoever wants to see what a Service's annotations came to reads it. `hosts`
has the names of those that are known by one, for every cluster's DNS.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from exolab.cloud_state import write_private

LOAD_BALANCERS_FILE = "load_balancers.json"
HOSTS_FILE = "hosts"


@dataclass(frozen=True)
class HealthCheck:
    """How it finds out which nodes serve; `uri` in mode http only, times in seconds."""

    mode: str
    port: int
    uri: str
    interval: int
    timeout: int
    retries: int


@dataclass(frozen=True)
class NlbService:
    """One port of a load balancer, and where it goes."""

    name: str
    port: int
    target_port: int
    strategy: str
    instance_pool: str
    healthcheck: HealthCheck


@dataclass(frozen=True)
class LoadBalancer:
    """A network load balancer. external: somebody else made it, and nobody here deletes it."""

    id: str
    name: str
    zone: str
    ip: str
    description: str = ""
    hostname: str = ""
    external: bool = False
    services: tuple[NlbService, ...] = ()


class LoadBalancers:
    """All load balancers of a lab, kept in a folder; for many threads of one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def all(self) -> list[LoadBalancer]:
        try:
            document = json.loads((self._folder / LOAD_BALANCERS_FILE).read_text())
        except FileNotFoundError:
            return []
        return [_load_balancer(entry) for entry in document]

    def put(self, balancer: LoadBalancer) -> bool:
        """Add it, or replace the one of its id; False where it was there just so."""
        with self._lock:
            known = self.all()
            if balancer in known:
                return False
            self._write([entry for entry in known if entry.id != balancer.id] + [balancer])
            return True

    def release(self, identity: str) -> None:
        """Delete it; of an external one only its services."""
        with self._lock:
            known = [replace(entry, services=()) if entry.id == identity else entry for entry in self.all()]
            self._write([entry for entry in known if entry.id != identity or entry.external])

    def _write(self, balancers: list[LoadBalancer]) -> None:
        content = json.dumps([asdict(balancer) for balancer in balancers], indent=2)
        write_private(self._folder / LOAD_BALANCERS_FILE, content + "\n")
        names = [f"{balancer.ip} {balancer.hostname}\n" for balancer in balancers if balancer.hostname]
        write_private(self._folder / HOSTS_FILE, "".join(names))


def _load_balancer(entry: dict[str, object]) -> LoadBalancer:
    services = tuple(
        NlbService(**{**service, "healthcheck": HealthCheck(**service["healthcheck"])})
        for service in entry["services"]  # type: ignore[attr-defined]
    )
    return LoadBalancer(**{**entry, "services": services})  # type: ignore[arg-type]
