# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the kubeconfig file of one SKS cluster valid (private to the collection)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .._base import files
from .._base.errors import ExomeshError
from .._kubernetes.kubeconfig import Entry, Kubeconfig, KubeconfigError, same_server
from .._kubernetes.kubeconfig_certificates import certificates_of, describe, described
from .._kubernetes.kubeconfig_renewal import Renewal, Wanted, why_renew
from .interface import Cluster, Exoscale, ExoscaleError

Hold = Callable[[str], str]
"""Holds the text of a kubeconfig in memory for as long as the run lives; returns a path to it."""

SHORT_LIFE = timedelta(minutes=30)
"""Lifetime of a kubeconfig for check mode: nobody can revoke it, and a large mesh takes some minutes."""

_STILL_GOOD = ("forced", "expires_soon", "other_user", "other_groups")
"""Reasons to renew a kubeconfig that is still good enough for check mode."""

Proof = Callable[[Path, str], None]
"""Raises ExomeshError unless the API server accepts the kubeconfig at this path with this context."""


@dataclass(frozen=True)
class Request:
    """The wanted state of the kubeconfig file."""

    path: Path
    context: str
    cluster: str
    zone: str
    user: str
    groups: tuple[str, ...]
    ttl: timedelta | None
    renew_before: timedelta | None
    backup: bool
    force: bool
    check_mode: bool
    hold: Hold | None = None
    """In check mode, holds a kubeconfig while no usable one exists; None if none may be created."""


@dataclass
class Outcome:
    """The result of a module, and its warnings."""

    result: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def ensure_present(exoscale: Exoscale, request: Request, prove: Proof | None) -> Outcome:
    """Keep the file if it is still good; otherwise create a kubeconfig and write it.

    :param prove: checks a file that is kept, and a new one; None checks nothing.
    """
    cluster = exoscale.cluster(request.zone, request.cluster)
    if not cluster.endpoint:
        raise ExoscaleError(
            f"the cluster has no endpoint yet, its state is {cluster.state or 'unknown'}",
            "cluster_not_ready",
            cluster=cluster.name,
            zone=cluster.zone,
            next_step="Run again when its state is running",
        )
    wanted = Wanted(
        request.context, cluster.endpoint, cluster.id, request.user, request.groups, request.renew_before
    )
    before = files.read_text(request.path)
    renewal = Renewal("forced", "force is set") if request.force else None
    renewal = why_renew(before, wanted, datetime.now(UTC)) or renewal
    if not renewal and prove:
        renewal = _why_not_proven(prove, request)
    if renewal:
        return _renew(exoscale, cluster, request, wanted, renewal, before, prove)
    entry = Kubeconfig.parse(before or "").entry(request.context)
    outcome = Outcome(_result(request, cluster, entry, None))
    if not files.is_private(request.path):
        outcome.result |= {"changed": True, "diff": {"before": "mode: not 0600\n", "after": "mode: 0600\n"}}
        if not request.check_mode:
            files.make_private(request.path)
    return outcome


def ensure_absent(request: Request) -> Outcome:
    """Remove the file if it contains only this context."""
    before = files.read_text(request.path)
    result: dict[str, Any] = {
        "changed": before is not None,
        "kubeconfig": str(request.path),
        "context": request.context,
    }
    if before is not None:
        names = Kubeconfig.parse(before, str(request.path)).context_names
        if names not in ([], [request.context]) and not request.force:
            raise _shared(request, names)
        result["diff"] = {"before": described(before), "after": ""}
        if not request.check_mode:
            if request.backup:
                result["backup_file"] = str(files.back_up(request.path))
            files.remove(request.path)
    return Outcome(result)


def _renew(
    exoscale: Exoscale,
    cluster: Cluster,
    request: Request,
    wanted: Wanted,
    renewal: Renewal,
    before: str | None,
    prove: Proof | None,
) -> Outcome:
    names, ours = _contexts(before)
    if len(names) > 1 and not request.force:
        raise _shared(request, names)
    if request.check_mode:
        result = _result(request, cluster, None, renewal)
        result["diff"] = {"before": described(before), "after": _prediction(wanted)}
        outcome = Outcome(result)
        if request.hold and renewal.code not in _STILL_GOOD:
            _hold(exoscale, cluster, request, request.hold, outcome)
        return outcome
    ttl = None if request.ttl is None else int(request.ttl.total_seconds())
    text = exoscale.kubeconfig(cluster, request.user, list(request.groups), ttl)
    config, entry = _prepared(text, request.context, cluster)
    # Never lose a file that is not ours. A file that cannot be read may be anything.
    foreign = bool(before and before.strip()) and not ours
    with files.locked(request.path):
        backup = files.back_up(request.path) if before is not None and (request.backup or foreign) else None
        files.write_private(request.path, config.dump())
    outcome = Outcome(_result(request, cluster, entry, renewal))
    outcome.result["diff"] = {"before": described(before), "after": described(config.dump())}
    if backup:
        outcome.result["backup_file"] = str(backup)
    if foreign:
        outcome.warnings.append(f"{request.path} was not written by this collection; it is kept as {backup}")
    if again := why_renew(config.dump(), wanted, datetime.now(UTC)):
        outcome.warnings.append(
            f"cluster {cluster.name}: the next run will renew the new kubeconfig again, as {again.text}"
        )
    if prove:
        prove(request.path, request.context)
    return outcome


