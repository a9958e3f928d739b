"""How long it takes to list 50 clusters in 8 zones, against the bare `exo compute sks list`.

    PYTHONPATH=lab .venv/bin/python bench/list_clusters.py

Both ask the lab's Exoscale API, whose every answer is held back as long as a network would. They take turns,
each in a process of its own; what counts is the ratio of the medians. EXOMESH_EXO names a real exo, if there
is one. What is left of the difference is the import of Exoscale's Python client, about 0.1 s.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from exolab import cloud_state
from exolab.exoscale_api import ExoscaleApiServer

CLUSTERS = 50
ROUNDS = 15
# Seconds: none; a service nearby; three round trips of 25 ms, as TLS takes, and the server's own time.
DELAYS = (0.0, 0.05, 0.12)

# What the inventory plugin and sks_cluster_info do, without Ansible's own start.
OURS = """
from ansible_collections.exomesh.istio.plugins.module_utils._exoscale.backend import connect
print(len(connect({"backend": "api", "timeout": 60}).clusters_of(None).clusters))
"""


def main() -> None:
    """Print a line for each delay."""
    pools = [cloud_state.ZONES[number % len(cloud_state.ZONES)] for number in range(CLUSTERS)]
    clusters = tuple(
        cloud_state.Cluster(
            id=f"00000000-0000-4000-8000-{number:012}",
            name=f"mesh-{number}",
            zone=zone,
            server="https://127.0.0.1:6443",
            endpoint="https://127.0.0.1",
            ca_certificate="",
            ca_key="",
            version="1.36.3",
            created_at="2026-01-01T00:00:00Z",
        )
        for number, zone in enumerate(pools)
    )
    with tempfile.TemporaryDirectory() as folder:
        credential = cloud_state.Credential("EXObenchmark", "secret")
        cloud_state.save(Path(folder), cloud_state.CloudState((credential,), clusters))
        with ExoscaleApiServer(Path(folder)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            environment = {
                **os.environ,
                "HOME": folder,
                "EXOSCALE_API_KEY": credential.key,
                "EXOSCALE_API_SECRET": credential.secret,
                "EXOSCALE_API_ENDPOINT": server.url,
            }
            for delay in DELAYS:
                _compare(server, delay, environment)
            server.shutdown()


def _compare(server: ExoscaleApiServer, delay: float, environment: dict[str, str]) -> None:
    server.delay = delay
    exo = shlex.split(os.environ.get("EXOMESH_EXO", f"{sys.executable} -m exolab.exo"))
    commands = {
        "exo": [*exo, "compute", "sks", "list", "--output-format", "json"],
        "ours": [sys.executable, "-c", OURS],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _round in range(ROUNDS):
        for name, command in commands.items():
            start = time.monotonic()
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            seconds[name].append(time.monotonic() - start)
            count = result.stdout.count('"id"') if name == "exo" else int(result.stdout)
            if count != CLUSTERS:
                raise SystemExit(f"{name} listed {count} clusters, not {CLUSTERS}: {result.stderr}")
    exo_median, our_median = (statistics.median(seconds[name]) for name in ("exo", "ours"))
    times = f"exo {exo_median:.3f} s, ours {our_median:.3f} s"
    print(f"{delay * 1000:3.0f} ms an answer: {times}, ratio {our_median / exo_median:.2f}")


if __name__ == "__main__":
    main()
