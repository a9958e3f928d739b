"""The load balancers of the lab's cloud, in their file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exolab.load_balancers import HealthCheck, LoadBalancer, LoadBalancers, NlbService

CHECK = HealthCheck(mode="tcp", port=30443, uri="", interval=10, timeout=5, retries=1)
SERVICE = NlbService("a-15443", 15443, 30443, "round-robin", "pool", CHECK)
PLAIN = LoadBalancer("1", "plain", "at-vie-2", "198.18.1.129", services=(SERVICE,))
NAMED = LoadBalancer("2", "named", "at-vie-2", "198.18.1.130", hostname="gateway.example", external=True)


def test_what_is_put_is_there_once_and_its_names_are_for_everybodys_dns(tmp_path: Path) -> None:
    balancers = LoadBalancers(tmp_path)
    assert balancers.all() == []
    assert balancers.put(PLAIN)
    assert not balancers.put(PLAIN)
    assert balancers.put(NAMED)
    assert balancers.put(replace(PLAIN, ip="198.18.1.131"))
    assert {entry.id: entry.ip for entry in balancers.all()} == {"1": "198.18.1.131", "2": "198.18.1.130"}
    assert (tmp_path / "hosts").read_text() == "198.18.1.130 gateway.example\n"


def test_an_external_one_outlives_its_services(tmp_path: Path) -> None:
    balancers = LoadBalancers(tmp_path)
    balancers.put(PLAIN)
    balancers.put(replace(NAMED, services=(SERVICE,)))
    balancers.release("1")
    balancers.release("2")
    assert balancers.all() == [NAMED]
