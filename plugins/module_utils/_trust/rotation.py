# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The change of a mesh's root, in phases of which each is proved before the next one (private).

Secret ``cacerts`` of a cluster tells its phase, so a run that is killed anywhere goes on where it was:

==============  ==================  ==========================================
phase           signs with root     root-cert.pem
==============  ==================  ==========================================
``OLD``         old                 old
``BOTH``        old                 old, new
``SIGNING``     new                 old, new; then old, new, new
``NEW``         new                 new; with several istiods, then new, new
==============  ==================  ==========================================

Each proxy of the mesh trusts each other one as long as no cluster is two phases ahead of another. istiod
takes a bundle only if it is part of the former one, or the other way round. It sends the bundle to the
proxies if its text differs, so a root that is there twice makes the proxies ask for new certificates. See
``rotation_push``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from .._base.certificates import fingerprint
from .._base.members import Member
from .._base.waiting import concurrently
from .._istio.names import ISTIO_NAMESPACE
from .._istio.record import refresh_root
from .._kubernetes.client import KubernetesClient
from .cluster import (
    CA_CERTIFICATE,
    CA_KEY,
    CHAIN,
    FORMER_REF,
    ROOT,
    Cacerts,
    ClusterTrust,
    Rotation,
    read_trust,
    secret_text,
    store_cacerts,
)
from .x509 import CertificateError, chain_pem, chain_problems, key_belongs, read_chain, read_key

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509


class Phase(IntEnum):
    """How far a cluster is."""

    OLD = 0
    BOTH = 1
    SIGNING = 2
    NEW = 3


TOLD = {
    Phase.OLD: "trusts the old root only",
    Phase.BOTH: "trusts both roots, and signs with the old one",
    Phase.SIGNING: "trusts both roots, and signs with the new one",
    Phase.NEW: "trusts the new root only",
}


@dataclass(frozen=True)
class Place:
    """A cluster in a rotation."""

    client: KubernetesClient
    trust: ClusterTrust
    held: Cacerts
    phase: Phase

    @property
    def name(self) -> str:
        return self.client.name


@dataclass(frozen=True)
class MeshTrust:
    """The roots of a whole mesh.

    :param rotation: the change of the root that is under way; None if there is none.
    :param roots: every root that a cluster has, by fingerprint.
    """

    rotation: Rotation | None
    places: tuple[Place, ...]
    roots: Mapping[str, x509.Certificate]

    @property
    def root(self) -> x509.Certificate:
        """The root by which the first cluster's CA is signed; without a rotation, that of the mesh."""
        return self.places[0].held.chain[-1]

    @property
    def phase(self) -> Phase:
        """The phase that all clusters have reached."""
        return min(place.phase for place in self.places)

    def at(self, *phases: Phase) -> list[Place]:
        return [place for place in self.places if place.phase in phases]

    def require(self, least: Phase) -> None:
        """Raise CertificateError ``rotation_gate`` unless each cluster has reached a phase."""
        behind = [place for place in self.places if place.phase < least]
        if behind:
            raise CertificateError(
                f"The rotation of the root cannot go on: {told_phases(behind)}. Nothing was changed",
                "rotation_gate",
                next_step="Run playbook rotate_root again: it brings every cluster through each phase",
                details={"clusters": {place.name: int(place.phase) for place in self.places}},
            )


def told_phase(cluster: str, phase: Phase) -> str:
    return f"{cluster} is in phase {int(phase)} of 3: it {TOLD[phase]}."


def told_phases(places: Iterable[Place]) -> str:
    return "; ".join(f"{place.name} {TOLD[place.phase]}" for place in places)


def read_mesh(members: Sequence[Member]) -> MeshTrust:
    """Read the trust of every member, all of which must answer. Change nothing.

    :raises ExomeshError: a cluster does not answer, has no CA of ours, or has another root than the others:
        ``cacerts_missing``, ``cacerts_not_ours``, ``roots_differ`` or ``rotation_differs``.
    """

    def read(member: Member) -> tuple[KubernetesClient, ClusterTrust, Cacerts]:
        client = KubernetesClient(member.kubeconfig, name=member.name)
        trust = read_trust(client)
        return client, trust, _require_ours(trust)

    found = concurrently(read, members)
    rotations = {held.rotation for _client, _trust, held in found} - {None}
    if len(rotations) > 1:
        told = "; ".join(f"{client.name}: {held.rotation}" for client, _trust, held in found)
        raise CertificateError(
            f"The clusters are in different rotations of the root: {told}. Nothing was changed",
            "rotation_differs",
            cause="Clusters of two meshes are in one inventory",
            next_step="Give each mesh an inventory group of its own",
        )
    rotation = next(iter(rotations), None)
    if rotation is None:
        _require_one_root(found)
    places = tuple(
        Place(client, trust, held, phase_of(held, rotation, client.name) if rotation else Phase.OLD)
        for client, trust, held in found
    )
    roots = {
        fingerprint(root): root for place in places for root in (*place.held.roots, place.held.chain[-1])
    }
    return MeshTrust(rotation, places, roots)


