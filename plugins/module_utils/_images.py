# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that several modules run in clusters (private to the collection)."""

from __future__ import annotations

CURL_IMAGE = "docker.io/curlimages/curl:8.16.0"
"""What pods that ask run. Documentation and roles must repeat it, and `make spec` compares them."""
