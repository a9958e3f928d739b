# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether every istiod of a cluster uses a CA: by the certificate that it shows its proxies (private)."""

from __future__ import annotations

from contextlib import suppress

from .._base.certificates import serial
from .._istio import istiod
from .._istio.names import ISTIO_NAMESPACE
from .._kubernetes.api import ApiError
from .._kubernetes.client import KubernetesClient
from .._kubernetes.readiness import pod_unmet
from .x509 import ISTIOD_NAME, issued_by

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509

_TLS_PORT = 15012


def served_by(client: KubernetesClient, replica: str) -> x509.Certificate:
    """Return the certificate with which an istiod answers its proxies."""
    der = client.served_certificate(ISTIO_NAMESPACE, replica, _TLS_PORT, ISTIOD_NAME)
    return x509.load_der_x509_certificate(der)


def not_served(client: KubernetesClient, intermediate: x509.Certificate) -> str | None:
    """Return which istiod does not serve this CA; None if all do."""
    ready = ready_istiods(client)
    if not ready:
        return "no istiod is ready"
    for name in ready:
        try:
            served = served_by(client, name)
        except ApiError as error:
            return str(error)
        if not issued_by(served, intermediate):
            return f"{name} serves a certificate of an older CA (serial {serial(served)})"
    return None


def not_taken(client: KubernetesClient, intermediate: x509.Certificate) -> str | None:
    """Return which istiod does not serve this CA, or may not; None if all do.

    One that is not ready may still sign for the proxies that it has.
    """
    _ready, lacking = istiod.replicas(client)
    return lacking[0] if lacking else not_served(client, intermediate)


def ready_istiods(client: KubernetesClient) -> list[str]:
    """Return the names of istiod's pods that take requests."""
    pods = client.list_objects("v1", "Pod", ISTIO_NAMESPACE, labels="app=istiod")
    return [pod["metadata"]["name"] for pod in pods if pod_unmet(pod) is None]