def phase_of(held: Cacerts, rotation: Rotation, cluster: str) -> Phase:
    """Return how far a cluster is in a rotation.

    :raises CertificateError: ``rotation_differs``: its CA is of neither root.
    """
    signer = fingerprint(held.chain[-1])
    trusted = {fingerprint(root) for root in held.roots}
    known = {rotation.old, rotation.new}
    if signer in known and signer in trusted and trusted <= known:
        if signer == rotation.old:
            return Phase.BOTH if rotation.new in trusted else Phase.OLD
        return Phase.SIGNING if rotation.old in trusted else Phase.NEW
    raise CertificateError(
        f"Its CA is of SHA-256 {signer}, and it trusts {', '.join(sorted(trusted))}, but the mesh's root is "
        f"being changed from {rotation.old} to {rotation.new}. Nothing was changed",
        "rotation_differs",
        cluster=cluster,
        cause="Its secret cacerts was changed by hand, or it has never been a member of this mesh",
        next_step="Put the secret back, or take the cluster out of the inventory",
    )


def wanted_roots(phase: Phase, rotation: Rotation) -> tuple[frozenset[str], str]:
    """Return the roots that a proxy must trust in a phase, and the one its certificate must be of."""
    both = frozenset((rotation.old, rotation.new))
    return {
        Phase.OLD: (frozenset((rotation.old,)), rotation.old),
        Phase.BOTH: (both, rotation.old),
        Phase.SIGNING: (both, rotation.new),
        Phase.NEW: (frozenset((rotation.new,)), rotation.new),
    }[phase]


def trust_both(mesh: MeshTrust, new: x509.Certificate, timeout: float) -> list[str]:
    """Let the clusters that have only the old root trust the new one, too; return their names."""
    places = mesh.at(Phase.OLD)
    if not places:
        return []
    rotation = mesh.rotation or Rotation(fingerprint(mesh.root), fingerprint(new))
    old = mesh.roots[rotation.old]
    concurrently(lambda place: write_roots(place, (old, new), rotation, timeout), places)
    return [place.name for place in places]


def trust_new(mesh: MeshTrust, timeout: float) -> list[str]:
    """Take the old root away from the clusters that sign with the new one; return their names.

    :raises CertificateError: ``rotation_gate``: a cluster still signs with the old root.
    """
    mesh.require(Phase.SIGNING)
    places = mesh.at(Phase.SIGNING)
    concurrently(lambda place: write_roots(place, (place.held.chain[-1],), mesh.rotation, timeout), places)
    return [place.name for place in places]


def require_formers(mesh: MeshTrust) -> None:
    """Check the copy to which each cluster that signs with the new root would return. Change nothing.

    :raises CertificateError: ``former_ca_missing`` or ``former_ca_unfit``.
    """
    concurrently(lambda place: _former(mesh, place), mesh.at(Phase.SIGNING))


def sign_with_old(mesh: MeshTrust, place: Place, timeout: float) -> None:
    """Give a cluster back its intermediate CA of the old root. It still trusts both roots.

    Its proxies hear of that when the roots get the text of the former phase.

    :raises CertificateError: ``former_ca_missing`` or ``former_ca_unfit``.
    """
    rotation = _require(mesh.rotation)
    old, new = mesh.roots[rotation.old], mesh.roots[rotation.new]
    texts = {**_former(mesh, place), ROOT: chain_pem((old, new, new))}
    store_cacerts(place.client, texts, place.held, rotation, timeout)


