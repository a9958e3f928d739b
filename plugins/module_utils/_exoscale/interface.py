# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The questions of the collection to Exoscale, the same for every backend (private to the collection).

:class:`Exoscale` is the interface; ``cli.py`` implements it with the exo CLI, ``api.py`` with the
Python client, and ``backend.py`` chooses. Every failure becomes an :class:`ExoscaleError`, with
the same code and words in both backends.
"""

from __future__ import annotations

import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .._base.errors import ExomeshError
from .._base.waiting import concurrently

QUESTIONS = 8
"""Number of questions asked at a time: the API limits their rate."""

DEFAULT_ENDPOINT = "https://api-ch-gva-2.exoscale.com/v2"
IAM_OPERATIONS = ("list-zones", "list-sks-clusters", "generate-sks-cluster-kubeconfig")
KEY_VARIABLES = ("EXOSCALE_API_KEY", "EXOSCALE_KEY", "CLOUDSTACK_KEY", "CLOUDSTACK_API_KEY")
SECRET_VARIABLES = (
    "EXOSCALE_API_SECRET",
    "EXOSCALE_SECRET",
    "EXOSCALE_SECRET_KEY",
    "CLOUDSTACK_SECRET",
    "CLOUDSTACK_SECRET_KEY",
)


class ExoscaleError(ExomeshError):
    """Exoscale, or the way to it, failed."""


@dataclass(frozen=True)
class Cluster:
    """One SKS cluster, as the API reports it."""

    id: str
    name: str
    zone: str
    state: str = ""
    version: str = ""
    cni: str = ""
    level: str = ""
    description: str = ""
    endpoint: str = ""
    created_at: str = ""
    """RFC 3339 in UTC."""
    auto_upgrade: bool | None = None
    addons: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    nodepools: list[dict[str, str]] = field(default_factory=list)
    """``id`` and ``name`` of each node pool."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a module's result or a cache."""
        return asdict(self)


@dataclass(frozen=True)
class Credentials:
    """Our credentials: a key with its secret, or (for exo) a profile of exo's configuration file."""

    key: str | None = None
    secret: str | None = field(default=None, repr=False)
    account: str | None = None
    config_file: str | None = None

    @classmethod
    def choose(cls, options: Mapping[str, Any], environment: Mapping[str, str]) -> Credentials:
        """Return the options' key and secret, else their account or config file, else the environment's.

        So a key that happens to be in the environment never overrides an account that a task names.

        :param options: api_key, api_secret, account, config_file; None or missing if not given.
        """
        key, secret = options.get("api_key"), options.get("api_secret")
        source = "the options api_key and api_secret"
        account, config_file = options.get("account"), options.get("config_file")
        if not (key or secret or account or config_file):
            key, secret = _first(environment, KEY_VARIABLES), _first(environment, SECRET_VARIABLES)
            source = "the environment variables EXOSCALE_API_KEY and EXOSCALE_API_SECRET"
        if bool(key) != bool(secret):
            raise ExoscaleError(
                "an Exoscale API key without its secret, or a secret without its key",
                "incomplete_credentials",
                next_step=f"Set both or neither of {source}",
            )
        if key and secret:
            return cls(key=str(key), secret=str(secret))
        return cls(
            account=account or environment.get("EXOSCALE_ACCOUNT"),
            config_file=config_file or environment.get("EXOSCALE_CONFIG"),
        )

    def with_key(self, environment: Mapping[str, str]) -> Credentials:
        """Return credentials with key and secret, if need be from the profile in exo's configuration file."""
        if self.key:
            return self
        profile = _profile(self.config_file, self.account, environment)
        key, secret = profile.get("key"), profile.get("secret")
        if not (key and secret):
            raise ExoscaleError(
                f"account {profile.get('name', '')} of exo's configuration has no key with a secret in it",
                "no_credentials",
                next_step="Give api_key and api_secret, or use backend=exo, which can ask a secretCommand",
            )
        return Credentials(str(key), str(secret), self.account, self.config_file)


@dataclass(frozen=True)
class Answer:
    """The answer to a question about several zones."""

    clusters: list[Cluster]
    """In the order of the zones, and by name within a zone."""
    answered_zones: list[str]
    failed_zones: dict[str, ExoscaleError]


