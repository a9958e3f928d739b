# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognise causes in what a cluster says: who refuses an object, what holds a pod (private).

The same words come in the API's answers, in conditions and Events, and in logs. Here is the only place that
knows them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from .._base.waiting import wait_until_met

_WORDS = 400
"""Characters of the cluster's own words that are kept."""

_READ = 10_000
"""Characters of a message in which a cause is looked for. Whoever has a cluster may write any number."""

_REFUSED = 10.0
"""Seconds after which a refusal is believed that only a person takes back."""
_PASSING = 60.0
"""Seconds after which a cause is believed that often passes: pods that end count in a quota until they are
gone, and an API that is served by a Service does not answer while its pod is replaced."""


@dataclass(frozen=True)
class Cause:
    """A cause that the cluster itself names.

    :param told: the cause, with the name of what refuses or lacks.
    :param command: a command whose output shows the cause.
    :param advice: what removes the cause.
    :param lasts: seconds after which it is believed that waiting does not help; None if it always may.
    :param cluster: the cluster of the cause, if the words name one.
    """

    told: str
    command: str
    advice: str
    lasts: float | None = None
    cluster: str | None = None

    def next_step(self, cluster: str | None = None) -> str:
        """Return the command and the advice.

        :param cluster: the cluster to name, if what is around the text does not name it.
        """
        place = self.cluster or cluster
        return f"{self.command}{f', in {place}' if place else ''}; {self.advice}"


@dataclass(frozen=True)
class _Sign:
    """A cause and the words by which it is recognised.

    :param words: an expression. Its group ``who`` is what is named, its group ``cluster`` where that is;
        ``{words}`` is all from its beginning.
    """

    words: str
    told: str
    command: str
    advice: str
    lasts: float | None = None


_WEBHOOKS = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
_EXEMPT = "have it exempt this namespace, or admit these pods"

_SIGNS = (
    _Sign(
        r"exceeded quota: (?P<who>[^,\s]+)",
        "ResourceQuota {who} is used up: {words}",
        "kubectl {place}describe resourcequota {who}",
        "raise it, or delete what uses it",
        lasts=_PASSING,
    ),
    _Sign(
        r"failed quota: (?P<who>[^:\s]+)",
        "ResourceQuota {who} asks for more settings: {words}",
        "kubectl {place}describe resourcequota {who}",
        "add a LimitRange with defaults to the namespace, or take that resource out of the quota",
        lasts=_REFUSED,
    ),
    _Sign(
        r'violates PodSecurity "(?P<who>[^"]+)"',
        "Pod Security of the namespace, level {who}, refuses the pod: {words}",
        "kubectl get namespace {namespace} --show-labels",
        "change its label pod-security.kubernetes.io/enforce; sidecars need level privileged, unless Istio's "
        "CNI plugin is installed; level restricted needs mesh_server_user, too",
        lasts=_REFUSED,
    ),
    _Sign(
        r"(?:maximum|minimum|default) \S+ (?:usage per|limit to request ratio per) (?P<who>\w+)",
        "A LimitRange of the namespace refuses the pod: {words}",
        "kubectl {place}get limitrange -o yaml",
        "widen it",
        lasts=_REFUSED,
    ),
    _Sign(
        r'admission webhook "(?P<who>[^"]+)" denied the request',
        "The policy behind {words}",
        _WEBHOOKS,
        _EXEMPT,
        lasts=_REFUSED,
    ),
    _Sign(
        r"ValidatingAdmissionPolicy '(?P<who>[^']+)'",
        "{words}",
        "kubectl get validatingadmissionpolicies {who} -o yaml",
        _EXEMPT,
        lasts=_REFUSED,
    ),
    _Sign(
        r'failed calling webhook "(?P<who>[^"]+)"',
        "An admission webhook does not answer: {words}",
        _WEBHOOKS,
        "start what answers for {who}, or delete its configuration if nobody needs it",
    ),
    _Sign(
        r"(?P<who>\S{1,253}) because it is being terminated",
        "Namespace {who} is being deleted",
        "kubectl get namespace {who} -o yaml",
        "its status.conditions name what holds it",
    ),
    _Sign(
        r"Discovery failed for some groups.*?server APIs: (?P<who>[^:,\s]+)",
        "A namespace cannot go while an API that is served by a Service does not answer: {who}",
        "kubectl get apiservices",
        "start what answers for {who}, or delete its APIService if nobody uses it",
        lasts=_PASSING,
    ),
    _Sign(
        r"Some resources are remaining|Some content in the namespace has finalizers",
        "{words}",
        "kubectl get namespace {namespace} -o yaml",
        "start what removes these finalizers",
    ),
    _Sign(
        r"its finalizers are \S*load-balancer-cleanup",
        "A Service goes when the cloud has released its load balancer",
        "kubectl {place}get events --field-selector involvedObject.kind=Service",
        "see there why the cloud does not",
    ),
    _Sign(
        r"\d+/\d+ nodes are available:.*untolerated taint",
        "No node takes the pod, because of taints: {words}",
        "kubectl get nodes -o custom-columns=NODE:.metadata.name,TAINTS:.spec.taints",
        "remove the taint, or give the pods a toleration: istio_overlay for istiod (pods of tests and "
        "demo tolerate what istiod tolerates), gateway_overlay for the gateway",
    ),
    _Sign(
        r"\d+/\d+ nodes are available:.*?Insufficient (?P<who>[^\s,.]+)",
        "No node has enough {who} left: {words}",
        "kubectl describe nodes",
        "add a node, or delete what uses them",
    ),
    _Sign(
        r"\d+/\d+ nodes are available:",
        "No node takes the pod: {words}",
        "kubectl describe nodes",
        "let a node meet what these words name",
    ),
    _Sign(
        r"no nodes available to schedule pods",
        "The cluster has no node",
        "kubectl get nodes",
        "add a node",
    ),
    _Sign(
        r"InvalidImageName|ErrImageNeverPull|ErrImagePull|ImagePullBackOff|Failed to pull image",
        "An image cannot be pulled: {words}",
        "kubectl {place}get events --field-selector reason=Failed",
        "name an image that the nodes can pull: istio_hub, gateway_hub, verify_server_image, "
        "verify_client_image, demo_server_image or demo_client_image",
    ),
    _Sign(
        r'configmap "istio-ca-root-cert" not found',
        "istiod has not put its ConfigMap istio-ca-root-cert into the namespace",
        "kubectl -n istio-system get configmap istio -o yaml",
        "see whether discoverySelectors there leave out the namespace, and whether istiod is ready",
    ),
    _Sign(
        r"RBAC: access denied",
        "An AuthorizationPolicy refuses the request",
        "kubectl get authorizationpolicies -A",
        "find the one that applies, in the cluster that answers, and let it pass the request",
        lasts=_REFUSED,
    ),
    _Sign(
        r"(?:in cluster (?P<cluster>[\w.-]+): )?failed to list \*[\w.]+: the server could not find the "
        r"requested resource \(get (?P<who>[\w.-]+)\)",
        "Its API serves no version of {who} that istiod reads: {words}",
        "kubectl get crd {who} -o yaml",
        "see which versions have served: true, and install one that this Istio reads",
    ),
)
"""The known causes. The first one whose words are found counts."""


