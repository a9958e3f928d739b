# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of a mesh that take part in a run of ``ansible-playbook`` (private to the collection).

A member that does not answer, or has failed before, is found once and remembered. Otherwise each step would
wait for it again, and all members would be in the middle of their work when the first one fails.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._base.errors import ExomeshError
from .._base.members import Member
from .._istio.identity import identify

STOP, SKIP = "stop", "skip"
TELL, COLLECT, JUDGE = "tell", "collect", "judge"
HOW_TO_SKIP = f"-e mesh_on_failure={SKIP}"

Plain = dict[str, Any]


@dataclass(frozen=True)
class Attendance:
    """The members that take part, and those that do not.

    :param hosts: inventory names of the members that take part.
    :param members: entries of the members that take part.
    :param troubles: why members do not answer or have failed, by inventory name.
    :param missing: the troubles of members that are left out, by inventory name.
    :param left_out: names in the mesh of the members that are left out.
    :param silent: the troubles of members that are not left out, by name in the mesh.
    :param uids: UIDs of the clusters that answered, by inventory name.
    :param judged: whether a task has decided that the run may go on.
    """

    hosts: list[str]
    members: list[Plain]
    troubles: dict[str, str]
    missing: dict[str, str]
    left_out: list[str]
    silent: dict[str, str]
    uids: dict[str, str]
    looked: bool
    judged: bool

    def told(self) -> Plain:
        """Return what later tasks need to know, as plain data."""
        seen = {
            "troubles": self.troubles,
            "missing": self.missing,
            "uids": self.uids,
            "looked": self.looked,
            "judged": self.judged,
        }
        return {"missing": self.missing, "left_out": self.left_out, "silent": self.silent, "seen": seen}


def attend(params: Mapping[str, Any], check_mode: bool) -> Attendance:
    """Find out which members take part, by the options of the module ``mesh_lock``.

    :raises ExomeshError: ``members_in_trouble``, with all troubles; ``invalid_option``.
    """
    if params["on_failure"] not in (STOP, SKIP):
        raise ExomeshError(
            f"mesh_on_failure is {params['on_failure']!r}, and can be {STOP} or {SKIP}",
            "invalid_option",
            next_step=f"{STOP} changes nothing where a member cannot take part, {SKIP} goes on without it",
        )
    seen: Mapping[str, Any] = params["seen"] or {}
    by_host = {member.get("host") or member["name"]: member for member in params["members"]}
    troubles = {**seen.get("troubles", {}), **_of_members(params["troubles"], params["hosts"])}
    looks = params["look"] and not seen.get("looked")
    uids = dict(seen.get("uids", {}))
    if looks:
        asked = {host: member for host, member in by_host.items() if host not in troubles}
        uids, silent = _look(asked, check_mode)
        troubles |= silent
    missing = dict(seen.get("missing", {}))
    if params["treatment"] != TELL:
        missing |= {host: why for host, why in troubles.items() if host in params["play"]}
    left = [host for host in params["hosts"] if host not in missing]
    judged = bool(seen.get("judged"))
    if params["treatment"] == JUDGE:
        _judge(params, missing, left, judged)
        judged = True
    gone = [by_host[host]["name"] for host in missing if host in by_host]
    return Attendance(
        hosts=left,
        members=[
            {**_without(by_host[host], gone), "uid": uids.get(host)} for host in left if host in by_host
        ],
        uids=uids,
        troubles=troubles,
        missing=missing,
        left_out=gone,
        silent={
            by_host[host]["name"]: why
            for host, why in troubles.items()
            if host in by_host and host not in missing
        },
        looked=bool(looks or seen.get("looked")),
        judged=judged,
    )


def _of_members(troubles: Mapping[str, Any], hosts: list[str]) -> dict[str, str]:
    return {host: str(troubles[host]) for host in hosts if host in troubles}


def _look(members: Mapping[str, Plain], check_mode: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Ask all members at once for their identities.

    :returns: UIDs of the members that answer, and why the others do not answer; both by inventory name.
    :raises ExomeshError: a kubeconfig is that of another cluster. This does not depend on the treatment.
    """
    asked = {
        host: Member.of(member)
        for host, member in members.items()
        # In check mode, the kubeconfig may not exist yet.
        if not check_mode or os.path.exists(member["kubeconfig"])
    }
    found = identify(list(asked.values()))
    return (
        {host: found.uids[member.name] for host, member in asked.items() if member.name in found.uids},
        {host: found.silent[member.name] for host, member in asked.items() if member.name in found.silent},
    )


def _judge(params: Mapping[str, Any], missing: Mapping[str, str], left: list[str], judged: bool) -> None:
    if not missing:
        return
    told = ". ".join(
        f"({number}) {host}: {why.rstrip('. ')}" for number, (host, why) in enumerate(missing.items(), 1)
    )
    count = f"{len(missing)} of {len(params['hosts'])} members cannot take part"
    if params["on_failure"] == STOP and not judged:
        raise ExomeshError(
            f"{count}, so nothing was changed in any cluster",
            "members_in_trouble",
            cause=told,
            next_step="Correct that; or go on without them, and they join with the next run in which they "
            f"can: {HOW_TO_SKIP}",
            details={"troubles": dict(missing)},
        )
    if len(left) < min(2, params["least"]):
        raise ExomeshError(
            f"{count}, and what is left is no mesh",
            "members_in_trouble",
            cause=told,
            next_step="Correct that, then run this again",
            details={"troubles": dict(missing)},
        )


def _without(member: Plain, gone: list[str]) -> Plain:
    """Return the member without those of its peers that are gone."""
    if not gone or member.get("peers") is None:
        return member
    return {**member, "peers": [peer for peer in member["peers"] if peer not in gone]}
