# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role diagnose says when it is not told which way to walk."""

from __future__ import annotations

import pytest

from .conftest import Play


@pytest.mark.parametrize("named", [{"diagnose_from": "east"}, {"diagnose_service": "web.shop:80"}])
def test_what_is_not_named_is_asked_for(play_role: Play, named: dict[str, str]) -> None:
    """The playbook gives the role an empty text for what is not on the command line."""
    way = {"diagnose_from": "", "diagnose_service": "", **named}
    run = play_role("diagnose", {"east": {}, "west": {}}, **way)
    assert run.return_code != 0
    assert "Name both: -e from=CLUSTER -e service=NAME.NAMESPACE:PORT" in run.words
    assert "The clusters are east, west." in run.words
