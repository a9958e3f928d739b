"""Where everything of a lab is: names, addresses and paths, derived from its name and number.

A lab stands for "the cloud": one router namespace (`wan`) that plays the internet between zones, and one
namespace per cluster's node. All addresses come from 198.18.0.0/15 (RFC 2544, set aside for tests between
networks), so that they collide neither with a user's own networks nor with Kubernetes' pod and service
ranges:

    198.18.0.0/15   all labs          /20 each, so 32 labs of at most 15 clusters
      x.y.0.0/30    the host's link to the lab's router
      x.y.c.0/24    cluster c:  .1 router, .2 node, .128/25 its load balancers
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import re
import uuid
from pathlib import Path

from exolab.errors import LabError

HOME = Path(os.environ.get("EXOLAB_HOME", "/var/lib/exolab"))
MACHINES = HOME.with_name(f"{HOME.name}-machines")
CACHE = Path(os.environ.get("EXOLAB_CACHE", "/var/cache/exolab"))
SOURCE = Path(__file__).resolve().parent.parent  # the project's lab/ folder

ADDRESSES = ipaddress.IPv4Network("198.18.0.0/15")
MAX_LABS = 32
MAX_CLUSTERS = 15
API_PORT = 18090  # plus the lab's number

# What every SKS cluster has, and therefore every cluster of the lab: the same ranges everywhere.
POD_RANGE = "192.168.0.0/16"
SERVICE_RANGE = "10.96.0.0/12"
KUBERNETES_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
API_SERVER_PORT = 6443

# The tutorial's two zones first, then Exoscale's others.
ZONES = ("de-fra-1", "at-vie-2", "at-vie-1", "bg-sof-1", "ch-dk-2", "ch-gva-2", "de-muc-1", "hr-zag-1")


@dataclasses.dataclass(frozen=True)
class Lab:
    """A lab by name and number (0 to 31: which /20 and which API port are its own)."""

    name: str
    number: int

    @property
    def path(self) -> Path:
        return HOME / self.name

    @property
    def bin(self) -> Path:
        """What a user puts on PATH: exo, istioctl, kubectl."""
        return self.path / "bin"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def cloud(self) -> Path:
        """State of the Exoscale API."""
        return self.path / "cloud"

    @property
    def supervisor_config(self) -> Path:
        return self.path / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        return self.path / "supervisor.sock"

    @property
    def cgroup(self) -> str:
        return f"exolab-{self.name}"

    @property
    def network(self) -> ipaddress.IPv4Network:
        return list(ADDRESSES.subnets(new_prefix=20))[self.number]

    @property
    def host_address(self) -> ipaddress.IPv4Address:
        return self.network[1]

    @property
    def router_address(self) -> ipaddress.IPv4Address:
        return self.network[2]

    @property
    def host_interface(self) -> str:
        return f"exolab{self.number}"

    @property
    def router_namespace(self) -> str:
        return f"exolab-{self.name}-wan"

    @property
    def api_port(self) -> int:
        return API_PORT + self.number

    @property
    def api_endpoint(self) -> str:
        """What EXOSCALE_API_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self.api_port}/v2"

    def cluster(self, number: int) -> Cluster:
        """Cluster `number` (1 to 15) of this lab."""
        if not 1 <= number <= MAX_CLUSTERS:
            raise LabError(f"a lab has 1 to {MAX_CLUSTERS} clusters, not {number}")
        return Cluster(self, number)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One SKS look-alike: its node, its address range, its files."""

    lab: Lab
    number: int

    @property
    def name(self) -> str:
        return f"cluster{self.number}"

    @property
    def zone(self) -> str:
        return ZONES[(self.number - 1) % len(ZONES)]

    @property
    def id(self) -> str:
        """The cluster's UUID: stable, so that a second `up` is no change."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.{self.lab.name}.exolab"))

    @property
    def node_name(self) -> str:
        return f"pool-{self.id[:5]}-{self.name}"

    @property
    def namespace(self) -> str:
        return f"exolab-{self.lab.name}-{self.name}"

    @property
    def cgroup(self) -> str:
        return f"{self.lab.cgroup}/{self.name}"

    @property
    def network(self) -> ipaddress.IPv4Network:
        return list(self.lab.network.subnets(new_prefix=24))[self.number]

    @property
    def router_address(self) -> ipaddress.IPv4Address:
        return self.network[1]

    @property
    def address(self) -> ipaddress.IPv4Address:
        return self.network[2]

    @property
    def load_balancers(self) -> ipaddress.IPv4Network:
        return list(self.network.subnets(new_prefix=25))[1]

    @property
    def server(self) -> str:
        return f"https://{self.address}:{API_SERVER_PORT}"

    @property
    def path(self) -> Path:
        return self.lab.path / "nodes" / self.name

    @property
    def pki(self) -> Path:
        return self.path / "pki"

    @property
    def etc(self) -> Path:
        return self.path / "etc"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def audit_log(self) -> Path:
        """A line of JSON for each request of an administrator, without its content."""
        return self.logs / "audit.log"

    @property
    def admin_kubeconfig(self) -> Path:
        """The lab's own way in; users get theirs from the Exoscale API."""
        return self.etc / "admin.kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"


def valid_name(name: str) -> str:
    """A lab's name goes into namespaces, cgroups and socket paths (108 bytes at most)."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,22}[a-z0-9])?", name):
        raise LabError(f"lab name {name!r}: use 1 to 24 of a-z, 0-9 and '-', beginning with a letter")
    return name


@dataclasses.dataclass
class Record:
    """What `up` has made, kept in lab.json so that `status` and `down` know.

    The number and how many clusters.
    """

    lab: Lab
    clusters: int

    @property
    def members(self) -> list[Cluster]:
        return [self.lab.cluster(number) for number in range(1, self.clusters + 1)]

    def save(self) -> None:
        self.lab.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lab.path.chmod(0o700)
        content = {"name": self.lab.name, "number": self.lab.number, "clusters": self.clusters}
        temporary = self.lab.path / "lab.json.new"
        temporary.write_text(json.dumps(content) + "\n")
        temporary.replace(self.lab.path / "lab.json")

    @classmethod
    def load(cls, name: str) -> Record | None:
        """The record of lab `name`, None when there is no such lab."""
        return cls.read(HOME / valid_name(name))

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """The record of the lab in a folder, or of the copy of one; None when there is none."""
        try:
            content = json.loads((folder / "lab.json").read_text())
        except FileNotFoundError:
            return None
        return cls(Lab(content["name"], content["number"]), content["clusters"])

    @classmethod
    def all(cls) -> list[Record]:
        """Every lab that is recorded on this machine."""
        names = sorted(path.parent.name for path in HOME.glob("*/lab.json"))
        return [record for record in map(cls.load, names) if record]


def remove_home() -> None:
    """Remove HOME with the last lab; on a machine of its own (see machine.py) it is mounted, and stays."""
    if not MACHINES.exists():
        with contextlib.suppress(OSError):  # another lab is still there
            HOME.rmdir()
