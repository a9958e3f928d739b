# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's words say about causes. The texts are those of Kubernetes 1.36."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes import causes
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.api import ApiError
from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.causes import (
    cause_in,
    last_complaint,
    wait_unless_it_lasts,
)

QUOTA = (
    'pods "verify-fra" is forbidden: exceeded quota: team, requested: pods=1, used: pods=3, limited: pods=3'
)
UNLIMITED = 'pods "a-1" is forbidden: failed quota: team: must specify limits.cpu for: istio-proxy'
RESTRICTED = (
    'pods "a-1" is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities (container '
    '"istio-init" must set securityContext.capabilities.drop=["ALL"])'
)
LIMIT_RANGE = 'pods "a-1" is forbidden: maximum memory usage per Container is 32Mi, but limit is 128Mi'
WEBHOOK = 'admission webhook "validate.kyverno.svc-fail" denied the request: policy Pod/x for latest tag'
POLICY = (
    "pods \"a-1\" is forbidden: ValidatingAdmissionPolicy 'owners' with binding 'owners-all' denied request: "
    "failed expression: has(object.metadata.labels.owner)"
)
TAINTED = (
    "condition PodScheduled is False: Unschedulable: 0/1 nodes are available: 1 node(s) had untolerated "
    "taint(s). no new claims to deallocate, preemption: 0/1 nodes are available"
)
FULL = "Unschedulable: 0/2 nodes are available: 2 Insufficient cpu, 1 Insufficient memory."
IMAGE = 'container server waits: ImagePullBackOff: Back-off pulling image "x:1"'
DEAD_API = (
    "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
    "metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1"
)
UNSERVED = (
    "error watch error in cluster vie: failed to list *v1.WorkloadEntry: the server could not find the "
    "requested resource (get workloadentries.networking.istio.io)"
)


@pytest.mark.parametrize(
    ("said", "told", "command", "lasts"),
    [
        (QUOTA, "ResourceQuota team is used up", "-n shop describe resourcequota team", 60),
        (UNLIMITED, "ResourceQuota team asks for more", "-n shop describe resourcequota team", 10),
        (RESTRICTED, "level restricted:latest", "get namespace shop --show-labels", 10),
        (LIMIT_RANGE, "A LimitRange", "-n shop get limitrange", 10),
        (WEBHOOK, "validate.kyverno.svc-fail", "get validatingwebhookconfigurations", 10),
        (POLICY, "ValidatingAdmissionPolicy 'owners'", "get validatingadmissionpolicies owners", 10),
        (TAINTED, "because of taints", "TAINTS:.spec.taints", None),
        (FULL, "No node has enough cpu", "describe nodes", None),
        ("0/3 nodes are available: 3 node(s) didn't match", "No node takes", "describe nodes", None),
        (IMAGE, "An image cannot be pulled", "reason=Failed", None),
        (DEAD_API, "does not answer: metrics.k8s.io/v1beta1", "get apiservices", 60),
        ("its finalizers are service.kubernetes.io/load-balancer-cleanup", "the cloud", "events", None),
        (
            "the last answer was 403: RBAC: access denied",
            "AuthorizationPolicy",
            "authorizationpolicies",
            10,
        ),
        ('configmap "istio-ca-root-cert" not found', "istiod has not put", "configmap istio -o yaml", None),
        (UNSERVED, "failed to list *v1.WorkloadEntry", "get crd workloadentries.networking", None),
    ],
)
def test_the_cause_is_named_with_a_command_that_shows_it(
    said: str, told: str, command: str, lasts: int | None
) -> None:
    cause = cause_in(said, "shop")
    assert cause
    assert told in cause.told
    assert command in cause.command
    assert cause.lasts == lasts
    assert f", in {cause.cluster or 'fra'}; {cause.advice}" in cause.next_step("fra")
    assert "{" not in cause.next_step().replace("{range", "")


