# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write README's tables from what the code says of itself; with --check, only tell whether they are so.

A playbook is described by the first sentence of the comment that it begins with, a role by its
`meta/main.yml`, a module and another plugin by its `short_description`. The versions are those of
`make matrix`, with what came of its last run that was recorded.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import yaml
from run_matrix import CELLS, NOT_TRIED, RECORD

ROOT = Path(__file__).resolve().parent.parent
PIECES = {"access", "members", "missing"}  # of other playbooks; alone they do nothing
VERSIONS = ("ansible-core", "python", "kubernetes", "kubernetes.core")


def main() -> int:
    """Write the tables, or compare them; return 1 where they differ."""
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = old
    for name, rows in (("playbooks", playbooks()), ("roles", roles()), ("modules", modules())):
        new = with_table(new, name, table(("name", "what it does"), rows))
    new = with_table(new, "matrix", table((*VERSIONS, "tests", "result"), matrix()))
    if "--check" not in sys.argv:
        readme.write_text(new, encoding="utf-8")
        return 0
    print("README.md has", "the tables of the code" if new == old else "other tables: run `make readme`")
    return 0 if new == old else 1


def with_table(text: str, name: str, table: str) -> str:
    """Return the text with the table between the markers of that name."""
    begin, end = f"<!-- {name}, by make readme -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"README.md has no place for {name}: {begin}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def table(heads: Collection[str], rows: Iterable[Iterable[str]]) -> str:
    """Return the table in Markdown."""
    lines = [heads, ["---" for _ in heads], *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def playbooks() -> Iterator[tuple[str, str]]:
    """Yield the playbooks: `site`, its steps in their order, and the others by name."""
    names = dict.fromkeys(
        [*with_imports("site"), *sorted(path.stem for path in ROOT.glob("playbooks/*.yml"))]
    )
    for name in (name for name in names if name not in PIECES):
        yield f"[`{name}`](playbooks/{name}.yml)", first_sentence(comment_of(name))


def with_imports(playbook: str) -> Iterator[str]:
    """Yield the playbook, and those that it imports."""
    yield playbook
    text = (ROOT / f"playbooks/{playbook}.yml").read_text(encoding="utf-8")
    for imported in re.findall(r"import_playbook: (\w+)\.yml", text):
        yield from with_imports(imported)


def comment_of(playbook: str) -> str:
    """Return the comment that the playbook begins with."""
    text = (ROOT / f"playbooks/{playbook}.yml").read_text(encoding="utf-8")
    found = re.match(r"---\n((?:# .*\n)+)", text)
    if not found:
        raise SystemExit(f"playbooks/{playbook}.yml does not begin with a comment of what it does")
    return " ".join(line.removeprefix("# ") for line in found[1].splitlines())


def first_sentence(text: str) -> str:
    """Return the first sentence, without its full stop."""
    return re.split(r"\.(?: |$)", text, maxsplit=1)[0]


def roles() -> Iterator[tuple[str, str]]:
    """Yield the roles, with a link to their README."""
    for path in sorted(ROOT.glob("roles/*/meta/main.yml")):
        name = path.parent.parent.name
        description = yaml.safe_load(path.read_text(encoding="utf-8"))["galaxy_info"]["description"]
        yield f"[{name}](roles/{name}/README.md)", description


def modules() -> Iterator[tuple[str, str]]:
    """Yield the modules, and the plugins of other kinds."""
    for kind in ("modules", "inventory", "filter", "test"):
        for path in sorted(ROOT.glob(f"plugins/{kind}/*.py")):
            name = f"`{path.stem}`" if kind == "modules" else f"`{path.stem}` ({kind})"
            found = re.search(r"(?m)^short_description: (.+)$", path.read_text(encoding="utf-8"))
            if not found:
                raise SystemExit(f"{path.relative_to(ROOT)} has no short_description")
            yield name, found[1]


def matrix() -> Iterator[tuple[str, ...]]:
    """Yield the cells of the matrix, with what the last recorded run says of each."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    for cell in CELLS:
        found = {"ansible-core": cell.core, "python": cell.python, "kubernetes": cell.kubernetes}
        result = record.get(cell.name, {"result": NOT_TRIED})
        tests, told = "", str(result["result"])
        if told != NOT_TRIED:
            found |= result
            counts = [f"{result[key]} {key}" for key in ("failed", "skipped") if result[key]]
            tests = ", ".join([str(result["passed"]), *counts])
            told = f"{told} on {result['date']}"
        yield (*(str(found.get(name, "")) for name in VERSIONS), tests, told)


if __name__ == "__main__":
    sys.exit(main())
