# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: make a page of a verification."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verification_page
short_description: Make a page of a verification
version_added: 0.1.0
description:
  - Makes one HTML page of the C(verification.json) that M(exomesh.istio.mesh_verify) writes. The page loads
    nothing and needs no network.
positional: _input
options:
  _input:
    description:
      - The verification, in the form of C(docs/schema/verification.schema.json).
    type: dict
    required: true
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Write the page of a verification
  ansible.builtin.copy:
    content: >-
      {{ lookup('ansible.builtin.file', 'report/verification.json') | from_json
         | exomesh.istio.verification_page }}
    dest: report/verification.html
    mode: "0644"
"""

RETURN = r"""
_value:
  description:
    - The page.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils.page import html


def verification_page(verification: Mapping[str, Any]) -> str:
    """Return the page; see the documentation of the filter.

    :raises AnsibleFilterError: the input is not a verification.
    """
    try:
        return html(verification)
    except (KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"This is no verification, as {error!r} says") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"verification_page": verification_page}
