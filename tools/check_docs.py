# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the documentation of every plugin and role as ansible-doc reads it.

ansible-doc says nothing on stderr and finds every plugin and role that there is. Every option and return
value is described. Examples parse, and give modules of this collection options that exist, those that are
required, and values that are allowed. That the documentation is that of the code is for `make sanity`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = "exomesh.istio"
WITHOUT_SPEC = {"mesh"}  # has no tasks, and so nothing to validate

Options = dict[str, Any]


def main() -> int:
    """Print every problem; return 1 when there is one."""
    documented, said = ansible_doc()
    problems = [f"ansible-doc says: {line}" for line in said.splitlines()]
    for kind in ("module", "inventory", "filter", "test", "role"):
        problems += missing(kind, set(documented.get(kind, {})))
    modules = {name: entry["doc"].get("options", {}) for name, entry in documented["module"].items()}
    for kind, entries in documented.items():
        for name, entry in entries.items():
            found = role_problems(entry) if kind == "role" else plugin_problems(kind, entry, modules)
            problems += [f"{kind} {name}: {problem}" for problem in found]
    count = sum(map(len, documented.values()))
    print(*problems, f"{count} plugins and roles are documented, {len(problems)} problems", sep="\n")
    return 1 if problems else 0


def ansible_doc() -> tuple[dict[str, dict[str, Any]], str]:
    """Return the documentation of the collection, by kind and name, and what was said on stderr."""
    program = str(Path(sys.executable).with_name("ansible-doc"))
    command = [program, "--metadata-dump", "--no-fail-on-errors", COLLECTION]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    dumped = json.loads(finished.stdout)["all"]
    ours = {
        kind: {name: entry for name, entry in entries.items() if name.startswith(f"{COLLECTION}.")}
        for kind, entries in dumped.items()
    }
    # Newer ansible-cores warn of a collection of their own, which has no version.
    said = "".join(line for line in finished.stderr.splitlines(True) if "/ansible/_internal/" not in line)
    return {kind: entries for kind, entries in ours.items() if entries}, said


def missing(kind: str, documented: set[str]) -> Iterator[str]:
    """Name what there is without documentation."""
    if kind == "role":
        there = {path.name for path in ROOT.glob("roles/*")} - WITHOUT_SPEC
    else:
        folder = "modules" if kind == "module" else kind
        there = {path.stem for path in ROOT.glob(f"plugins/{folder}/*.py")}
    for name in sorted({f"{COLLECTION}.{name}" for name in there} - documented):
        yield f"{kind} {name}: ansible-doc does not find it"


def role_problems(entry: dict[str, Any]) -> Iterator[str]:
    """Look at all entry points of a role."""
    if "error" in entry:
        yield entry["error"]
    for name, spec in entry.get("entry_points", {}).items():
        for key in ("short_description", "description"):
            if not spec.get(key):
                yield f"entry point {name} has no {key}"
        yield from undescribed(spec.get("options", {}))


def plugin_problems(kind: str, entry: dict[str, Any], modules: dict[str, Options]) -> Iterator[str]:
    """Look at a plugin's options, return values and examples."""
    if "error" in entry:
        yield entry["error"]
        return
    yield from undescribed(entry["doc"].get("options", {}))
    yield from undescribed(entry["return"] or {}, "contains")
    try:
        examples = list(yaml.safe_load_all(entry["examples"] or ""))
    except yaml.YAMLError as error:
        yield f"its examples are no YAML: {error}"
        return
    if not any(examples):
        yield "has no examples"
    for example in examples:
        if kind == "inventory":
            yield from invocation_problems("an example", example or {}, entry["doc"]["options"])
        for task in tasks_of(example):
            for name in task.keys() & modules.keys():
                where = f"example {task.get('name')!r}"
                yield from invocation_problems(where, task[name] or {}, modules[name])


def undescribed(options: Options, nested: str = "suboptions", path: str = "") -> Iterator[str]:
    """Name the options, or return values, that have no description."""
    for name, option in options.items():
        if not option.get("description"):
            yield f"{path}{name} has no description"
        yield from undescribed(option.get(nested) or {}, nested, f"{path}{name}.")


def tasks_of(example: Any) -> Iterator[dict[str, Any]]:
    """Yield the tasks among plays, blocks and tasks."""
    for item in example if isinstance(example, list) else []:
        yield item
        for part in ("tasks", "block", "rescue", "always"):
            yield from tasks_of(item.get(part))


def invocation_problems(where: str, given: dict[str, Any], options: Options, path: str = "") -> Iterator[str]:
    """Compare what an example gives with the options that there are."""
    known = {alias: name for name, option in options.items() for alias in option.get("aliases", ())}
    known |= {name: name for name in options}
    names = {known.get(key) for key in given}
    for key in sorted(given.keys() - known.keys()):
        yield f"{where} gives {path}{key}, which is no option"
    for name in sorted(options.keys() - names):
        if options[name].get("required"):
            yield f"{where} does not give {path}{name}, which is required"
    for key in given.keys() & known.keys():
        option = options[known[key]]
        values = given[key] if isinstance(given[key], list) else [given[key]]
        for value in values:
            if isinstance(value, dict) and option.get("suboptions"):
                yield from invocation_problems(where, value, option["suboptions"], f"{path}{key}.")
            elif option.get("choices") and value not in option["choices"] and "{{" not in str(value):
                yield f"{where} gives {path}{key} the value {value!r}, which is no choice"


if __name__ == "__main__":
    sys.exit(main())
