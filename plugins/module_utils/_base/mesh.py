# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh that an inventory describes, checked as a whole (private to the collection).

Every rule is in :data:`RULES`. All faults of an inventory are reported at once, before anything else is done:
a bad name that is found later is already in the clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from .names import CLUSTER_NAME, LABEL_VALUE, RESERVED_NAMES
from .text import printable_line

TOPOLOGIES = ("full", "hub-and-spoke", "groups")
FULL, HUB_AND_SPOKE, GROUPS = TOPOLOGIES
DEFAULT_MESH_ID = "mesh1"

KEPT_VARIABLES = (
    "sks_cluster",
    "sks_zone",
    "peering_server",
    "mesh_network",
    "mesh_hub",
    "mesh_groups",
    "mesh_topology",
    "mesh_istio_version",
    "mesh_ha",
    "mesh_least_privilege",
    "istio_revision",
)
"""Variables of a host that its cluster's record keeps, so that a lost inventory can be written again."""


@dataclass(frozen=True)
class Host:
    """One cluster, as an inventory describes it.

    :param host: its inventory name.
    :param name: its name in the mesh.
    :param mesh: ID of the mesh that it belongs to.
    :param kubeconfig: absolute path.
    :param server: address at which peers reach its API; empty for the one in its kubeconfig.
    :param hub: the value from the inventory; it may be of any type, not only a boolean.
    :param groups: the value from the inventory; it may be of any type, not only a list.
    """

    host: str
    name: str
    network: str
    mesh: str
    kubeconfig: str
    server: str
    zone: str
    sks_cluster: str
    topology: str
    hub: Any
    groups: Any
    inventory: tuple[str, ...]
    kept: Mapping[str, Any]

    @classmethod
    def of(cls, host: str, variables: Mapping[str, Any], kubeconfig: Callable[[str, str], str]) -> Host:
        """Read a cluster from a host's variables, with the defaults of the roles.

        :param kubeconfig: returns the absolute path, from the path in the inventory, which may be empty, and
            the cluster's name.
        """

        def text(variable: str, default: str = "") -> str:
            value = variables.get(variable)
            return default if value is None or value == "" else str(value)

        name = text("mesh_cluster_name", host)
        return cls(
            host=host,
            name=name,
            network=text("mesh_network", f"network-{name}"),
            mesh=text("mesh_id", DEFAULT_MESH_ID),
            kubeconfig=kubeconfig(text("mesh_kubeconfig"), name),
            server=text("peering_server"),
            zone=text("sks_zone"),
            sks_cluster=text("sks_cluster", host),
            topology=text("mesh_topology", FULL),
            hub=variables.get("mesh_hub", False),
            groups=variables.get("mesh_groups") or [],
            inventory=tuple(map(str, variables.get("ansible_inventory_sources") or ())),
            kept={key: variables[key] for key in KEPT_VARIABLES if variables.get(key) not in (None, "")},
        )

    @property
    def shown(self) -> str:
        """Its inventory name, safe to show."""
        return printable_line(self.host, 99)

    @property
    def is_hub(self) -> bool:
        return bool(boolean(self.hub, strict=False))

    def is_peer_of(self, other: Host) -> bool:
        """Return whether the two exchange remote secrets, by the topology that both name."""
        if self.topology == HUB_AND_SPOKE:
            return self.is_hub or other.is_hub
        return self.topology == FULL or not set(map(str, self.groups)).isdisjoint(map(str, other.groups))


Mesh = Sequence[Host]


def problems_of(mesh: Mesh) -> list[str]:
    """Return all faults of a mesh, as sentences without a full stop; empty when there are none."""
    return [problem for rule in RULES for problem in rule(mesh)]


def members(mesh: Mesh) -> list[dict[str, Any]]:
    """Return a mesh as plain data, for option ``members`` of the modules. The mesh must have no problems."""
    return [
        {
            "host": host.host,
            "name": host.name,
            "network": host.network,
            "kubeconfig": host.kubeconfig,
            "server": host.server or None,
            "zone": host.zone or None,
            "mesh": host.mesh,
            "variables": dict(host.kept),
            "inventory": list(host.inventory),
            "peers": [other.name for other in mesh if other is not host and host.is_peer_of(other)],
        }
        for host in mesh
    ]


