# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module against servers that say nothing, little, or always the same: it ends in time and says why.

All runs go on at once, in threads, and begin with the first test; each test looks at what became of its own.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exomesh.istio.plugins.module_utils._base.task import Task, perform
from patience import SHARE, work
from silent_api import READS_WELL, WAYS, Servers, SilentApi

MODULES = Path(__file__).parents[3] / "plugins" / "modules"
PACKAGE = "ansible_collections.exomesh.istio.plugins.modules"

LIMIT = 3
"""Seconds that each module has."""

MORE = 5.0
"""Seconds that it may take beyond."""

QUIET_AFTER = 3.0
"""Seconds after which nothing of it may ask any more."""

AT_ONCE = 48


@dataclass
class Place:
    """What a module is run with.

    :param silent: a server that every kubeconfig names.
    """

    silent: SilentApi
    folder: Path

    @property
    def kubeconfig(self) -> str:
        return str(self.silent.kubeconfig(self.folder / "vie.yml", "vie"))

    @property
    def members(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "network": f"{name}-net",
                "kubeconfig": str(self.silent.kubeconfig(self.folder / f"{name}.yml", name)),
                "peers": [peer],
            }
            for name, peer in (("vie", "fra"), ("fra", "vie"))
        ]

    def program(self, script: str) -> str:
        """A program in place of another one."""
        path = self.folder / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return str(path)

    @property
    def istioctl(self) -> str:
        version = """echo '{"clientVersion": {"version": "1.31.1"}}'"""
        return self.program(f"[ $1 = version ] && {version} && exit\ncat <<'END'\n{_MANIFEST}\nEND")


_MANIFEST = """apiVersion: v1
kind: Service
metadata:
  name: istiod
  namespace: istio-system
  labels: {install.operator.istio.io/owning-resource: exomesh, app: istiod, istio.io/rev: default}
spec: {ports: [{name: grpc, port: 15010}]}"""

_CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}

Options = Callable[[Place], dict[str, Any]]


def _one(**more: Any) -> Options:
    return lambda place: {"kubeconfig": place.kubeconfig, **more}


def _all(**more: Any) -> Options:
    return lambda place: {"members": place.members, **more}


ASK: dict[str, Options] = {
    "eastwest_gateway": lambda place: {
        "kubeconfig": place.kubeconfig,
        "network": "vie-net",
        "istioctl": place.istioctl,
    },
    "failover_drill": _all(cluster="vie", namespace="shop", service="cart"),
    "intermediate_ca": lambda place: {
        "kubeconfig": place.kubeconfig,
        "name": "vie",
        "issuer": _root(),
        "source": "request",
        "key_type": "ecdsa-p256",
    },
    "istio_install": lambda place: {
        "mesh_id": "mesh",
        "cluster_name": "vie",
        "network": "vie-net",
        "kubeconfig": place.kubeconfig,
        "istioctl": place.istioctl,
    },
    "istio_preflight": lambda place: {
        "kubeconfig": place.kubeconfig,
        "members": place.members,
        "cluster": "vie",
        "network": "vie-net",
        "mesh_id": "mesh",
        "version": "1.31.1",
    },
    "istioctl": lambda place: {
        "version": "1.31.1",
        "directory": str(place.folder),
        "url": f"{place.silent.url}/istioctl.tar.gz",
        "checksum": "sha256:" + "0" * 64,
    },
    "istiod_ca_reload": _one(name="vie"),
    "kubeconfig_info": _one(cluster="vie", rights=[{"verb": "get", "resource": "pods"}]),
    "load_balancer_info": _one(name="gateway"),
    "mesh_certificates_info": _all(),
    "mesh_diagnose": _all(source="vie", service="cart.shop"),
    "mesh_leave": lambda place: {
        "members": place.members,
        "name": "gva",
        "kubeconfig": place.kubeconfig,
    },
    "mesh_record_info": _one(),
    "mesh_teardown": _one(name="vie", mesh_id="mesh"),
    "mesh_verify": _all(),
    "page_info": _one(namespace="demo", labels="app=demo", url="http://page"),
    "peering_info": _all(),
    "remote_secrets": lambda place: {
        "kubeconfig": place.kubeconfig,
        "members": place.members,
        "name": "vie",
    },
    "root_ca": lambda place: {"members": place.members, "certificate": _root()},
    "root_rotation": lambda place: {"members": place.members, "certificate": _root(), "step": "plan"},
    "server_side_apply": _one(definitions=[_CONFIG_MAP]),
    "sks_cluster_info": lambda place: _exoscale(place) | {"zones": ["ch-gva-2"]},
    "sks_kubeconfig": lambda place: (
        _exoscale(place)
        | {"cluster": "vie", "zone": "ch-gva-2", "kubeconfig": str(place.folder / "new" / "vie.yml")}
    ),
    "support_bundle": lambda place: {
        "members": place.members,
        "directory": str(place.folder / "bundle"),
        "mesh_id": "mesh",
    },
    "traffic_route": _one(namespace="shop", service="cart", port=80, versions=["v1", "v2"]),
    "traffic_shift": _all(namespace="shop", name="cart", stable="v1", canary="v2"),
}
"""Options of the modules that ask somebody."""

