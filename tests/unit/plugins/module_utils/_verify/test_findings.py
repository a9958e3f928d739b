# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of finding is whole, and its next step can be taken."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._verify.findings import CHECKS, KINDS, Finding

PROJECT = Path(__file__).resolve().parents[5]


def test_next_steps_name_variables_and_playbooks_that_exist() -> None:
    specs = [yaml.safe_load(path.read_text()) for path in PROJECT.glob("roles/*/meta/argument_specs.yml")]
    entries = [entry for spec in specs for entry in spec["argument_specs"].values()]
    variables = {name for entry in entries for name in entry["options"]}
    said = " ".join(f"{kind.cause} {kind.next_step}" for kind in KINDS).replace("_host}", "}")
    named = set(re.findall(r"\b[a-z]+_[a-z_]+\b", said))
    assert len(named) > 5
    # Playbooks, a variable of one, and of openssl.
    playbooks = {"renew_certificates", "rotate_root", "support_bundle"}
    assert named <= variables | playbooks | {"rotate_back", "s_client"}
    playbooks = set(re.findall(r"{playbook}\.(\w+)", said))
    assert "renew_certificates" in playbooks
    assert playbooks <= {path.stem for path in (PROJECT / "playbooks").glob("*.yml")}


def test_every_kind_of_finding_is_whole() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS) > 40
    for kind in KINDS:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", kind.code)
        assert kind.message
        assert kind.cause
        assert kind.link.startswith("https://")
        assert {kind.check, kind.breaks_in, kind.breaks_out} <= {None, *CHECKS}
        place = {"source": "vie", "destination": "fra"} if kind.check else {"cluster": "vie"}
        assert "{" not in Finding(kind, **place).next_step({})


def test_a_next_step_is_for_the_inventory_that_the_user_has() -> None:
    """Its sources, in the shell's quotes, and its names; they need not be those of the mesh."""
    members = {
        name: Member(name, name, "none", host=f"sks-{name}", inventory=("/my meshes/m1", "/more"))
        for name in ("vie", "fra")
    }
    kinds = {kind.code: kind for kind in KINDS}
    about_one = Finding(kinds["gateway-missing"], cluster="fra").next_step(members)
    assert about_one == "ansible-playbook -i '/my meshes/m1' -i /more exomesh.istio.gateway --limit sks-fra"
    about_two = Finding(kinds["reader-underprivileged"], source="vie", destination="fra").next_step(members)
    assert about_two.endswith("exomesh.istio.peering --limit sks-vie,sks-fra")
    in_one = Finding(kinds["istiod-degraded"], cluster="fra").next_step(members)
    assert in_one.endswith("in fra")
