# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Lease says of its holder, whoever wrote it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.lease import (
    HOLDER_ANNOTATION,
    Claim,
    Holder,
)


def lease(annotation: str | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"annotations": {HOLDER_ANNOTATION: annotation}}, "spec": spec}


def test_our_own_holder_is_recognised() -> None:
    holder = Holder.this_process()
    claim = Claim.of(lease(holder.told(), holderIdentity=holder.identity, leaseDurationSeconds=30))
    assert claim.process == holder.process
    assert claim.who == f"{holder.user}@{holder.process.host} (process {holder.process.pid})"
    assert claim.duration == 30


def test_the_annotation_of_another_holder_says_nothing() -> None:
    claim = Claim.of(lease(Holder.this_process().told(), holderIdentity="somebody"))
    assert (claim.process, claim.who) == (None, "somebody")


def test_two_holders_of_one_process_differ() -> None:
    assert Holder.this_process().identity != Holder.this_process().identity


@pytest.mark.parametrize("value", [None, [], "text", 10**9, -1, True, {}, json.dumps({"pid": "x"})])
def test_no_field_needs_a_certain_form(value: Any) -> None:
    fields = ("holderIdentity", "acquireTime", "renewTime", "leaseDurationSeconds")
    for field in fields:
        claim = Claim.of(lease(str(value), **{field: value}))
        assert claim.duration is None
        assert claim.process is None
    assert Claim.of({"spec": value, "metadata": value}).identity == ""


def test_times_are_read_with_and_without_a_zone() -> None:
    moment = datetime(2026, 11, 23, 4, 40, tzinfo=UTC)
    for text in ("2026-11-23T04:40:00Z", "2026-11-23T05:40:00+01:00", "2026-11-23T04:40:00"):
        assert Claim.of(lease(renewTime=text)).renewed == moment
