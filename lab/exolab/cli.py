"""The lab's command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exolab import copies, lab, machine, preflight
from exolab.build import build
from exolab.errors import LabError
from exolab.layout import CACHE, HOME, MAX_CLUSTERS

DESCRIPTION = f"""\
N real Kubernetes clusters that look like Exoscale SKS, on one Linux machine, as root, without Docker or a
cloud. Each cluster is a node in namespaces of its own, with the ranges that SKS gives every cluster; a local
Exoscale API gives out kubeconfigs, a cloud controller gives out load balancer addresses. Programs are built
once and kept in {CACHE} (EXOLAB_CACHE); a lab's state is in {HOME} (EXOLAB_HOME).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 1 with one line on stderr when it could not."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "up":
            lab.up(options.name, options.clusters, options.inventory)
        elif options.command == "down":
            lab.down(options.name)
        elif options.command == "status":
            _show(lab.status(options.name), as_json=options.json)
        elif options.command == "kubectl":
            lab.kubectl(options.name, options.cluster, options.words)
        elif options.command == "save":
            copies.save(options.name, options.folder)
        elif options.command == "restore":
            copies.restore(options.folder, options.name, options.clusters)
        elif options.command == "machine":
            return machine.run_apart(options.words)
        else:
            preflight.check()  # for the tools that it builds with
            build()
            print("All programs and images are built.")
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument(
        "--name",
        default=os.environ.get("EXOLAB_NAME", "exolab"),
        help="which lab; several can run at once (EXOLAB_NAME, or by default exolab)",
    )
    up = commands.add_parser(
        "up", parents=[named], help="bring the lab up, or to more clusters; a second run changes nothing"
    )
    up.add_argument(
        "--clusters", type=int, default=2, metavar="N", help=f"1 to {MAX_CLUSTERS} (default: %(default)s)"
    )
    up.add_argument(
        "--inventory", type=Path, metavar="FOLDER", help="write an Ansible inventory of the clusters there"
    )
    status = commands.add_parser("status", parents=[named], help="what runs, versions, addresses, memory")
    status.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("down", parents=[named], help="remove the lab with all that belongs to it")
    kubectl = commands.add_parser(
        "kubectl", parents=[named], help="kubectl on a cluster, as its administrator"
    )
    kubectl.add_argument("cluster", help="such as cluster1")
    kubectl.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="what kubectl is to do")
    save = commands.add_parser("save", parents=[named], help="keep a copy of the lab, which stops for it")
    save.add_argument("folder", type=Path, help="a new folder")
    restore = commands.add_parser("restore", parents=[named], help="put a copy in the lab's place, for `up`")
    restore.add_argument("folder", type=Path, help="where `save` has put it")
    restore.add_argument("--clusters", type=int, metavar="N", help="only the first N of its clusters")
    apart = commands.add_parser("machine", help="run a command where its labs are alone, until it ends")
    apart.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="a program, and arguments")
    commands.add_parser("build", help="build programs and images into the cache, without starting anything")
    return parser


def _show(status: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(status, indent=2))
        return
    print(f"Lab {status['lab']}: Exoscale API and cloud controller use {status['memory_mb']} MB")
    print(f"  {status['api']}")
    _show_daemons(status["daemons"], "  ")
    for cluster in status["clusters"]:
        ready = "Ready" if cluster["ready"] else "NOT READY"
        version = cluster["kubernetes"] or "does not answer"
        print(f"{cluster['name']} in {cluster['zone']}: {ready}, Kubernetes {version}")
        print(f"  {cluster['server']}  {cluster['id']}  {cluster['memory_mb']} MB")
        for service, address in cluster["load_balancers"].items():
            print(f"  load balancer {address}  {service}")
        _show_daemons(cluster["daemons"], "  ")


def _show_daemons(daemons: dict[str, str], indent: str) -> None:
    troubled = {name: state for name, state in daemons.items() if state != "RUNNING"}
    if not daemons:
        print(f"{indent}no daemon runs: `make lab-up` starts them again")
    elif troubled:
        print(indent + ", ".join(f"{name} {state}" for name, state in troubled.items()))
    else:
        print(f"{indent}{len(daemons)} daemons run")