class Exoscale(ABC):
    """Questions to Exoscale. Every method may raise ExoscaleError (or MissingRequirementError)."""

    @abstractmethod
    def zones(self) -> list[str]:
        """Return the names of all zones, sorted."""

    @abstractmethod
    def clusters(self, zone: str) -> list[Cluster]:
        """Return the clusters of one zone with all that is known about them."""

    @abstractmethod
    def names(self, zone: str) -> list[Cluster]:
        """Return the clusters of one zone, quickly: only id, name and zone are sure to be set."""

    @abstractmethod
    def _one(self, zone: str, cluster: str) -> Cluster:
        """Return a cluster by name or ID; code cluster_not_found, cluster_ambiguous or zone_not_found."""

    @abstractmethod
    def _mint(self, cluster: Cluster, user: str, groups: list[str], ttl: int | None) -> str:
        """Create a kubeconfig, and return its text, which may follow other output."""

    def cluster(self, zone: str, cluster: str) -> Cluster:
        """Return a cluster by name or ID. An error names its real zone, or what exists instead."""
        try:
            return self._one(zone, cluster)
        except ExoscaleError as error:
            raise self._explained(error, zone, cluster).about(cluster, zone) from None

    def kubeconfig(self, cluster: Cluster, user: str, groups: list[str], ttl: int | None) -> str:
        """Create a kubeconfig with a new client certificate, which nobody can revoke before it ends.

        :param ttl: lifetime in seconds; Exoscale's own default when None.
        """
        try:
            text = self._mint(cluster, user, groups, ttl)
        except ExoscaleError as error:
            raise error.about(cluster.name, cluster.zone) from None
        return _from_first_key(text, cluster)

    def clusters_of(self, zones: Iterable[str] | None) -> Answer:
        """Return the clusters of several zones, or of all. A zone that fails does not hide the others."""

        def ask(zone: str) -> list[Cluster] | ExoscaleError:
            try:
                return self.clusters(zone)
            except ExoscaleError as error:
                error.about(zone=zone)
                return error

        names = self.zones() if zones is None else list(dict.fromkeys(zones))
        clusters: list[Cluster] = []
        failed: dict[str, ExoscaleError] = {}
        for zone, answer in zip(names, concurrently(ask, names, QUESTIONS), strict=True):
            if isinstance(answer, ExoscaleError):
                failed[zone] = answer
            else:
                clusters += sorted(answer, key=lambda cluster: (cluster.name, cluster.id))
        return Answer(clusters, [zone for zone in names if zone not in failed], failed)

    def _explained(self, error: ExoscaleError, zone: str, cluster: str) -> ExoscaleError:
        """Ask further questions to add a next step to an error about a cluster or zone. Never raise."""
        try:
            if error.code == "zone_not_found":
                zones = self.zones()
                error.next_step = f"Use one of the zones: {', '.join(zones)}"
                error.details["zones"] = zones
            elif error.code == "cluster_ambiguous":
                ids = sorted(found.id for found in self.names(zone) if found.name == cluster)
                error.next_step = f"Give the ID instead of the name, one of: {', '.join(ids)}"
                error.details["ids"] = ids
            elif error.code == "cluster_not_found":
                self._look_elsewhere(error, zone, cluster)
        except ExomeshError:
            pass
        return error

    def _look_elsewhere(self, error: ExoscaleError, zone: str, cluster: str) -> None:
        here: list[str] = []
        elsewhere: list[str] = []

        def look(other: str) -> None:
            try:
                found = self.names(other)
            except ExomeshError:
                return
            if other == zone:
                here.extend(sorted(each.name for each in found))
            elif any(cluster in (each.name, each.id) for each in found):
                elsewhere.append(other)

        concurrently(look, self.zones(), QUESTIONS)
        if elsewhere:
            error.code = "cluster_in_other_zone"
            error.next_step = f"It is in zone {', '.join(sorted(elsewhere))}: correct the zone"
            error.details["zones"] = sorted(elsewhere)
        else:
            error.next_step = (
                f"The zone's clusters: {', '.join(here) or 'none'}. Check name, zone and account"
            )
            error.details["clusters"] = here


def refused(status: int, message: str) -> ExoscaleError:
    """Return the error for an HTTP status of the API and the text that came with it."""
    known = {
        400: ("bad_request", "Exoscale rejected an option", "Correct the option named here"),
        401: ("unauthorized", "Exoscale does not know this API key", "Check the API key and its secret"),
        403: ("forbidden", "Exoscale refused the request", ""),
        404: ("not_found", "Exoscale does not find it", "See whether the cluster was just deleted"),
        409: ("conflict", "Exoscale is busy with it", "Wait for the other operation to end, then run again"),
        429: ("rate_limited", "Exoscale limits the rate of requests", "Wait a little, or use fewer forks"),
        501: ("not_implemented", "Exoscale does not offer this operation there", "Try another zone"),
    }
    if status not in known:
        return server_error(f"Exoscale has a problem of its own ({status}): {message}")
    code, text, next_step = known[status]
    error = ExoscaleError(f"{text} ({status}): {message}", code, next_step=next_step)
    if status == 403:
        error.cause = "The API key is unknown, its secret is wrong, or its role does not allow the operation"
        error.next_step = f"Check key and secret; the role must allow {', '.join(IAM_OPERATIONS)}"
        error.details["operations"] = list(IAM_OPERATIONS)
    return error


