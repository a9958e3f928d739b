# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of a mesh, as modules get them from the filter ``mesh_members`` (private to the collection)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MEMBERS_ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "members": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "network": {"type": "str", "required": True},
            "kubeconfig": {"type": "path", "required": True},
            "server": {"type": "str"},
            "peers": {"type": "list", "elements": "str"},
            "zone": {"type": "str"},
            "mesh": {"type": "str"},
            "variables": {"type": "dict"},
            "uid": {"type": "str"},
            "host": {"type": "str"},
            "inventory": {"type": "list", "elements": "str"},
        },
    },
}
"""The option of the documentation fragment ``exomesh.istio.members``."""


@dataclass(frozen=True)
class Member:
    """A cluster of the mesh.

    :param kubeconfig: file with its credentials; it may be still to come.
    :param server: address of its API as its peers reach it; the one of its kubeconfig when None.
    :param peers: names of the members with which it exchanges remote secrets.
    :param zone: where it is; for reports.
    :param mesh: ID of the mesh; None where the caller does not say.
    :param variables: those of its inventory variables that its cluster's record keeps.
    :param uid: of its namespace kube-system, where it is known.
    :param host: its inventory name, and
    :param inventory: the sources of that inventory; for commands that a report names.
    """

    name: str
    network: str
    kubeconfig: str
    server: str | None = None
    peers: tuple[str, ...] = ()
    zone: str | None = None
    host: str | None = None
    inventory: tuple[str, ...] = ()
    mesh: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    uid: str | None = None

    @property
    def limit(self) -> str:
        """Its name for the option ``--limit`` of a command that people paste into a shell."""
        return shlex.quote(self.host or self.name)

    @property
    def playbook(self) -> str:
        """How a command begins that runs a playbook for the member; a dot and the playbook's name follow."""
        sources = " ".join(f"-i {shlex.quote(source)}" for source in self.inventory or ("INVENTORY",))
        return f"ansible-playbook {sources} exomesh.istio"

    @classmethod
    def of(cls, told: Mapping[str, Any], names: Sequence[str] = ()) -> Member:
        """Read it from plain data; it is everyone's peer where the peers are not given.

        :param names: of all members.
        """
        peers = told.get("peers")
        return cls(
            name=told["name"],
            network=told["network"],
            kubeconfig=told["kubeconfig"],
            server=told.get("server"),
            peers=tuple(name for name in names if name != told["name"]) if peers is None else tuple(peers),
            zone=told.get("zone"),
            host=told.get("host"),
            inventory=tuple(told.get("inventory") or ()),
            mesh=told.get("mesh"),
            variables=told.get("variables") or {},
            uid=told.get("uid"),
        )


def members_of(params: Mapping[str, Any]) -> list[Member]:
    """The members in a module's parameters; each is everyone's peer where the peers are not given."""
    names = [member["name"] for member in params["members"]]
    return [Member.of(member, names) for member in params["members"]]
