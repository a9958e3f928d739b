# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that people paste into a shell as they stand (private to the collection)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from .._base.members import Member
from .._kubernetes.api import Object
from .._kubernetes.workloads import workload_of

_NAMED = 5
"""The number of workloads or pods that one command names."""


def kubectl(member: Member, *words: str, why: str = "") -> str:
    """Return a command of kubectl for one cluster.

    :param why: what to look for in its output; it becomes a comment of the shell.
    """
    return _told(shlex.join(["kubectl", "--kubeconfig", member.kubeconfig, *words]), why)


def playbook(member: Member, name: str, *limit: Member, why: str = "") -> str:
    """Return a command that runs a playbook, for the whole mesh or for some members."""
    limited = f" --limit {','.join(one.limit for one in limit)}" if limit else ""
    return _told(f"{member.playbook}.{name}{limited}", why)


def show(member: Member, kind: str, rule: str | None, why: str = "") -> str:
    """Return a command that shows an object, given as ``namespace/name``, or else all of its kind."""
    if rule is None:
        return kubectl(member, "get", f"{kind}s", "-A", why=why)
    namespace, _slash, name = rule.partition("/")
    return kubectl(member, "-n", namespace, "get", kind, name, "-o", "yaml", why=why)


def proxy_log(member: Member, pod: str) -> str:
    """Return a command that shows what a pod's proxy says."""
    namespace, _slash, name = pod.partition("/")
    return kubectl(member, "-n", namespace, "logs", name, "-c", "istio-proxy", "--tail", "50")


def restart(member: Member, pods: Sequence[Object]) -> str:
    """Return a command that replaces pods of one namespace, or that shows them if only a person can do so."""
    in_namespace = ("-n", pods[0]["metadata"]["namespace"])
    if workloads := list(dict.fromkeys(filter(None, map(workload_of, pods)))):
        return kubectl(member, *in_namespace, "rollout", "restart", *workloads[:_NAMED])
    names = [pod["metadata"]["name"] for pod in pods[:_NAMED]]
    why = "nothing makes them again: replace them yourself"
    return kubectl(member, *in_namespace, "get", "pods", *names, "-o", "yaml", why=why)


def ask_proxy(member: Member, pod: str, path: str, why: str = "") -> str:
    """Return a command that asks a pod's proxy; it also works in images without a shell."""
    namespace, _slash, name = pod.partition("/")
    words = ("exec", name, "-c", "istio-proxy", "--", "pilot-agent", "request", "GET", path)
    return kubectl(member, "-n", namespace, *words, why=why)


def _told(command: str, why: str) -> str:
    return f"{command}  # {why}" if why else command
