# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try the collection with the versions that it supports: of ansible-core, Python and the Kubernetes client.

Each cell has an environment of its own in build/matrix, made by uv and kept. There, ansible-doc reads every
plugin and role, every playbook parses, and the tests run that depend most on these versions. A deprecation
warning of Ansible is a failure. A cell whose Python this machine does not have is named, and is no failure.

With --record, what came of it is written to tests/matrix.json, of which `make readme` makes README's table.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from make_venv import AWX, OWN, extract_collections, find_python

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FOLDER = ROOT / "build/matrix"
RECORD = ROOT / "tests/matrix.json"
TOOLS = ("pytest==9.2.0", "pytest-cov==7.1.0", "exoscale==0.16.4")
NOT_TRIED = "not tried"
TIMEOUT = 1800  # seconds, for a step of a cell
DEPRECATED = "[DEPRECATION WARNING]"

# Every role and module, by all playbooks.
SMALL = ("tests/unit/playbooks", "tests/unit/roles/test_shared_defaults.py")
# And modules in their ways of running, the client of Kubernetes, the inventory and the filters.
LARGE = (
    *SMALL,
    "tests/unit/plugins/filter/test_absolute_path.py",
    "tests/unit/plugins/plugin_utils/test_action.py",
    "tests/unit/plugins/module_utils/_kubernetes/test_client.py",
    "tests/unit/plugins/module_utils/_kubernetes/test_load_balancer.py",
    "tests/unit/plugins/module_utils/_kubernetes/test_readiness.py",
    "tests/unit/plugins/filter/test_mesh_members.py",
    "tests/unit/plugins/inventory/test_sks.py",
)

Result = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """Versions that go together.

    collections: the release of the PyPI package `ansible` from which the collections are.
    """

    python: str
    core: str
    kubernetes: str
    collections: str
    tests: tuple[str, ...] = LARGE

    @property
    def name(self) -> str:
        """The versions in one word."""
        return f"{self.python}-{self.core}-{self.kubernetes}"

    def __str__(self) -> str:
        return f"Python {self.python}, ansible-core {self.core}, kubernetes {self.kubernetes}"


OLDEST_CLIENT, NEWEST_CLIENT = "31.0.0", "37.0.2"
OLDEST_COLLECTIONS, NEWEST_COLLECTIONS = "12.3.0", "14.5.0"
CELLS = (
    # The floor of all. Before 2.19.4 a playbook may stop for ever: core loses the thread that takes results.
    Cell("3.11", "2.19.4", OLDEST_CLIENT, OLDEST_COLLECTIONS, SMALL),
    Cell("3.12", "2.20.10", OLDEST_CLIENT, NEWEST_COLLECTIONS),
    # Those of .venv, with which `make unit` runs all the rest.
    Cell("3.13", "2.21.5", NEWEST_CLIENT, NEWEST_COLLECTIONS, SMALL),
    Cell("3.13", "2.22.0rc1", NEWEST_CLIENT, NEWEST_COLLECTIONS),
    Cell("3.14", "2.22.0rc1", NEWEST_CLIENT, NEWEST_COLLECTIONS),
)


