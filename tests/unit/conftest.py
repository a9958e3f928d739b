"""Fixtures that tests in several folders share."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# `ansible-test units` does not read pyproject.toml, where pytest finds these folders.
sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("lab", "bench", "tools"))

from ansible_runs import measure_ours_alone
from lab_fixtures import cluster_authorities, exo_path, exoscale_api

# To read the hundred and more authorities that this machine trusts takes 50 ms of work, for each client of an
# API without one of its own, here and in all processes. Nothing here asks a server that one of them has
# signed.
os.environ.update(SSL_CERT_FILE=os.devnull, SSL_CERT_DIR=os.devnull)

__all__ = ["cluster_authorities", "exo_path", "exoscale_api"]


@pytest.fixture(scope="session", autouse=True)
def coverage_of_ours() -> None:
    """Measure no program of others."""
    measure_ours_alone()


@pytest.fixture
def temporary_folder() -> Iterator[Path]:
    """A TMPDIR for ansible-playbook: with a short name, as Ansible makes a socket in it."""
    with tempfile.TemporaryDirectory(prefix="exomesh-") as folder:
        yield Path(folder)
