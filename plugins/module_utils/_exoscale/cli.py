# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask Exoscale with the exo CLI. Only this file runs exo (private to the collection)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._base.documents import load_json
from .._base.errors import ExomeshError, MissingRequirementError
from .._base.programs import passed, run_program
from .._base.waiting import TimeUpError, concurrently, sparing
from .interface import (
    KEY_VARIABLES,
    QUESTIONS,
    SECRET_VARIABLES,
    Cluster,
    Credentials,
    Exoscale,
    ExoscaleError,
    cluster_ambiguous,
    cluster_not_found,
    no_credentials,
    refused,
    server_error,
    timed_out,
    unreachable,
    unreadable_answer,
    untrusted,
    zone_not_found,
)

_HOW_TO_GET_EXO = (
    "Install exo 1.85.1 or newer (https://github.com/exoscale/cli), say where it is (exo_path, or "
    "kubeconfig_exo_path of role kubeconfig), or install the Python package exoscale, which does without"
)
_STATUS_WORDS = {
    "Bad Request": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "Not Found": 404,
    "Conflict": 409,
    "Not Implemented": 501,
}


class ExoCli(Exoscale):
    """The exo CLI with given credentials.

    :param path: the program's name or path.
    :param endpoint: base endpoint of the API; empty for exo's own.
    :param timeout: seconds that one run of exo may take; exo itself has no limit.
    :param environment: environment variables that exo gets its PATH, proxies and home directory from.
    """

    def __init__(
        self,
        path: str,
        credentials: Credentials,
        endpoint: str,
        timeout: float,
        environment: Mapping[str, str],
    ) -> None:
        program = shutil.which(os.path.expanduser(path), path=environment.get("PATH"))
        if program is None:
            raise MissingRequirementError(f"there is no program {path}", next_step=_HOW_TO_GET_EXO)
        self._program = program
        self._timeout = timeout
        self._secrets = [secret for secret in (credentials.key, credentials.secret) if secret]
        # exo does not get EXOSCALE_TRACE, as that makes it print kubeconfigs.
        self._environment = passed(environment, "HOME", "XDG_CONFIG_HOME") | _variables(credentials, endpoint)

    def zones(self) -> list[str]:
        return sorted(str(zone["name"]) for zone in self._json("zone", check=_is_list_of_objects))

    def names(self, zone: str) -> list[Cluster]:
        rows = self._json("compute", "sks", "list", "--zone", zone, check=_is_list_of_objects)
        # The zone field of a row is empty when a zone is given (exo 1.85 to 1.97).
        return [Cluster(id=str(row.get("id", "")), name=str(row.get("name", "")), zone=zone) for row in rows]

    def clusters(self, zone: str) -> list[Cluster]:
        return concurrently(lambda found: self._one(zone, found.id), self.names(zone), QUESTIONS)

    def _one(self, zone: str, cluster: str) -> Cluster:
        shown = self._json("compute", "sks", "show", "--zone", zone, "--", cluster, check=_is_object)
        return Cluster(
            id=str(shown.get("id", "")),
            name=str(shown.get("name", "")),
            zone=zone,
            state=str(shown.get("state") or ""),
            version=str(shown.get("version") or ""),
            cni=str(shown.get("cni") or ""),
            level=str(shown.get("service_level") or ""),
            description=str(shown.get("description") or ""),
            endpoint=str(shown.get("endpoint") or ""),
            created_at=_rfc3339(str(shown.get("creation_date") or "")),
            auto_upgrade=shown.get("auto_upgrade"),
            addons=[str(addon) for addon in shown.get("addons") or []],
            labels={str(key): str(value) for key, value in (shown.get("labels") or {}).items()},
            nodepools=[
                {"id": str(pool.get("id", "")), "name": str(pool.get("name", ""))}
                for pool in shown.get("nodepools") or []
            ],
        )

    def _mint(self, cluster: Cluster, user: str, groups: list[str], ttl: int | None) -> str:
        options = [option for group in groups for option in ("--group", group)]
        if ttl is not None:
            options += ["--ttl", str(ttl)]
        return self._run(
            "compute", "sks", "kubeconfig", "--zone", cluster.zone, *options, "--", cluster.id, user
        )

    def _json(self, *arguments: str, check: Callable[[Any], bool]) -> Any:
        output = self._run("--output-format", "json", *arguments)
        try:
            content = load_json(output, "What exo tells")
        except ValueError:
            content = None
        if not check(content):
            raise unreadable_answer(f"the output of 'exo {' '.join(arguments)}'")
        return content

    def _run(self, *arguments: str) -> str:
        """Run exo; return its standard output. Raise ExoscaleError for what it writes on standard error."""
        command = f"exo {' '.join(arguments[:3])}" if arguments[0] == "compute" else "exo"
        try:
            with sparing():
                ended = run_program([self._program, *arguments], self._environment, self._timeout)
        except (TimeoutError, TimeUpError) as error:
            if isinstance(error, TimeUpError) and error.interrupted:
                raise
            raise timed_out(f"'{command}'", self._timeout) from None
        if ended.code == 0:
            return ended.output
        errors = ended.errors
        for secret in self._secrets:
            errors = errors.replace(secret, "***")
        raise explain(errors, ended.code)


