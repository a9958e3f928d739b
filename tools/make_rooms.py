# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw in the guide to the architecture which folder of module_utils imports from which, as the code has it.

With --check, say whether the drawing is of the code as it is now.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ROOT / "plugins/module_utils"
GUIDE = ROOT / "docs/docsite/rst/guide_architecture.rst"
BEGIN, END = ".. Made by make rooms, until the next comment.\n", ".. Until here.\n"

ROOMS = {
    "_base": "Files, programs, waits, connections, errors: nothing of Kubernetes",
    "_kubernetes": "One cluster's API: objects, pods, kubeconfigs, locks",
    "_exoscale": "SKS: the command line tool, the API, kubeconfigs, load balancers",
    "_istio": "Istio in one cluster: istioctl, what it renders, the gateway, istiod",
    "_trust": "Certificates: the root CA, intermediate CAs, what is in use",
    "_peering": "Remote secrets, and the accounts whose tokens they hold",
    "_preflight": "What would be in the way of an installation",
    "_verify": "What all clusters are like, requests between them, and the judgement",
    "_diagnose": "The way of one request, and what is given to those who help",
    "_traffic": "Routes, shifts of traffic, drills of a failure",
    "_lifecycle": "Clusters that leave, meshes that go, runs that meet",
}
"""In the order in which they build on each other: none imports from a later one."""

HEAD = """.. list-table::
   :header-rows: 1
   :widths: 14 46 40

   * - folder
     - has
     - imports from
"""
TITLE = """
The same imports as a drawing; each line imports from the columns with a mark:

.. code-block:: text

"""

Edges = Counter[tuple[str, str]]


def main(arguments: list[str]) -> int:
    """Write the drawing, or check it; 1 where it is an old one."""
    text = GUIDE.read_text(encoding="utf-8")
    before, _begin, rest = text.partition(BEGIN)
    _drawn, _end, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n{drawing(edges())}\n{END}{after}"
    if "--check" in arguments:
        if wanted != text:
            print(f"{GUIDE.relative_to(ROOT)} is not of the code as it is now: make rooms", file=sys.stderr)
        return int(wanted != text)
    GUIDE.write_text(wanted, encoding="utf-8")
    return 0


def imports(path: Path) -> set[tuple[str, ...]]:
    """Return the files of module_utils that a file imports, as their parts."""
    here = path.relative_to(CODE).with_suffix("").parts
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*here[: -node.level], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            found |= {(*base, alias.name) for alias in node.names} | {base}
    return {parts for parts in found if (CODE / Path(*parts)).with_suffix(".py").is_file()}


def edges() -> Edges:
    """Return how many imports there are from room to room."""
    return Counter(
        (path.parent.name, target[0])
        for path in sorted(CODE.glob("*/*.py"))
        for target in imports(path)
        if target[0] != path.parent.name
    )


def drawing(found: Edges) -> str:
    """Return the rooms, the last one on top, and what each stands on."""
    rows = HEAD
    for room, has in ROOMS.items():
        below = ", ".join(f"``{other}`` {found[room, other]}" for other in ROOMS if found[room, other])
        rows += f"   * - ``{room}``\n     - {has}\n     - {below or 'nothing'}\n"
    names = list(ROOMS)
    width = max(map(len, names))
    tower = [
        f"   {room:<{width}}  "
        + "".join(f"{'#' if found[room, other] else '.':>3}" for other in names[: names.index(room)])
        for room in reversed(names)
    ]
    foot = f"   {'':<{width}}  " + "".join(f"{other[1:3]:>3}" for other in names[:-1])
    lines = [line.rstrip() for line in [*tower, foot]]
    return rows + TITLE + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
