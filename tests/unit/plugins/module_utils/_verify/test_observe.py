# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a mesh: the remote secrets."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._verify.observe import remote_secret
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import (
    Access,
    RemoteSecret,
)

REMOTE: dict[str, Any] = {
    "clusters": [
        {"name": name, "cluster": {"server": f"https://{name}", "certificate-authority-data": "Q0E="}}
        for name in "ab"
    ],
    "users": [{"name": name, "user": {"token": f"t-{name}"}} for name in "ab"],
    "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in "ab"],
}


@pytest.mark.parametrize(
    ("kubeconfig", "read"),
    [
        (REMOTE | {"current-context": "a"}, Access("https://a", "CA", "t-a")),
        (REMOTE | {"current-context": "b"}, Access("https://b", "CA", "t-b")),
        (REMOTE | {"current-context": "c"}, None),
        (REMOTE, None),
        (REMOTE | {"current-context": "a", "users": []}, None),
        ({"clusters": [], "users": []}, None),
        ("text", None),
    ],
)
def test_remote_secrets_are_read(kubeconfig: object, read: Access | None) -> None:
    content = base64.b64encode(yaml.safe_dump(kubeconfig).encode()).decode()
    metadata = {"name": "istio-remote-secret-fra", "annotations": {"networking.istio.io/cluster": "fra"}}
    secret = remote_secret({"metadata": metadata, "data": {"fra": content}})
    assert secret == RemoteSecret("istio-remote-secret-fra", ("fra",), "fra", read)
    assert "'t-" not in repr(secret)
