"""The commands that documents show for the lab, in the order in which their readers run them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils._verify.findings import KINDS

from .runs import PROJECT, RunningLab

# The guide goes through a day with the lab; the others show parts of it.
DOCUMENTS = ("docs/docsite/rst/guide_lab.rst", "README.md", "CONTRIBUTING.md", "lab/README.md")
FOR_THE_LAB = re.compile(
    r"make (demo|lab-\w+|site|verify|status)\b|lab/exolab\.sh|inventories/lab|exolab\.faults"
)

# They take minutes or name nothing that there is, and other tests do the same by other words.
NOT_RUN = {
    "make demo CLUSTERS=3": "the copy of a mesh of three is made so",
    "make lab-up CLUSTERS=3": "every lab of these tests comes up like that",
    "lab/exolab.sh up --name mine --clusters 3 --inventory my-inventory": "so does every lab of these tests",
    "lab/exolab.sh status --name mine": "run without the name",
    'make lab-test ARGS="tests/lab/test_diagnose.py -k sidecar"': "this test is of that kind",
    "lab/exolab.sh save --name mine copies/mesh": "most labs of these tests come from such a copy",
    "lab/exolab.sh restore --name mine copies/mesh": "so do they come",
    "lab/exolab.sh up --name mine": "so does every lab of these tests",
    "lab/exolab.sh machine sh": "every worker of these tests has a machine",
    "lab/exolab.sh down --name mine": "every lab of these tests goes like that",
    (
        "lab/exolab.sh kubectl cluster2 patch service NAME "
        """-p '{"spec": {"loadBalancerIP": "198.18.2.200"}}'"""
    ): "test_gateway moves a load balancer so",
    "lab/exolab.sh kubectl cluster2 annotate service NAME exolab/hostname=gateway.cluster2.example": (
        "test_gateway gives one a name so"
    ),
}


@dataclass(frozen=True)
class Command:
    """A command of a document.

    :param finding: code of the finding that the text before it says will come.
    """

    where: str
    text: str
    finding: str | None

    def on(self, lab: RunningLab) -> str:
        """The command for a lab with an inventory of its own."""
        text = self.text.replace("inventories/lab", str(lab.inventory))
        return text.replace("/var/lib/exolab/exolab", str(lab.path))


def shown() -> list[Command]:
    """All commands for the lab that the documents show."""
    return [
        Command(f"{name}:{line}", text, _finding(section))
        for name in DOCUMENTS
        for line, command, section in _tool().commands_of((PROJECT / name).read_text())
        if FOR_THE_LAB.search(text := re.sub(r"\s+# .*", "", command))
    ]


def to_run() -> Iterator[Command]:
    """Those of the guide in its order, and of the others what is new; the lab goes at the end."""
    commands = [command for command in shown() if command.text not in NOT_RUN]
    seen = set[str]()
    down = next(command for command in commands if command.text == "make lab-down")
    for command in commands:
        again = command.text in seen and not command.where.startswith(DOCUMENTS[0])
        if command.text != down.text and not again:
            yield command
        seen.add(command.text)
    yield down


def _finding(section: str) -> str | None:
    """The code in the paragraphs between the last two blocks of commands; the command is in the second."""
    before = section.split(".. code-block:: console")[-2:-1]
    codes = {kind.code for kind in KINDS}
    return next((code for code in re.findall(r"``([a-z-]+)``", "".join(before)) if code in codes), None)


@cache
def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("check_commands", PROJECT / "tools/check_commands.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