def cause_in(said: str, namespace: str | None = None) -> Cause | None:
    """Return the cause that is named in words of a cluster; None if none is known.

    :param namespace: the namespace of the object that the words are about; taken from the words if None.
    """
    said = said[:_READ]
    if namespace is None:
        found = re.search(r"/namespaces/([^/\s?]+)", said)
        namespace = found[1] if found else None
    for sign in _SIGNS:
        if match := re.search(sign.words, said):
            parts = {
                "who": match.groupdict().get("who") or "",
                "words": " ".join(said[match.start() :].split())[:_WORDS].rstrip(" ;"),
                "namespace": namespace or "NAMESPACE",
                "place": f"-n {namespace} " if namespace else "",
            }
            told, command, advice = (text.format(**parts) for text in (sign.told, sign.command, sign.advice))
            return Cause(told, command, advice, sign.lasts, match.groupdict().get("cluster"))
    return None


def wait_unless_it_lasts(
    unmet: Callable[[], str | None], timeout: float, interval: float = 0.5
) -> str | None:
    """Wait like :func:`wait_until_met`, but give up when what is missing names a cause that lasts."""
    since: float | None = None
    given_up: str | None = None

    def look() -> str | None:
        nonlocal since, given_up
        missing = unmet()
        cause = cause_in(missing) if missing else None
        now = time.monotonic()
        if cause is None or cause.lasts is None:
            since = None
            return missing
        since = now if since is None else since
        if now - since < cause.lasts:
            return missing
        given_up = missing
        return None

    return wait_until_met(look, timeout, interval) or given_up


_COMPLAINT = re.compile(
    r"\t(?:error|fatal)\t|\[(?:error|critical)\]|\blevel\"?[=:]\"?(?:error|fatal)|^[EF]\d{4} |^panic: |"
    r"\b(?:ERROR|FATAL)\b|^(?:Error|Fatal)\b",
)


def last_complaint(log: str) -> str | None:
    """Return the last error that a log reports, without its time; None without one.

    An error whose cause is known goes before later ones, which often only follow from it.
    """
    lines = [line for line in log.splitlines() if _COMPLAINT.search(line)]
    if not lines:
        return None
    lines = [line for line in lines if cause_in(line)] or lines
    return " ".join(re.sub(r"^\S*\d\d:\d\d:\d\d\S*\s", "", lines[-1][:_READ]).split())[:_WORDS]
