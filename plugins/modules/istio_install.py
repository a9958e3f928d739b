#!/usr/bin/python
# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install Istio with istioctl, only where the cluster differs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_install
short_description: Install Istio with istioctl, only where the cluster differs
version_added: 0.1.0
description:
  - Renders what C(istioctl install) would apply, compares it with the cluster by a server-side dry run, and
    runs the installer only if something differs. A run that changes nothing only reads.
  - Waits until the Deployments of the installation are ready. On a time-out, the module reports which one is
    not ready, and why.
  - Installs istiod or gateways, as the IstioOperator says.
  - Two runs never install into one cluster at once, even from different controllers. The second run waits for
    the first, up to O(timeout), and then reports who that is. A run that was killed counts as dead after
    15 s.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Also works against a cluster without Istio, its namespace and its kinds.
  diff_mode:
    support: full
    details:
      - Shows the fields that change. Objects that are created are only named.
  idempotent:
    support: full
options:
  istioctl:
    description:
      - The istioctl program. It installs its own release.
    type: path
    required: true
  cache_file:
    description:
      - File on the controller that keeps istioctl's last answers. The next run uses an answer again if
        nothing has changed that it was made from.
      - In check mode, the file is only read.
    type: path
    version_added: 0.1.0
  mtls_strict:
    description:
      - Whether workloads refuse requests in plain text. A PeerAuthentication sets this for the whole cluster.
        With V(false), the collection's own PeerAuthentication is deleted, and any other is left alone.
        Without this option, nothing is checked.
    type: bool
    version_added: 0.1.0
  name:
    description:
      - Name of the IstioOperator. Objects of an earlier installation of this name that are not rendered any
        more are deleted, as C(istioctl install) does.
      - The installer writes this name on everything that it makes, so the name shows who owns an object.
      - Before the collection had names of its own, it used C(installed-state), C(eastwest) and C(ingress).
        What it installed by these names gets its name of today. No pod is restarted for that.
      - V(installed-state) does not show an owner, because istioctl uses it whenever no name is given.
    type: str
    default: exomesh
  adopt:
    description:
      - Take over what somebody else installed, and mark it as the collection's own. First look at what that
        changes, in check mode with a diff.
      - Without it, the module refuses to install if a Deployment that it would install, or an istiod of
        O(revision), lacks the mark of O(name).
    type: bool
    default: false
    version_added: 0.1.0
  profile:
    description:
      - Profile of the IstioOperator on which everything else is based. Without it, istioctl's own default is
        used.
    type: str
  hub:
    description:
      - Registry and folder of Istio's images. Registries that are switched off in December 2026 are refused,
        here and in O(spec).
    type: str
    default: docker.io/istio
  image_pull_secrets:
    description:
      - Names of Secrets in namespace C(istio-system) with which the images are pulled, for a mirror.
      - Sidecars use Secrets of the same names in their own namespaces.
    type: list
    elements: str
    default: []
  revision:
    description:
      - Revision of the control plane. Empty for a control plane without a revision.
    type: str
    default: ""
  revision_tags:
    description:
      - Names that stand for O(revision) in the label C(istio.io/rev) of namespaces and pods.
    type: list
    elements: str
    default: []
  mesh_id:
    description:
      - Name of the mesh.
    type: str
  cluster_name:
    description:
      - Name of the cluster in the mesh.
    type: str
  network:
    description:
      - Name of the cluster's network in the mesh. The namespace also gets it as a label.
    type: str
  trust_domain:
    description:
      - Trust domain of the workloads' identities. It must be the same in the whole mesh. Without it,
        C(cluster.local) is used.
    type: str
  dns_capture:
    description:
      - Whether the sidecars answer DNS queries. Then a service that only another cluster has can be called by
        its name.
    type: bool
  remote_credentials:
    description:
      - Whether istiod also reads Secrets in the other clusters. Only proxies of clusters without an istiod
        need that.
      - Istio 1.31 is the first release that can do without. But istiod up to 1.31.1 then ends with a panic as
        soon as it has a peer.
    type: bool
    default: true
  unready_endpoints:
    description:
      - Whether istiod also gives sidecars pods that are not ready. Istio does so by itself from 1.31 on. For
        earlier releases, this option changes nothing.
      - Sidecars do not send requests to such pods of their own network. Behind the gateway of another network
        they cannot tell them from ready ones, and these requests fail.
    type: bool
  multi_root:
    description:
      - Whether workloads can trust several root CAs at once, and take others while they run. A root can only
        be rotated without an outage if they can.
      - Sets C(ISTIO_MULTIROOT_MESH) at istiod and C(PROXY_CONFIG_XDS_AGENT) for proxies. A proxy has it from
        the next start of its pod on.
    type: bool
    default: false
    version_added: 0.1.0
  resources:
    description:
      - Requests and limits of istiod, in the form that a container has.
    type: dict
    default: {}
  autoscale_min:
    description:
      - Minimum number of replicas of istiod.
    type: int
  autoscale_max:
    description:
      - Maximum number of replicas of istiod.
    type: int
  ha:
    description:
      - Whether to start from the preset for high availability, for istiod and for gateways alike. It has at
        least two replicas, on different nodes if possible, a PodDisruptionBudget, and resource requests.
      - Every other option takes precedence over the preset.
    type: bool
    default: false
  spec:
    description:
      - Merged over the C(spec) of the IstioOperator, for everything that has no option of its own.
      - Mappings are merged. Lists whose entries have names, ports or other keys are merged by these, as
        Kubernetes does it. Everything else is replaced. A list of texts must have what is below it.
    type: dict
    default: {}
  overlay:
    description:
      - Merged over O(spec) in the same way. It is for settings of users, where O(spec) has those of a role.
    type: dict
    default: {}
