# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test ending_kubeconfig: by the rule of sks_kubeconfig, and by the file alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.exomesh.istio.plugins.test.ending_kubeconfig import ending_kubeconfig
from kubeconfigs import CA_OF_TESTS, NOW, issue, kubeconfig


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


@pytest.mark.parametrize(
    ("age", "left", "ends"),
    [(10, 20, False), (21, 9, True), (30, -1, True)],
    ids=["good", "in its last third", "expired"],
)
def test_it_ends_in_the_last_third_of_its_life(path: Path, age: int, left: int, ends: bool) -> None:
    client = issue(
        "exomesh-a",
        issuer=CA_OF_TESTS,
        not_before=NOW - timedelta(days=age),
        not_after=NOW + timedelta(days=left),
    )
    path.write_text(kubeconfig("a", "https://a.example", CA_OF_TESTS, client))
    assert ending_kubeconfig(str(path)) is ends


def test_the_time_can_be_given(path: Path) -> None:
    client = issue("exomesh-a", issuer=CA_OF_TESTS, not_after=NOW + timedelta(days=30))
    path.write_text(kubeconfig("a", "https://a.example", CA_OF_TESTS, client))
    assert [ending_kubeconfig(str(path), before) for before in ("29d", "31d", 86400)] == [False, True, False]
    with pytest.raises(AnsibleFilterError, match="renew_before is no duration"):
        ending_kubeconfig(str(path), "a month")


def test_what_is_not_there_or_no_kubeconfig_does_not_end(path: Path) -> None:
    assert not ending_kubeconfig(str(path))
    path.write_text("hello")
    assert not ending_kubeconfig(str(path))
