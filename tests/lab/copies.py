"""Copies of labs: made by the first test that wants one, for as long as what they are made of is the same."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import yaml

from .outcomes import Outcome, run
from .runs import LAB, PROJECT, RunningLab, verdicts

COPIES = Path(os.environ.get("EXOLAB_CACHE", "/var/cache/exolab")) / "copies"
CLUSTERS = 3
"""Of a copy of empty clusters, and of the largest mesh; whoever wants fewer empty ones leaves some out."""

LAB_ALONE = ("lab",)
COLLECTION = ("lab", "plugins", "roles", "playbooks", "site.yml", "requirements", "tests/lab/copies.py")


def up_empty(lab: RunningLab, clusters: int) -> None:
    """Bring a lab up whose clusters hold what Kubernetes brings."""
    lab.restore(_standing("empty", LAB_ALONE, _make_empty), clusters)
    lab.up(clusters)


def up_mesh(lab: RunningLab, clusters: int) -> None:
    """Bring a lab up whose two or three clusters are one mesh with the demo, all of which works."""
    lab.restore(_mesh(clusters), clusters)
    began = time.time()
    lab.up(clusters)
    lab.wait_for_pods(clusters, began)


@dataclass(frozen=True)
class Making:
    """How the mesh of two was made: by the dynamic inventory, in clusters that were empty.

    :param empty: objects of each cluster before.
    :param blind: `site.yml --check --diff` before anything was there, with no kubeconfig, and none minted.
    :param predicted: the same with one that is held in memory for the check.
    :param after_blind: objects of each cluster after that.
    :param state: what that left in the folder of the state.
    :param requests: methods and paths by which Exoscale was asked until then.
    :param first: the first run of site.yml, with all the output that Ansible can give.
    """

    empty: dict[str, list[str]]
    blind: Outcome
    after_blind: dict[str, list[str]]
    state: list[str]
    requests: list[str]
    predicted: Outcome
    first: Outcome

    @classmethod
    def of_copy(cls) -> Making:
        """Read it beside the copy of the mesh of two."""
        told = json.loads(_notes(_mesh(2)).read_text())
        for name in ("blind", "predicted", "first"):
            told[name] = Outcome(**told[name])
        return cls(**told)


def _mesh(clusters: int) -> Path:
    makers = {2: _make_mesh_of_two, 3: _make_mesh_of_three}
    return _standing(f"mesh-{clusters}", COLLECTION, makers[clusters])


def _make_empty(lab: RunningLab, _notes: Path) -> None:
    lab.up(CLUSTERS)


def _make_mesh_of_two(lab: RunningLab, notes: Path) -> None:
    """Make it as a user does, with all that tests want to know of a first run."""
    up_empty(lab, 2)
    names = ("cluster1", "cluster2")
    dynamic = by_api(lab, lab.inventory.parent / "dynamic")
    site = partial(run, dynamic, "site.yml", lab.inventory.parent)
    empty = {name: sorted(lab.objects(name)) for name in names}
    blind = site("--check", "--diff", "-e", "kubeconfig_held_in_check_mode=false")
    predicted = site("--check", "--diff")
    after_blind = {name: sorted(lab.objects(name)) for name in names}
    state = [str(path) for path in (lab.path / "mesh").rglob("*")]
    log = (lab.path / "cloud" / "requests.jsonl").read_text().splitlines()
    requests = [f"{entry['method']} {entry['path']}" for entry in map(json.loads, log)]
    first = site("-vvvv")
    making = Making(empty, blind, after_blind, state, requests, predicted, first)
    notes.write_text(json.dumps(asdict(making)))


def _make_mesh_of_three(lab: RunningLab, _notes: Path) -> None:
    """Let a third cluster join the mesh of two."""
    up_mesh(lab, 2)
    lab.up(3)
    joined = run(lab, "site.yml", lab.inventory.parent)
    assert set(verdicts(joined.output).values()) == {"ok"}


def by_api(lab: RunningLab, folder: Path) -> RunningLab:
    """Return the lab with an inventory whose hosts come from the Exoscale API, only settings from files."""
    settings = yaml.safe_load((lab.inventory / "group_vars" / "mesh.yml").read_text())
    plugin = {
        "plugin": "exomesh.istio.sks",
        "labels": {"lab": lab.name},
        "api_key": settings["kubeconfig_api_key"],
        "api_secret": settings["kubeconfig_api_secret"],
        "api_endpoint": settings["kubeconfig_api_endpoint"],
    }
    (folder / "group_vars").mkdir(parents=True)
    (folder / "mesh.sks.yml").write_text(yaml.safe_dump(plugin))
    own = {name: value for name, value in settings.items() if not name.startswith("ansible_")}
    # The API has the clusters by their zones, and so in another order.
    own |= {"demo_client_cluster": "cluster1", "demo_server_cluster": "cluster2"}
    (folder / "group_vars" / "mesh.yml").write_text(yaml.safe_dump(own))
    return RunningLab(lab.name, folder)


def _standing(kind: str, made_of: tuple[str, ...], make: Callable[[RunningLab, Path], None]) -> Path:
    """Return the folder of a copy, which is made where there is none of what there is now."""
    COPIES.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (COPIES / f".{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = COPIES / f"{kind}-{_digest(*made_of)}"
        if not folder.exists():
            for old in COPIES.glob(f"{kind}-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            with tempfile.TemporaryDirectory() as scratch:
                original = RunningLab(LAB, Path(scratch) / "inventory")
                make(original, _notes(folder))
                original.save(folder)
                original.down()
    return folder


def _notes(copy: Path) -> Path:
    return copy.with_suffix(".json")


def _digest(*names: str) -> str:
    """What files and folders of this checkout hold, in a few letters."""
    found = hashlib.sha256()
    for path in sorted(path for name in names for path in (PROJECT / name, *(PROJECT / name).rglob("*"))):
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(f"{path.relative_to(PROJECT)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()[:12]
