# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision whether an intermediate CA is to be renewed, and why (private to the collection)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from .._base.certificates import fingerprint, time_text
from .x509 import (
    BACKDATING,
    ISTIOD_NAME,
    Profile,
    chain_problems,
    chain_weaknesses,
    end_of,
    extension_of,
    is_root,
    key_belongs,
    kind_of,
)

with suppress(ImportError):  # require("cryptography") reports it
    from cryptography import x509

_WORTH_RENEWING = timedelta(hours=1)
"""A new intermediate CA is worth making only if it lives longer than the old one by more than this."""


def why_renew(
    chain: Sequence[x509.Certificate] | None,
    key: Any,
    profile: Profile,
    issuers: Sequence[x509.Certificate],
    now: datetime,
    limited: bool = False,
) -> str | None:
    """Return why a cluster needs a new intermediate CA; None while its current one is as it should be.

    This is the only place that decides. The content of the CA counts, not who made it, or which backend.

    :param chain: the cluster's current CA, up to its root; None if it has none.
    :param key: the private key of the current CA; None if it cannot be read.
    :param issuers: the CAs that sign a new intermediate CA, up to the mesh's root.
    :param limited: whether the CA that signs limits the lifetime of certificates by rules of its own.
    """
    if not chain:
        return "it has none"
    held = chain[0]
    return (
        _why_due(chain, profile, issuers, now, limited)
        or ("its key belongs to another certificate" if key is None or not key_belongs(held, key) else None)
        or _why_unlike_profile(held, profile)
        or (
            f"its issuer is not of the mesh's root, but of SHA-256 {fingerprint(chain[-1])}"
            if chain[-1] != issuers[-1]
            else None
        )
        or "; ".join(chain_problems(chain, now))
        or _why_unlike_istio(held)
    )


def why_kept(
    chain: Sequence[x509.Certificate],
    profile: Profile,
    issuers: Sequence[x509.Certificate],
    now: datetime,
    limited: bool = False,
) -> tuple[str, str] | None:
    """Return why an intermediate CA stays although it ends soon, and what to do; None if it does not."""
    ends = end_of(chain)
    if ends - now >= profile.renew_before:
        return None
    told = f"its intermediate CA ends at {time_text(ends)}, with {_days(ends - now)} left"
    if end_of(issuers) - ends <= _WORTH_RENEWING:
        first = min(issuers, key=lambda item: item.not_valid_after_utc)
        name, end = first.subject.rfc4514_string(), time_text(first.not_valid_after_utc)
        cause = f"{told}, and a new one could not live longer, as its issuer {name} ends at {end}"
        if is_root(first):
            return cause, "Change the root by playbook rotate_root, before all ends"
        return cause, "Have that CA renewed by what issued it, and give it with its new certificate"
    life = _days(_life_of_a_new_one(chain, profile, issuers, now, limited))
    cause = (
        f"{told}. That is less than certificates_renew_before ({profile.renew_before.days} days), but a new "
        f"one would live for {life} only, and be made anew by every run. So it is renewed when a third of "
        "that is left"
    )
    next_step = (
        "Set certificates_renew_before to fewer days than certificates_lifetime, and see whether the CA that "
        "signs has a limit of its own"
    )
    return cause, next_step


def _why_due(
    chain: Sequence[x509.Certificate],
    profile: Profile,
    issuers: Sequence[x509.Certificate],
    now: datetime,
    limited: bool,
) -> str | None:
    ends = end_of(chain)
    if ends <= now:
        return f"its own expired at {time_text(ends)}"
    # A new CA that cannot live longer than renew_before would be due again as soon as it is made.
    life = _life_of_a_new_one(chain, profile, issuers, now, limited)
    margin = profile.renew_before if profile.renew_before < life else life / 3
    if ends - now < margin and now + life - ends > _WORTH_RENEWING:
        return f"its own ends at {time_text(ends)}, with {_days(ends - now)} left"
    return None


def _life_of_a_new_one(
    chain: Sequence[x509.Certificate],
    profile: Profile,
    issuers: Sequence[x509.Certificate],
    now: datetime,
    limited: bool,
) -> timedelta:
    life = min(profile.lifetime, end_of(issuers) - now)
    # The lifetime that an external CA gave is all that is known of its limits.
    return min(life, end_of(chain) - chain[0].not_valid_before_utc - BACKDATING) if limited else life


def _days(time: timedelta) -> str:
    days = time // timedelta(days=1)
    return f"{days} days" if days > 1 else f"{time // timedelta(hours=1)} hours"


def _why_unlike_profile(held: x509.Certificate, profile: Profile) -> str | None:
    # An external CA may put the parts of the subject into another order.
    if set(held.subject) != set(profile.subject):
        return f"its subject is {held.subject.rfc4514_string()}, not {profile.subject.rfc4514_string()}"
    if (kind := kind_of(held.public_key())) != profile.key:
        return f"its key is {kind or 'of another kind'}, not {profile.key}"
    return None


def _why_unlike_istio(held: x509.Certificate) -> str | None:
    names = extension_of(held, x509.SubjectAlternativeName)
    if names is None or ISTIOD_NAME not in names.get_values_for_type(x509.DNSName):
        return f"its names lack {ISTIOD_NAME}"
    constraints = extension_of(held, x509.BasicConstraints)
    if constraints is None or constraints.path_length != 0:
        return "its path length is not 0"
    return "; ".join(chain_weaknesses([held])) or None
