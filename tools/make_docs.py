# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the documentation site into build/docs/html; every warning on the way is an error."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build/docs"
SOURCE = SITE / "source"
REFERENCE = SOURCE / "collection"

# What ours refer to in Ansible's documentation: Sphinx would fetch a list of all that there is.
_SETTINGS = "reference_appendices/config.html"
ANSIBLE = {
    "std:label action_plugins": "plugins/action.html#action-plugins",
    "std:label ansible_configuration_settings": _SETTINGS,
    "std:label ansible_collections.kubernetes.core.k8s_module": "collections/kubernetes/core/k8s_module.html",
    "std:label common_return_values": "reference_appendices/common_return_values.html",
    "std:envvar ANSIBLE_CACHE_PLUGIN": f"{_SETTINGS}#envvar-ANSIBLE_CACHE_PLUGIN",
    "std:envvar ANSIBLE_CACHE_PLUGIN_CONNECTION": f"{_SETTINGS}#envvar-ANSIBLE_CACHE_PLUGIN_CONNECTION",
    "std:envvar ANSIBLE_CACHE_PLUGIN_PREFIX": f"{_SETTINGS}#envvar-ANSIBLE_CACHE_PLUGIN_PREFIX",
    "std:envvar ANSIBLE_CACHE_PLUGIN_TIMEOUT": f"{_SETTINGS}#envvar-ANSIBLE_CACHE_PLUGIN_TIMEOUT",
}


def main() -> int:
    """Gather the sources, and have Sphinx make pages of them; return the exit code."""
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(ROOT / "docs/sphinx", SOURCE)
    shutil.copy(ROOT / "docs/mesh.svg", SOURCE)
    REFERENCE.mkdir(mode=0o755)
    (SOURCE / "ansible.inv").write_bytes(inventory(ANSIBLE))
    with (SOURCE / "index.rst").open("a", encoding="utf-8") as index:
        index.write(contents())
    try:
        write_changelog()
        run("antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--fail-on-error",
            "--no-add-antsibull-docs-version", "--dest-dir", REFERENCE, "exomesh.istio")  # fmt: skip
        listed = REFERENCE / "index.rst"
        listed.write_text(without_guides(listed.read_text(encoding="utf-8")), encoding="utf-8")
        run(
            "sphinx-build",
            "--quiet",
            "--fail-on-warning",
            "--keep-going",
            "--jobs",
            "auto",
            SOURCE,
            SITE / "html",
        )
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    print(f"The documentation is in {(SITE / 'html/index.html').relative_to(ROOT)}")
    return 0


def write_changelog() -> None:
    """Write the changelog of all releases, and of the one that is prepared; raise CalledProcessError."""
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "changelogs", copy / "changelogs")
        shutil.copy(ROOT / "galaxy.yml", copy)
        if any((copy / "changelogs/fragments").glob("*.yml")):
            run("antsibull-changelog", "release", "--update-existing", cwd=copy)
        page = SOURCE / "changelog.rst"
        run("antsibull-changelog", "generate", "--output", page, "--output-format", "rst", cwd=copy)


def contents() -> str:
    """Return the table of contents: the guides as extra-docs.yml lists them, and the reference."""
    extra = yaml.safe_load((ROOT / "docs/docsite/extra-docs.yml").read_text(encoding="utf-8"))
    sections = {
        section["title"]: [f"collection/docsite/{page}" for page in section["toctree"]]
        for section in extra["sections"]
    }
    sections["Reference"] = ["Roles and plugins <collection/index>", "changelog"]
    return "".join(toctree(title, pages) for title, pages in sections.items())


def without_guides(index: str) -> str:
    """Return the page of the collection without its list of guides: the site has one, beside every page."""
    kept, found = re.subn(r"(?m)^Guides\n-+\n\n\.\. toctree::\n(?:    .*\n|\n)+?(?=\S)", "", index)
    if found != 1:
        raise SystemExit(f"antsibull-docs made {found} lists of guides: look at without_guides")
    return kept


def toctree(title: str, pages: list[str]) -> str:
    """Return a table of contents with its title."""
    lines = [
        ".. toctree::",
        "   :maxdepth: 1",
        f"   :caption: {title}",
        "",
        *(f"   {page}" for page in pages),
    ]
    return "\n" + "\n".join(lines) + "\n"


def inventory(pages: dict[str, str]) -> bytes:
    """Return what Sphinx reads of another site: a file `objects.inv` of version 2."""
    entries = ""
    for key, page in pages.items():
        kind, name = key.split()
        entries += f"{name} {kind} -1 {page} -\n"
    head = (
        "# Sphinx inventory version 2\n# Project: ansible\n# Version:\n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    return head.encode() + zlib.compress(entries.encode())


def run(program: str, *arguments: str | Path, cwd: Path = ROOT) -> None:
    """Run a program found in PATH; raise CalledProcessError when it fails."""
    subprocess.run([program, *arguments], cwd=cwd, check=True)


if __name__ == "__main__":
    sys.exit(main())
