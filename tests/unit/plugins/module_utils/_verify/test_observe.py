# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a mesh: the remote secrets."""

from __future__ import annotations

import base64

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._verify.observe import remote_secret
from ansible_collections.exomesh.istio.plugins.module_utils._verify.state import (
    Access,
    RemoteSecret,
)


@pytest.mark.parametrize(
    ("kubeconfig", "read"),
    [
        (
            {
                "clusters": [
                    {
                        "cluster": {
                            "server": "https://a",
                            "certificate-authority-data": base64.b64encode(b"CA").decode(),
                        }
                    }
                ],
                "users": [{"user": {"token": "t"}}],
            },
            Access("https://a", "CA", "t"),
        ),
        ({"clusters": [], "users": []}, None),
        ("text", None),
    ],
)
def test_remote_secrets_are_read(kubeconfig: object, read: Access | None) -> None:
    content = base64.b64encode(yaml.safe_dump(kubeconfig).encode()).decode()
    metadata = {"name": "istio-remote-secret-fra", "annotations": {"networking.istio.io/cluster": "fra"}}
    secret = remote_secret({"metadata": metadata, "data": {"fra": content}})
    assert secret == RemoteSecret("istio-remote-secret-fra", ("fra",), "fra", read)
    assert "'t'" not in repr(secret)
