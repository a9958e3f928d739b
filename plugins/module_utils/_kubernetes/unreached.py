# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say why a connection to an API server fails, and what to do about it (private to the collection)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trouble:
    """A known reason why a connection fails.

    :param sign: part of the library's message by which it is recognised.
    :param distrust: whether a server answers, but is not trusted.
    """

    sign: str
    distrust: bool
    cause: str
    next_step: str


_TROUBLES = (
    Trouble(
        "connect to proxy",
        False,
        "The proxy to it does not answer",
        "Check proxy-url in the kubeconfig, and HTTPS_PROXY and NO_PROXY in the environment",
    ),
    Trouble(
        "not yet valid",
        True,
        "The server's certificate is not valid yet: this machine's clock may be behind",
        "Set the clock of this machine",
    ),
    Trouble(
        "certificate has expired",
        True,
        "The server's certificate has expired, or this machine's clock is ahead",
        "Set the clock of this machine, or have the cluster's certificates renewed",
    ),
    Trouble(
        "certificate is not valid for",
        True,
        "The server's certificate is for another name or address",
        "Check the server's address in the kubeconfig",
    ),
    Trouble(
        "CERTIFICATE_VERIFY_FAILED",
        True,
        "The kubeconfig's CA did not sign its certificate: another server, a cluster made anew, or a proxy",
        "Fetch a new kubeconfig (playbook exomesh.istio.kubeconfig), and let no proxy stand between this "
        "machine and the API server",
    ),
    Trouble(
        "Failed to resolve",
        False,
        "Its name cannot be resolved",
        "Check the DNS of this machine, and that the cluster still exists",
    ),
    Trouble("Connection refused", False, "Nothing listens there", "Check that the cluster is running"),
)


def trouble_of(reason: str) -> Trouble | None:
    """Return the known reason of which a library's message has the sign; None if there is none."""
    return next((known for known in _TROUBLES if known.sign in reason), None)