LOCAL = {"kubeconfig_merge", "state_directory"}
"""Modules that only handle files of this machine; all that they wait for is a lock."""

FORKS = {"mesh_lock"}
"""Makes a process that lives on, which is not to be done among these threads: see test_run_lock.py."""

READERS = {"mesh_certificates_info", "mesh_verify", "peering_info", "root_ca", "support_bundle"}
"""Modules that tell of a cluster that does not answer, and do not fail for it."""


def _exoscale(place: Place) -> dict[str, Any]:
    return {
        "api_key": "EXOkey",
        "api_secret": "secret",
        "backend": "api",
        "api_endpoint": f"{place.silent.url}/v2",
    }


def _root() -> str:
    from silent_api import IDENTITY

    return IDENTITY.certificate.decode()


@dataclass
class Ran:
    """A module that ended.

    :param seconds: that it took beyond its share of the machine.
    :param silent: the server that it had to do with.
    """

    result: dict[str, Any]
    seconds: float
    ended: float
    silent: SilentApi

    @property
    def told(self) -> str:
        """All that a user would see of it."""
        return str({key: value for key, value in self.result.items() if key != "exception"})


def run(module: str, options: dict[str, Any], silent: SilentApi | None = None) -> Ran:
    """Run a module as its action plugin does."""
    spec = importlib.import_module(f"{PACKAGE}.{module}").SPEC
    limit = {"timeout": LIMIT} if "timeout" in spec.argument_spec else {}
    checked = ArgumentSpecValidator(**spec.arguments()).validate(options | limit)
    assert not checked.error_messages, checked.error_messages
    task = Task(checked.validated_parameters, core_version="2.19")
    begun, worked = time.monotonic(), work()
    result = perform(spec, importlib.import_module(f"{PACKAGE}.{module}").run, task)
    ended = time.monotonic()
    # All that run at once work in this process, on a machine where others may work, too.
    seconds = ended - begun - SHARE * (work() - worked)
    return Ran(result | {"warnings": task.warnings}, seconds, ended, silent or SilentApi("none"))