def _hold(exoscale: Exoscale, cluster: Cluster, request: Request, hold: Hold, outcome: Outcome) -> None:
    """Create a short-lived kubeconfig for the rest of a run in check mode."""
    ttl = SHORT_LIFE if request.ttl is None else min(request.ttl, SHORT_LIFE)
    text = exoscale.kubeconfig(cluster, request.user, list(request.groups), int(ttl.total_seconds()))
    config, entry = _prepared(text, request.context, cluster)
    end = describe(entry).get("not_after")
    outcome.result["held"] = {"kubeconfig": hold(config.dump()), "not_after": end}
    outcome.warnings.append(
        f"cluster {cluster.name}: for this check a kubeconfig was minted that ends at {end}. It is held in "
        "memory, and gone with this run"
    )


def _prepared(text: str, context: str, cluster: Cluster) -> tuple[Kubeconfig, Entry]:
    """Check a fresh kubeconfig; return it under our names, with a record of its origin."""
    try:
        entry = Kubeconfig.parse(text, "what Exoscale returned").entry()
        reason = entry.distrust()
        if not (reason or same_server(entry.server, cluster.endpoint)):
            reason = f"its server is {entry.server}, and that of the cluster is {cluster.endpoint}"
        if reason:
            raise KubeconfigError(
                f"the kubeconfig that Exoscale returned is refused: {reason}",
                "kubeconfig_refused",
                cause="Something else than Exoscale may have answered",
                next_step="Check EXOSCALE_API_ENDPOINT, api_endpoint and the proxy settings. A kubeconfig "
                "that you trust can be given with kubeconfig_source: file",
            )
        _client, authorities = certificates_of(entry)
    except KubeconfigError as error:
        raise error.about(cluster.name, cluster.zone) from None
    record = {
        "cluster_id": cluster.id,
        "zone": cluster.zone,
        "ca": [authority.sha256 for authority in authorities],
    }
    config = Kubeconfig.of(entry.renamed(context, record))
    return config, config.entry()


def _why_not_proven(prove: Proof, request: Request) -> Renewal | None:
    """Return the reason to renew after a refusal. Raise other errors, which a new kubeconfig does not fix."""
    try:
        prove(request.path, request.context)
    except ExomeshError as error:
        if error.code not in ("credentials_rejected", "untrusted_server"):
            raise
        return Renewal("rejected", error.message)
    return None


def _contexts(text: str | None) -> tuple[list[str], bool]:
    """Return the names of a file's contexts, and whether this collection wrote all of them."""
    try:
        config = Kubeconfig.parse(text or "")
        return config.context_names, all(config.entry(name).record for name in config.context_names)
    except KubeconfigError:
        return [], False


def _shared(request: Request, names: list[str]) -> KubeconfigError:
    others = ", ".join(name for name in names if name != request.context)
    return KubeconfigError(
        f"{request.path} holds other contexts: {others}",
        "shared_file",
        cluster=request.cluster,
        zone=request.zone,
        next_step="Name a file for this cluster alone, and put it into a shared one with kubeconfig_merge",
    )


def _result(
    request: Request, cluster: Cluster, entry: Entry | None, renewal: Renewal | None
) -> dict[str, Any]:
    """Return the module's result; without an entry (check mode), only what is certain beforehand."""
    predicted = {
        "context": request.context,
        "server": cluster.endpoint,
        "user": request.user,
        "groups": list(request.groups),
    }
    return {
        "changed": renewal is not None,
        "kubeconfig": str(request.path),
        "cluster_id": cluster.id,
        "zone": cluster.zone,
        "renewal": {"code": renewal.code, "text": renewal.text} if renewal else None,
        **(describe(entry) if entry else predicted),
    }


def _prediction(wanted: Wanted) -> str:
    return (
        f"context: {wanted.context}\nserver: {wanted.server}\nuser: {wanted.user}\n"
        f"groups: {', '.join(wanted.groups)}\n(a new certificate)\n"
    )
