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
    runs the installer only where something differs. A run that changes nothing only reads.
  - Waits until the Deployments of the installation are ready. On a time-out it says which is not, and why.
  - Works for istiod and for gateways alike, as the IstioOperator says.
  - Two runs, also on different controllers, never install into one cluster at once. The second waits for the
    first, up to O(timeout), and then says who that is. A run that was killed is taken for dead after 15 s.
extends_documentation_fragment:
  - exomesh.istio.attributes
  - exomesh.istio.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Works against a cluster without Istio, its namespace and its kinds, too.
  diff_mode:
    support: full
    details:
      - Shows the fields that change; objects that are created are named only.
  idempotent:
    support: full
options:
  istioctl:
    description:
      - The istioctl program. Its release is the release that is installed.
    type: path
    required: true
  cache_file:
    description:
      - File on the controller in which istioctl's last answers are kept. The next run needs none of them
        anew, where nothing has changed that they are made of.
      - In check mode it is read only.
    type: path
    version_added: 0.1.0
  mtls_strict:
    description:
      - Whether workloads refuse requests in plain text, by a PeerAuthentication for the whole cluster. Where
        it is V(false), ours is deleted, and somebody else's left alone. Without this option nothing is
        looked at.
    type: bool
    version_added: 0.1.0
  name:
    description:
      - Name of the IstioOperator. Objects of an earlier installation of this name that are not rendered any
        more are deleted, as C(istioctl install) does.
      - The installer writes it on all that it makes, and so it says whose that is. What the collection
        installed itself by the names C(installed-state), C(eastwest) and C(ingress), before it had names of
        its own, gets the name of now; no pod is restarted by that.
      - V(installed-state) says nothing, as istioctl gives it to everybody who names none.
    type: str
    default: exomesh
  adopt:
    description:
      - Take over what somebody else installed, and mark it as the collection's own. Look at what that changes
        first, in check mode with a diff.
      - Without it, the module refuses where a Deployment that it would install, or an istiod of O(revision),
        lacks the mark of O(name).
    type: bool
    default: false
    version_added: 0.1.0
  profile:
    description:
      - Profile of the IstioOperator that everything else is changed from. Without it, istioctl's own default.
    type: str
  hub:
    description:
      - Registry and folder of Istio's images. Registries that Istio gives up in December 2026 are refused,
        here and in O(spec).
    type: str
    default: docker.io/istio
  image_pull_secrets:
    description:
      - Names of Secrets of namespace C(istio-system) with which the images are pulled, for a mirror.
      - Sidecars ask for them by the same names in their own namespaces.
    type: list
    elements: str
    default: []
  revision:
    description:
      - Revision of the control plane. Empty for the one that has none.
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
      - Name of the cluster's network in the mesh. The namespace gets it as a label, too.
    type: str
  trust_domain:
    description:
      - Trust domain of the workloads' identities, the same in the whole mesh. Without it, C(cluster.local).
    type: str
  dns_capture:
    description:
      - Whether the sidecars answer DNS, so that a service that only another cluster has can be called by its
        name.
    type: bool
  remote_credentials:
    description:
      - Whether istiod reads Secrets in the other clusters, too. Only proxies of clusters without an istiod
        need that.
      - Istio 1.31 is the first that can do without, but istiod of 1.31.0 crashes then once it has a peer.
    type: bool
    default: true
  resources:
    description:
      - Requests and limits of istiod, as a container has them.
    type: dict
    default: {}
  autoscale_min:
    description:
      - Least number of replicas of istiod.
    type: int
  autoscale_max:
    description:
      - Greatest number of replicas of istiod.
    type: int
  ha:
    description:
      - Whether to start from the preset for high availability, for istiod and for gateways alike. At least
        two replicas, on nodes of their own where there are some, a PodDisruptionBudget, and requests.
      - Every other option wins over the preset.
    type: bool
    default: false
  spec:
    description:
      - Merged over the C(spec) of the IstioOperator, for all that has no option of its own. Mappings are
        merged, everything else is replaced.
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
  description: Revision that is installed, or would be. V(default) for the one that has none.
  type: str
  returned: success, where there is a kubeconfig
  sample: default
objects:
  description: Names of the objects by what happened to them, or would.
  type: dict
  returned: success
  contains:
    create:
      description: Objects that did not exist.
      type: list
      elements: str
    change:
      description: Objects of which fields differed.
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
  description: Deployments of the installation, each V(ready) or what is missing.
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
    "resources": {"type": "dict", "default": {}},
    "autoscale_min": {"type": "int"},
    "autoscale_max": {"type": "int"},
    "ha": {"type": "bool", "default": False},
    "spec": {"type": "dict", "default": {}},
}
"""The options that an IstioOperator is made of."""


def run(task: Task) -> Result:
    """Compare, install where needed, wait; gives the module's result."""
    params = task.params
    if kubeconfig_is_to_come(task):
        return {"changed": True, "objects": summarise([]), "readiness": {}}
    client = KubernetesClient(params["kubeconfig"], params["context"], params["cluster_name"])
    require_cluster(client, params["cluster_name"], params["mesh_id"], params["network"])
    cache = AnswerCache(params["cache_file"], writable=not task.check_mode)
    istioctl = Istioctl(params["istioctl"], params["kubeconfig"], params["context"], cache)
    settings = OperatorSettings(**{name: params[name] for name in SETTINGS_SPEC})
    try:
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
    }
)


def main() -> None:
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
