# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of module_utils or plugin_utils has its tests at the same place below tests/unit/plugins."""

from __future__ import annotations

from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
TESTS = Path(__file__).resolve().parents[1]

ELSEWHERE = {
    # They are parts of one thing, whose tests go through all of them.
    "_base/keeper": "plugins/module_utils/_base/test_held_text.py",
    "_base/processes": "plugins/module_utils/_kubernetes/test_lock.py",
    "_diagnose/arriving": "plugins/module_utils/_diagnose/test_walk.py",
    "_diagnose/commands": "plugins/module_utils/_diagnose/test_walk.py",
    "_diagnose/envoy": "plugins/module_utils/_diagnose/test_walk.py",
    "_diagnose/leaving": "plugins/module_utils/_diagnose/test_walk.py",
    "_diagnose/legs": "plugins/module_utils/_diagnose/test_walk.py",
    "_diagnose/look": "plugins/module_utils/_diagnose/test_walk.py",
    "_diagnose/peer": "plugins/module_utils/_diagnose/test_walk.py",
    "_diagnose/secret_forms": "plugins/module_utils/_diagnose/test_redact.py",
    "_diagnose/secret_values": "plugins/module_utils/_diagnose/test_redact.py",
    "_diagnose/way": "plugins/module_utils/_diagnose/test_walk.py",
    "_exoscale/api": "plugins/module_utils/_exoscale/test_interface.py",
    "_exoscale/backend": "plugins/module_utils/_exoscale/test_interface.py",
    "_exoscale/cli": "plugins/module_utils/_exoscale/test_interface.py",
    "_istio/default_tag": "plugins/module_utils/_istio/test_install.py",
    "_istio/gateway_settings": "plugins/module_utils/_istio/test_eastwest_gateway.py",
    "_istio/discovery": "roles/test_preflight.py",
    "_istio/rendering": "plugins/module_utils/_istio/test_install.py",
    "_kubernetes/api": "plugins/module_utils/_kubernetes/test_client.py",
    "_kubernetes/kubeconfig_renewal": "plugins/module_utils/_kubernetes/test_kubeconfig.py",
    "_kubernetes/kubeconfig_certificates": "plugins/module_utils/_kubernetes/test_kubeconfig.py",
    "_kubernetes/unreached": "plugins/module_utils/_kubernetes/test_api_server.py",
    "_peering/peering": "plugins/module_utils/_peering/test_remote_secrets.py",
    "_peering/reader_access": "plugins/module_utils/_peering/test_remote_secrets.py",
    "_trust/renewal": "plugins/module_utils/_trust/test_x509.py",
    "_verify/checks_cluster": "plugins/module_utils/_verify/test_judge.py",
    "_istio/envoy": "plugins/module_utils/_verify/test_proxies.py",
    "_trust/proxies": "plugins/module_utils/_verify/test_proxies.py",
    "_kubernetes/cilium": "plugins/module_utils/_verify/test_judge.py",
    "_verify/checks_sidecars": "plugins/module_utils/_verify/test_judge.py",
    "_verify/injection": "plugins/module_utils/_verify/test_judge.py",
    "_verify/checks_mesh": "plugins/module_utils/_verify/test_judge.py",
    "_verify/services": "plugins/module_utils/_verify/test_checks_services.py",
    "_verify/checks_pair": "plugins/module_utils/_verify/test_judge.py",
    "_verify/report": "plugins/module_utils/_verify/test_judge.py",
    "_verify/state": "plugins/module_utils/_verify/test_judge.py",
    # They do what one module does, and are tested through it.
    "_istio/istiod": "plugins/modules/test_running_mesh.py",
    "_peering/gaps": "plugins/modules/test_peering_info.py",
    "_trust/cluster": "plugins/modules/test_ca_modules.py",
    "_trust/encrypted_key": "plugins/modules/test_ca_modules.py",
    "_trust/intermediate_ca": "plugins/modules/test_ca_modules.py",
    "_trust/inventory": "plugins/modules/test_running_mesh.py",
    "_trust/next_root": "plugins/modules/test_root_rotation.py",
    "_trust/rotation_push": "plugins/modules/test_root_rotation.py",
    "_trust/serving": "plugins/modules/test_root_rotation.py",
    "_trust/root_ca": "plugins/modules/test_ca_modules.py",
    "_trust/rotation": "plugins/modules/test_root_rotation.py",
    "_trust/rotation_preflight": "plugins/modules/test_root_rotation.py",
    "_trust/rotation_proof": "plugins/modules/test_root_rotation.py",
    "_trust/rotation_steps": "plugins/modules/test_root_rotation.py",
    "_verify/proof": "plugins/modules/test_running_mesh.py",
    "_verify/verification": "plugins/modules/test_running_mesh.py",
    # Their tests share a fixture with those of a role, of the page, or of what may wait.
    "_base/task": "waits/test_every_module.py",
    "_istio/former": "roles/test_preflight.py",
    "_preflight/acceptance": "roles/test_preflight.py",
    "_preflight/checks": "roles/test_preflight.py",
    "_preflight/extensions": "roles/test_preflight.py",
    "_preflight/mesh_config": "roles/test_preflight.py",
    "_preflight/owners": "roles/test_preflight.py",
    "_preflight/targets": "roles/test_preflight.py",
    "_preflight/wanted": "roles/test_preflight.py",
    "_traffic/requests": "waits/test_loops_end.py",
    "page": "page/test_mesh_page.py",
    # What they do is seen in processes and on the disk.
    "_base/connections": "plugins/plugin_utils/test_keys_on_disk.py",
    "_base/download": "plugins/module_utils/_istio/test_istioctl.py",
    "_kubernetes/pod_streams": "plugins/plugin_utils/test_keys_on_disk.py",
    # Constants alone.
    "_istio/names": "plugins/module_utils/_istio/test_ownership.py",
}
"""Where the tests are that are not at the same place, and why."""


def own_tests() -> dict[str, Path]:
    """The place for the tests of each file, by the file's name in its folder of utilities."""
    return {
        str(path.relative_to(PLUGINS / folder).with_suffix("")): (
            TESTS / "plugins" / path.relative_to(PLUGINS).with_name(f"test_{path.name}")
        )
        for folder in ("module_utils", "plugin_utils")
        for path in (PLUGINS / folder).rglob("*.py")
    }


def test_every_file_has_its_tests_at_the_same_place_or_is_listed() -> None:
    missing = {name for name, test in own_tests().items() if not test.is_file()}
    assert len(own_tests()) > 80
    assert missing == ELSEWHERE.keys()


def test_what_is_listed_is_there() -> None:
    assert [test for test in ELSEWHERE.values() if not (TESTS / test).is_file()] == []
