"""Requests that go on for hours while the mesh is worked on; clusters that come and go meanwhile."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..copies import up_mesh
from ..former_names import by_the_names_of_before
from ..runs import (
    RunningLab,
    Traffic,
    changes,
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
TAKEOVER_REQUESTS = 2000


def answers(streams: list[Traffic]) -> Counter[str]:
    """How many requests had which status until now."""
    return Counter(code for one in streams for code in one.codes(at_least=1))


@contextmanager
def requests(lab: RunningLab, count: int) -> Iterator[list[Traffic]]:
    """Streams of requests that go on, and end however the block does."""
    with ExitStack() as stack:
        streams = [Traffic(lab, pause=0.02) for _ in range(count)]
        for one in streams:
            stack.callback(one.stop)
        yield streams


def test_no_request_fails_while_the_mesh_is_worked_on(lab: RunningLab) -> None:
    up_mesh(lab, 2)
    wanted = repetitions(100_000)
    chance = random.Random(wanted)
    with figures(
        "requests", "renewal, site, change of accounts, killed runs", "test_certificates, test_peering"
    ) as found:
        runs = killed = 0
        with requests(lab, STREAMS) as streams:
            for work in itertools.cycle(WORK):
                succeed(run_playbook(lab, *work))
                runs += 1
                with started_playbook(lab, "site.yml") as (run, traces):
                    time.sleep(chance.uniform(1, 12))
                    if run.poll() is None:
                        end(run, traces, signal.SIGKILL)
                        killed += 1
                codes = answers(streams)
                if codes.total() >= wanted:
                    break
        assert set(codes) == {"200"}, codes
        found |= {"runs": runs, "runs killed": killed, "requests": codes.total(), "requests failed": 0}
    lab.down()


def test_no_request_fails_while_clusters_come_and_go(lab: RunningLab) -> None:
    up_mesh(lab, 3)
    count = repetitions(12)
    leaving = ("-e", "cluster=cluster3", "-e", "remove_lost_services=true", "-e", "remove_uninstall=true")
    with figures("members", "cluster3 leaves the mesh, and joins it again", "test_membership") as found:
        with requests(lab, 1) as streams:
            for _attempt in range(count):
                removed = succeed(run_playbook(lab, "playbooks/remove_cluster.yml", *leaving))
                assert set(verdicts(removed.stdout).values()) == {"ok"}
                succeed(run_playbook(lab, "playbooks/add_cluster.yml", "-e", "cluster=cluster3"))
            codes = answers(streams)
        assert set(codes) == {"200"}, codes
        found |= {"times it left and joined": count, "requests": codes.total(), "requests failed": 0}


def test_no_request_fails_while_a_mesh_by_former_names_is_taken_over(lab: RunningLab) -> None:
    up_mesh(lab, 2)
    for name in ("cluster1", "cluster2"):
        by_the_names_of_before(lab, name)
    with figures("takeover", "a mesh by the names of before, taken over", "test_teardown") as found:
        with requests(lab, STREAMS) as streams:
            taken = changes(succeed(run_playbook(lab, "playbooks/install.yml")).stdout)
            while sum(answers(streams).values()) < TAKEOVER_REQUESTS:
                time.sleep(1)
            answered = answers(streams)
        assert taken["cluster1"] > 0
        assert set(answered) == {"200"}
        assert set(changes(succeed(run_playbook(lab, "playbooks/install.yml")).stdout).values()) == {0}
        found |= {"requests": answered.total(), "requests that failed": 0, "changes of the second run": 0}
    lab.down()
