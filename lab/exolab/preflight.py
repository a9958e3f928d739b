"""What the machine must have before a lab is started, each lack said in one line."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from exolab import cgroups, node
from exolab.command import run
from exolab.errors import LabError

# Program -> Debian package that has it.
PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "sysctl": "procps",
    "mmdebstrap": "mmdebstrap",
}
CNI_PACKAGE = "containernetworking-plugins"
FILE_SYSTEMS = ("overlay", "tmpfs", "proc")
MODULES = ("overlay", "br_netfilter", "veth", "nf_conntrack")


def check() -> None:
    """Install what Debian has, and raise LabError for what nobody can install."""
    check_root()
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise LabError(
            f"the lab runs on Linux on x86_64, and this is {platform.system()} on {platform.machine()}"
        )
    _install_packages()
    for module in MODULES:
        # Built into many kernels, a module in others, and modprobe is not everywhere.
        if shutil.which("modprobe"):
            run("modprobe", "--quiet", module, check=False)
    missing = [name for name in FILE_SYSTEMS if name not in Path("/proc/filesystems").read_text().split()]
    if missing:
        raise LabError(f"this kernel lacks {', '.join(missing)}: load it, or use another machine")
    if not Path("/proc/sys/net/bridge").exists():
        raise LabError(
            "this kernel lacks br_netfilter, which kube-proxy needs: load it, or use another machine"
        )
    probe = run(
        "unshare",
        "--pid",
        "--fork",
        "--mount",
        "--mount-proc",
        "--net",
        "--uts",
        "--ipc",
        "true",
        check=False,
    )
    if probe.returncode:
        raise LabError(f"this kernel or container does not allow new namespaces: {probe.stderr.strip()}")
    cgroups.check()


def check_root() -> None:
    """A lab makes namespaces, interfaces and control groups."""
    if os.geteuid():
        raise LabError(
            "the lab needs root: it makes network namespaces and control groups. Try again with sudo"
        )


def _install_packages() -> None:
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    try:
        node.cni_plugins()
    except LabError:
        packages.append(CNI_PACKAGE)
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"missing: {', '.join(packages)} (Debian's names). Install them and try again")
    print(f"Installing {', '.join(packages)} with apt-get.", flush=True)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", environment=quiet, timeout=600)
    run("apt-get", "install", "-qq", "--no-install-recommends", *packages, environment=quiet, timeout=900)
