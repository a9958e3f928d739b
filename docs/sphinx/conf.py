# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Sphinx makes the documentation site; `make docs` gathers what it is made of."""

from docutils import nodes
from sphinx.application import Sphinx

project = "exomesh.istio"
author = "exomesh contributors"
project_copyright = f"2026, {author}"

extensions = ["sphinx.ext.intersphinx", "sphinx_antsibull_ext", "sphinx_copybutton"]
nitpicky = True
smartquotes = False  # they make a dash of the two hyphens of --limit

# The pages of Ansible that ours link to, listed in tools/make_docs.py: nothing is fetched to build the site.
intersphinx_mapping = {"ansible": ("https://docs.ansible.com/projects/ansible/latest/", "ansible.inv")}

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["exomesh.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
antsibull_ext_color_scheme = "default-autodark"

# The button copies the commands of a console, without prompts and output.
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("doctree-read", drop_contents)


def drop_contents(_app: Sphinx, page: nodes.document) -> None:
    """Take the list of contents out of a page: the theme has its own beside it, and an error for a second."""
    for topic in list(page.findall(nodes.topic)):
        if "contents" in topic["classes"]:
            topic.parent.remove(topic)
