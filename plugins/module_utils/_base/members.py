# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Members of a mesh, as the filter ``mesh_members`` passes them to modules (private to the collection)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import ExomeshError
from .text import printable_line

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

    :param kubeconfig: file with its credentials; the file may not exist yet.
    :param server: address at which peers reach its API; the one in its kubeconfig when None.
    :param peers: names of the members with which it exchanges remote secrets.
    :param zone: its zone; for reports.
    :param mesh: ID of the mesh; None when the caller does not say it.
    :param variables: its inventory variables that its cluster's record keeps.
    :param uid: UID of its namespace kube-system, where it is known.
    :param host: its inventory name; for commands in reports.
    :param inventory: the sources of that inventory; for commands in reports.
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
        """Its name for ``--limit``, quoted for commands that people paste into a shell."""
        return shlex.quote(self.host or self.name)

    @property
    def playbook(self) -> str:
        """Start of a command that runs a playbook for the member; a dot and the playbook's name follow."""
        sources = " ".join(f"-i {shlex.quote(source)}" for source in self.inventory or ("INVENTORY",))
        return f"ansible-playbook {sources} exomesh.istio"

    @classmethod
    def of(cls, told: Mapping[str, Any], names: Sequence[str] = ()) -> Member:
        """Read a member from plain data. Without ``peers`` in the data it is a peer of all members.

        :param names: names of all members.
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
    """Return the members in a module's parameters. One without ``peers`` is a peer of all members."""
    names = [member["name"] for member in params["members"]]
    return [Member.of(member, names) for member in params["members"]]


def member_named(members: Sequence[Member], option: str, name: str) -> Member:
    """Return the member that an option names, by its inventory name or by its name in the mesh.

    :raises ExomeshError: ``unknown_member``, with the names of all members.
    """
    wanted = name.strip()
    for member in [member for member in members if member.host == wanted] or members:
        if wanted in (member.host, member.name):
            return member
    known = [
        member.name if member.host in (None, "", member.name) else f"{member.name} (host {member.host})"
        for member in members
    ]
    raise ExomeshError(
        f"{option} names {printable_line(wanted, 99) or 'nothing'}, which is no member of the mesh",
        "unknown_member",
        next_step=f"Name one of the members: {printable_line(', '.join(known), 2000)}",
    )


def members_named(members: Sequence[Member], option: str, names: Iterable[str]) -> list[Member]:
    """Return the members that an option names, see :func:`member_named`. Empty names are left out.

    :raises ExomeshError: ``unknown_member``.
    """
    return [member_named(members, option, name) for name in names if name.strip()]
