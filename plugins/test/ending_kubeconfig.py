# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test: check whether a kubeconfig has to be renewed because of its age."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ending_kubeconfig
short_description: Whether a kubeconfig has expired, or does so soon
version_added: 0.1.0
description:
  - Reads only the file on the controller, so it costs next to nothing.
  - M(exomesh.istio.sks_kubeconfig) renews a kubeconfig by the same rule. Other faults of the file are not
    checked.
positional: _input
options:
  _input:
    description:
      - Path of the kubeconfig. Its current context is checked.
    type: path
    required: true
  renew_before:
    description:
      - How long before its end a kubeconfig counts as ending soon, in seconds or as V(7d). If empty, this is
        a third of the client certificate's lifetime.
    type: str
    default: ""
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Renew a kubeconfig, and ask Exoscale only if it ends soon
  exomesh.istio.sks_kubeconfig:
    cluster: mesh-a
    zone: de-fra-1
    kubeconfig: /home/me/mesh/mesh-a.kubeconfig
  when: "'/home/me/mesh/mesh-a.kubeconfig' is exomesh.istio.ending_kubeconfig"
"""

RETURN = r"""
_value:
  description:
    - Whether the file exists, and its client certificate or its CA has expired or does so soon.
  type: bool
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleFilterError

from ..filter.absolute_path import absolute_path
from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.files import read_text, real_path
from ..module_utils._kubernetes.kubeconfig import KubeconfigError
from ..module_utils._kubernetes.kubeconfig_renewal import ends_soon, parse_duration


def ending_kubeconfig(path: str, renew_before: str | int = "") -> bool:
    """Return whether the kubeconfig ends soon; see the documentation of the test.

    :raises AnsibleFilterError: the file cannot be read, or the time is invalid.
    """
    try:
        before = parse_duration(str(renew_before), "renew_before") if renew_before else None
        text = read_text(real_path(absolute_path(path)))
        return text is not None and ends_soon(text, before, datetime.now(UTC))
    except KubeconfigError:
        return False
    except ExomeshError as error:
        raise AnsibleFilterError(str(error)) from None


class TestModule:
    """The tests of this file."""

    def tests(self) -> dict[str, Callable[..., Any]]:
        return {"ending_kubeconfig": ending_kubeconfig}
