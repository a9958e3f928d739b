# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms that secrets have in texts, and forms that only look like secrets (private to the collection)."""

from __future__ import annotations

import re

PLAIN = re.compile(r"[A-Za-z0-9_./-]{0,15}")
"""Texts that are too short to be a secret unless they have the name of one."""

# Structure

NAMING = (
    "name",
    "key",
    "k",
    "id",
    "header",
    "headerName",
    "header_name",
    "headerKey",
    "field",
    "option",
    "param",
)
"""Fields that hold the name of a value beside them. :data:`VALUE` matches the fields that hold that value."""
VALUE = re.compile(
    r"(?:^|[a-z_])(?:[vV]alues?|^v|^val|[mM]atch|exact|prefix|suffix|regex|contains|default|data|bytes|string)$"
)
REFERENCE = {
    "name": r"[\w.:/ -]{1,253}",
    "namespace": r"[\w.-]{1,63}",
    "kind": r"[A-Za-z]{1,63}",
    "group": r"[a-z.\d-]{0,253}",
    "type": r"[A-Za-z./_-]{1,80}",
    "@type": r"[\w./]+",
    "apiVersion": r"[a-z\d./]{1,253}",
    "secretName": r"[\w.-]{1,253}",
    "credentialName": r"[\w./:-]{1,253}",
    "filename": r"[\w./ -]+",
    "path": r"[\w./ -]+",
    "mountPath": r"[\w./ -]+",
    "audience": r"[\w./:-]+",
    "ttl": r"[\d.a-z]{1,12}",
    "operator": r"[A-Za-z]{1,20}",
    "title": r"[\w ]{1,60}",
}
"""Fields that stay below a secret's name, as they say where the secret is, with the form they must have."""
REFERENCE_NUMBERS = {"expirationSeconds", "defaultMode", "mode", "optional"}
ORDINARY_BELOW = re.compile(r"(?:sds_?|path_)config(?:_source)?$", re.IGNORECASE)
PRIVATE_OF_JWK = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
KEY_FILE = re.compile(
    r"\.(?:p12|pfx|jks|keystore|kdbx|ppk)$|^id_(?:rsa|dsa|ecdsa|ed25519)$|htpasswd$|\.pgpass$"
)
HARMLESS = re.compile(
    r"""\\*["']?(?:true|false|yes|no|on|off|enabled|disabled|required|optional|null|nil|none|<nil>|<none>|~||"""
    r"""[|>][-+]?|\{\{[^{}]*(?:\}\})?|\$[({][\w.]+[)}]?|\$[A-Z_]+|%[A-Z_]+(?:\([^()]*\))?%|\*{3,}|"""
    r"""/(?:[\w.-]{1,64}/)+[\w-]{1,64}\.(?:pem|key|crt|json|ya?ml|conf|txt|p12|jks)|"""
    r"""<?redacted>?|\[REDACTED.*|bearer ?|basic ?|token ?|inline|host)""",
    re.IGNORECASE | re.DOTALL,
)
PUBLIC = re.compile(r"\s*(?:-----BEGIN (CERTIFICATE|PUBLIC KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----\s*)+")
LONGEST_COMMAND = 300
OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
HEADER = re.compile(r"[a-z]+(?:-[a-z]+)*|[A-Z][a-z]+(?:-[A-Z][a-z]+)*")
USER_AND_PASSWORD = re.compile(r"([^\s:/\"']+):(?!//)([^\s\"']+)")

# Free text

