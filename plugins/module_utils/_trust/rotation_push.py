# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the proxies of a cluster ask for certificates once every istiod of it has a phase (private).

Proxies ask when the text of the roots changes. The kubelet of each istiod delivers a secret at a time of its
own, so a proxy that hears of the new text from one istiod may ask another that still has the former secret.
It would not ask again. So the text changes in a write of its own, after all istiods have what they are asked
for.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from .._base.errors import ExomeshError
from .._base.waiting import concurrently, wait_until_met
from .cluster import Rotation
from .rotation import MeshTrust, Phase, Place, write_roots
from .rotation_proof import seconds_to_deliver
from .serving import not_taken, ready_istiods

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509


def push(mesh: MeshTrust, rotation: Rotation, places: Sequence[Place], timeout: float) -> bool:
    """Give the roots of these clusters the text that makes their proxies ask; return whether one was written.

    :raises ExomeshError: ``rotation_lagging``: an istiod has not taken the phase in time.
    """
    texts = {place.name: _text(mesh, rotation, place) for place in places}
    behind = [place for place in places if place.held.roots != texts[place.name]]

    def push_in(place: Place) -> None:
        if missing := wait_until_met(lambda: _not_reached(place), timeout, 1.0):
            raise ExomeshError(
                "Not every istiod has taken this phase, so the rotation stops here. Requests go on",
                "rotation_lagging",
                cluster=place.name,
                cause=missing,
                next_step="See why: kubectl -n istio-system logs deployment/istiod. Then run this again: it "
                "goes on where it is",
            )
        write_roots(place, texts[place.name], rotation, timeout)

    concurrently(push_in, behind)
    return bool(behind)


def _text(mesh: MeshTrust, rotation: Rotation, place: Place) -> tuple[x509.Certificate, ...]:
    """Return the roots of a cluster in the order, and as often, as its proxies have them at a phase's end."""
    if place.phase in (Phase.BOTH, Phase.SIGNING):
        old, new = mesh.roots[rotation.old], mesh.roots[rotation.new]
        return (old, new) if place.phase == Phase.BOTH else (old, new, new)
    root = place.held.roots[0]
    return (root, root) if len(ready_istiods(place.client)) > 1 else place.held.roots


def _not_reached(place: Place) -> str | None:
    """Return what keeps a cluster from its next text; None if every istiod has the present secret."""
    if place.phase in (Phase.BOTH, Phase.SIGNING):
        return not_taken(place.client, place.held.chain[0])
    # An istiod does not show which roots it trusts.
    left = seconds_to_deliver(place.client, place.held.secret)
    return f"the kubelets have {left:.0f} s left to deliver secret cacerts" if left > 0 else None
