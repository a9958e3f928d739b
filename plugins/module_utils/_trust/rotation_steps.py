# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a rotation of the root, as the module ``root_rotation`` does them (private)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from .._base.certificates import fingerprint
from .._base.errors import ExomeshError
from .._base.files import real_path
from .._base.members import members_of
from .._base.waiting import wait_until_met
from . import rotation as mesh_rotation
from .cluster import Rotation
from .next_root import NextRoot, plain
from .root_ca import RootProfile, judge_root, load_authority, require_key
from .rotation import MeshTrust, Phase, read_mesh, told_phase
from .rotation_preflight import Readiness, look, require_ready
from .rotation_proof import Gate, prove
from .rotation_push import push
from .x509 import Authority, CertificateError, KeyKind, chain_pem, complete_chain, read_chain

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509

Params = Mapping[str, Any]
Chain = tuple["x509.Certificate", ...]

_NEXT = {
    Phase.OLD: "let every cluster trust both roots",
    Phase.BOTH: "give each cluster an intermediate CA of the new root, one after the other",
    Phase.SIGNING: "take the old root away from every cluster",
    Phase.NEW: "end the rotation",
}


_ASKED_FOR = 20.0
"""Seconds in which a proxy that has just started is asked again, before a rotation begins."""

_LEAST_NAMED = 8
"""Digits of a fingerprint that name a root. Fewer could also be those of the root that comes."""


