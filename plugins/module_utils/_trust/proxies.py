# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find proxies, and read a proxy's certificate and trusted roots from what Envoy tells (private)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from contextlib import suppress

from .._base.documents import MALFORMED
from .._istio.envoy import Dump
from .._kubernetes.api import Object
from .x509 import issued_by, read_chain

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509


PROXY = "istio-proxy"
"""Name of a proxy's container."""


def proxy_of(pod: Object) -> Object | None:
    """Return the container of a pod's proxy, or None. A native sidecar is one of the init containers."""
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    return next((container for container in containers if container["name"] == PROXY), None)


def own_chain(secrets: Iterable[Dump], what: str) -> tuple[x509.Certificate, ...]:
    """Return the proxy's own certificate and those above it; nothing if it has no certificate.

    :param secrets: entries of the answer to ``_istio.envoy.SECRETS``.
    :param what: name of the certificate in errors.
    :raises CertificateError: it cannot be read.
    """
    return _certificates(secrets, "default", "tls_certificate", "certificate_chain", what)


def trusted_roots(secrets: Iterable[Dump], what: str) -> tuple[x509.Certificate, ...]:
    """Return the roots that the proxy trusts; nothing if it has none. See :func:`own_chain`."""
    return _certificates(secrets, "ROOTCA", "validation_context", "trusted_ca", what)


def is_below(chain: Sequence[x509.Certificate], root: x509.Certificate) -> bool:
    """Return whether a proxy's own certificate comes from a root, by way of the others in its chain.

    istiod appends every root that it gives out to the chain, so a root that is there proves nothing.

    :param chain: the proxy's own certificate first, then others in any order.
    """
    link = next(iter(chain), None)
    for _step in chain:
        if link is None or issued_by(link, root):
            break
        link = next((above for above in chain if above != link and issued_by(link, above)), None)
    return link is not None and issued_by(link, root)


def _certificates(
    secrets: Iterable[Dump], name: str, kind: str, part: str, what: str
) -> tuple[x509.Certificate, ...]:
    text = ""
    with suppress(*MALFORMED):
        held = (entry["secret"][kind][part]["inline_bytes"] for entry in secrets if entry.get("name") == name)
        text = base64.b64decode(next(held, "")).decode()
    return read_chain(text, what) if text else ()
