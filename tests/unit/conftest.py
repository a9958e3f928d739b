"""Fixtures that tests in several folders share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lab_fixtures import cluster_authorities, exo_path, exoscale_api

__all__ = ["cluster_authorities", "exo_path", "exoscale_api"]
