# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The IstioOperator, istioctl's input, made from typed settings (private to the collection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.compat.version import LooseVersion

from .._kubernetes.api import Object
from .merging import merge
from .names import CONTROL_PLANE, ISTIO_NAMESPACE, SEND_UNREADY_BY_DEFAULT

DEFAULT_REVISION = "default"
"""Istio's name for the revision of a control plane without a revision."""

DEFAULT_TAG = "default"
"""The tag that ``istio-injection=enabled`` refers to. istioctl creates it apart from the manifest."""

MULTI_ROOT_ENVIRONMENT = {"ISTIO_MULTIROOT_MESH": "true"}
"""Environment of an istiod that gives more than one root to workloads."""

MULTI_ROOT_METADATA = {"PROXY_CONFIG_XDS_AGENT": "true"}
"""Environment of a proxy that takes other roots from istiod, and then asks for a new certificate at once.

A proxy has it from the time when its pod was created.
"""

_HOSTNAME_LABEL = "kubernetes.io/hostname"
_INGRESS_VALUES = "istio-ingressgateway"
"""Values under this name apply to all ingress gateways, independent of their names."""


@dataclass(frozen=True)
class OperatorSettings:
    """The settings of an IstioOperator of this collection. Istio decides about what is None or empty.

    :param remote_credentials: False keeps istiod from reading Secrets in other clusters.
    :param unready_endpoints: whether istiod gives proxies pods that are not ready, from Istio 1.31 on.
    :param multi_root: let workloads trust several roots at once, and take others while they run.
    :param ha: start from the preset for high availability. Every other setting overrides the preset.
    :param spec: merged last over all other settings.
    """

    name: str = CONTROL_PLANE
    profile: str | None = None
    hub: str | None = None
    image_pull_secrets: Sequence[str] = ()
    revision: str | None = None
    revision_tags: Sequence[str] = ()
    mesh_id: str | None = None
    cluster_name: str | None = None
    network: str | None = None
    trust_domain: str | None = None
    dns_capture: bool | None = None
    remote_credentials: bool = True
    unready_endpoints: bool | None = None
    multi_root: bool = False
    resources: Mapping[str, Any] = field(default_factory=dict)
    autoscale_min: int | None = None
    autoscale_max: int | None = None
    ha: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)


def istio_operator(settings: OperatorSettings, version: str) -> Object:
    """Return the IstioOperator document. It is never stored in a cluster.

    :param version: Istio's version, because some settings apply to some versions only.
    """
    spec = merge(
        _preset(settings.revision or DEFAULT_REVISION) if settings.ha else {},
        _given(_spec_of(settings, version)),
    )
    return {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"name": settings.name, "namespace": ISTIO_NAMESPACE},
        "spec": merge(spec, settings.spec),
    }


def _spec_of(settings: OperatorSettings, version: str) -> dict[str, Any]:
    return {
        "profile": settings.profile,
        "hub": settings.hub,
        "revision": settings.revision,
        "meshConfig": {
            "trustDomain": settings.trust_domain,
            "defaultConfig": {
                "proxyMetadata": {
                    **_dns_metadata(settings.dns_capture, version),
                    **(MULTI_ROOT_METADATA if settings.multi_root else {}),
                }
            },
        },
        "values": {
            "revisionTags": [tag for tag in settings.revision_tags if tag != DEFAULT_TAG],
            "global": {
                "meshID": settings.mesh_id,
                "multiCluster": {"clusterName": settings.cluster_name},
                "network": settings.network,
                "imagePullSecrets": list(settings.image_pull_secrets),
            },
            "pilot": {
                "resources": dict(settings.resources),
                "autoscaleMin": settings.autoscale_min,
                "autoscaleMax": settings.autoscale_max,
                "env": {
                    "PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER": None
                    if settings.remote_credentials
                    else "false",
                    **_unready_endpoints(settings.unready_endpoints, version),
                    **(MULTI_ROOT_ENVIRONMENT if settings.multi_root else {}),
                },
            },
        },
    }


def _dns_metadata(dns_capture: bool | None, version: str) -> dict[str, str]:
    if dns_capture is None:
        return {}
    value = str(dns_capture).lower()
    metadata = {"ISTIO_META_DNS_CAPTURE": value}
    # From 1.25 on, istiod allocates addresses for ServiceEntries itself, and istioctl warns of this setting.
    if LooseVersion(version.partition("-")[0]) < LooseVersion("1.25"):
        metadata["ISTIO_META_DNS_AUTO_ALLOCATE"] = value
    return metadata


def _unready_endpoints(sent: bool | None, version: str) -> dict[str, str]:
    # Earlier releases do not know this setting, and only send pods that are ready.
    knows = LooseVersion(version.partition("-")[0]) >= LooseVersion("1.31")
    return {SEND_UNREADY_BY_DEFAULT: str(sent).lower()} if knows and sent is not None else {}


def _preset(revision: str) -> dict[str, Any]:
    """Return the preset for high availability: two replicas or more, with a PodDisruptionBudget.

    The replicas are on different nodes where that is possible. The charts create the budget as soon as there
    are two replicas.
    """
    return {
        "values": {
            "pilot": {
                "autoscaleMin": 2,
                "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}},
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": _HOSTNAME_LABEL,
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"app": "istiod", "istio.io/rev": revision}},
                    }
                ],
            },
            "gateways": {
                _INGRESS_VALUES: {
                    "autoscaleMin": 2,
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                }
            },
        },
        # istioctl's own validation does not know this setting of the chart.
        "unvalidatedValues": {
            "gateways": {
                _INGRESS_VALUES: {
                    "podAntiAffinityTermLabelSelector": [
                        {
                            "key": "istio",
                            "operator": "In",
                            "values": "eastwestgateway",
                            "topologyKey": _HOSTNAME_LABEL,
                        }
                    ]
                }
            }
        },
    }


def _given(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree without the values that are None or empty."""
    pruned = {key: _given(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    return {key: value for key, value in pruned.items() if value not in (None, "", {}, [])}
