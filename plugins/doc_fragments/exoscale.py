# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules and plugins that talk to Exoscale."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api_key:
    description:
      - Key of the Exoscale API. Needs O(api_secret).
      - Without it, and without O(account) and O(config_file), the environment variables E(EXOSCALE_API_KEY)
        and E(EXOSCALE_API_SECRET) are used. Without these, the configuration of exo is used.
    type: str
  api_secret:
    description:
      - Secret of O(api_key).
    type: str
  account:
    description:
      - Account in exo's configuration to use. It takes precedence over keys in the environment.
      - Without it, E(EXOSCALE_ACCOUNT) is used, or else the configuration's default account.
    type: str
  config_file:
    description:
      - Configuration file of exo, instead of its usual one. It takes precedence over keys in the environment.
      - Without it, E(EXOSCALE_CONFIG) is used, or else C(~/.config/exoscale/exoscale.toml).
    type: path
  api_endpoint:
    description:
      - Base endpoint of the API, including C(/v2), instead of Exoscale's own.
      - Without it, E(EXOSCALE_API_ENDPOINT) is used.
    type: str
  backend:
    description:
      - How to talk to Exoscale.
      - V(exo) runs the exo CLI.
      - V(api) uses the Python package C(exoscale), for machines without exo.
      - V(auto) uses the one that is available.
    type: str
    choices: [auto, exo, api]
    default: auto
  exo_path:
    description:
      - Path of the exo CLI, or a name to look for in C(PATH).
    type: str
    default: exo
  timeout:
    description:
      - Time that all requests to Exoscale together may take, in seconds.
      - When the time is up, the error says so. Answers that other zones gave by then are kept.
    type: float
    default: 120
requirements:
  - the exo CLI >= 1.85.1, or the Python package C(exoscale) >= 0.16
notes:
  - The API key needs the IAM operations C(list-zones), C(list-sks-clusters) and
    C(generate-sks-cluster-kubeconfig).
"""
