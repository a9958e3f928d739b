# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python packages that users install themselves (private to the collection).

Files import these packages with ``suppress(ImportError)``: the documentation and the sanity tests import the
files where no package is installed. Code that needs a package calls :func:`require` first.
"""

from __future__ import annotations

from importlib import import_module

from .errors import MissingRequirementError

_MODULES = {
    "kubernetes": ("kubernetes", "urllib3", "websocket", "yaml", "requests"),
    "cryptography": ("cryptography.x509",),
    "PyYAML": ("yaml",),
    "exoscale": ("exoscale.api.v2", "requests"),
}
"""Modules that we import from each package and from its dependencies."""


def require(*packages: str) -> None:
    """Check that packages and their dependencies can be imported.

    :param packages: their names in pip.
    :raises MissingRequirementError: one of them cannot be imported.
    """
    for package in packages:
        for module in _MODULES[package]:
            try:
                import_module(module)
            except ImportError as error:
                how = f"Install it for the Python that runs Ansible's modules (pip install {package})"
                told = f"The Python package {package} cannot be imported: {error}"
                raise MissingRequirementError(told, next_step=how) from None
