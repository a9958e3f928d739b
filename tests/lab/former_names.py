"""A mesh as the collection installed it before its IstioOperators had names of their own."""

from __future__ import annotations

from collections.abc import Mapping

from .runs import RunningLab

OWNER = "install.operator.istio.io/owning-resource"
NAMES_OF_BEFORE = {"exomesh": "installed-state", "exomesh-eastwest": "eastwest"}
RENAMED_LAST = {"exomesh": "deployment", "exomesh-eastwest": "service"}
"""Of each part the kind of what is its proof."""

KINDS = (
    "customresourcedefinition,deployment,service,configmap,serviceaccount,role,rolebinding,clusterrole,"
    "clusterrolebinding,horizontalpodautoscaler,mutatingwebhookconfiguration,validatingwebhookconfiguration"
)


def by_the_names_of_before(lab: RunningLab, cluster: str, kinds: Mapping[str, str] | None = None) -> None:
    """Leave in a cluster what istioctl installed as the collection did before it had names of its own.

    :param kinds: of each part, where the renaming was interrupted.
    """
    for name, before in NAMES_OF_BEFORE.items():
        selected = ((kinds or {}).get(name, KINDS), "--all-namespaces", f"--selector={OWNER}={name}")
        lab.kubectl(cluster, "label", *selected, "--overwrite", f"{OWNER}={before}")
