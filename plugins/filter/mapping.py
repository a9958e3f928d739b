# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: return the mapping in a variable, also where it comes as a text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mapping
short_description: The mapping in a variable, also where it comes as a text
version_added: 0.1.0
description:
  - Returns a mapping unchanged. Turns a text into a mapping as Ansible does for the options of modules, from
    JSON or from C(key=value). Values of C(-e) are such texts.
  - Fails with the name of the variable if its value is neither.
  - A template that uses a mapping needs this filter. A module converts its options itself.
positional: _input, variable
options:
  _input:
    description:
      - The value. An empty text or no value gives an empty mapping.
    type: raw
    required: true
  variable:
    description:
      - Name of the variable, for the error.
    type: str
    required: true
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Show what istiod requests
  ansible.builtin.debug:
    msg: "{{ (istio_resources | exomesh.istio.mapping('istio_resources')).requests | default({}) }}"
"""

RETURN = r"""
_value:
  description:
    - The mapping.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.validation import check_type_dict

from ..module_utils._base.text import printable_line


def mapping(value: Any, variable: str) -> Mapping[str, Any]:
    """Return the mapping; see the documentation of the filter.

    :raises AnsibleFilterError: the value is none, and no text of one.
    """
    if value is None or value == "":
        return {}
    if isinstance(value, Mapping):
        return value
    try:
        return dict(check_type_dict(value))
    except (TypeError, ValueError):
        kind = "the text" if isinstance(value, str) else f"a {type(value).__name__},"
        raise AnsibleFilterError(
            f"{variable} is {kind} {printable_line(str(value), 99)}, but must be a mapping. Write it in the "
            f"inventory, or as JSON on the command line: -e '{{\"{variable}\": {{...}}}}'"
        ) from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"mapping": mapping}
