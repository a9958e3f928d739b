"""A lab from nothing to ready, what it is doing, and back to nothing."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import fcntl
import json
import os
import secrets
import shlex
import shutil
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from exolab import cgroups, cloud_state, layout, limits, network, node, preflight, supervision
from exolab.build import Built, build, istio_version, kubernetes_version
from exolab.command import run
from exolab.errors import LabError
from exolab.layout import HOME, MAX_CLUSTERS, SOURCE, Cluster, Lab, Record, valid_name

READY_TIMEOUT = 180.0


def up(name: str, clusters: int, inventory: Path | None) -> Record:
    """Bring lab `name` to at least `clusters` clusters, all Ready, and write its inventory.

    What is there already is kept: a second call changes nothing, a call with a larger number adds clusters,
    and a call after a reboot or a crash starts what is missing.
    """
    valid_name(name)
    if not 1 <= clusters <= MAX_CLUSTERS:
        raise LabError(f"a lab has 1 to {MAX_CLUSTERS} clusters, not {clusters}")
    preflight.check()
    built = build()
    start = time.monotonic()
    with _lock():
        record = Record.load(name) or Record(Lab(name, network.free_number()), 0)
        record.clusters = max(record.clusters, clusters)
        _end_leftovers(record.lab)
        record.save()
        limits.raise_limit()
        for folder in (record.lab.bin, record.lab.logs, record.lab.cloud):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        network.router_up(record.lab)
        for cluster in record.members:
            network.cluster_up(cluster)
            cgroups.create(cluster.cgroup)
            node.prepare(cluster, built)
        _write_cloud(record)
        _install_programs(record.lab, built)
        _supervise(record)
    with concurrent.futures.ThreadPoolExecutor(len(record.members)) as pool:
        list(pool.map(lambda cluster: _make_ready(cluster, built), record.members))
    _wait(f"the Exoscale API at {record.lab.api_endpoint}", lambda: _api_answers(record.lab), record.lab.logs)
    if inventory:
        write_inventory(record, inventory)
    names = ", ".join(f"{cluster.name} ({cluster.zone})" for cluster in record.members)
    print(f"Lab {name}: {names} ready in {time.monotonic() - start:.0f} s.")
    return record


def down(name: str) -> None:
    """Remove lab `name`.

    Processes, namespaces, interfaces, mounts, control groups, files. Right also for half a lab.
    """
    valid_name(name)
    preflight.check_root()
    with _lock():
        record = Record.load(name)
        lab = record.lab if record else Lab(name, 0)
        if not record and not lab.path.exists() and not cgroups.processes(lab.cgroup):
            print(f"There is no lab {name}.")
            return
        cgroups.remove(lab.cgroup)
        if record:
            network.down(lab)
        shutil.rmtree(lab.path, ignore_errors=False)
        limits.restore_limit()
        layout.remove_home()
    print(f"Lab {name} is gone.")


def status(name: str) -> dict[str, object]:
    """What runs: for each cluster its zone, addresses, versions, memory and the state of each daemon."""
    record = Record.load(name)
    if not record:
        raise LabError(f"there is no lab {name}: `make lab-up` makes one")
    lab = record.lab
    return {
        "lab": name,
        "api": lab.api_endpoint,
        "daemons": supervision.states(lab.supervisor_config),
        "memory_mb": _megabytes(f"{lab.cgroup}/host"),
        "clusters": [_cluster_status(cluster) for cluster in record.members],
    }


def _cluster_status(cluster: Cluster) -> dict[str, object]:
    answer = _kubectl(
        cluster, "get", "nodes,services", "--all-namespaces", "--output=json", check=False
    ).stdout
    items = json.loads(answer)["items"] if answer.strip() else []
    nodes = [item for item in items if item["kind"] == "Node"]
    balancers = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": entry.get("ip") or entry["hostname"]
        for item in items
        if item["kind"] == "Service"
        for entry in item["status"].get("loadBalancer", {}).get("ingress", [])
    }
    return {
        "name": cluster.name,
        "zone": cluster.zone,
        "id": cluster.id,
        "server": cluster.server,
        "ready": any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for item in nodes
            for condition in item["status"]["conditions"]
        ),
        "kubernetes": nodes[0]["status"]["nodeInfo"]["kubeletVersion"] if nodes else None,
        "memory_mb": _megabytes(cluster.cgroup),
        "load_balancers": balancers,
        "daemons": supervision.states(cluster.etc / "supervisord.conf"),
    }


def write_inventory(record: Record, folder: Path) -> None:
    """Write hosts.yml and group_vars for the lab's clusters.

    What `ansible-playbook -i FOLDER site.yml` needs.
    """
    lab = record.lab
    hosts = {
        cluster.name: {"sks_cluster": cluster.name, "sks_zone": cluster.zone} for cluster in record.members
    }
    credential = cloud_state.load(lab.cloud).credentials[0]
    values = {
        "name": lab.name,
        "hosts": yaml.safe_dump(hosts, sort_keys=False).replace("\n", "\n        ").rstrip(),
        "bin": lab.bin,
        "istio_version": istio_version(),
        "api_endpoint": lab.api_endpoint,
        "key": credential.key,
        "secret": credential.secret,
        "state": lab.path / "mesh",
    }
    folder.mkdir(parents=True, exist_ok=True)
    templates = SOURCE / "inventory"
    for template in sorted(templates.rglob("*.yml")):
        target = folder / template.relative_to(templates)
        target.parent.mkdir(parents=True, exist_ok=True)
        cloud_state.write_private(target, string.Template(template.read_text()).substitute(values))


def kubectl(name: str, cluster: str, words: list[str]) -> None:
    """Become kubectl on a cluster of lab `name`."""
    record = Record.load(name)
    found = [member for member in record.members if member.name == cluster] if record else []
    if not found:
        raise LabError(f"lab {name} has no cluster {cluster}: see `make lab-status`")
    program = str(found[0].lab.bin / "kubectl")
    command = [program, *_kubectl_options(found[0]), *words]
    os.execv(program, command)  # noqa: S606 - becoming another program is the point


def _make_ready(cluster: Cluster, built: Built) -> None:
    """Wait for the API server and the container runtime, give the cluster its DNS and images, wait for its
    node.
    """
    admin = ("--server-side", "--force-conflicts", f"--filename={cluster.etc}/bootstrap.yaml")
    _wait(
        f"{cluster.name}: its API server {cluster.server}",
        lambda: _kubectl(cluster, "get", "--raw=/readyz", check=False).returncode == 0,
        cluster.logs,
    )
    _kubectl(cluster, "apply", *admin)
    _wait(
        f"{cluster.name}: containerd",
        lambda: _ctr(cluster, "version", check=False).returncode == 0,
        cluster.logs,
    )
    _import_images(cluster, built)
    _wait(f"{cluster.name}: its node to be Ready", lambda: _node_ready(cluster), cluster.logs)


def _import_images(cluster: Cluster, built: Built) -> None:
    """Import the image archive unless this very one is there already."""
    done = cluster.data / "images"
    if done.exists() and done.read_text() == built.images.name:
        return
    _ctr(cluster, "images", "import", "--snapshotter=overlayfs", str(built.image_archive), timeout=300)
    done.write_text(built.images.name)


def _node_ready(cluster: Cluster) -> bool:
    condition = "--output=jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    return _kubectl(cluster, "get", "nodes", condition, check=False).stdout == "True"


def _kubectl(cluster: Cluster, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    program = cluster.lab.bin / "kubectl"
    return run(program, *_kubectl_options(cluster), "--request-timeout=5s", *words, check=check)


def _kubectl_options(cluster: Cluster) -> list[str]:
    """With a cache of its own: kubectl's is by the API's address, which another lab may have had before."""
    return [
        f"--kubeconfig={cluster.admin_kubeconfig}",
        f"--cache-dir={cluster.lab.path / 'kubectl-cache'}",
    ]


def _ctr(
    cluster: Cluster, *words: str, check: bool = True, timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    return run(
        "ctr",
        "--address",
        cluster.containerd_socket,
        "--namespace=k8s.io",
        *words,
        check=check,
        timeout=timeout,
    )


def _wait(what: str, ready: Callable[[], bool], logs: Path) -> None:
    """Ask again until `ready`; give up with the place of the logs."""
    deadline = time.monotonic() + READY_TIMEOUT
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(
                f"waited {READY_TIMEOUT:.0f} s in vain for {what}: see `make lab-status` and {logs}"
            )
        time.sleep(0.5)


def _write_cloud(record: Record) -> None:
    """Tell the Exoscale API which clusters there are.

    Keys are made once; clusters keep their date of birth.
    """
    lab = record.lab
    known = cloud_state.load(lab.cloud)
    born = {cluster.id: cluster.created_at for cluster in known.clusters}
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    new = cloud_state.Credential(f"EXOlab{secrets.token_hex(12)}", secrets.token_urlsafe(32))
    clusters = tuple(
        cloud_state.Cluster(
            id=cluster.id,
            name=cluster.name,
            zone=cluster.zone,
            server=cluster.server,
            endpoint=cluster.server,
            ca_certificate=str(cluster.pki / "ca.pem"),
            ca_key=str(cluster.pki / "ca-key.pem"),
            version=kubernetes_version(),
            created_at=born.get(cluster.id, now),
            labels={"lab": lab.name},
            nodepools=(cloud_state.NodePool(id=cluster.id[:-1] + "f", name="pool", size=1),),
        )
        for cluster in record.members
    )
    state = cloud_state.CloudState(known.credentials or (new,), clusters)
    if state != known:
        cloud_state.save(lab.cloud, state)


def _install_programs(lab: Lab, built: Built) -> None:
    """What a user has on PATH: kubectl, istioctl, and the stand-in for exo where there is no real one."""
    for source in (built.kubernetes / "kubectl", built.istio / "istioctl"):
        link = lab.bin / source.name
        link.unlink(missing_ok=True)
        link.symlink_to(source)
    stand_in = lab.bin / "exo"
    elsewhere = [
        folder for folder in os.environ["PATH"].split(os.pathsep) if not Path(folder).is_relative_to(HOME)
    ]
    real = shutil.which("exo", path=os.pathsep.join(elsewhere))
    stand_in.unlink(missing_ok=True)
    if real:
        stand_in.symlink_to(real)
    else:
        folder, python = shlex.quote(str(SOURCE)), shlex.quote(sys.executable)
        stand_in.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {python} -m exolab.exo "$@"\n')
        stand_in.chmod(0o755)


def _supervise(record: Record) -> None:
    """Start or update the lab's supervisor: the Exoscale API, the cloud controller, and each node."""
    lab = record.lab
    environment = {"PYTHONPATH": str(SOURCE)}

    def service(name: str, module: str, *words: str) -> supervision.Program:
        return supervision.Program(name, [sys.executable, "-m", f"exolab.{module}", *words], environment)

    programs = [
        service(
            "exoscale-api", "exoscale_api", "--state", str(lab.cloud), "--listen", f"127.0.0.1:{lab.api_port}"
        ),
        service(
            "cloud-controller", "cloud_controller", "--lab", lab.name, "--clusters", str(record.clusters)
        ),
    ]
    programs += [node.program(cluster, environment) for cluster in record.members]
    supervision.write_config(lab.supervisor_config, lab.supervisor_socket, lab.logs, programs)
    if supervision.states(lab.supervisor_config):
        supervision.update(lab.supervisor_config)
        return
    lab.supervisor_socket.unlink(missing_ok=True)
    subprocess.run(
        [node.supervisord(), "--configuration", str(lab.supervisor_config)],
        preexec_fn=lambda: cgroups.join(f"{lab.cgroup}/host"),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        check=True,
    )


def _api_answers(lab: Lab) -> bool:
    try:
        socket.create_connection(("127.0.0.1", lab.api_port), timeout=2).close()
    except OSError:
        return False
    return True


def _end_leftovers(lab: Lab) -> None:
    """End what a supervisor left running when it was killed: it would be in the new one's way.

    Raise LabError where the API's port is taken by somebody else.
    """
    if supervision.states(lab.supervisor_config):
        return
    cgroups.remove(lab.cgroup)
    if _api_answers(lab):
        raise LabError(
            f"address 127.0.0.1:{lab.api_port}, for the lab's Exoscale API, is in use by another program"
        )


def _megabytes(group: str) -> int:
    return round(cgroups.memory(group) / 2**20)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Labs are made and removed one at a time, so that each gets addresses of its own."""
    HOME.parent.mkdir(parents=True, exist_ok=True)
    with open(HOME.parent / f".{HOME.name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
