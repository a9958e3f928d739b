# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that what the roles and modules promise is what they do.

For every role: `meta/argument_specs.yml` and `defaults/main.yml` give the same defaults, every option is
described, and every variable of the role that its files use is an option or a fact that it sets.
Options of several roles are the same in each, and have their defaults in the role `mesh`, on which the others
depend. Where a role or playbook gives a default to another role's option (`other_option | default(...)`), it
is that option's own. The action group names every module.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT / "roles/mesh"  # has defaults and nothing else

# A variable, of a host if there is a dot before it, and the literal that stands for it where it is not set.
FALLBACK = re.compile(r"(\.?)\b([a-z]\w+) \| default\(('[^']*'|\[\]|\{\}|true|false|[\d.]+)[,)]")


def main() -> int:
    """Print every difference; return 1 when there is one."""
    roles = sorted({path.parent for path in ROOT.glob("roles/*/meta")} - {SHARED})
    problems = [
        *mesh_wide_problems(roles),
        *fallback_problems(roles),
        *action_group_problems(),
        *image_problems(),
    ]
    for role in roles:
        problems += [f"roles/{role.name}: {problem}" for problem in role_problems(role)]
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{len(roles)} roles, {len(problems)} problems")
    return 1 if problems else 0


def role_problems(role: Path) -> Iterator[str]:
    """Compare the role's spec, defaults and uses."""
    if not (role / "meta/argument_specs.yml").is_file():
        yield "has no meta/argument_specs.yml"
        return
    meta = load(role / "meta/main.yml")
    yield from description_problems(role, meta["galaxy_info"]["description"])
    options, text = options_of(role), text_of(role)
    own, shared = load(role / "defaults/main.yml"), load(SHARED / "defaults/main.yml")
    defaults = own | {name: shared[name] for name in shared.keys() & options.keys()}
    dependencies = [{"role": "exomesh.istio.mesh"}] if shared.keys() & options.keys() else []
    if meta["dependencies"] != dependencies:
        yield "does not depend on exomesh.istio.mesh alone, or needs nothing of it"
    for name in own.keys() & shared.keys():
        yield f"{name} is in defaults/main.yml, and in {source_of(name, shared)}, too"
    for name, option in options.items():
        if not option.get("description"):
            yield f"{name} has no description"
        if option.get("required") and "default" in option:
            yield f"{name} is required, and has a default"
        if "default" in option and name not in defaults:
            yield f"{name} has a default in the spec, but none in {source_of(name, shared)}"
    for name, default in defaults.items():
        if name not in options:
            yield f"{name} is in defaults/main.yml, but no option"
        elif "default" not in options[name] and not is_told_in_words(options[name], default):
            yield f"{name} has a default in {source_of(name, shared)}, but none in the spec"
        elif options[name].get("default", default) != default:
            yield f"{name} defaults to {options[name]['default']!r} in the spec, but to {default!r}"
    words = set(re.findall(r"(?<![\w./-])[a-z]\w*[a-z0-9]\b(?![/.]?\()", text))
    used = {word for word in words if word.startswith(("mesh_", f"{role.name}_"))} | (words & shared.keys())
    spoken_of = shared.keys() if not dependencies else set()
    for name in sorted(used - options.keys() - facts_of(role) - spoken_of):
        yield f"{name} is used, but is neither an option nor a fact of the role"


def description_problems(role: Path, description: str) -> Iterator[str]:
    """Compare the description, which the README has, too, with that of the spec."""
    spec = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]
    if description != spec["short_description"]:
        yield "its description in meta/main.yml is not the short_description of its spec"


def source_of(name: str, shared: Collection[str]) -> str:
    """Tell where the default of an option is."""
    is_shared = name.startswith("mesh_") or name in shared
    return "roles/mesh/defaults/main.yml" if is_shared else "defaults/main.yml"


def is_told_in_words(option: dict[str, Any], default: Any) -> bool:
    """Return whether the default, computed and no text, is described as the spec cannot have it."""
    computed = isinstance(default, str) and "{{" in default and option["type"] in {"bool", "int", "float"}
    return computed and "The default is" in str(option["description"])


