# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that talk to the API of one cluster."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - File with the credentials of the cluster.
      - It must always be given. C(KUBECONFIG), C(~/.kube/config) and a pod's own account are never used.
    type: path
    required: true
  context:
    description:
      - Context of O(kubeconfig) to use. Without it, the file's current context is used.
    type: str
  timeout:
    description:
      - Time that the whole module may take, in seconds.
      - When the time is up, the module reports what it was waiting for.
    type: int
    default: 600
requirements:
  - Python package C(kubernetes) >= 31.0.0
"""
