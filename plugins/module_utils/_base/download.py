# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch files within limits of time and size, and send credentials to nobody else (private).

Credentials in the URL of a server or a proxy are sent to that one server only, as a header. They are in no
environment, no argument, no request to another server, and no message.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies_environment, proxy_bypass, url2pathname

from .connections import client_context, connection_pool
from .errors import ExomeshError, MissingRequirementError
from .waiting import TimeUpError, pause, time_limit

try:
    import urllib3

    IMPORT_ERROR: str | None = None
except ImportError as error:
    IMPORT_ERROR = str(error)

_TRIES = 3
_PAUSE = 2.0
_ANSWER_SECONDS = 30.0
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 2**16
_SECRET = re.compile("token|sig|key|secret|pass|auth|cred", re.IGNORECASE)


def shown(url: str) -> str:
    """Return a URL without its possible secrets: user, password, and all that comes after the path."""
    if "://" not in url:
        return url
    scheme, _separator, rest = url.partition("://")
    place = re.split(r"[?#]", rest)[0]
    server, slash, path = place.partition("/")
    return f"{scheme}://{server.rpartition('@')[2]}{slash}{path}"


def secrets_in(url: str) -> set[str]:
    """Return the parts of a URL that must not be shown, encoded and decoded."""
    if "://" not in url:
        url = f"http://{url}"
    scheme_less = url.partition("://")[2]
    # The password may have a character that should have been encoded.
    user, separator, password = scheme_less.rpartition("@")[0].partition(":")
    found = {password if separator else user}
    found |= {value for name, value in re.findall(r"[?&]([^=&#]*)=([^&#]+)", url) if _SECRET.search(name)}
    found |= {unquote(text) for text in found}
    return {text for text in found if text}


