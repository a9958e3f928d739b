"""A cluster's node.

The configuration of its daemons, and the namespaces and control groups that they run in.
"""

from __future__ import annotations

import os
import shutil
import string
import sys
from collections.abc import Mapping
from pathlib import Path

from exolab import cgroups, images, pki
from exolab.build import Built
from exolab.errors import LabError
from exolab.layout import (
    API_SERVER_PORT,
    DNS_ADDRESS,
    POD_RANGE,
    SERVICE_RANGE,
    Cluster,
)
from exolab.load_balancers import HOSTS_FILE
from exolab.supervision import Program, write_config

TEMPLATES = Path(__file__).parent / "templates"
CNI_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
# The one node's part of the pod range, a /24 as in SKS.
NODE_PODS = POD_RANGE.replace("/16", "/24")


def supervisord() -> str:
    """The supervisor that was installed beside this Python."""
    return str(Path(sys.executable).parent / "supervisord")


def prepare(cluster: Cluster, built: Built) -> None:
    """Write certificates and configuration. What is there already and right is left alone."""
    for folder in (
        cluster.path,
        cluster.pki,
        cluster.etc,
        cluster.data,
        cluster.logs,
        cluster.run,
        cluster.etc / "cni",
    ):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    pki.prepare(cluster)
    values = {
        "address": cluster.address,
        "cgroup": cluster.cgroup,
        "cni_plugins": cni_plugins(),
        "containerd_socket": cluster.containerd_socket,
        "data": cluster.data,
        "dns": DNS_ADDRESS,
        "etc": cluster.etc,
        "hosts": cluster.lab.cloud / HOSTS_FILE,
        "node_pods": NODE_PODS,
        "pause": images.PAUSE,
        "pki": cluster.pki,
        "pods": POD_RANGE,
    }
    for template in TEMPLATES.iterdir():
        target = cluster.etc / ("cni/10-pods.conflist" if template.name == "cni.json" else template.name)
        content = string.Template(template.read_text()).substitute(values)
        if not target.exists() or target.read_text() != content:  # kube-proxy ends when its file is written
            target.write_text(content)
    write_config(
        cluster.etc / "supervisord.conf", cluster.supervisor_socket, cluster.logs, daemons(cluster, built)
    )


def cni_plugins() -> Path:
    for folder in CNI_PLUGINS:
        if (folder / "bridge").exists():
            return folder
    raise LabError("no CNI plugins found: install Debian's containernetworking-plugins")


def program(cluster: Cluster, environment: Mapping[str, str]) -> Program:
    """The node as its lab's supervisor starts it, and starts it again when it dies."""
    init = Path(__file__).with_name("node-init.sh")
    # This Python is also what joins the cgroups before it becomes the node (see boot).
    command = [sys.executable, "-m", "exolab.node", cluster.namespace, cluster.cgroup]
    command += [str(init), cluster.node_name, str(cluster.path), supervisord()]
    return Program(f"node-{cluster.name}", command, environment, stop_signal="KILL")


def boot(namespace: str, cgroup: str, *init: str) -> None:
    """Become the node.

    Join its control groups, enter its network, and start `init` as first process of the rest.
    """
    cgroups.join(f"{cgroup}/daemons")
    isolate = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts", "--ipc"]
    os.execvp("nsenter", ["nsenter", f"--net=/run/netns/{namespace}", *isolate, *init])  # noqa: S606 - becoming another program is the point


def daemons(cluster: Cluster, built: Built) -> list[Program]:
    """What runs on the node."""
    etc, pki_, data = cluster.etc, cluster.pki, cluster.data
    kubernetes = built.kubernetes
    # Less frequent garbage collection takes a fifth off the CPU time of a start, for some memory.
    calm = {"GOGC": "200"}
    return [
        Program(
            "etcd",
            [
                f"{built.etcd}/etcd",
                f"--data-dir={data}/etcd",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                # Losing the last second of a lab in a power cut is fine; waiting for the disk is not.
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            calm,
        ),
        Program(
            "kube-apiserver",
            [
                f"{kubernetes}/kube-apiserver",
                "--etcd-servers=http://127.0.0.1:2379",
                f"--advertise-address={cluster.address}",
                f"--secure-port={API_SERVER_PORT}",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                f"--client-ca-file={pki_}/ca.pem",
                f"--tls-cert-file={pki_}/apiserver.pem",
                f"--tls-private-key-file={pki_}/apiserver-key.pem",
                f"--service-account-key-file={pki_}/service-accounts-key.pem",
                f"--service-account-signing-key-file={pki_}/service-accounts-key.pem",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--kubelet-certificate-authority={pki_}/ca.pem",
                f"--kubelet-client-certificate={pki_}/apiserver-kubelet-client.pem",
                f"--kubelet-client-key={pki_}/apiserver-kubelet-client-key.pem",
                # exec, logs and port-forward: nobody resolves the node's name.
                "--kubelet-preferred-address-types=InternalIP",
                f"--audit-policy-file={etc}/audit.yaml",
                f"--audit-log-path={cluster.audit_log}",
                "--profiling=false",
            ],
            calm,
        ),
        Program(
            "kube-controller-manager",
            [
                f"{kubernetes}/kube-controller-manager",
                f"--kubeconfig={etc}/controller-manager.kubeconfig",
                "--leader-elect=false",
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={pki_}/service-accounts-key.pem",
                f"--root-ca-file={pki_}/ca.pem",
                f"--cluster-signing-cert-file={pki_}/ca.pem",
                f"--cluster-signing-key-file={pki_}/ca-key.pem",
                "--allocate-node-cidrs=true",
                f"--cluster-cidr={POD_RANGE}",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
                "--profiling=false",
            ],
            calm,
        ),
        Program(
            "kube-scheduler",
            [
                f"{kubernetes}/kube-scheduler",
                f"--kubeconfig={etc}/scheduler.kubeconfig",
                "--leader-elect=false",
                "--profiling=false",
            ],
            calm,
        ),
        Program(
            "containerd",
            [_which("containerd"), f"--config={etc}/containerd.toml", "--log-level=warn"],
            calm,
        ),
        Program(
            "kubelet",
            [
                f"{kubernetes}/kubelet",
                f"--config={etc}/kubelet.yaml",
                f"--kubeconfig={etc}/kubelet.kubeconfig",
                f"--root-dir={data}/kubelet",
                f"--hostname-override={cluster.node_name}",
                f"--node-ip={cluster.address}",
                f"--node-labels=topology.kubernetes.io/region={cluster.zone},topology.kubernetes.io/zone={cluster.zone}",
            ],
            calm,
        ),
        Program(
            "kube-proxy",
            [
                f"{kubernetes}/kube-proxy",
                f"--config={etc}/kube-proxy.yaml",
                f"--hostname-override={cluster.node_name}",
            ],
            calm,
        ),
        Program("coredns", [f"{built.coredns}/coredns", f"-conf={etc}/Corefile"], calm),
    ]


def _which(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise LabError(f"{name} is not installed")
    return found


if __name__ == "__main__":
    boot(*sys.argv[1:])
