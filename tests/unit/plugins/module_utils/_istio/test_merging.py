# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlays are merged as Kubernetes merges patches, and take nothing away without a word."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._base.errors import ExomeshError
from ansible_collections.exomesh.istio.plugins.module_utils._istio.merging import merge

PORTS = [{"name": "tls", "port": 15443, "targetPort": 15443}, {"name": "status", "port": 15021}]


def test_mappings_are_merged_and_values_replaced() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3], "e": {}}, "d": None}) == {"a": {"b": 1, "c": [3], "e": {}}, "d": None}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


@pytest.mark.parametrize(
    ("below", "above", "wanted"),
    [
        (PORTS, [{"port": 15443, "nodePort": 30443}], [{**PORTS[0], "nodePort": 30443}, PORTS[1]]),
        (PORTS, [{"name": "http", "port": 80}], [*PORTS, {"name": "http", "port": 80}]),
        ([{"name": "A", "value": "1"}], [{"name": "A", "value": "2"}], [{"name": "A", "value": "2"}]),
        (
            [{"kind": "Service", "name": "gateway", "patches": [{"path": "a"}]}],
            [
                {"kind": "Deployment", "name": "gateway"},
                {"kind": "Service", "name": "gateway", "patches": [{"path": "b"}]},
            ],
            [
                {"kind": "Service", "name": "gateway", "patches": [{"path": "a"}, {"path": "b"}]},
                {"kind": "Deployment", "name": "gateway"},
            ],
        ),
        (["a"], ["b", "a"], ["b", "a"]),
        # Said on purpose, or without names as an autoscaler's metrics: it takes the place of ours.
        (PORTS, [], []),
        ([{"type": "Resource"}], [{"type": "Pods"}], [{"type": "Pods"}]),
    ],
)
def test_lists_with_names_are_merged(below: list[Any], above: list[Any], wanted: list[Any]) -> None:
    base = {"list": below}
    assert merge(base, {"list": above}) == {"list": wanted}
    assert base == {"list": below}


@pytest.mark.parametrize(
    ("below", "above", "told"),
    [
        (["ours", "both"], ["both", "theirs"], "k8s.list leaves out ours"),
        (PORTS, [{"name": "tls", "nodePort": 30443}], "k8s.list has an entry without port"),
        (PORTS, ["tls"], "k8s.list has an entry without port"),
        (PORTS, [{"name": "tls", "port": 443}], "gives port 443 the name tls, which port 15443 has already"),
    ],
)
def test_what_would_lose_our_entries_is_refused_with_its_place(
    below: list[Any], above: list[Any], told: str
) -> None:
    with pytest.raises(ExomeshError) as refused:
        merge({"k8s": {"list": below}}, {"k8s": {"list": above}})
    assert refused.value.code == "overlay_loses"
    assert told in str(refused.value)