class Fetcher:
    """Fetches files until its time is up.

    :param timeout: seconds for all files together, however slow servers are.
    :param proxy: URL of a proxy; the environment's when None.
    :param next_step: next step in the error when something cannot be fetched.
    """

    def __init__(self, timeout: float, proxy: str | None, next_step: str) -> None:
        if IMPORT_ERROR:
            raise MissingRequirementError(
                f"The Python package urllib3 cannot be imported: {IMPORT_ERROR}",
                next_step="Install it for the Python that runs Ansible's modules (pip install urllib3)",
            )
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._proxy = proxy
        self._next_step = next_step
        self._secrets = secrets_in(proxy) if proxy else set()
        if proxy:
            _server(_with_scheme(proxy), "The proxy", ("http", "https"))

    def remaining(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self._deadline - time.monotonic())

    def read(self, url: str, limit: int) -> bytes:
        """Return the content at a URL or path. Raise ExomeshError when it has more than ``limit`` bytes."""
        content = bytearray()
        self._take(url, limit, content.extend)
        return bytes(content)

    def save(self, url: str, to: Path, limit: int) -> str:
        """Write the content at a URL or path into a file; return its SHA-256 in hex."""
        digest = hashlib.sha256()
        with to.open("wb") as file:

            def take(chunk: bytes) -> None:
                digest.update(chunk)
                file.write(chunk)

            self._take(url, limit, take)
        return digest.hexdigest()

    def _take(self, url: str, limit: int, take: Callable[[bytes], object]) -> None:
        received = 0
        self._secrets |= secrets_in(url) if "://" in url else set()
        try:
            with time_limit(self.remaining()), self._opened(url) as chunks:
                for chunk in chunks:
                    received += len(chunk)
                    if received > limit:
                        raise self._failure(
                            url, "too_large", f"there is more of it than {limit // 2**20 or 1} MiB"
                        )
                    take(chunk)
        except TimeUpError as error:
            if error.interrupted:
                raise
            raise ExomeshError(
                f"{shown(url)} was not fetched within {self._timeout:g} s",
                "fetch_timeout",
                cause=f"{received} bytes came: a server, a proxy or a name server is slow, or says nothing",
                next_step=self._next_step,
            ) from None
        except (ExomeshError, OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            raise self._explained(url, error) from None

    def _explained(self, url: str, error: BaseException) -> BaseException:
        if isinstance(error, ExomeshError):
            return error
        if isinstance(error, urllib3.exceptions.HTTPError):
            original = getattr(error, "original_error", None)
            return self._failure(url, "fetch_failed", f"{error} {original or ''}")
        if isinstance(error, OSError):
            return self._failure(url, "fetch_failed", error.strerror or str(error))
        if isinstance(error, ValueError):
            return self._failure(url, "fetch_failed", "it is not a URL that can be asked for")
        return error

    def _failure(self, url: str, code: str, cause: str) -> ExomeshError:
        for secret in sorted(self._secrets, key=len, reverse=True):
            cause = cause.replace(secret, "***")
        return ExomeshError(
            f"{shown(url)} cannot be fetched", code, cause=" ".join(cause.split()), next_step=self._next_step
        )

    @contextlib.contextmanager
    def _opened(self, url: str) -> Iterator[Iterator[bytes]]:
        if "://" not in url or url.startswith("file://"):
            path = url2pathname(urlsplit(url).path) if "://" in url else url
            with open(path, "rb") as file:
                yield iter(lambda: file.read(_CHUNK), b"")
            return
        response = self._answer(url)
        try:
            yield iter(lambda: response.read(_CHUNK, decode_content=False), b"")
        finally:
            response.close()

    def _answer(self, url: str) -> Any:
        """Return the answer; try again where that may help."""
        for attempt in range(1, _TRIES + 1):
            try:
                response = self._redirected(url)
            except urllib3.exceptions.SSLError:
                raise
            except urllib3.exceptions.HTTPError:
                if attempt == _TRIES:
                    raise
            else:
                if response.status < 400:
                    return response
                response.close()
                if response.status < 500 or attempt == _TRIES:
                    raise self._failure(url, "fetch_failed", f"the answer was {response.status}")
            pause(_PAUSE)
        raise AssertionError("unreachable")

    def _redirected(self, url: str) -> Any:
        asked, server = url, _server(url, "The URL", ("http", "https"))
        credentials_of = _place(server)
        headers = _credentials(server, "authorization")
        for _hop in range(_MOST_REDIRECTS + 1):
            here = _server(asked, "The URL", ("http", "https"))
            response = self._pool(here).request(
                "GET",
                here._replace(netloc=here.netloc.rpartition("@")[2], fragment="").geturl(),
                headers={"user-agent": "exomesh.istio"} | (headers if _place(here) == credentials_of else {}),
                timeout=urllib3.Timeout(connect=_ANSWER_SECONDS, read=_ANSWER_SECONDS),
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )
            location = response.headers.get("location") if response.status in _REDIRECTS else None
            if location is None:
                return response
            response.close()
            asked = urljoin(asked, location)
            self._secrets |= secrets_in(asked)
            if here.scheme == "https" and not asked.startswith("https://"):
                raise self._failure(url, "fetch_failed", f"it leads from TLS to {shown(asked)}")
        raise self._failure(url, "fetch_failed", f"it leads on more than {_MOST_REDIRECTS} times")

    def _pool(self, server: SplitResult) -> Any:
        proxy = self._proxy or getproxies_environment().get(server.scheme)
        if not proxy or proxy_bypass(server.hostname or ""):
            return connection_pool(client_context(None, None, None), 1)
        self._secrets |= secrets_in(proxy)
        through = _server(_with_scheme(proxy), "The proxy", ("http", "https"))
        return connection_pool(client_context(None, None, None), 1, through.geturl())


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _server(url: str, what: str, schemes: tuple[str, ...]) -> SplitResult:
    """Return the parts of a URL. Raise ExomeshError ``invalid_url``, which does not show a bad URL."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ExomeshError(
            f"{what} that is given for the fetch is none of {' or '.join(schemes)}",
            "invalid_url",
            cause="It is not shown, as it may hold a password",
            next_step=f"Give it as in {schemes[-1]}://server.example:8080; in a user's name and a password, "
            "characters such as / # ? @ : are written as %2F %23 %3F %40 %3A",
        )
    return parts


def _place(server: SplitResult) -> tuple[str, str | None, int]:
    return server.scheme, server.hostname, server.port or {"http": 80, "https": 443}[server.scheme]


def _credentials(server: SplitResult, header: str) -> dict[str, str]:
    if server.username is None:
        return {}
    told = f"{unquote(server.username)}:{unquote(server.password or '')}"
    return {header: f"Basic {base64.b64encode(told.encode()).decode()}"}
