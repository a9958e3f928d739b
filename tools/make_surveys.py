# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write AWX's surveys from the roles' meta/argument_specs.yml; with --check, only tell whether it is so.

Which options a survey asks for is in roles/awx/vars/main/templates.yml; all else about a question comes from
the option. AWX sends every answer as text but for numbers. It sends an empty text where a question is left
blank, and the default of a question that nobody was asked, as in a schedule. Both are extra variables, which
silently win over the inventory. So a survey asks only what must be answered, and has no defaults.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "roles/awx/vars/main/templates.yml"
TARGET = ROOT / "roles/awx/vars/main/surveys.yml"
HEAD = """\
---
# Made from the roles' meta/argument_specs.yml by `make surveys`; templates.yml says what is asked for.
"""

# What AWX's own editor would fill in is too narrow for some.
RANGE = {"min": 0, "max": 2**31 - 1}
LENGTH = {"min": 1, "max": 1024}

Option = dict[str, Any]


def main() -> int:
    """Write the file, or compare it; return 1 where it differs."""
    text = HEAD + yaml.dump({"__awx_surveys": surveys()}, Dumper=IndentedDumper, sort_keys=False, width=110)
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    same = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
    print(
        "AWX's surveys",
        "are those of the specs" if same else "are not those of the specs: run `make surveys`",
    )
    return 0 if same else 1


class IndentedDumper(yaml.SafeDumper):
    """Indents lists within mappings, as yamllint wants it, and writes everything out."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Never without an indent."""
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Never an alias."""
        return True


def surveys() -> dict[str, Any]:
    """Return the survey of every template that asks for something, by the template's name."""
    options = all_options()
    return {
        template["name"]: {
            "name": template["name"],
            "description": template["description"],
            "spec": [question(choice, options) for choice in template["questions"]],
        }
        for template in yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))["__awx_templates"]
        if template["questions"]
    }


def all_options() -> dict[str, Option]:
    """Return the options of every role. Those of the same name mean the same (tools/check_specs.py)."""
    specs = [
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in ROOT.glob("roles/*/meta/argument_specs.yml")
    ]
    return {
        name: option
        for spec in specs
        for entry_point in spec["argument_specs"].values()
        for name, option in entry_point.get("options", {}).items()
    }


def question(choice: str | dict[str, Any], options: dict[str, Option]) -> dict[str, Any]:
    """Return the question that a name of an option, or a mapping with more about it, asks for."""
    chosen = {"option": choice} if isinstance(choice, str) else choice
    option = {**options[chosen["option"]], **chosen} if "option" in chosen else chosen
    variable = chosen.get("variable") or chosen["option"]
    if not option.get("required"):
        raise ValueError(f"{variable} is not required: the inventory may set it, so do not ask for it")
    first, _, more = plain_text(option["description"]).partition(". ")
    return {
        "question_name": first.removesuffix("."),
        "question_description": more,
        "variable": variable,
        "required": True,
        **answer_form(option),
    }


def answer_form(option: Option) -> dict[str, Any]:
    """Return the type of the answer, and its choices or limits."""
    kind, choices = option.get("type", "str"), option.get("choices")
    if option.get("no_log"):
        return {"type": "password", **LENGTH}
    if kind == "bool":
        return {"type": "multiplechoice", "choices": ["true", "false"]}
    if choices:
        return {"type": "multiselect" if kind == "list" else "multiplechoice", "choices": choices}
    if kind == "int":
        return {"type": "integer", **RANGE}
    if kind == "float":
        return {"type": "float", **RANGE}
    if kind in ("str", "path", "list"):
        return {"type": "text", **LENGTH}
    raise ValueError(f"AWX has no question for the type {kind}")


def plain_text(description: str | list[str]) -> str:
    """Return the text without Ansible's markup, in which C(x), V(x) and O(x=y) stand for x and x=y."""
    text = description if isinstance(description, str) else " ".join(description)
    return re.sub(r"\b[A-Z]\(([^()#]*)(?:#[a-z]+)?\)", r"\1", text)


if __name__ == "__main__":
    sys.exit(main())
