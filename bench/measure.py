# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the collection and two scripts take for the same mesh, on labs that are new for each of them.

    PYTHONPATH=lab .venv/bin/python bench/measure.py --clusters 2 6 --rounds 5

The contestants take turns, and so do the sizes. What was measured is in measurements.json below build/bench,
to which every run of this program adds rounds; --anew begins again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from bench_lab import PROJECT, Lab
from cost import measure

BENCH = PROJECT / "bench"
RESULTS = PROJECT / "build" / "bench"
BIN = Path(sys.executable).parent
SCRIPTS = {"by-hand": BENCH / "by_hand.sh", "script": BENCH / "script.sh"}
COLLECTION = "exomesh"


def run_script(lab: Lab, contestant: str, folder: Path) -> dict[str, Any]:
    """The mesh by a script."""
    variables = lab.variables
    overlay = folder / "overlay.yaml"
    operator = {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "spec": variables["__lab_overlay"],
    }
    overlay.write_text(yaml.safe_dump(operator))
    environment = {
        "CLUSTERS": " ".join(cluster.name for cluster in lab.members),
        "ZONES": " ".join(cluster.zone for cluster in lab.members),
        "OVERLAY": str(overlay),
        "EXOSCALE_API_KEY": variables["kubeconfig_api_key"],
        "EXOSCALE_API_SECRET": variables["kubeconfig_api_secret"],
        "EXOSCALE_API_ENDPOINT": variables["kubeconfig_api_endpoint"],
        "HOME": str(folder),
        "PATH": f"{lab.members[0].lab.bin}:{os.environ['PATH']}",
    }
    return measure(lab, [str(SCRIPTS[contestant])], folder, environment)


def run_playbook(lab: Lab, folder: Path, playbook: str, *arguments: str) -> dict[str, Any]:
    """A playbook of the collection, with the time that each of its roles took."""
    timeline = folder / "timeline.json"
    command = [str(BIN / "ansible-playbook"), "-i", str(lab.inventory), str(PROJECT / playbook), *arguments]
    environment = {
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(BENCH / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "timeline",
        "EXOMESH_TIMELINE": str(timeline),
    }
    result = measure(lab, command, folder, environment)
    entries = [json.loads(line) for line in timeline.read_text().splitlines()]
    done = [entry for entry in entries if entry["outcome"] != "skipped"]
    result["tasks"] = len(done)
    result["tasks_by_host"] = dict(Counter(entry["host"] for entry in done))
    result["changed_by_host"] = dict(
        Counter(entry["host"] for entry in done if entry["outcome"] == "changed")
    )
    result["roles"] = {
        role: round(
            busy_seconds((entry["began"], entry["ended"]) for entry in entries if entry["role"] == role), 2
        )
        for role in dict.fromkeys(entry["role"] for entry in entries)
    }
    return result


def busy_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans lasted."""
    total, until = 0.0, 0.0
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def contest(
    lab: Lab, contestant: str, count: int, actions: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All that a contestant shows on one new lab."""
    lab.renew(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if contestant != COLLECTION:
            yield "first", run_script(lab, contestant, folder)
            prove(lab, contestant)
            if "second" in actions:
                lab.settle()
                yield "second", run_script(lab, contestant, folder)
            return
        yield "first", run_playbook(lab, folder, "site.yml")
        prove(lab, contestant)
        steps = {
            "second": ("site.yml",),
            "prove": ("site.yml", "-e", "verify_proof_hours=0"),
            "check": ("site.yml", "--check", "--diff"),
            "verify": ("playbooks/verify.yml",),
        }
        for action in (action for action in steps if action in actions):
            lab.settle()
            yield action, run_playbook(lab, folder, *steps[action])
        if "add" in actions and count > 2:
            last = f"cluster={lab.members[-1].name}"
            leave = ("playbooks/remove_cluster.yml", "-e", last, "-e", "remove_uninstall=true")
            run_playbook(lab, folder, *leave)
            lab.settle()
            yield "add", run_playbook(lab, folder, "playbooks/add_cluster.yml", "-e", last)


def prove(lab: Lab, contestant: str) -> None:
    """The same request for every contestant."""
    if not lab.page_crosses():
        sys.exit(f"{contestant}: the page of cluster2 does not come to cluster1")


def prove_all_pairs(lab: Lab, contestant: str) -> None:
    """Every ordered pair, by the collection's own verification: what a script made is the same mesh."""
    with tempfile.TemporaryDirectory() as name:
        run_playbook(lab, Path(name), "playbooks/verify.yml")
    print(f"  {contestant}: every pair is verified", flush=True)


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
    }


def versions(lab: Lab) -> dict[str, str]:
    kubectl = subprocess.run(
        [lab.members[0].lab.bin / "kubectl", "version", "--client", "--output=json"],
        capture_output=True,
        text=True,
        check=True,
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return {
        "ansible-core": version("ansible-core"),
        "python": platform.python_version(),
        "kubernetes": json.loads(kubectl.stdout)["clientVersion"]["gitVersion"],
        "istio": lab.variables["mesh_istio_version"],
        "exomesh.istio": yaml.safe_load((PROJECT / "galaxy.yml").read_text())["version"],
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    """Measure, and write after each figure what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clusters", type=int, nargs="+", default=[2, 4, 6, 8], help="sizes of the mesh")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contestant begins on a new lab")
    parser.add_argument(
        "--contestants", nargs="+", default=[*SCRIPTS, COLLECTION], choices=[*SCRIPTS, COLLECTION]
    )
    parser.add_argument(
        "--actions",
        nargs="*",
        default=["second", "prove", "check", "verify", "add"],
        help="besides the first run",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the measurements")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "measurements.json"
    data: dict[str, Any] = {"runs": []}
    if results.exists() and not options.anew:
        data = json.loads(results.read_text())
    with tempfile.TemporaryDirectory() as name:
        lab = Lab(Path(name))
        try:
            for count in options.clusters * options.rounds:
                done = [run["round"] for run in data["runs"] if run["clusters"] == count]
                round_ = max(done, default=0) + 1
                turn = round_ % len(options.contestants)
                for contestant in [*options.contestants[turn:], *options.contestants[:turn]]:
                    for action, result in contest(lab, contestant, count, options.actions):
                        if "machine" not in data:
                            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                            data |= {"machine": machine(), "versions": versions(lab), "started": now}
                        run = {"clusters": count, "contestant": contestant, "action": action, "round": round_}
                        data["runs"].append({**run, **result})
                        results.write_text(json.dumps(data, indent=1))
                        what = f"{count} clusters, round {round_}: {contestant} {action}"
                        print(f"{what} {result['seconds']:.1f} s", flush=True)
                    if round_ == 1 and contestant != COLLECTION:
                        prove_all_pairs(lab, contestant)
        finally:
            lab.down()


if __name__ == "__main__":
    main()
