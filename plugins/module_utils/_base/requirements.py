# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python packages that users install themselves (private to the collection).

Files import them with ``suppress(ImportError)``, as documentation and sanity tests read them where nothing is
installed. Who begins something that needs one calls :func:`require` first.
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
"""What is imported of a package and of those that it brings."""


def require(*packages: str) -> None:
    """Check that packages, and what they bring, can be imported.

    :param packages: as pip calls them.
    :raises MissingRequirementError: one of them cannot.
    """
    for package in packages:
        for module in _MODULES[package]:
            try:
                import_module(module)
            except ImportError as error:
                how = f"Install it for the Python that runs Ansible's modules (pip install {package})"
                told = f"The Python package {package} cannot be imported: {error}"
                raise MissingRequirementError(told, next_step=how) from None