@dataclass
class Outcome:
    """The result of a step.

    :param mesh: the mesh after the step.
    :param new: the new root's chain; empty if it is not known.
    """

    mesh: MeshTrust
    new: Chain = ()
    done: bool = False
    changed: bool = False
    proxies: int = 0
    report: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Return it as the result of the module."""
        rotation = self.mesh.rotation
        old = self.mesh.root if rotation is None else self.mesh.roots.get(rotation.old)
        return {
            "changed": self.changed,
            "done": self.done,
            "phase": int(Phase.NEW if self.done else self.mesh.phase),
            "clusters": {place.name: int(place.phase) for place in self.mesh.places},
            "certificate": chain_pem(self.new),
            "old_certificate": chain_pem([old]) if old else "",
            "proxies": self.proxies,
            "report": self.report,
        }


def plan(params: Params, check_mode: bool) -> Outcome:
    """Tell the phase of every cluster and the next step, and refuse what would drop requests."""
    mesh = read_mesh(members_of(params))
    if params["back"]:
        _require_way_back(mesh)
        told = _told(mesh, "return to the old root") if mesh.rotation else ["No rotation is under way."]
        return Outcome(mesh, done=mesh.rotation is None, report=told)
    outcome = Outcome(mesh)
    if mesh.rotation is None and _is_done(params, mesh):
        outcome.done = True
        outcome.report = [f"The mesh has this root already: SHA-256 {fingerprint(mesh.root)}."]
        return outcome
    require_ready(ready := look(mesh))
    _require_proxies(mesh, params["timeout"])
    _choose_root(params, outcome, check_mode)
    outcome.proxies = sum(found.proxies for found in ready)
    outcome.report = [*_told(mesh, _NEXT[mesh.phase]), *_budget(ready)]
    return outcome


def trust(params: Params, check_mode: bool) -> Outcome:
    """Let every cluster trust both roots. Then prove the phase of every cluster, whichever it is."""
    mesh = read_mesh(members_of(params))
    new = _chain(params["certificate"], "The new root")
    rotation = _expected(mesh, new[-1])
    if check_mode:
        return Outcome(mesh, new, changed=bool(mesh.at(Phase.OLD)))
    written = mesh_rotation.trust_both(mesh, new[-1], params["timeout"])
    mesh = read_mesh(members_of(params)) if written else mesh
    mesh, pushed = _push(params, mesh, rotation)
    proved = prove(mesh, rotation, mesh.places, params["timeout"])
    told = f"{proved.proxies} proxies have taken it, after {proved.seconds:.0f} s."
    changed = bool(written) or pushed
    return Outcome(mesh, new, changed=changed, proxies=proved.proxies, report=[*_phases(mesh), told])


def prove_some(params: Params, check_mode: bool) -> Outcome:
    """Prove the phase of some clusters. All must answer, so that none is away before the next one changes."""
    mesh = read_mesh(members_of(params))
    if mesh.rotation is None or check_mode:
        return Outcome(mesh, done=mesh.rotation is None)
    mesh.require(Phase.BOTH)
    rotation = mesh.rotation
    mesh, pushed = _push(params, mesh, rotation, params["only"])
    places = [place for place in mesh.places if place.name in params["only"]]
    proved = prove(mesh, rotation, places, params["timeout"])
    told = f"{proved.proxies} proxies have taken it, after {proved.seconds:.0f} s."
    return Outcome(mesh, changed=pushed, proxies=proved.proxies, report=[*_phases(mesh), told])


def finish(params: Params, check_mode: bool) -> Outcome:
    """Take the old root away, prove that, and end the rotation."""
    mesh = read_mesh(members_of(params))
    if mesh.rotation is None or check_mode:
        return Outcome(mesh, done=mesh.rotation is None, changed=mesh.rotation is not None)
    mesh.require(Phase.SIGNING)
    rotation = mesh.rotation
    require_ready(look(mesh))
    mesh, _pushed = _push(params, mesh, rotation)
    prove(mesh, rotation, mesh.places, params["timeout"])
    mesh = _unchanged(params, mesh)
    if mesh_rotation.trust_new(mesh, params["timeout"]):
        mesh = read_mesh(members_of(params))
    mesh, _pushed = _push(params, mesh, rotation)
    proved = prove(mesh, rotation, mesh.places, params["timeout"])
    if params["state_dir"]:
        _store(params).adopt()
    mesh_rotation.end(mesh, params["timeout"])
    told = [
        (
            f"The root of the mesh is SHA-256 {rotation.new} now. {proved.proxies} proxies trust it alone, "
            f"after {proved.seconds:.0f} s."
        ),
        f"The former root, SHA-256 {rotation.old}, is trusted nowhere any more.",
    ]
    return Outcome(mesh, done=True, changed=True, proxies=proved.proxies, report=told)


def back(params: Params, check_mode: bool) -> Outcome:
    """Return to the old root: its intermediate CAs first, one after the other, then its certificate alone."""
    mesh = read_mesh(members_of(params))
    if mesh.rotation is None or check_mode:
        return Outcome(mesh, done=mesh.rotation is None, changed=mesh.rotation is not None)
    _require_way_back(mesh)
    rotation, timeout = mesh.rotation, params["timeout"]
    for name in [place.name for place in mesh.at(Phase.SIGNING)]:
        place = next(place for place in mesh.places if place.name == name)
        mesh_rotation.sign_with_old(mesh, place, timeout)
        mesh, _pushed = _push(params, read_mesh(members_of(params)), rotation, [name])
        prove(mesh, rotation, [item for item in mesh.places if item.name == name], timeout, back=True)
    mesh, _pushed = _push(params, mesh, rotation)
    # No proxy may have a certificate of the new root when that goes.
    both = mesh.at(Phase.BOTH)
    if both:
        prove(mesh, rotation, both, timeout, back=True)
        mesh_rotation.trust_old(_unchanged(params, mesh), timeout)
        mesh, _pushed = _push(params, read_mesh(members_of(params)), rotation)
    proved = prove(mesh, rotation, mesh.places, timeout, back=True)
    if params["state_dir"]:
        _store(params).abandon()
    mesh_rotation.end(mesh, timeout)
    told = f"The root of the mesh is SHA-256 {rotation.old} again, at {proved.proxies} proxies."
    return Outcome(mesh, done=True, changed=True, proxies=proved.proxies, report=[told])


STEPS: dict[str, Callable[[Params, bool], Outcome]] = {
    "plan": plan,
    "trust": trust,
    "prove": prove_some,
    "finish": finish,
    "back": back,
}


def _push(
    params: Params, mesh: MeshTrust, rotation: Rotation, only: Sequence[str] | None = None
) -> tuple[MeshTrust, bool]:
    """Have proxies ask for certificates, where that is still to do; return the mesh after that."""
    places = [place for place in mesh.places if only is None or place.name in only]
    pushed = push(mesh, rotation, places, params["timeout"])
    return (read_mesh(members_of(params)) if pushed else mesh), pushed


def _unchanged(params: Params, proved: MeshTrust) -> MeshTrust:
    """Read the mesh again, directly before a root is taken away.

    :raises CertificateError: ``rotation_gate``: a cluster has changed since it was proved.
    """
    mesh = read_mesh(members_of(params))
    versions = [
        {place.name: place.held.secret["metadata"]["resourceVersion"] for place in each.places}
        for each in (proved, mesh)
    ]
    changed = [name for name, version in versions[1].items() if versions[0].get(name) != version]
    if changed:
        raise CertificateError(
            f"Secret cacerts of {', '.join(changed)} was changed after its proxies were asked, so no root "
            "was taken away",
            "rotation_gate",
            next_step="Run playbook rotate_root again: it asks them again",
        )
    return mesh


def _require_proxies(mesh: MeshTrust, timeout: float) -> None:
    """Ask the proxies of clusters that no rotation has changed yet, so that none stops it after its begin.

    :raises ExomeshError: ``rotation_not_ready``, with the proxies that lag or do not answer.
    """
    old = mesh.at(Phase.OLD)
    if mesh.rotation is None:
        gate = Gate(mesh, Rotation(fingerprint(mesh.root), ""), old)
    else:  # a return that was ended early may have left the new root in some of them
        old = [replace(place, phase=Phase.BOTH) for place in old]
        gate = Gate(mesh, mesh.rotation, old, back=True)
    missing = wait_until_met(gate.unmet, min(_ASKED_FOR, timeout / 4)) if old else None
    if missing:
        raise ExomeshError(
            "Not every proxy could take another root, so nothing was changed",
            "rotation_not_ready",
            cause=missing,
            next_step="Restart those workloads, or look at them (kubectl -n NAMESPACE describe pod NAME). "
            "Then run this again",
            details={"problems": gate.lagging or [missing]},
        )


def _is_done(params: Params, mesh: MeshTrust) -> bool:
    """Return whether a mesh that is in no rotation has the wanted root already.

    :raises CertificateError: ``old_root_unnamed`` or ``old_root_unknown``.
    """
    present = fingerprint(mesh.root)
    if params["certificate"]:
        return fingerprint(_chain(params["certificate"], "The new root given")[-1]) == present
    if not params["state_dir"]:
        raise CertificateError(
            "There is no new root. Nothing was changed",
            "new_root_missing",
            next_step="Give it in certificates_new_root_certificate and certificates_new_root_key",
        )
    named = plain(params["old_root"] or "")
    if named and not re.fullmatch(rf"[0-9a-f]{{{_LEAST_NAMED},64}}", named):
        raise CertificateError(
            f"{params['old_root']} does not name a root: at least the first {_LEAST_NAMED} hex digits of its "
            "SHA-256 are needed. Nothing was changed",
            "old_root_unclear",
            next_step=f"The root of this mesh: -e rotate_old_root={present[:11]}",
        )
    if named and plain(present).startswith(named):
        return False
    if named and _store(params).was_left(named):
        return True
    raise CertificateError(
        f"The root of this mesh has SHA-256 {present}"
        + (f", which does not begin with {named}" if named else "")
        + ". Nothing was changed",
        "old_root_unknown" if named else "old_root_unnamed",
        cause="A new root is made only for the root that you name, so that a second run changes nothing",
        next_step=f"Name the root that is to go: -e rotate_old_root={present[:11]}",
        details={"root": present},
    )


def _choose_root(params: Params, outcome: Outcome, check_mode: bool) -> None:
    """Find or make the new root. In a rotation it must be the one with which that began."""
    mesh = outcome.mesh
    given = _given(params)
    if given:  # no other root may come into the mesh's state
        _expected(mesh, given.chain[-1])
    if not params["state_dir"]:
        outcome.new = given.chain if given else _chain(params["certificate"], "The new root given")
    elif mesh.phase == Phase.NEW and (present := _store(params).read_present()) and _is_new(mesh, present):
        outcome.new = present  # the last run was interrupted after it had moved the root
    elif mesh.rotation and not given and not _store(params).read():
        raise _not_the_root(mesh.rotation, f"There is no {_store(params).key_path.parent}")
    else:
        profile = RootProfile(
            params["organization"],
            KeyKind(params["key_type"], params["key_size"]),
            timedelta(days=params["lifetime"]),
        )
        made = _store(params).ensure(profile, given, check_mode)
        outcome.new, outcome.changed = made.chain, bool(made.changes)
        outcome.warnings += made.warnings
    if outcome.new:
        judge_root(outcome.new, "The new root")
        _expected(mesh, outcome.new[-1])


def _given(params: Params) -> Authority | None:
    if not params["certificate"] or not (params["key_path"] or params["key_content"]):
        return None
    given = load_authority(
        params["certificate"], params["key_path"], params["key_content"], params["passphrase"]
    )
    require_key(given, "the key of the new root")
    return given


def _expected(mesh: MeshTrust, new: x509.Certificate) -> Rotation:
    """Return the rotation to this root.

    :raises CertificateError: ``new_root_differs``: another one is under way.
    """
    if mesh.rotation is None:
        return Rotation(fingerprint(mesh.root), fingerprint(new))
    if fingerprint(new) != mesh.rotation.new:
        raise _not_the_root(mesh.rotation, f"The root given has SHA-256 {fingerprint(new)}")
    return mesh.rotation


def _not_the_root(rotation: Rotation, told: str) -> CertificateError:
    return CertificateError(
        f"{told}, but the rotation that is under way is to the root with SHA-256 {rotation.new}. Nothing was "
        "changed",
        "new_root_differs",
        next_step="Give that root; or return to the old one, which needs none: "
        "ansible-playbook exomesh.istio.rotate_root -e rotate_back=true",
    )


def _is_new(mesh: MeshTrust, chain: Chain) -> bool:
    return mesh.rotation is not None and fingerprint(chain[-1]) == mesh.rotation.new


def _require_way_back(mesh: MeshTrust) -> None:
    gone = mesh.at(Phase.NEW)
    if gone:
        raise CertificateError(
            f"There is no way back: {', '.join(place.name for place in gone)} trusts the new root only. "
            "Nothing was changed",
            "rotation_too_far",
            next_step="Finish the rotation: ansible-playbook exomesh.istio.rotate_root. To have the old root "
            "again after that, rotate to it",
        )
    mesh_rotation.require_formers(mesh)


def _told(mesh: MeshTrust, following: str) -> list[str]:
    return [*_phases(mesh), f"Next: {following}."]


def _phases(mesh: MeshTrust) -> list[str]:
    return [told_phase(place.name, place.phase) for place in mesh.places]


def _budget(ready: list[Readiness]) -> list[str]:
    told = ", ".join(f"{found.cluster} {found.proxies}" for found in ready)
    return [f"In each phase, each proxy asks its istiod for a certificate, within seconds. Proxies: {told}."]


def _store(params: Params) -> NextRoot:
    return NextRoot(real_path(params["state_dir"]), params["passphrase"])


def _chain(text: str, what: str) -> Chain:
    return complete_chain(read_chain(text, what), ())