def server_error(message: str) -> ExoscaleError:
    """Return the error for a fault of the API itself."""
    return ExoscaleError(message, "server_error", next_step="Try again later, see Exoscale's status page")


def no_credentials(message: str) -> ExoscaleError:
    """Return the error for missing credentials."""
    return ExoscaleError(
        message,
        "no_credentials",
        next_step="Set EXOSCALE_API_KEY and EXOSCALE_API_SECRET, give api_key and api_secret, "
        "or configure exo with 'exo config'",
    )


def cluster_not_found(cluster: str) -> ExoscaleError:
    """Return the error for a name or ID that no cluster of the zone has."""
    return ExoscaleError(f"there is no SKS cluster {cluster} in this zone", "cluster_not_found")


def cluster_ambiguous(cluster: str) -> ExoscaleError:
    """Return the error for a name that several clusters of the zone have."""
    return ExoscaleError(f"several SKS clusters of this zone are called {cluster}", "cluster_ambiguous")


def zone_not_found(zone: str) -> ExoscaleError:
    """Return the error for a zone that Exoscale does not have."""
    return ExoscaleError(f"Exoscale has no zone {zone}", "zone_not_found")


def timed_out(what: str, timeout: float) -> ExoscaleError:
    """Return the error for an answer that did not come within our time limit."""
    return ExoscaleError(
        f"{what} did not answer within {timeout:g} s",
        "timeout",
        cause="The API or the way to it hangs",
        next_step="Try again later, check proxy and firewall, or raise the option timeout",
    )


def unreadable_answer(what: str) -> ExoscaleError:
    """Return the error for an answer that is not the API's, such as a page of a captive portal or a proxy."""
    return ExoscaleError(
        f"{what} is not an answer of the Exoscale API",
        "unreadable_answer",
        cause="A proxy or a login page may stand in between, or the API endpoint is wrong",
        next_step="Check EXOSCALE_API_ENDPOINT, api_endpoint and the proxy settings",
    )


def unreachable(message: str) -> ExoscaleError:
    """Return the error for a failed connection to the API."""
    return ExoscaleError(
        f"the Exoscale API cannot be reached: {message}",
        "unreachable",
        next_step="Check the network, the proxy settings and the API endpoint",
    )


def untrusted(message: str) -> ExoscaleError:
    """Return the error for a certificate of the API that is not trusted."""
    return ExoscaleError(
        f"the certificate of the Exoscale API is not trusted: {message}",
        "untrusted_certificate",
        cause="A proxy may terminate TLS with a CA of its own",
        next_step="Let SSL_CERT_FILE name a bundle with its CA",
    )


def _from_first_key(text: str, cluster: Cluster) -> str:
    """Remove the output that exo 1.85.0 and others print before the YAML."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith(("apiVersion:", "{")):
            return "".join(lines[number:])
        # The first key may follow that output on the same line.
        if "apiVersion: v1" in line and not line.startswith(" "):
            return line[line.index("apiVersion: v1") :] + "".join(lines[number + 1 :])
    raise unreadable_answer("what was returned as a kubeconfig").about(cluster.name, cluster.zone)


def _first(environment: Mapping[str, str], names: Iterable[str]) -> str | None:
    """Return the first variable that is set, even if it is empty, as exo does."""
    return next((environment[name] for name in names if name in environment), None)


def _profile(path: str | None, account: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return one account of exo's configuration file."""
    home = Path(environment.get("HOME") or Path.home())
    configuration = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "exoscale"
    directories = (configuration, home / ".exoscale", home)
    places = [Path(path).expanduser()] if path else [place / "exoscale.toml" for place in directories]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        given = f"there is no configuration of exo at {path}"
        raise no_credentials(given if path else "no Exoscale credentials are given")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # The parser's message might quote a secret.
        raise ExoscaleError(
            f"exo's configuration {file} cannot be read",
            "no_credentials",
            next_step="Check it with 'exo config'",
        ) from None
    profiles = {
        str(entry.get("name")): entry for entry in content.get("accounts", []) if isinstance(entry, dict)
    }
    name = account or content.get("defaultaccount") or next(iter(profiles), "")
    if name not in profiles:
        raise ExoscaleError(
            f"exo's configuration {file} has no account {name}",
            "account_not_found",
            next_step=f"Use one of its accounts: {', '.join(sorted(profiles)) or 'none'}",
        )
    return profiles[str(name)]