def _former(mesh: MeshTrust, place: Place) -> dict[str, str]:
    rotation = _require(mesh.rotation)
    copy = place.client.get(FORMER_REF)
    texts = {key: secret_text(copy or {}, key) for key in (CA_CERTIFICATE, CA_KEY, CHAIN)}
    chain = read_chain(texts[CHAIN], f"{CHAIN} in {FORMER_REF}") if all(texts.values()) else ()
    if not chain or fingerprint(chain[-1]) != rotation.old:
        raise CertificateError(
            f"It has no copy of its intermediate CA of the old root: secret {ISTIO_NAMESPACE}/"
            f"{FORMER_REF.name} is not there, or is of another rotation. Nothing was changed",
            "former_ca_missing",
            cluster=place.name,
            next_step="Finish the rotation instead: ansible-playbook exomesh.istio.rotate_root",
        )
    problems = chain_problems(chain, datetime.now(UTC))
    if read_chain(texts[CA_CERTIFICATE], f"{CA_CERTIFICATE} in {FORMER_REF}")[0] != chain[0]:
        problems.append(f"{CA_CERTIFICATE} is not the first one of {CHAIN}")
    if not key_belongs(chain[0], read_key(texts[CA_KEY], None, f"{CA_KEY} in {FORMER_REF}")):
        problems.append("its key belongs to another certificate")
    if problems:
        raise CertificateError(
            f"Its former intermediate CA, in secret {ISTIO_NAMESPACE}/{FORMER_REF.name}, cannot sign: "
            f"{'; '.join(problems)}. Nothing was changed",
            "former_ca_unfit",
            cluster=place.name,
            next_step="Finish the rotation instead: ansible-playbook exomesh.istio.rotate_root",
        )
    return texts


def trust_old(mesh: MeshTrust, timeout: float) -> list[str]:
    """Take the new root away from the clusters that sign with the old one; return their names."""
    rotation = _require(mesh.rotation)
    places = mesh.at(Phase.BOTH)
    old = mesh.roots[rotation.old]
    concurrently(lambda place: write_roots(place, (old,), rotation, timeout), places)
    return [place.name for place in places]


def end(mesh: MeshTrust, timeout: float) -> None:
    """End the rotation: record the root of each cluster, and delete what was kept to return."""

    def end_in(place: Place) -> None:
        place.client.delete(FORMER_REF)
        refresh_root(place.client)
        if place.held.rotation:
            write_roots(place, tuple(dict.fromkeys(place.held.roots)), None, timeout)

    concurrently(end_in, mesh.places)


def write_roots(
    place: Place, roots: Sequence[x509.Certificate], rotation: Rotation | None, timeout: float
) -> None:
    """Write the roots that a cluster trusts, and the rotation that they are part of."""
    kept = {key: secret_text(place.held.secret, key) for key in (CA_CERTIFICATE, CA_KEY, CHAIN)}
    store_cacerts(place.client, {**kept, ROOT: chain_pem(roots)}, place.held, rotation, timeout)


def _require(rotation: Rotation | None) -> Rotation:
    if rotation is None:
        raise CertificateError(
            "The root of this mesh is not being changed",
            "no_rotation",
            next_step="Begin with it: ansible-playbook exomesh.istio.rotate_root",
        )
    return rotation


def _require_ours(trust: ClusterTrust) -> Cacerts:
    held = trust.cacerts
    if held is None:
        raise CertificateError(
            f"There is no secret {ISTIO_NAMESPACE}/cacerts. Nothing was changed",
            "cacerts_missing",
            cluster=trust.cluster,
            next_step="Make it a member first: ansible-playbook exomesh.istio.site",
        )
    if not held.ours:
        raise CertificateError(
            f"Its secret {ISTIO_NAMESPACE}/cacerts was not made by this collection. Nothing was changed",
            "cacerts_not_ours",
            cluster=trust.cluster,
            next_step="Have its maker change the root, or let the collection take it over: "
            "ansible-playbook exomesh.istio.renew_certificates -e certificates_adopt=true",
        )
    return held


def _require_one_root(found: Sequence[tuple[KubernetesClient, ClusterTrust, Cacerts]]) -> None:
    root = found[0][2].chain[-1]
    strangers = [
        client.name
        for client, trust, held in found
        if {root} != {held.chain[-1], *held.roots} or set(trust.running_roots) - {root}
    ]
    if strangers:
        raise CertificateError(
            f"Not every cluster has the same root as {found[0][0].name}, SHA-256 {fingerprint(root)}, and no "
            f"other one: {', '.join(strangers)}. Nothing was changed",
            "roots_differ",
            next_step="See what they have: ansible-playbook exomesh.istio.certificates_report",
        )