author:
  - exomesh contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Install istiod
  exomesh.istio.istio_install:
    kubeconfig: /home/me/mesh/vienna.kubeconfig
    istioctl: /usr/local/bin/istioctl
    profile: minimal
    mesh_id: mesh1
    cluster_name: vienna
    network: network-vienna
    dns_capture: true
    spec:
      meshConfig:
        accessLogFile: /dev/stdout
    timeout: 300
"""

RETURN = r"""
version:
  description: Istio release that is installed, or would be.
  type: str
  returned: success, where there is a kubeconfig
  sample: 1.31.1
revision:
  description: Revision that is installed, or would be. V(default) if there is none.
  type: str
  returned: success, where there is a kubeconfig
  sample: default
objects:
  description: Names of the objects, by what happened to them or would happen.
  type: dict
  returned: success
  contains:
    create:
      description: Objects that did not exist.
      type: list
      elements: str
    change:
      description: Objects with fields that differed.
      type: list
      elements: str
    delete:
      description: Objects of an earlier installation that are not needed any more.
      type: list
      elements: str
    unchanged:
      description: Objects that were as they should be.
      type: list
      elements: str
readiness:
  description: By Deployment of the installation, V(ready) or what is missing.
  type: dict
  returned: success
  sample:
    istio-system/istiod: ready
failure:
  description: Why the module failed, for programs.
  type: dict
  returned: failure
"""

from typing import Any

from ..module_utils._base.errors import ExomeshError
from ..module_utils._base.task import Result, Spec, Task, run_module
from ..module_utils._istio.install import install, plan
from ..module_utils._istio.merging import merge
from ..module_utils._istio.mtls import apply_mtls, compare_mtls
from ..module_utils._istio.names import CONTROL_PLANE
from ..module_utils._istio.operator import DEFAULT_REVISION, OperatorSettings
from ..module_utils._istio.record import require_cluster
from ..module_utils._istio.rendering import AnswerCache, Istioctl
from ..module_utils._kubernetes.arguments import KUBERNETES_ARGUMENT_SPEC, kubeconfig_is_to_come
from ..module_utils._kubernetes.client import KubernetesClient
from ..module_utils._kubernetes.lock import INSTALL_LOCK, ClusterLock
from ..module_utils._kubernetes.objects import UNCHANGED, render_diff, summarise
from ..module_utils._kubernetes.readiness import readiness, wait_ready

SETTINGS_SPEC: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "default": CONTROL_PLANE},
    "profile": {"type": "str"},
    "hub": {"type": "str", "default": "docker.io/istio"},
    "image_pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "revision": {"type": "str", "default": ""},
    "revision_tags": {"type": "list", "elements": "str", "default": []},
    "mesh_id": {"type": "str"},
    "cluster_name": {"type": "str"},
    "network": {"type": "str"},
    "trust_domain": {"type": "str"},
    "dns_capture": {"type": "bool"},
    "remote_credentials": {"type": "bool", "default": True},
    "unready_endpoints": {"type": "bool"},
    "multi_root": {"type": "bool", "default": False},
    "resources": {"type": "dict", "default": {}},
    "autoscale_min": {"type": "int"},
    "autoscale_max": {"type": "int"},
    "ha": {"type": "bool", "default": False},
    "spec": {"type": "dict", "default": {}},
}
"""The options from which an IstioOperator is made."""


def run(task: Task) -> Result:
    """Compare, install if something differs, wait, and return the module's result."""
    params = task.params
    if kubeconfig_is_to_come(task):
        return {"changed": True, "objects": summarise([]), "readiness": {}}
    client = KubernetesClient(params["kubeconfig"], params["context"], params["cluster_name"])
    require_cluster(client, params["cluster_name"], params["mesh_id"], params["network"])
    cache = AnswerCache(params["cache_file"], writable=not task.check_mode)
    istioctl = Istioctl(params["istioctl"], params["kubeconfig"], params["context"], cache)
    try:
        given = {name: params[name] for name in SETTINGS_SPEC}
        settings = OperatorSettings(**{**given, "spec": merge(params["spec"], params["overlay"])})
        installation = plan(client, istioctl, settings, params["adopt"])
        mtls = [] if params["mtls_strict"] is None else compare_mtls(client, params["mtls_strict"])
        if not task.check_mode:
            if installation.differs:
                with ClusterLock(client, INSTALL_LOCK, params["timeout"]) as lock:
                    if lock.had_to_wait:
                        installation = plan(client, istioctl, settings, params["adopt"])
                    install(lock.client, istioctl, settings, installation, params["timeout"], lock.require)
            ready = wait_ready(client, installation.deployments, params["timeout"])
            apply_mtls(client, mtls, params["timeout"])
        else:
            ready = readiness(client, installation.deployments)
    except ExomeshError as error:
        raise error.about(cluster=client.name) from None
    changes = [*installation.changes, *mtls]
    return {
        "changed": any(change.action != UNCHANGED for change in changes),
        "version": installation.version,
        "revision": params["revision"] or DEFAULT_REVISION,
        "objects": summarise(changes),
        "readiness": ready,
        **({"diff": render_diff(changes)} if task.diff else {}),
    }


SPEC = Spec(
    argument_spec={
        **KUBERNETES_ARGUMENT_SPEC,
        "istioctl": {"type": "path", "required": True},
        "cache_file": {"type": "path"},
        "mtls_strict": {"type": "bool"},
        "adopt": {"type": "bool", "default": False},
        **SETTINGS_SPEC,
        "overlay": {"type": "dict", "default": {}},
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
