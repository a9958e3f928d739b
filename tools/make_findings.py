# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the page of findings from the kinds in the code; with --check, only tell whether it is so."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ansible_collections.exomesh.istio.plugins.module_utils._base.members import Member
from ansible_collections.exomesh.istio.plugins.module_utils._verify.findings import CHECKS, KINDS, Kind

GUIDES = Path(__file__).resolve().parent.parent / "docs/docsite/rst"
TARGET = GUIDES / "findings.rst"

LABEL = ".. _ansible_collections.exomesh.istio.docsite.findings"

HEAD = f"""\
.. Made from plugins/module_utils/_verify/findings.py by make findings.

{LABEL}:

What verify and status find
===========================

The playbooks ``exomesh.istio.verify`` and ``exomesh.istio.status`` name what is wrong with a mesh by these
codes, which stay the same across releases. A finding is about one cluster, or about the way from one to
another. What follows from another finding is not reported: a gateway without pods is one finding, not one for
each peer.

An **error** makes the mesh unhealthy, and the playbook fail. If something could not be looked at, the finding
is **unknown**. Then the playbook fails, too, because nobody can tell whether the mesh is healthy. A
**warning** does not make it fail. A finding may be weaker than its kind: an error is a warning if proxies
repeat all requests that fail with pods of their own cluster.
"""

CHECK_TITLES = {
    "secret": "the remote secret",
    "credentials": "what its account may do",
    "api": "the destination's API",
    "sync": "what the istiods of the source have read",
    "gateway": "the gateways that they know",
    "endpoints": "the endpoints of the source's proxy",
    "dns": "the name of the service",
    "wire": "the connection and its certificates",
    "request": "the answer",
    "identity": "the identities that both proxies verified",
}


def main() -> int:
    """Write the file, or compare it; return 1 where it differs."""
    text = page()
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    same = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
    print(TARGET.name, "is that of the code" if same else "is not that of the code: run `make findings`")
    troubleshooting = (GUIDES / "guide_troubleshooting.rst").read_text(encoding="utf-8")
    missing = [kind.code for kind in KINDS if f".findings.{kind.code}>" not in troubleshooting]
    print(*(f"guide_troubleshooting.rst does not have {code}" for code in missing), sep="\n", end="")
    return 0 if same and not missing else 1


def page() -> str:
    """Return the whole document."""
    of_pairs = sorted((kind for kind in KINDS if is_about_pairs(kind)), key=place)
    of_clusters = [kind for kind in KINDS if kind not in of_pairs]
    parts = [HEAD, heading("About a cluster", "-"), *map(section, of_clusters)]
    parts += [heading("About the way from one cluster to another", "-")]
    parts += ["In the order in which they are looked at.\n"]
    parts += map(section, of_pairs)
    return "\n".join(parts)


def heading(text: str, underline: str) -> str:
    """Return the heading in reStructuredText."""
    return f"{text}\n{underline * len(text)}\n"


def is_about_pairs(kind: Kind) -> bool:
    """Return whether findings of this kind name a source and a destination."""
    return kind.check is not None or "{source" in kind.next_step


def place(kind: Kind) -> int:
    """Return where on the way the kind is."""
    return CHECKS.index(kind.check) if kind.check else len(CHECKS)


def section(kind: Kind) -> str:
    """Return the part about one kind."""
    next_step = kind.next_step.replace("{playbook}", Member("", "", "").playbook)
    next_step = re.sub(r"\{(\w+?)(?:_host)?\}", lambda match: match[1].upper(), next_step)
    looked_at = f" · looked at: {CHECK_TITLES[kind.check]}" if kind.check else ""
    lines = [
        f"{LABEL}.{kind.code}:\n",
        heading(kind.code, "~"),
        f"{plain(kind.message)}.\n",
        f"- **Severity**: {kind.severity}{looked_at}",
        f"- **Likely cause**: {plain(kind.cause)}",
        f"- **Next**: ``{next_step}``" if is_command(next_step) else f"- **Next**: {plain(next_step)}",
        f"- **More**: {kind.link}\n",
    ]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Return the text so that nothing in it is markup."""
    return re.sub(r"([*|])", r"\\\1", text)


def is_command(text: str) -> bool:
    """Return whether the text is a command and nothing else."""
    return re.fullmatch(r"(ansible-playbook|kubectl|istioctl|openssl) [^;,]*", text) is not None


if __name__ == "__main__":
    sys.exit(main())
