"""A stand-in for Exoscale's `exo` in the lab: the commands that lead to SKS kubeconfigs.

`exo` itself is in no package registry. Where it is not installed the lab uses this program, which has the
same command line, configuration, output, exit codes, error texts, requests and retries as exo 1.97.0, its
known bugs included: `list -z` leaves the zone empty, one failing zone gives partial output and exit code 1,
an answer without `auto-upgrade` is a panic, and a silent server hangs every command but `list`.

Lab only: EXOLAB_RETRY_PAUSE is the pause in seconds before the first retry (default 1; it doubles each time).
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from exolab import exoscale_signature

VERSION = "1.97.0"
BASE_ENDPOINT = "https://api-ch-gva-2.exoscale.com/v2"
DEFAULT_ZONE = "ch-dk-2"
DEFAULT_TIMEOUT = 15.0
ATTEMPTS = 5
LONGEST_PAUSE = 30.0
KEY_VARIABLES = ("EXOSCALE_API_KEY", "EXOSCALE_KEY", "CLOUDSTACK_KEY", "CLOUDSTACK_API_KEY")
SECRET_VARIABLES = (
    "EXOSCALE_API_SECRET",
    "EXOSCALE_SECRET",
    "EXOSCALE_SECRET_KEY",
    "CLOUDSTACK_SECRET",
    "CLOUDSTACK_SECRET_KEY",
)
NOT_CONFIGURED = 'error: the exo CLI must be configured before usage, please run "exo config"'


class ExoError(Exception):
    """Ends the program with exit code 1 and its text after `error: `."""


class FatalError(Exception):
    """Ends the program with exit code 1 and its text as it is."""


class ApiError(ExoError):
    """An answer of 400 or above. Its text replaces that of every error which wraps it, as in exo."""


class Panic(Exception):  # noqa: N818 - Go's word
    """Ends the program with exit code 2 and a Go trace."""


# Command line, with the rules and the messages of Go's pflag and cobra


@dataclass(frozen=True)
class Flag:
    """kind: text, number, list (repeatable and comma-separated), switch or duration."""

    name: str
    short: str
    kind: str
    usage: str

    def parse(self, text: str) -> object:
        """The value of one occurrence. Raises ExoError."""
        name = f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"
        if self.kind == "number":
            try:
                return int(text)
            except ValueError:
                reason = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        elif self.kind == "switch":
            if text in ("1", "t", "T", "true", "TRUE", "True"):
                return True
            if text in ("0", "f", "F", "false", "FALSE", "False"):
                return False
            reason = f'strconv.ParseBool: parsing "{text}": invalid syntax'
        elif self.kind == "duration":
            try:
                return parse_duration(text)
            except ValueError as error:
                reason = str(error)
        elif self.kind == "list":
            return text.split(",") if text else []
        else:
            return text
        raise ExoError(f'invalid argument "{text}" for "{name}" flag: {reason}')


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as `1m30s`. Raises ValueError."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    if text == "0":
        return 0.0
    if not re.fullmatch(r"(?:\d+(?:\.\d*)?(?:ms|us|ns|h|m|s))+", text):
        raise ValueError(f'time: invalid duration "{text}"')
    return sum(
        float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d*)?)(ms|us|ns|h|m|s)", text)
    )


ZONE = Flag("zone", "z", "text", "zone of the SKS cluster")
GLOBAL_FLAGS = (
    Flag("config", "C", "text", "Specify an alternate config file [env EXOSCALE_CONFIG]"),
    Flag("help", "h", "switch", "help for exo"),
    Flag("output-format", "O", "text", "Output format (table|json|text)"),
    Flag("output-template", "", "text", 'Template to use if output format is "text"'),
    Flag("quiet", "Q", "switch", "Quiet mode (disable non-essential command output)"),
    Flag("timeout", "", "duration", "Time limit per zone of list commands [env EXOSCALE_TIMEOUT]"),
    Flag("use-account", "A", "text", "Account to use in config file [env EXOSCALE_ACCOUNT]"),
)


@dataclass(frozen=True)
class Command:
    """`path` is how it is called; `aliases` are other names for its last word."""

    path: tuple[str, ...]
    summary: str
    run: Callable[[Invocation], None]
    arguments: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass
class Invocation:
    """A command with its arguments and flags, and what it needs to run."""

    arguments: list[str] = field(default_factory=list)
    flags: dict[str, Any] = field(default_factory=dict)

    def client(self) -> Client:
        """The API client of the configured account. Raises FatalError."""
        return Client(read_account(self.flags))

    def zone_client(self) -> tuple[Client, str]:
        """The API client of the zone asked for, and that zone's name. Raises ExoError, FatalError."""
        client = self.client()
        zone = self.flags.get("zone") or os.environ.get("EXOSCALE_ZONE") or client.account.default_zone
        try:
            return client.at(client.zone_endpoint(zone)), zone
        except ApiError:
            raise
        except ExoError as error:
            raise ExoError(f"switch client zone v3: {error}") from error


