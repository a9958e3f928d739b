# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether every istiod has read its peers."""

from __future__ import annotations

from ansible_collections.exomesh.istio.plugins.module_utils._peering.sync import unsynced


def test_every_replica_must_be_synced_and_know_the_gateways() -> None:
    gateways = {"fra": {"198.18.50.129"}}
    good, gone = {"vie": "synced", "fra": "synced"}, {"vie": "synced"}
    known = {"istiod-a": gateways, "istiod-b": {"fra": {"198.18.50.77"}}}
    assert unsynced({"istiod-a": good}, {}, ["fra"], {}) == {}
    assert unsynced({"istiod-a": good, "istiod-b": gone}, {}, ["fra"], {}) == {
        "fra": ["istiod-b says that it does not know it"]
    }
    assert unsynced({"istiod-a": {"fra": "timeout"}}, {}, ["fra"], {}) == {"fra": ["istiod-a says timeout"]}
    assert unsynced({"istiod-a": good, "istiod-b": good}, known, ["fra"], gateways) == {
        "fra": ["istiod-b has 198.18.50.77 as its gateway, not 198.18.50.129"]
    }