# Colours of a terminal, the CR of line ends, and characters without width. They would split a name.
INVISIBLE = re.compile(
    "\x1b\\[[0-9;:]*m|\r(?=\n)|[\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
KEY_LABEL = r"(?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
# A part of a key counts, too: its end without the beginning, or its beginning without the end.
PEM = re.compile(
    rf"-----BEGIN {KEY_LABEL}.*?(?:-----END {KEY_LABEL}|\Z)"
    rf"|(?:^[ \t]*[A-Za-z0-9+/=]+[ \t]*\r?\n){{0,200}}^[ \t]*[A-Za-z0-9+/=]*-----END {KEY_LABEL}",
    re.DOTALL | re.MULTILINE,
)
JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}")
# Tokens in the forms that their issuers use, and hashes of passwords.
ISSUED = re.compile(
    r"(?<![\w-])(?:gh[a-z]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|A[KS]IA[A-Z0-9]{16}|"
    r"[srp]k_(?:live|test)_\w{10,}|sk-[\w-]{20,}|AIza[\w-]{30,}|hv[sbr]\.[\w-]{20,}|npm_\w{30,}|dckr_pat_[\w-]{20,}|"
    r"SG\.[\w-]{16,}\.[\w-]{16,}|EXO[a-f0-9]{20,}|AGE-SECRET-KEY-1\w{20,})"
    r"|\$(?:apr1|1|2[abxy]|5|6|y|argon2\w{1,2}|pbkdf2[\w-]{0,10})\$[\w./$=,+]{20,}|\{S?SHA\d{0,3}\}[\w+/=]{16,}"
)
SCHEME = re.compile(
    r"""\b(bearer|basic)((?:[ \t]|%20|\+)+)((?!(?:realm|error|scope)=)(?![\[<{(])[^\s"'\\,;&\])}>]{6,})""",
    re.IGNORECASE,
)
USER_IN_URL = re.compile(r"""(://)[^\s/@"'\\<>]+@""")
NAME = r"-{0,2}\w[\w.\-]*+"
ASSIGNED = re.compile(
    rf"""(?P<line>(?m:^)[ \t]*(?:-[ ]+|export[ ]+)?["']?)?(?<![\w.\-])(?P<name>{NAME})"""
    r"""(?:\\*["']?\]?[ \t]*(?::=|=>|[:=])[ \t]*)"""
)
OPTION_GIVEN = re.compile(r"(?<![\w\-])(?P<name>--?[A-Za-z][\w.\-]*+)[ \t]+(?!-)")
NAMED_PAIR = re.compile(
    rf"""(?i)\b(?:name|key|header)\\*["']?[:=][ \t]*\\*["']?(?P<name>{NAME})\\*["']?[,;]?\s+"""
    r"""[{]?\\*["']?(?:raw_?)?(?:value|string|exact|prefix|regex)\w*\\*["']?[:=][ \t]*"""
)
QUOTED = re.compile(
    r"""(?P<quote>\\*["'`])(?P<value>(?:(?!(?P=quote))[^\n\\]|\\(?!["'])[^\n]|(?!(?P=quote))\\.)*)"""
)
UNQUOTED = re.compile(r"""[^\s"'\\]+(?:\\(?!["'\\nrt])[^\s"'\\]*)*""")
PARAMETER = re.compile(r"""[^\s"'\\&]+""")
TO_END_OF_LINE = re.compile(r"[^\n]+")
BRACKET = re.compile(r"[\[\](){}]")
LONGEST_BRACKETS = 20_000
REFERENCE_IN_TEXT = re.compile(
    r"""[\[{\s]*(?:["']?(?:name|namespace|secretName|credentialName|path|filename|defaultMode|optional)["']?"""
    r"""\s*[:=]\s*["']?[\w./-]+["']?[\s,]*)+[\s\]}]*"""
)
MARK = re.compile(r"\[REDACTED [a-zA-Z ]+\]")
SENTENCE_GOES_ON = re.compile(r"""[ \t]+["'(A-Za-z]""")
ERROR = re.compile(r"(?:un|in)[a-z]+|[A-Z][a-z]+|forbidden|missing|expired|denied|refused|timeout|EOF")
# The values of these headers continue after a space.
LONG_HEADER = re.compile(
    r"""(?i)(?P<before>\b(?:(?:proxy-)?authorization|(?:set-)?cookie)(?:\\*["'])?[ \t]*[:=][ \t]*)"""
    r"""(?P<value>(?:digest|aws4-hmac-sha256|oauth|hawk|signature|token|negotiate|apikey)[ \t]+[^\n]+"""
    r"""|[A-Za-z][\w-]*[ \t]+[^\s"'\\;]+|[^\s"'\\\[;]+(?:;[ ]?[^\s"'\\;]+)*)"""
)
USER_OPTION = re.compile(
    r"""(?<![\w-])((?:-u|-U|--user|--proxy-user)[ =]*["']?[^\s:"'/]+:)(?!//)([^\s"']+)"""
)
# Programs that have an option of one letter for a password.
SHORT_OPTION = re.compile(
    r"""((?:\bredis-cli\b[^\n|;&]{0,200}?\s-a|\bsshpass\s+-p|\b(?:mysql|mariadb)\w*\b[^\n|;&]{0,200}?\s-p(?=\S)"""
    r"""|\s-u[ =]?[^\n|;&]{1,100}?\s-p\s)\s*["']?)([^\s"']+)"""
)
USER_AT = re.compile(
    r"""(?<![\w/.:-])((?!mailto:|sips?:|acct:)[\w.-]{1,64}:)([^\s@:/"'\\]{3,})@(?!sha\d)(?=[\w(\[])"""
)
QUOTED_PAIR = re.compile(
    rf"""(?P<quote>\\*["'])(?P<name>{NAME})(?P=quote)"""
    r"""(?P<between>[ \t]*(?:,|\][ \t]*=|=>)\s*)(?P<other>\\*["'])"""
    r"""(?P<value>(?:(?!(?P=other))[^\n])*)"""
)
ELEMENT = re.compile(r"<([\w:.-]{1,80})(?:[ ][^<>]{0,200})?>([^<>]+)(?=</)")
PRINTED_VARIABLE = re.compile(r"(?<=[{\[(])([A-Z]\w*_\w+) ([^\s{}]+)")
LOGIN = re.compile(r"(\blogin\s+\S{1,100}\s+password\s+)(\S+)")
SENTENCE = re.compile(
    r"""(?i)(?<![\w.\-])((?=[\w.\-]*(?:pass|pwd|secret|token|key|cred|cookie|auth))\w[\w.\-]*+)"""
    r"""(["'`]?\s+(?:for\s+\S{1,60}\s+)?(?:(?:is|was|of|by|=|->)\s+)?)(["'`]?)([^\s"'`]{6,})"""
)
IDENTIFIED = re.compile(r"(?i)(\bidentified\s+by\s+['\"])([^'\"\n]+)")
SECRET_NAMED = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+$")
"""The name of a Secret, as istiod logs the Secret that it read: ``secret=NAMESPACE/NAME``."""
BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/_-]{40,}+(?:\r?\n[ \t]*|\\n))+[A-Za-z0-9+/_-]{2,}+={0,2}"
    r"|(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}+={0,2}"
)
URL_ENCODED = re.compile(
    r"""(?<![^\s"'<>&])(?:[^\s"'<>&%]|%(?![0-9A-Fa-f]{2}))*+%[0-9A-Fa-f]{2}[^\s"'<>&]*+"""
)
OBJECT = re.compile(r'[{\[](?=[ \t]*["{\[])')
OBJECT_OF_LINES = re.compile(r'[{\[](?=[ \t]*\r?\n\s*["{\[])')
MAX_FAILURES = 50
SECRET_OBJECT = re.compile(r"""\bkind["']?[ \t]*:[ \t]*["']?Secret\b""")
BLOCK = re.compile(r"""([ \t]*)(-[ ]+)?["']?([\w.\-]+)["']?[ \t]*[:=][ \t]*([\[{]|[|>][-+\d]*)?[ \t\r]*$""")
BELOW = re.compile(
    r"""([ \t]*(?:-[ ]+)*)(?:(["']?)([\w.\-]+)\2[ \t]*[:=][ \t]*(?=\S|$))?(.*?)([,\]}\s]*)$""", re.DOTALL
)
