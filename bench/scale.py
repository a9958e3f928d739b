# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How planning, peering and runs without a change grow with the number of clusters, and what each costs.

    PYTHONPATH=lab:tests/unit/plugins .venv/bin/python bench/scale.py --inventory inventories/lab

A machine holds a few real clusters. So one of a healthy lab mesh of two is recorded through its API, and
played as many. What was measured is in build/bench/scale.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from ansible_collections.exomesh.istio.plugins.module_utils._trust.root_ca import load_authority
from scale_model.played_api import REFUSED, WRITE, PlayedMesh, Traffic
from scale_model.recording import Recording, address_for_peers, member, record

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "build" / "bench"
PLAYBOOKS = ("certificates", "install", "peering")
# What is played cannot be written to, and a lock is.
MODES = {"run": ["-e", "members_lock=false"], "check": ["--check"]}
INVENTORY_ONLY = {
    "inventory": ["ansible-inventory", "--list"],
    "members": ["ansible-playbook", "playbooks/members.yml", *MODES["run"]],
    "mesh_members": ["ansible-playbook", str(ROOT / "bench" / "scale_model" / "mesh_members.yml")],
}
"""What is measured without any API: reading the hosts, the first play of every playbook, and the filter."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one run took. ``requests`` has the requests per cluster by kind."""

    clusters: int
    playbook: str
    mode: str
    seconds: float
    cpu_seconds: float
    requests_per_cluster: float
    writes_per_cluster: float
    bytes_per_cluster: float
    requests: dict[str, float]


class LabMesh:
    """A healthy mesh of two clusters on the lab."""

    def __init__(self, inventory: Path) -> None:
        hosts = yaml.safe_load((inventory / "hosts.yml").read_text())
        self.names = list(hosts["all"]["children"]["mesh"]["hosts"])
        self.variables = yaml.safe_load((inventory / "group_vars" / "mesh.yml").read_text())
        self._state = Path(self.variables["mesh_state_dir"])
        self.root_certificate = self._state / "ca" / "root-cert.pem"

    def record(self) -> Recording:
        if len(self.names) != 2:
            raise SystemExit(f"a mesh of two clusters is recorded, this one has {len(self.names)}")
        name, peer = self.names
        key = str(self._state / "ca" / "root-key.pem")
        root = load_authority(self.root_certificate.read_text(), key, None, None)
        return record(KubernetesClient(str(self._state / name / "kubeconfig"), name=name), peer, root)


def write_inventory(folder: Path, lab: LabMesh, names: Sequence[str]) -> None:
    """An inventory like the lab's own, with a state folder beside it and without any account of a cloud."""
    hosts = {
        name: {"sks_cluster": name, "sks_zone": "ch-gva-2", "peering_server": address_for_peers(name)}
        for name in names
    }
    variables = {key: value for key, value in lab.variables.items() if not key.startswith("kubeconfig_")}
    variables["mesh_state_dir"] = str(folder / "state")
    (folder / "group_vars").mkdir(parents=True)
    (folder / "group_vars" / "mesh.yml").write_text(yaml.safe_dump(variables))
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"mesh": {"hosts": hosts}}}}))
    (folder / "state" / "ca").mkdir(parents=True)
    shutil.copy(lab.root_certificate, folder / "state" / "ca")


def member_names(count: int) -> list[str]:
    return [f"member{number}" for number in range(1, count + 1)]