def parse_flags(words: list[str], flags: Iterable[Flag]) -> tuple[list[str], dict[str, Any]]:
    """Split words into arguments and values of flags. Raises ExoError."""
    parser = _FlagParser(words, flags)
    return parser.arguments, parser.values


class _FlagParser:
    def __init__(self, words: list[str], flags: Iterable[Flag]) -> None:
        self._by_name = {flag.name: flag for flag in flags}
        self._by_short = {flag.short: flag for flag in self._by_name.values() if flag.short}
        self._rest = list(words)
        self.arguments: list[str] = []
        self.values: dict[str, Any] = {}
        while self._rest:
            word = self._rest.pop(0)
            if word == "--":
                self.arguments += self._rest
                return
            if word.startswith("--"):
                self._long(word)
            elif word.startswith("-") and word != "-":
                self._short(word)
            else:
                self.arguments.append(word)

    def _long(self, word: str) -> None:
        name, equals, text = word[2:].partition("=")
        if name not in self._by_name:
            raise ExoError(f"unknown flag: --{name}")
        flag = self._by_name[name]
        if not equals:
            text = "true" if flag.kind == "switch" else self._next(f"--{name}")
        self._set(flag, text)

    def _short(self, word: str) -> None:
        """One or more letters; the first that takes a value takes the rest of the word, or the next one."""
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter not in self._by_short:
                raise ExoError(f"unknown shorthand flag: '{letter}' in {word}")
            flag = self._by_short[letter]
            if flag.kind == "switch" and not letters.startswith("="):
                self._set(flag, "true")
                continue
            self._set(flag, letters.removeprefix("=") if letters else self._next(f"'{letter}' in {word}"))
            return

    def _next(self, flag: str) -> str:
        if not self._rest:
            raise ExoError(f"flag needs an argument: {flag}")
        return self._rest.pop(0)

    def _set(self, flag: Flag, text: str) -> None:
        value = flag.parse(text)
        self.values[flag.name] = (
            [*self.values.get(flag.name, []), *value] if isinstance(value, list) else value
        )


# Configuration


@dataclass(frozen=True)
class Account:
    """What is needed to talk to the API."""

    key: str
    secret: str
    endpoint: str = BASE_ENDPOINT
    default_zone: str = DEFAULT_ZONE
    output_format: str = "table"


def read_account(flags: dict[str, Any]) -> Account:
    """The account to use: environment over file over what is built in. Raises FatalError."""
    profile = read_profile(flags)
    key, secret = _first_set(KEY_VARIABLES), _first_set(SECRET_VARIABLES)
    if not (key and secret):
        if profile is None:
            raise FatalError(NOT_CONFIGURED)
        key, secret = str(profile.get("key", "")), str(profile.get("secret", ""))
        if not secret and profile.get("secretcommand"):
            secret = _secret_of_command(profile["secretcommand"])
        if not (key and secret):
            raise FatalError(NOT_CONFIGURED)
    settings = profile or {}
    return Account(
        key=key,
        secret=secret,
        endpoint=os.environ.get("EXOSCALE_API_ENDPOINT") or settings.get("endpoint") or BASE_ENDPOINT,
        default_zone=settings.get("defaultzone") or DEFAULT_ZONE,
        output_format=settings.get("defaultoutputformat") or "table",
    )


