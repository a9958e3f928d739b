# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects as the installer leaves them, and what istiod writes into them later."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.exomesh.istio.plugins.module_utils._istio.manifest import (
    as_installed,
    component_of,
    owner_labels,
    without_own_changes,
)

OPERATOR = {"metadata": {"name": "exomesh", "namespace": "istio-system"}, "spec": {"revision": "canary"}}


def webhook(kind: str, **client_config: str) -> dict[str, Any]:
    hook = {
        "name": "x.istio.io",
        "clientConfig": {"service": "istiod", **client_config},
        "failurePolicy": "Fail",
    }
    return {"kind": kind, "metadata": {"name": "istio-sidecar-injector", "labels": {}}, "webhooks": [hook]}


def test_a_component_is_known_by_label_or_by_chart() -> None:
    assert component_of({"metadata": {"labels": {"operator.istio.io/component": "Cni"}}}) == "Cni"
    assert component_of({"metadata": {"labels": {"helm.sh/chart": "istiod-1.31.1"}}}) == "Pilot"
    assert component_of({"metadata": {"name": "x"}}) is None


def test_labels_name_owner_and_revision() -> None:
    labels = owner_labels(OPERATOR, "1.31.1")
    assert labels["install.operator.istio.io/owning-resource"] == "exomesh"
    assert labels["operator.istio.io/version"] == "1.31.1"
    assert labels["istio.io/rev"] == "canary"
    assert owner_labels({**OPERATOR, "spec": {}}, "1.31.1")["istio.io/rev"] == "default"


def test_the_plain_injector_is_switched_off_and_the_given_object_stays() -> None:
    plain = webhook("MutatingWebhookConfiguration")
    before = copy.deepcopy(plain)
    installed = as_installed(plain, {"a": "b"})
    assert installed["metadata"]["labels"] == {"a": "b"}
    never = {"matchLabels": {"istio.io/deactivated": "never-match"}}
    assert installed["webhooks"][0]["namespaceSelector"] == never
    assert plain == before


def test_what_istiod_writes_is_no_difference() -> None:
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        wanted, live = webhook(kind), webhook(kind, caBundle="CA")
        assert without_own_changes(live) == without_own_changes(wanted)
    ready, new = (webhook("ValidatingWebhookConfiguration") for _ in range(2))
    new["webhooks"][0]["failurePolicy"] = "Ignore"
    assert without_own_changes(ready) == without_own_changes(new)
    ready, new = (webhook("MutatingWebhookConfiguration") for _ in range(2))
    new["webhooks"][0]["failurePolicy"] = "Ignore"
    assert without_own_changes(ready) != without_own_changes(new)
