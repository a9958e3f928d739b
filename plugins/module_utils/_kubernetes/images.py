# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that several modules run in clusters (private to the collection)."""

from __future__ import annotations

import re

from .._base.errors import ExomeshError

CURL_IMAGE = "docker.io/curlimages/curl:8.16.0"
"""Image of pods that send requests. Documentation and roles repeat it, and `make spec` compares them."""

PULL_POLICY = "IfNotPresent"
"""A node that has the image runs it. A tag that moves in the registry changes nothing on that node."""

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/"
_WORD = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:{_HOST})?{_WORD}(?:/{_WORD})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)


def require_image(image: str) -> str:
    """Return the image if it is a valid name: ``name:tag``, ``name@sha256:...`` or both.

    :raises ExomeshError: ``image_invalid``.
    """
    if not _IMAGE.fullmatch(image):
        raise ExomeshError(
            f"{image!r} is not the name of an image. Nothing was changed",
            "image_invalid",
            next_step="Give it as in registry.example/curl:8.16.0, or, so that nobody can put another one in "
            "its place, as in registry.example/curl@sha256: with 64 hexadecimal digits",
        )
    return image