def explain(errors: str, return_code: int) -> ExomeshError:
    """Turn what exo wrote on standard error into an error with a cause and a next step."""
    text = re.sub(r"^error: ", "", errors.strip(), flags=re.MULTILINE)
    for pattern, explanation in _KNOWN:
        if match := re.search(pattern, text, flags=re.MULTILINE | re.DOTALL):
            return explanation(match[1])
    last_line = text.splitlines()[-1] if text else "it said nothing"
    return ExoscaleError(f"exo failed with exit code {return_code}: {last_line}", "exo_failed")


Explanation = Callable[[str], ExomeshError]


def _crashed(_what: str) -> ExoscaleError:
    return ExoscaleError("exo crashed", "exo_crashed", next_step="Update exo, or set backend=api")


def _not_configured(_what: str) -> ExoscaleError:
    return no_credentials("no Exoscale credentials are given")


def _no_configuration(path: str) -> ExoscaleError:
    return no_credentials(f"there is no configuration of exo at {path}")


def _unknown_account(name: str) -> ExoscaleError:
    return ExoscaleError(
        f"exo's configuration has no account {name}",
        "account_not_found",
        next_step="See 'exo config list', and correct account or EXOSCALE_ACCOUNT",
    )


def _too_old(what: str) -> MissingRequirementError:
    return MissingRequirementError(f"exo is too old: {what}", next_step=_HOW_TO_GET_EXO)


def _timed_out(_what: str) -> ExoscaleError:
    return timed_out("the Exoscale API", 15)


def _gave_up(_what: str) -> ExoscaleError:
    return server_error("Exoscale answered every attempt with an error, which exo does not show")


def _status(what: str) -> ExoscaleError:
    word, message = what.split(": ", 1)
    return refused(_STATUS_WORDS[word], " ".join(message.split()))


def _unreadable(_what: str) -> ExoscaleError:
    return unreadable_answer("what exo received")


_NO_CONNECTION = (
    "connection refused|connection reset by peer|no such host|network is unreachable|no route to host"
    r"|i/o timeout|TLS handshake timeout|\bEOF"
)
_KNOWN: tuple[tuple[str, Explanation], ...] = (
    (r"^(panic:|goroutine \d)", _crashed),
    (r'"([^"]*)" not found in ListSKSClustersResponse', cluster_not_found),
    (r'"([^"]*)" too many found in ListSKSClustersResponse', cluster_ambiguous),
    (r'"([^"]*)" not found in ListZonesResponse', zone_not_found),
    (r"(must be configured before usage)", _not_configured),
    (r"^stat ([^\n]*): no such file or directory", _no_configuration),
    (r'find any configured account named "([^"]*)"', _unknown_account),
    (r"^(unknown (?:command|flag|shorthand flag)[^\n]*)", _too_old),
    (r"x509: ([^\n]*)", untrusted),
    (rf"({_NO_CONNECTION})", unreachable),
    (r"(context deadline exceeded)", _timed_out),
    (r"(giving up after \d+ attempt)", _gave_up),
    (rf"(?:^|: )((?:{'|'.join(_STATUS_WORDS)}): .*)", _status),
    (r"(illegal base64|invalid character|cannot unmarshal|unexpected end of JSON|decod)", _unreadable),
)
"""Patterns of exo's messages, and functions that explain the text in the brackets. The first match counts."""


def _variables(credentials: Credentials, endpoint: str) -> dict[str, str]:
    """Return the environment variables by which exo gets these credentials."""
    variables: dict[str, str] = {"LANG": "C.UTF-8"}
    if credentials.key and credentials.secret:
        variables |= {KEY_VARIABLES[0]: credentials.key, SECRET_VARIABLES[0]: credentials.secret}
    if credentials.account:
        variables["EXOSCALE_ACCOUNT"] = credentials.account
    if credentials.config_file:
        variables["EXOSCALE_CONFIG"] = str(Path(credentials.config_file).expanduser().absolute())
    if endpoint:
        variables["EXOSCALE_API_ENDPOINT"] = endpoint
    return variables


def _rfc3339(moment: str) -> str:
    """Return Go's ``2026-08-01 09:00:00 +0000 UTC`` as RFC 3339; any other text unchanged."""
    match = re.match(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d+)? \+0000", moment)
    return f"{match[1]}T{match[2]}Z" if match else moment


def _is_object(content: Any) -> bool:
    return isinstance(content, dict)


def _is_list_of_objects(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(item, dict) for item in content)
