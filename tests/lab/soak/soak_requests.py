"""Requests that go on for hours while the mesh is worked on; clusters that come and go meanwhile."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections import Counter

from ..copies import up_mesh
from ..runs import (
    RunningLab,
    Traffic,
    end,
    run_playbook,
    started_playbook,
    succeed,
    verdicts,
)
from .figures import figures, repetitions

WORK = (
    ("playbooks/renew_certificates.yml",),
    ("site.yml",),
    ("playbooks/peering.yml", "-e", "peering_own_accounts=false"),
    ("playbooks/peering.yml",),
    ("playbooks/gateway.yml",),
)
STREAMS = 3


def judged(streams: list[Traffic], enough: int) -> Counter[str]:
    """Stop the requests once there are enough; how many had which status."""
    deadline = time.monotonic() + 600
    while sum(len(one.codes(at_least=1)) for one in streams) < enough and time.monotonic() < deadline:
        time.sleep(1)
    codes = Counter(code for one in streams for code in one.codes(at_least=1))
    for one in streams:
        one.stop()
    return codes


def test_no_request_fails_while_the_mesh_is_worked_on(lab: RunningLab) -> None:
    up_mesh(lab, 2)
    wanted = repetitions(100_000)
    chance = random.Random(wanted)
    with figures(
        "requests", "renewal, site, change of accounts, killed runs", "test_certificates, test_peering"
    ) as found:
        streams = [Traffic(lab, pause=0.02) for _ in range(STREAMS)]
        runs = killed = 0
        for work in itertools.cycle(WORK):
            succeed(run_playbook(lab, *work))
            runs += 1
            with started_playbook(lab, "site.yml") as (run, traces):
                time.sleep(chance.uniform(1, 12))
                if run.poll() is None:
                    end(run, traces, signal.SIGKILL)
                    killed += 1
            if sum(len(one.codes(at_least=1)) for one in streams) >= wanted:
                break
        codes = judged(streams, wanted)
        assert set(codes) == {"200"}, codes
        found |= {"runs": runs, "runs killed": killed, "requests": codes.total(), "requests failed": 0}
    lab.down()


def test_no_request_fails_while_clusters_come_and_go(lab: RunningLab) -> None:
    up_mesh(lab, 3)
    count = repetitions(12)
    leaving = ("-e", "cluster=cluster3", "-e", "remove_lost_services=true", "-e", "remove_uninstall=true")
    with figures("members", "cluster3 leaves the mesh, and joins it again", "test_membership") as found:
        streams = [Traffic(lab, pause=0.02)]
        for _attempt in range(count):
            removed = succeed(run_playbook(lab, "playbooks/remove_cluster.yml", *leaving))
            assert set(verdicts(removed.stdout).values()) == {"ok"}
            succeed(run_playbook(lab, "playbooks/add_cluster.yml", "-e", "cluster=cluster3"))
        codes = judged(streams, 1000)
        assert set(codes) == {"200"}, codes
        found |= {"times it left and joined": count, "requests": codes.total(), "requests failed": 0}
