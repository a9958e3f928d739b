# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of everything that asks Exoscale."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api_key:
    description:
      - Key of the Exoscale API. Needs O(api_secret).
      - Without it, and without O(account) and O(config_file), the environment variables E(EXOSCALE_API_KEY)
        and E(EXOSCALE_API_SECRET) are used, and without those the configuration of exo.
    type: str
  api_secret:
    description:
      - Secret of O(api_key).
    type: str
  account:
    description:
      - Account of exo's configuration to use. It wins over keys in the environment.
      - Without it E(EXOSCALE_ACCOUNT), or the configuration's default account.
    type: str
  config_file:
    description:
      - Configuration file of exo, in place of its usual one. It wins over keys in the environment.
      - Without it E(EXOSCALE_CONFIG), or C(~/.config/exoscale/exoscale.toml).
    type: path
  api_endpoint:
    description:
      - Base endpoint of the API with its C(/v2), in place of Exoscale's own.
      - Without it E(EXOSCALE_API_ENDPOINT).
    type: str
  backend:
    description:
      - How to ask Exoscale.
      - V(exo) runs the exo CLI.
      - V(api) uses the Python package C(exoscale), where there is no exo.
      - V(auto) takes what is there.
    type: str
    choices: [auto, exo, api]
    default: auto
  exo_path:
    description:
      - The exo CLI, a path or a name to look for in C(PATH).
    type: str
    default: exo
  timeout:
    description:
      - How long all that Exoscale is asked may take, in seconds.
      - When it is over, that is told; what other zones answered by then is kept.
    type: float
    default: 120
requirements:
  - the exo CLI >= 1.85.1, or the Python package C(exoscale) >= 0.16
notes:
  - The API key needs the IAM operations C(list-zones), C(list-sks-clusters) and
    C(generate-sks-cluster-kubeconfig).
"""
