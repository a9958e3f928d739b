# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of the same name.

Every module has its own copy of this file, because antsibull-docs takes symlinks for other modules.
"""

from __future__ import annotations

from ..plugin_utils.action import ModuleAction


class ActionModule(ModuleAction):
    """Runs the module of the same name."""
