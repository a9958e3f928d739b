# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One small API server, and a client of it, for the tests of module_utils."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.client import KubernetesClient
from kubernetes_api import ApiServer


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, "vie")
    yield server
    server.close()


@pytest.fixture
def client(api: ApiServer) -> KubernetesClient:
    return KubernetesClient(str(api.kubeconfig))
