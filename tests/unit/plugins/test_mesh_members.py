# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter mesh_members: the roles' defaults, without the roles."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.exomesh.istio.plugins.filter.mesh_members import mesh_members


def test_defaults_are_those_of_the_roles() -> None:
    assert mesh_members(["vie", "fra"], {"vie": {}, "fra": {}}, "/state") == [
        {
            "host": "vie",
            "name": "vie",
            "network": "network-vie",
            "kubeconfig": "/state/vie/kubeconfig",
            "server": None,
        },
        {
            "host": "fra",
            "name": "fra",
            "network": "network-fra",
            "kubeconfig": "/state/fra/kubeconfig",
            "server": None,
        },
    ]


def test_variables_of_a_host_win() -> None:
    variables = {
        "mesh_cluster_name": "vienna",
        "mesh_network": "alps",
        "mesh_kubeconfig": "/keys/v",
        "peering_server": "https://10.0.0.1:6443",
    }
    assert mesh_members(["vie"], {"vie": variables}, "/state") == [
        {
            "host": "vie",
            "name": "vienna",
            "network": "alps",
            "kubeconfig": "/keys/v",
            "server": "https://10.0.0.1:6443",
        }
    ]


def test_defaults_follow_the_mesh_name() -> None:
    (member,) = mesh_members(["vie"], {"vie": {"mesh_cluster_name": "vienna"}}, "/state")
    assert member["network"] == "network-vienna"
    assert member["kubeconfig"] == "/state/vienna/kubeconfig"


def test_a_host_that_is_not_in_the_inventory_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="names fra, which is not in the inventory"):
        mesh_members(["fra"], {"vie": {}}, "/state")


def test_two_members_of_one_name_are_refused() -> None:
    hostvars = {"vie": {"mesh_cluster_name": "one"}, "fra": {"mesh_cluster_name": "one"}}
    with pytest.raises(AnsibleFilterError, match="vie and fra have the same mesh_cluster_name one"):
        mesh_members(["vie", "fra"], hostvars, "/state")