Runs = dict[tuple[str, str], Future[Ran]]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def runs(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Every module in every way, begun."""
    folder = tmp_path_factory.mktemp("waits")
    before = tempfile.tempdir
    tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))
    pool = ThreadPoolExecutor(AT_ONCE)

    def one(module: str, way: str) -> Ran:
        place = Place(servers.start(way), Path(tempfile.mkdtemp(dir=folder)))
        return run(module, ASK[module](place), place.silent)

    for module in ASK:  # imported once, before the clock runs
        importlib.import_module(f"{PACKAGE}.{module}")
    yield {(module, way): pool.submit(one, module, way) for module in ASK for way in WAYS}
    pool.shutdown(cancel_futures=True)
    tempfile.tempdir = before


def test_every_module_is_here() -> None:
    there = {path.stem for path in MODULES.glob("*.py") if path.stem != "__init__"}
    assert there == {*ASK, *LOCAL, *FORKS}, "Give the new module its options above"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("module", ASK)
def test_it_ends_in_time_and_says_why(runs: Runs, module: str, way: str) -> None:
    ran = runs[module, way].result()
    assert ran.seconds < LIMIT + MORE, f"it took {ran.seconds:.1f} s: {ran.told}"
    assert "exception" not in ran.result, ran.result["exception"]
    if way in READS_WELL and "failed" not in ran.result:
        return  # it had nothing to write
    if module not in READERS:
        assert ran.result.get("failed"), ran.told
        assert ran.result["failure"].get("next_step"), ran.told
    where = ("vie", "fra", "gva", "127.0.0.1", "ch-gva-2", "namespace shop")
    assert any(name in ran.told for name in where), ran.told


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("module", ASK)
def test_nothing_of_it_asks_any_more(runs: Runs, module: str, way: str) -> None:
    ran = runs[module, way].result()
    time.sleep(max(0.0, ran.ended + QUIET_AFTER + 0.5 - time.monotonic()))
    assert ran.silent.last_heard < ran.ended + QUIET_AFTER


def test_no_file_is_left(runs: Runs) -> None:
    for begun in runs.values():
        begun.result()
    assert os.listdir(tempfile.gettempdir()) == []


_HANGS = "trap '' TERM INT\nsleep 60 &\nwait\nsleep 60"

PROGRAMS: dict[str, Options] = {
    "eastwest_gateway": lambda place: {"istioctl": place.program(_HANGS)},
    "istio_install": lambda place: {"istioctl": place.program(_HANGS)},
    "istioctl": lambda place: {"program": place.program(_HANGS)},
    "sks_cluster_info": lambda place: {"backend": "exo", "exo_path": place.program(_HANGS)},
    "sks_kubeconfig": lambda place: {"backend": "exo", "exo_path": place.program(_HANGS)},
    "support_bundle": lambda place: {"istioctl": place.program(_HANGS)},
}
"""Modules that start a program, and options that name one."""


@pytest.mark.parametrize("module", PROGRAMS)
def test_a_program_that_hangs_is_told(servers: Servers, module: str, tmp_path: Path) -> None:
    place = Place(servers.start("reads well, says nothing to writes"), tmp_path)
    ran = run(module, ASK[module](place) | PROGRAMS[module](place))
    assert ran.seconds < LIMIT + MORE, ran.told
    assert "exception" not in ran.result, ran.result["exception"]
    if module not in READERS:
        assert ran.result["failure"]["next_step"], ran.told
        assert any(name in ran.told for name in ("istioctl", "exo", "program")), ran.told
    assert _runs_of(str(tmp_path)) == []


def _runs_of(text: str) -> list[str]:
    """Processes that have a text in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in found if text in command]


def test_a_plugin_of_a_kubeconfig_that_hangs_is_told(servers: Servers, tmp_path: Path) -> None:
    place = Place(servers.start("reads well, says nothing to writes"), tmp_path)
    path = Path(place.kubeconfig)
    document = yaml.safe_load(path.read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": place.program(_HANGS)}
    document["users"][0]["user"] = {"exec": plugin}
    path.write_text(yaml.safe_dump(document))
    ran = run("load_balancer_info", {"kubeconfig": str(path), "name": "gateway"})
    assert ran.seconds < LIMIT + MORE, ran.told
    assert "vie" in ran.told
    assert ran.result["failure"]["next_step"]
    assert _runs_of(str(tmp_path)) == []


@pytest.mark.parametrize("way", ["says nothing", "head byte by byte", "hangs up"])
def test_a_proxy_that_says_nothing_is_told(servers: Servers, way: str, tmp_path: Path) -> None:
    place = Place(servers.start("503"), tmp_path)
    proxy = servers.start(way, tls=False)
    path = Path(place.kubeconfig)
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://vie.example:6443"
    document["clusters"][0]["cluster"]["proxy-url"] = f"http://127.0.0.1:{proxy.port}"
    path.write_text(yaml.safe_dump(document))
    ran = run("load_balancer_info", {"kubeconfig": str(path), "name": "gateway"}, proxy)
    assert ran.seconds < LIMIT + MORE, ran.told
    assert "vie" in ran.told
    assert ran.result["failure"]["next_step"]


@pytest.mark.parametrize("module", sorted(LOCAL))
def test_a_lock_that_another_holds_is_told(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "kubeconfig_merge": {
            "dest": str(tmp_path / "merged.yml"),
            "kubeconfig": str(SilentApi("none").kubeconfig(tmp_path / "vie.yml", "vie")),
        },
        "state_directory": {"path": str(tmp_path)},
    }[module]
    spec = importlib.import_module(f"{PACKAGE}.{module}").SPEC
    monkeypatch.setitem(spec.__dict__, "time_limit", lambda _params: LIMIT)
    holder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        ran = run(module, options)
    finally:
        os.close(holder)
    assert ran.seconds < LIMIT + MORE
    assert "another process holds the lock" in ran.told, ran.told
    assert ran.result["failure"]["next_step"]