def main(arguments: list[str]) -> int:
    """Run all cells; return 1 when one fails."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip((cell.name for cell in CELLS), pool.map(tried, CELLS), strict=True))
    if "--record" in arguments:
        RECORD.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(f"{RECORD.relative_to(ROOT)} is written: now `make readme`")
    counts = [result["result"] for result in results.values()]
    if counts.count(NOT_TRIED) == len(CELLS):
        print("make matrix: nothing was tried, which is a failure", file=sys.stderr)
        return 1
    return 1 if "failed" in counts else 0


def tried(cell: Cell) -> Result:
    """Try a cell, and tell what came of it."""
    python = find_python(cell.python)
    if python is None:
        print(f"{NOT_TRIED}, there is no Python {cell.python} here: {cell}", flush=True)
        return {"result": NOT_TRIED}
    started = time.monotonic()
    folder = FOLDER / cell.name
    shutil.rmtree(folder / "results", ignore_errors=True)
    (folder / "results").mkdir(parents=True)
    good = has_environment(cell, python) and works(cell)
    counts = counted(folder / "results/tests.xml")
    seconds = time.monotonic() - started
    print(f"{'ok    ' if good else 'FAILED'} {cell}, {counts} ({seconds:.0f} s)", flush=True)
    return {
        "result": "passed" if good else "failed",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **counts,
        **versions(cell),
    }


def has_environment(cell: Cell, python: str) -> bool:
    """Make the cell's environment, or find that it is made already."""
    environment = FOLDER / cell.name / "environment"
    stamp = environment / "exomesh.stamp"
    requirements = [f"ansible-core=={cell.core}", f"kubernetes=={cell.kubernetes}", *TOOLS]
    wanted = "\n".join([python, cell.collections, *requirements, (ROOT / "requirements.txt").read_text()])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return True
    install: list[str | Path] = [
        "--python",
        environment / "bin/python",
        "--requirement",
        ROOT / "requirements.txt",
    ]
    good = succeeds(BIN / "uv", "venv", "--quiet", "--clear", "--python", python, environment) and succeeds(
        BIN / "uv", "pip", "install", "--quiet", "--compile-bytecode", *install, *requirements
    )
    if good:
        site = site_packages(environment)
        extract_collections(BIN / "python", site, cell.collections, OWN)
        extract_collections(BIN / "python", site, OLDEST_COLLECTIONS, AWX)
        (site / "ansible_collections/exomesh").mkdir()
        (site / "ansible_collections/exomesh/istio").symlink_to(ROOT)
        stamp.write_text(wanted, encoding="utf-8")
    return good


def works(cell: Cell) -> bool:
    """Try the collection in the cell's environment."""
    folder = FOLDER / cell.name
    bin_, log = folder / "environment/bin", folder / "results/ansible.log"
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    # Ansible has no switch that makes errors of these warnings; but its log has them, whoever starts it.
    environment = os.environ | {"ANSIBLE_LOG_PATH": str(log), "ANSIBLE_DEPRECATION_WARNINGS": "1"}
    environment.pop("CI", None)  # tests that need the lab's programs are skipped without them, and counted
    tests = ["-q", "-p", "no:cacheprovider", f"--junitxml={folder / 'results/tests.xml'}", *cell.tests]
    syntax: list[str | Path] = ["-i", ROOT / "inventories/example", "--syntax-check", *playbooks]
    good = [
        succeeds(bin_ / "python", ROOT / "tools/check_docs.py", environment=environment),
        succeeds(bin_ / "ansible-playbook", *syntax, environment=environment),
        succeeds(bin_ / "python", "-m", "pytest", *tests, environment=environment),
    ]
    said = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    deprecated = sorted({line.partition(DEPRECATED)[2] for line in said if DEPRECATED in line})
    for line in deprecated:
        print(f"{cell}: {DEPRECATED}{line}", flush=True)
    return all(good) and not deprecated


def counted(report: Path) -> Result:
    """Return how many tests passed, failed and were skipped."""
    if not report.exists():
        return {"passed": 0, "failed": 0, "skipped": 0}
    suites = list(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314 - pytest wrote it
    tests, skipped = (sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "skipped"))
    failed = sum(int(suite.get(key, 0)) for suite in suites for key in ("failures", "errors"))
    return {"passed": tests - failed - skipped, "failed": failed, "skipped": skipped}


def versions(cell: Cell) -> Result:
    """Return which versions there were."""
    environment = FOLDER / cell.name / "environment"
    code = "import platform; from importlib.metadata import version as v;"
    code += "print(platform.python_version(), v('ansible-core'), v('kubernetes'))"
    told = subprocess.run(
        [environment / "bin/python", "-c", code], stdout=subprocess.PIPE, text=True, check=False
    )
    found = dict(zip(("python", "ansible-core", "kubernetes"), told.stdout.split(), strict=False))
    manifest = site_packages(environment) / "ansible_collections/kubernetes/core/MANIFEST.json"
    collection = json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"]
    return found | {"kubernetes.core": collection}


def site_packages(environment: Path) -> Path:
    """Return the folder of an environment's packages."""
    return next(environment.glob("lib/python*/site-packages"))


def succeeds(*command: str | Path, environment: dict[str, str] | None = None) -> bool:
    """Run a command, and show what it said when it fails."""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # pytest ends what it runs, and tells which test that was
            said, _ = process.communicate()
            said += f"{command[0]} was stopped after {TIMEOUT} s"
    if process.returncode:
        print(said, flush=True)
    return process.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
