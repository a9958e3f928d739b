# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version that modules know is that of the collection."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.version import VERSION

GALAXY = Path(__file__).resolve().parents[5] / "galaxy.yml"


def test_it_is_that_of_the_collection() -> None:
    assert yaml.safe_load(GALAXY.read_text(encoding="utf-8"))["version"] == VERSION