def disagreements(member: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Report where a host's own variables differ from what its inventory tells all other hosts.

    :param member: the host's entry from :func:`members`.
    :param own: the values in the host's play, by variable.
    """
    kept = member["variables"]
    known = {
        "mesh_cluster_name": member["name"],
        "mesh_network": member["network"],
        "mesh_id": member["mesh"],
        "mesh_kubeconfig": member["kubeconfig"],
        "peering_server": member["server"] or "",
        "mesh_topology": kept.get("mesh_topology") or FULL,
        "mesh_hub": boolean(kept.get("mesh_hub", False)),
        "mesh_groups": list(map(str, kept.get("mesh_groups") or [])),
    }

    def differs(variable: str, value: Any) -> bool:
        if variable == "mesh_hub":
            value = boolean(value, strict=False)
        if variable == "mesh_groups" and _is_list(value):
            value = list(map(str, value))
        return bool(value != known[variable])

    return [
        f"{printable_line(member['host'], 99)} has {variable} {printable_line(str(own[variable]), 99)} in "
        f"its play or role, but {printable_line(str(known[variable]), 99)} in the inventory, by which the "
        f"other clusters go: set {variable} in the inventory, for the host or its group, or by -e"
        for variable in known
        if variable in own and differs(variable, own[variable])
    ]


def _names(mesh: Mesh) -> Iterator[str]:
    """Check that Kubernetes and the state folder accept the names."""
    for host in mesh:
        if not CLUSTER_NAME.fullmatch(host.name):
            yield (
                f"{host.shown} has mesh_cluster_name {printable_line(host.name, 99)}, which no cluster may "
                "have, as folders and objects are named after it: set mesh_cluster_name of that host to up "
                "to 50 small letters, digits and dashes, with a letter or digit at both ends"
            )
        elif host.name in RESERVED_NAMES:
            yield (
                f"{host.shown} has mesh_cluster_name {host.name}, which is a folder of the mesh's state: set "
                "another one"
            )


def _labels(mesh: Mesh) -> Iterator[str]:
    """Check that networks and mesh IDs can be values of labels."""
    for host in mesh:
        for variable, value in (("mesh_network", host.network), ("mesh_id", host.mesh)):
            is_default = variable == "mesh_network" and value == f"network-{host.name}"
            if not LABEL_VALUE.fullmatch(value) and not is_default:
                yield (
                    f"{host.shown} has {variable} {printable_line(value, 99)}, which is no value of a label: "
                    "use up to 63 letters, digits, dots, dashes and underscores, with a letter or digit at "
                    "both ends"
                )


def _unique(mesh: Mesh) -> Iterator[str]:
    """Check that no two members share what only one may have."""
    rules: tuple[tuple[str, Callable[[Host], str], str], ...] = (
        ("the same mesh_cluster_name", lambda host: host.name, "names must be unique in a mesh"),
        (
            "the same mesh_network",
            lambda host: host.network,
            "each cluster is a network of its own, and is reached by its gateway",
        ),
        (
            "the same SKS cluster",
            lambda host: f"{host.sks_cluster} in zone {host.zone}" if host.zone else "",
            "a cluster is one host",
        ),
        ("the same peering_server", lambda host: host.server, "each cluster has an API of its own"),
    )
    for what, value_of, reason in rules:
        first: dict[str, Host] = {}
        for host in mesh:
            value = value_of(host)
            other = first.setdefault(value, host)
            # By default a network is named after its cluster, and equal names are reported already.
            is_told = what.endswith("mesh_network") and other.name == host.name
            if value and other is not host and not is_told:
                yield f"{other.shown} and {host.shown} have {what} {printable_line(value, 99)}: {reason}"


def _one_of_all(mesh: Mesh) -> Iterator[str]:
    """Check that all members agree on values of which a mesh has only one."""
    rules: dict[str, Callable[[Host], str]] = {
        "mesh_topology": lambda host: host.topology,
        "mesh_id": lambda host: host.mesh,
    }
    for what, value_of in rules.items():
        for host in mesh[1:]:
            if value_of(host) != value_of(mesh[0]):
                yield (
                    f"{mesh[0].shown} has {what} {printable_line(value_of(mesh[0]), 99)}, but {host.shown} "
                    f"{printable_line(value_of(host), 99)}: a mesh has one, so set it for the group"
                )


def _topologies(mesh: Mesh) -> Iterator[str]:
    """Check that the topology is known and that its variables have values of their types."""
    for host in mesh:
        if host.topology not in TOPOLOGIES:
            yield (
                f"{host.shown} has the unknown mesh_topology {printable_line(host.topology, 99)}: it is one "
                f"of {', '.join(TOPOLOGIES)}"
            )
        try:
            boolean(host.hub)
        except TypeError:
            value = printable_line(str(host.hub), 99)
            yield f"mesh_hub of {host.shown} is {value}, but must be true or false"
        if not _is_list(host.groups):
            yield (
                f"mesh_groups of {host.shown} is {printable_line(repr(host.groups), 99)}, but must be a list "
                "of names"
            )


def _nobody_is_alone(mesh: Mesh) -> Iterator[str]:
    """Check that each member has a peer, unless the topology has other faults."""
    topologies = {host.topology for host in mesh}
    if topologies == {HUB_AND_SPOKE} and not any(host.is_hub for host in mesh):
        names = ", ".join(host.shown for host in mesh)
        yield f"mesh_topology is hub-and-spoke, but none of {names} is a hub: set mesh_hub: true for one"
    if topologies != {GROUPS} or not all(_is_list(host.groups) for host in mesh):
        return
    for host in mesh:
        if not host.groups:
            yield f"mesh_topology is groups, but {host.shown} is in none: set its mesh_groups"
        elif not any(host.is_peer_of(other) for other in mesh if other is not host):
            groups = printable_line(", ".join(sorted(map(str, host.groups))), 99)
            yield (
                f"mesh_topology is groups, but {host.shown} is alone in {groups}: no other member has one of "
                "its mesh_groups"
            )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


RULES: tuple[Callable[[Mesh], Iterator[str]], ...] = (
    _names,
    _labels,
    _unique,
    _one_of_all,
    _topologies,
    _nobody_is_alone,
)
"""All rules for an inventory. Each rule reports only faults that the others do not report."""
