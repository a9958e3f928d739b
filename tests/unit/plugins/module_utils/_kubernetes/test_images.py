# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images: what a registry would take, and nothing else."""

from __future__ import annotations

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.images import require_image


@pytest.mark.parametrize(
    "image",
    [
        "curl",
        "curl:8.16.0",
        "docker.io/curlimages/curl:8.16.0",
        "registry.example:5000/a/b_c/curl:v1",
        "localhost/curl",
        f"docker.io/curlimages/curl@sha256:{'0a' * 32}",
        f"docker.io/curlimages/curl:8.16.0@sha256:{'0a' * 32}",
    ],
)
def test_an_image_may_be_named_by_tag_and_by_digest(image: str) -> None:
    assert require_image(image) == image
