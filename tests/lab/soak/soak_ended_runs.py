"""First runs that are ended anywhere, in every way; then two that want the same mesh, again and again."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from ..copies import up_empty, up_mesh
from ..runs import RunningLab, all_ok, changes, end, run_playbook, started_playbook, succeed, verdicts
from .figures import figures, repetitions

NAMES = ("cluster1", "cluster2")
WAYS = tuple(
    itertools.product(
        ({}, {"EXOMESH_MODULE_PROCESSES": "1"}), (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
    )
)
LONGEST_RUN = 60.0
"""Seconds within which a first run of two clusters ends by itself, mostly."""


def roots(lab: RunningLab) -> set[str]:
    """The root certificates that are anywhere."""
    root = "-o=jsonpath={.data.root-cert\\.pem}"
    words = ("get", "secret", "-n", "istio-system", "cacerts", "--ignore-not-found", root)
    return {found for name in NAMES if (found := lab.kubectl(name, *words))}


def test_no_ended_run_leaves_a_secret_or_a_second_root(lab: RunningLab) -> None:
    up_empty(lab, len(NAMES))
    count = repetitions(120)
    chance = random.Random(count)
    seen: set[str] = set()
    ended: Counter[str] = Counter()
    with figures(
        "ended runs", "site.yml ended at any moment", "test_teardown, test_certificates, test_keys_on_disk"
    ) as found:
        for attempt in range(count):
            environment, number = WAYS[attempt % len(WAYS)]
            # Most of a mesh is there after some runs, so that later ones come further.
            with started_playbook(lab, "site.yml", **environment) as (run, traces):
                deadline = time.monotonic() + chance.uniform(0.5, LONGEST_RUN)
                while run.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.1)
                ended[number.name if run.poll() is None else "ended by themselves"] += 1
                if run.poll() is None:
                    end(run, traces, number)
            seen |= roots(lab)
        made = succeed(run_playbook(lab, "site.yml"))
        assert verdicts(made.stdout) == all_ok(NAMES)
        assert set(changes(succeed(run_playbook(lab, "site.yml")).stdout).values()) == {0}
        seen |= roots(lab)
        assert len(seen) == 1
        leases = [lab.kubectl(name, "get", "leases", "-n", "kube-system", "-o=name") for name in NAMES]
        assert not any("exomesh" in text for text in leases)
        probes = [lab.kubectl(name, "get", "pods,secrets", "-A", "-o=name") for name in NAMES]
        assert not any("exomesh-probe" in text for text in probes)
        found |= {
            **{f"runs, {name}": number for name, number in sorted(ended.items())},
            "secrets left in files, arguments, environments": 0,
            "roots ever seen": len(seen),
            "locks and probes left": 0,
        }
    lab.down()


def test_of_two_runs_at_once_both_end_well_one_after_the_other(lab: RunningLab) -> None:
    up_mesh(lab, len(NAMES))
    count = repetitions(60)
    with figures(
        "runs at once", "two runs of peering.yml started together", "test_mesh, test_run_lock"
    ) as found:
        for _attempt in range(count):
            with ThreadPoolExecutor(2) as pool:
                runs = [pool.submit(run_playbook, lab, "playbooks/peering.yml") for _ in range(2)]
            for run in runs:
                assert set(changes(succeed(run.result()).stdout).values()) == {0}
        found |= {"pairs of runs": count, "runs that failed": 0}