def read_profile(flags: dict[str, Any]) -> dict[str, Any] | None:
    """The chosen account of the file, keys in lower case; None without a file. Raises FatalError."""
    named = flags.get("config") or os.environ.get("EXOSCALE_CONFIG")
    if named:
        path = Path(named)
        if not path.exists():
            raise FatalError(f"stat {named}: no such file or directory")
        if path.is_dir():
            raise FatalError(f'"{named}" is a directory but but should be configuration file')
    else:
        home = Path(os.environ.get("HOME") or "/")
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        folders = (configuration / "exoscale", home / ".exoscale", home, Path())
        found = [folder / "exoscale.toml" for folder in folders if (folder / "exoscale.toml").is_file()]
        if not found:
            return None
        path = found[0]
    try:
        document = _lower_keys(tomllib.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise FatalError(f"While parsing config: {error}") from error
    accounts: list[dict[str, Any]] = document.get("accounts", [])
    if not accounts:
        raise FatalError(f'no accounts were found into "{path}"')
    chosen = flags.get("use-account") or os.environ.get("EXOSCALE_ACCOUNT") or document.get("defaultaccount")
    if not chosen:
        raise FatalError("default account not defined")
    for account in accounts:
        if account.get("name") == chosen:
            return account
    raise FatalError(f'error: could\'t find any configured account named "{chosen}"')


def _first_set(names: Iterable[str]) -> str:
    return next((os.environ[name] for name in names if name in os.environ), "")


def _lower_keys(value: Any) -> Any:
    """exo reads the keys of its file in any case."""
    if isinstance(value, dict):
        return {key.lower(): _lower_keys(entry) for key, entry in value.items()}
    return [_lower_keys(entry) for entry in value] if isinstance(value, list) else value


def _secret_of_command(command: list[str]) -> str:
    try:
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise FatalError(f"error: secret command {shlex.join(command)}: {error}") from error
    return output.strip()


# The API


class Client:
    """The requests of one account to one endpoint, retried as exo does."""

    def __init__(self, account: Account, endpoint: str | None = None, deadline: float | None = None) -> None:
        """deadline: of `time.monotonic()`, for all requests of this client together."""
        self.account = account
        self._endpoint = endpoint or account.endpoint
        self._deadline = deadline

    def at(self, endpoint: str, deadline: float | None = None) -> Client:
        """The same account at another endpoint."""
        return Client(self.account, endpoint, deadline)

    def zones(self) -> list[dict[str, str]]:
        """Name and `api-endpoint` of every zone. Raises ExoError."""
        return list(self._call("ListZones", "GET", "/zone", signed=False).get("zones") or [])

    def zone_endpoint(self, zone: str) -> str:
        """The endpoint of a zone. Raises ExoError."""
        step = "list zones"
        try:
            zones = self.zones()
            step = "find zone"
            return str(_find(zones, zone, "ListZonesResponse")["api-endpoint"])
        except ApiError:
            raise
        except ExoError as error:
            raise ExoError(f"get zone api endpoint: {step}: {error}") from error

    def clusters(self) -> list[dict[str, Any]]:
        """The SKS clusters of this client's zone. Raises ExoError."""
        return list(self._call("ListSKSClusters", "GET", "/sks-cluster").get("sks-clusters") or [])

    def find_cluster(self, name_or_id: str) -> dict[str, Any]:
        """The one cluster of this name or ID. Raises ExoError."""
        return _find(self.clusters(), name_or_id, "ListSKSClustersResponse")

    def versions(self) -> list[str]:
        """The Kubernetes versions for new clusters. Raises ExoError."""
        answer = self._call("ListSKSClusterVersions", "GET", "/sks-cluster-version")
        return list(answer.get("sks-cluster-versions") or [])

    def generate_kubeconfig(self, cluster_id: str, user: str, groups: list[str], ttl: int) -> str:
        """A new kubeconfig, base64; ttl in seconds, 0 leaves it to the API. Raises ExoError."""
        body: dict[str, Any] = {"groups": groups}
        if ttl:
            body["ttl"] = ttl
        body["user"] = user
        answer = self._call(
            "GenerateSKSClusterKubeconfig",
            "POST",
            f"/sks-cluster-kubeconfig/{cluster_id}",
            to_json(body).encode(),
        )
        return str(answer.get("kubeconfig", ""))

    def authority_certificate(self, cluster_id: str, authority: str) -> str:
        """The certificate of one of the cluster's CAs, base64 of PEM. Raises ExoError."""
        path = f"/sks-cluster/{cluster_id}/authority/{authority}/cert"
        return str(self._call("GetSKSClusterAuthorityCert", "GET", path).get("cacert", ""))

    def _call(self, operation: str, method: str, path: str, body: bytes = b"", signed: bool = True) -> Any:
        url = self._endpoint + path
        status, content = self._send_until_answered(operation, method, url, body, signed)
        if status >= 400:
            raise ApiError(describe_error(status, content))
        try:
            return json.loads(content)
        except ValueError:
            first = content[:1].decode("latin-1")
            reason = (
                f"invalid character '{first}' looking for beginning of value" if first else "unexpected EOF"
            )
            raise ExoError(f"{operation}: prepare Json response: {reason}") from None

    def _send_until_answered(
        self, operation: str, method: str, url: str, body: bytes, signed: bool
    ) -> tuple[int, bytes]:
        """Status and body of the first answer that is not worth a retry. Raises ExoError."""
        failure = f'{operation}: http client do: {method.capitalize()} "{url}": '
        pause = float(os.environ.get("EXOLAB_RETRY_PAUSE", "1"))
        for attempt in range(1, ATTEMPTS + 1):
            reason = ""
            wait = min(pause * 2 ** (attempt - 1), LONGEST_PAUSE)
            try:
                status, headers, content = self._send(method, url, body, signed)
                if status != 429 and (status < 500 or status == HTTPStatus.NOT_IMPLEMENTED):
                    return status, content
                if status in (429, 503) and headers.get("Retry-After", "").isdigit():
                    wait = float(headers["Retry-After"])
            except TimeoutError:
                raise ExoError(f"{failure}context deadline exceeded") from None
            except ssl.SSLCertVerificationError:
                reason = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
                raise ExoError(f"{failure}{method} {url} giving up after 1 attempt(s): {reason}") from None
            except (OSError, http.client.HTTPException) as error:
                reason = f': {method.capitalize()} "{url}": {_go_network_error(url, error)}'
            if attempt < ATTEMPTS:
                self._pause(wait, failure)
        raise ExoError(f"{failure}{method} {url} giving up after {ATTEMPTS} attempt(s){reason}")

    def _pause(self, seconds: float, failure: str) -> None:
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= seconds:
            time.sleep(max(left, 0))
            raise ExoError(f"{failure}context deadline exceeded")
        time.sleep(seconds)

    def _send(self, method: str, url: str, body: bytes, signed: bool) -> tuple[int, dict[str, str], bytes]:
        """One request, without a time limit unless there is a deadline. Raises OSError, HTTPException."""
        parts = urlsplit(url)
        timeout = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.001)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.netloc, timeout=timeout, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
        headers = {"User-Agent": f"exocli/{VERSION}/lab-stand-in"}
        if body:
            headers["Content-Type"] = "application/json"
        if signed:
            account = self.account
            authorization = exoscale_signature.sign(account.key, account.secret, method, url, body)
            headers["Authorization"] = authorization.header()
        _trace(f"{method} {parts.path} HTTP/1.1\nHost: {parts.netloc}", headers, body)
        try:
            connection.request(method, parts.path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        answered = dict(response.getheaders())
        _trace(f"HTTP/1.1 {response.status} {response.reason}", answered, content)
        return response.status, answered, content


def _trace(first_line: str, headers: dict[str, str], body: bytes) -> None:
    """EXOSCALE_TRACE shows all of both directions, secrets and kubeconfigs included."""
    if "EXOSCALE_TRACE" in os.environ:
        lines = [
            first_line,
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            body.decode(errors="replace"),
        ]
        print("\n".join(lines), file=sys.stderr, flush=True)


def _go_network_error(url: str, error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {urlsplit(url).netloc}: connect: connection refused"
    if isinstance(error, http.client.RemoteDisconnected):
        return "EOF"
    if isinstance(error, ConnectionResetError):
        return "read: connection reset by peer"
    return str(error)


def _find(items: list[dict[str, Any]], name_or_id: str, response: str) -> dict[str, Any]:
    found = [item for item in items if name_or_id in (item.get("name"), item.get("id"))]
    if not found:
        raise ExoError(f'"{name_or_id}" not found in {response}: Not Found')
    if len(found) > 1:
        raise ExoError(f'"{name_or_id}" too many found in {response}: Conflict')
    return found[0]


def describe_error(status: int, content: bytes) -> str:
    """The text that exo makes of an answer of 400 or above."""
    try:
        document = json.loads(content)
    except ValueError:
        document = content.decode(errors="replace")
    fields = document if isinstance(document, dict) else {"message": document}
    if "title" not in fields and "detail" not in fields:
        return f"{HTTPStatus(status).phrase}: {fields.get('message') or fields.get('error') or ''}"
    lines = [
        ": ".join(
            [HTTPStatus(status).phrase, *(fields[name] for name in ("title", "detail") if name in fields)]
        )
    ]
    for entry in fields.get("errors", []):
        location = entry.get("location", "") if isinstance(entry, dict) else ""
        names = re.findall(r"[A-Za-z0-9_-]+", location)
        detail = entry.get("detail", "") if isinstance(entry, dict) else entry
        lines.append(f"  - --{names[-1]}: {detail}" if names else f"  - {detail}")
    return "\n".join(lines)


# Output


@dataclass(frozen=True)
class Column:
    """name: of the template annotation. key: in JSON. title, width: in tables."""

    name: str
    key: str
    title: str
    width: int = 0


LIST_COLUMNS = (
    Column("ID", "id", "ID", 36),
    Column("Name", "name", "NAME", 70),
    Column("Zone", "zone", "ZONE", 8),
    Column("AuditEnabled", "audit_enabled", "AUDIT ENABLED", 11),
)
SHOW_COLUMNS = (
    Column("ID", "id", "ID"),
    Column("Name", "name", "Name"),
    Column("Description", "description", "Description"),
    Column("CreationDate", "creation_date", "Creation Date"),
    Column("AutoUpgrade", "auto_upgrade", "Auto-upgrade"),
    Column("EnableKubeProxy", "enable_kube_proxy", "Enable kube-proxy"),
    Column("Zone", "zone", "Zone"),
    Column("Endpoint", "endpoint", "Endpoint"),
    Column("Version", "version", "Version"),
    Column("ServiceLevel", "service_level", "Service Level"),
    Column("CNI", "cni", "CNI"),
    Column("AddOns", "addons", "Add-Ons"),
    Column("AuditEnabled", "audit_enabled", "Audit Enabled"),
    Column("AuditEndpoint", "audit_endpoint", "Audit Endpoint"),
    Column("AuditInitialBackoff", "audit_initial_backoff", "Audit Initial Backoff"),
    Column("FeatureGates", "feature_gates", "Feature Gates"),
    Column("State", "state", "State"),
    Column("Labels", "labels", "Labels"),
    Column("Nodepools", "nodepools", "Nodepools"),
)
ZONE_COLUMNS = (Column("Name", "name", "NAME"),)
VERSION_COLUMNS = (Column("Version", "version", "VERSION"),)


def to_json(value: object) -> str:
    """JSON on one line as Go writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def output_format(invocation: Invocation, account: Account) -> str:
    """json, text or table; a template means text."""
    if invocation.flags.get("output-template"):
        return "text"
    return str(invocation.flags.get("output-format") or account.output_format)


def as_text(row: dict[str, Any], columns: tuple[Column, ...], template: str | None) -> str:
    """A row through a template of plain annotations such as `{{.Name}}`; without one all fields, by tabs."""
    pattern = template or "\t".join(f"{{{{.{column.name}}}}}" for column in columns)
    keys = {column.name: column.key for column in columns}

    def value(match: re.Match[str]) -> str:
        if match[1] not in keys:
            raise ExoError(f'unable to encode output using template: can\'t evaluate field "{match[1]}"')
        return _go_text(row[keys[match[1]]])

    return re.sub(r"{{\s*\.(\w+)\s*}}", value, pattern)


def _go_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go_text(entry)}" for key, entry in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_go_text(entry) for entry in value) + "]"
    return "" if value is None else str(value)


def print_rows(
    invocation: Invocation, account: Account, rows: list[dict[str, Any]], columns: tuple[Column, ...]
) -> None:
    """A list in the chosen format; an empty table prints nothing."""
    chosen = output_format(invocation, account)
    if chosen == "json":
        print(to_json(rows))
    elif chosen == "text":
        for row in rows:
            print(as_text(row, columns, invocation.flags.get("output-template")))
    elif rows:
        cells = [[_go_text(row[column.key]) for column in columns] for row in rows]
        print(draw_table([column.title for column in columns], cells, [column.width for column in columns]))


def draw_table(titles: list[str], rows: list[list[str]], widths: list[int]) -> str:
    """Columns of a given width cut their cells with an ellipsis; those of width 0 are as wide as needed."""
    final = [width or max(len(row[index]) for row in [titles, *rows]) for index, width in enumerate(widths)]
    border = "┼" + "┼".join("─" * (width + 2) for width in final) + "┼"

    def line(cells: list[str]) -> str:
        cut = [
            cell if len(cell) <= width else cell[: width - 1] + "…"
            for cell, width in zip(cells, final, strict=True)
        ]
        return "│" + "│".join(f" {cell:{width}} " for cell, width in zip(cut, final, strict=True)) + "│"

    return "\n".join([border, line(titles), border, *(line(row) for row in rows), border])


# Commands


def run_version(_invocation: Invocation) -> None:
    print(f"exo {VERSION} stand-in (egoscale v3.1.42)")
    print("This is the lab's stand-in for exo, not Exoscale's program.")


def run_zone(invocation: Invocation) -> None:
    client = invocation.client()
    rows = [{"name": name} for name in sorted(zone["name"] for zone in client.zones())]
    print_rows(invocation, client.account, rows, ZONE_COLUMNS)


def run_list(invocation: Invocation) -> None:
    client = invocation.client()
    zones = client.zones()
    if wanted := invocation.flags.get("zone"):
        # exo forgets the name of the one zone, so the clusters' zone is empty.
        zones = [{"name": "", "api-endpoint": client.zone_endpoint(wanted)}]
    limit = invocation.flags.get("timeout")
    if limit is None:
        limit = (
            parse_duration(os.environ["EXOSCALE_TIMEOUT"])
            if os.environ.get("EXOSCALE_TIMEOUT")
            else DEFAULT_TIMEOUT
        )
    deadline = time.monotonic() + limit

    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    with ThreadPoolExecutor(max_workers=max(len(zones), 1)) as pool:
        tasks = {pool.submit(client.at(zone["api-endpoint"], deadline).clusters): zone for zone in zones}
        for task in as_completed(tasks):
            zone = tasks[task]
            try:
                rows += [
                    {
                        "id": cluster["id"],
                        "name": cluster["name"],
                        "zone": zone["name"],
                        "audit_enabled": bool((cluster.get("audit") or {}).get("enabled")),
                    }
                    for cluster in task.result()
                ]
            except ExoError as error:
                reason = f"ListSKSClusters: http response: {error}" if isinstance(error, ApiError) else error
                fields = " ".join(str(zone.get(key, "")) for key in ("api-endpoint", "name", "sos-endpoint"))
                warnings.append(
                    f"zone {zone['name']}: unable to list SKS clusters in zone {{{fields}}}: {reason}"
                )
    print_rows(invocation, client.account, rows, LIST_COLUMNS)
    sys.stdout.flush()
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if warnings:
        raise ExoError(f"{len(warnings)} zone(s) failed")


def run_show(invocation: Invocation) -> None:
    client, zone = invocation.zone_client()
    cluster = client.find_cluster(invocation.arguments[0])
    if cluster.get("auto-upgrade") is None or cluster.get("enable-kube-proxy") is None:
        raise Panic("sks_show.go:159")
    audit = cluster.get("audit") or {}
    created = datetime.fromisoformat(cluster["created-at"]).astimezone(UTC)
    row = {
        "id": cluster["id"],
        "name": cluster["name"],
        "description": cluster.get("description") or "",
        "creation_date": created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
        "auto_upgrade": cluster["auto-upgrade"],
        "enable_kube_proxy": cluster["enable-kube-proxy"],
        "zone": zone,
        "endpoint": cluster.get("endpoint") or "",
        "version": cluster.get("version") or "",
        "service_level": cluster.get("level") or "",
        "cni": cluster.get("cni") or "",
        "addons": cluster.get("addons") or None,
        "audit_enabled": bool(audit.get("enabled")),
        "audit_endpoint": audit.get("endpoint") or "",
        "audit_initial_backoff": audit.get("initial-backoff") or "",
        "feature_gates": cluster.get("feature-gates"),
        "state": cluster.get("state") or "",
        "labels": cluster.get("labels"),
        "nodepools": [
            _NODE_POOL_ZERO | {"id": pool["id"], "name": pool["name"]}
            for pool in cluster.get("nodepools") or []
        ],
    }
    chosen = output_format(invocation, client.account)
    if chosen == "json":
        print(to_json(row))
    elif chosen == "text":
        print(as_text(row, SHOW_COLUMNS, invocation.flags.get("output-template")), end="")
    else:
        rows = [[column.title, _table_cell(row[column.key])] for column in SHOW_COLUMNS]
        print(draw_table(["SKS CLUSTER", ""], rows, [0, 0]))


#: exo fills in only ID and name of a cluster's node pools; the rest has Go's zero values.
_NODE_POOL_ZERO: dict[str, object] = {
    "id": "",
    "name": "",
    "description": "",
    "public_ip_assignment": "",
    "creation_date": "",
    "instance_pool_id": "",
    "instance_prefix": "",
    "instance_type": "",
    "template": "",
    "disk_size": 0,
    "ipv6_enabled": False,
    "anti_affinity_groups": None,
    "security_groups": None,
    "private_networks": None,
    "version": "",
    "size": 0,
    "state": "",
    "taints": None,
    "labels": None,
    "addons": None,
    "image_gc_min_age": "",
    "image_gc_low_threshold": 0,
    "image_gc_high_threshold": 0,
}


def _table_cell(value: object) -> str:
    if value is None or value in ([], {}):
        return "n/a"
    if isinstance(value, dict):
        return ", ".join(f"{key}:{entry}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(
            f"{entry['id']} | {entry['name']}" if isinstance(entry, dict) else entry for entry in value
        )
    return _go_text(value)


def run_kubeconfig(invocation: Invocation) -> None:
    name, user = invocation.arguments[:2]
    client, _ = invocation.zone_client()
    cluster = client.find_cluster(name)
    groups = invocation.flags.get("group") or ["system:masters"]
    try:
        encoded = client.generate_kubeconfig(cluster["id"], user, groups, invocation.flags.get("ttl", 0))
    except ApiError:
        raise
    except ExoError as error:
        raise ExoError(f"error retrieving kubeconfig: {error}") from error
    kubeconfig = _decode(encoded, "kubeconfig")
    if not invocation.flags.get("exec-credential"):
        write_bytes(kubeconfig)
        return
    text = kubeconfig.decode()
    certificate = re.search(r"client-certificate-data: (\S+)", text)
    key = re.search(r"client-key-data: (\S+)", text)
    if not text.startswith("apiVersion:") or certificate is None or key is None:
        raise ExoError(
            "error decoding kubeconfig content: yaml: mapping values are not allowed in this context"
        )
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "kind": "ExecCredential",
        "status": {
            "clientCertificateData": _decode(certificate[1], "kubeconfig").decode(),
            "clientKeyData": _decode(key[1], "kubeconfig").decode(),
        },
    }
    write_bytes(to_json(credential).encode())


def run_versions(invocation: Invocation) -> None:
    client, _ = invocation.zone_client()
    rows = [{"version": version} for version in client.versions()]
    print_rows(invocation, client.account, rows, VERSION_COLUMNS)


def run_authority_certificate(invocation: Invocation) -> None:
    name, authority = invocation.arguments[:2]
    if authority not in ("aggregation", "control-plane", "kubelet"):
        raise ExoError(f'unsupported authority value "{authority}"')
    client, _ = invocation.zone_client()
    cluster = client.find_cluster(name)
    try:
        encoded = client.authority_certificate(cluster["id"], authority)
    except ApiError:
        raise
    except ExoError as error:
        raise ExoError(f"error retrieving certificate: {error}") from error
    write_bytes(_decode(encoded, "certificate"))


def _decode(encoded: str, what: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        wrong = re.search(r"[^A-Za-z0-9+/]", encoded)
        position = wrong.start() if wrong else len(encoded)
        raise ExoError(
            f"error decoding {what} content: illegal base64 data at input byte {position}"
        ) from None


def write_bytes(content: bytes) -> None:
    """Exactly these bytes on stdout."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


COMMANDS = (
    Command(("version",), "Print the version of exo", run_version),
    Command(("zone",), "List all available zones", run_zone),
    Command(("compute", "sks", "list"), "List SKS clusters", run_list, flags=(ZONE,), aliases=("ls",)),
    Command(
        ("compute", "sks", "show"),
        "Show an SKS cluster details",
        run_show,
        arguments=("NAME|ID",),
        flags=(ZONE,),
        aliases=("get",),
    ),
    Command(
        ("compute", "sks", "kubeconfig"),
        "Generate a Kubernetes kubeconfig file for an SKS cluster",
        run_kubeconfig,
        arguments=("CLUSTER-NAME|ID", "USER"),
        flags=(
            Flag("exec-credential", "x", "switch", "output an ExecCredential object"),
            Flag("group", "g", "list", "client certificate group (repeatable, default system:masters)"),
            Flag("ttl", "t", "number", "client certificate validity duration in seconds"),
            ZONE,
        ),
        aliases=("kc",),
    ),
    Command(
        ("compute", "sks", "authority-cert"),
        "Retrieve an authority certificate for an SKS cluster",
        run_authority_certificate,
        arguments=("CLUSTER-NAME|ID", "AUTHORITY"),
        flags=(ZONE,),
    ),
    Command(
        ("compute", "sks", "versions"), "List supported SKS cluster versions", run_versions, flags=(ZONE,)
    ),
)


def find_command(words: list[str]) -> tuple[Command | tuple[str, ...], list[str]]:
    """The command that the words name, or the group of commands at which they stop; and the words without it.

    Raises ExoError.
    """
    takes_value = {f"--{flag.name}" for flag in GLOBAL_FLAGS if flag.kind != "switch"}
    takes_value |= {f"-{flag.short}" for flag in GLOBAL_FLAGS if flag.kind != "switch" and flag.short}
    path: tuple[str, ...] = ()
    index, rest = 0, []
    while index < len(words):
        word = words[index]
        index += 1
        if word.startswith("-"):
            rest.append(word)
            if word in takes_value and index < len(words):
                rest.append(words[index])
                index += 1
            continue
        for command in COMMANDS:
            if command.path[:-1] == path and word in (command.path[-1], *command.aliases):
                return command, rest + words[index:]
        path = (*path, word)
        if not any(command.path[: len(path)] == path for command in COMMANDS):
            raise ExoError(f'unknown command "{word}" for "{" ".join(("exo", *path[:-1]))}"')
    return path, rest


def help_text(target: Command | tuple[str, ...]) -> str:
    """What --help prints for a command or a group of commands."""
    lines = [
        f"The lab's stand-in for exo {VERSION}: not Exoscale's program, and only its commands below.",
        "",
    ]
    if isinstance(target, Command):
        usage = " ".join(("exo", *target.path, *target.arguments))
        lines += [target.summary, "", "Usage:", f"  {usage} [flags]", "", "Flags:"]
        flags = (*target.flags, *GLOBAL_FLAGS)
    else:
        lines += ["Available Commands:"]
        fitting = [command for command in COMMANDS if command.path[: len(target)] == target]
        lines += [f"  {' '.join(command.path):28} {command.summary}" for command in fitting]
        lines += ["", "Flags:"]
        flags = GLOBAL_FLAGS
    for flag in flags:
        short = f"-{flag.short}, " if flag.short else "    "
        lines.append(f"  {short}--{flag.name:18} {flag.usage}")
    return "\n".join(lines)


def run(words: list[str]) -> None:
    """Run one command line. Raises ExoError, FatalError, Panic."""
    target, rest = find_command(words)
    flags = (*target.flags, *GLOBAL_FLAGS) if isinstance(target, Command) else GLOBAL_FLAGS
    arguments, values = parse_flags(rest, flags)
    if values.get("help") or not isinstance(target, Command):
        print(help_text(target))
        return
    if len(arguments) < len(target.arguments):
        raise ExoError("missing arguments, run with --help for usage")
    target.run(Invocation(arguments, values))


def main() -> NoReturn:
    """Entry point; exits 0, 1 for an error, 2 for a panic."""
    try:
        run(sys.argv[1:])
    except ExoError as error:
        sys.exit(f"error: {error}")
    except FatalError as error:
        sys.exit(str(error))
    except Panic as error:
        print(
            "panic: runtime error: invalid memory address or nil pointer dereference\n"
            "[signal SIGSEGV: segmentation violation]\n\ngoroutine 1 [running]:\n"
            f"github.com/exoscale/cli/cmd/compute/sks/{error}",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("error: context canceled")
    sys.exit(0)


if __name__ == "__main__":
    main()
