# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that is measured on: new clusters each time, whose API servers write down what they are asked."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from exolab.layout import Cluster, Record

PROJECT = Path(__file__).resolve().parents[1]
NAME = "exomesh-bench"
ADMINISTRATORS = ("admin", "exomesh-")
"""How the users of kubeconfigs that contestants fetch are called."""
OURSELVES = "python-urllib3"
"""The user agent of requests that are ours, too, where they use the token of a remote secret."""

QUIET_SHARE = 0.25
"""Of the machine's time: what new clusters use when they have settled."""


class Lab:
    """Clusters that are new each time, and what their API servers and their link to us have counted."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "inventory"
        self.members: Sequence[Cluster] = ()

    def renew(self, count: int) -> None:
        self.down()
        self._run("up", "--clusters", str(count), "--inventory", str(self.inventory))
        record = Record.load(NAME)
        if record is None:
            sys.exit(f"lab up: there is no lab {NAME}")
        self.members = record.members
        self.settle()

    def down(self) -> None:
        self._run("down")

    def settle(self) -> None:
        """Wait until the clusters have nothing more to do of their own, or a minute."""
        for _second in range(60):
            busy, total = _cpu_times()
            time.sleep(1)
            busy_now, total_now = _cpu_times()
            if busy_now - busy < QUIET_SHARE * (total_now - total):
                return

    @property
    def variables(self) -> dict[str, Any]:
        files = sorted((self.inventory / "group_vars").rglob("*.yml"))
        merged: dict[str, Any] = {}
        for file in files:
            merged |= yaml.safe_load(file.read_text())
        return merged

    def requests(self) -> dict[str, Counter[str]]:
        """What contestants have asked of each API server since it began, by kind."""
        return {cluster.name: Counter(self._kinds(cluster.audit_log)) for cluster in self.members}

    @staticmethod
    def _kinds(log: Path) -> Iterator[str]:
        for line in log.read_text().splitlines() if log.exists() else ():
            event = json.loads(line)
            ours = event.get("userAgent", "").startswith(OURSELVES)
            if ours or event["user"]["username"].startswith(ADMINISTRATORS):
                yield kind_of_request(event)

    def bytes(self) -> int:
        """Bytes between us and the clusters, both ways."""
        statistics = Path("/sys/class/net") / self.members[0].lab.host_interface / "statistics"
        return sum(int((statistics / f"{way}_bytes").read_text()) for way in ("rx", "tx"))

    def page_crosses(self) -> bool:
        """Whether the first cluster gets the page of the second."""
        command = ["kubectl", "cluster1", "--", "exec", "-n", "exodemo", "deploy/curl", "-c", "curl", "--"]
        command += ["curl", "--fail", "--silent", "--max-time", "5", "http://exo-webtest:3000/"]
        return self._call(*command).returncode == 0

    def _run(self, *words: str) -> None:
        result = self._call(*words)
        if result.returncode:
            sys.exit(f"lab {words[0]}: {result.stderr}")

    def _call(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        program = [str(PROJECT / "lab" / "exolab.sh"), command, "--name", NAME, *words]
        return subprocess.run(program, capture_output=True, text=True, timeout=600, check=False)


def kind_of_request(event: Mapping[str, Any]) -> str:
    """``read``, ``write``, ``dry-run``, ``lease``, ``review`` (of rights), ``session`` (exec, forward)."""
    reference = event.get("objectRef", {})
    if reference.get("resource") == "leases":
        return "lease"
    if reference.get("subresource") in ("exec", "portforward"):
        return "session"
    if event["verb"] in ("get", "list", "watch"):
        return "read"
    # A token is signed and handed out, not stored.
    if reference.get("subresource") == "token":
        return "review"
    if reference.get("apiGroup") in ("authorization.k8s.io", "authentication.k8s.io"):
        return "review"
    return "dry-run" if "dryRun=" in event["requestURI"] else "write"


def _cpu_times() -> tuple[int, int]:
    """Busy and all clock ticks of the machine until now."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)
