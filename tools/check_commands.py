# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check every command that a document shows after a prompt `$`.

A playbook must exist, know the variables that it is given, and be run by a test.
Make targets, subcommands of the lab, plugins and archives that are named must exist. What needs a cloud must
be said to do so in its section. Programs of others are listed here. A command of no known kind is an error,
and so is a block of commands without prompts.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NEEDS_CLOUD = re.compile(r"needs?\s+a\s+cloud\s+account|cloud\s+account:")
HEADING = re.compile(r"^(#+ .*|([=\-~^])\2{3,})$")

# Programs that are not ours. The document that shows them says what they do there; nothing here runs them.
OTHERS = {
    "ansible-test",
    "cd",
    "docker",
    "export",
    "find",
    "git",
    "istioctl",
    "kubectl",
    "mv",
    "openssl",
    "pip",
    "podman",
    "printf",
    "pre-commit",
    "tar",
}


def main() -> int:
    """Print what is wrong with a command; return 1 when anything is."""
    names = subprocess.check_output(["git", "ls-files", "*.md", "*.rst"], cwd=ROOT, text=True).split()
    commands = problems = 0
    for name in names:
        text = (ROOT / name).read_text(encoding="utf-8")
        for block in re.findall(r"(?m)^(?:```|.. code-block:: )(?:bash|sh|shell)$", text):
            problems += 1
            print(f"{name}: {block}: make it a console, with prompts")
        for line, command, section in commands_of(text):
            commands += 1
            for problem in problems_of(command, section):
                problems += 1
                print(f"{name}:{line}: {problem}: {command}")
    print(f"{commands} commands in {len(names)} documents, {problems} problems")
    return 1 if problems else 0


def commands_of(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, command and section of every line with a prompt."""
    section = 0
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if HEADING.match(line):
            section = number
        found = re.match(r"\s*\$ (.*)", line)
        if found:
            command, following = found[1], number
            while command.endswith("\\"):
                following += 1
                command = command[:-1] + lines[following].strip()
            yield number + 1, command, "\n".join(lines[section : number + 1])


def problems_of(command: str, section: str) -> Iterator[str]:
    """Check each program of the command."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "&&"]:
        if word not in {"&&", "|", ";"}:
            words.append(word)
            continue
        program, *arguments = words
        program = program.removeprefix(".venv/bin/")
        words = []
        if program == "exo":
            if not NEEDS_CLOUD.search(section):
                yield "its section does not say that it needs a cloud account"
        elif program in CHECKS:
            yield from CHECKS[program](arguments)
        elif program not in OTHERS:
            yield f"{program} is a program that tools/check_commands.py does not know"


def check_playbook(arguments: list[str]) -> Iterator[str]:
    """Check that there is such a playbook, that it knows its variables, and that a test runs it."""
    variables, positional = [], []
    rest = iter(arguments)
    for word in rest:
        if word in {"-e", "--extra-vars"}:
            variables.append(next(rest))
        elif word in {"-i", "--limit", "--tags", "--skip-tags", "--forks"}:
            next(rest)
        elif not word.startswith("-"):
            positional.append(word)
    for name in positional:
        playbook = ROOT / f"playbooks/{Path(name.removeprefix('exomesh.istio.')).stem}.yml"
        if not playbook.is_file():
            yield f"there is no {playbook.relative_to(ROOT)}"
            continue
        if not is_run_by_a_test(playbook.stem):
            yield f"no test runs the playbook {playbook.stem}"
        for given in (text for text in variables if not text.startswith("@")):  # a file of the user
            names = json.loads(given) if given.startswith("{") else [given.partition("=")[0]]
            unknown = set(names) - known_variables(playbook)
            yield from (f"the playbook knows no variable {variable}" for variable in sorted(unknown))


def is_run_by_a_test(playbook: str) -> bool:
    """Return whether a test names the playbook."""
    return re.search(rf"exomesh\.istio\.{playbook}\b|\b{playbook}\.yml\b", tests()) is not None


@cache
def tests() -> str:
    """Return all tests, but those of the tools: these only name playbooks."""
    files = [*ROOT.glob("tests/*/**/*.py"), *ROOT.glob("molecule/*/*.yml")]
    counted = (path for path in files if ROOT / "tests/unit/tools" not in path.parents)
    return "\n".join(path.read_text(encoding="utf-8") for path in counted)


@cache
def known_variables(playbook: Path) -> set[str]:
    """Return the words of the playbook and of those that it imports, and every option of a role."""
    text = playbook.read_text(encoding="utf-8")
    known = set(re.findall(r"\w+", text))
    for imported in re.findall(r"import_playbook: (\S+)", text):
        known |= known_variables(playbook.parent / imported)
    return known | role_options()


@cache
def role_options() -> set[str]:
    """Return the names of all options of all roles."""
    specs = [yaml.safe_load(path.read_bytes()) for path in ROOT.glob("roles/*/meta/argument_specs.yml")]
    points = [point for spec in specs for point in spec["argument_specs"].values()]
    return {option for point in points for option in point.get("options", {})}


def check_make(arguments: list[str]) -> Iterator[str]:
    """Check that the targets exist."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in arguments if "=" not in word):
        if not re.search(rf"(?m)^{re.escape(target)}:", makefile):
            yield f"there is no make target {target}"


def check_lab(arguments: list[str]) -> Iterator[str]:
    """Check that the lab has the subcommand."""
    if f'"{arguments[0]}"' not in (ROOT / "lab/exolab/cli.py").read_text(encoding="utf-8"):
        yield f"the lab has no subcommand {arguments[0]}"


def check_doc(arguments: list[str]) -> Iterator[str]:
    """Check that there is something of that name and type."""
    kind = arguments[arguments.index("-t") + 1] if "-t" in arguments else "module"
    name = arguments[-1].removeprefix("exomesh.istio.")
    folders = {"role": f"roles/{name}", "inventory": f"plugins/inventory/{name}.py"}
    if not (ROOT / folders.get(kind, f"plugins/modules/{name}.py")).exists():
        yield f"there is no {kind} {name}"


def check_galaxy(arguments: list[str]) -> Iterator[str]:
    """Check that an archive is the one that `make build` makes."""
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    archives = [Path(word).name for word in arguments if word.endswith(".tar.gz")]
    if archives and archives != [f"exomesh-istio-{version}.tar.gz"]:
        yield f"make build makes exomesh-istio-{version}.tar.gz"


def check_nothing(_arguments: list[str]) -> Iterator[str]:
    """Check nothing: the program reads what the user has."""
    yield from ()


CHECKS: dict[str, Callable[[list[str]], Iterator[str]]] = {
    "ansible-doc": check_doc,
    "ansible-galaxy": check_galaxy,
    "ansible-inventory": check_nothing,
    "ansible-playbook": check_playbook,
    "lab/exolab.sh": check_lab,
    "make": check_make,
    "python": check_nothing,
}


if __name__ == "__main__":
    sys.exit(main())
