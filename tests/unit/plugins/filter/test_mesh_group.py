# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter mesh_group: which mesh of an inventory is meant."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.exomesh.istio.plugins.filter.mesh_group import mesh_group

TWO_MESHES = {"mesh": ["a", "b"], "shops": ["c", "d"]}


def found(groups: dict[str, list[str]], **named: str) -> str:
    """The group, where these hosts have the variable."""
    hosts = [host for members in groups.values() for host in members]
    hostvars: dict[str, dict[str, Any]] = {host: {} for host in hosts}
    for host, group in named.items():
        hostvars[host]["mesh_group"] = group
    return mesh_group(hostvars, {"all": hosts, **groups})


def test_without_the_variable_it_is_mesh() -> None:
    assert found(TWO_MESHES) == found({"elsewhere": ["a"]}) == "mesh"


def test_the_inventory_names_it_for_all_hosts_or_for_the_group() -> None:
    assert found(TWO_MESHES, a="shops", b="shops", c="shops", d="shops") == "shops"
    assert found({"shops": ["c", "d"], "others": ["x"]}, c="shops", d="shops") == "shops"


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"c": "shops", "d": "shops"}, "several meshes: mesh, shops. Say which one is meant"),
        ({"a": "mesh", "b": "mesh", "c": "shops", "d": "shops"}, "several meshes: mesh, shops"),
        ({"a": "shops", "b": "shops", "c": "shops"}, "shops for some hosts, but not for d of that group"),
    ],
)
def test_what_may_mean_two_things_is_refused(named: dict[str, str], told: str) -> None:
    with pytest.raises(AnsibleFilterError, match=told):
        found(TWO_MESHES, **named)
