# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two small API servers, each with an identity of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes_api import ApiServer
from records import KUBE_SYSTEM, NAMES


@pytest.fixture
def apis(tmp_path: Path) -> Iterator[dict[str, ApiServer]]:
    servers = {}
    for name in NAMES:
        (tmp_path / name).mkdir()
        servers[name] = ApiServer(tmp_path / name, name)
        servers[name].put(
            KUBE_SYSTEM,
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": "kube-system", "uid": f"uid-{name}"},
            },
        )
    yield servers
    for server in servers.values():
        server.close()
