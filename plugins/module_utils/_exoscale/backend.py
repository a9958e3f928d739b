# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the way to ask Exoscale: the exo CLI or the Python client (private to the collection)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._base.errors import ExomeshError, MissingRequirementError
from .api import ExoscaleApi
from .cli import ExoCli
from .interface import DEFAULT_ENDPOINT, Credentials, Exoscale

# These options have no fallback to the environment. Credentials.choose() reads the environment, because an
# account that a task names must win over a key that happens to be there.
EXOSCALE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "api_key": {"type": "str", "no_log": True},
    "api_secret": {"type": "str", "no_log": True},
    "api_endpoint": {"type": "str"},
    "account": {"type": "str"},
    "config_file": {"type": "path"},
    "backend": {"type": "str", "choices": ["auto", "exo", "api"], "default": "auto"},
    "exo_path": {"type": "str", "default": "exo"},
    "timeout": {"type": "float", "default": 120.0},
}
"""The options of the documentation fragment ``exoscale``."""


def connect(
    options: Mapping[str, Any], *, prefer: str = "exo", environment: Mapping[str, str] | None = None
) -> Exoscale:
    """Return the backend that the options name, or one that can work here.

    :param options: values of EXOSCALE_ARGUMENTS.
    :param prefer: the backend that ``auto`` takes when both can work: ``exo`` or ``api``.
    :param environment: the environment variables; the process's own when None.
    """
    variables = dict(os.environ if environment is None else environment)
    credentials = Credentials.choose(options, variables)
    endpoint = str(options.get("api_endpoint") or variables.get("EXOSCALE_API_ENDPOINT") or "").rstrip("/")
    timeout = float(options["timeout"])

    def exo() -> Exoscale:
        return ExoCli(str(options["exo_path"]), credentials, endpoint, timeout, variables)

    def api() -> Exoscale:
        return ExoscaleApi(credentials.with_key(variables), endpoint or DEFAULT_ENDPOINT, timeout)

    makers = {"exo": exo, "api": api}
    if options["backend"] != "auto":
        return makers[options["backend"]]()
    try:
        return makers.pop(prefer)()
    except ExomeshError as error:
        try:
            return makers.popitem()[1]()
        except MissingRequirementError:  # any other error of the other backend is raised
            raise error from None
