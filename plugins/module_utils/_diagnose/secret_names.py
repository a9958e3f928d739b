# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the name of a field, header, variable or option tells of its value (private to the collection)."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache


class Secrecy(IntEnum):
    """How much of what has a name is a secret."""

    NO = 0
    MAYBE = 1
    """Texts that look as if a machine had drawn them: ``key`` is a secret's name and a label's."""
    TEXT = 2
    """All texts, also in a list; not what is deeper, as ``basic_auth`` names settings, too."""
    ALL = 3
    """Everything below."""


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LONGEST = 200

# Wherever it is in the name, also at the end of a word.
_SECRET = re.compile(
    r"(?:password|passwd|passphrase|passcode|secret|token|credential|cookie|authorization|dockerconfigjson|"  # noqa: S105
    r"dockercfg|connectionstring|"
    r"(?:api|access|secret|private|signing|encryption|master|auth|account|storage|ssh|shared|client)key)s?$"
)
# In the end of a name.
_SECRET_LAST = {
    "passwds",
    "psk",
    "creds",
    "cred",
    "otp",
    "totp",
    "dsn",
    "mnemonic",
    "pkcs12",
    "pgpass",
    "netrc",
}
_SECRET_TEXT = re.compile(
    r"(?:pass|pwd|pw|auth|salt|seed|sig|signature|hmac|pin|sid|session|jwt|bearer|nonce)$"
)
_ALONE_A_SECRET = {"pass", "pwd", "pw", "sid", "hmac"}
_GLUED = re.compile(
    r"(?:require|db|user|ssh|admin|root|key|store|master|mysql|pg|redis|mail|smtp|ldap|proxy)pass$|"
    r"(?:master|basic|proxy|redis|http)auth$"
)
# What kinds of keys are secrets; a variable may have any other word there.
_KEY_OF = set(
    "api access secret private signing encryption master root ssh tls ssl ca auth license service session ticket "
    "shared storage app application consumer deploy hmac aes rsa pgp gpg wireguard webhook account client server "
    "admin bot preshared".split()  # noqa: SIM905
)
_PLAIN_KEY_OF = set(
    "public pub topology label annotation partition routing sort hash cache header metadata map primary foreign "
    "descriptor runtime stat field object node group filter registry log index trace taint".split()  # noqa: SIM905
)
# A name that ends so tells something about the secret.
_ABOUT = set(
    "name names ref refs reference references selector path paths file files filename dir directory folder url uri "
    "urls endpoint endpoints host hosts port ttl second seconds minute minutes hours days ms time timeout duration "
    "interval period ratio rate limit limits max min count counts size length bytes number total audience "
    "audiences type types kind format policy policies mode version enabled enable disabled required allowed "
    "supported expiry expiration expires expired issuer provider providers namespace headers class algorithm alg "
    "location source sources config configs configuration settings options option bucket buckets fill controller "
    "mount volume role roles rotation refresh review reviews request requests manager store usage prefix suffix "
    "pattern rules rule check validation server service plugin filter method methods scope scopes claim claims "
    "error errors status state reason message exchange label labels annotation annotations template description "
    "generation fetcher age arn region scheme resource resources".split()  # noqa: SIM905
)
# A name that begins so asks whether, how many, or where from.
_ASKING = {
    "max",
    "min",
    "num",
    "total",
    "count",
    "use",
    "require",
    "enable",
    "disable",
    "allow",
    "has",
    "is",
    "forward",
    "automount",
    "skip",
    "no",
    "from",
}
# Forms in which the value is written.
_FORM = {
    "pem",
    "json",
    "yaml",
    "yml",
    "txt",
    "conf",
    "b64",
    "base64",
    "data",
    "der",
    "value",
    "values",
    "raw",
    "string",
    "plain",
    "content",
    "env",
    "enc",
}
_REFERENCES = (["pull", "secret"], ["pull", "secrets"], ["existing", "secret"])


@lru_cache(maxsize=8192)
def secrecy(name: str) -> Secrecy:
    """How much of what has this name is a secret."""
    words = [word.lower() for word in _WORD.findall(name[-_LONGEST:])]
    while len(words) > 1 and (words[-1] in _FORM or words[-1].isdigit()):
        words.pop()
    if (
        not words
        or words[-2:] in _REFERENCES
        or ("key" in words[-1] and _PLAIN_KEY_OF & {"public", "pub"} & set(words))
    ):
        return Secrecy.NO
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "id":
        known = before in ("session", "secret") or words[-3:-1] == ["access", "key"]
        return Secrecy.TEXT if known else Secrecy.NO
    if last in _ABOUT:
        return Secrecy.NO
    found = _by_words(words, last, before, name.upper() == name)
    return Secrecy.MAYBE if found and words[0] in _ASKING else found


def _by_words(words: list[str], last: str, before: str, is_variable: bool) -> Secrecy:
    if last == "header" and any(map(_SECRET.search, words)):
        return Secrecy.MAYBE
    if last in _SECRET_LAST or any(map(_SECRET.search, words)):
        return Secrecy.ALL
    if last in ("key", "keys"):
        if before in _KEY_OF:
            return Secrecy.ALL
        return Secrecy.TEXT if is_variable and before and before not in _PLAIN_KEY_OF else Secrecy.MAYBE
    if _GLUED.search(last):
        return Secrecy.TEXT
    if _SECRET_TEXT.fullmatch(last):
        return Secrecy.TEXT if before or is_variable or last in _ALONE_A_SECRET else Secrecy.MAYBE
    return Secrecy.NO


def is_count(name: str, value: str) -> bool:
    """Whether a number says how many there are, as in ``tokens: 100``."""
    return bool(re.fullmatch(r"[\d.]{1,12}", value) and re.search(r"(?:s|[_-]?pass)$", name, re.IGNORECASE))


def looks_drawn(value: str) -> bool:
    """Whether a text looks as if a machine had drawn it: letters and digits change often, as in no word."""
    if len(value) < 12 or not re.fullmatch(r"[\x21-\x7e]+", value) or value.startswith("sha256:"):
        return False
    changes = len(re.findall(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", value))
    return changes >= max(4, len(value) / 5)
