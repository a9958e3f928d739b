# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell from the name of a field, header, variable or option whether its value is secret (private)."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise


class Secrecy(IntEnum):
    """How much of a value is a secret, by the value's name."""

    NO = 0
    MAYBE = 1
    """Only texts that look random: ``key``, for example, is the name of secrets, but also of labels."""
    TEXT = 2
    """All texts, also in a list, but nothing deeper: ``basic_auth``, for example, also names settings."""
    ALL = 3
    """Everything below the name."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LONGEST = 200

# Words of secrets anywhere in a name, also as the end of a longer word.
_SECRET = re.compile(
    r"(?:password|passwd|passphrase|passcode|secret|token|credential|cookie|authorization|dockerconfigjson|"
    r"dockercfg|connectionstring|"
    r"(?:api|access|secret|private|signing|encryption|master|auth|account|storage|ssh|shared|client)key)s?$"
)
# Words of secrets at the end of a name.
_SECRET_LAST = _words("passwds psk creds cred otp totp dsn mnemonic pkcs12 pgpass netrc")
_SECRET_TEXT = re.compile(
    r"(?:pass|pwd|pw|auth|salt|seed|sig|signature|hmac|pin|sid|session|jwt|bearer|nonce)$"
)
_ALONE_A_SECRET = _words("pass pwd pw sid sig hmac")
_OF_VARIABLES = _words("pass pwd psk auth key keys")
_GLUED = re.compile(
    r"(?:require|db|user|ssh|admin|root|key|store|master|mysql|pg|redis|mail|smtp|ldap|proxy)pass$|"
    r"(?:master|basic|proxy|redis|http)auth$|sess(?:ion)?id$"
)
# The words before "key" that make it a secret. In the name of a variable, most other words do so, too.
_KEY_OF = _words(
    "access account admin aes api app application auth bot ca client consumer deploy encryption gpg hmac "
    "license master pgp preshared private root rsa secret server service session shared signing ssh ssl "
    "storage ticket tls webhook wireguard "
)
_PLAIN_KEY_OF = _words(
    "annotation cache descriptor field filter foreign group hash header index label log map metadata node "
    "object partition primary pub public registry routing runtime sort stat taint topology trace "
)
# A name that ends with one of these words only says something about the secret.
_ABOUT = _words(
    "age alg algorithm allowed annotation annotations arn audience audiences bucket buckets bytes check "
    "claim claims class config configs configuration controller count counts days description dir "
    "directory disabled duration enable enabled endpoint endpoints error errors exchange expiration "
    "expired expires expiry fetcher file filename files fill filter folder format generation headers host "
    "hosts hours interval issuer kind label labels length limit limits location manager max message "
    "method methods min minute minutes mode mount ms name names namespace number option options path "
    "paths pattern period plugin policies policy port prefix provider providers rate ratio reason ref "
    "reference references refresh refs region request requests required resource resources review reviews "
    "role roles rotation rule rules scheme scope scopes second seconds selector server service settings "
    "size source sources state status store suffix supported template time timeout total ttl type types "
    "uri url urls usage validation version volume "
)
# A name that begins with one of these words is about whether, how many, or where from.
_ASKING = _words(
    "max min num total count use require enable disable allow has is forward automount skip no from"
)
# Words at the end of a name that only say in which form the value is written.
_FORM = _words("pem json yaml yml txt conf b64 base64 data der value values raw string plain content env enc")
_REFERENCES = (["pull", "secret"], ["pull", "secrets"], ["existing", "secret"])


@lru_cache(maxsize=8192)
def secrecy(name: str) -> Secrecy:
    """Return how much of a value with this name is a secret."""
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
    has_secret = any(map(_SECRET.search, words))
    if last == "header" and has_secret:
        return Secrecy.MAYBE
    kinds_of_keys = {first for first, second in pairwise(words) if second in ("key", "keys")}
    if has_secret or last in _SECRET_LAST or kinds_of_keys & _KEY_OF:
        return Secrecy.ALL
    is_text = bool(_GLUED.search(last) or last in _ALONE_A_SECRET)
    is_text |= is_variable and bool(_OF_VARIABLES & set(words[:-1]))  # API_KEY_2, DB_PASS_OLD
    if last in ("key", "keys"):
        is_text |= is_variable and bool(before) and before not in _PLAIN_KEY_OF
        return Secrecy.TEXT if is_text else Secrecy.MAYBE
    if _SECRET_TEXT.fullmatch(last):
        return Secrecy.TEXT if is_text or before or is_variable else Secrecy.MAYBE
    return Secrecy.TEXT if is_text else Secrecy.NO


def is_count(name: str, value: str) -> bool:
    """Return whether a value is only a count, as in ``tokens: 100``."""
    counted = re.search(r"(?:token|key|session|cookie|secret)s$", name, re.IGNORECASE)
    return bool(counted and re.fullmatch(r"[\d.]{1,12}", value))


_CHANGE = re.compile(
    r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z]{2})(?=[a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)


def looks_drawn(value: str, one_in: int = 5) -> bool:
    """Return whether a text looks random: letters and digits alternate more often than in any word.

    :param one_in: the text looks random if at least one in this many characters begins such a change.
    """
    value = re.sub(r"sha\d{3}:[0-9a-f]{64,}", "", value)  # the digest of an image
    if len(value) < 12 or not re.fullmatch(r"[\x21-\x7e]+", value):
        return False
    return len(_CHANGE.findall(value)) >= max(4, len(value) / one_in)
