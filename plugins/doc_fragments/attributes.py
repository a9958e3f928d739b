# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes that every module of the collection has, in the form that ansible-doc shows."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
  diff_mode:
    description: Returns what was changed, or in check mode what would change, without secrets.
  idempotent:
    description: A second run in a row with the same options changes nothing.
  action_group:
    description: Use C(group/exomesh.istio.all) in C(module_defaults) to set options for every module at once.
    support: full
    membership:
      - exomesh.istio.all
"""

    # For modules that only read, and change nothing in any mode.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module does not change anything.
  diff_mode:
    support: N/A
    details:
      - This module does not change anything.
  idempotent:
    support: full
    details:
      - This module does not change anything.
"""