def mesh_wide_problems(roles: list[Path]) -> Iterator[str]:
    """Find options of several roles that differ in type or default, and shared defaults that no role uses."""
    first: dict[str, tuple[str, Any]] = {}
    for role in roles:
        for name, option in options_of(role).items():
            meaning = {key: option.get(key) for key in ("type", "elements", "default", "choices")}
            owner, known = first.setdefault(name, (role.name, meaning))
            if known != meaning:
                yield f"{name} differs: {known} in roles/{owner}, {meaning} in roles/{role.name}"
    for name in load(SHARED / "defaults/main.yml").keys() - first.keys():
        yield f"roles/mesh: {name} is an option of no role"


def fallback_problems(roles: list[Path]) -> Iterator[str]:
    """Find defaults that a file gives to an option of another role, and that are not that option's own."""
    defaults = {
        name: option["default"]
        for role in roles
        for name, option in options_of(role).items()
        if "default" in option
    }
    shared = load(SHARED / "defaults/main.yml")
    for path in sorted([*ROOT.glob("roles/*/*/**/*.*"), *ROOT.glob("playbooks/*.yml")]):
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(ROOT)
        for dot, name, literal in FALLBACK.findall(text):
            if name not in defaults or name.startswith(f"{where.parts[1]}_"):
                continue
            if name in shared and where.parts[0] == "roles" and not dot:
                yield f"{where}: {name} has a default for all roles, and needs no other one"
            elif yaml.safe_load(literal) != defaults[name]:
                yield f"{where}: {name} defaults to {literal}, but to {defaults[name]!r} in its role"


def action_group_problems() -> Iterator[str]:
    """Compare the action group with the modules that there are."""
    group = set(load(ROOT / "meta/runtime.yml")["action_groups"]["all"])
    modules = {path.stem for path in ROOT.glob("plugins/modules/*.py")}
    yield from (f"meta/runtime.yml: {name} is not in the action group" for name in sorted(modules - group))
    yield from (f"meta/runtime.yml: there is no module {name}" for name in sorted(group - modules))


def image_problems() -> Iterator[str]:
    """Find images that are named with different tags: documentation and specs have no constants."""
    first: dict[str, tuple[str, Path]] = {}
    for path in sorted([*ROOT.glob("plugins/mod*/*.py"), *ROOT.glob("roles/*/*/*.yml")]):
        for image, tag in re.findall(r"([a-z][a-z.-]+\.[a-z]+/[\w/-]+):(\w[\w.-]*)", path.read_text("utf-8")):
            known, where = first.setdefault(image, (tag, path))
            if tag != known:
                yield f"{path.relative_to(ROOT)}: {image} is {tag}, but {known} in {where.relative_to(ROOT)}"


def options_of(role: Path) -> dict[str, Any]:
    """Return the options of all entry points of the role, by name."""
    specs = load(role / "meta/argument_specs.yml").get("argument_specs", {})
    return {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}


def text_of(role: Path) -> str:
    """Return all that the role does, without comments."""
    folders = [role / name for name in ("tasks", "handlers", "vars", "templates")]
    files = [path for folder in folders for path in folder.glob("**/*.*")]
    defaults = load(role / "defaults/main.yml")
    content = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    content += [str(value) for value in defaults.values()]
    return re.sub(r"(?m)^\s*#.*$", "", "\n".join(content))


def facts_of(role: Path) -> set[str]:
    """Return the names that the role's tasks set: facts, registers, and variables of a task."""
    names: set[str] = set()
    for path in role.glob("tasks/**/*.yml"):
        for task in tasks_of(load(path)):
            names |= set(task.get("ansible.builtin.set_fact", {})) | set(task.get("vars", {}))
            names |= {task["register"]} if "register" in task else set()
    return names


def tasks_of(tasks: Any) -> Iterator[dict[str, Any]]:
    """Yield every task, also those within blocks."""
    for task in tasks or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_of(task.get(part))


def load(path: Path) -> Any:
    """Return the YAML file's content, {} where there is none."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


if __name__ == "__main__":
    sys.exit(main())
