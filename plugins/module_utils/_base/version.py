# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's version, as in galaxy.yml. Modules cannot read that file (private to the collection)."""

from __future__ import annotations

VERSION = "0.1.0"