def test_the_cluster_that_the_words_name_is_where_to_look() -> None:
    cause = cause_in(UNSERVED)
    assert cause
    command = "kubectl get crd workloadentries.networking.istio.io -o yaml, in vie; "
    assert cause.next_step("fra").startswith(command)


def test_words_that_name_no_cause() -> None:
    assert cause_in("0 of 1 replicas are available") is None


def test_the_namespace_is_that_of_the_request() -> None:
    cause = cause_in(f"POST /api/v1/namespaces/exomesh-verify/pods failed: {QUOTA}")
    assert cause
    assert cause.command == "kubectl -n exomesh-verify describe resourcequota team"


@pytest.mark.parametrize("refusal", [QUOTA, UNLIMITED, RESTRICTED, LIMIT_RANGE, WEBHOOK, POLICY])
@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_refusal_is_not_for_another_kubeconfig(refusal: str, status: int) -> None:
    error = ApiError(f"POST /api/v1/namespaces/shop/pods failed: {refusal}", status, "Forbidden")
    assert error.cause
    assert "kubectl" in str(error.next_step)
    assert "kubeconfig" not in str(error.next_step)


def test_a_refusal_of_an_unknown_plugin_is_not_about_the_user() -> None:
    error = ApiError('POST /pods failed: pods "a" is forbidden: no such PriorityClass', 403, "Forbidden")
    assert "admission plugin" in str(error.next_step)


def test_a_user_without_the_right_needs_another_kubeconfig() -> None:
    said = 'pods is forbidden: User "jane" cannot list resource "pods" in API group "" at the cluster scope'
    for message in (f"GET /api/v1/pods failed: {said}", "The Secrets of shop cannot be listed"):
        assert "Use a kubeconfig" in str(ApiError(message, 403, "Forbidden").next_step)


@pytest.mark.parametrize(("said", "waits"), [(QUOTA, True), (DEAD_API, True), (RESTRICTED, False)])
def test_waiting_goes_on_while_a_cause_often_passes(
    said: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter((0, 15, 30, 45))
    monkeypatch.setattr(causes, "time", SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(causes, "wait_until_met", lambda look, *_more: [look() for _each in range(4)][-1])
    looks = iter([said, said, said, None])
    assert (wait_unless_it_lasts(lambda: next(looks), 60) is None) == waits


@pytest.mark.usefixtures("impatient")
def test_waiting_ends_when_the_cause_lasts() -> None:
    assert wait_unless_it_lasts(lambda: QUOTA, 60) == QUOTA
    assert wait_unless_it_lasts(lambda: TAINTED, 0.5) == TAINTED  # a node may come
    assert wait_unless_it_lasts(lambda: None, 60) is None
    # A quota counts pods that are ending, so the first refusal may be the last.
    said = iter([QUOTA, QUOTA])
    assert wait_unless_it_lasts(lambda: next(said, None), 60) is None


def test_the_last_complaint_of_a_log() -> None:
    log = (
        "2026-11-29T19:00:00.1Z\tinfo\tklog\tall is well\n"
        "2026-11-29T19:00:01.1Z\terror\tklog\tfailed   to list *v1.Gateway\n"
        "2026-11-29T19:00:02.1Z\tinfo\tready\n"
    )
    assert last_complaint(log) == "error klog failed to list *v1.Gateway"
    assert last_complaint("all is well\n") is None
    follows = f"\terror\t{UNSERVED}\n\terror\tremote cluster vie failed to sync after 30s\n"
    assert UNSERVED in str(last_complaint(follows))
    for line in ("E1129 19:00:00.1 x.go:1] broken", "panic: nil map", "Error: unknown flag", "[critical] no"):
        assert last_complaint(f"{line}\nend\n") == line


def test_a_long_message_is_read_in_time() -> None:
    began = time.process_time()
    assert cause_in("x" * 3_000_000) is None
    assert last_complaint("ERROR " + "1" * 3_000_000)
    assert time.process_time() - began < 3
