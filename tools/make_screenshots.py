# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the page of a verification in Chromium, and keep what it looks like in `docs`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Literal

from ansible_collections.exomesh.istio.plugins.plugin_utils.page import html
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/unit/page"))

import verifications  # type: ignore[import-not-found]  # noqa: E402

Scheme = Literal["light", "dark"]
PICTURES: dict[str, tuple[Scheme, int, int]] = {
    "verification-light.png": ("light", 1120, 900),
    "verification-dark.png": ("dark", 1120, 900),
    "verification-phone.png": ("light", 360, 1000),
}


def main() -> int:
    """Write every picture; return the exit code."""
    page_html = html(verifications.unhealthy())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (scheme, width, height) in PICTURES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.set_content(page_html)
            page.screenshot(path=ROOT / "docs" / name)
            page.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
