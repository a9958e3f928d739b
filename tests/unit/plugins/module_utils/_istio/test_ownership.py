# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns a Deployment: what we marked is ours, and all others are named."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._istio.names import (
    CONTROL_PLANE,
    NAMELESS,
    OWNER_LABEL,
)
from ansible_collections.exomesh.istio.plugins.module_utils._istio.ownership import (
    foreign_owner,
    is_marked,
    revision_of,
    ways_on,
)

HELM = {"meta.helm.sh/release-name": "istiod", "meta.helm.sh/release-namespace": "istio-system"}
COMPONENT = {"operator.istio.io/component": "Pilot"}


def istiod(**metadata: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "istiod", "namespace": "istio-system", **metadata}}


def test_what_we_marked_is_ours() -> None:
    ours = istiod(labels={OWNER_LABEL: CONTROL_PLANE})
    assert is_marked(ours, CONTROL_PLANE)
    assert foreign_owner(ours, CONTROL_PLANE) is None
    assert not is_marked(istiod(labels={OWNER_LABEL: NAMELESS}), NAMELESS)


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ({}, "somebody unknown"),
        ({"annotations": HELM}, "the Helm release istio-system/istiod"),
        ({"labels": {OWNER_LABEL: "unknown", **COMPONENT}}, "an IstioOperator without a name"),
        ({"labels": {OWNER_LABEL: "theirs"}}, "IstioOperator istio-system/theirs"),
        ({"labels": {OWNER_LABEL: NAMELESS}}, "the name that istioctl gives where none is given"),
        (
            {
                "labels": {OWNER_LABEL: CONTROL_PLANE},
                "ownerReferences": [{"kind": "Istio", "name": "default"}],
            },
            "Istio default, of an operator",
        ),
    ],
)
def test_another_owner_is_named(metadata: dict[str, Any], owner: str) -> None:
    assert owner in str(foreign_owner(istiod(**metadata), CONTROL_PLANE))


def test_without_a_label_it_is_the_default_revision() -> None:
    assert revision_of(istiod()) == "default"
    assert revision_of(istiod(labels={"istio.io/rev": "canary"})) == "canary"


def test_both_ways_on_are_told() -> None:
    told = ways_on(CONTROL_PLANE)
    assert "istio_adopt: true" in told
    assert "istio_revision" in told
