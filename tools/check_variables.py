# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that roles and playbooks have no dead variables, templates or files.

A role's options, defaults, vars, facts, registers and variables of tasks are used by the role or by a role
that it includes. What only a dead variable names is dead, too. A fact may be for the role's user: then the
role's README tells of it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment

# Their values are expressions without braces.
EXPRESSIONS = {"when", "that", "until", "changed_when", "failed_when", "var"}


class Loader(yaml.SafeLoader):
    """YAML with Ansible's tag for text that is no template."""


Loader.add_constructor("!unsafe", lambda *_: "")


def main() -> int:
    """Print what is dead; return 1 when there is any."""
    problems = list(problems_of(Path(__file__).resolve().parent.parent))
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{len(problems)} dead variables and files")
    return 1 if problems else 0


def problems_of(root: Path) -> Iterator[str]:
    """Name every dead variable and file in the collection at root."""
    roles = {path.name: Role(path) for path in sorted(root.glob("roles/*")) if path.is_dir()}
    shared = roles["mesh"].variables  # the role on which the others depend: defaults and nothing else
    filters = {path.stem: texts_of(path) for path in root.glob("plugins/filter/*.py")}
    used = {
        name: reach(role.with_included(roles), [*role.all_variables(roles), shared], filters)
        for name, role in roles.items()
    }
    playbooks = {path: load(path) for path in sorted(root.glob("playbooks/*.yml"))}
    by_playbooks = set().union(*(names_in(plays) for plays in playbooks.values()))
    anywhere = by_playbooks.union(*used.values())
    for name, role in roles.items():
        # What the mesh shares, the playbooks may go by: a role's spec is where it is documented.
        seen = used[name] | (by_playbooks & set(shared)) if name != "mesh" else anywhere
        for path, variable in role.definitions():
            told = variable in anywhere or re.search(rf"\b{variable}\b", role.readme)
            if variable not in seen and not (variable in role.facts and told):
                yield f"{path.relative_to(root)}: {variable} is used nowhere"
        for path in role.unnamed():
            yield f"{path.relative_to(root)}: no task names it"
    for path, plays in playbooks.items():
        for variable in names_set(plays):
            if variable not in anywhere:
                yield f"{path.relative_to(root)}: {variable} is used nowhere"


class Role:
    """The files of one role."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tasks = {
            file: load(file) for name in ("tasks", "handlers") for file in self.files(f"{name}/**/*.yml")
        }
        self.facts = {name for tasks in self.tasks.values() for name in facts_in(tasks)}

    @cached_property
    def variables(self) -> dict[str, Any]:
        """The values of the role's defaults and vars."""
        return {name: value for path in self.variable_files() for name, value in load(path).items()}

    @property
    def readme(self) -> str:
        """What the role's user is told."""
        path = self.path / "README.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def files(self, pattern: str) -> list[Path]:
        """The files of the role with such a path."""
        return sorted(path for path in self.path.glob(pattern) if path.is_file())

    def variable_files(self) -> list[Path]:
        """The files with its defaults and vars."""
        return self.files("defaults/**/*.yml") + self.files("vars/**/*.yml")

    def definitions(self) -> Iterator[tuple[Path, str]]:
        """Every name that the role defines, where it does first."""
        found: dict[str, Path] = {}
        for path in self.variable_files():
            for name in load(path):
                found.setdefault(name, path)
        for path in self.files("meta/argument_specs.yml"):
            for spec in load(path)["argument_specs"].values():
                for name in spec.get("options", {}):
                    found.setdefault(name, path)
        for path, tasks in self.tasks.items():
            for name in names_set(tasks):
                found.setdefault(name, path)
        yield from ((path, name) for name, path in found.items())

    def with_included(self, roles: dict[str, Role]) -> set[str]:
        """The names in the tasks and templates of the role, and of the roles that it includes."""
        names = names_in(list(self.tasks.values()))
        for path in self.files("templates/**/*"):
            names |= names_in_template(path.read_text(encoding="utf-8"))
        return names.union(*(role.with_included(roles) for role in self.included(roles)))

    def all_variables(self, roles: dict[str, Role]) -> Iterator[dict[str, Any]]:
        """The variables of the role, and of the roles that it includes."""
        yield self.variables
        for role in self.included(roles):
            yield from role.all_variables(roles)

    def included(self, roles: dict[str, Role]) -> list[Role]:
        """The other roles that its tasks include."""
        names = set(re.findall(r"exomesh\.istio\.(\w+)", " ".join(strings_in(list(self.tasks.values())))))
        return [roles[name] for name in sorted(names & roles.keys() - {self.path.name})]

    def unnamed(self) -> Iterator[Path]:
        """The templates and files that neither a task nor a variable names."""
        text = " ".join(strings_in([*self.tasks.values(), self.variables]))
        for folder in ("templates", "files"):
            for path in self.files(f"{folder}/**/*"):
                if str(path.relative_to(self.path / folder)) not in text:
                    yield path


def reach(names: set[str], variables: Iterable[dict[str, Any]], filters: dict[str, set[str]]) -> set[str]:
    """Return the names, with those in the values of variables and in the filters that they name."""
    definitions, reached, fresh = list(variables), set[str](), set(names)
    while fresh:
        reached |= fresh
        found = [names_in(values[name]) for name in fresh for values in definitions if name in values]
        fresh = set().union(*found, *(filters.get(name, set()) for name in fresh)) - reached
    return reached


def names_in(value: Any, expression: bool = False) -> set[str]:
    """Return the names that templates and expressions within the YAML value use."""
    if isinstance(value, str):
        return names_in_template("{{ " + value + " }}" if expression else value)
    if isinstance(value, list):
        return set().union(*(names_in(item, expression) for item in value))
    if isinstance(value, dict):
        within = (names_in(item, key in EXPRESSIONS) for key, item in value.items())
        return set().union(*within, *(names_in(key) for key in value))
    return set()


def names_in_template(text: str) -> set[str]:
    """Return the names in a template's code. Of the texts in there, those that can name an attribute."""
    tokens = [(kind, value.strip("'\"")) for _, kind, value in Environment(autoescape=True).lex(text)]
    return {
        name
        for kind, value in tokens
        if kind == "name" or (kind == "string" and re.fullmatch(r"[\w.]+", value))
        for name in value.split(".")
    }


def names_set(tasks: Any) -> Iterator[str]:
    """Yield the variables that plays or tasks define: facts, registers, and vars."""
    yield from facts_in(tasks)
    for task in dicts_in(tasks):
        if isinstance(task.get("vars"), dict):
            yield from (name for name in task["vars"] if not name.startswith("ansible_"))
        if isinstance(task.get("register"), str):
            yield task["register"]


def facts_in(tasks: Any) -> Iterator[str]:
    """Yield the facts that tasks set, and the results that they keep under a public name."""
    for task in dicts_in(tasks):
        yield from (name for name in task.get("ansible.builtin.set_fact", {}) if name != "cacheable")
        if not (result := task.get("register", "__")).startswith("__"):
            yield result


def dicts_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in the value: plays, blocks and tasks are among them."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from dicts_in(item)


def strings_in(value: Any) -> Iterator[str]:
    """Yield every text in the value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_in(item)


def texts_of(path: Path) -> set[str]:
    """Return the texts in a Python file that can be names: a filter reads variables of hosts."""
    constants = [
        node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)
    ]
    return {value for value in constants if isinstance(value, str) and value.isidentifier()}


def load(path: Path) -> Any:
    """Return the YAML file's content."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader) or {}  # noqa: S506


if __name__ == "__main__":
    sys.exit(main())
