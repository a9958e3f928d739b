# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what `make soak` found in one table, and write it to docs/soak.md.

The page names the content of `plugins/`, `roles/` and `playbooks/` that was tried. `make release` asks for a
page of what it releases.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "build/soak"
PAGE = ROOT / "docs/soak.md"
TRIED = ("plugins", "roles", "playbooks")
NAMED = re.compile(r"^Content: `([0-9a-f]{40})`$", re.M)

HEAD = """# Soak

What `make soak` found: on the lab, again and again what `make test` tries a few times. A release requires it.

Content: `{content}`

Date: {date}; {minutes:.0f} minutes in all.

| Soak | What was done | Minutes | Figures | Its small sibling |
| --- | --- | --- | --- | --- |
"""


def main() -> int:
    """Return 1 where there is nothing to show."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FIGURES.glob("*.json"))]
    if not found:
        print("make soak: no soak has ended well, so there are no figures", file=sys.stderr)
        return 1
    for soak in found:
        print(f"{soak['name']}: {soak['done']} ({soak['minutes']} min)")
        for name, figure in soak["figures"].items():
            print(f"  {figure:>9,}  {name}")
    if any(soak["part"] < 1 for soak in found):
        print("This was a part of the soak: docs/soak.md stays as it is.")
        return 0
    PAGE.write_text(page(found), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} is written.")
    return 0


def page(found: list[dict[str, Any]]) -> str:
    """Return the page of some soaks."""
    head = HEAD.format(
        content=content(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        minutes=sum(soak["minutes"] for soak in found),
    )
    return head + "".join(
        f"| {soak['name']} | {soak['done']} | {soak['minutes']} | "
        f"{', '.join(f'{name}: {figure:,}' for name, figure in soak['figures'].items())} | "
        f"{soak['sibling']} |\n"
        for soak in found
    )


def content() -> str:
    """Return the name that git has for the content of what users run, as it is in the folder now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *TRIED], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    files = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    hashes = git("hash-object", "--stdin-paths", given="\n".join(files))
    lines = "\n".join(f"{name} {each}" for name, each in zip(files, hashes.split(), strict=True))
    return git("hash-object", "--stdin", given=lines).strip()


def git(*words: str, given: str) -> str:
    """Return what git says to a text."""
    done = subprocess.run(
        ["git", *words], cwd=ROOT, check=True, input=given, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def is_current() -> bool:
    """Return whether docs/soak.md is of what is here now."""
    named = NAMED.search(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else None
    return named is not None and named[1] == content()


if __name__ == "__main__":
    sys.exit(main())