def run(words: Sequence[str], log: Path) -> tuple[float, float]:
    """Seconds, and CPU seconds with all processes that it starts; a play that fails or changes ends all."""
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(words[0])), *words[1:]],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text()
    if process.returncode != 0 or re.search(r"changed=[1-9]", said):
        raise SystemExit(f"{' '.join(words)} failed, or changed something:\n{said[-3000:]}see {log}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime


def measure_mesh(lab: LabMesh, recording: Recording, clusters: int) -> Iterator[Measurement]:
    """Every playbook in both modes on a mesh of so many clusters."""
    with tempfile.TemporaryDirectory(prefix="exomesh-scale-") as name:
        folder, names = Path(name), member_names(clusters)
        write_inventory(folder, lab, names)
        members = (member(recording, name, [peer for peer in names if peer != name]) for name in names)
        with PlayedMesh(members, folder / "state") as mesh:
            for playbook in PLAYBOOKS:
                for mode, options in MODES.items():
                    words = [
                        "ansible-playbook",
                        "-i",
                        f"{folder}/hosts.yml",
                        f"playbooks/{playbook}.yml",
                        *options,
                    ]
                    log = REPORTS / f"scale-{clusters}-{playbook}-{mode}.log"
                    try:
                        times = run(words, log)
                    finally:
                        traffic = mesh.traffic()
                        tell_refused(traffic)
                    yield measurement(clusters, playbook, mode, times, traffic)


def measure_inventory(lab: LabMesh, hosts: int) -> Iterator[Measurement]:
    """What only looks at the inventory, with so many hosts."""
    with tempfile.TemporaryDirectory(prefix="exomesh-scale-") as name:
        folder = Path(name)
        write_inventory(folder, lab, member_names(hosts))
        for what, words in INVENTORY_ONLY.items():
            times = run(
                [words[0], "-i", f"{folder}/hosts.yml", *words[1:]], REPORTS / f"scale-{hosts}-{what}.log"
            )
            yield measurement(hosts, what, "run", times, [])


def tell_refused(traffic: Sequence[Traffic]) -> None:
    """Say what the recording could not answer; such a run failed."""
    refused = [line for one in traffic for line in one.refused]
    for line in refused[:10]:
        print(f"refused: {line}", file=sys.stderr)


def measurement(
    clusters: int, playbook: str, mode: str, times: tuple[float, float], traffic: Sequence[Traffic]
) -> Measurement:
    requests: Counter[str] = sum((one.requests for one in traffic), Counter())
    if requests[REFUSED] or requests[WRITE]:
        raise SystemExit(
            f"{playbook} with {clusters} clusters asked for more than a run without a change does"
        )
    return Measurement(
        clusters,
        playbook,
        mode,
        round(times[0], 2),
        round(times[1], 2),
        round(requests.total() / clusters, 1),
        round(requests[WRITE] / clusters, 1),
        round(sum(one.bytes for one in traffic) / clusters),
        {kind: round(count / clusters, 1) for kind, count in sorted(requests.items())},
    )


def table(rows: Sequence[Measurement]) -> str:
    """What each cluster costs, by playbook and mode, growing."""
    titles = (
        "clusters",
        "playbook",
        "mode",
        "seconds",
        "CPU s",
        "s each",
        "CPU s each",
        "requests each",
        "KB each",
    )
    lines = [titles] + [
        (
            str(row.clusters),
            row.playbook,
            row.mode,
            f"{row.seconds:.1f}",
            f"{row.cpu_seconds:.1f}",
            f"{row.seconds / row.clusters:.2f}",
            f"{row.cpu_seconds / row.clusters:.2f}",
            f"{row.requests_per_cluster:.0f}",
            f"{row.bytes_per_cluster / 1000:.0f}",
        )
        for row in sorted(rows, key=lambda row: (row.playbook, row.mode != "run", row.clusters))
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)


def main() -> None:
    """Measure, growing; the report is written after each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--inventory", type=Path, default=ROOT / "inventories" / "lab", help="of the lab's mesh"
    )
    parser.add_argument("--clusters", type=int, nargs="*", default=[2, 5, 10, 25, 50], metavar="N")
    parser.add_argument(
        "--hosts", type=int, nargs="*", default=[2, 10, 50, 200], metavar="N", help="inventory only"
    )
    arguments = parser.parse_args()
    REPORTS.mkdir(parents=True, exist_ok=True)
    lab = LabMesh(arguments.inventory)
    rows: list[Measurement] = []

    def keep(found: Iterator[Measurement]) -> None:
        for row in found:
            rows.append(row)
            print(f"{row.clusters:4} {row.playbook:12} {row.mode:5} {row.seconds:7.1f} s", flush=True)
            report: list[dict[str, Any]] = [dataclasses.asdict(entry) for entry in rows]
            (REPORTS / "scale.json").write_text(json.dumps(report, indent=2) + "\n")

    for hosts in arguments.hosts:
        keep(measure_inventory(lab, hosts))
    if arguments.clusters:
        recording = lab.record()
        for clusters in arguments.clusters:
            keep(measure_mesh(lab, recording, clusters))
    print(table(rows))


if __name__ == "__main__":
    main()
