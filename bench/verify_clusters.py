# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a verification takes with all clusters of a mesh, and with the first two of them alone.

    .venv/bin/python bench/verify_clusters.py ~/.exomesh cluster1 cluster2 cluster3 ...

The first argument is the mesh's state folder with its kubeconfigs (mesh_state_dir).
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._verify.verification import Verification
from ansible_collections.exomesh.istio.plugins.module_utils._verify.workload import Workload

WORKLOAD = Workload(
    "exo.container-registry.com/exoscale-images/exo-webtest:v2", "docker.io/curlimages/curl:8.16.0"
)
RUNS = 3


def members(state: Path, names: list[str]) -> list[Member]:
    """Return the members, each the others' peer."""
    return [
        Member(
            name,
            f"network-{name}",
            str(state / name / "kubeconfig"),
            None,
            tuple(other for other in names if other != name),
        )
        for name in names
    ]


def verify(state: Path, names: list[str], workload: Workload | None) -> tuple[float, float]:
    """Return the seconds until the verdict, and until all is cleared up; the mesh must be healthy.

    The other clusters of the mesh are strangers then, of which it warns.
    """
    begun = time.monotonic()
    with Verification(members(state, names), workload, 120) as verification:
        _mesh, verdict = verification.look()
        judged = time.monotonic() - begun
    if not verdict.healthy:
        errors = [(finding.kind.code, finding.evidence) for finding in verdict.findings if finding.is_error]
        sys.exit(f"not healthy: {errors}")
    return judged, time.monotonic() - begun


def main() -> None:
    """Print a line for each size and way."""
    state, names = Path(sys.argv[1]).expanduser(), sys.argv[2:]
    for way, workload in (("with requests", WORKLOAD), ("status", None)):
        medians = []
        for count in (2, len(names)):
            runs = [verify(state, names[:count], workload) for _run in range(RUNS)]
            judged, cleared = (statistics.median(times) for times in zip(*runs, strict=True))
            medians.append(cleared)
            print(
                f"{way}: {count} clusters, {count * (count - 1)} pairs: "
                f"{judged:.1f} s to the verdict, {cleared:.1f} s in all"
            )
        print(f"{way}: {medians[1] / medians[0]:.2f} times as long")


if __name__ == "__main__":
    main()
