"""What a member that is silent costs a new mesh of the others."""

from __future__ import annotations

import time

from ..copies import up_empty
from ..runs import RunningLab, all_ok, run_playbook, silent, succeed, verdicts
from .figures import figures

THREE = ("cluster1", "cluster2", "cluster3")


def test_three_of_four_become_a_mesh_in_little_more_time_than_three_alone(lab: RunningLab) -> None:
    with figures("missing member", "a new mesh of four with one silent", "test_mesh") as found:
        up_empty(lab, len(THREE))
        begun = time.monotonic()
        succeed(run_playbook(lab, "site.yml"))
        alone = time.monotonic() - begun
        lab.down()

        up_empty(lab, len(THREE))
        lab.up(len(THREE) + 1)
        with silent(lab, "cluster4"):
            begun = time.monotonic()
            skipped = run_playbook(lab, "site.yml", "-e", "mesh_on_failure=skip")
            lasted = time.monotonic() - begun
        assert skipped.returncode != 0
        assert verdicts(skipped.stdout) == all_ok(THREE), skipped.stdout[-5000:]
        taken_in = succeed(run_playbook(lab, "site.yml"))
        assert verdicts(taken_in.stdout) == all_ok((*THREE, "cluster4"))
        found |= {
            "seconds, three alone": round(alone),
            "seconds, three of four": round(lasted),
            "percent of the time of three alone": round(100 * lasted / alone),
        }
        assert lasted < 1.5 * alone
    lab.down()
