# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of temporary pods: limits, and no more rights than they need."""

from __future__ import annotations

from ansible_collections.exomesh.istio.plugins.module_utils._kubernetes.containers import (
    client_container,
    server_container,
)


def test_a_client_is_admitted_at_level_restricted() -> None:
    container = client_container("curl", "curl:1", ("sleep", "5"), tty=True)
    context = container["securityContext"]
    assert context["runAsNonRoot"]
    assert context["runAsUser"] > 0
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (container["command"], container["tty"]) == (["sleep", "5"], True)


def test_a_server_is_admitted_too_and_counted_by_quotas() -> None:
    container = server_container("web", "web:1", 65532)
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert container["securityContext"].items() <= client_container("c", "c:1", ())["securityContext"].items()
    assert container["securityContext"]["runAsNonRoot"]


def test_a_server_runs_as_the_user_of_its_image() -> None:
    """Not every image works as another."""
    assert not [key for key in server_container("web", "web:1")["securityContext"] if key.startswith("runAs")]
