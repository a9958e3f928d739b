"""The lab's internet: a router namespace, a link to the host and one to each cluster's node.

Routing happens in the router's own namespace, so the host's firewall and its `ip_forward` stay as they are.
Pod and service ranges are not routed: clusters reach each other's node and load balancer addresses only, as
on Exoscale.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path

from exolab.command import run
from exolab.errors import LabError
from exolab.layout import ADDRESSES, MAX_LABS, Cluster, Lab, Record

NAMESPACES = Path("/run/netns")


def free_number() -> int:
    """The lowest lab number whose addresses nobody on this machine uses."""
    taken = {record.lab.number for record in Record.all()}
    routes = [
        route["dst"] for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all").stdout)
    ]
    used = [ipaddress.ip_network(dst, strict=False) for dst in routes if dst[0].isdigit()]
    for number, network in enumerate(ADDRESSES.subnets(new_prefix=20)):
        if number not in taken and not any(network.overlaps(other) for other in used):
            return number
    raise LabError(
        f"all {MAX_LABS} address ranges of {ADDRESSES} are in use: take a lab down, see `ip route`"
    )


def router_up(lab: Lab) -> None:
    """The router and the host's link to it."""
    namespace = lab.router_namespace
    if _add_namespace(namespace):
        _in(namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    if not _has_interface(None, lab.host_interface):
        run(
            "ip",
            "link",
            "add",
            lab.host_interface,
            "type",
            "veth",
            "peer",
            "name",
            "host",
            "netns",
            namespace,
        )
        run("ip", "address", "add", f"{lab.host_address}/30", "dev", lab.host_interface)
        run("ip", "link", "set", lab.host_interface, "up")
        _in(namespace, "ip", "address", "add", f"{lab.router_address}/30", "dev", "host")
        _in(namespace, "ip", "link", "set", "host", "up")
    run("ip", "route", "replace", str(lab.network), "via", str(lab.router_address), "dev", lab.host_interface)


def cluster_up(cluster: Cluster) -> None:
    """A cluster's node namespace, joined to the router, which sends it its load balancers' traffic."""
    router, node, link = cluster.lab.router_namespace, cluster.namespace, cluster.name
    if _add_namespace(node):
        # br_netfilter: kube-proxy must see traffic between pods of one node, which crosses only the bridge.
        for setting in ("net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"):
            _in(node, "sysctl", "-qw", setting)
    if not _has_interface(node, "eth0"):
        run("ip", "link", "add", "eth0", "netns", node, "type", "veth", "peer", "name", link, "netns", router)
        _in(node, "ip", "address", "add", f"{cluster.address}/25", "dev", "eth0")
        _in(node, "ip", "link", "set", "eth0", "up")
        _in(node, "ip", "route", "replace", "default", "via", str(cluster.router_address))
        _in(router, "ip", "address", "add", f"{cluster.router_address}/25", "dev", link)
        _in(router, "ip", "link", "set", link, "up")
        _in(router, "ip", "route", "replace", str(cluster.load_balancers), "via", str(cluster.address))


def forward(cluster: Cluster, address: str, ports: Mapping[int, int]) -> None:
    """Let the router send what comes to these ports of an address to the node ports; nothing else of it."""
    router, table = cluster.lab.router_namespace, ("iptables", "--wait", "--table=nat")
    rules = _in(router, *table, "--list-rules", "PREROUTING").splitlines()
    for rule in rules:
        if f"-d {address}/32" in rule:
            _in(router, *table, *rule.replace("-A", "--delete", 1).split())
    for port, node_port in ports.items():
        match = ("--destination", address, "--protocol", "tcp", "--dport", str(port))
        target = ("--jump", "DNAT", "--to-destination", f"{cluster.address}:{node_port}")
        _in(router, *table, "--append", "PREROUTING", *match, *target)


def down(lab: Lab) -> None:
    """Remove what the two functions above made: the namespaces take their interfaces and rules with them."""
    run("ip", "link", "delete", lab.host_interface, check=False)
    for path in NAMESPACES.glob(f"exolab-{lab.name}-*"):
        # Only this lab's: "exolab-a-b-wan" belongs to lab "a-b", not to "a".
        if re.fullmatch(r"wan|cluster\d+", path.name.removeprefix(f"exolab-{lab.name}-")):
            run("ip", "netns", "delete", path.name)


def _in(namespace: str, *command: str) -> str:
    return run("nsenter", f"--net={NAMESPACES / namespace}", *command).stdout


def _add_namespace(name: str) -> bool:
    """True when it was made now."""
    if (NAMESPACES / name).exists():
        return False
    run("ip", "netns", "add", name)
    _in(name, "ip", "link", "set", "lo", "up")
    return True


def _has_interface(namespace: str | None, name: str) -> bool:
    command = ["ip", "-json", "link"]
    output = _in(namespace, *command) if namespace else run(*command).stdout
    return any(link["ifname"] == name for link in json.loads(output))
