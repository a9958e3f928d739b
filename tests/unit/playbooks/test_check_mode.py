# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All playbooks in check mode, one after another, on a mesh that runs: they end well and change nothing.

They use nearly every role, module and plugin, and so show what a release of Ansible says of them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._istio.record import Entry, Record
from ansible_collections.exomesh.istio.plugins.module_utils._trust import x509 as rules
from ansible_runs import run_ansible
from kubeconfigs import run_module
from running_mesh import GATEWAY, RunningMesh

ROOT = Path(__file__).resolve().parents[3]
# They import the others, but `diagnose`, which fails where a way stops, and `awx`, which has its own test.
ALONE = ("site", "traffic", "status", "certificates_report", "shift_traffic", "failover_drill",
         "support_bundle", "renew_certificates", "rotate_root", "add_cluster", "remove_cluster",
         "teardown")  # fmt: skip
DEMO = {"failover_drill_namespace": "shop", "failover_drill_service": "cart", "failover_drill_port": 80}
VARIABLES: dict[str, dict[str, Any]] = {
    "shift_traffic": {"traffic_shift_urls": ["http://shop.example"]},
    "failover_drill": {"failover_drill_confirm": "fra", **DEMO},
    "rotate_root": {"rotate_back": True},
    "add_cluster": {"cluster": "fra"},
    "remove_cluster": {"cluster": "fra", "remove_uninstall": True},
}
# What these APIs have not; each is a finding of preflight.
ACCEPTED = ["istio-owner", "capacity", "probe"]
EMPTY_PROXY = {
    f"/config_dump?resource=dynamic_{kind}": {"configs": []}
    for kind in ("listeners", "route_configs", "active_clusters", "endpoint_configs&include_eds")
}
EMPTY_PROXY["/clusters?format=json"] = {}
ISTIOCTL = """#!/bin/sh
case "$1" in
version) echo '{"clientVersion": {"version": "1.31.1"}}' ;;
*) echo '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}' ;;
esac
"""


def playbook(folder: Path, name: Path, *arguments: str, code: int = 0) -> str:
    """Run a playbook, which must end with the code; what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXOSCALE_")}
    finished = run_ansible(
        "ansible-playbook",
        *("-i", folder / "hosts.yml", name, *arguments),
        environment={
            **kept,
            "HOME": str(folder),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "1",
        },
        folder=ROOT,
    )
    said = finished.stdout + finished.stderr
    assert finished.returncode == code, said
    return said


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """A mesh with an inventory, a state folder, and a service that is routed."""
    mesh = RunningMesh(tmp_path)
    ca = tmp_path / "state/ca"
    ca.mkdir(parents=True, mode=0o700)
    (tmp_path / "state").chmod(0o700)
    (ca / "root-cert.pem").write_text(rules.chain_pem(mesh["vie"].root.chain))
    (ca / "root-key.pem").write_text(rules.key_pem(mesh["vie"].root.key))
    (tmp_path / "istioctl").write_text(ISTIOCTL)
    (tmp_path / "istioctl").chmod(0o755)
    hosts = {}
    for name, cluster in mesh.clusters.items():
        kubeconfig = str(cluster.api.kubeconfig)
        hosts[name] = {"kubeconfig_file": kubeconfig, "peering_server": f"https://{name}.example"}
        ours = {"app.kubernetes.io/managed-by": "exomesh.istio"}
        template = {"metadata": {"labels": {"app": "cart"}}}
        cluster.put("Deployment", "cart-v1", ours, "shop", spec={"replicas": 1, "template": template})
        cluster.put(
            "Service", "cart", {}, "shop", spec={"selector": {"app": "cart"}, "ports": [{"port": 80}]}
        )
        gateway = {"install.operator.istio.io/owning-resource": "exomesh-eastwest"}
        pods = {"replicas": 1, "template": {"metadata": {}}}
        cluster.put("Deployment", "istio-eastwestgateway", gateway, spec=pods)
        for pod in ("web-1", GATEWAY):
            cluster.api.listen(pod, 15000, cluster.proxy_pages() | EMPTY_PROXY)
        routed = run_module("traffic_route", kubeconfig=kubeconfig, namespace="exotraffic",
                            service="exo-webtest", port=3000, versions=["v1", "v2"], timeout=60)  # fmt: skip
        assert routed["changed"], routed
    variables = {  # the plays say themselves that they run here, and with which Python
        "istioctl_binary": str(tmp_path / "istioctl"),
        "kubeconfig_merged_file": str(tmp_path / "merged"),
        "kubeconfig_source": "file",
        "mesh_state_dir": str(tmp_path / "state"),
        "preflight_accept": ACCEPTED,
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"mesh": {"hosts": hosts, "vars": variables}}))
    plays = [
        {"import_playbook": str(ROOT / f"playbooks/{name}.yml"), "vars": VARIABLES.get(name, {})}
        for name in ALONE
    ]
    (tmp_path / "all.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    yield mesh
    mesh.close()


def test_all_playbooks_in_check_mode(mesh: RunningMesh, tmp_path: Path) -> None:
    playbook(tmp_path, ROOT / "playbooks/kubeconfig.yml")
    before = {name: dict(cluster.api.objects) for name, cluster in mesh.clusters.items()}
    said = playbook(tmp_path, tmp_path / "all.yml", "--check", "--diff")
    diagnose = ROOT / "playbooks/diagnose.yml"
    said += playbook(tmp_path, diagnose, "--check", "-e", "from=vie service=cart.shop:80", code=2)
    assert "The way stops at" in said, said[-3000:]
    assert {name: cluster.api.objects for name, cluster in mesh.clusters.items()} == before
    said += recover(mesh, tmp_path)
    assert "DEPRECATION WARNING" not in said
    used = set(re.findall(r"(?m)^TASK \[exomesh\.istio\.(\w+) :", said))
    assert used == {path.parent.name for path in ROOT.glob("roles/*/tasks")} - {"awx"}


def recover(mesh: RunningMesh, folder: Path) -> str:
    """What the recovery says that it would write, in check mode, too."""
    members = {name: Entry(name, f"network-{name}", "", "", {}) for name in mesh.clusters}
    record = Record("mesh1", "vie", "network-vie", "", "", members)
    mesh["vie"].api.put("/api/v1/namespaces/istio-system/configmaps/exomesh", record.object())
    inventory = folder / "recovered/inventory.yml"
    given = {"recover_kubeconfig": str(mesh["vie"].api.kubeconfig), "recover_inventory": str(inventory)}
    said = playbook(folder, ROOT / "playbooks/recover_state.yml", "--check", "-e", json.dumps(given))
    assert not inventory.parent.exists()
    return said


def test_every_module_by_its_name(tmp_path: Path) -> None:
    """Those too that no playbook needs here: each is found, and says itself what it lacks."""
    group = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["all"]
    tasks = [{f"exomesh.istio.{name}": {}, "name": name, "ignore_errors": True} for name in group]
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}])
    )
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"here": local}}}))
    said = playbook(tmp_path, tmp_path / "play.yml", "--check")
    assert "DEPRECATION WARNING" not in said
    assert re.findall(r"(?m)^TASK \[(\w+)\]", said) == group
