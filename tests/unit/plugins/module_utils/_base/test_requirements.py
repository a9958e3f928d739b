# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package that is missing is named, with how to get it, whichever file needs it first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = Path(__file__).resolve().parents[5] / "plugins/module_utils"
MODULES = {
    "kubernetes": ("kubernetes", "websocket"),
    "cryptography": ("cryptography", "cryptography.x509"),
    "PyYAML": ("yaml",),
    "exoscale": ("exoscale", "exoscale.api", "exoscale.api.v2"),
}


@pytest.mark.parametrize("package", MODULES)
def test_every_file_is_read_without_it_and_it_is_named(package: str) -> None:
    """In a process of its own, in which it cannot be imported."""
    base = "ansible_collections.exomesh.istio.plugins.module_utils"
    names = [
        ".".join((base, *path.relative_to(CODE).with_suffix("").parts))
        for path in sorted(CODE.glob("*/*.py"))
    ]
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({MODULES[package]!r}))
for name in {names!r}:
    importlib.import_module(name)
from {base}._base.errors import MissingRequirementError
from {base}._base.requirements import require
try:
    require({package!r})
except MissingRequirementError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"The Python package {package} cannot be imported" in done.stdout
    assert f"pip install {package}" in done.stdout


def test_what_is_there_is_good() -> None:
    from ansible_collections.exomesh.istio.plugins.module_utils._base.requirements import require

    require(*MODULES)
