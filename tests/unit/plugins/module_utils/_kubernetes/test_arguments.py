# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode before there is a kubeconfig."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.arguments import kubeconfig_is_to_come


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_only_check_mode_does_without_and_warns(tmp_path: Path, check_mode: bool, exists: bool) -> None:
    path, warnings = tmp_path / "kubeconfig", list[str]()
    if exists:
        path.touch()
    module = SimpleNamespace(params={"kubeconfig": str(path)}, check_mode=check_mode, warn=warnings.append)
    to_come = check_mode and not exists
    assert kubeconfig_is_to_come(module) is to_come
    assert [str(path) in warning for warning in warnings] == [True] * to_come
