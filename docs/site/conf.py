"""How `make docs` makes a site of the pages: Sphinx with MyST and Furo, from the files as they lie in the repository.

The source folder is the repository, of which only pages are read, so that links between pages, and from pages to other
files, work here as they do there. Nothing is fetched while the site is built or read: Furo brings its styles and
scripts along, and search works from the disk.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pygments.lexers.data import YamlLexer
from pygments.lexers.python import PythonLexer
from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import generated  # noqa: E402

from dpbeam._version import __version__  # noqa: E402

project, author, copyright, release = "dpbeam", "the dpbeam contributors", "the dpbeam contributors", __version__
root_doc = "docs/index"
include_patterns = ["docs/*.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/mutation/survivors.md"]
exclude_patterns = [".*", "build", "dist", "dpbeam", "pipelines", "transforms", "examples", "benchmarks", "releases"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures, many of which are others'
default_role = "literal"  # docstrings quote names in single backticks
napoleon_custom_sections = ["Guarantee"]
autodoc_member_order = "bysource"
highlight_language = "text"

myst_heading_anchors = 4  # by GitHub's rule
suppress_warnings = ["myst.header"]  # the glossary's terms are small headings below its title

html_theme = "furo"
html_title = f"dpbeam {__version__}"
html_extra_path, html_static_path, html_css_files = ["root"], ["static"], ["site.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False

CONTENTS = {
    "Publish figures": (
        "tutorial engineer python policy choosing input expressions check custom_metrics beam from_pipelinedp scale "
        "benchmarks",
        "README",
    ),
    "Answer for people": ("officer guarantee known_limits accounting", "CHANGELOG"),
    "Run it": ("operator exit_codes ledger formats",),
    "Change it": ("testing decisions", "CONTRIBUTING", "tests/mutation/survivors"),
    "Look up": ("glossary commands keys api",),
}
"""What the sidebar lists: pages of this folder, then pages elsewhere. Pages that aren't listed stand at its end."""


def toctrees() -> str:
    """The sidebar as MyST's directives."""
    here = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    found = [
        (caption, [page for page in pages.split() if page in here], others)
        for caption, (pages, *others) in CONTENTS.items()
    ]
    found.append(("More", sorted(here.difference(*(pages for _, pages, _ in found))), []))
    text = ""
    for caption, pages, others in found:
        if pages:
            paths = "\n".join([*pages, *(f"/{other}" for other in others)])
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{paths}\n```\n"
    return text


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds the sidebar to the index, and what is made from the code to its pages: all are also read without a site."""
    if page == root_doc:
        source[0] += toctrees()
    if page in generated.PAGES:
        before, after = source[0].split(generated.MARK)
        source[0] = before + generated.PAGES[page]() + after


def say_levels(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """The sidebar's captions are headings, and must say of which level: Furo doesn't."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Sphinx) -> None:
    app.add_lexer("python-line", PythonLexer)
    for part in (
        "columns",
        "derive",
        "edit",
        "guardrails",
        "part",
        "people",
        "shown",
        "source",
        "stage",
        "top",
        "vectors",
    ):  # of a policy, as tests know them
        app.add_lexer(f"yaml-{part}", YamlLexer)
    app.connect("source-read", complete)
    app.connect("html-page-context", say_levels, priority=900)  # after Furo's
